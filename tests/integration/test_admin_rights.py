"""The admin listener: who asks, by token or certificate, in which role, and what is open to whom."""

import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from chatproxy.clock import wall_clock
from chatproxy.errors import ConfigurationError
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from integration.proxy_fixtures import PATIENCE, World, a_world, chatting, http_client
from integration.test_person_api import assert_problem

TOKENS = {role: f"the-token-of-{role}-people" for role in ("ops", "security", "privacy", "data")}
WITH_ROLES = ",".join(f"{role}-desk({role})={token}" for role, token in TOKENS.items())
TOKENS_SET = {"admin_token": WITH_ROLES}
YES = {"choice": "yes", "screen": "signup", "language": "en", "method": "signup:yes"}
UNKNOWN = "/subjects/" + 32 * "0"


def bearer(role: str) -> dict[str, str]:
    return {"authorization": f"Bearer {TOKENS[role]}"}


@pytest.fixture
def store(server: EmbeddedServer, connections: Connections) -> str:
    return server.url


@asynccontextmanager
async def an_admin(
    tmp_path: Path, store: str, settings: dict[str, str], *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[World, httpx.AsyncClient]]:
    """A world, and a client of its admin listener that says nothing of who it is."""
    async with (
        a_world(chatting(), tmp_path, store, clock=wall_clock, **settings) as world,
        httpx.AsyncClient(
            base_url=world.running.admin_url.replace("0.0.0.0", "127.0.0.1"),  # noqa: S104
            trust_env=False,
            timeout=PATIENCE,
            verify=tls or True,
        ) as client,
    ):
        yield world, client


def audited(tmp_path: Path) -> list[dict[str, Any]]:
    lines = (tmp_path / "data" / "audit" / "audit.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


# --- roles ---


@pytest.mark.parametrize(
    "method, path, body, roles",
    [
        ("POST", "/subjects", {"subject": "ana"}, {"privacy", "security"}),
        ("POST", "/links", {"subject": "ana"}, {"privacy"}),
        ("PUT", f"{UNKNOWN}/choice", YES, {"privacy"}),
        ("GET", f"{UNKNOWN}/choice", None, {"privacy", "data"}),
        ("DELETE", f"{UNKNOWN}/account", None, {"privacy"}),
        ("POST", f"{UNKNOWN}/minor", None, {"privacy", "security"}),
        ("GET", "/holds", None, {"security"}),
        ("GET", f"{UNKNOWN}/holds", None, {"privacy", "security"}),
    ],
    ids=str,
)
async def test_only_the_roles_of_the_table_may(
    tmp_path: Path, store: str, method: str, path: str, body: dict[str, str] | None, roles: set[str]
) -> None:
    async with an_admin(tmp_path, store, TOKENS_SET) as (world, client):
        for role in TOKENS:
            if role in roles:
                continue
            answer = await client.request(method, f"/api/v1{path}", json=body, headers=bearer(role))
            assert_problem(answer, 403, "not_allowed")
            assert answer.json()["detail"] == f"this needs the role {' or '.join(sorted(roles))}"
        assert not await world.running.vault.ledger.history(world.tag())
        assert not (tmp_path / "data" / "audit" / "audit.jsonl").exists()
        for role in roles:
            answer = await client.request(method, f"/api/v1{path}", json=body, headers=bearer(role))
            assert answer.status_code == 200, (role, answer.text)


async def test_the_audit_log_names_who_asked(tmp_path: Path, store: str) -> None:
    async with an_admin(tmp_path, store, TOKENS_SET) as (_, client):
        named = await client.post("/api/v1/subjects", json={"subject": "ana"}, headers=bearer("security"))
        person = f"/api/v1/subjects/{named.json()['subject']}"
        for method, path, body, role in (
            ("PUT", f"{person}/choice", YES, "privacy"),
            ("POST", "/api/v1/links", {"subject": "ana"}, "privacy"),
            ("POST", f"{person}/minor", None, "security"),
            ("DELETE", f"{person}/account", None, "privacy"),
        ):
            answer = await client.request(method, path, json=body, headers=bearer(role))
            assert answer.status_code == 200, answer.text
        imported = await client.post(
            "/api/v1/import", headers=bearer("privacy") | {"content-type": "application/x-ndjson"}
        )
        assert imported.status_code == 200, imported.text
        entries = [entry for entry in audited(tmp_path) if entry["action"] != "ledger.tightened"]
        privacy, security = "admin:privacy-desk(privacy)", "admin:security-desk(security)"
        assert [(entry["action"], entry["by"]) for entry in entries] == [
            ("choice.given", privacy),
            ("link.make", privacy),
            ("subject.minor", security),
            ("subject.account_deleted", privacy),
            ("choices.import", privacy),
            ("choices.imported", privacy),
        ]
        assert "ana" not in json.dumps([{**entry, "by": ""} for entry in entries])
        assert all(token not in json.dumps(entries) for token in TOKENS.values())


async def test_the_person_is_not_told_who_of_the_company_it_was(tmp_path: Path, store: str) -> None:
    async with an_admin(tmp_path, store, TOKENS_SET) as (world, client):
        await client.put(f"/api/v1/subjects/{world.tag().hex()}/choice", json=YES, headers=bearer("privacy"))
        [event] = await world.running.vault.ledger.history(world.tag())
        assert event.by == "company"


# --- what is open ---


async def test_on_loopback_health_and_metrics_are_open(tmp_path: Path, store: str) -> None:
    async with an_admin(tmp_path, store, TOKENS_SET) as (_, client):
        assert (await client.get("/healthz")).text == "alive\n"
        assert (await client.get("/readyz")).json() == {"ready": True, "reasons": []}
        assert b"chatproxy_turns_seen" in (await client.get("/metrics")).content


@pytest.mark.parametrize("how", ["another address", "by setting"])
async def test_elsewhere_metrics_and_reasons_need_the_role(tmp_path: Path, store: str, how: str) -> None:
    closed = {"admin_listen": "0.0.0.0:0"} if how == "another address" else {"admin_open": "false"}
    async with an_admin(tmp_path, store, TOKENS_SET | closed) as (_, client):
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/readyz")).json() == {"ready": True}
        for headers, status in (({}, 401), ({"authorization": "Bearer wrong"}, 401), (bearer("data"), 403)):
            answer = await client.get("/metrics", headers=headers)
            assert answer.status_code == status
            assert b"chatproxy_turns_seen" not in answer.content
            assert (await client.get("/readyz", headers=headers)).json() == {"ready": True}
        assert b"chatproxy_turns_seen" in (await client.get("/metrics", headers=bearer("ops"))).content
        told = await client.get("/readyz", headers=bearer("ops"))
        assert told.json() == {"ready": True, "reasons": []}


async def test_a_setting_opens_the_metrics_elsewhere(tmp_path: Path, store: str) -> None:
    settings = {"admin_listen": "0.0.0.0:0", "admin_open": "true"}
    async with an_admin(tmp_path, store, TOKENS_SET | settings) as (_, client):
        assert (await client.get("/metrics")).status_code == 200
        assert_problem(await client.post("/api/v1/subjects", json={"subject": "ana"}), 401, "unauthenticated")


# --- certificates ---


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def with_tls(directory: Path, authority: trustme.CA) -> dict[str, str]:
    """Settings of an admin listener that speaks TLS and believes the certificates of *authority*."""
    directory.mkdir(exist_ok=True)
    own = authority.issue_cert("127.0.0.1")
    own.private_key_pem.write_to_path(str(directory / "key.pem"))
    own.cert_chain_pems[0].write_to_path(str(directory / "cert.pem"))
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    return {
        "admin_tls_certificate": str(directory / "cert.pem"),
        "admin_tls_key": str(directory / "key.pem"),
        "admin_client_ca": str(directory / "ca.pem"),
        "admin_clients": "signup(privacy)=signup.internal,probe(ops)=probe.internal",
        "admin_open": "false",
    }


def a_client(
    authority: trustme.CA, *, name: str | None, signed_by: trustme.CA | None = None
) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if name is not None:
        (signed_by or authority).issue_cert(name).configure_cert(context)
    return context


async def status_of_call(
    tmp_path: Path, store: str, authority: trustme.CA, tls: ssl.SSLContext, headers: dict[str, str]
) -> int:
    settings = with_tls(tmp_path / "tls", authority) | TOKENS_SET
    async with an_admin(tmp_path, store, settings, tls=tls) as (_, client):
        answer = await client.post("/api/v1/links", json={"subject": "ana"}, headers=headers)
        return answer.status_code


@pytest.mark.parametrize(
    "name, headers, status",
    [
        pytest.param("signup.internal", {}, 200, id="a certificate with the role"),
        pytest.param("probe.internal", {}, 403, id="a certificate with another role"),
        pytest.param("other.internal", {}, 401, id="a certificate of nobody named"),
        pytest.param(None, {}, 401, id="no certificate"),
        pytest.param(None, bearer("privacy"), 200, id="a token over TLS"),
        pytest.param("signup.internal", {"authorization": "Bearer wrong"}, 401, id="a wrong token beside it"),
        pytest.param("signup.internal", bearer("data"), 403, id="a token of a lesser role beside it"),
    ],
)
async def test_who_asks_by_tls(
    tmp_path: Path,
    store: str,
    authority: trustme.CA,
    name: str | None,
    headers: dict[str, str],
    status: int,
) -> None:
    tls = a_client(authority, name=name)
    assert await status_of_call(tmp_path, store, authority, tls, headers) == status


async def test_a_certificate_of_another_authority_is_refused(
    tmp_path: Path, store: str, authority: trustme.CA
) -> None:
    tls = a_client(authority, name="signup.internal", signed_by=trustme.CA())
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError, httpx.ConnectError)):
        await status_of_call(tmp_path, store, authority, tls, {})


async def test_a_call_by_certificate_is_audited_by_its_name(
    tmp_path: Path, store: str, authority: trustme.CA
) -> None:
    tls = a_client(authority, name="signup.internal")
    assert await status_of_call(tmp_path, store, authority, tls, {}) == 200
    assert [entry["by"] for entry in audited(tmp_path)] == ["admin:signup(privacy)"]


async def test_a_listener_with_tls_speaks_nothing_else(
    tmp_path: Path, store: str, authority: trustme.CA
) -> None:
    async with an_admin(tmp_path, store, with_tls(tmp_path / "tls", authority)) as (world, _):
        url = world.running.admin_url
        assert url.startswith("https://")
        async with http_client() as plain:
            with pytest.raises(httpx.HTTPError):
                await plain.get(url.replace("https", "http") + "/healthz")


@pytest.mark.parametrize(
    "setting", ["admin_tls_certificate", "admin_tls_key", "admin_client_ca"], ids=lambda name: name
)
async def test_a_file_that_is_no_certificate_is_named(
    tmp_path: Path, store: str, authority: trustme.CA, setting: str
) -> None:
    settings = with_tls(tmp_path / "tls", authority) | {setting: str(tmp_path / "none.pem")}
    with pytest.raises(ConfigurationError, match=f"CHATPROXY_{setting.upper()} = .*none.pem"):
        async with an_admin(tmp_path, store, settings):
            pass
