"""What an operator may write into a setting, from where it is taken, and what is said of what cannot be taken."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pytest

from chatproxy.errors import ConfigurationError
from chatproxy.identities.operators import Operator, OperatorCertificate, OperatorToken, Role
from chatproxy.model import Origin
from chatproxy.policy.periods import DAY_MS, Period
from chatproxy.policy.profile import Periods, Profile, ResumeScope, UnknownAge
from chatproxy.rates import Rate
from chatproxy.settings import PREFIX, Address, Loaded, Settings, load_settings, shown
from chatproxy.wire.base import BlockOrigin

SECRET = "correct-horse-battery"
OTHER_SECRET = "staple-of-the-front"
COMPANY = Operator("company", frozenset(Role))
PAGER = Operator("pager", frozenset({Role.OPS, Role.SECURITY}))


@pytest.fixture(autouse=True)
def _away_from_the_files_of_this_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(environ: Mapping[str, str] | None = None, /, **settings: str) -> Settings:
    """Load settings given by field name, as environment variables."""
    return load_settings(
        {PREFIX + name.upper(): text for name, text in settings.items()} | dict(environ or {})
    ).settings


def problems(environ: Mapping[str, str] | None = None, /, **settings: str) -> list[str]:
    """Return the lines that a refusal says."""
    with pytest.raises(ConfigurationError) as refusal:
        load(environ, **settings)
    return str(refusal.value).splitlines()


def in_file(directory: Path, text: str) -> dict[str, str]:
    """Write a settings file and return the environment that names it."""
    path = directory / "settings.toml"
    path.write_text(text, encoding="utf-8")
    return {"CHATPROXY_CONFIG": str(path)}


def test_without_file_and_environment_all_is_built_in() -> None:
    loaded = load_settings({})

    assert loaded.settings == Settings()
    assert set(loaded.sources.values()) == {"built-in"}
    assert set(loaded.sources) == {field.name for field in dataclasses.fields(Settings)}


def test_the_built_in_policy_is_the_policys_own() -> None:
    assert Settings().profile == Profile()
    assert Settings().periods == Periods()


ACCEPTED = [
    ("upstream", "http://127.0.0.1:8000", "http://127.0.0.1:8000"),
    ("upstream", "https://chat.internal:8443/api/", "https://chat.internal:8443/api"),
    ("upstream", "http://[::1]:8000", "http://[::1]:8000"),
    ("upstream_ca_file", " /etc/ca.pem ", "/etc/ca.pem"),
    ("upstream_connect_timeout", "3s", 3.0),
    ("upstream_head_timeout", "2h", 7200.0),
    ("listen", "0.0.0.0:80", Address("0.0.0.0", 80)),  # noqa: S104 - a value, nothing listens
    ("listen", "[::1]:8080", Address("::1", 8080)),
    ("listen", "localhost:0", Address("localhost", 0)),
    ("admin_listen", "chat.internal:65535", Address("chat.internal", 65535)),
    ("media", "sealed", "sealed"),
    ("media_limit", "30MiB", 30 << 20),
    ("json_chats", "/etc/chats.toml", "/etc/chats.toml"),
    ("conversation_sources", "history, header", ("history", "header")),
    ("conversation_headers", "X-Thread, thread_id", ("x-thread", "thread_id")),
    ("identity", "jwt", "jwt"),
    ("jwt_jwks_url", "https://issuer.internal/keys", "https://issuer.internal/keys"),
    ("jwt_jwks_ca_file", "/etc/ca.pem", "/etc/ca.pem"),
    ("jwt_jwks_refresh", "10m", 600.0),
    ("jwt_jwks_max_age", "1d", 86_400.0),
    ("jwt_issuer", "https://issuer.internal/", "https://issuer.internal/"),
    ("jwt_audience", "chat, code", ("chat", "code")),
    ("jwt_algorithms", "EdDSA", ("EdDSA",)),
    ("jwt_leeway", "0", 0.0),
    ("jwt_header", "Cf-Access-Jwt-Assertion", "cf-access-jwt-assertion"),
    ("jwt_claim_subject", "user.id", "user.id"),
    ("jwt_claim_tenant", "org", "org"),
    ("jwt_claim_plan", "plan", "plan"),
    ("jwt_claim_conversation", "sid", "sid"),
    ("jwt_claim_surface", "surface", "surface"),
    ("jwt_claim_age", "age", "age"),
    ("jwt_claim_zdr", "zdr", "zdr"),
    ("api_keys_file", "/etc/keys", "/etc/keys"),
    ("client_head_timeout", "5s", 5.0),
    ("client_body_timeout", "1m", 60.0),
    ("client_body_rate", "64KiB", 65_536),
    ("client_take_timeout", "2m", 120.0),
    ("client_idle_timeout", "5m", 300.0),
    ("client_connections", "100000", 100_000),
    ("client_connections_per_address", "10", 10),
    ("request_body_limit", "32MiB", 32 << 20),
    ("request_head_limit", "1MiB", 1 << 20),
    ("request_header_limit", "32KiB", 32_768),
    ("request_header_count", "200", 200),
    ("request_target_limit", "64KiB", 65_536),
    ("request_hosts", "Chat.example.com, [::1]", ("chat.example.com", "[::1]")),
    ("workers", "1", 1),
    ("workers", "4", 4),
    ("drain_time", "0", 0.0),
    ("drain_time", "0s", 0.0),
    ("drain_time", "1w", 604_800.0),
    ("store", "embedded", "embedded"),
    ("store", "redis://u:p@store:6379/1", "redis://u:p@store:6379/1"),
    ("store", "rediss://store", "rediss://store"),
    ("store", "unix:///run/valkey.sock", "unix:///run/valkey.sock"),
    ("store", "redis+cluster://a,b:7000", "redis+cluster://a,b:7000"),
    ("store", "rediss+sentinel://a,b/chats", "rediss+sentinel://a,b/chats"),
    ("store_replicas", "1", 1),
    ("store_timeout", "1m", 60.0),
    ("store_longest_pause", "60d", 5_184_000.0),
    ("store_allow_volatile", "true", True),
    ("store_allow_volatile", "FALSE", False),
    ("retention_service", "30d", Period(ms=30 * DAY_MS)),
    ("retention_service", "720h", Period(ms=30 * DAY_MS)),
    ("retention_training", "5y", Period(years=5)),
    ("retention_incognito", "0", Period()),
    ("retention_incognito", "0d", Period()),
    ("retention_withdrawn", "0", Period()),
    ("plans_consumer", "Free, Plus", ("free", "plus")),
    ("plans_exempt", "business,", ("business",)),
    ("policy_profile", "strict", "strict"),
    ("policy_resume_scope", "new_turns_only", "new_turns_only"),
    ("policy_on_withdraw", "keep_quarantined", "keep_quarantined"),
    ("policy_exempt_mode", "store_30d", "store_30d"),
    ("policy_unknown_age", "ineligible", "ineligible"),
    ("policy_flagged_capability", "allow", "allow"),
    ("choice_deadline", "2025-10-08T00:00:00Z", "2025-10-08T00:00:00Z"),
    ("choice_deadline", "2025-10-08T00:00:00+02:00", "2025-10-08T00:00:00+02:00"),
    ("choice_missing", "treat_as_refused", "treat_as_refused"),
    ("choice_missing", "gate", "gate"),
    ("choice_notices", "/etc/chatproxy/choice", "/etc/chatproxy/choice"),
    (
        "choice_url",
        "https://chat.example.com/privacy?from=gate",
        "https://chat.example.com/privacy?from=gate",
    ),
    ("choice_url", "/_chatproxy/", "/_chatproxy/"),
    ("consent_source", "builtin", "builtin"),
    ("consent_source", "https://consent.internal/choices?v=1", "https://consent.internal/choices?v=1"),
    ("consent_source", "http://127.0.0.1:9000/", "http://127.0.0.1:9000/"),
    ("consent_service_secret", f"{SECRET}, {OTHER_SECRET}", (SECRET, OTHER_SECRET)),
    ("consent_service_token", "t0ken", "t0ken"),
    ("consent_service_ca_file", "/etc/ca.pem", "/etc/ca.pem"),
    ("consent_service_connect_timeout", "2s", 2.0),
    ("consent_service_timeout", "5s", 5.0),
    ("consent_max_staleness", "0", 0.0),
    ("keyset", "file:/etc/keys/keyset", "file:/etc/keys/keyset"),
    ("keyset", "env:CHAT_KEYSET", "env:CHAT_KEYSET"),
    ("keyset_token", " hvs.token ", "hvs.token"),
    ("keyset_ca_file", "/etc/ca.pem", "/etc/ca.pem"),
    ("key_rotation", "21d", 1_814_400.0),
    ("key_rotation", "0", 0.0),
    ("key_soak", "0s", 0.0),
    ("key_grace", "3d", 259_200.0),
    ("erasure_horizon", "30d", Period(ms=30 * DAY_MS)),
    ("epoch_grace", "48h", 172_800.0),
    ("epoch_grace", "0", 0.0),
    ("export_min_age", "7d", 604_800.0),
    ("export_min_age", "0", 0.0),
    ("recall_deadline", "30d", 2_592_000.0),
    ("identity", "headers", "headers"),
    ("trusted_proxies", "", ()),
    ("identity_secret", SECRET, (SECRET,)),
    ("person_rate", "5/1s", Rate(5, 1000)),
    ("access_rate", "1/1h", Rate(1, 3_600_000)),
    ("address_rate", "1/24h", Rate(1, 86_400_000)),
    ("admin_token", SECRET, (OperatorToken(COMPANY, SECRET),)),
    (
        "admin_token",
        f"{SECRET}, pager(ops+security)={OTHER_SECRET}",
        (OperatorToken(COMPANY, SECRET), OperatorToken(PAGER, OTHER_SECRET)),
    ),
    (
        "admin_clients",
        "pager(ops+security)=pager.internal",
        (OperatorCertificate(PAGER, "pager.internal"),),
    ),
    ("admin_client_ca", "/etc/ca.pem", "/etc/ca.pem"),
    ("admin_tls_certificate", "/etc/admin.pem", "/etc/admin.pem"),
    ("admin_tls_key", "/etc/admin.key", "/etc/admin.key"),
    ("admin_open", "true", True),
    ("public_url", "https://Chat.example.com:443/", "https://chat.example.com"),
    ("public_url", "http://[::1]:8080", "http://[::1]:8080"),
    (
        "api_origins",
        "https://a.example, http://localhost:3000",
        ("https://a.example", "http://localhost:3000"),
    ),
    ("link_lifetime", "5m", 300.0),
    ("session_lifetime", "24h", 86_400.0),
    ("identity_secret", f"{SECRET}, {OTHER_SECRET}", (SECRET, OTHER_SECRET)),
    ("connector_tools", "", ()),
    ("connector_tools", "mcp__*, drive_*", ("mcp__*", "drive_*")),
    ("block_origins", "", ()),
    (
        "block_origins",
        "drive_*=connector_raw, pasted = connector_pasted,doc=upload",
        (
            BlockOrigin("drive_*", Origin.CONNECTOR_RAW),
            BlockOrigin("pasted", Origin.CONNECTOR_PASTED),
            BlockOrigin("doc", Origin.UPLOAD),
        ),
    ),
    ("response_headers", "false", False),
    ("capture_durability", "strict", "strict"),
    ("capture_durability", "relaxed", "relaxed"),
    ("capture_failure", "refuse", "refuse"),
    ("capture_limit", "512KiB", 512 * 1024),
    ("capture_queue", "1GiB", 1 << 30),
    ("capture_queue", "1000B", 1000),
    ("journal_size", "10GiB", 10 << 30),
    ("websocket_idle_timeout", "1h", 3600.0),
    ("node", "eu-1", "eu-1"),
    ("log_level", "debug", "debug"),
]


ISSUER = {
    "jwt_jwks_url": "https://issuer.internal/keys",
    "jwt_issuer": "https://issuer.internal/",
    "jwt_audience": "chat",
}
ADMIN_TLS = {"admin_tls_certificate": "/etc/admin.pem", "admin_tls_key": "/etc/admin.key"}
CLIENTS = "pager(ops+security)=pager.internal"
NEEDED = {
    ("admin_listen", "chat.internal:65535"): {"admin_token": SECRET},
    ("admin_clients", CLIENTS): ADMIN_TLS | {"admin_client_ca": "/etc/ca.pem"},
    ("admin_client_ca", "/etc/ca.pem"): ADMIN_TLS | {"admin_clients": CLIENTS},
    ("admin_tls_certificate", "/etc/admin.pem"): ADMIN_TLS,
    ("admin_tls_key", "/etc/admin.key"): ADMIN_TLS,
    ("identity", "jwt"): ISSUER,
    ("choice_missing", "gate"): {"choice_deadline": "2025-10-08T00:00:00Z"},
    ("consent_source", "https://consent.internal/choices?v=1"): {"consent_service_secret": SECRET},
    ("consent_source", "http://127.0.0.1:9000/"): {"consent_service_secret": SECRET},
}
"""What a value cannot be without."""


@pytest.mark.parametrize("name, text, value", ACCEPTED, ids=[f"{name} {text}" for name, text, _ in ACCEPTED])
def test_a_form_that_is_accepted_means_this(name: str, text: str, value: object) -> None:
    assert getattr(load(**({name: text} | NEEDED.get((name, text), {}))), name) == value


def test_every_setting_has_an_accepted_form_in_the_table_above() -> None:
    tested = {name for name, _, _ in ACCEPTED} | {"upstream_idle_timeout", "store_ca_file", "data_dir"}
    periods = {field.name for field in dataclasses.fields(Settings) if field.name.startswith("retention_")}

    assert tested | periods == {field.name for field in dataclasses.fields(Settings)}


@pytest.mark.parametrize(
    "settings, named",
    [
        ({"erasure_horizon": "8d"}, "CHATPROXY_KEY_GRACE together must be shorter"),
        ({"key_rotation": "23d"}, "CHATPROXY_KEY_GRACE together must not be longer"),
    ],
    ids=["soak and grace alone", "with the period of rotation"],
)
def test_a_horizon_that_cannot_hold_is_refused(settings: dict[str, str], named: str) -> None:
    [problem] = problems(**settings)

    assert named in problem
    assert "CHATPROXY_ERASURE_HORIZON" in problem


def test_a_rotation_that_just_fits_the_horizon_is_accepted() -> None:
    assert load(key_rotation="22d").key_rotation == 22 * 86_400


def test_networks_are_read_as_addresses_or_networks() -> None:
    networks = load(trusted_proxies="10.0.0.5, 192.168.0.0/16,::1").trusted_proxies

    assert [str(network) for network in networks] == ["10.0.0.5/32", "192.168.0.0/16", "::1/128"]


DURATIONS = (
    "retention_service",
    "retention_withdrawn",
    "erasure_horizon",
    "store_timeout",
    "consent_max_staleness",
)
REFUSED_DURATIONS = [
    pytest.param("30", id="a number without a unit"),
    pytest.param('"30"', id="a quoted number"),
    pytest.param("30 d", id="a space between"),
    pytest.param("", id="nothing"),
    pytest.param("-1", id="negative"),
    pytest.param("-1d", id="negative days"),
    pytest.param("1.5d", id="a fraction"),
    pytest.param("030d", id="a leading zero"),
    pytest.param("30D", id="a unit in capitals"),
    pytest.param("30days", id="a unit in words"),
    pytest.param("1d12h", id="two units"),
    pytest.param("\u0663d", id="a digit of another script"),
]


@pytest.mark.parametrize("name", DURATIONS)
@pytest.mark.parametrize("text", REFUSED_DURATIONS)
def test_a_duration_is_a_whole_number_and_a_unit_or_an_error(name: str, text: str) -> None:
    [problem] = problems(**{name: text})

    assert problem.startswith(f"{PREFIX}{name.upper()} = {text!r} (from {PREFIX}{name.upper()}) must be")
    assert "30d" in problem


@pytest.mark.parametrize("text", ["0", "0s", "0d", "0y"])
@pytest.mark.parametrize(
    "name",
    [
        "retention_service",
        "retention_training",
        "retention_safety",
        "retention_safety_score",
        "retention_feedback",
        "retention_session_share",
        "erasure_horizon",
        "store_timeout",
        "upstream_connect_timeout",
        "upstream_head_timeout",
        "upstream_idle_timeout",
        "client_head_timeout",
        "client_connections",
        "request_header_count",
    ],
)
def test_zero_is_an_error_where_it_makes_no_sense(name: str, text: str) -> None:
    [problem] = problems(**{name: text})

    assert f"{PREFIX}{name.upper()}" in problem
    assert "must" in problem


@pytest.mark.parametrize(
    "name, text, said",
    [
        pytest.param("upstream", "", "http:// or https:// URL", id="no upstream"),
        pytest.param(
            "upstream", "chat.internal:8080", "http:// or https:// URL", id="an upstream without scheme"
        ),
        pytest.param(
            "upstream", "ftp://chat.internal", "http:// or https:// URL", id="an upstream of another scheme"
        ),
        pytest.param("upstream", "http://chat:99999", "http:// or https:// URL", id="a port that is none"),
        pytest.param("upstream", "http://[::1", "http:// or https:// URL", id="half an IPv6 address"),
        pytest.param("upstream", "http://chat/v1?x=1", "without user, query", id="an upstream with a query"),
        pytest.param("upstream", "http://chat/#x", "without user, query", id="an upstream with a fragment"),
        pytest.param("upstream", "http://chat/a/../b", "dots as path segments", id="an upstream with dots"),
        pytest.param("upstream", "http://chat/a b", "such as https://", id="an upstream with a space"),
        pytest.param("listen", "8080", "host:port", id="a port alone"),
        pytest.param("listen", ":8080", "host:port", id="no host"),
        pytest.param("listen", "::1:8080", "[::1]:8080", id="an IPv6 address without brackets"),
        pytest.param("listen", "127.0.0.1:65536", "host:port", id="a port too high"),
        pytest.param("workers", "0", "whole number from 1", id="no workers"),
        pytest.param("workers", "two", "whole number from 1", id="workers in words"),
        pytest.param("drain_time", "1y", "such as 60s", id="a year of draining"),
        pytest.param("store_ca_file", "  ", "must not be empty", id="a file without a name"),
        pytest.param("store_allow_volatile", "yes", "true or false", id="yes"),
        pytest.param("store_allow_volatile", "1", "true or false", id="1"),
        pytest.param("plans_consumer", " , ", "at least one plan", id="no plans"),
        pytest.param("policy_profile", "lenient", "standard, strict", id="an unknown profile"),
        pytest.param(
            "policy_resume_scope", "none", "whole_conversation, new_turns_only", id="an unknown scope"
        ),
        pytest.param("choice_deadline", "2025-10-08", "with its zone", id="a day"),
        pytest.param("choice_deadline", "2025-10-08T00:00:00", "with its zone", id="an instant without zone"),
        pytest.param("choice_deadline", "soon", "with its zone", id="a word for an instant"),
        pytest.param("choice_url", "chat.example.com", "with a path", id="an address without scheme"),
        pytest.param("choice_url", "https://chat.example.com", "with a path", id="an address without path"),
        pytest.param("choice_url", "/choose here", "with a path", id="an address with a space"),
        pytest.param("choice_missing", "treat_as_given", "treat_as_refused", id="silence as consent"),
        pytest.param(
            "consent_source",
            "https://consent/",
            "CONSENT_SERVICE_SECRET",
            id="a consent service without a secret",
        ),
        pytest.param(
            "consent_source",
            "http://consent.internal/",
            "this machine alone",
            id="choices in clear over a network",
        ),
        pytest.param("consent_service_token", "two words", "without spaces", id="a token with a space"),
        pytest.param("keyset", "/etc/keyset", "file:PATH", id="a keyset without scheme"),
        pytest.param("keyset", "file:", "file:PATH", id="a keyset without path"),
        pytest.param("keyset", "vault:transit/chatproxy", "transit:https://", id="another vault's form"),
        pytest.param("keyset", "transit:http://vault/transit/x", "by https", id="a vault without TLS"),
        pytest.param(
            "keyset",
            "transit:https://vault/transit/x",
            "needs CHATPROXY_KEYSET_TOKEN",
            id="a vault without token",
        ),
        pytest.param(
            "conversation_sources",
            "guess",
            "dialect, header, history, identity",
            id="a source that does not exist",
        ),
        pytest.param("block_origins", "drive_*", "drive_*=connector_raw", id="a block without an origin"),
        pytest.param("block_origins", "=upload", "drive_*=connector_raw", id="an origin of no block"),
        pytest.param("block_origins", "doc=typed", "upload, connector_raw", id="an origin that is no rule's"),
        pytest.param("conversation_sources", "history,history", "each once", id="a source twice"),
        pytest.param("conversation_headers", "x chat", "names of headers", id="no name of a header"),
        pytest.param("conversation_headers", "x-api-key", "a credential", id="a credential for a name"),
        pytest.param("conversation_headers", "x_chat_subject", "chatproxy's own", id="an identity header"),
        pytest.param("identity", "none", "headers, jwt, api_keys", id="an unknown identity"),
        pytest.param(
            "jwt_jwks_url", "http://issuer.internal/keys", "https", id="keys in clear over a network"
        ),
        pytest.param("jwt_algorithms", "HS256", "ES256", id="a shared key for tokens"),
        pytest.param("jwt_algorithms", "none", "ES256", id="no signature"),
        pytest.param("jwt_audience", ",", "at least one", id="no audience"),
        pytest.param(
            "jwt_header", "x-chat-subject", "not one of chatproxy's own", id="a header that never counts"
        ),
        pytest.param("trusted_proxies", "front.internal", "addresses or networks", id="a host name"),
        pytest.param("trusted_proxies", "10.0.0.1/8", "addresses or networks", id="a network with host bits"),
        pytest.param("capture_failure", "ignore", "serve, refuse", id="an unknown choice"),
        pytest.param("capture_limit", "64", "64MiB", id="a size without unit"),
        pytest.param("capture_limit", "64MB", "64MiB", id="a size in another unit"),
        pytest.param("capture_limit", "0MiB", "64MiB", id="no size"),
        pytest.param("log_level", "INFO", "debug, info", id="a level in capitals"),
        pytest.param("node", "", "must not be empty", id="no name"),
    ],
)
def test_what_is_not_accepted_is_refused_by_name_with_the_form(name: str, text: str, said: str) -> None:
    [problem] = problems(**{name: text})

    assert f"{PREFIX}{name.upper()}" in problem
    assert said in problem


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("short", id="too short"),
        pytest.param(f"{SECRET},short", id="the second too short"),
        pytest.param(f"{SECRET},{OTHER_SECRET},{SECRET}", id="three"),
        pytest.param("passwörter-sind-gut", id="not ASCII"),
    ],
)
def test_a_secret_that_is_refused_is_not_repeated(text: str) -> None:
    [problem] = problems(identity_secret=text)

    assert problem.startswith(
        "CHATPROXY_IDENTITY_SECRET (from CHATPROXY_IDENTITY_SECRET) must be one ASCII secret"
    )
    assert not text or text not in problem


@pytest.mark.parametrize("text", ["redis+bus://store", "http://store", "store:6379", "redis://", ""])
def test_a_store_that_is_refused_is_not_repeated(text: str) -> None:
    [problem] = problems(store=text)

    assert problem.startswith("CHATPROXY_STORE (from CHATPROXY_STORE) must be embedded, redis://HOST:PORT/DB")


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("http://someone:hunter2@chat.internal", id="a password"),
        pytest.param("http://someone:hunter2/x@chat.internal", id="a password with a slash"),
        pytest.param("http://chat.internal/?key=hunter2", id="a query"),
    ],
)
def test_credentials_in_an_upstream_are_refused_and_not_repeated(url: str) -> None:
    [problem] = problems(upstream=url)

    assert "without user, query" in problem
    assert "hunter2" not in problem


def test_all_problems_are_told_at_once() -> None:
    told = problems(
        {"CHATPROXY_RETENTION": "30d", "CHATPROXY_IDENTITY_SECRET_FILE": "/nowhere/secret"},
        upstream="chat",
        retention_service="30",
        workers="0",
    )

    assert [line.split()[0].rstrip(":") for line in told] == [
        "CHATPROXY_IDENTITY_SECRET_FILE",
        "CHATPROXY_RETENTION",
        "CHATPROXY_UPSTREAM",
        "CHATPROXY_WORKERS",
        "CHATPROXY_RETENTION_SERVICE",
    ]


@pytest.mark.parametrize(
    "variable", ["CHATPROXY_RETENTION_DAYS", "CHATPROXY_UPSTREAM_FILE", "CHATPROXY_upstream", "CHATPROXY_"]
)
def test_a_variable_that_is_no_setting_is_an_error(variable: str) -> None:
    [problem] = problems({variable: "30d"})

    assert problem.startswith(f"{variable} is not a setting")
    assert "docs/settings.md" in problem


def test_what_kubernetes_injects_for_a_service_called_chatproxy_is_passed_over() -> None:
    injected = {
        "CHATPROXY_SERVICE_HOST": "10.96.0.7",
        "CHATPROXY_SERVICE_PORT": "8080",
        "CHATPROXY_SERVICE_PORT_HTTP": "8080",
        "CHATPROXY_PORT": "tcp://10.96.0.7:8080",
        "CHATPROXY_PORT_8080_TCP": "tcp://10.96.0.7:8080",
        "CHATPROXY_PORT_8080_TCP_ADDR": "10.96.0.7",
    }

    assert load(injected) == Settings()


def test_variables_of_other_programs_are_nobodys_business() -> None:
    assert load({"PATH": "/usr/bin", "CHAT_PROXY_UPSTREAM": "x", "MY_CHATPROXY_UPSTREAM": "x"}) == Settings()


# --- from where ---


def test_environment_wins_over_file_and_file_over_built_in(tmp_path: Path) -> None:
    environ = in_file(tmp_path, 'node = "from-file"\nlog_level = "error"\n')

    loaded = load_settings(environ | {"CHATPROXY_NODE": "from-environment"})

    assert (loaded.settings.node, loaded.settings.log_level) == ("from-environment", "error")
    assert loaded.sources["node"] == "CHATPROXY_NODE"
    assert loaded.sources["log_level"] == environ["CHATPROXY_CONFIG"]
    assert loaded.sources["listen"] == "built-in"


def test_the_command_line_wins_over_all() -> None:
    loaded = load_settings({"CHATPROXY_NODE": "from-environment"}, overrides={"node": "told"})

    assert (loaded.settings.node, loaded.sources["node"]) == ("told", "command line")


def test_the_file_in_its_usual_place_is_read(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "chatproxy.toml").write_text('node = "usual"')

    assert load_settings({}).settings.node == "usual"


def test_a_file_that_is_named_takes_the_place_of_the_usual_one(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "chatproxy.toml").write_text('node = "usual"')

    assert load(in_file(tmp_path, 'log_level = "error"')).node == "node-1"


@pytest.mark.parametrize(
    "text, name, value",
    [
        pytest.param('retention_training = "5y"', "retention_training", Period(years=5), id="text"),
        pytest.param("workers = 1", "workers", 1, id="a number"),
        pytest.param("store_allow_volatile = true", "store_allow_volatile", True, id="true"),
        pytest.param('plans_consumer = ["free", "plus"]', "plans_consumer", ("free", "plus"), id="a list"),
        pytest.param('plans_consumer = "free,plus"', "plans_consumer", ("free", "plus"), id="a list as text"),
        pytest.param("trusted_proxies = []", "trusted_proxies", (), id="an empty list"),
    ],
)
def test_the_file_has_types_of_its_own(tmp_path: Path, text: str, name: str, value: object) -> None:
    assert getattr(load(in_file(tmp_path, text)), name) == value


@pytest.mark.parametrize(
    "text, said",
    [
        pytest.param(
            "retention_service = 30", "a whole number and a unit", id="a number where a unit belongs"
        ),
        pytest.param("retention_service = 0", "must", id="zero"),
        pytest.param("drain_time = 1.5", "must be text, a number, true, false", id="a fraction"),
        pytest.param(
            "choice_deadline = 2025-10-08T00:00:00Z", "must be text", id="an instant that is not text"
        ),
        pytest.param("plans_consumer = [1]", "a list of text", id="a list of numbers"),
        pytest.param("[retention]\nservice = '30d'", "retention in", id="a table"),
        pytest.param("Node = 'x'", "Node in", id="a name in capitals"),
        pytest.param("node = ", "is not valid TOML", id="no TOML"),
    ],
)
def test_what_the_file_may_not_say_is_refused(tmp_path: Path, text: str, said: str) -> None:
    environ = in_file(tmp_path, text)

    [problem] = problems(environ)

    assert said in problem
    assert environ["CHATPROXY_CONFIG"] in problem


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bytes.toml").write_bytes(b"node = '\xff'")

    [problem] = problems({"CHATPROXY_CONFIG": str(tmp_path / "bytes.toml")})

    assert "is not valid TOML" in problem


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    [problem] = problems({"CHATPROXY_CONFIG": str(tmp_path / "missing.toml")})

    assert problem == f"CHATPROXY_CONFIG: {tmp_path}/missing.toml cannot be read: No such file or directory"


# --- secrets ---


@pytest.mark.parametrize(
    "name, text, value",
    [("identity_secret", SECRET, (SECRET,)), ("store", "redis://u:p@store", "redis://u:p@store")],
)
def test_a_secret_may_lie_in_a_file_of_its_own(tmp_path: Path, name: str, text: str, value: object) -> None:
    (tmp_path / "secret").write_text(text + "\n")
    variable = f"{PREFIX}{name.upper()}_FILE"

    loaded = load_settings({variable: str(tmp_path / "secret")})

    assert getattr(loaded.settings, name) == value
    assert loaded.sources[name] == variable


def test_a_secrets_file_wins_over_the_settings_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(OTHER_SECRET)
    environ = in_file(tmp_path, f'identity_secret = "{SECRET}"')

    settings = load(environ | {"CHATPROXY_IDENTITY_SECRET_FILE": str(tmp_path / "secret")})

    assert settings.identity_secret == (OTHER_SECRET,)


def test_a_secret_and_its_file_are_one_too_many(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)

    [problem] = problems({"CHATPROXY_IDENTITY_SECRET_FILE": str(tmp_path / "secret")}, identity_secret=SECRET)

    assert (
        problem == "CHATPROXY_IDENTITY_SECRET_FILE and CHATPROXY_IDENTITY_SECRET are both set; set only one"
    )


@pytest.mark.parametrize(
    "content, said",
    [(None, "No such file or directory"), (b"\xff\xfe" * 20, "it is not UTF-8 text")],
    ids=["missing", "no text"],
)
def test_a_secrets_file_that_cannot_be_read_is_an_error(
    tmp_path: Path, content: bytes | None, said: str
) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)

    [problem] = problems({"CHATPROXY_IDENTITY_SECRET_FILE": str(path)})

    assert problem == f"CHATPROXY_IDENTITY_SECRET_FILE: {path} cannot be read: {said}"


def test_secrets_are_in_no_repr() -> None:
    loaded: Loaded = load_settings(
        {"CHATPROXY_IDENTITY_SECRET": SECRET, "CHATPROXY_STORE": "redis://u:hunter2@store"}
    )

    assert SECRET not in repr(loaded)
    assert "hunter2" not in repr(loaded)


# --- what does not go together ---


@pytest.mark.parametrize(
    "settings, named",
    [
        pytest.param(
            {"plans_consumer": "free,team"},
            ("PLANS_CONSUMER", "PLANS_EXEMPT", "team"),
            id="a plan on both sides",
        ),
        pytest.param(
            {"retention_training": "29d"},
            ("RETENTION_TRAINING", "RETENTION_SERVICE"),
            id="training under service",
        ),
        pytest.param(
            {"listen": "0.0.0.0:9000", "admin_listen": "0.0.0.0:9000", "admin_token": SECRET},
            ("LISTEN", "ADMIN_LISTEN"),
            id="two listeners at one address",
        ),
        pytest.param(
            {"identity": "jwt"} | {name: text for name, text in ISSUER.items() if name != "jwt_audience"},
            ("IDENTITY = jwt", "JWT_AUDIENCE"),
            id="tokens for anybody",
        ),
        pytest.param(
            {"admin_listen": "0.0.0.0:9000"},
            ("ADMIN_LISTEN = 0.0.0.0:9000", "ADMIN_TOKEN_FILE", "ADMIN_CLIENTS", "127.0.0.1"),
            id="an admin listener for the world",
        ),
        pytest.param({"admin_listen": "[::]:9000"}, ("ADMIN_LISTEN",), id="the same over IPv6"),
        pytest.param({"admin_listen": "chat.internal:1"}, ("ADMIN_LISTEN",), id="the same by a name"),
        pytest.param(
            {"admin_tls_key": "k.pem"}, ("ADMIN_TLS_CERTIFICATE", "ADMIN_TLS_KEY"), id="a key to nothing"
        ),
        pytest.param(
            {"admin_client_ca": "ca.pem"}, ("ADMIN_CLIENTS", "ADMIN_CLIENT_CA"), id="an authority for nobody"
        ),
        pytest.param(
            {"admin_client_ca": "ca.pem", "admin_clients": CLIENTS},
            ("ADMIN_CLIENTS", "ADMIN_TLS_CERTIFICATE"),
            id="certificates without TLS",
        ),
        pytest.param(
            ADMIN_TLS
            | {
                "admin_client_ca": "ca.pem",
                "admin_clients": CLIENTS,
                "admin_token": f"pager(data)={SECRET}",
            },
            ("ADMIN_TOKEN", "ADMIN_CLIENTS", "pager"),
            id="one name with two meanings",
        ),
        pytest.param({"identity": "api_keys"}, ("API_KEYS_FILE",), id="API keys from nowhere"),
        pytest.param(
            {"identity": "jwt", "trusted_proxies": "10.0.0.1"} | ISSUER,
            ("TRUSTED_PROXIES", "would not count"),
            id="a front beside tokens",
        ),
        pytest.param({"jwt_jwks_refresh": "5s"}, ("JWT_JWKS_REFRESH", "10s"), id="keys fetched all the time"),
        pytest.param(
            {"jwt_jwks_max_age": "1m"},
            ("JWT_JWKS_MAX_AGE", "JWT_JWKS_REFRESH"),
            id="keys older than they may be",
        ),
        pytest.param({"jwt_leeway": "1h"}, ("JWT_LEEWAY", "10m"), id="tokens for ever"),
        pytest.param(
            {"choice_missing": "gate"}, ("CHOICE_MISSING = gate", "CHOICE_DEADLINE"), id="a gate never closed"
        ),
        pytest.param(
            {"capture_limit": "46MiB"}, ("CAPTURE_LIMIT", "45MiB"), id="a copy that cannot be read again"
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    settings: dict[str, str], named: tuple[str, ...]
) -> None:
    [problem] = problems(**settings)

    assert all(name in problem for name in named)


def test_two_listeners_may_both_take_any_free_port() -> None:
    assert load(listen="127.0.0.1:0", admin_listen="127.0.0.1:0").listen.port == 0


# --- the policy ---


def test_a_deadline_is_an_instant_whatever_zone_it_is_written_in() -> None:
    assert load().deadline is None
    assert load(choice_deadline="1970-01-02T01:00:00+01:00").deadline == DAY_MS


def test_single_parameters_are_set_over_the_profiles() -> None:
    profile = load(policy_profile="strict", policy_unknown_age="adult").profile

    assert profile.name == "strict"
    assert profile.resume_scope is ResumeScope.NEW_TURNS_ONLY
    assert profile.unknown_age is UnknownAge.ADULT
    assert profile.incognito_days == 0


def test_plans_and_periods_reach_the_policy() -> None:
    settings = load(
        plans_consumer="plus", plans_exempt="business", retention_training="3y", retention_withdrawn="0"
    )

    assert settings.profile.consumer_plans == {"plus"}
    assert settings.profile.exempt_plans == {"business"}
    assert settings.periods == Periods(training=Period(years=3), withdrawn=Period())


# --- shown ---


@pytest.mark.parametrize(
    "name, text, form",
    [
        ("upstream", "http://chat", "http://chat"),
        ("listen", "[::1]:8080", "[::1]:8080"),
        ("drain_time", "90s", "90s"),
        ("drain_time", "60s", "1m"),
        ("retention_training", "5y", "5y"),
        ("retention_withdrawn", "0", "0d"),
        ("store_allow_volatile", "true", "true"),
        ("trusted_proxies", "10.0.0.5,::1", "10.0.0.5/32,::1/128"),
        ("capture_limit", "1024KiB", "1MiB"),
        ("capture_queue", "1000B", "1000B"),
        ("identity_secret", SECRET, "(hidden)"),
        ("store", "embedded", "embedded"),
        ("store", "redis://store:6379/1", "redis://store:6379/1"),
        ("store", "redis://u:hunter2@store:6379/1", "redis://(hidden)@store:6379/1"),
        ("store", "redis://:hun@ter2@store", "redis://(hidden)@store"),
        ("store", "redis://:hun/ter2@store", "redis://(hidden)@store"),
        ("store", "redis://store?password=hunter2", "redis://store?(hidden)"),
        ("store", "unix://u:hunter2@/run/s.sock", "unix://(hidden)@/run/s.sock"),
    ],
)
def test_a_setting_is_shown_as_it_is_written_but_for_secrets(name: str, text: str, form: str) -> None:
    assert shown(load(**{name: text}), name) == form


def test_what_is_shown_of_the_defaults_loads_to_the_defaults() -> None:
    texts = {
        field.name: text
        for field in dataclasses.fields(Settings)
        if (text := shown(Settings(), field.name)) is not None
    }

    assert load(**texts) == Settings()


def test_a_profile_may_be_a_file(tmp_path: Path) -> None:
    file = tmp_path / "profile.json"
    file.write_text('{"name": "standard", "exempt_mode": "store_30d", "incognito_days": 7}')

    profile = load(policy_profile=str(file), policy_unknown_age="ineligible").profile

    assert (profile.exempt_mode, profile.incognito_days) == ("store_30d", 7)
    assert profile.unknown_age == "ineligible"


@pytest.mark.parametrize(
    "text, said",
    [("{", "not JSON"), ('{"exempt_mod": "store_30d"}', "exempt_mod"), (None, "readable JSON file")],
    ids=["broken", "an unknown parameter", "missing"],
)
def test_a_profile_file_that_cannot_be_used_is_refused(tmp_path: Path, text: str | None, said: str) -> None:
    file = tmp_path / "profile.json"
    if text is not None:
        file.write_text(text)

    [problem] = problems(policy_profile=str(file))

    assert said in problem
    assert "POLICY_PROFILE" in problem


def test_a_vault_keeps_the_root_with_a_token_that_is_not_shown() -> None:
    settings = load(keyset="transit:https://vault:8200/transit/chatproxy", keyset_token="hvs.canary")

    assert settings.keyset == "transit:https://vault:8200/transit/chatproxy"
    assert "canary" not in repr(settings) + str(shown(settings, "keyset_token"))
    [problem] = problems(keyset="transit:https://u:canary@vault/transit/x", keyset_token="x")
    assert "canary" not in problem
