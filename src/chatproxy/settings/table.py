"""Every setting, a field each: how it is read, what it is without being set, and what it is about."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from chatproxy.identities.operators import (
    OperatorCertificate,
    OperatorToken,
    parse_certificates,
    parse_tokens,
)
from chatproxy.policy.instants import parse_instant
from chatproxy.policy.periods import Period
from chatproxy.policy.profile import (
    ExemptMode,
    FlaggedCapability,
    OnWithdraw,
    Periods,
    Profile,
    ResumeScope,
    UnknownAge,
)
from chatproxy.rates import Rate
from chatproxy.settings import forms
from chatproxy.settings.forms import Address, Network
from chatproxy.wire.base import BlockOrigin

PREFIX = "CHATPROXY_"
DEFAULT_NOTICES = "config/choice"


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
        None, forms.upstream, "base URL of the chat backend; its path, if any, is put before the request's"
    )
    upstream_ca_file: str | None = _setting(
        None,
        forms.text,
        "PEM file of the certificate authority of an https upstream, instead of the system's",
    )
    upstream_connect_timeout: float = _setting(
        "5s", forms.seconds(), "longest wait for a connection to the upstream"
    )
    upstream_head_timeout: float = _setting(
        "10m", forms.seconds(), "longest wait for the head of the upstream's answer, once the request is sent"
    )
    upstream_idle_timeout: float = _setting(
        "5m", forms.seconds(), "longest silence of the upstream inside an answer"
    )
    websocket_idle_timeout: float = _setting(
        "10m", forms.seconds(), "longest silence of both sides of a WebSocket connection"
    )
    client_head_timeout: float = _setting(
        "10s", forms.seconds(), "longest wait for a request's headers to be whole"
    )
    client_body_timeout: float = _setting(
        "30s", forms.seconds(), "longest wait for a request's body to be whole, beside what its size allows"
    )
    client_body_rate: int = _setting(
        "4KiB", forms.size, "so many bytes of a body that have come give it a second more"
    )
    client_take_timeout: float = _setting(
        "60s", forms.seconds(), "longest time in which a client takes nothing of an answer that waits for it"
    )
    client_idle_timeout: float = _setting("75s", forms.seconds(), "longest wait for the next request")
    client_connections: int = _setting(
        "4096", forms.count(1, 1_000_000), "most connections of clients at a time"
    )
    client_connections_per_address: int = _setting(
        "1024",
        forms.count(1, 1_000_000),
        "most of them from one address, or IPv6 network of 64 bits; not for the trusted proxies",
    )
    request_body_limit: int = _setting("64MiB", forms.size, "longest body of a request")
    request_head_limit: int = _setting(
        "64KiB", forms.size, "longest head of a request: first line and headers"
    )
    request_header_limit: int = _setting("16KiB", forms.size, "longest header of a request")
    request_header_count: int = _setting("100", forms.count(1, 10_000), "most headers of a request")
    request_target_limit: int = _setting("8KiB", forms.size, "longest target of a request: path and query")
    request_hosts: tuple[str, ...] = _setting(
        "", forms.hosts, "names that the Host of a request may have, without port; empty: any"
    )
    listen: Address = _setting("127.0.0.1:8080", forms.address, "chat traffic and the data subject's pages")
    admin_listen: Address = _setting("127.0.0.1:8081", forms.address, "health, metrics, admin API")
    workers: int = _setting(
        "1", forms.count(1, 256), "processes that share the listeners and the embedded store"
    )
    drain_time: float = _setting(
        "60s", forms.seconds(zero=True), "how long running answers may go on after SIGTERM"
    )
    store: str = _setting(
        "embedded", forms.store, "embedded, or the URL of a Redis or Valkey server", secret=True
    )
    store_ca_file: str | None = _setting(
        None, forms.text, "PEM file of the certificate authority of a rediss:// store"
    )
    store_timeout: float = _setting("2s", forms.seconds(), "longest wait for one answer of the store")
    store_replicas: int = _setting(
        "0", forms.count(0, 16), "how many replicas must have what was written before it counts as kept"
    )
    store_allow_volatile: bool = _setting(
        "false", forms.boolean, "accept a store without persistence, which loses transcripts when it restarts"
    )
    store_longest_pause: float = _setting(
        "7d",
        forms.seconds(),
        "how long the embedded store may have rested; after longer, its start waits until somebody says that the clock "
        "is right",
    )
    data_dir: str = _setting("./.chatproxy", forms.text, "embedded store, journal, audit log")
    retention_service: Period = _setting(
        "30d", forms.period(), "how long every kept turn may serve the chat itself"
    )
    retention_training: Period = _setting(
        "5y", forms.period(), "how long a turn covered by consent is kept for training"
    )
    retention_safety: Period = _setting("2y", forms.period(), "how long a flagged turn is kept for safety")
    retention_safety_score: Period = _setting(
        "7y", forms.period(), "how long a safety score is kept, without content"
    )
    retention_feedback: Period = _setting(
        "5y", forms.period(), "how long feedback keeps its conversation, from submission"
    )
    retention_session_share: Period = _setting(
        "180d", forms.period(), "how long a shared session is kept, never for training"
    )
    retention_incognito: Period = _setting(
        "30d", forms.period(zero=True), "how long an incognito turn is kept; at most the service period"
    )
    retention_withdrawn: Period = _setting("30d", forms.period(zero=True), "the grace after a withdrawal")
    plans_consumer: tuple[str, ...] = _setting(
        "free,pro,max,claude_code", forms.lower_names, "plans whose people choose"
    )
    plans_exempt: tuple[str, ...] = _setting(
        "work,team,enterprise,gov,education,api,bedrock,vertex,foundry",
        forms.lower_names,
        "plans that are never eligible",
    )
    policy_profile: str = _setting(
        "standard",
        forms.profile_name,
        "the set of policy parameters to start from: standard, strict, or a JSON file with them",
    )
    policy_resume_scope: str | None = _setting(
        None,
        forms.one_of("whole_conversation", "new_turns_only"),
        "what a resumed conversation brings in (R12)",
    )
    policy_on_withdraw: str | None = _setting(
        None, forms.one_of("shrink", "keep_quarantined"), "what a withdrawal does to kept turns (R20)"
    )
    policy_exempt_mode: str | None = _setting(
        None, forms.one_of("passthrough", "store_30d"), "whether turns of exempt plans are kept at all (R2)"
    )
    policy_unknown_age: str | None = _setting(
        None, forms.one_of("adult", "ineligible"), "how unproved age counts (R5)"
    )
    policy_flagged_capability: str | None = _setting(
        None, forms.one_of("exclude", "allow"), "whether flagged turns may train capability (R19)"
    )
    choice_notices: str = _setting(
        DEFAULT_NOTICES, forms.text, "directory with the versions of the policy, the screens and the notices"
    )
    choice_deadline: str | None = _setting(None, forms.instant, "until when the choice may be put off (R10)")
    choice_missing: str = _setting(
        "treat_as_refused",
        forms.one_of("treat_as_refused", "gate"),
        "what a missing choice means after the deadline: a no, or that chats are refused until it is made",
    )
    choice_url: str = _setting(
        "/_chatproxy/",
        forms.choice_url,
        "address of the choice page, as people are told it who must choose first",
    )
    consent_source: str = _setting(
        "builtin",
        forms.consent_source,
        "where people choose: builtin, or the URL of the company's consent service",
    )
    consent_service_secret: tuple[str, ...] | None = _setting(
        None,
        forms.shared_secrets,
        "shared secret that signs the service's answers; two, comma-separated, while it is changed",
        secret=True,
    )
    consent_service_token: str | None = _setting(
        None, forms.token, "bearer token that the service expects, if any", secret=True
    )
    consent_service_ca_file: str | None = _setting(
        None, forms.text, "PEM file of the certificate authority of the service, instead of the system's"
    )
    consent_service_connect_timeout: float = _setting(
        "1s", forms.seconds(), "longest wait for a connection to the service"
    )
    consent_service_timeout: float = _setting(
        "2s", forms.seconds(), "longest wait for one answer of the service, connecting included"
    )
    consent_max_staleness: float = _setting(
        "60s", forms.seconds(zero=True), "an older cached yes counts as no (R30)"
    )
    keyset: str = _setting(
        "file:./.chatproxy-keys/keyset",
        forms.keyset,
        "where the keyset is; never inside the data directory",
    )
    keyset_token: str | None = _setting(
        None, forms.text, "token for the vault of a transit: keyset", secret=True
    )
    keyset_ca_file: str | None = _setting(
        None, forms.text, "PEM file of the certificate authority of that vault, instead of the system's"
    )
    key_rotation: float = _setting(
        "0s", forms.seconds(zero=True), "how often the running proxy rotates its keys by itself; 0: never"
    )
    key_soak: float = _setting(
        "24h", forms.seconds(zero=True), "how long an old key version still opens after a rotation"
    )
    key_grace: float = _setting(
        "7d",
        forms.seconds(zero=True),
        "how long a retired key version can be brought back before it is destroyed",
    )
    erasure_horizon: Period = _setting(
        "30d", forms.period(), "within it, after an erasure or expiry, no backup can be read"
    )
    epoch_grace: float = _setting(
        "48h", forms.seconds(zero=True), "how long after an expiry day its key is destroyed"
    )
    export_min_age: float = _setting(
        "7d", forms.seconds(zero=True), "how old a turn must be before it may go into a dataset"
    )
    recall_deadline: float = _setting(
        "30d", forms.seconds(), "how long a consumer of a dataset has to acknowledge what is recalled of it"
    )
    identity: str = _setting(
        "headers", forms.one_of("headers", "jwt", "api_keys"), "how the caller is identified"
    )
    trusted_proxies: tuple[Network, ...] = _setting(
        "", forms.networks, "addresses or networks whose identity headers count"
    )
    identity_secret: tuple[str, ...] | None = _setting(
        None,
        forms.shared_secrets,
        "shared secret expected in X-Chat-Auth; two, comma-separated, while it is changed",
        secret=True,
    )
    jwt_jwks_url: str | None = _setting(
        None, forms.key_source, "URL of the issuer's JWK Set; https, or http on this machine"
    )
    jwt_jwks_ca_file: str | None = _setting(
        None, forms.text, "PEM file of the certificate authority of that URL, instead of the system's"
    )
    jwt_jwks_refresh: float = _setting(
        "5m", forms.seconds(), "how often the keys are fetched; sooner when a key id is not known"
    )
    jwt_jwks_max_age: float = _setting(
        "6h",
        forms.seconds(),
        "how long fetched keys count while the issuer does not answer; then no token is believed",
    )
    jwt_issuer: str | None = _setting(None, forms.text, "exact iss of the tokens that count")
    jwt_audience: tuple[str, ...] | None = _setting(
        None, forms.some_names, "aud values, comma-separated, one of which a token must name"
    )
    jwt_algorithms: tuple[str, ...] = _setting(
        "RS256,ES256", forms.signature_algorithms, "signature algorithms that count; never none or HMAC"
    )
    jwt_leeway: float = _setting(
        "60s", forms.seconds(zero=True), "how far the issuer's clock may differ, for exp, nbf and iat"
    )
    jwt_header: str = _setting(
        "authorization",
        forms.header_name,
        "header with the token: after Bearer in authorization, there or alone in any other",
    )
    jwt_claim_subject: str = _setting(
        "sub", forms.text, "claim that names the data subject; a.b is member b of a"
    )
    jwt_claim_tenant: str | None = _setting(
        None, forms.text, "claim that names the tenant; if set, a token without it names nobody"
    )
    jwt_claim_plan: str | None = _setting(None, forms.text, "claim with the plan")
    jwt_claim_conversation: str | None = _setting(None, forms.text, "claim with the conversation id")
    jwt_claim_surface: str | None = _setting(None, forms.text, "claim with the surface: chat or code")
    jwt_claim_age: str | None = _setting(
        None, forms.text, "claim with the age assurance: adult, minor or unknown"
    )
    jwt_claim_zdr: str | None = _setting(
        None, forms.text, "claim that is true where zero data retention is agreed"
    )
    api_keys_file: str | None = _setting(
        None, forms.text, "file that maps hashes of API keys to tenants and plans, mode 0600 or 0640"
    )
    public_url: str | None = _setting(
        None, forms.origin, "origin under which people reach the public listener, for links to their pages"
    )
    api_origins: tuple[str, ...] = _setting(
        "",
        forms.origins,
        "other origins whose pages may use the person's API from a browser, such as a front end",
    )
    link_lifetime: float = _setting(
        "10m", forms.seconds(), "how long a signed link to a person's pages counts"
    )
    session_lifetime: float = _setting("1h", forms.seconds(), "how long a session begun by such a link lasts")
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
        forms.text,
        "PEM file of the certificate authority that signs client certificates of the admin listener",
    )
    admin_tls_certificate: str | None = _setting(
        None, forms.text, "PEM file with the certificate of the admin listener, which then speaks TLS alone"
    )
    admin_tls_key: str | None = _setting(None, forms.text, "PEM file with the key of that certificate")
    admin_open: bool | None = _setting(
        None,
        forms.boolean,
        "whether metrics, and why it is not ready, are told to whoever reaches the admin listener; none: on loopback",
    )
    connector_tools: tuple[str, ...] = _setting(
        "mcp__*",
        forms.names,
        "names of tools, as shell patterns, whose results are a connector's raw data (R25)",
    )
    block_origins: tuple[BlockOrigin, ...] = _setting(
        "file_search_call=connector_raw",
        forms.block_origins,
        "types of content blocks, as shell patterns, and the origin of what they hold (R25)",
    )
    json_chats: str | None = _setting(
        None,
        forms.text,
        "file that describes home-grown JSON chats, so that they are captured (docs/dialects.md)",
    )
    conversation_sources: tuple[str, ...] = _setting(
        "identity,dialect,header,history",
        forms.conversation_sources,
        "what tells which conversation a turn belongs to, the first that knows",
    )
    conversation_headers: tuple[str, ...] = _setting(
        "x-claude-code-session-id,x-openwebui-chat-id,x-opencode-session,session_id,session-id,x-session-id",
        forms.conversation_headers,
        "headers in which clients name the conversation; the first that a request has counts",
    )
    response_headers: bool = _setting(
        "true", forms.boolean, "state the decision in X-Chat-Turn and the headers beside it"
    )
    media: str = _setting(
        "digest",
        forms.one_of("digest", "sealed"),
        "what is kept of images, sounds and files: type, size and digest, or their content sealed as well",
    )
    media_limit: int = _setting(
        "10MiB", forms.size, "largest content of the media of one turn, together; the rest stays digests"
    )
    capture_durability: str = _setting(
        "journal",
        forms.one_of("journal", "strict", "relaxed"),
        "what survives a crash: what is on disk a moment after the answer, every answer that has ended, or what is stored",
    )
    capture_failure: str = _setting(
        "serve",
        forms.one_of("serve", "refuse"),
        "what happens to a chat that cannot be kept: serve it, or refuse it with 503",
    )
    capture_limit: int = _setting(
        "40MiB", forms.size, "largest copy of one exchange; the traffic itself is not limited"
    )
    capture_queue: int = _setting("256MiB", forms.size, "memory for copies that are not kept yet")
    journal_size: int = _setting(
        "2GiB",
        forms.size,
        "disk for copies that are not kept yet; never more than a fifth of the file system",
    )
    node: str = _setting("node-1", forms.text, "name of this process in what it keeps")
    log_level: str = _setting(
        "info", forms.one_of("debug", "info", "warning", "error"), "least level that is logged"
    )

    @property
    def profile(self) -> Profile:
        """Return the policy parameters: those of the named profile, but for the ones that are set."""
        base = forms.read_profile(self.policy_profile)
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
