"""What must chatproxy's user of a server store be allowed to, and may it do more?

Whoever gets that user's password gets no more than what chatproxy does: keys and channels of its own names, the commands
that it sends, and no way to change the server, to stop it or to empty it.

A server is asked with ``ACL DRYRUN``, which does nothing, where the user may do that. Where it may not, a few commands
are tried that only read, answer at once and are no part of what is needed. Nothing that writes is ever tried.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from redis.exceptions import ResponseError

from chatproxy.store import keys
from chatproxy.store.connections import Command, Reply, Servers

COMMANDS = (
    "ping", "info", "time", "scan", "dbsize", "wait", "cluster|slots", "cluster|nodes", "asking", "subscribe", "publish", "evalsha", "script|load", "get", "mget", "set", "getrange",
    "exists", "del", "pexpireat", "pexpiretime", "hget", "hmget", "hgetall", "hkeys", "hset", "hsetnx", "hexists", "hincrby", "hdel", "hlen", "hscan", "llen",
    "lrange", "rpush", "zadd", "zcard", "zcount", "zrange", "zrem", "zremrangebyscore", "zrevrange", "zscan", "zscore",
)  # fmt: skip
"""Every command that is sent to a server store, by itself or from a script."""

RULES = (
    "resetkeys",
    f"~{keys.ANY_KEY.decode()}",
    "resetchannels",
    f"&{keys.CHANGED.decode()}",
    f"&{keys.CONTROL_CHANGED.decode()}",
    "-@all",
    *(f"+{command}" for command in COMMANDS),
)
"""The rules of ``ACL SETUSER`` for chatproxy's user, after its password."""

_ELSEWHERE = "chatproxy-doctor:nothing"
_NOT_NEEDED: tuple[tuple[str, Command], ...] = (
    ("FLUSHALL", ["FLUSHALL"]),
    ("FLUSHDB", ["FLUSHDB"]),
    ("SHUTDOWN", ["SHUTDOWN"]),
    ("CONFIG SET", ["CONFIG", "SET", "maxmemory-policy", "noeviction"]),
    ("CONFIG GET", ["CONFIG", "GET", "port"]),
    ("ACL SETUSER", ["ACL", "SETUSER", "nobody"]),
    ("DEBUG", ["DEBUG", "HELP"]),
    ("KEYS", ["KEYS", "*"]),
    ("EVAL", ["EVAL", "return 1", 0]),
    ("FUNCTION FLUSH", ["FUNCTION", "FLUSH"]),
    ("MODULE LOAD", ["MODULE", "LOAD", "/none"]),
    ("REPLICAOF", ["REPLICAOF", "NO", "ONE"]),
    ("MIGRATE", ["MIGRATE", "none", 1, "cp:none", 0, 1]),
    ("MONITOR", ["MONITOR"]),
    ("SAVE", ["SAVE"]),
    ("SWAPDB", ["SWAPDB", 0, 1]),
    ("RENAME", ["RENAME", "cp:none", "cp:none"]),
    ("keys that do not begin with cp:", ["GET", _ELSEWHERE]),
    ("channels of others", ["PUBLISH", _ELSEWHERE, ""]),
)
"""What a stolen password must not allow, and a command that shows it. Only ever asked about, not sent."""

_TRIED: tuple[tuple[str, Command], ...] = (
    ("CONFIG GET", ["CONFIG", "GET", "port"]),
    ("LASTSAVE", ["LASTSAVE"]),
    ("SLOWLOG", ["SLOWLOG", "LEN"]),
    ("EVAL", ["EVAL", "return 1", 0]),
    ("keys that do not begin with cp:", ["GET", _ELSEWHERE]),
)
"""What is sent instead, where nothing can be asked about."""


@dataclass(frozen=True, slots=True)
class Rights:
    """What a user of the store may, as far as it can be told."""

    user: str | None
    """None: it may not even ask who it is."""
    excess: tuple[str, ...]
    """What it may beyond what is needed."""
    missing: tuple[str, ...]
    """What is needed and it may not; only where that can be asked about."""


async def read_rights(connections: Servers) -> Rights:
    """Ask a server what its user may. Raises StoreUnavailableError."""
    [who] = await connections.ask([["ACL", "WHOAMI"]])
    if not isinstance(who, bytes):
        return Rights(None, await _tried(connections), ())
    asked = [command for _, command in _NOT_NEEDED] + [_example(name) for name in COMMANDS]
    replies = await connections.ask([["ACL", "DRYRUN", who, *command] for command in asked])
    if any(isinstance(reply, ResponseError) for reply in replies):
        return Rights(who.decode(), await _tried(connections), ())
    excess = [name for (name, _), reply in zip(_NOT_NEEDED, replies, strict=False) if _is_allowed(reply)]
    needed = zip(COMMANDS, replies[len(_NOT_NEEDED) :], strict=True)
    missing = tuple(name for name, reply in needed if not _is_allowed(reply))
    return Rights(who.decode(), ("ACL", *excess), missing)


async def _tried(connections: Servers) -> tuple[str, ...]:
    replies = await connections.ask([command for _, command in _TRIED])
    return tuple(
        name for (name, _), reply in zip(_TRIED, replies, strict=True) if not isinstance(reply, ResponseError)
    )


def _is_allowed(reply: Reply) -> bool:
    return bool(reply == b"OK")


def _example(name: str) -> Command:
    """Return a use of a needed command that has the arguments it must have."""
    key = "cp:{none}:none"
    longer: dict[str, Sequence[str | int]] = {
        "ping": [], "info": [], "time": [], "dbsize": [], "wait": [0, 1], "cluster|slots": [], "cluster|nodes": [], "asking": [], "scan": [0], "subscribe": [keys.CHANGED.decode()],
        "publish": [keys.CHANGED.decode(), ""], "evalsha": ["0" * 40, 0], "set": [key, ""], "getrange": [key, 0, 1],
        "pexpireat": [key, 1], "hget": [key, "f"], "hmget": [key, "f"], "hset": [key, "f", ""], "hsetnx": [key, "f", ""],
        "hdel": [key, "f"], "hexists": [key, "f"], "hincrby": [key, "f", 1], "lrange": [key, 0, 1], "rpush": [key, ""], "zadd": [key, 1, ""], "zcount": [key, 0, 1],
        "zrange": [key, 0, 1], "zrem": [key, ""], "zremrangebyscore": [key, 0, 1], "zrevrange": [key, 0, 1],
        "zscan": [key, 0], "hscan": [key, 0], "zscore": [key, ""], "script|load": ["return 1"],
    }  # fmt: skip
    return [*name.split("|"), *longer.get(name, [key])]
