"""Whose API key is this? A file maps hashes of keys to tenants and plans.

The file has one JSON object a line; empty lines and lines that begin with ``#`` do not count::

    {"key": "sha256:9f86…", "tenant": "acme", "plan": "team", "label": "billing bot"}

``key`` and ``tenant`` must be there; ``plan``, ``label`` (for people who read the file), ``subject``, ``surface`` and
``zdr`` may be. A key without a subject names an organisation, not a person: its conversations are nobody's within
the tenant.

Why a plain hash is enough: an API key is drawn at random, 128 bits or more (``openssl rand -hex 32``), so it cannot
be found by trying, and a slow or salted hash would only cost time on every request. For a password it would not do.
That a dictionary looks the hash up tells by its timing nothing about a key, since nobody can choose a hash's first
bytes without knowing the key.

The key is usually the upstream's own credential: it passes on as it came. Here it is hashed and forgotten.
"""

import asyncio
import hashlib
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import msgspec

from chatproxy.errors import ConfigurationError
from chatproxy.identities.presented import AUTHORIZATION, bearer, is_name, tightened, values_of
from chatproxy.identity import HeaderIdentity, Headers, Identified, IdentifyCaller, Rejected
from chatproxy.model import Caller, Surface
from chatproxy.telemetry import Log
from chatproxy.unshown import Unshown

KEY_HEADERS = (b"x-api-key", b"x-goog-api-key")
"""Headers that are nothing but a key, beside ``Authorization: Bearer``."""

SHORTEST_KEY = 20
"""Characters. A random key of 128 bits has 22 in base64; what is shorter may be found by trying."""

_LARGEST_FILE = 64 << 20
_MOST_PROBLEMS = 10
_HASH = re.compile(r"sha256:[0-9a-f]{64}")
_NOT_FOR_OTHERS = stat.S_IWGRP | stat.S_IXGRP | stat.S_IRWXO
_log = Log("api_keys")


def hash_api_key(key: str) -> str:
    """Return what the file holds for *key*. Raises ConfigurationError if *key* is too short to be a random one."""
    if len(key) < SHORTEST_KEY or not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigurationError(
            f"an API key must be {SHORTEST_KEY} or more visible ASCII characters, drawn at random, such as "
            "`openssl rand -hex 32` prints: only what cannot be guessed may be kept as a plain hash"
        )
    return _hash(key.encode("ascii"))


def _hash(key: bytes) -> str:
    return "sha256:" + hashlib.sha256(key).hexdigest()


class _Line(Unshown, frozen=True, forbid_unknown_fields=True):
    key: str
    tenant: str
    plan: str | None = None
    label: str | None = None
    subject: str | None = None
    surface: Surface = Surface.CHAT
    zdr: bool = False


@dataclass(frozen=True, slots=True)
class _Version:
    """What tells one state of the file from another without reading it."""

    modified_ns: int
    size: int
    inode: int

    @classmethod
    def of(cls, found: os.stat_result) -> "_Version":
        return cls(found.st_mtime_ns, found.st_size, found.st_ino)


class APIKeyFile:
    """The keys in the file at *path*, read again when it has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._callers: Mapping[str, Caller] = MappingProxyType({})
        self._version: _Version | None = None
        self.problem: str | None = None
        """Why the file as it is now is not used, in words, or None."""

    def __len__(self) -> int:
        return len(self._callers)

    def find(self, key: bytes) -> Caller | None:
        """Return whose key this is, None if it is in no line."""
        return self._callers.get(_hash(key))

    def load(self) -> None:
        """Read the file. Raises ConfigurationError, and then what was read before stays."""
        try:
            version, text = self._read()
        except OSError as error:
            raise ConfigurationError(
                f"{self._path}: the API keys cannot be read: {error.strerror}"
            ) from error
        self._callers = MappingProxyType(_parse(text, source=self._path))
        self._version = version

    async def watch(self, *, every_seconds: float = 10.0) -> None:
        """Load the file again whenever it has changed, for ever. One that is not good is reported and not used."""
        while True:
            await asyncio.sleep(every_seconds)
            if await asyncio.to_thread(self._has_changed):
                try:
                    await asyncio.to_thread(self.load)
                except ConfigurationError as error:
                    self._report(str(error))
                else:
                    self._report(None)
                    _log.info("API keys are read again", keys=len(self))

    def _has_changed(self) -> bool:
        try:
            return _Version.of(self._path.stat()) != self._version
        except OSError:
            return True

    def _report(self, problem: str | None) -> None:
        if problem != self.problem and problem is not None:
            _log.error("the file of API keys is not used; the keys read before still count", problem=problem)
        self.problem = problem

    def _read(self) -> tuple[_Version, bytes]:
        """Return the file's content and version. Raises OSError, ConfigurationError."""
        # Symbolic links are followed, as mounted secrets are such; owner and mode are the opened file's.
        # O_NONBLOCK: a named pipe must be refused, not waited for.
        descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:  # noqa: PTH123 - Path.open takes no descriptor
            found = os.fstat(descriptor)
            self._require_guarded(found)
            return _Version.of(found), file.read(_LARGEST_FILE)

    def _require_guarded(self, found: os.stat_result) -> None:
        """Raise ConfigurationError unless nobody but root and this account decides what the file says."""
        if not stat.S_ISREG(found.st_mode):
            raise ConfigurationError(
                f"{self._path}: this is not a regular file. Name the file of API keys itself"
            )
        if found.st_uid not in {0, os.geteuid()}:
            raise ConfigurationError(
                f"{self._path}: it belongs to user {found.st_uid}, and chatproxy runs as {os.geteuid()}. "
                f"Run: chown {os.geteuid()} {self._path}"
            )
        if found.st_mode & _NOT_FOR_OTHERS:
            raise ConfigurationError(
                f"{self._path}: others may use it (mode {stat.S_IMODE(found.st_mode):04o}): whoever writes it decides "
                f"who everybody is. Run: chmod 600 {self._path}, or 640 for a group that may read it"
            )
        if found.st_size >= _LARGEST_FILE:
            raise ConfigurationError(f"{self._path}: it is too long for a file of API keys")


def _parse(text: bytes, *, source: Path) -> dict[str, Caller]:
    """Read every line, or raise ConfigurationError. No message repeats a value: it may be a key by mistake."""
    callers: dict[str, Caller] = {}
    first_seen: dict[str, int] = {}
    problems = []
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if not line or line.startswith(b"#"):
            continue
        try:
            entry = msgspec.json.decode(line, type=_Line)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            problems.append(
                f"{source}, line {number}: must be a JSON object with key and tenant, and of plan, label, subject, "
                f"surface ({', '.join(sorted(Surface))}) and zdr (true or false) those you need; no other members"
            )
            continue
        if problem := _fault_of(entry, first_seen=first_seen):
            problems.append(f"{source}, line {number}: {problem}")
            continue
        first_seen[entry.key] = number
        callers[entry.key] = Caller(
            tenant=entry.tenant,
            subject=entry.subject,
            plan=entry.plan.lower() if entry.plan else None,
            surface=entry.surface,
            zdr=entry.zdr,
        )
    if problems:
        left_out = len(problems) - _MOST_PROBLEMS
        more = [f"and {left_out} more lines like these"] if left_out > 0 else []
        raise ConfigurationError("\n".join(problems[:_MOST_PROBLEMS] + more))
    return callers


def _fault_of(entry: _Line, *, first_seen: Mapping[str, int]) -> str | None:
    if not _HASH.fullmatch(entry.key):
        return "key must be sha256: and 64 hexadecimal digits in lower case, the hash of the key; never the key itself"
    if entry.key in first_seen:
        return f"the same key is in line {first_seen[entry.key]}; keep one of them"
    for name, value in (("tenant", entry.tenant), ("plan", entry.plan), ("subject", entry.subject)):
        if value is not None and not is_name(value):
            return f"{name} must be 1 to 256 bytes without control characters"
    return None


class APIKeyIdentity:
    """Identity from an API key in ``Authorization: Bearer`` or a header of its own."""

    def __init__(self, keys: APIKeyFile) -> None:
        self._keys = keys
        # It trusts no peer and no secret, so it believes no identity header, and reads what anyone may say.
        self._signals = HeaderIdentity()

    def __call__(self, headers: Headers, peer: str | None) -> Identified:
        """Identify the caller; see IdentifyCaller. Nothing is refused: what is not known is nobody's."""
        signals = self._signals(headers, peer)
        presented = {key for value in values_of(headers, AUTHORIZATION) if (key := bearer(value))}
        presented.update(value for name in KEY_HEADERS for value in values_of(headers, name))
        if not presented:
            return signals
        # A second credential that is not known is the upstream's business; two that are known contradict each other.
        known = [caller for key in presented if (caller := self._keys.find(key))]
        if len(known) != 1:
            reason = Rejected.REPEATED if known else Rejected.UNKNOWN_API_KEY
            return Identified(
                tightened(Caller(zdr=any(caller.zdr for caller in known)), by=signals.caller),
                reason,
            )
        return Identified(tightened(known[0], by=signals.caller), signals.rejected)


_: type[IdentifyCaller] = APIKeyIdentity
