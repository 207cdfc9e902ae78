"""The root in a vault that is away, sealed or refuses: chats go on, and what needs a key waits. A real one: tests/vault."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from chatproxy.audit.log import FileAuditLog
from chatproxy.clock import wall_clock
from chatproxy.consent.events import Choice
from chatproxy.consent.receipts import read_public_keys, verify_receipt
from chatproxy.crypto.keyring import RING_NAME, parse_manifest
from chatproxy.crypto.keys import SigningSeed
from chatproxy.crypto.keyset import make_keyset
from chatproxy.crypto.sealed_keyset import SEALED_NAME, parse_sealed
from chatproxy.crypto.tlog import NoteSigner
from chatproxy.errors import KeysetError, RootRefusedError
from chatproxy.kms.file import FileRoot, KeysetFile
from chatproxy.kms.vault_api import REST_MS
from chatproxy.store import keys as names
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.store.redis import RedisStore
from chatproxy.telemetry import Metrics
from chatproxy.web.person_session import PREFIX
from chatproxy.wiring import running_proxy
from chatproxy.workflows.keys import RecordKeys
from chatproxy.workflows.publish_checkpoint import checkpoint_name
from chatproxy.workflows.rotate import NotYetError, Step
from chatproxy.workflows.watch_ring import RingWatch
from integration.proxy_fixtures import (
    ANA,
    PATIENCE,
    AheadClock,
    World,
    a_proxy,
    a_world,
    chatting,
    http_client,
)
from integration.serve_process import call, environment
from integration.test_admin_api import SIGN_UP
from integration.test_gate import a_closed_gate
from integration.test_person_api import YES, ask, assert_problem
from simulators.backend import backend
from simulators.vault import SimulatedVault
from unit.consent.choice_files import a_choice, a_version

TOKEN = "hvs.canary-of-the-token"


@pytest.fixture
def url(server: EmbeddedServer, connections: Connections) -> str:
    return server.url


@asynccontextmanager
async def a_vault(directory: Path, store: str) -> AsyncIterator[tuple[SimulatedVault, dict[str, str]]]:
    """A vault with a keyset sealed under it in *store*, and the settings that name it."""
    vault = SimulatedVault()
    vault.key = None
    async with backend(vault.serve) as behind:
        address = behind.url.removeprefix("http://")
        settings = {"keyset": f"transit:http://{address}/transit/chatproxy", "keyset_token": TOKEN}
        made = await call(environment(directory, store=store, **settings), "keys", "init")
        assert made.status == 0, made.err
        yield vault, settings


async def readiness(world: World) -> tuple[int, str]:
    response = await world.client.get(f"{world.running.admin_url}/readyz")
    return response.status_code, response.text


async def test_chats_go_on_while_the_vault_is_sealed_at_the_start(tmp_path: Path, url: str) -> None:
    clock = AheadClock()
    async with a_vault(tmp_path, url) as (vault, settings):
        vault.is_sealed = True
        async with a_world(chatting(), tmp_path, url, clock=clock, **settings) as world:
            answers = [
                await world.chat("hello"),
                await world.chat("keyed", who={"x-chat-subject": "ana", "idempotency-key": "k"}),
                await world.chat("nobody", who={"x-chat-plan": "free"}),
            ]
            assert {answer.status_code for answer in answers} == {200}
            assert {answer.headers["x-decision-reason"] for answer in answers} == {"PENDING"}
            assert not any("x-chat-turn" in answer.headers for answer in answers)
            status, why = await readiness(world)
            assert (status, "status 503: it is sealed" in why, TOKEN in why) == (503, True, False)

            vault.is_sealed = False
            clock.ahead = REST_MS
            assert len(await world.kept()) == 3
            assert (await world.chat("later")).headers["x-chat-turn"]
            await world.kept()
            world.assert_outcomes_add_up()


async def test_own_pages_and_apis_wait_while_the_vault_is_sealed_at_the_start(
    tmp_path: Path, url: str
) -> None:
    clock = AheadClock()
    async with a_vault(tmp_path, url) as (vault, settings):
        vault.is_sealed = True
        async with (
            a_world(chatting(), tmp_path, url, clock=clock, admin_token="t" * 16, **settings) as world,
            http_client(
                world.running.admin_url + "/api/v1", headers={"authorization": "Bearer " + "t" * 16}
            ) as company,
        ):
            page = await world.client.get(PREFIX, headers=ANA)
            assert (page.status_code, "cannot be read just now" in page.text) == (503, True)
            link = await world.client.get(PREFIX + "?link=some")
            assert (link.status_code, "cannot be read just now" in link.text) == (503, True)
            for path in ("conversations", "history", "receipt-keys.json"):
                assert (await world.client.get(PREFIX + path, headers=ANA)).status_code == 503
            assert (await world.client.get(PREFIX)).status_code == 401
            assert_problem(await ask(world, "GET", "/choice"), 503, "store_unavailable")
            assert_problem(await ask(world, "PUT", "/choice", json=YES), 503, "store_unavailable")
            named = {"subject": "ana"}
            assert_problem(await company.post("/subjects", json=named), 503, "store_unavailable")
            assert_problem(await company.post("/links", json=named), 503, "store_unavailable")
            by_tag = f"/subjects/{'0' * 32}"
            signed_up = await company.put(by_tag + "/choice", json=SIGN_UP)
            assert_problem(signed_up, 503, "store_unavailable")
            assert_problem(await company.delete(by_tag + "/account"), 503, "store_unavailable")

            vault.is_sealed = False
            clock.ahead = REST_MS
            await world.chat("hello")
            assert len(await world.kept()) == 1
            made = await ask(world, "PUT", "/choice", json=YES)
            receipt = await ask(world, "GET", f"/receipts/{made.json()['receipt_id']}")
            keys = await world.client.get(PREFIX + "receipt-keys.json", headers=ANA)
            assert verify_receipt(receipt.content, publics=read_public_keys(keys.text, source="the page"))
            opened = await ask(world, "GET", "/conversations")
            assert len(opened.json()["conversations"]) == 1
            link = await world.client.get((await company.post("/links", json=named)).json()["url"])
            assert link.status_code == 303


async def test_before_the_first_ring_nothing_makes_the_store_look_used(tmp_path: Path, url: str) -> None:
    choice = a_choice(tmp_path / "choice", a_version("1", material=True))
    log = FileAuditLog(
        tmp_path / "data" / "audit",
        signer=lambda: NoteSigner("chatproxy/test", SigningSeed(bytes(32))),
        clock=wall_clock,
    )
    log.append("test", {})
    clock = AheadClock()
    async with a_vault(tmp_path, url) as (vault, settings):
        vault.wraps_nothing = True
        async with a_world(
            chatting(), tmp_path, url, clock=clock, choice_notices=str(choice), **settings
        ) as world:
            world.damage = "an audit log of another signer"
            await world.chat("hello")
            assert (await ask(world, "PUT", "/choice", json=YES)).status_code == 503
            assert (await readiness(world))[0] == 503

            vault.wraps_nothing = False
            clock.ahead = REST_MS
            assert len(await world.kept()) == 1
            store = world.running.vault.store
            async with asyncio.timeout(PATIENCE):
                while await store.read_control(checkpoint_name("node-1")) is None:
                    await asyncio.sleep(0.05)


async def test_a_closed_gate_holds_nobody_up_while_the_vault_is_sealed(tmp_path: Path, url: str) -> None:
    async with a_vault(tmp_path, url) as (vault, settings):
        vault.is_sealed = True
        async with a_closed_gate(tmp_path, url, **settings) as world:
            assert (await world.chat("hello")).status_code == 200
            assert world.counted("chatproxy_gate_total", answer="unanswered") == 1


async def nothing_known() -> dict[str, list[int]]:
    return {}


async def test_a_node_that_looks_for_the_first_ring_does_not_make_the_store_look_used(
    tmp_path: Path, store: RedisStore
) -> None:
    file = KeysetFile(tmp_path / "keyset", data_dir=tmp_path / "data")
    file.create(make_keyset(created_at=wall_clock()))
    watch = RingWatch(
        store,
        FileRoot(file),
        RecordKeys(store),
        node="n",
        instance="i",
        policy="p",
        clock=wall_clock,
        metrics=Metrics(),
        horizon_ms=1,
        refresh_keyset=nothing_known,
    )

    with pytest.raises(KeysetError, match="no key ring"):
        await watch.look()

    assert await store.is_empty()


async def test_a_vault_that_is_sealed_at_run_time_is_not_missed(tmp_path: Path, url: str) -> None:
    async with (
        a_vault(tmp_path, url) as (vault, settings),
        a_world(chatting(), tmp_path, url, clock=wall_clock, **settings) as world,
    ):
        watch = world.running.vault.ring_watch(world.running.metrics)
        await watch.look()
        vault.is_sealed = True

        await watch.look()
        await world.running.vault.health.check()
        await world.chat("hello", who={"x-chat-subject": "new"})

        assert len(await world.kept()) == 1
        assert (await readiness(world))[0] == 200


async def test_a_token_that_is_revoked_at_run_time_is_not_missed(tmp_path: Path, url: str) -> None:
    async with (
        a_vault(tmp_path, url) as (vault, settings),
        a_world(chatting(), tmp_path, url, clock=wall_clock, **settings) as world,
    ):
        watch = world.running.vault.ring_watch(world.running.metrics)
        await watch.look()
        vault.key = None

        await watch.look()
        await world.running.vault.health.check()
        await world.chat("hello")

        assert len(await world.kept()) == 1
        with pytest.raises(RootRefusedError):
            await world.running.vault.root.versions()


async def test_a_rotation_takes_the_sealed_keyset_along_before_it_retires_the_root(
    tmp_path: Path, url: str, store: RedisStore
) -> None:
    async with a_vault(tmp_path, url) as (vault, settings):
        settings |= {"key_soak": "0s", "key_grace": "0s"}
        async with a_world(chatting(), tmp_path, url, clock=wall_clock, **settings) as world:
            await world.choose(Choice.GIVEN)
            await world.chat("before")
            [row] = await world.kept()
            rotation = world.running.vault.rotation(by="test")
            async with asyncio.timeout(PATIENCE):
                state = None
                while state is None or state.step is not Step.DESTROYED:
                    try:
                        state = await rotation.advance()
                    except NotYetError:
                        await asyncio.sleep(0.05)
            root = world.running.vault.root
            sealed, ring = await store.read_control(SEALED_NAME), await store.read_control(RING_NAME)
            wraps = (
                parse_sealed(sealed or b"").wrapped_secrets() + parse_manifest(ring or b"").wrapped_secrets()
            )
            assert {root.version_of(wrapped) for _, wrapped in wraps} == {2}
            assert [each.status for each in await root.versions()] == ["DESTROYED", "PRIMARY"]
            assert vault.changes()[-1] == ("trim", {"min_available_version": 2})
        async with a_world(chatting(), tmp_path, url, clock=wall_clock, **settings) as world:
            assert await world.said(str(row["conversation"])) == ["user: before", "assistant: reply 0"]


async def test_a_keyset_is_not_made_twice_nor_beside_another(tmp_path: Path, url: str) -> None:
    async with a_vault(tmp_path, url) as (vault, settings):
        again = await call(environment(tmp_path, store=url, **settings), "keys", "init")
        assert (again.status, "has a sealed keyset already" in again.err) == (1, True)
        assert [path for path, _ in vault.asked].count("encrypt/chatproxy") == 1


async def test_a_store_of_a_keyset_file_is_not_taken(
    tmp_path: Path, url: str, connections: Connections
) -> None:
    async with a_vault(tmp_path, url) as (_, settings):
        await connections.ask([["FLUSHALL"]])
        async with a_world(chatting(), tmp_path, url):
            pass
        taken = await call(environment(tmp_path, store=url, **settings), "keys", "init")
        assert (taken.status, "chatproxy keys move --to" in taken.err) == (1, True)


async def test_a_keyset_moves_from_its_file_to_a_vault_and_the_file_opens_nothing_new(
    tmp_path: Path, url: str, connections: Connections
) -> None:
    async with a_vault(tmp_path, url) as (_, settings):
        await connections.ask([["FLUSHALL"]])
        async with a_world(chatting(), tmp_path, url) as world:
            await world.chat("before")
            [row] = await world.kept()
            files = environment(tmp_path, store=url, keyset_token=TOKEN)
            moved = await call(files, "keys", "move", "--to", settings["keyset"], "--yes")
            assert moved.status == 0, moved.err
            # A node that has the file still goes on with the ring that it has.
            await world.chat("meanwhile")
            assert len(await world.kept()) == 2
        async with a_world(chatting(), tmp_path, url, clock=wall_clock, **settings) as world:
            assert await world.said(str(row["conversation"])) == ["user: before", "assistant: reply 0"]
        stale = await call(files, "keys", "verify")
        assert (stale.status, "key ring in the store cannot be opened" in stale.err) == (1, True)


async def test_a_move_that_broke_off_goes_on_and_one_over_a_rotation_is_refused(
    tmp_path: Path, url: str, connections: Connections, store: RedisStore
) -> None:
    async with a_vault(tmp_path, url) as (_, settings):
        other = await store.read_control(SEALED_NAME)
        await connections.ask([["FLUSHALL"]])
        async with a_world(chatting(), tmp_path, url):
            pass
        files = environment(tmp_path, store=url, keyset_token=TOKEN)
        move = ("keys", "move", "--to", settings["keyset"], "--yes")

        assert other is not None
        await store.swap_control(SEALED_NAME, None, other)
        refused = await call(files, *move)
        assert (refused.status, "another one" in refused.err) == (1, True)
        await connections.ask([["DEL", names.control(SEALED_NAME)]])

        before = await store.read_control(RING_NAME)
        assert (await call(files, "keys", "generate")).status == 0
        under_way = await call(files, *move)
        assert (under_way.status, "a rotation is not over" in under_way.err) == (1, True)
        assert await store.read_control(SEALED_NAME) is None
        assert (await call(files, "keys", "abort", "--yes")).status == 0

        assert (await call(files, *move)).status == 0
        moved = await store.read_control(RING_NAME)
        # As if the process had died before it replaced the ring.
        await connections.ask([["SET", names.control(RING_NAME), before or b""]])
        assert (await call(files, *move)).status == 0
        assert moved != before


async def test_the_commands_know_a_keyset_that_lies_in_the_store(tmp_path: Path, url: str) -> None:
    async with a_vault(tmp_path, url) as (_, settings):
        env = environment(tmp_path, store=url, **settings)
        status = await call(env, "keys", "status")
        assert (status.status, "pseudonyms" in status.out) == (0, True)
        offline = await call(env, "keys", "status", "--offline")
        assert (offline.status, "leave out --offline" in offline.err) == (1, True)
        assert (await call(env, "audit", "verify")).status == 0
        public = await call(env, "keys", "public")
        assert (public.status, len(read_public_keys(public.out, source="keys public"))) == (0, 1)
        examined = await call(env, "doctor")
        assert "opens with transit:http://127.0.0.1" in examined.out
        shown = await call(env, "config", "show")
        assert TOKEN not in examined.out + shown.out


async def test_nothing_starts_without_a_sealed_keyset(
    tmp_path: Path, url: str, connections: Connections
) -> None:
    async with a_vault(tmp_path, url) as (_, settings):
        await connections.ask([["FLUSHALL"]])
        with pytest.raises(KeysetError, match="keys init"):
            async with running_proxy(a_proxy(tmp_path, upstream="http://127.0.0.1:9", store=url, **settings)):
                pass


async def test_a_keyset_moves_back_from_a_vault_to_a_new_file_and_into_a_vault_again(
    tmp_path: Path, url: str, connections: Connections
) -> None:
    async with a_vault(tmp_path, url) as (_, settings):
        await connections.ask([["FLUSHALL"]])
        async with a_world(chatting(), tmp_path, url) as world:
            await world.chat("before")
            [row] = await world.kept()
        files = environment(tmp_path, store=url, keyset_token=TOKEN)
        vaults = environment(tmp_path, store=url, **settings)
        back = f"file:{tmp_path / 'back' / 'keyset'}"
        again = environment(tmp_path, store=url, keyset_token=TOKEN, keyset=back)

        async def done(env: dict[str, str], *words: str) -> None:
            finished = await call(env, "keys", *words)
            assert finished.status == 0, (words, finished.err)

        await done(files, "move", "--to", settings["keyset"], "--yes")
        await done(vaults, "renew", "annotations", "--wait")
        taken = await call(vaults, "keys", "move", "--to", files["CHATPROXY_KEYSET"], "--yes")
        assert (taken.status, "left as it is" in taken.err) == (1, True)  # it knows nothing of the renewal
        other = await call(vaults, "keys", "move", "--to", settings["keyset"] + "-other", "--yes")
        assert (other.status, "by way of a file" in other.err) == (1, True)
        await done(vaults, "move", "--to", back, "--yes")
        assert (await call(vaults, "keys", "verify")).status == 1
        async with a_world(chatting(), tmp_path, url, keyset=back) as world:
            assert await world.said(str(row["conversation"])) == ["user: before", "assistant: reply 0"]
            await world.chat("after")
            assert len(await world.kept()) == 2
        same = await call(again, "keys", "move", "--to", back, "--yes")
        assert (same.status, "already" in same.err) == (1, True)
        # What lies in the store from the first move is out of use, and does not stand in the way.
        await done(again, "renew", "annotations", "--wait")
        await done(again, "move", "--to", settings["keyset"], "--yes")
        await done(vaults, "verify")
        async with a_world(chatting(), tmp_path, url, clock=wall_clock, **settings) as world:
            assert len(await world.kept()) == 2
            assert sorted(world.running.vault.annotation_keys.versions) == [1, 2, 3]


async def test_a_move_to_a_file_that_broke_off_goes_on(
    tmp_path: Path, url: str, connections: Connections, store: RedisStore
) -> None:
    async with a_world(chatting(), tmp_path, url) as world:
        await world.chat("before")
        await world.kept()
    files = environment(tmp_path, store=url)
    back = f"file:{tmp_path / 'back' / 'keyset'}"
    before = await store.read_control(RING_NAME)
    assert (await call(files, "keys", "move", "--to", back, "--yes")).status == 0
    await connections.ask([["SET", names.control(RING_NAME), before or b""]])
    assert (await call(files, "keys", "move", "--to", back, "--yes")).status == 0
    assert (await call(environment(tmp_path, store=url, keyset=back), "keys", "verify")).status == 0
    unset = await call(
        environment(tmp_path, store=url, keyset=back), "keys", "move", "--to", "env:KEYS", "--yes"
    )
    assert (unset.status, "cannot be written into a variable" in unset.err) == (1, True)


async def test_a_keyset_moves_from_its_file_by_way_of_a_variable_to_a_vault(
    tmp_path: Path, url: str, connections: Connections
) -> None:
    async with a_vault(tmp_path, url) as (_, settings):
        await connections.ask([["FLUSHALL"]])
        async with a_world(chatting(), tmp_path, url) as world:
            await world.chat("before")
            [row] = await world.kept()
        files = environment(tmp_path, store=url, keyset_token=TOKEN)
        file = Path(files["CHATPROXY_KEYSET"].removeprefix("file:"))
        variable = files | {
            "CHATPROXY_KEYSET": "env:CHAT_KEYSET",
            "CHAT_KEYSET": base64.b64encode(file.read_bytes()).decode(),
        }
        assert (await call(variable, "keys", "verify")).status == 0
        refused = await call(variable, "keys", "renew", "signing")
        assert (refused.status, "cannot be changed from here" in refused.err) == (1, True)
        moved = await call(variable, "keys", "move", "--to", settings["keyset"], "--yes")
        assert moved.status == 0, moved.err
        async with a_world(chatting(), tmp_path, url, clock=wall_clock, **settings) as world:
            assert await world.said(str(row["conversation"])) == ["user: before", "assistant: reply 0"]
