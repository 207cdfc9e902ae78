"""How each setting is written: from its text to its value. Each raises ValueError that says the form."""

import ipaddress
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from chatproxy.errors import ConfigurationError, KeysetError
from chatproxy.forwarding import UpstreamAddress
from chatproxy.identities.address import require_key_source
from chatproxy.identity import IDENTITY_HEADERS
from chatproxy.kms.transit_address import SCHEME as TRANSIT, TransitAddress
from chatproxy.model import ConversationSource, Origin
from chatproxy.policy.instants import parse_instant
from chatproxy.policy.periods import Period, parse_duration
from chatproxy.policy.profile import (
    PROFILES,
    Profile,
)
from chatproxy.policy.schema import profile_from_json
from chatproxy.wire.base import BlockOrigin

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Address:
    """Where a listener binds. Port 0 lets the system choose."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Return whether only this machine reaches it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def text(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be empty")
    return value.strip()


def one_of(*allowed: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value not in allowed:
            raise ValueError("must be one of: " + ", ".join(allowed))
        return value

    return parse


def boolean(value: str) -> bool:
    try:
        return {"true": True, "false": False}[value.lower()]
    except KeyError:
        raise ValueError("must be true or false") from None


def count(lowest: int, highest: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not re.fullmatch(r"\d{1,9}", value) or not lowest <= int(value) <= highest:
            raise ValueError(f"must be a whole number from {lowest} to {highest}")
        return int(value)

    return parse


def size(value: str) -> int:
    match = re.fullmatch(r"(\d{1,9})(B|KiB|MiB|GiB)", value)
    if match is None or int(match[1]) == 0:
        raise ValueError("must be a size such as 64MiB (units: B, KiB, MiB, GiB)")
    return int(match[1]) * {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}[match[2]]


def period(*, zero: bool = False) -> Callable[[str], Period]:
    def parse(value: str) -> Period:
        if value == "0" and zero:
            value = "0d"
        period = parse_duration(value)
        if period == Period() and not zero:
            raise ValueError("must not be zero")
        return period

    return parse


def seconds(*, zero: bool = False) -> Callable[[str], float]:
    def parse(value: str) -> float:
        found = period(zero=zero)(value)
        if found.years:
            raise ValueError("must be a duration such as 60s, 5m, 12h or 30d")
        return found.ms / 1000

    return parse


def address(value: str) -> Address:
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([^:\s\[\]]+)):(\d{1,5})", value)
    if match is None or int(match[3]) > 65_535:  # noqa: PLR2004 - the highest port
        raise ValueError("must be host:port such as 127.0.0.1:8080 or [::1]:8080")
    return Address(match[1] or match[2], int(match[3]))


def upstream(value: str) -> str:
    try:
        UpstreamAddress.parse(value)
    except ConfigurationError:
        raise ValueError(
            "must be an http:// or https:// URL such as https://chat.internal:8443/api, "
            "without user, query, fragment, or dots as path segments"
        ) from None
    return value.rstrip("/")


def store(value: str) -> str:
    if value == "embedded" or re.match(r"(rediss?(\+cluster|\+sentinel)?|unix)://.", value):
        return value
    raise ValueError(
        "must be embedded, redis://HOST:PORT/DB, rediss://HOST:PORT/DB, unix:///PATH, "
        "redis+cluster://HOST:PORT,HOST:PORT or redis+sentinel://HOST:PORT,HOST:PORT/NAME"
    )


_KEYSET = re.compile(r"file:[^\0]+|env:(?!CHATPROXY_)[A-Z_][A-Z0-9_]{0,99}")


def keyset(value: str) -> str:
    if value.startswith(TRANSIT):
        try:
            return str(TransitAddress.parse(value))
        except KeysetError as error:
            raise ValueError(str(error).removeprefix("CHATPROXY_KEYSET ")) from None
    if not _KEYSET.fullmatch(value):
        raise ValueError(
            "must be file:PATH, env:NAME with a name that does not begin with CHATPROXY_, or "
            "transit:https://HOST:PORT/MOUNT/NAME"
        )
    return value


def networks(value: str) -> tuple[Network, ...]:
    try:
        return tuple(ipaddress.ip_network(item.strip()) for item in value.split(",") if item.strip())
    except ValueError:
        raise ValueError(
            "must be addresses or networks, comma-separated, such as 10.0.0.5,192.168.0.0/16"
        ) from None


_SHORTEST_SECRET = 16


def shared_secrets(value: str) -> tuple[str, ...]:
    secrets = tuple(item.strip() for item in value.split(",") if item.strip())
    if not 1 <= len(secrets) <= 2 or any(len(s) < _SHORTEST_SECRET or not s.isascii() for s in secrets):  # noqa: PLR2004
        raise ValueError(
            f"must be one ASCII secret of {_SHORTEST_SECRET} characters or more, or two, comma-separated"
        )
    return secrets


_HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\]")


def hosts(value: str) -> tuple[str, ...]:
    found = names(value.lower())
    if not all(_HOST_NAME.fullmatch(name) for name in found):
        raise ValueError("must be found or addresses without port, comma-separated, such as chat.example.com")
    return found


_ORIGIN = re.compile(r"https?://(\[[0-9a-f:.]+\]|[a-z0-9]([a-z0-9.-]*[a-z0-9])?)(:\d{1,5})?")


def origin(value: str) -> str:
    origin = value.rstrip("/").lower()
    if not _ORIGIN.fullmatch(origin):
        raise ValueError("must be an origin without a path, such as https://chat.example.com")
    return re.sub(r"^(http):(//.*):80$|^(https):(//.*):443$", r"\1\3:\2\4", origin)


def origins(value: str) -> tuple[str, ...]:
    try:
        return tuple(origin(item) for item in names(value))
    except ValueError:
        raise ValueError(
            "must be origins, comma-separated, such as https://chat.example.com; each is named, never *"
        ) from None


def names(value: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in value.split(",") if item.strip())


def some_names(value: str) -> tuple[str, ...]:
    found = names(value)
    if not found:
        raise ValueError("must name at least one, comma-separated")
    return found


_BLOCK_ORIGINS = (Origin.UPLOAD, Origin.CONNECTOR_RAW, Origin.CONNECTOR_PASTED)


def block_origins(value: str) -> tuple[BlockOrigin, ...]:
    rules = [[side.strip() for side in item.rpartition("=")[::2]] for item in names(value)]
    if any(not types or origin not in _BLOCK_ORIGINS for types, origin in rules):
        raise ValueError(
            "must be types of blocks, as shell patterns, each with the origin of what it holds ("
            + ", ".join(_BLOCK_ORIGINS)
            + "), comma-separated, such as drive_*=connector_raw"
        )
    return tuple(BlockOrigin(types, Origin(origin)) for types, origin in rules)


def read_profile(name: str) -> Profile:
    """Return the profile of that name or in the file of that name. Raises ValueError."""
    for profile in PROFILES:
        if profile.name == name:
            return profile
    try:
        return profile_from_json(json.loads(Path(name).read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError):
        raise ValueError("must be standard, strict, or a readable JSON file with policy parameters") from None
    except json.JSONDecodeError:
        raise ValueError("is a file that is not JSON") from None


def profile_name(value: str) -> str:
    read_profile(value)
    return value


def conversation_sources(value: str) -> tuple[str, ...]:
    found = some_names(value)
    known = {str(source) for source in ConversationSource}
    if not set(found) <= known or len(set(found)) != len(found):
        raise ValueError("must be of: " + ", ".join(sorted(known)) + "; each once, comma-separated")
    return found


_CONVERSATION_HEADER = re.compile(r"[a-z0-9_-]{1,64}")
_NO_CONVERSATION = frozenset((b"authorization", b"cookie", b"idempotency-key", b"x-api-key"))


def conversation_headers(value: str) -> tuple[str, ...]:
    found = tuple(name.lower() for name in some_names(value))
    for name in found:
        own = name.replace("_", "-").encode()
        if not _CONVERSATION_HEADER.fullmatch(name) or own in IDENTITY_HEADERS | _NO_CONVERSATION:
            raise ValueError(
                "must be names of headers, comma-separated, none of them a credential or one of chatproxy's own"
            )
    return found


_SIGNATURE_ALGORITHMS = frozenset(
    ("ES256", "ES384", "ES512", "Ed25519", "EdDSA", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512")
)


def signature_algorithms(value: str) -> tuple[str, ...]:
    names = some_names(value)
    if not set(names) <= _SIGNATURE_ALGORITHMS:
        raise ValueError("must be of: " + ", ".join(sorted(_SIGNATURE_ALGORITHMS)))
    return names


def header_name(value: str) -> str:
    name = value.lower()
    if not re.fullmatch(r"[a-z0-9-]{1,64}", name) or name.encode() in IDENTITY_HEADERS:
        raise ValueError("must be the name of a header that is not one of chatproxy's own")
    return name


def key_source(value: str) -> str:
    try:
        require_key_source(value)
    except ConfigurationError as error:
        raise ValueError(str(error)) from None
    return value


def consent_source(value: str) -> str:
    if value == "builtin":
        return value
    try:
        require_key_source(value)
    except ConfigurationError:
        raise ValueError(
            "must be builtin, or an https:// URL such as https://consent.internal/choices, without user and "
            "fragment; http:// is accepted for this machine alone"
        ) from None
    return value


def token(value: str) -> str:
    if not re.fullmatch(r"[!-~]+", value):
        raise ValueError("must be ASCII text without spaces")
    return value


def lower_names(value: str) -> tuple[str, ...]:
    found = names(value.lower())
    if not found:
        raise ValueError("must name at least one plan, comma-separated")
    return found


def instant(value: str) -> str:
    try:
        parse_instant(value)
    except ValueError:
        raise ValueError("must be an instant with its zone, such as 2025-10-08T00:00:00Z") from None
    return value


def choice_url(value: str) -> str:
    if not re.fullmatch(r"(https?://[^\s/?#@]+)?/[!-~]*", value):
        raise ValueError("must be an http:// or https:// URL with a path, or a path such as /_chatproxy/")
    return value
