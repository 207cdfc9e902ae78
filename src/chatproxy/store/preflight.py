"""Could this store lose or leak what is kept in it? Asked before serving, and by ``doctor``.

What each server says about itself is gathered once (:func:`read_facts`) and judged by a pure function
(:func:`judge`). Where an ACL or a provider hides a fact, that is a warning: what was not checked is said.
"""

import time
from dataclasses import dataclass, replace
from enum import StrEnum

from redis.exceptions import ResponseError

from chatproxy.clock import Clock
from chatproxy.errors import StoreRefusedError
from chatproxy.store.connections import Connections, Reply, Servers

_OLDEST_REDIS = (7, 0)
_OLDEST_VALKEY = (7, 2)
_OFFSET_WARNING_MS = 2_000
OFFSET_FATAL_MS = 60_000
"""Expiries follow the store's clock: beyond that a turn would go too early, or stay too long."""
_CONFIGURED = ("maxmemory-policy", "appendfsync", "save", "cluster-require-full-coverage")


class Severity(StrEnum):
    """How bad a finding is."""

    FATAL = "fatal"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that should be otherwise, and how to make it so."""

    severity: Severity
    what: str
    fix: str


@dataclass(frozen=True, slots=True)
class Demands:
    """What the settings say a store must be."""

    allow_volatile: bool = False
    """That it may lose what it took is a warning only."""
    in_cluster: bool = False
    replicas: int = 0
    """How many replicas must have what was written."""


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """What a server says about itself. None: it would not say."""

    engine: str
    version: tuple[int, ...] | None
    replica: bool
    cluster: bool
    maxmemory_policy: str | None
    append_only: bool | None
    append_fsync: str | None
    save_points: str | None
    clock_offset_ms: int
    """How far the server's clock is ahead of ours."""
    replicas: int = 0
    """How many are connected to it."""
    full_coverage: bool | None = None
    """Whether, in a cluster, all servers refuse to serve while one part of the keys is away."""
    used_bytes: int = 0
    """Memory that its data takes."""
    room_bytes: int | None = None
    """What its data may take: its own limit, or else the machine's memory."""


async def examine(
    servers: Servers, demands: Demands, *, clock: Clock
) -> tuple[list[StoreFacts], list[Finding]]:
    """Ask every server about itself, and say what is wrong with each. Raises StoreUnavailableError."""
    nodes = await servers.nodes()
    facts = [await read_facts(node, now=clock()) for node in nodes]
    findings = []
    for node, found in zip(nodes, facts, strict=True):
        which = f"{node.address.host}:{node.address.port}: " if len(nodes) > 1 else ""
        findings += [replace(each, what=which + each.what) for each in judge(found, demands)]
    return facts, findings


async def read_facts(connections: Connections, *, now: int) -> StoreFacts:
    """Ask the server about itself. *now* is our own clock at this moment, ms.

    Raises:
        StoreUnavailableError: no answer, or not even INFO is allowed.
    """
    await connections.ask([["PING"]])  # so that making a connection does not count as clock offset
    started = time.monotonic()
    info, clock, config = await _ask_about(connections)
    elapsed_ms = int((time.monotonic() - started) * 1000)
    version = info.get("valkey_version") or info.get("redis_version")
    return StoreFacts(
        engine="valkey" if "valkey_version" in info else "redis",
        version=_version(version) if version else None,
        replica=info.get("role") in {"slave", "replica"},
        cluster=info.get("cluster_enabled") == "1",
        maxmemory_policy=config.get("maxmemory-policy", info.get("maxmemory_policy")),
        append_only=_flag(info.get("aof_enabled")),
        append_fsync=config.get("appendfsync"),
        save_points=config.get("save"),
        clock_offset_ms=clock - now - elapsed_ms // 2,
        replicas=int(info.get("connected_slaves", 0)),
        full_coverage=None
        if "cluster-require-full-coverage" not in config
        else config["cluster-require-full-coverage"] == "yes",
        used_bytes=int(info.get("used_memory", 0)),
        room_bytes=int(info.get("maxmemory", 0)) or int(info.get("total_system_memory", 0)) or None,
    )


def judge(facts: StoreFacts, demands: Demands = Demands()) -> list[Finding]:
    """Say what is wrong with a server."""
    return [
        *_version_findings(facts),
        *_role_findings(facts, demands),
        *_replica_findings(facts, demands),
        *_eviction_findings(facts),
        *_persistence_findings(facts, Severity.WARNING if demands.allow_volatile else Severity.FATAL),
        *_clock_findings(facts),
    ]


def require_safe(findings: list[Finding]) -> None:
    """Refuse a store with a fatal finding.

    Raises:
        StoreRefusedError: naming every fatal finding with its fix, one a line.
    """
    fatal = [finding for finding in findings if finding.severity is Severity.FATAL]
    if fatal:
        lines = [f"- {finding.what}: {finding.fix}" for finding in fatal]
        raise StoreRefusedError("\n".join(["the store could lose what is kept in it:", *lines]))


def _version_findings(facts: StoreFacts) -> list[Finding]:
    if facts.version is None:
        return [Finding(Severity.WARNING, "the store does not tell its version", "see that it is new enough")]
    oldest = _OLDEST_VALKEY if facts.engine == "valkey" else _OLDEST_REDIS
    if facts.version >= oldest:
        return []
    found = ".".join(map(str, facts.version))
    return [
        Finding(
            Severity.FATAL,
            f"the store is {facts.engine} {found}",
            "upgrade it to Redis 7.0, Valkey 7.2 or newer",
        )
    ]


def _role_findings(facts: StoreFacts, demands: Demands) -> list[Finding]:
    findings = []
    if facts.replica:
        findings.append(Finding(Severity.FATAL, "the server is a replica", "name its primary"))
    if facts.cluster and not demands.in_cluster:
        findings.append(
            Finding(
                Severity.FATAL,
                "the server is part of a cluster",
                "name the cluster: CHATPROXY_STORE=redis+cluster://HOST:PORT,…",
            )
        )
    if demands.in_cluster and not facts.cluster:
        findings.append(
            Finding(Severity.FATAL, "the server is no part of a cluster", "name it with redis://")
        )
    if facts.full_coverage and facts.cluster:
        findings.append(
            Finding(
                Severity.WARNING,
                "cluster-require-full-coverage is yes: while one part of the keys is away, nobody's turns are kept",
                "CONFIG SET cluster-require-full-coverage no, and the same in the configuration file of each server",
            )
        )
    return findings


def _replica_findings(facts: StoreFacts, demands: Demands) -> list[Finding]:
    if facts.replicas < demands.replicas:
        return [
            Finding(
                Severity.WARNING,
                f"the store has {facts.replicas} replicas and CHATPROXY_STORE_REPLICAS is {demands.replicas}, so "
                "nothing counts as kept",
                "bring the replicas back, or ask for fewer",
            )
        ]
    if facts.replicas and not demands.replicas:
        return [
            Finding(
                Severity.WARNING,
                "the store has replicas and nothing waits for them: a failover loses what they do not have yet",
                "CHATPROXY_STORE_REPLICAS=1",
            )
        ]
    return []


def _eviction_findings(facts: StoreFacts) -> list[Finding]:
    policy = facts.maxmemory_policy
    if policy == "noeviction":
        return []
    fix = "CONFIG SET maxmemory-policy noeviction, and the same in the server's configuration file"
    if policy is None:
        return [Finding(Severity.WARNING, "the store does not tell its maxmemory-policy", fix)]
    what = (
        f"maxmemory-policy is {policy}: every transcript has a TTL, so under pressure it deletes them early"
    )
    return [Finding(Severity.FATAL, what, fix)]


def _persistence_findings(facts: StoreFacts, severity: Severity) -> list[Finding]:
    fix = "CONFIG SET appendonly yes, and the same in the server's configuration file"
    if facts.append_only is None:
        return [Finding(Severity.WARNING, "the store does not tell whether it writes to disk", fix)]
    if facts.append_only:
        if facts.append_fsync == "no":
            what = "appendfsync is no: a power cut loses what the system had not written yet"
            return [Finding(severity, what, "CONFIG SET appendfsync always, or everysec")]
        return []
    if facts.save_points == "":
        return [Finding(severity, "the store keeps nothing on disk: a restart loses all", fix)]
    what = "the append-only file is off: a crash loses what came after the last snapshot, if there are any"
    return [Finding(severity, what, fix)]


def _clock_findings(facts: StoreFacts) -> list[Finding]:
    offset = abs(facts.clock_offset_ms)
    if offset <= _OFFSET_WARNING_MS:
        return []
    direction = "ahead of" if facts.clock_offset_ms > 0 else "behind"
    severity = Severity.FATAL if offset > OFFSET_FATAL_MS else Severity.WARNING
    what = f"the store's clock is {offset / 1000:.0f} s {direction} this machine's, and expiry follows it"
    return [Finding(severity, what, "set both clocks by NTP, and never by a step on the store's machine")]


async def _ask_about(connections: Connections) -> tuple[dict[str, str], int, dict[str, str]]:
    """Return INFO, the server's clock in ms, and CONFIG; the last is empty where it is forbidden."""
    info, clock, config = await connections.ask(
        [["INFO"], ["TIME"], ["CONFIG", "GET", *_CONFIGURED]],
    )
    for reply in (info, clock):
        if isinstance(reply, ResponseError):
            raise connections.refused(reply) from reply
    milliseconds = int(clock[0]) * 1000 + int(clock[1]) // 1000
    return _info_fields(info), milliseconds, _config_fields(config)


def _info_fields(info: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in info.decode(errors="replace").splitlines())
    return {name: value for name, colon, value in lines if colon}


def _config_fields(reply: Reply) -> dict[str, str]:
    if isinstance(reply, ResponseError):
        return {}
    texts = [item.decode(errors="replace") for item in reply]
    return dict(zip(texts[0::2], texts[1::2], strict=True))


def _flag(value: str | None) -> bool | None:
    return None if value is None else value == "1"


def _version(text: str) -> tuple[int, ...] | None:
    numbers = text.split(".")
    return tuple(map(int, numbers)) if all(number.isdigit() for number in numbers) else None
