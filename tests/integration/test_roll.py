"""A key of a person is rolled: the old one dies with what was deleted, and nothing else is lost or changed."""

import asyncio
from pathlib import Path

import pytest

from chatproxy.consent.events import Choice, FactKind, Scope
from chatproxy.crypto.record import parse_header
from chatproxy.errors import AccessRefusedError, UndecryptableError
from chatproxy.model import SubjectTag
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.vault import Vault
from integration.proxy_fixtures import ANA, DAY, PATIENCE, AheadClock, World, a_world, all_keys, chatting


@pytest.fixture
def store(server: EmbeddedServer, connections: Connections) -> str:
    return server.url


async def generations(world: World, tag: SubjectTag) -> set[int]:
    """Return under which generations a person's records lie."""
    found = set()
    async for row in world.running.vault.store.annotations(tag):
        for blob in await world.running.vault.store.records(tag, row.turn, [0, 1, 2]):
            if blob is not None:
                found.add(parse_header(blob).generation)
    return found


async def delete(world: World, conversation: str) -> None:
    vault = world.running.vault
    tag = vault.pseudonyms.conversation_tag(tenant="default", subject="ana", conversation=conversation)
    await vault.ledger.note(
        world.tag(),
        FactKind.CONVERSATION_DELETED,
        at=vault.clock(),
        by="test",
        method="test",
        scope=Scope(conversation=tag),
    )
    async with asyncio.timeout(PATIENCE):
        while await vault.store.people_due(vault.clock() + 60_000):
            await asyncio.sleep(0.01)


async def roll_due(world: World, clock: AheadClock, *, ahead: int = 61_000) -> None:
    """Put the clock forward, and wait until this or the proxy's own housekeeping has done what is due then."""
    clock.ahead += ahead
    vault = world.running.vault
    async with asyncio.timeout(PATIENCE):
        while (
            await vault.roller.take_up()
            or (await vault.store.connections.ask([["ZCOUNT", "cp:{chore:roll}", "-inf", until(vault)]]))[0]
        ):
            await asyncio.sleep(0.01)


def until(vault: Vault) -> int:
    """Return the mark of what is due or claimed now."""
    return (vault.clock() + 120_000) * 1000


async def test_a_deletion_has_the_key_rolled_and_the_rest_stays_as_it_was(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    clock = AheadClock()
    async with a_world(chatting(), tmp_path, store, clock=clock) as world:
        vault, tag = world.running.vault, world.tag()
        await world.choose(Choice.GIVEN)
        await world.chat("goes", who=ANA | {"x-chat-conversation": "goes"})
        await world.chat("stays", who=ANA | {"x-chat-conversation": "stays"})
        rows = await world.kept()
        old_state = await vault.store.subject_state(tag)
        old_records = {
            row.turn: (await vault.store.records(tag, row.turn, [0]))[0]
            async for row in vault.store.annotations(tag)
        }
        await delete(world, "goes")
        by_conversation = {row["conversation"]: row for row in rows}
        handle = vault.pseudonyms.conversation_handle(
            tag, vault.pseudonyms.conversation_tag(tenant="default", subject="ana", conversation="goes")
        )
        with pytest.raises(AccessRefusedError):  # from the moment of the deletion on
            await world.said(handle)
        before = {
            key: at
            for key, at in (await all_keys(connections)).items()
            if not key.endswith((b"}:s", b":roll}"))
        }
        await roll_due(world, clock)
        after = {
            key: at
            for key, at in (await all_keys(connections)).items()
            if not key.endswith((b"}:s", b":roll}"))
        }
        assert after == before  # no expiry has moved
        state = await vault.store.subject_state(tag)
        assert (state.generation, set(state.wraps), state.generation_floor) == (2, {2}, 1)
        assert await generations(world, tag) == {2}
        [other] = [name for name in by_conversation if name != handle]
        assert await world.said(other) == ["user: stays", "assistant: reply 1"]
        # What an old backup has of the person does not open with the keys of today.
        assert old_state.generation == 1
        for blob in old_records.values():
            assert blob is not None
            with pytest.raises(UndecryptableError, match="no_subject_key"):
                vault.record_keys.unwrap_subject_key(tag, state, parse_header(blob).generation)


async def test_a_key_is_rolled_at_most_once_a_day(tmp_path: Path, store: str) -> None:
    clock = AheadClock()
    async with a_world(chatting(), tmp_path, store, clock=clock) as world:
        vault, tag = world.running.vault, world.tag()
        await world.choose(Choice.GIVEN)
        for name in ("one", "two", "three"):
            await world.chat(name, who=ANA | {"x-chat-conversation": name})
        await world.kept()
        await delete(world, "one")
        await roll_due(world, clock)
        await delete(world, "two")
        await roll_due(world, clock)
        assert (await vault.store.subject_state(tag)).generation == 2
        await roll_due(world, clock, ahead=DAY)
        assert (await vault.store.subject_state(tag)).generation == 3


async def test_a_withdrawal_that_shortens_has_the_key_rolled_and_a_choice_that_does_not_has_not(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        await world.chat("hello")
        await world.kept()
        await world.choose(Choice.REFUSED)
        await world.decided_again()
        assert await connections.ask([["ZCARD", "cp:{chore:roll}"]]) == [0]
        await world.choose(Choice.GIVEN)
        await world.chat("hello again")
        await world.kept()
        await world.choose(Choice.WITHDRAWN)
        await world.decided_again()
        assert await connections.ask([["ZCARD", "cp:{chore:roll}"]]) == [1]


async def test_turns_that_are_put_during_a_roll_are_not_lost(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        vault, tag = world.running.vault, world.tag()
        await world.chat("first", who=ANA | {"x-chat-conversation": "c"})
        await world.kept()

        async def talk() -> None:
            for number in range(30):
                await world.chat(f"turn {number}", who=ANA | {"x-chat-conversation": "c"})

        talking = asyncio.create_task(talk())
        for _ in range(8):  # more than a turn may fail
            await vault.roller.roll(tag)
        await talking
        assert len(await world.kept()) == 31
        assert world.outcomes() == {"stored": 31}
        await vault.roller.roll(tag)
        state = await vault.store.subject_state(tag)
        assert await generations(world, tag) == {state.generation} == set(state.wraps)


async def test_a_roll_that_broke_off_goes_on_with_what_is_left(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        vault, tag = world.running.vault, world.tag()
        await world.chat("one")
        await world.chat("two")
        rows = await world.kept()
        renewed = await vault.roller.renew(tag, await vault.store.subject_state(tag), erasing=False)
        assert renewed == 2
        assert await generations(world, tag) == {1}
        for row in rows:
            await world.said(row["conversation"])  # under the older key, meanwhile
        await world.chat("three")
        await world.kept()
        rolled = await vault.roller.roll(tag)
        assert (rolled.records, rolled.lost, rolled.generations) == (2, 0, (1,))
        assert await generations(world, tag) == {2}


async def test_what_is_damaged_does_not_hold_up_a_roll(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        vault, tag = world.running.vault, world.tag()
        await world.chat("one")
        await world.chat("two")
        await world.kept()
        row = await anext(vault.store.annotations(tag))
        [blob] = await vault.store.records(tag, row.turn, [0])
        assert blob is not None
        name = b"cp:{%s}:r:%s" % (tag.hex().encode(), row.turn.hex().encode())
        await connections.ask([["SETRANGE", name, len(blob) - 1, bytes([blob[-1] ^ 1])]])
        rolled = await vault.roller.roll(tag)
        assert (rolled.records, rolled.lost, rolled.generations) == (1, 1, (1,))


async def test_a_turn_whose_key_changes_again_and_again_waits_and_is_kept(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        vault, tag = world.running.vault, world.tag()
        await world.chat("first")
        await world.kept()

        async def renew_always() -> None:
            while (
                world.outcomes() == {"stored": 1} and (await vault.store.subject_state(tag)).generation != 400
            ):
                await vault.roller.renew(tag, await vault.store.subject_state(tag), erasing=False)

        renewing = asyncio.create_task(renew_always())
        await world.chat("second")
        await renewing
        assert len(await world.kept()) == 2
        assert world.outcomes() == {"stored": 2}
