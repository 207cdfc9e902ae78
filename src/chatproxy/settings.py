"""What the operator has decided, read once: environment over file over built-in.

A setting is one field of ``Settings``: its name in upper case after ``CHATPROXY_`` is the environment variable, in
lower case it is the key in the TOML file. All problems are reported together, each naming the variable, where the
value came from, and the accepted form. Values of secrets are never shown.
"""

import dataclasses
import ipaddress
import json
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chatproxy.errors import ConfigurationError, KeysetError
from chatproxy.forwarding import UpstreamAddress
from chatproxy.identities.address import require_key_source
from chatproxy.identities.operators import (
    OperatorCertificate,
    OperatorToken,
    parse_certificates,
    parse_tokens,
)
from chatproxy.identity import IDENTITY_HEADERS
from chatproxy.kms.transit_address import SCHEME as TRANSIT, TransitAddress
from chatproxy.model import ConversationSource, Origin
from chatproxy.policy.instants import parse_instant
from chatproxy.policy.periods import Period, format_duration, parse_duration
from chatproxy.policy.profile import (
    PROFILES,
    ExemptMode,
    FlaggedCapability,
    OnWithdraw,
    Periods,
    Profile,
    ResumeScope,
    UnknownAge,
)
from chatproxy.policy.schema import profile_from_json
from chatproxy.rates import Rate
from chatproxy.wire.base import BlockOrigin

PREFIX = "CHATPROXY_"
DEFAULT_FILE = Path("config/chatproxy.toml")
DEFAULT_NOTICES = "config/choice"
# What Kubernetes injects into every pod for a service called chatproxy.
_INJECTED = re.compile(r"CHATPROXY_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\w+)?)")

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


def _text(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be empty")
    return value.strip()


def _one_of(*allowed: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value not in allowed:
            raise ValueError("must be one of: " + ", ".join(allowed))
        return value

    return parse


def _boolean(value: str) -> bool:
    try:
        return {"true": True, "false": False}[value.lower()]
    except KeyError:
        raise ValueError("must be true or false") from None


def _count(lowest: int, highest: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not re.fullmatch(r"\d{1,9}", value) or not lowest <= int(value) <= highest:
            raise ValueError(f"must be a whole number from {lowest} to {highest}")
        return int(value)

    return parse


def _bytes(value: str) -> int:
    match = re.fullmatch(r"(\d{1,9})(B|KiB|MiB|GiB)", value)
    if match is None or int(match[1]) == 0:
        raise ValueError("must be a size such as 64MiB (units: B, KiB, MiB, GiB)")
    return int(match[1]) * {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}[match[2]]


def _period(*, zero: bool = False) -> Callable[[str], Period]:
    def parse(value: str) -> Period:
        if value == "0" and zero:
            value = "0d"
        period = parse_duration(value)
        if period == Period() and not zero:
            raise ValueError("must not be zero")
        return period

    return parse


def _seconds(*, zero: bool = False) -> Callable[[str], float]:
    def parse(value: str) -> float:
        period = _period(zero=zero)(value)
        if period.years:
            raise ValueError("must be a duration such as 60s, 5m, 12h or 30d")
        return period.ms / 1000

    return parse


def _address(value: str) -> Address:
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([^:\s\[\]]+)):(\d{1,5})", value)
    if match is None or int(match[3]) > 65_535:  # noqa: PLR2004 - the highest port
        raise ValueError("must be host:port such as 127.0.0.1:8080 or [::1]:8080")
    return Address(match[1] or match[2], int(match[3]))


def _upstream(value: str) -> str:
    try:
        UpstreamAddress.parse(value)
    except ConfigurationError:
        raise ValueError(
            "must be an http:// or https:// URL such as https://chat.internal:8443/api, "
            "without user, query, fragment, or dots as path segments"
        ) from None
    return value.rstrip("/")


def _store(value: str) -> str:
    if value == "embedded" or re.match(r"(rediss?(\+cluster|\+sentinel)?|unix)://.", value):
        return value
    raise ValueError(
        "must be embedded, redis://HOST:PORT/DB, rediss://HOST:PORT/DB, unix:///PATH, "
        "redis+cluster://HOST:PORT,HOST:PORT or redis+sentinel://HOST:PORT,HOST:PORT/NAME"
    )


_KEYSET = re.compile(r"file:[^\0]+|env:(?!CHATPROXY_)[A-Z_][A-Z0-9_]{0,99}")


def _keyset(value: str) -> str:
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


def _networks(value: str) -> tuple[Network, ...]:
    try:
        return tuple(ipaddress.ip_network(item.strip()) for item in value.split(",") if item.strip())
    except ValueError:
        raise ValueError(
            "must be addresses or networks, comma-separated, such as 10.0.0.5,192.168.0.0/16"
        ) from None


_SHORTEST_SECRET = 16


def _shared_secrets(value: str) -> tuple[str, ...]:
    secrets = tuple(item.strip() for item in value.split(",") if item.strip())
    if not 1 <= len(secrets) <= 2 or any(len(s) < _SHORTEST_SECRET or not s.isascii() for s in secrets):  # noqa: PLR2004
        raise ValueError(
            f"must be one ASCII secret of {_SHORTEST_SECRET} characters or more, or two, comma-separated"
        )
    return secrets


_HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\]")


def _hosts(value: str) -> tuple[str, ...]:
    names = _names(value.lower())
    if not all(_HOST_NAME.fullmatch(name) for name in names):
        raise ValueError("must be names or addresses without port, comma-separated, such as chat.example.com")
    return names


_ORIGIN = re.compile(r"https?://(\[[0-9a-f:.]+\]|[a-z0-9]([a-z0-9.-]*[a-z0-9])?)(:\d{1,5})?")


def _origin(value: str) -> str:
    origin = value.rstrip("/").lower()
    if not _ORIGIN.fullmatch(origin):
        raise ValueError("must be an origin without a path, such as https://chat.example.com")
    return re.sub(r"^(http):(//.*):80$|^(https):(//.*):443$", r"\1\3:\2\4", origin)


def _origins(value: str) -> tuple[str, ...]:
    try:
        return tuple(_origin(item) for item in _names(value))
    except ValueError:
        raise ValueError(
            "must be origins, comma-separated, such as https://chat.example.com; each is named, never *"
        ) from None


def _names(value: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in value.split(",") if item.strip())


def _some_names(value: str) -> tuple[str, ...]:
    names = _names(value)
    if not names:
        raise ValueError("must name at least one, comma-separated")
    return names


_BLOCK_ORIGINS = (Origin.UPLOAD, Origin.CONNECTOR_RAW, Origin.CONNECTOR_PASTED)


def _block_origins(value: str) -> tuple[BlockOrigin, ...]:
    rules = [[side.strip() for side in item.rpartition("=")[::2]] for item in _names(value)]
    if any(not types or origin not in _BLOCK_ORIGINS for types, origin in rules):
        raise ValueError(
            "must be types of blocks, as shell patterns, each with the origin of what it holds ("
            + ", ".join(_BLOCK_ORIGINS)
            + "), comma-separated, such as drive_*=connector_raw"
        )
    return tuple(BlockOrigin(types, Origin(origin)) for types, origin in rules)


def _read_profile(name: str) -> Profile:
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


def _profile_name(value: str) -> str:
    _read_profile(value)
    return value


def _conversation_sources(value: str) -> tuple[str, ...]:
    names = _some_names(value)
    known = {str(source) for source in ConversationSource}
    if not set(names) <= known or len(set(names)) != len(names):
        raise ValueError("must be of: " + ", ".join(sorted(known)) + "; each once, comma-separated")
    return names


_CONVERSATION_HEADER = re.compile(r"[a-z0-9_-]{1,64}")
_NO_CONVERSATION = frozenset((b"authorization", b"cookie", b"idempotency-key", b"x-api-key"))


def _conversation_headers(value: str) -> tuple[str, ...]:
    names = tuple(name.lower() for name in _some_names(value))
    for name in names:
        own = name.replace("_", "-").encode()
        if not _CONVERSATION_HEADER.fullmatch(name) or own in IDENTITY_HEADERS | _NO_CONVERSATION:
            raise ValueError(
                "must be names of headers, comma-separated, none of them a credential or one of chatproxy's own"
            )
    return names


_SIGNATURE_ALGORITHMS = frozenset(
    ("ES256", "ES384", "ES512", "Ed25519", "EdDSA", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512")
)


def _signature_algorithms(value: str) -> tuple[str, ...]:
    names = _some_names(value)
    if not set(names) <= _SIGNATURE_ALGORITHMS:
        raise ValueError("must be of: " + ", ".join(sorted(_SIGNATURE_ALGORITHMS)))
    return names


def _header_name(value: str) -> str:
    name = value.lower()
    if not re.fullmatch(r"[a-z0-9-]{1,64}", name) or name.encode() in IDENTITY_HEADERS:
        raise ValueError("must be the name of a header that is not one of chatproxy's own")
    return name


def _key_source(value: str) -> str:
    try:
        require_key_source(value)
    except ConfigurationError as error:
        raise ValueError(str(error)) from None
    return value


def _consent_source(value: str) -> str:
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


def _token(value: str) -> str:
    if not re.fullmatch(r"[!-~]+", value):
        raise ValueError("must be ASCII text without spaces")
    return value


def _lower_names(value: str) -> tuple[str, ...]:
    names = _names(value.lower())
    if not names:
        raise ValueError("must name at least one plan, comma-separated")
    return names


def _instant(value: str) -> str:
    try:
        parse_instant(value)
    except ValueError:
        raise ValueError("must be an instant with its zone, such as 2025-10-08T00:00:00Z") from None
    return value


def _choice_url(value: str) -> str:
    if not re.fullmatch(r"(https?://[^\s/?#@]+)?/[!-~]*", value):
        raise ValueError("must be an http:// or https:// URL with a path, or a path such as /_chatproxy/")
    return value


def _setting(default: Any, parse: Callable[[str], Any], about: str, *, secret: bool = False) -> Any:
    """Describe one setting. ``default`` is text in the accepted form, or None where there is none."""
    value = None if default is None else parse(default)
    return dataclasses.field(
        default=value,
        repr=not secret,
        metadata={"default": default, "parse": parse, "about": about, "secret": secret},
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting of chatproxy. Periods are policy periods; other durations are in seconds; sizes in bytes."""

    upstream: str | None = _setting(
        None, _upstream, "base URL of the chat backend; its path, if any, is put before the request's"
    )
    upstream_ca_file: str | None = _setting(
        None, _text, "PEM file of the certificate authority of an https upstream, instead of the system's"
    )
    upstream_connect_timeout: float = _setting(
        "5s", _seconds(), "longest wait for a connection to the upstream"
    )
    upstream_head_timeout: float = _setting(
        "10m", _seconds(), "longest wait for the head of the upstream's answer, once the request is sent"
    )
    upstream_idle_timeout: float = _setting(
        "5m", _seconds(), "longest silence of the upstream inside an answer"
    )
    websocket_idle_timeout: float = _setting(
        "10m", _seconds(), "longest silence of both sides of a WebSocket connection"
    )
    client_head_timeout: float = _setting(
        "10s", _seconds(), "longest wait for a request's headers to be whole"
    )
    client_body_timeout: float = _setting(
        "30s", _seconds(), "longest wait for a request's body to be whole, beside what its size allows"
    )
    client_body_rate: int = _setting(
        "4KiB", _bytes, "so many bytes of a body that have come give it a second more"
    )
    client_take_timeout: float = _setting(
        "60s", _seconds(), "longest time in which a client takes nothing of an answer that waits for it"
    )
    client_idle_timeout: float = _setting("75s", _seconds(), "longest wait for the next request")
    client_connections: int = _setting("4096", _count(1, 1_000_000), "most connections of clients at a time")
    client_connections_per_address: int = _setting(
        "1024",
        _count(1, 1_000_000),
        "most of them from one address, or IPv6 network of 64 bits; not for the trusted proxies",
    )
    request_body_limit: int = _setting("64MiB", _bytes, "longest body of a request")
    request_head_limit: int = _setting("64KiB", _bytes, "longest head of a request: first line and headers")
    request_header_limit: int = _setting("16KiB", _bytes, "longest header of a request")
    request_header_count: int = _setting("100", _count(1, 10_000), "most headers of a request")
    request_target_limit: int = _setting("8KiB", _bytes, "longest target of a request: path and query")
    request_hosts: tuple[str, ...] = _setting(
        "", _hosts, "names that the Host of a request may have, without port; empty: any"
    )
    listen: Address = _setting("127.0.0.1:8080", _address, "chat traffic and the data subject's pages")
    admin_listen: Address = _setting("127.0.0.1:8081", _address, "health, metrics, admin API")
    workers: int = _setting("1", _count(1, 256), "processes that share the listeners and the embedded store")
    drain_time: float = _setting(
        "60s", _seconds(zero=True), "how long running answers may go on after SIGTERM"
    )
    store: str = _setting("embedded", _store, "embedded, or the URL of a Redis or Valkey server", secret=True)
    store_ca_file: str | None = _setting(
        None, _text, "PEM file of the certificate authority of a rediss:// store"
    )
    store_timeout: float = _setting("2s", _seconds(), "longest wait for one answer of the store")
    store_replicas: int = _setting(
        "0", _count(0, 16), "how many replicas must have what was written before it counts as kept"
    )
    store_allow_volatile: bool = _setting(
        "false", _boolean, "accept a store without persistence, which loses transcripts when it restarts"
    )
    store_longest_pause: float = _setting(
        "7d",
        _seconds(),
        "how long the embedded store may have rested; after longer, its start waits until somebody says that the clock "
        "is right",
    )
    data_dir: str = _setting("./.chatproxy", _text, "embedded store, journal, audit log")
    retention_service: Period = _setting(
        "30d", _period(), "how long every kept turn may serve the chat itself"
    )
    retention_training: Period = _setting(
        "5y", _period(), "how long a turn covered by consent is kept for training"
    )
    retention_safety: Period = _setting("2y", _period(), "how long a flagged turn is kept for safety")
    retention_safety_score: Period = _setting(
        "7y", _period(), "how long a safety score is kept, without content"
    )
    retention_feedback: Period = _setting(
        "5y", _period(), "how long feedback keeps its conversation, from submission"
    )
    retention_session_share: Period = _setting(
        "180d", _period(), "how long a shared session is kept, never for training"
    )
    retention_incognito: Period = _setting(
        "30d", _period(zero=True), "how long an incognito turn is kept; at most the service period"
    )
    retention_withdrawn: Period = _setting("30d", _period(zero=True), "the grace after a withdrawal")
    plans_consumer: tuple[str, ...] = _setting(
        "free,pro,max,claude_code", _lower_names, "plans whose people choose"
    )
    plans_exempt: tuple[str, ...] = _setting(
        "work,team,enterprise,gov,education,api,bedrock,vertex,foundry",
        _lower_names,
        "plans that are never eligible",
    )
    policy_profile: str = _setting(
        "standard",
        _profile_name,
        "the set of policy parameters to start from: standard, strict, or a JSON file with them",
    )
    policy_resume_scope: str | None = _setting(
        None, _one_of("whole_conversation", "new_turns_only"), "what a resumed conversation brings in (R12)"
    )
    policy_on_withdraw: str | None = _setting(
        None, _one_of("shrink", "keep_quarantined"), "what a withdrawal does to kept turns (R20)"
    )
    policy_exempt_mode: str | None = _setting(
        None, _one_of("passthrough", "store_30d"), "whether turns of exempt plans are kept at all (R2)"
    )
    policy_unknown_age: str | None = _setting(
        None, _one_of("adult", "ineligible"), "how unproved age counts (R5)"
    )
    policy_flagged_capability: str | None = _setting(
        None, _one_of("exclude", "allow"), "whether flagged turns may train capability (R19)"
    )
    choice_notices: str = _setting(
        DEFAULT_NOTICES, _text, "directory with the versions of the policy, the screens and the notices"
    )
    choice_deadline: str | None = _setting(None, _instant, "until when the choice may be put off (R10)")
    choice_missing: str = _setting(
        "treat_as_refused",
        _one_of("treat_as_refused", "gate"),
        "what a missing choice means after the deadline: a no, or that chats are refused until it is made",
    )
    choice_url: str = _setting(
        "/_chatproxy/", _choice_url, "address of the choice page, as people are told it who must choose first"
    )
    consent_source: str = _setting(
        "builtin",
        _consent_source,
        "where people choose: builtin, or the URL of the company's consent service",
    )
    consent_service_secret: tuple[str, ...] | None = _setting(
        None,
        _shared_secrets,
        "shared secret that signs the service's answers; two, comma-separated, while it is changed",
        secret=True,
    )
    consent_service_token: str | None = _setting(
        None, _token, "bearer token that the service expects, if any", secret=True
    )
    consent_service_ca_file: str | None = _setting(
        None, _text, "PEM file of the certificate authority of the service, instead of the system's"
    )
    consent_service_connect_timeout: float = _setting(
        "1s", _seconds(), "longest wait for a connection to the service"
    )
    consent_service_timeout: float = _setting(
        "2s", _seconds(), "longest wait for one answer of the service, connecting included"
    )
    consent_max_staleness: float = _setting(
        "60s", _seconds(zero=True), "an older cached yes counts as no (R30)"
    )
    keyset: str = _setting(
        "file:./.chatproxy-keys/keyset",
        _keyset,
        "where the keyset is; never inside the data directory",
    )
    keyset_token: str | None = _setting(None, _text, "token for the vault of a transit: keyset", secret=True)
    keyset_ca_file: str | None = _setting(
        None, _text, "PEM file of the certificate authority of that vault, instead of the system's"
    )
    key_rotation: float = _setting(
        "0s", _seconds(zero=True), "how often the running proxy rotates its keys by itself; 0: never"
    )
    key_soak: float = _setting(
        "24h", _seconds(zero=True), "how long an old key version still opens after a rotation"
    )
    key_grace: float = _setting(
        "7d", _seconds(zero=True), "how long a retired key version can be brought back before it is destroyed"
    )
    erasure_horizon: Period = _setting(
        "30d", _period(), "within it, after an erasure or expiry, no backup can be read"
    )
    epoch_grace: float = _setting(
        "48h", _seconds(zero=True), "how long after an expiry day its key is destroyed"
    )
    export_min_age: float = _setting(
        "7d", _seconds(zero=True), "how old a turn must be before it may go into a dataset"
    )
    recall_deadline: float = _setting(
        "30d", _seconds(), "how long a consumer of a dataset has to acknowledge what is recalled of it"
    )
    identity: str = _setting("headers", _one_of("headers", "jwt", "api_keys"), "how the caller is identified")
    trusted_proxies: tuple[Network, ...] = _setting(
        "", _networks, "addresses or networks whose identity headers count"
    )
    identity_secret: tuple[str, ...] | None = _setting(
        None,
        _shared_secrets,
        "shared secret expected in X-Chat-Auth; two, comma-separated, while it is changed",
        secret=True,
    )
    jwt_jwks_url: str | None = _setting(
        None, _key_source, "URL of the issuer's JWK Set; https, or http on this machine"
    )
    jwt_jwks_ca_file: str | None = _setting(
        None, _text, "PEM file of the certificate authority of that URL, instead of the system's"
    )
    jwt_jwks_refresh: float = _setting(
        "5m", _seconds(), "how often the keys are fetched; sooner when a key id is not known"
    )
    jwt_jwks_max_age: float = _setting(
        "6h",
        _seconds(),
        "how long fetched keys count while the issuer does not answer; then no token is believed",
    )
    jwt_issuer: str | None = _setting(None, _text, "exact iss of the tokens that count")
    jwt_audience: tuple[str, ...] | None = _setting(
        None, _some_names, "aud values, comma-separated, one of which a token must name"
    )
    jwt_algorithms: tuple[str, ...] = _setting(
        "RS256,ES256", _signature_algorithms, "signature algorithms that count; never none or HMAC"
    )
    jwt_leeway: float = _setting(
        "60s", _seconds(zero=True), "how far the issuer's clock may differ, for exp, nbf and iat"
    )
    jwt_header: str = _setting(
        "authorization",
        _header_name,
        "header with the token: after Bearer in authorization, there or alone in any other",
    )
    jwt_claim_subject: str = _setting("sub", _text, "claim that names the data subject; a.b is member b of a")
    jwt_claim_tenant: str | None = _setting(
        None, _text, "claim that names the tenant; if set, a token without it names nobody"
    )
    jwt_claim_plan: str | None = _setting(None, _text, "claim with the plan")
    jwt_claim_conversation: str | None = _setting(None, _text, "claim with the conversation id")
    jwt_claim_surface: str | None = _setting(None, _text, "claim with the surface: chat or code")
    jwt_claim_age: str | None = _setting(None, _text, "claim with the age assurance: adult, minor or unknown")
    jwt_claim_zdr: str | None = _setting(
        None, _text, "claim that is true where zero data retention is agreed"
    )
    api_keys_file: str | None = _setting(
        None, _text, "file that maps hashes of API keys to tenants and plans, mode 0600 or 0640"
    )
    public_url: str | None = _setting(
        None, _origin, "origin under which people reach the public listener, for links to their pages"
    )
    api_origins: tuple[str, ...] = _setting(
        "", _origins, "other origins whose pages may use the person's API from a browser, such as a front end"
    )
    link_lifetime: float = _setting("10m", _seconds(), "how long a signed link to a person's pages counts")
    session_lifetime: float = _setting("1h", _seconds(), "how long a session begun by such a link lasts")
    person_rate: Rate = _setting(
        "120/1m", Rate.parse, "how often one person may ask the person's API and pages"
    )
    access_rate: Rate = _setting(
        "5/1d", Rate.parse, "how often one person may download all that is held of them"
    )
    address_rate: Rate = _setting(
        "60/1m", Rate.parse, "how often those who are not known, and links, may ask from one address"
    )
    admin_token: tuple[OperatorToken, ...] | None = _setting(
        None,
        parse_tokens,
        "bearer tokens of the admin API, each with a name and roles, or alone for all roles; none: no admin API",
        secret=True,
    )
    admin_clients: tuple[OperatorCertificate, ...] | None = _setting(
        None,
        parse_certificates,
        "names that client certificates are made out to, each with a name and roles; needs the three below",
    )
    admin_client_ca: str | None = _setting(
        None,
        _text,
        "PEM file of the certificate authority that signs client certificates of the admin listener",
    )
    admin_tls_certificate: str | None = _setting(
        None, _text, "PEM file with the certificate of the admin listener, which then speaks TLS alone"
    )
    admin_tls_key: str | None = _setting(None, _text, "PEM file with the key of that certificate")
    admin_open: bool | None = _setting(
        None,
        _boolean,
        "whether metrics, and why it is not ready, are told to whoever reaches the admin listener; none: on loopback",
    )
    connector_tools: tuple[str, ...] = _setting(
        "mcp__*", _names, "names of tools, as shell patterns, whose results are a connector's raw data (R25)"
    )
    block_origins: tuple[BlockOrigin, ...] = _setting(
        "file_search_call=connector_raw",
        _block_origins,
        "types of content blocks, as shell patterns, and the origin of what they hold (R25)",
    )
    json_chats: str | None = _setting(
        None, _text, "file that describes home-grown JSON chats, so that they are captured (docs/dialects.md)"
    )
    conversation_sources: tuple[str, ...] = _setting(
        "identity,dialect,header,history",
        _conversation_sources,
        "what tells which conversation a turn belongs to, the first that knows",
    )
    conversation_headers: tuple[str, ...] = _setting(
        "x-claude-code-session-id,x-openwebui-chat-id,x-opencode-session,session_id,session-id,x-session-id",
        _conversation_headers,
        "headers in which clients name the conversation; the first that a request has counts",
    )
    response_headers: bool = _setting(
        "true", _boolean, "state the decision in X-Chat-Turn and the headers beside it"
    )
    media: str = _setting(
        "digest",
        _one_of("digest", "sealed"),
        "what is kept of images, sounds and files: type, size and digest, or their content sealed as well",
    )
    media_limit: int = _setting(
        "10MiB", _bytes, "largest content of the media of one turn, together; the rest stays digests"
    )
    capture_durability: str = _setting(
        "journal",
        _one_of("journal", "strict", "relaxed"),
        "what survives a crash: what is on disk a moment after the answer, every answer that has ended, or what is stored",
    )
    capture_failure: str = _setting(
        "serve",
        _one_of("serve", "refuse"),
        "what happens to a chat that cannot be kept: serve it, or refuse it with 503",
    )
    capture_limit: int = _setting(
        "40MiB", _bytes, "largest copy of one exchange; the traffic itself is not limited"
    )
    capture_queue: int = _setting("256MiB", _bytes, "memory for copies that are not kept yet")
    journal_size: int = _setting(
        "2GiB", _bytes, "disk for copies that are not kept yet; never more than a fifth of the file system"
    )
    node: str = _setting("node-1", _text, "name of this process in what it keeps")
    log_level: str = _setting(
        "info", _one_of("debug", "info", "warning", "error"), "least level that is logged"
    )

    @property
    def profile(self) -> Profile:
        """Return the policy parameters: those of the named profile, but for the ones that are set."""
        base = _read_profile(self.policy_profile)
        return Profile(
            name=base.name,
            resume_scope=ResumeScope(self.policy_resume_scope or base.resume_scope),
            on_withdraw=OnWithdraw(self.policy_on_withdraw or base.on_withdraw),
            exempt_mode=ExemptMode(self.policy_exempt_mode or base.exempt_mode),
            unknown_age=UnknownAge(self.policy_unknown_age or base.unknown_age),
            flagged_capability=FlaggedCapability(self.policy_flagged_capability or base.flagged_capability),
            incognito_days=base.incognito_days,
            consumer_plans=frozenset(self.plans_consumer),
            exempt_plans=frozenset(self.plans_exempt),
        )

    @property
    def deadline(self) -> int | None:
        """Return until when the choice may be put off, ms; None: there is no deadline."""
        return None if self.choice_deadline is None else parse_instant(self.choice_deadline)

    @property
    def periods(self) -> Periods:
        """Return the policy periods."""
        return Periods(
            service=self.retention_service,
            training=self.retention_training,
            safety=self.retention_safety,
            safety_score=self.retention_safety_score,
            feedback=self.retention_feedback,
            session_share=self.retention_session_share,
            incognito=self.retention_incognito,
            withdrawn=self.retention_withdrawn,
        )


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings and, by field name, where each came from (``built-in``, the file, or the variable)."""

    settings: Settings
    sources: Mapping[str, str]


def load_settings(
    environ: Mapping[str, str] | None = None, *, overrides: Mapping[str, str] | None = None
) -> Loaded:
    """Read environment and file once.

    ``overrides`` are values of the command line, by field name, over everything else. Raises ConfigurationError
    that lists every problem, one a line.
    """
    environ = os.environ if environ is None else environ
    problems: list[str] = []
    texts: dict[str, tuple[str, str]] = {}
    for layer in (_read_file(environ, problems), _read_environment(environ, problems)):
        texts.update(layer)
    texts.update({name: (text, "command line") for name, text in (overrides or {}).items()})

    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for field in dataclasses.fields(Settings):
        if field.name not in texts:
            sources[field.name] = "built-in"
            continue
        text, source = texts[field.name]
        sources[field.name] = source
        try:
            values[field.name] = field.metadata["parse"](text)
        except ValueError as error:
            value = "" if field.metadata["secret"] else f" = {_without_credentials(text)!r}"
            problems.append(f"{PREFIX}{field.name.upper()}{value} (from {source}) {error}")
    settings = Settings(**values)
    problems += _contradictions(settings)
    if problems:
        raise ConfigurationError("\n".join(problems))
    return Loaded(settings, sources)


def read_variable(name: str) -> str | None:
    """Return the value of an environment variable that a setting names, None if it is not set."""
    return os.environ.get(name)


def other_variables() -> dict[str, str]:
    """Return the environment without chatproxy's own variables, for a process that gets others."""
    return {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}


def _read_file(environ: Mapping[str, str], problems: list[str]) -> dict[str, tuple[str, str]]:
    named = environ.get(PREFIX + "CONFIG")
    path = Path(named) if named else DEFAULT_FILE
    if not named and not path.exists():
        return {}
    try:
        with path.open("rb") as file:
            table = tomllib.load(file)
    except OSError as error:
        problems.append(f"{PREFIX}CONFIG: {path} cannot be read: {error.strerror}")
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problems.append(f"{path} is not valid TOML: {error}")
        return {}
    known = {field.name for field in dataclasses.fields(Settings)}
    texts = {}
    for key, value in table.items():
        if key not in known:
            problems.append(f"{key} in {path} is not a setting; the settings are listed in docs/settings.md")
        elif isinstance(value, bool):
            texts[key] = (str(value).lower(), str(path))
        elif isinstance(value, list) and all(isinstance(item, str) for item in value):
            texts[key] = (",".join(value), str(path))
        elif isinstance(value, str | int):
            texts[key] = (str(value), str(path))
        else:
            problems.append(f"{key} in {path} must be text, a number, true, false or a list of text")
    return texts


def _read_environment(environ: Mapping[str, str], problems: list[str]) -> dict[str, tuple[str, str]]:
    fields = {field.name: field for field in dataclasses.fields(Settings)}
    texts: dict[str, tuple[str, str]] = {}
    for variable, value in sorted(environ.items()):
        if not variable.startswith(PREFIX) or variable == PREFIX + "CONFIG":
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name in fields and variable.isupper():
            texts[name] = (value, variable)
            continue
        target = fields.get(name.removesuffix("_file"))
        if name.endswith("_file") and variable.isupper() and target and target.metadata["secret"]:
            if PREFIX + target.name.upper() in environ:
                problems.append(f"{variable} and {PREFIX}{target.name.upper()} are both set; set only one")
                continue
            try:
                texts[target.name] = (Path(value).read_text(encoding="utf-8").strip(), variable)
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
                problems.append(f"{variable}: {value} cannot be read: {reason}")
        elif not _INJECTED.fullmatch(variable):
            problems.append(f"{variable} is not a setting; the settings are listed in docs/settings.md")
    return texts


_LARGEST_MEDIA = 30 << 20
_LARGEST_CAPTURE = 45 << 20
"""What is not understood is kept as base64, and a payload is never read beyond 64 MiB."""


def _contradictions(settings: Settings) -> list[str]:
    problems = []
    if settings.capture_limit > _LARGEST_CAPTURE:
        problems.append(
            "CHATPROXY_CAPTURE_LIMIT must not be over 45MiB: what is larger could not be read again"
        )
    if settings.media_limit > _LARGEST_MEDIA:
        problems.append(
            "CHATPROXY_MEDIA_LIMIT must not be over 30MiB: what is larger could not be read again"
        )
    if both := set(settings.plans_consumer) & set(settings.plans_exempt):
        problems.append(
            f"CHATPROXY_PLANS_CONSUMER and CHATPROXY_PLANS_EXEMPT both name: {', '.join(sorted(both))}; "
            "a plan is one or the other"
        )
    if settings.retention_training.length < settings.retention_service.length:
        problems.append("CHATPROXY_RETENTION_TRAINING must not be shorter than CHATPROXY_RETENTION_SERVICE")
    if settings.choice_missing == "gate" and settings.choice_deadline is None:
        problems.append(
            "CHATPROXY_CHOICE_MISSING = gate needs CHATPROXY_CHOICE_DEADLINE: before it, nobody has to choose"
        )
    if settings.consent_source != "builtin" and settings.consent_service_secret is None:
        problems.append(
            "CHATPROXY_CONSENT_SOURCE = a URL needs CHATPROXY_CONSENT_SERVICE_SECRET: without it anybody who answers "
            "there could say yes for everybody"
        )
    problems += _identity_contradictions(settings)
    problems += _key_contradictions(settings)
    problems += _admin_contradictions(settings)
    if settings.listen == settings.admin_listen and settings.listen.port:
        problems.append("CHATPROXY_LISTEN and CHATPROXY_ADMIN_LISTEN must be two different addresses")
    return problems


def _admin_contradictions(settings: Settings) -> list[str]:
    """What others can reach must know who asks."""
    problems = []
    if not settings.admin_listen.is_loopback and not settings.admin_token and not settings.admin_clients:
        problems.append(
            f"CHATPROXY_ADMIN_LISTEN = {settings.admin_listen} can be reached from other machines, so it must know who "
            "asks: set CHATPROXY_ADMIN_TOKEN_FILE or CHATPROXY_ADMIN_CLIENTS, or listen on 127.0.0.1"
        )
    if (settings.admin_tls_certificate is None) != (settings.admin_tls_key is None):
        problems.append(
            "CHATPROXY_ADMIN_TLS_CERTIFICATE and CHATPROXY_ADMIN_TLS_KEY go together; set both or none"
        )
    if (settings.admin_clients is not None) != (settings.admin_client_ca is not None):
        problems.append("CHATPROXY_ADMIN_CLIENTS and CHATPROXY_ADMIN_CLIENT_CA go together; set both or none")
    if settings.admin_clients and settings.admin_tls_certificate is None:
        problems.append(
            "CHATPROXY_ADMIN_CLIENTS needs CHATPROXY_ADMIN_TLS_CERTIFICATE: certificates come by TLS"
        )
    roles = {each.operator.name: each.operator for each in settings.admin_clients or ()}
    problems += [
        f"CHATPROXY_ADMIN_TOKEN and CHATPROXY_ADMIN_CLIENTS give {token.operator.name} different roles: the audit log "
        "has the name, so give it the same ones"
        for token in settings.admin_token or ()
        if roles.get(token.operator.name, token.operator) != token.operator
    ]
    return problems


def _key_contradictions(settings: Settings) -> list[str]:
    """A rotation takes soak and grace; what its keys could read is out of reach only after that (security B3)."""
    if settings.keyset.startswith(TRANSIT) and settings.keyset_token is None:
        return [
            "CHATPROXY_KEYSET names a vault, which needs CHATPROXY_KEYSET_TOKEN_FILE or CHATPROXY_KEYSET_TOKEN"
        ]
    horizon = settings.erasure_horizon.length / 1000
    waiting = settings.key_soak + settings.key_grace
    problems = []
    if waiting >= horizon:
        problems.append(
            "CHATPROXY_KEY_SOAK and CHATPROXY_KEY_GRACE together must be shorter than CHATPROXY_ERASURE_HORIZON, "
            "which cannot hold otherwise"
        )
    elif settings.key_rotation and settings.key_rotation + waiting > horizon:
        problems.append(
            "CHATPROXY_KEY_ROTATION, CHATPROXY_KEY_SOAK and CHATPROXY_KEY_GRACE together must not be longer than "
            "CHATPROXY_ERASURE_HORIZON, which cannot hold otherwise"
        )
    return problems


def shown(settings: Settings, name: str) -> str | None:
    """Return the value of a setting in the form that it is written in; secrets and URLs' passwords are hidden."""
    value = getattr(settings, name)
    if value is None:
        return None
    if name == "store":
        return _without_credentials(value)
    metadata = next(field for field in dataclasses.fields(settings) if field.name == name).metadata
    if metadata["secret"]:
        return "(hidden)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Period):
        return format_duration(value)
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    if isinstance(value, float):
        return format_duration(Period(ms=round(value * 1000)))
    if metadata["parse"] is _bytes:
        return _format_bytes(value)
    return str(value)


def _without_credentials(text: str) -> str:
    """Hide what may be secret in a URL: user and password, and the query. What is no URL stays as it is."""
    if "://" not in text:
        return text
    without_user = re.sub(r"(?<=://).*@", "(hidden)@", text, flags=re.DOTALL)
    return re.sub(r"\?.*", "?(hidden)", without_user, flags=re.DOTALL)


def _format_bytes(size: int) -> str:
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size % factor == 0:
            return f"{size // factor}{unit}"
    return f"{size}B"


def _identity_contradictions(settings: Settings) -> list[str]:
    needed = {
        "headers": (),
        "jwt": ("jwt_jwks_url", "jwt_issuer", "jwt_audience"),
        "api_keys": ("api_keys_file",),
    }[settings.identity]
    problems = [
        f"CHATPROXY_IDENTITY = {settings.identity} needs {PREFIX}{name.upper()}"
        for name in needed
        if not getattr(settings, name)
    ]
    if settings.identity != "headers" and (settings.trusted_proxies or settings.identity_secret):
        problems.append(
            f"CHATPROXY_IDENTITY = {settings.identity} believes no headers, so CHATPROXY_TRUSTED_PROXIES and "
            "CHATPROXY_IDENTITY_SECRET would not count; unset them"
        )
    if settings.jwt_jwks_refresh < _SOONEST_REFRESH_SECONDS:
        problems.append("CHATPROXY_JWT_JWKS_REFRESH must not be under 10s")
    if settings.jwt_jwks_max_age < settings.jwt_jwks_refresh:
        problems.append("CHATPROXY_JWT_JWKS_MAX_AGE must not be shorter than CHATPROXY_JWT_JWKS_REFRESH")
    if settings.jwt_leeway > _LONGEST_LEEWAY_SECONDS:
        problems.append("CHATPROXY_JWT_LEEWAY must not be over 10m")
    problems += [
        f"{PREFIX}{name.upper()} must not be over 24h"
        for name in ("link_lifetime", "session_lifetime")
        if getattr(settings, name) > _LONGEST_SESSION_SECONDS
    ]
    return problems


_SOONEST_REFRESH_SECONDS = 10
_LONGEST_LEEWAY_SECONDS = 600
_LONGEST_SESSION_SECONDS = 86_400
