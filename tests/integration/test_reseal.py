"""After a leak everything is sealed anew: what the thief has opens nothing of it, and nobody else notices."""

import asyncio
import json
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from chatproxy.clock import wall_clock
from chatproxy.consent.events import Choice
from chatproxy.crypto.record import day_of_epoch, series_of_epoch
from chatproxy.errors import KeysetError, StoreUnavailableError
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.store.reaping import RedisReaper
from chatproxy.vault import Vault, audit_directory, open_vault
from chatproxy.workflows.replace_keys import REPLACEMENT_NAME, Pace, Scope, Stage
from chatproxy.workflows.roll import LeakedKeys
from chatproxy.workflows.rotate import NotYetError, Step
from chatproxy.workflows.watch_ring import LIVE_MS
from integration.proxy_fixtures import ANA, World, a_world, all_keys, chatting
from integration.reseal_fixtures import a_replacement, lies_under, opens_with, replace_all, steal
from integration.rotation_fixtures import Killed, Writes, a_rotation, advance

BEN = {"x-chat-subject": "ben", "x-chat-plan": "pro"}


@pytest.fixture
def store(server: EmbeddedServer, connections: Connections) -> str:
    return server.url


def a_leaky_world(directory: Path, store: str) -> AbstractAsyncContextManager[World]:
    return a_world(chatting(), directory, store, key_soak="0s", key_grace="0s")


async def talk(world: World, *, conversations: int = 3) -> None:
    """Two people say things that are kept until different days, since one of them has agreed."""
    await world.choose(Choice.GIVEN)
    for number in range(conversations):
        await world.chat(f"ana {number}", who=ANA | {"x-chat-conversation": f"c{number}"})
        await world.chat(f"ben {number}", who=BEN | {"x-chat-conversation": f"c{number}"})
    await world.kept()


async def everything_said(world: World) -> list[list[str]]:
    return sorted([await world.said(row["conversation"]) for row in await world.kept()])


async def expiries(connections: Connections) -> dict[bytes, int]:
    """Return every expiry but that of what holds the keys of people, whose floor stands for a while after a roll."""
    return {
        key: at for key, at in (await all_keys(connections)).items() if not key.endswith(b"}:s") and at > 0
    }


async def epochs(vault: Vault) -> list[int]:
    return sorted(await vault.store.all_epoch_wraps())


def actions(vault: Vault) -> list[str]:
    """Return what the audit log says of sealing anew."""
    lines = (audit_directory(vault.settings) / "audit.jsonl").read_text().splitlines()
    found = [json.loads(line)["action"] for line in lines]
    return [action for action in found if action.startswith(("keys.reseal", "keys.epoch"))]


async def test_what_a_thief_has_of_everything_opens_nothing_any_more(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_leaky_world(tmp_path, store) as world:
        vault = world.running.vault
        await talk(world)
        said, before = await everything_said(world), await expiries(connections)
        loot = await steal(vault)
        annotations = [row.annotation async for row in vault.store.annotations(world.tag())]
        assert await opens_with(vault, loot) >= 6

        state = await replace_all(a_replacement(vault))

        assert (state.records >= 6, state.damaged) == (True, 0)
        assert await everything_said(world) == said
        assert await opens_with(vault, loot) == 0
        assert await expiries(connections) == before
        assert [row.annotation async for row in vault.store.annotations(world.tag())] == annotations
        assert set().union(*(await lies_under(vault)).values()) == {(2, 1)}
        assert {series_of_epoch(epoch) for epoch in await epochs(vault)} == {1}
        for name in ("ana", "ben"):
            assert set((await vault.store.subject_state(world.tag(name))).wraps) == {2}
        assert actions(vault) == ["keys.reseal", "keys.epoch_series", "keys.reseal.destroy"]
        # And once more, since keys may leak twice; what has come meanwhile is among it.
        await world.chat("later", who=ANA | {"x-chat-conversation": "later"})
        again = await replace_all(a_replacement(vault))
        assert again.records == state.records + 1
        assert {series_of_epoch(epoch) for epoch in await epochs(vault)} == {2}
        assert len(await everything_said(world)) == len(said) + 1


async def test_turns_that_are_put_meanwhile_are_kept_and_lie_under_new_keys(
    tmp_path: Path, store: str
) -> None:
    async with a_leaky_world(tmp_path, store) as world:
        vault = world.running.vault
        await talk(world)
        loot = await steal(vault)

        async def chat() -> None:
            for number in range(12):
                await world.chat(f"turn {number}", who=ANA | {"x-chat-conversation": "c"})
                await world.chat("hello", who={"x-chat-subject": f"new-{number}", "x-chat-plan": "pro"})

        chatting_on = asyncio.create_task(chat())
        for _ in range(2):
            await replace_all(a_replacement(vault))
        await chatting_on
        rows = await world.kept()
        assert world.outcomes() == {"stored": len(rows)} == {"stored": 6 + 24}
        await replace_all(a_replacement(vault))
        assert len(await everything_said(world)) == len(rows)
        assert len(await lies_under(vault)) == len(rows)
        assert {series for under in (await lies_under(vault)).values() for _, series in under} == {3}
        assert await opens_with(vault, loot) == 0


async def test_a_leaked_key_of_a_day_costs_the_records_of_that_day(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_leaky_world(tmp_path, store) as world:
        vault = world.running.vault
        await talk(world)
        said, before = await everything_said(world), await expiries(connections)
        days = [day_of_epoch(epoch) for epoch in await epochs(vault)]
        assert len(days) > 1
        day = datetime.fromtimestamp(days[0] * 86_400, UTC).date().isoformat()
        wanted = await a_replacement(vault).survey(Scope.parse(f"day:{day}"))
        assert wanted.people == 0
        assert 0 < wanted.records < (await a_replacement(vault).survey(Scope.parse("all"))).records

        state = await replace_all(a_replacement(vault), f"day:{day}")

        assert state.records == wanted.records
        found = [(day_of_epoch(epoch), series_of_epoch(epoch)) for epoch in await epochs(vault)]
        assert found == [*((day, 0) for day in days[1:]), (days[0], 1)]
        assert set().union(*(await lies_under(vault)).values()) == {(1, 0), (1, 1)}
        assert await everything_said(world) == said
        assert await expiries(connections) == before
        # All days at once, by their first and their last.
        first, last = day, datetime.fromtimestamp(days[-1] * 86_400, UTC).date().isoformat()
        await replace_all(a_replacement(vault), f"days:{first}..{last}")
        assert set().union(*(await lies_under(vault)).values()) == {(1, 2)}
        assert await everything_said(world) == said


async def test_a_leaked_key_of_a_person_costs_theirs_alone(tmp_path: Path, store: str) -> None:
    async with a_leaky_world(tmp_path, store) as world:
        vault = world.running.vault
        await talk(world)
        said = await everything_said(world)
        done = await a_replacement(vault).person(world.tag())
        assert (done.lost, done.generations) == (0, (1,))
        generations = {
            subject: {generation for generation, _ in under}
            for (subject, _), under in (await lies_under(vault)).items()
        }
        assert generations == {world.tag(): {2}, world.tag("ben"): {1}}
        assert await everything_said(world) == said


async def test_after_a_leaked_kek_nothing_is_sealed_anew_before_it_is_out_of_use(
    tmp_path: Path, store: str
) -> None:
    async with a_leaky_world(tmp_path, store) as world:
        vault = world.running.vault
        await talk(world)
        loot = await steal(vault)
        work = a_replacement(vault)
        for refused in ("PRIMARY", "DECRYPT"):
            with pytest.raises(KeysetError, match=f"version 1 is {refused}.*keys rotate --wait"):
                await work.begin(Scope.parse("kek:1"))
            await advance(a_rotation(vault), Step.PROMOTED if refused == "PRIMARY" else Step.DESTROYED)
        with pytest.raises(KeysetError, match="no version 7"):
            await work.begin(Scope.parse("kek:7"))
        assert await opens_with(vault, loot) > 0  # a rotation alone does not help
        await replace_all(work, "kek:1")
        assert await opens_with(vault, loot) == 0


async def test_a_run_that_breaks_off_at_any_write_is_gone_on_with(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_leaky_world(tmp_path, store) as world:
        vault = world.running.vault
        await talk(world, conversations=1)
        said, before = await everything_said(world), await expiries(connections)
        loot = await steal(vault)
        seen = Writes()
        await replace_all(a_replacement(vault, seen))
        writes = len(seen.seen)
        assert {"renew_key", "reseal", "retire_keys", "destroy_epochs", "swap_control ring"} <= set(seen.seen)
        for number in range(1, writes + 1):
            for is_done_first in (False, True):
                broken = a_replacement(vault, Writes(number, is_done_first=is_done_first))
                with pytest.raises((Killed, ExceptionGroup)) as found:
                    await replace_all(broken)
                assert isinstance(found.value, Killed) or found.group_contains(Killed)
                state = await a_replacement(vault).state()
                if state is not None and not state.is_over:
                    await replace_all(a_replacement(vault))
                assert await everything_said(world) == said
        assert await expiries(connections) == before
        assert await opens_with(vault, loot) == 0
        state = await a_replacement(vault).state()
        assert state is not None
        assert {series_of_epoch(epoch) for epoch in await epochs(vault)} == {state.series}
        for name in ("ana", "ben"):
            assert len((await vault.store.subject_state(world.tag(name))).wraps) == 1


async def test_who_goes_on_passes_over_whoever_is_done(tmp_path: Path, store: str) -> None:
    async with a_leaky_world(tmp_path, store) as world:
        vault = world.running.vault
        await talk(world)
        await replace_all(a_replacement(vault), to=Stage.HANDED_OUT)
        state = await a_replacement(vault).state()
        assert state is not None
        leaked = LeakedKeys(made_before=state.handed_out_at, is_leaked_epoch=lambda epoch: epoch < 2**20)
        assert (await vault.roller.replace(world.tag(), leaked)).records > 0
        assert (await vault.roller.replace(world.tag(), leaked)).records == 0
        assert (await vault.store.subject_state(world.tag())).generation == 2
        await world.chat("hello", who={"x-chat-subject": "carl", "x-chat-plan": "pro"})
        await world.kept()
        await replace_all(a_replacement(vault))
        assert (await vault.store.subject_state(world.tag())).generation == 2
        assert (
            await vault.store.subject_state(world.tag("carl"))
        ).generation == 1  # a key from after the leak


@pytest.mark.parametrize(
    "age, says",
    [pytest.param(0, "waiting until each node", id="lags"), pytest.param(2 * LIVE_MS, "vanished", id="gone")],
)
async def test_nothing_is_sealed_anew_before_every_node_seals_with_the_new_keys(
    tmp_path: Path, store: str, age: int, says: str
) -> None:
    async with a_leaky_world(tmp_path, store) as world:
        vault = world.running.vault
        await talk(world)
        other = {"at": wall_clock() - age, "ring": 1, "roots": {}, "policy": ""}
        await vault.store.beat("other", json.dumps(other).encode())
        work = a_replacement(vault)
        await replace_all(work, to=Stage.SERIES_ADDED)
        async with asyncio.timeout(20):
            while True:
                with pytest.raises(NotYetError, match=says) as waiting:
                    await work.advance()
                if vault.settings.node not in str(waiting.value):
                    break
                await asyncio.sleep(0.01)
        assert set().union(*(await lies_under(vault)).values()) == {(1, 0)}
        await vault.store.forget_node("other")
        assert (await replace_all(work)).step is Stage.DESTROYED


async def test_what_is_under_way_on_a_node_holds_up_the_walk(tmp_path: Path, store: str) -> None:
    async with a_leaky_world(tmp_path, store) as world:
        vault = world.running.vault
        await talk(world)
        work = a_replacement(vault)
        with vault.record_keys.wrapping():
            await replace_all(work, to=Stage.SERIES_ADDED)
            for _ in range(20):
                await vault.record_keys.news.wait() if vault.record_keys.news.is_set() else None
                with pytest.raises(NotYetError, match="works with the key ring"):
                    await work.advance()
                await asyncio.sleep(0.01)
        assert (await replace_all(work)).step is Stage.DESTROYED


async def test_the_old_keys_of_days_stay_for_the_soak(tmp_path: Path, store: str) -> None:
    async with a_leaky_world(tmp_path, store) as world:
        vault = world.running.vault
        await talk(world)
        work = a_replacement(vault, soak_ms=3_600_000)
        await replace_all(work, to=Stage.RESEALED)
        with pytest.raises(NotYetError, match=r"3[56]\d\d s more"):
            await work.advance()
        assert {series_of_epoch(epoch) for epoch in await epochs(vault)} == {0, 1}
        assert set().union(*(await lies_under(vault)).values()) == {(2, 1)}


async def test_what_is_put_under_old_keys_of_days_all_the_same_is_seen_and_not_lost(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_leaky_world(tmp_path, store) as world:
        vault = world.running.vault
        await talk(world)
        said = await everything_said(world)
        row = await anext(vault.store.annotations(world.tag("ben")))
        [old] = await vault.store.records(world.tag("ben"), row.turn, [0])
        day = datetime.fromtimestamp(day_of_epoch((await epochs(vault))[0]) * 86_400, UTC).date()
        scope = f"days:{day}..{day.replace(year=day.year + 9)}"
        work = a_replacement(vault)
        await replace_all(work, scope, to=Stage.RESEALED)
        name = b"cp:{%s}:r:%s" % (world.tag("ben").hex().encode(), row.turn.hex().encode())
        assert old is not None
        await connections.ask([["SET", name, old, "KEEPTTL"]])
        assert (await work.advance()).step is Stage.HANDED_OUT
        assert (await replace_all(work, scope)).step is Stage.DESTROYED
        assert await everything_said(world) == said


async def test_what_is_damaged_is_given_up_only_by_number(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_leaky_world(tmp_path, store) as world:
        vault = world.running.vault
        await talk(world)
        row = await anext(vault.store.annotations(world.tag("ben")))
        [blob] = await vault.store.records(world.tag("ben"), row.turn, [0])
        assert blob is not None
        name = b"cp:{%s}:r:%s" % (world.tag("ben").hex().encode(), row.turn.hex().encode())
        await connections.ask([["SETRANGE", name, len(blob) - 1, bytes([blob[-1] ^ 1])]])
        work = a_replacement(vault)
        assert (await replace_all(work, to=Stage.RESEALED)).damaged == 1
        for _ in range(2):
            with pytest.raises(KeysetError, match=r"1 records lie under the old keys.*--abandon-damaged 1"):
                await work.advance()
        assert {series_of_epoch(epoch) for epoch in await epochs(vault)} == {0, 1}
        assert (await work.advance(abandon_damaged=1)).step is Stage.DESTROYED
        assert {series_of_epoch(epoch) for epoch in await epochs(vault)} == {1}


async def test_another_scope_waits_until_the_first_is_over_or_given_up(tmp_path: Path, store: str) -> None:
    async with a_leaky_world(tmp_path, store) as world:
        vault = world.running.vault
        await talk(world)
        said = await everything_said(world)
        work = a_replacement(vault, by="ops1")
        with pytest.raises(KeysetError, match="nothing is being sealed anew"):
            await work.abort()
        await replace_all(work, to=Stage.HANDED_OUT)
        with pytest.raises(KeysetError, match=r"--scope all, begun by ops1.*--abort"):
            await work.begin(Scope.parse("kek:1"))
        await work.abort()
        assert await everything_said(world) == said
        await world.chat("under the series that was handed out", who=ANA | {"x-chat-conversation": "x"})
        await world.kept()
        state = await replace_all(work)
        assert state.series == 2
        assert {series_of_epoch(epoch) for epoch in await epochs(vault)} == {2}


async def test_two_at_once_do_no_harm(tmp_path: Path, store: str, connections: Connections) -> None:
    async with a_leaky_world(tmp_path, store) as world:
        vault = world.running.vault
        await talk(world)
        said, before = await everything_said(world), await expiries(connections)
        loot = await steal(vault)

        async def go_on(by: str) -> None:
            work = a_replacement(vault, by=by)
            while (state := await work.state()) is None or not state.is_over:
                try:
                    await work.begin(Scope.parse("all"))
                    await work.advance()
                except (NotYetError, StoreUnavailableError):
                    await asyncio.sleep(0.01)
                except KeysetError:
                    continue  # the other has ended it

        async with asyncio.timeout(20):
            await asyncio.gather(go_on("ops1"), go_on("ops2"))
        assert await everything_said(world) == said
        assert await expiries(connections) == before
        assert await opens_with(vault, loot) == 0


async def test_a_rotation_meanwhile_costs_nothing(tmp_path: Path, store: str) -> None:
    async with a_leaky_world(tmp_path, store) as world:
        vault = world.running.vault
        await talk(world)
        said = await everything_said(world)
        work = a_replacement(vault)
        await replace_all(work, to=Stage.HANDED_OUT)
        await advance(a_rotation(vault), Step.DESTROYED)
        assert (await replace_all(work)).step is Stage.DESTROYED
        await advance(a_rotation(vault), Step.DESTROYED)
        assert await everything_said(world) == said
        assert await a_rotation(vault).verify() == (2 + len(await epochs(vault)), 0)


class Rotating(Pace):
    """Puts every wrap under another version as soon as something was sealed anew."""

    def __init__(self, vault: Vault) -> None:
        super().__init__()
        self._vault = vault
        self._has_rotated = False
        self._alone = asyncio.Lock()

    async def __call__(self, records: int) -> None:
        async with self._alone:  # nobody goes on meanwhile
            if not self._has_rotated:
                self._has_rotated = True
                await advance(a_rotation(self._vault), Step.REWRAPPED)


async def test_a_walk_goes_on_with_the_ring_that_a_rotation_has_made_meanwhile(
    tmp_path: Path, store: str
) -> None:
    async with a_leaky_world(tmp_path, store) as world:
        for number in range(12):
            await world.chat(f"{number}", who={"x-chat-subject": f"p{number}", "x-chat-plan": "pro"})
        said = await everything_said(world)
        async with open_vault(world.running.vault.settings) as other:
            work = a_replacement(other, pace=Rotating(world.running.vault))
            assert (await replace_all(work)).records >= 12
        assert await everything_said(world) == said
        assert (await a_rotation(world.running.vault).verify())[1] == 0


async def test_a_person_who_is_being_erased_gets_no_new_key(tmp_path: Path, store: str) -> None:
    """What must go lies under the old key: sealed anew under the one that stays for a hold, it would stay too."""
    async with a_leaky_world(tmp_path, store) as world:
        vault, tag = world.running.vault, world.tag()
        await talk(world)
        renewed = await vault.roller.renew(tag, await vault.store.subject_state(tag), erasing=True)
        assert renewed == 2
        before = await lies_under(vault)
        state = await vault.store.subject_state(tag)
        assert await vault.roller.renew(tag, state, erasing=False) is None
        with pytest.raises(StoreUnavailableError, match="being erased"):
            await vault.roller.roll(tag)
        work = a_replacement(vault)
        await replace_all(work, to=Stage.HANDED_OUT)
        with pytest.raises(NotYetError, match="of 1 people is being changed"):
            await work.advance()
        after = await lies_under(vault)
        assert {key: under for key, under in after.items() if key[0] == tag} == {
            key: under for key, under in before.items() if key[0] == tag
        }
        await vault.eraser.erase(tag, by="test")
        assert (await replace_all(work)).step is Stage.DESTROYED


async def test_all_keys_of_a_day_go_together_when_it_is_over(tmp_path: Path, store: str) -> None:
    async with a_leaky_world(tmp_path, store) as world:
        vault = world.running.vault
        # The proxy's own reaper is to leave them to this test.
        until = b"%d" % (wall_clock() + 3_600_000)
        await vault.store.swap_control("epochs:next", await vault.store.read_control("epochs:next"), until)
        with vault.record_keys.wrapping():
            await vault.record_keys.epoch_key(20_000)
        await replace_all(a_replacement(vault, soak_ms=60_000), to=Stage.RESEALED)
        with vault.record_keys.wrapping():
            await vault.record_keys.epoch_key(20_000)
            await vault.record_keys.epoch_key(20_001)
            await vault.record_keys.epoch_key(60_000)
        reaping = RedisReaper(vault.store.connections, vault.erasure)
        assert [(day_of_epoch(each), series_of_epoch(each)) for each in await reaping.epochs()] == [
            (20_000, 0), (20_000, 1), (20_001, 1), (60_000, 1),
        ]  # fmt: skip
        assert await vault.reaper(world.running.metrics).destroy_epoch(wall_clock() + 3_600_001)
        assert [day_of_epoch(each) for each in await reaping.epochs()] == [20_001, 60_000]


async def test_a_damaged_state_is_told(tmp_path: Path, store: str) -> None:
    async with a_leaky_world(tmp_path, store) as world:
        vault = world.running.vault
        await vault.store.swap_control(REPLACEMENT_NAME, None, b"{")
        with pytest.raises(KeysetError, match="'reseal' in the store cannot be read"):
            await a_replacement(vault).begin(Scope.parse("all"))


async def test_a_rate_is_kept_to() -> None:
    loop = asyncio.get_running_loop()
    told: list[int] = []
    pace = Pace(rate=1000, progress=told.append)
    began = loop.time()
    for _ in range(5):
        await pace(20)
    assert loop.time() - began >= 0.099
    assert told == [20] * 5
