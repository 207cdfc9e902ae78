"""Check settings, keyset, store, clock, upstream and what people are asked, and say what to fix."""

import asyncio
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import click

from chatproxy.cli.people import as_json_option
from chatproxy.cli.printing import print_json, printable
from chatproxy.clock import wall_clock
from chatproxy.consent.notices import Terms
from chatproxy.crypto.keyset import Keyset
from chatproxy.errors import ChatproxyError
from chatproxy.forwarding import UpstreamAddress
from chatproxy.kms.variable import SCHEME as VARIABLE
from chatproxy.memory import is_memory_lockable, read_swaps
from chatproxy.policy.instants import format_instant
from chatproxy.ports import KeysetSource
from chatproxy.settings import Settings, load_settings
from chatproxy.store.opening import EMBEDDED
from chatproxy.store.preflight import Finding as StoreFinding, Severity, StoreFacts, examine
from chatproxy.store.redis import RedisStore
from chatproxy.store.rights import Rights, read_rights
from chatproxy.telemetry import configure_logging
from chatproxy.vault import known_store, open_keyset, open_store_of, open_terms, store_demands
from chatproxy.workflows.capacity import foreseen_days
from chatproxy.workflows.decide import Policy
from chatproxy.workflows.horizon import Horizon, erasure_horizon
from chatproxy.workflows.keys import load_keyring
from chatproxy.workflows.policies import Policies
from chatproxy.workflows.survey import SAMPLE, survey

_FOUND_FAULTS = 3
_FULL, _SOON_DAYS = 0.8, 30
_MARKS = {"ok": "ok  ", "warning": "warn", "fatal": "FAIL"}


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    check: str
    state: str
    what: str
    fix: str | None = None


@click.command()
@click.option("--deep", is_flag=True, help="Look at every turn that is kept, not only at some.")
@as_json_option
def doctor(*, deep: bool, as_json: bool) -> None:
    """Check settings, keyset, store, clock, upstream and what people are asked, and say what to fix.

    Exit code 0 if nothing stands in the way of serving and keeping, 3 if something does.
    """
    configure_logging("error")
    findings = asyncio.run(_examine(deep=deep))
    for finding in findings:
        if as_json:
            print_json(
                {"check": finding.check, "state": finding.state, "what": finding.what, "fix": finding.fix}
            )
        else:
            click.echo(f"{_MARKS[finding.state]}  {finding.check}: {finding.what}")
            if finding.fix:
                click.echo(f"      fix: {finding.fix}")
    if any(finding.state == "fatal" for finding in findings):
        sys.exit(_FOUND_FAULTS)


async def _examine(*, deep: bool) -> list[Finding]:
    try:
        settings = load_settings().settings
    except ChatproxyError as error:
        return [Finding("settings", "fatal", str(error))]
    return [
        Finding("settings", "ok", "all are valid"),
        *await _examine_vault(settings, deep=deep),
        await _examine_upstream(settings),
        *_examine_identity(settings),
        *examine_admin(settings),
        examine_swap(read_swaps(), is_memory_lockable=is_memory_lockable()),
        *examine_terms(settings, now=wall_clock()),
    ]


async def _examine_vault(settings: Settings, *, deep: bool) -> list[Finding]:
    findings = []
    source = keyset = None
    try:
        source = open_keyset(settings)
        keyset = source.local()
        if keyset is not None:
            findings.append(_examine_keyset(keyset, settings))
    except ChatproxyError as error:
        source = None
        findings.append(Finding("keyset", "fatal", str(error)))
    try:
        async with open_store_of(settings) as store:
            servers, judged = await examine(store.connections, store_demands(settings), clock=wall_clock)
            findings += [
                Finding(_subject_of(each), str(each.severity), each.what, each.fix) for each in judged
            ]
            is_safe = not any(each.severity is Severity.FATAL for each in judged)
            if settings.store != EMBEDDED:
                findings.append(examine_rights(await read_rights(store.connections)))
            if is_safe:
                versions = {f"{each.engine} {'.'.join(map(str, each.version or ()))}" for each in servers}
                named = ", ".join(sorted(versions)) + (
                    f" on {len(servers)} servers" if len(servers) > 1 else ""
                )
                findings.append(Finding("store", "ok", f"{named} answers, and is safe to use"))
            if not any(_subject_of(each) == "clock" for each in judged):
                apart = max(abs(each.clock_offset_ms) for each in servers)
                findings.append(Finding("clock", "ok", f"{apart} ms apart from the store's"))
            if is_safe:
                findings.append(_examine_room(servers, await foreseen_days(store)))
            if source is not None and is_safe:
                findings += await _examine_keys(store, source, keyset, settings, deep=deep)
    except ChatproxyError as error:
        findings.append(Finding("store", "fatal", str(error)))
    return findings


def examine_rights(rights: Rights) -> Finding:
    """Say whether the store's user may what it must, and not more: of a stolen password nothing else is to be had."""
    fix = "give chatproxy a user of its own with the rules that docs/operations.md has under Store"
    name = f"the user {printable(rights.user)}" if rights.user else "the user"
    if rights.missing:
        return Finding(
            "store rights", "fatal", f"{name} may not use {', '.join(rights.missing)}, which is needed", fix
        )
    if rights.excess:
        return Finding(
            "store rights", "warning", f"{name} may more than is needed: {', '.join(rights.excess)}", fix
        )
    return Finding("store rights", "ok", "the user may nothing that was looked for beyond what is needed")


def _examine_room(servers: Sequence[StoreFacts], days: float) -> Finding:
    """Say how full the fullest server is, and when it is full. *days*: NaN where that is not known yet."""
    used = max((each.used_bytes / each.room_bytes for each in servers if each.room_bytes), default=0.0)
    if math.isnan(days):
        when = "when it is full is not known before it has run for some hours"
    elif math.isinf(days):
        when = "it did not grow in the last days"
    else:
        when = f"at the pace of the last days it is full in {days:.0f} days"
    what = f"{used:.0%} of its memory is filled; {when}"
    if used >= _FULL or days < _SOON_DAYS:
        return Finding(
            "room", "warning", what, "give the store more memory (maxmemory), or keep for less long"
        )
    return Finding("room", "ok", what)


async def _examine_policies(store: RedisStore, keyset: Keyset, settings: Settings, *, deep: bool) -> Finding:
    policies = Policies(store, Policy(settings.profile, settings.periods))
    found = await survey(store, keyset.annotation_keys(), policies, most=None if deep else SAMPLE)
    looked_at = f"{found.turns} turns" if found.is_whole else f"{found.turns} turns that were looked at"
    what, fix = [], []
    if found.under_looser:
        what.append(
            f"{found.under_looser} of {looked_at} are kept under policies that keep longer or permit more than the "
            "present settings"
        )
        fix.append("`chatproxy policy preview` says what `chatproxy policy apply` would change")
    if found.nodes_apart:
        what.append(
            f"{', '.join(map(printable, found.nodes_apart))} kept turns under another policy after the present one had "
            "come into use"
        )
        fix.append("give all nodes the same settings")
    if what:
        return Finding("policy", "warning", "; ".join(what), "; ".join(fix))
    return Finding(
        "policy", "ok", f"none of {looked_at} is kept under a looser policy than {policies.current.digest}"
    )


def _examine_keyset(keyset: Keyset, settings: Settings) -> Finding:
    if settings.keyset.startswith(VARIABLE):
        return Finding(
            "keyset",
            "warning",
            f"{keyset.id} lies in the environment: whoever has this account reads it in /proc, and programs that are "
            "started inherit it",
            "use file:PATH where the platform has files",
        )
    return Finding("keyset", "ok", f"{keyset.id} can be read")


async def _examine_keys(
    store: RedisStore, source: KeysetSource, keyset: Keyset | None, settings: Settings, *, deep: bool
) -> list[Finding]:
    findings, root, now = [], source.root, wall_clock()
    try:
        if keyset is None:
            keyset = await source.load(store)
            findings.append(Finding("keyset", "ok", f"{keyset.id} in the store opens with {source.name}"))
        had_one = known_store(settings).how_to_begin_anew(keyset.id)
        ring = await load_keyring(store, root, keyset, source=source.name, now=now, had_one=had_one)
        findings.append(Finding("key ring", "ok", "the keyset fits the store"))
        findings.append(await _examine_policies(store, keyset, settings, deep=deep))
        horizon = erasure_horizon(ring.manifest, await root.versions(), version_of=root.version_of)
        findings.append(_examine_horizon(horizon, settings, now=now))
    except ChatproxyError as error:
        findings.append(Finding("keyset", "fatal", str(error)))
    return findings


def _examine_horizon(horizon: Horizon, settings: Settings, *, now: int) -> Finding:
    promised = settings.erasure_horizon.length
    if horizon.is_overdue(now, within=promised):
        return Finding(
            "erasure horizon",
            "warning",
            f"a rotation is overdue: what was erased since {format_instant(horizon.since)} can be read from old "
            "backups, which is longer than CHATPROXY_ERASURE_HORIZON",
            "run `chatproxy keys rotate`, or set CHATPROXY_KEY_ROTATION",
        )
    return Finding("erasure horizon", "ok", f"holds until {format_instant(horizon.since + promised)}")


def _subject_of(finding: StoreFinding) -> str:
    return "clock" if "clock" in finding.what else "store"


async def _examine_upstream(settings: Settings) -> Finding:
    if settings.upstream is None:
        return Finding(
            "upstream", "fatal", "CHATPROXY_UPSTREAM is not set", "set it to the base URL of the chat backend"
        )
    address = UpstreamAddress.parse(settings.upstream)
    try:
        async with asyncio.timeout(settings.upstream_connect_timeout):
            _, writer = await asyncio.open_connection(address.host, address.port)
    except (OSError, TimeoutError):
        return Finding(
            "upstream",
            "fatal",
            f"no connection to {address.host} port {address.port}",
            "start the chat backend, or correct CHATPROXY_UPSTREAM",
        )
    writer.close()
    return Finding("upstream", "ok", f"{address.host} port {address.port} takes connections")


def _examine_identity(settings: Settings) -> list[Finding]:
    if any(network.prefixlen == 0 for network in settings.trusted_proxies) and not settings.identity_secret:
        return [
            Finding(
                "identity",
                "fatal",
                "CHATPROXY_TRUSTED_PROXIES names every address, so any client may say it is anybody",
                "name the addresses of the front alone, or set CHATPROXY_IDENTITY_SECRET too",
            )
        ]
    if settings.trusted_proxies or settings.identity_secret:
        return [Finding("identity", "ok", "a front is trusted to say who speaks")]
    return [
        Finding(
            "identity",
            "warning",
            "nobody is trusted to say who speaks, so every conversation is nobody's: kept 30 days, never eligible",
            "set CHATPROXY_TRUSTED_PROXIES, CHATPROXY_IDENTITY_SECRET or both",
        )
    ]


def examine_admin(settings: Settings) -> list[Finding]:
    """Say whether what opens the admin listener can be read on its way."""
    if settings.admin_listen.is_loopback or settings.admin_tls_certificate is not None:
        return []
    return [
        Finding(
            "admin listener",
            "warning",
            f"{settings.admin_listen} takes tokens without TLS: who is on the way reads them",
            "set CHATPROXY_ADMIN_TLS_CERTIFICATE and CHATPROXY_ADMIN_TLS_KEY, or have a front there that speaks TLS and listen "
            "on 127.0.0.1",
        )
    ]


def examine_swap(devices: Sequence[str], *, is_memory_lockable: bool) -> Finding:
    """Say whether what is in memory may be written to a disk by the system."""
    if devices and not is_memory_lockable:
        return Finding(
            "swap",
            "warning",
            f"this machine swaps to {', '.join(map(printable, devices))}, and memory may not be locked by an account with these "
            "limits: what is in memory in clear may be written there",
            "LimitMEMLOCK=infinity for the service, or MemorySwapMax=0, or swap that is off or encrypted",
        )
    return Finding("swap", "ok", "memory can be locked" if devices else "there is none on a disk")


def examine_terms(settings: Settings, *, now: int) -> list[Finding]:
    """Say what people are asked at *now* (ms), and where they cannot be."""
    try:
        terms = open_terms(settings)
    except ChatproxyError as error:
        return [Finding("choice", "fatal", str(error))]
    if terms.to_choose_about(now) is None:
        return [
            Finding(
                "choice",
                "warning",
                f"no version of the policy is published in {settings.choice_notices}, so nobody is asked",
                "write one, as docs/consent.md says",
            )
        ]
    current = terms.current(now)
    holds = (
        "no version of the policy is in force yet"
        if current is None
        else f"version {current.version} of the policy is in force since {format_instant(current.effective_at)}"
    )
    later = [
        f"{version.version} takes effect at {format_instant(version.effective_at)}"
        + (" and asks everybody again" if version.material and current is not None else "")
        for version in terms.versions
        if version.effective_at > now
    ]
    return [
        Finding("choice", "ok", "; ".join([holds, *(later or ["no other one is to come"])])),
        _examine_notices(terms, now),
    ]


def _examine_notices(terms: Terms, now: int) -> Finding:
    """Say whether people can read what they are asked about, now and later, in every language there is."""
    current = terms.current(now)
    languages = sorted({language for _, language in terms.notices})
    missing = [
        f"{version.version}.{language}.toml"
        for version in terms.versions
        if current is None or version.effective_at >= current.effective_at
        for language in languages
        if (version.version, language) not in terms.notices
    ]
    if missing:
        return Finding(
            "notices",
            "warning",
            f"missing, so {terms.fallback_language} is shown instead: {', '.join(missing)}",
            "write them beside the others",
        )
    return Finding("notices", "ok", f"complete in {', '.join(languages)}")
