"""The root in a vault that lies, stalls, redirects or is away. What a real one does: tests/vault."""

import asyncio
import json
import ssl
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import respx

from chatproxy.crypto.keys import KeyStatus
from chatproxy.errors import (
    KeysetError,
    RootRefusedError,
    RootUnavailableError,
    StoreUnavailableError,
    UndecryptableError,
)
from chatproxy.kms.opening import keyset_source
from chatproxy.kms.transit import TransitRoot
from chatproxy.kms.transit_address import TransitAddress
from chatproxy.kms.vault_api import LARGEST, MOST_TRIES, REST_MS, NoKeyError, VaultAPI
from simulators.vault import SimulatedVault

URL = "transit:https://vault.internal:8200/transit/chatproxy"
API = "https://vault.internal:8200/v1/transit"
TOKEN = "hvs.canary-of-the-token"
KEY, OTHER = bytes(range(32)), bytes(range(1, 33))
NOW = 1_790_000_000_000


class Time:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> int:
        return self.now


def a_root(clock: Time | None = None, *, deadline: float = 5.0) -> TransitRoot:
    address = TransitAddress.parse(URL)
    api = VaultAPI(
        address,
        token=TOKEN,
        ssl_context=ssl.create_default_context(),
        clock=clock or Time(),
        deadline_seconds=deadline,
        pause_seconds=0,
    )
    return TransitRoot(address, api)


def a_vault(router: respx.MockRouter, **changes: Any) -> SimulatedVault:
    vault = SimulatedVault(**changes)

    def answer(request: httpx.Request) -> httpx.Response:
        status, body = vault.answer(request.method, request.url.path, request.content)
        return httpx.Response(status, json=body)

    router.route().mock(side_effect=answer)
    return vault


def a_key(**changes: Any) -> object:
    return SimulatedVault(**changes).key


@pytest.fixture
def router() -> Iterator[respx.MockRouter]:
    with respx.mock(assert_all_called=False) as router:
        yield router


# --- the address ---


def test_an_address_is_read_and_written() -> None:
    address = TransitAddress.parse("transit:https://vault.internal/team/transit/chat_proxy-1")

    assert (address.origin, address.mount, address.name) == (
        "https://vault.internal",
        "team/transit",
        "chat_proxy-1",
    )
    assert str(address) == "transit:https://vault.internal/team/transit/chat_proxy-1"


@pytest.mark.parametrize(
    "url",
    [
        "transit:",
        "transit:vault.internal/transit/x",
        "transit:https://vault.internal",
        "transit:https://vault.internal/transit",
        "transit:https://vault.internal/transit/",
        "transit:https://vault.internal//x",
        "transit:https://vault.internal/a/../x",
        "transit:https://vault.internal/a/%2e%2e/x",
        "transit:https://vault.internal/a/x?token=canary",
        "transit:https://vault.internal/a/x#canary",
        "transit:https://canary@vault.internal/transit/x",
        "transit:https://u:canary@vault.internal/transit/x",
        "transit:https://vault.internal:99999/transit/x",
        "transit:https://[::1/transit/x",
        "transit:http://vault.internal/transit/x",
        "transit:ftp://127.0.0.1/transit/x",
        "https://vault.internal/transit/x",
    ],
)
def test_an_address_that_cannot_be_used_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(KeysetError, match="CHATPROXY_KEYSET must") as refusal:
        TransitAddress.parse(url)

    assert "canary" not in str(refusal.value)


def test_http_is_for_this_machine_alone() -> None:
    assert TransitAddress.parse("transit:http://127.0.0.1:8200/transit/x").origin == "http://127.0.0.1:8200"


# --- wrapping ---


async def test_what_is_wrapped_opens_as_itself_alone(router: respx.MockRouter) -> None:
    a_vault(router)
    root = a_root()

    [wrapped] = await root.wrap("ring", [(b"kek/1", KEY)])

    assert root.version_of(wrapped) == 1
    assert KEY not in wrapped
    assert await root.unwrap("ring", [(b"kek/1", wrapped)]) == [KEY]
    for purpose, ident in (("ring", b"kek/2"), ("keyset", b"kek/1")):
        with pytest.raises(UndecryptableError, match="root_wrap_refused"):
            await root.unwrap(purpose, [(ident, wrapped)])


async def test_a_vault_is_asked_for_200_at_once_and_for_nothing_where_there_is_nothing(
    router: respx.MockRouter,
) -> None:
    vault = a_vault(router)
    root = a_root()
    keys = [(b"%d" % number, number.to_bytes(32, "big")) for number in range(401)]

    wraps = await root.wrap("ring", keys)

    assert len(set(wraps)) == 401
    sizes = [len(body["batch_input"]) for path, body in vault.asked if path == "encrypt/chatproxy"]
    assert sizes == [200, 200, 1]
    vault.asked.clear()
    assert await root.unwrap("ring", []) == []
    assert vault.asked == []


@pytest.mark.parametrize(
    "opens_to",
    [lambda _: OTHER, lambda key: key[:31], lambda key: key + b"\0", lambda _: b"", lambda key: key[::-1]],
    ids=["another key", "short", "long", "empty", "backwards"],
)
async def test_a_vault_that_opens_to_something_else_is_noticed(
    router: respx.MockRouter, opens_to: Callable[[bytes], bytes]
) -> None:
    vault = a_vault(router)
    root = a_root()
    [wrapped] = await root.wrap("ring", [(b"kek/1", KEY)])
    vault.opens_to = opens_to

    with pytest.raises(UndecryptableError, match="root_wrap_check"):
        await root.unwrap("ring", [(b"kek/1", wrapped)])
    with pytest.raises(UndecryptableError, match="root_wrap_check"):
        await root.wrap("ring", [(b"kek/1", KEY)])


async def test_two_wraps_that_a_vault_mixes_up_are_noticed(router: respx.MockRouter) -> None:
    vault = a_vault(router)
    root = a_root()
    keys = [(b"kek/1", KEY), (b"kek/2", OTHER)]
    wraps = await root.wrap("ring", keys)
    vault.opens_to = lambda key: OTHER if key == KEY else KEY

    with pytest.raises(UndecryptableError, match="root_wrap_check"):
        await root.unwrap("ring", [(ident, wrap) for (ident, _), wrap in zip(keys, wraps, strict=True)])


@pytest.mark.parametrize(
    "wrapped",
    [
        b"",
        b"vault:v1:QUFB",
        b"vault:v0:QUFB.AAAAAAAAAAAAAAAAAAAAAA",
        b"vault:v1:.AAAAAAAAAAAAAAAAAAAAAA",
        b"vault:v1:QUFB.AAAAAAAAAAAAAAAAAAAAAA\n",
        b"VAULT:v1:QUFB.AAAAAAAAAAAAAAAAAAAAAA",
        b"\xff" * 63,
    ],
)
async def test_what_is_not_a_wrap_is_never_sent(router: respx.MockRouter, wrapped: bytes) -> None:
    vault = a_vault(router)

    with pytest.raises(UndecryptableError, match="root_wrap_form"):
        await a_root().unwrap("ring", [(b"kek/1", wrapped)])
    with pytest.raises(UndecryptableError, match="root_wrap_form"):
        a_root().version_of(wrapped)
    assert vault.asked == []


@pytest.mark.parametrize(
    "results",
    [None, {}, [], [{}], [{"plaintext": None}], [{"plaintext": "§"}], ["x"], [{"plaintext": "QUFB"}] * 2],
    ids=str,
)
async def test_results_that_are_not_what_was_asked_for_open_nothing(
    router: respx.MockRouter, results: object
) -> None:
    vault = a_vault(router)
    root = a_root()
    [wrapped] = await root.wrap("ring", [(b"kek/1", KEY)])
    router.clear()
    router.get(f"{API}/keys/chatproxy").respond(json={"data": vault.key})
    router.post(f"{API}/decrypt/chatproxy").respond(json={"data": {"batch_results": results}})

    with pytest.raises((UndecryptableError, RootRefusedError)):
        await root.unwrap("ring", [(b"kek/1", wrapped)])


# --- versions ---


@pytest.mark.parametrize(
    "latest, least, available, expected",
    [
        (1, 1, 0, ["PRIMARY"]),
        (3, 1, 0, ["DECRYPT", "DECRYPT", "PRIMARY"]),
        (3, 2, 0, ["RETIRED", "DECRYPT", "PRIMARY"]),
        (3, 3, 2, ["DESTROYED", "RETIRED", "PRIMARY"]),
        (3, 3, 3, ["DESTROYED", "DESTROYED", "PRIMARY"]),
    ],
    ids=str,
)
async def test_versions_are_told_from_what_opens_and_what_is_there(
    router: respx.MockRouter, latest: int, least: int, available: int, expected: list[str]
) -> None:
    a_vault(
        router,
        latest_version=latest,
        min_decryption_version=least,
        min_available_version=available,
        keys={str(latest): "2026-01-01T00:00:00.5Z"},
    )

    versions = await a_root().versions()

    assert [each.status for each in versions] == expected
    assert [each.created_at for each in versions] == [0] * (latest - 1) + [1_767_225_600_500]


THREE = {"latest_version": 3, "min_decryption_version": 2, "keys": {}}


@pytest.mark.parametrize(
    "version, status, changes",
    [
        (2, KeyStatus.RETIRED, [("config", {"min_decryption_version": 3})]),
        (1, KeyStatus.RETIRED, []),
        (1, KeyStatus.DECRYPT, [("config", {"min_decryption_version": 1})]),
        (2, KeyStatus.DECRYPT, []),
        (3, KeyStatus.PRIMARY, []),
        (
            1,
            KeyStatus.DESTROYED,
            [("config", {"min_encryption_version": 3}), ("trim", {"min_available_version": 2})],
        ),
    ],
)
async def test_a_status_is_set_once(
    router: respx.MockRouter, version: int, status: KeyStatus, changes: list[tuple[str, object]]
) -> None:
    vault = a_vault(router, **THREE)

    await a_root().set_status(version, status)

    assert vault.changes() == changes


@pytest.mark.parametrize(
    "version, status",
    [
        (3, KeyStatus.RETIRED),
        (3, KeyStatus.DECRYPT),
        (3, KeyStatus.DESTROYED),
        (2, KeyStatus.PRIMARY),
        (2, KeyStatus.DESTROYED),
        (1, KeyStatus.PENDING),
        (4, KeyStatus.RETIRED),
        (0, KeyStatus.RETIRED),
    ],
)
async def test_a_step_out_of_order_changes_nothing(
    router: respx.MockRouter, version: int, status: KeyStatus
) -> None:
    vault = a_vault(router, **THREE)

    with pytest.raises(RootRefusedError):
        await a_root().set_status(version, status)
    assert vault.changes() == []


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "ed25519"},
        {"derived": True},
        {"soft_deleted": True},
        {"latest_version": "1"},
        {"keys": []},
        {"min_decryption_version": None},
    ],
    ids=str,
)
async def test_a_key_of_another_kind_wraps_nothing(router: respx.MockRouter, changes: dict[str, Any]) -> None:
    vault = a_vault(router, **changes)

    with pytest.raises(RootRefusedError):
        await a_root().wrap("ring", [(b"kek/1", KEY)])
    assert [path for path, _ in vault.asked] == ["keys/chatproxy"]


# --- a vault that does not do it ---


@pytest.mark.parametrize("status", [412, 429, 472, 473, 500, 502, 503, 504])
async def test_a_vault_that_is_busy_is_asked_three_times_and_then_left_alone(
    router: respx.MockRouter, status: int
) -> None:
    route = router.get(f"{API}/keys/chatproxy").respond(status, json={"errors": ["Vault is sealed"]})
    clock = Time()
    root = a_root(clock)

    with pytest.raises(RootUnavailableError, match=f"status {status}") as first:
        await root.versions()
    assert (isinstance(first.value, StoreUnavailableError), route.call_count) == (True, MOST_TRIES)

    clock.now += REST_MS - 1
    with pytest.raises(RootUnavailableError, match="asked again in a few seconds"):
        await root.versions()
    assert route.call_count == MOST_TRIES

    clock.now += 1
    route.respond(json={"data": a_key()})
    assert len(await root.versions()) == 1


async def test_a_clock_that_is_set_back_does_not_make_it_rest_for_longer(router: respx.MockRouter) -> None:
    route = router.get(f"{API}/keys/chatproxy").respond(503)
    clock = Time()
    root = a_root(clock)
    with pytest.raises(RootUnavailableError):
        await root.versions()

    clock.now -= 86_400_000
    route.respond(json={"data": a_key()})

    assert len(await root.versions()) == 1


async def test_one_good_answer_of_three_is_enough(router: respx.MockRouter) -> None:
    good = httpx.Response(200, json={"data": a_key()})
    router.get(f"{API}/keys/chatproxy").mock(side_effect=[httpx.Response(503), httpx.ReadError("x"), good])

    assert len(await a_root().versions()) == 1


async def test_a_vault_that_stalls_has_a_deadline(router: respx.MockRouter) -> None:
    asked = []

    async def stall(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        await asyncio.Event().wait()
        raise AssertionError

    router.get(f"{API}/keys/chatproxy").mock(side_effect=stall)

    with pytest.raises(RootUnavailableError, match=r"no answer within 0\.01 s"):
        await a_root(deadline=0.01).versions()
    assert len(asked) == MOST_TRIES


@pytest.mark.parametrize(
    "answer, says",
    [
        pytest.param({"status_code": 401}, "refuses this token", id="401"),
        pytest.param(
            {"status_code": 403, "json": {"errors": ["permission denied"]}}, "refuses this token", id="403"
        ),
        pytest.param({"status_code": 404}, "does not exist", id="404"),
        pytest.param(
            {"status_code": 307, "headers": {"location": "https://evil.example/"}},
            "sends elsewhere",
            id="redirect",
        ),
        pytest.param({"status_code": 405}, "answers with status 405", id="405"),
        pytest.param({"status_code": 400, "json": {"errors": ["x"]}}, "is not a key of the type", id="400"),
        pytest.param({"status_code": 200, "content": b"<html>"}, "is not a vault", id="HTML"),
        pytest.param({"status_code": 200, "content": b"[]"}, "is not a vault", id="a list"),
        pytest.param({"status_code": 200, "content": b'{"data": []}'}, "is not a key", id="data is a list"),
        pytest.param({"status_code": 200, "content": b'{"data": "x"}'}, "is not a vault", id="data is text"),
        pytest.param({"status_code": 200, "content": b"[" * 100_000}, "is not a vault", id="deep"),
        pytest.param({"status_code": 200, "content": b" " * (LARGEST + 1)}, "is longer than", id="a bomb"),
        pytest.param(
            {"status_code": 200, "headers": {"content-encoding": "gzip"}, "content": b""},
            "is compressed",
            id="compressed",
        ),
        pytest.param({"status_code": 204}, "is not a key of the type", id="204"),
    ],
)
async def test_an_answer_that_the_operator_must_act_on_is_said_at_once(
    router: respx.MockRouter, answer: dict[str, Any], says: str
) -> None:
    route = router.get(f"{API}/keys/chatproxy").respond(**answer)

    with pytest.raises(RootRefusedError, match=says):
        await a_root().versions()
    assert route.call_count == 1
    assert len(router.calls) == 1


async def test_a_key_is_made_only_where_there_is_none(router: respx.MockRouter) -> None:
    found = router.get(f"{API}/keys/chatproxy")
    found.side_effect = [httpx.Response(404), httpx.Response(200, json={"data": a_key()})]
    made = router.post(f"{API}/keys/chatproxy").respond(json={"data": a_key()})

    assert await a_root().create()
    assert json.loads(made.calls.last.request.content) == {
        "type": "aes256-gcm96",
        "exportable": False,
        "allow_plaintext_backup": False,
    }
    found.side_effect = None
    found.respond(json={"data": a_key()})
    assert not await a_root().create()
    assert made.call_count == 1


async def test_a_key_that_may_not_be_made_is_said(router: respx.MockRouter) -> None:
    router.get(f"{API}/keys/chatproxy").respond(404)
    router.post(f"{API}/keys/chatproxy").respond(403)

    with pytest.raises(RootRefusedError, match="refuses this token"):
        await a_root().create()


async def test_a_change_that_is_refused_is_said(router: respx.MockRouter) -> None:
    router.get(f"{API}/keys/chatproxy").respond(json={"data": a_key(**THREE)})
    router.post(f"{API}/keys/chatproxy/config").respond(400, json={"errors": ["x"]})

    with pytest.raises(RootRefusedError, match="does not take the change config"):
        await a_root().set_status(2, KeyStatus.RETIRED)


async def test_a_key_that_has_gone_is_not_taken_for_damage(router: respx.MockRouter) -> None:
    a_vault(router)
    root = a_root()
    [wrapped] = await root.wrap("ring", [(b"kek/1", KEY)])
    router.clear()
    router.get(f"{API}/keys/chatproxy").respond(404)
    router.post(f"{API}/decrypt/chatproxy").respond(400, json={"errors": ["encryption key not found"]})

    with pytest.raises(NoKeyError):
        await root.unwrap("ring", [(b"kek/1", wrapped)])


# --- the token ---


async def test_the_token_goes_to_the_vault_and_nowhere_else(
    router: respx.MockRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    vault = a_vault(router)
    root = a_root()

    await root.versions()

    request = router.calls.last.request
    assert (request.url.host, request.headers["x-vault-token"]) == ("vault.internal", TOKEN)
    assert request.headers["x-vault-request"] == "true"
    assert request.headers["accept-encoding"] == "identity"
    router.clear()
    router.get(f"{API}/keys/chatproxy").respond(403, json={"errors": [f"bad token {TOKEN}"]})
    with pytest.raises(RootRefusedError) as refusal:
        await root.versions()
    shown = (
        "".join(traceback.format_exception(refusal.value)) + repr(root) + repr(root._api) + repr(vault.key)
    )
    assert TOKEN not in shown


def test_a_vault_needs_a_token_and_a_readable_authority(tmp_path: Path) -> None:
    def source(**changes: Any) -> object:
        options: dict[str, Any] = {
            "data_dir": tmp_path,
            "variable": lambda _: None,
            "token": TOKEN,
            "ca_file": None,
            "clock": Time(),
        }
        return keyset_source(URL, **(options | changes))

    assert TOKEN not in repr(source())
    with pytest.raises(KeysetError, match="CHATPROXY_KEYSET_TOKEN_FILE"):
        source(token=None)
    with pytest.raises(KeysetError, match="CHATPROXY_KEYSET_CA_FILE"):
        source(ca_file=tmp_path / "missing")
