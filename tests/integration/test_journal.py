"""The journal on a real disk: what was on it when a process ended is kept, once, whatever else happens.

A crash is a copy of the directory, taken while the process runs: the same bytes, and no lock.
"""

import asyncio
import contextlib
import gc
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from chatproxy.crypto.keys import KeyStatus
from chatproxy.crypto.keyset import make_keyset
from chatproxy.errors import ChatproxyError, ConfigurationError, RootRefusedError, RootUnavailableError
from chatproxy.journal.disk import DiskJournal
from chatproxy.journal.volumes import Volumes
from chatproxy.kms.file import FileRoot, KeysetFile
from chatproxy.model import Caller, Exchange, StreamEnd, TurnId
from chatproxy.ports import RootKey
from chatproxy.telemetry import Metrics
from integration.left_whole import assert_files_left_whole

NOW = 1_750_000_000_000
DAY = 86_400_000
PATIENCE = 60
KIB, MIB = 1 << 10, 1 << 20


def _copy_what_is_there(source: str, target: str) -> None:
    """Copy a file, if it was not removed since the directory was read."""
    with contextlib.suppress(FileNotFoundError):
        shutil.copy2(source, target)


class World:
    """A directory for journals, a root, and a clock that stands still."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.now = NOW
        self.is_clock_sure = True
        file = KeysetFile(directory / "keys" / "keyset", data_dir=directory / "data")
        file.create(make_keyset(created_at=NOW))
        self.root: Any = FileRoot(file)
        self.metrics = Metrics()

    @asynccontextmanager
    async def journal(
        self,
        name: str = "journal",
        *,
        memory: int = 64 * MIB,
        disk: int = 1 << 30,
        refuses: bool = False,
        again_seconds: float = 0.0,
    ) -> AsyncIterator[DiskJournal]:
        """A process's journal, in the directory *name*."""
        self.metrics = Metrics()
        journal = DiskJournal(
            Volumes(self.directory / name, self.root, clock=lambda: self.now, ballast=0),
            memory=memory,
            disk=disk,
            refuses=refuses,
            keep_ms=30 * DAY,
            clock=lambda: self.now,
            metrics=self.metrics,
            is_clock_sure=lambda: self.is_clock_sure,
            again_seconds=again_seconds,
        )
        await journal.begin()
        running = asyncio.create_task(journal.run())
        try:
            yield journal
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await journal.aclose()
        assert_files_left_whole(self.directory / name, spoken=["question", "answer"])

    def crash(self, name: str = "journal") -> str:
        """Return the name of a directory that is as *name* would be after a crash now."""
        copies = sum(path.name.startswith("crash") for path in self.directory.iterdir())
        shutil.copytree(
            self.directory / name, self.directory / f"crash{copies}", copy_function=_copy_what_is_there
        )
        return f"crash{copies}"

    def files(self, name: str = "journal", pattern: str = "*/*.seg") -> list[Path]:
        """Return the segments in *name*."""
        return sorted((self.directory / name).glob(pattern))

    def bytes_on_disk(self) -> int:
        """Return how large the segments are."""
        return sum(path.stat().st_size for path in self.files())

    def outcomes(self) -> dict[str, float]:
        """Return how many turns met which outcome."""
        return {
            sample.labels["outcome"]: sample.value
            for metric in self.metrics.turns.collect()
            for sample in metric.samples
            if sample.name.endswith("_total") and sample.value
        }


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def begin(journal: DiskJournal, text: str, *, received_at: int = NOW) -> Exchange:
    exchange = Exchange(
        TurnId(text.encode().rjust(16)[-16:]), received_at, Caller(subject="ana", plan="pro"), "openai_chat"
    )
    assert journal.open(exchange)
    add(journal, exchange, exchange.request, f"question {text}")
    return exchange


def add(journal: DiskJournal, exchange: Exchange, pieces: list[bytes], text: str) -> None:
    assert journal.grow(exchange, len(text), pieces=1)
    pieces.append(text.encode())


def end(journal: DiskJournal, exchange: Exchange, text: str) -> Exchange:
    exchange.status = 200
    add(journal, exchange, exchange.reply, f"answer {text}")
    exchange.end = StreamEnd.COMPLETE
    journal.close(exchange)
    return exchange


async def chat(journal: DiskJournal, text: str) -> Exchange:
    """Have an exchange, and wait until it is on disk."""
    exchange = end(journal, begin(journal, text), text)
    assert await journal.is_safe(exchange)
    return exchange


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not holds():
            await asyncio.sleep(0.01)


async def take_all(journal: DiskJournal, count: int) -> list[Exchange]:
    taken: list[Exchange] = []
    async with asyncio.timeout(PATIENCE):
        while len(taken) < count:
            taken += await journal.take(10)
    return taken


def said(exchange: Exchange) -> tuple[str, str, str | None]:
    return (b"".join(exchange.request).decode(), b"".join(exchange.reply).decode(), exchange.end)


def whole(text: str) -> tuple[str, str, str]:
    return (f"question {text}", f"answer {text}", "complete")


async def test_what_the_store_confirms_at_once_is_not_written(world: World) -> None:
    async with world.journal() as journal:
        end(journal, begin(journal, "quick"), "quick")
        for _ in range(5):  # the store's answer comes a few turns of the loop later
            await asyncio.sleep(0)
        [taken] = await journal.take(10)
        journal.release(taken)
        await chat(journal, "slow")
        crash = world.crash()

    async with world.journal(crash) as journal:
        [kept] = await take_all(journal, 1)
        assert said(kept) == whole("slow")
        assert not journal.waiting


@pytest.mark.parametrize("is_put_away", [pytest.param(False, id="kept"), pytest.param(True, id="put away")])
async def test_of_what_is_kept_or_put_away_nothing_stays_in_memory(world: World, is_put_away: bool) -> None:
    gc.disable()  # it would come sooner or later
    try:
        async with world.journal(memory=16_000) as journal:
            turn = (await chat(journal, "x" * 3_000)).turn
            if is_put_away:
                await until(lambda: journal.waiting == 1)
            else:
                journal.release((await journal.take(1))[0])
            held = [each for each in gc.get_objects() if isinstance(each, Exchange) and each.turn == turn]
    finally:
        gc.enable()

    assert held == []


async def test_after_a_crash_what_was_on_disk_is_there_and_in_order(world: World) -> None:
    async with world.journal() as journal:
        exchanges = [await chat(journal, str(number)) for number in range(5)]
        crash = world.crash()
    async with world.journal(crash) as journal:
        found = await take_all(journal, 5)

        assert found == exchanges_joined(exchanges)
        assert world.metrics.turns_recovered._value.get() == 5
        assert not journal.is_idle
        for exchange in found:
            journal.release(exchange)
        assert journal.is_idle


def exchanges_joined(exchanges: list[Exchange]) -> list[Exchange]:
    for exchange in exchanges:
        exchange.request = [b"".join(exchange.request)]
        exchange.reply = [b"".join(exchange.reply)]
    return exchanges


async def test_what_was_running_is_interrupted_with_what_had_come(world: World) -> None:
    async with world.journal() as journal:
        exchange = begin(journal, "long")
        exchange.status = 200
        add(journal, exchange, exchange.reply, "half an ")
        await until(lambda: world.bytes_on_disk() > 100)
        first = world.bytes_on_disk()
        add(journal, exchange, exchange.reply, "answer")
        await until(lambda: world.bytes_on_disk() > first)
        crash = world.crash()
        end(journal, exchange, "")
    async with world.journal(crash) as journal:
        [found] = await take_all(journal, 1)

    assert said(found) == ("question long", "half an answer", "interrupted")
    assert found.status == 200


async def test_what_is_kept_is_on_no_disk_any_more(world: World) -> None:
    async with world.journal() as journal:
        kept = await chat(journal, "kept")
        waits = await chat(journal, "waits")
        await take_all(journal, 2)
        journal.release(kept)
        crash = world.crash()
        journal.release(waits)
        world.now += 60_000
        await until(lambda: not world.files())
        assert journal.is_idle
    assert not list((world.directory / "journal").iterdir())
    async with world.journal(crash) as journal:
        # What the store has confirmed in between is told again: keeping it twice is keeping it once.
        assert {said(found)[0] for found in await take_all(journal, 2)} == {"question kept", "question waits"}


async def test_what_was_adopted_and_what_is_new_do_not_get_into_each_other_s_way(world: World) -> None:
    async with world.journal() as journal:
        for number in range(5):
            await chat(journal, f"old {number}")
        crash = world.crash()
    world.now += 1
    async with world.journal(crash) as journal:
        running = [begin(journal, f"new {number}") for number in range(5)]
        adopted = await take_all(journal, 5)
        for exchange in adopted:
            journal.release(exchange)
        for number, exchange in enumerate(running):
            end(journal, exchange, f"new {number}")
            assert await journal.is_safe(exchange)
        crash = world.crash(crash)
        assert await take_all(journal, 5) == running
    async with world.journal(crash) as journal:
        found = [said(exchange) for exchange in await take_all(journal, journal.waiting)]
        assert found[-5:] == [whole(f"new {number}") for number in range(5)]


async def test_a_process_that_stops_leaves_what_is_not_kept_to_the_next(world: World) -> None:
    async with world.journal() as journal:
        end(journal, begin(journal, "last"), "last")
    async with world.journal() as journal:
        [found] = await take_all(journal, 1)
        assert said(found) == whole("last")
        journal.release(found)
    assert not list((world.directory / "journal").iterdir())


async def test_a_process_adopts_what_another_leaves_while_both_run(world: World) -> None:
    async with world.journal() as one:
        async with world.journal() as other:
            end(other, begin(other, "other"), "other")
            mine = await chat(one, "mine")
            assert await one.take(10) == [mine]  # what another still writes is not touched
        [found] = await take_all(one, 1)

    assert said(found) == whole("other")


async def test_without_room_in_memory_what_waits_is_read_from_disk_in_its_turn(world: World) -> None:
    async with world.journal(memory=256 * KIB) as journal:
        for number in range(200):
            text = f"{number} " + "x" * 2 * KIB
            exchange = begin(journal, text)
            await asyncio.sleep(0)
            end(journal, exchange, text)
            assert await journal.is_safe(exchange)
            await until(lambda: journal.held_bytes < 200 * KIB)
        assert journal.waiting > 100
        found = []
        for _ in range(200):
            [exchange] = await journal.take(1)
            found.append(said(exchange)[0].split()[1])
            journal.release(exchange)
        assert found == [str(number) for number in range(200)]
        assert journal.is_idle
        assert journal.held_bytes == 0


async def test_a_long_stream_that_was_put_away_is_whole_again(world: World) -> None:
    async with world.journal(memory=8 * MIB) as journal:
        stream = begin(journal, "stream")
        for number in range(40):  # more than two segments
            filler = begin(journal, f"filler {number}")
            end(journal, filler, "y" * MIB)
            assert await journal.is_safe(filler)
            assert await take_all(journal, 1) == [filler]
            journal.release(filler)
            if number % 10 == 0:
                add(journal, stream, stream.reply, f"{number},")
        end(journal, stream, "over")
        assert await journal.is_safe(stream)
        big = [begin(journal, f"big {number}") for number in range(5)]
        for exchange in big:
            end(journal, exchange, "z" * MIB)
            assert await journal.is_safe(exchange)
        await until(lambda: journal.waiting > 0)
        [found, *_] = await take_all(journal, 1)

        assert said(found) == ("question stream", "0,10,20,30,answer over", "complete")


async def test_a_stream_that_runs_for_long_does_not_keep_what_is_kept_on_disk(world: World) -> None:
    async with world.journal() as journal:
        stream = begin(journal, "stream")
        add(journal, stream, stream.reply, "first,")
        await until(lambda: world.bytes_on_disk() > 100)
        for number in range(12):
            filler = begin(journal, f"filler {number}")
            end(journal, filler, "y" * 16 * MIB)
            assert await journal.is_safe(filler)
            assert await take_all(journal, 1) == [filler]
            journal.release(filler)
        await until(lambda: world.bytes_on_disk() < 40 * MIB)
        crash = world.crash()
        end(journal, stream, "over")
    async with world.journal(crash) as journal:
        found = [said(exchange) for exchange in await take_all(journal, journal.waiting)]
        assert ("question stream", "first,", "interrupted") in found


class FalteringRoot:
    """One that does not answer now and then."""

    def __init__(self, behind: RootKey, *, said: list[ChatproxyError | None]) -> None:
        """``said``: how it fails, each time that it is to unwrap something; None, and beyond that: it does not."""
        self._behind = behind
        self._said = iter(said)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._behind, name)

    async def unwrap(self, purpose: str, wraps: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
        if (error := next(self._said, None)) is not None:
            raise error
        return await self._behind.unwrap(purpose, wraps)


async def two_have_died(world: World) -> None:
    """Leave what two processes have written, a chat each, to the next one."""
    for name in ("journal", "other"):
        async with world.journal(name) as journal:
            await chat(journal, name)
    for left in (world.directory / "other").iterdir():
        left.rename(world.directory / "journal" / left.name)


@pytest.mark.parametrize(
    "said_first",
    [
        [RootUnavailableError("it does not answer")],
        [None, RootUnavailableError("it does not answer")],
        [None, RootRefusedError("the token is not valid any more")],
    ],
    ids=["away at the first", "away at the second", "refused at the second"],
)
async def test_what_dead_processes_have_left_is_adopted_once_the_root_answers_for_all_of_them(
    world: World, said_first: list[ChatproxyError | None]
) -> None:
    await two_have_died(world)
    world.root = FalteringRoot(world.root, said=said_first)
    async with world.journal() as journal:
        assert journal.follow_root(1) == 0
        await journal._adopt()
        found = {said(exchange) for exchange in await take_all(journal, 2)}
    assert found == {whole("journal"), whole("other")}


async def test_what_dead_processes_have_left_is_adopted_once_the_disk_answers_for_all_of_them(
    world: World,
) -> None:
    await two_have_died(world)
    last_key = max((world.directory / "journal").iterdir()) / "key"
    aside = last_key.rename(world.directory / "key")
    last_key.mkdir()  # reading it fails, whoever reads
    async with world.journal() as journal:
        last_key.rmdir()
        aside.rename(last_key)
        await journal._adopt()
        found = {said(exchange) for exchange in await take_all(journal, 2)}
    assert found == {whole("journal"), whole("other")}


@pytest.mark.parametrize("unreadable", ["key", "lock", "00000001.seg"])
async def test_what_cannot_be_read_keeps_nothing_else_from_being_adopted_or_written(
    world: World, unreadable: str, caplog: pytest.LogCaptureFixture
) -> None:
    await two_have_died(world)
    file = min((world.directory / "journal").iterdir()) / unreadable
    aside = file.rename(world.directory / "aside")
    file.mkdir()  # reading it fails, whoever reads
    async with world.journal() as journal:
        first = said((await take_all(journal, 1))[0])
        await journal._adopt()
        exchange = begin(journal, "new")
        end(journal, exchange, "answer")
        assert await journal.is_safe(exchange)
        # It may need an old root.
        assert (journal.follow_root(1), journal.problem) == (0, None)
        assert world.metrics.journal_failures._value.get() == 2
        assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 1
        journal.release((await take_all(journal, 1))[0])

        file.rmdir()
        aside.rename(file)
        await journal._adopt()
        second = said((await take_all(journal, 1))[0])
        assert journal.follow_root(1) == 1
    assert {first, second} == {whole("journal"), whole("other")}


async def test_what_the_root_refuses_keeps_nothing_else_from_being_adopted(world: World) -> None:
    await two_have_died(world)
    world.root = FalteringRoot(world.root, said=[RootRefusedError("the token is not valid any more")])
    async with world.journal() as journal:
        first = said((await take_all(journal, 1))[0])
        assert journal.follow_root(1) == 0
        await journal._adopt()
        second = said((await take_all(journal, 1))[0])
    assert {first, second} == {whole("journal"), whole("other")}


async def test_a_file_of_somebody_else_in_a_journal_is_passed_over(world: World) -> None:
    async with world.journal() as journal:
        await chat(journal, "one")
    [volume] = (world.directory / "journal").iterdir()
    (volume / "notes.seg").write_text("not ours")
    async with world.journal() as journal:
        assert [said(exchange) for exchange in await take_all(journal, 1)] == [whole("one")]


async def test_damage_costs_what_it_hit_and_is_told(world: World) -> None:
    async with world.journal() as journal:
        for number in range(3):
            await chat(journal, str(number))
        crash = world.crash()
    [segment] = world.files(crash)
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    async with world.journal(crash) as journal:
        found = await take_all(journal, 2)

        assert [said(exchange) for exchange in found] == [whole("0"), whole("2")]
        assert world.outcomes() == {"lost": 1}
        assert world.metrics.journal_damaged._value.get() == 1


@pytest.mark.parametrize("cut", [1, 40, 200])
def test_a_torn_end_is_no_damage(world: World, cut: int) -> None:
    async def scenario() -> None:
        async with world.journal() as journal:
            for number in range(3):
                await chat(journal, str(number))
            crash = world.crash()
        [segment] = world.files(crash)
        segment.write_bytes(segment.read_bytes()[:-cut])
        async with world.journal(crash) as journal:
            assert [said(exchange) for exchange in await take_all(journal, 2)] == [whole("0"), whole("1")]
            assert world.metrics.journal_damaged._value.get() == 0

    asyncio.run(scenario())


async def test_what_cannot_be_kept_is_tried_again_by_the_next_start_for_as_long_as_it_may_be_there(
    world: World,
) -> None:
    async with world.journal() as journal:
        await chat(journal, "poison")
        [taken] = await take_all(journal, 1)
        assert await journal.set_aside(taken)
        assert journal.is_idle
        world.now += 60_000
        await until(lambda: not world.files())
        assert len(world.files(pattern="*/*.poison")) == 1
    world.now += 29 * DAY
    async with world.journal() as journal:
        [found] = await take_all(journal, 1)
        assert said(found) == whole("poison")
        assert await journal.set_aside(found)
        world.now += DAY
        await until(lambda: not world.files(pattern="*/*.poison"))


async def test_what_nobody_could_keep_in_time_goes(world: World) -> None:
    async with world.journal() as journal:
        await chat(journal, "old")
    world.now += 31 * DAY
    async with world.journal() as journal:
        await until(lambda: world.outcomes() == {"expired": 1})
        assert journal.is_idle
        await until(lambda: not world.files())


async def test_what_has_just_ended_is_not_written_before_the_store_may_have_confirmed_it(
    world: World,
) -> None:
    async with world.journal() as journal:
        exchange = end(journal, begin(journal, "quick"), "quick")
        ended = exchange.ticket.since
        # Without a pause in between, in which the journal could write by itself.
        assert await journal._write_some(ended - 0.001)
        assert not exchange.ticket.segments
        assert await journal._write_some(ended)
        assert exchange.ticket.segments


async def test_the_journal_is_hurried_by_who_waits_for_the_disk_and_by_nobody_else(world: World) -> None:
    async with world.journal() as journal:
        seen = []
        exchange = end(journal, begin(journal, "held"), "held")
        seen.append(journal._is_hurried)
        waiting = asyncio.create_task(journal.is_safe(exchange))
        await asyncio.sleep(0)
        seen.append(journal._is_hurried and journal._is_due.is_set())
        assert await waiting
        assert [*seen, journal._is_hurried] == [False, True, False]


async def test_what_has_ended_is_written_though_nobody_waits_for_the_disk(world: World) -> None:
    async with world.journal() as journal:
        for text in ("first", "after a rest"):
            exchange = end(journal, begin(journal, text), text)
            await until(lambda ended=exchange: ended.ticket.is_safe)  # type: ignore[misc]


async def test_who_waits_for_the_disk_hears_that_the_store_was_quicker(world: World) -> None:
    async with world.journal() as journal:
        exchange = end(journal, begin(journal, "quick"), "quick")
        waiting = asyncio.create_task(journal.is_safe(exchange))
        await asyncio.sleep(0)
        [taken] = await journal.take(1)
        journal.release(taken, is_kept=True)
        assert not exchange.ticket.segments
        assert await waiting


async def test_of_what_is_given_up_while_it_runs_nothing_is_written(world: World) -> None:
    async with world.journal() as journal:
        exchange = begin(journal, "given up")
        assert journal._grown
        journal.abandon(exchange)
        assert [*journal._running, *journal._grown, *journal._dirty] == []
        await chat(journal, "next")


async def test_what_has_ended_a_moment_after_another_is_written_too(world: World) -> None:
    async with world.journal() as journal:
        early, late = (end(journal, begin(journal, text), text) for text in ("early", "late"))
        late.ticket.since += 0.05
        for exchange in (early, late):
            await until(lambda ended=exchange: ended.ticket.is_safe)  # type: ignore[misc]


async def test_nothing_goes_by_a_clock_that_is_in_doubt(world: World) -> None:
    async with world.journal() as journal:
        await chat(journal, "waits")
    world.now += 31 * DAY
    world.is_clock_sure = False
    async with world.journal() as journal:
        await journal._tidy()
        assert said((await take_all(journal, 1))[0]) == whole("waits")
        assert world.outcomes() == {}


async def with_a_new_root(world: World) -> int:
    version: int = await world.root.add_version(now=NOW)
    await world.root.set_status(version, KeyStatus.PRIMARY)
    return version


async def destroy_first_root(world: World) -> None:
    await world.root.set_status(1, KeyStatus.RETIRED)
    await world.root.set_status(1, KeyStatus.DESTROYED)


async def test_with_a_new_root_version_what_runs_is_written_anew_and_the_old_volume_goes(
    world: World,
) -> None:
    async with world.journal() as journal:
        assert journal.follow_root(1) == 1
        stream = begin(journal, "stream")
        await until(lambda: world.bytes_on_disk() > 100)
        [before] = world.files()
        version = await with_a_new_root(world)
        assert journal.follow_root(version) == 1
        await until(lambda: journal.follow_root(version) == version)
        assert not before.exists()
        crash = world.crash()
        await destroy_first_root(world)
        end(journal, stream, "")
    async with world.journal(crash) as journal:
        assert said((await take_all(journal, 1))[0])[0] == "question stream"


async def test_what_was_set_aside_moves_to_the_new_root_version_and_ends_as_before(world: World) -> None:
    async with world.journal() as journal:
        await chat(journal, "poison")
        [taken] = await take_all(journal, 1)
        assert await journal.set_aside(taken)
        assert journal.is_idle
        assert str(journal.leaves_nothing) == "False"
        world.now += 10 * DAY
        version = await with_a_new_root(world)
        await until(lambda: journal.follow_root(version) == version)
        crash = world.crash()
        await destroy_first_root(world)
        world.now += 20 * DAY + 60_000
        await until(lambda: not world.files(pattern="*/*.poison"))
        assert journal.leaves_nothing
    world.now -= 5 * DAY
    async with world.journal(crash) as journal:
        assert said((await take_all(journal, 1))[0]) == whole("poison")


async def test_what_was_set_aside_and_is_being_tried_again_does_not_move_and_lets_the_old_volume_go(
    world: World,
) -> None:
    async with world.journal() as journal:
        await chat(journal, "poison")
        [taken] = await take_all(journal, 1)
        assert await journal.set_aside(taken)
    version = await with_a_new_root(world)
    async with world.journal() as journal:
        [found] = await take_all(journal, 1)
        journal.follow_root(version)
        await journal._renew()
        assert len(world.files(pattern="*/*.poison")) == 1
        assert journal.follow_root(version) == 1
        journal.release(found, is_kept=True)
        await until(lambda: journal.follow_root(version) == version)
        assert journal.leaves_nothing


async def test_what_waits_on_disk_alone_needs_the_old_root_version_until_it_is_kept(world: World) -> None:
    async with world.journal() as journal:
        await chat(journal, "waits")
    async with world.journal() as journal:
        version = await with_a_new_root(world)
        journal.follow_root(version)
        await until(lambda: len(list((world.directory / "journal").iterdir())) > 1)
        assert journal.follow_root(version) == 1
        assert str(journal.leaves_nothing) == "False"
        [exchange] = await take_all(journal, 1)
        assert journal.follow_root(version) == 1
        journal.release(exchange, is_kept=True)
        await until(lambda: journal.follow_root(version) == version)
        assert journal.leaves_nothing


async def test_after_the_root_version_is_destroyed_an_old_copy_of_the_journal_opens_no_more(
    world: World,
) -> None:
    async with world.journal() as journal:
        await chat(journal, "erased since")
        backup = world.crash()
    version = await world.root.add_version(now=NOW)
    for number, status in ((version, "PRIMARY"), (1, "RETIRED"), (1, "DESTROYED")):
        await world.root.set_status(number, KeyStatus(status))
    async with world.journal(backup) as journal:
        assert journal.is_idle
        assert world.files(backup)  # left where it is, and told


async def test_a_disk_that_cannot_be_written_leaves_turns_in_memory_and_heals(world: World) -> None:
    async with world.journal() as journal:
        volume = world.directory / "journal"
        [home] = volume.iterdir()
        home.chmod(0o500)
        moved = home.rename(world.directory / "away")
        exchange = end(journal, begin(journal, "early"), "early")
        assert not await journal.is_safe(exchange)
        assert await journal.take(1) == [exchange]
        moved.rename(home)
        home.chmod(0o700)
        async with asyncio.timeout(PATIENCE):
            while not await journal.is_safe(exchange):
                await asyncio.sleep(0.01)


async def test_a_journal_that_is_full_says_so_and_refuses_where_it_must(world: World) -> None:
    async with world.journal(disk=256 * KIB, refuses=True) as journal:
        kept = []
        number = 0
        while journal.problem is None:
            exchange = begin(journal, str(number))
            kept.append(end(journal, exchange, "y" * 16 * KIB))
            await journal.is_safe(exchange)
            number += 1
            assert number < 100
        assert "CHATPROXY_JOURNAL_SIZE" in journal.problem
        assert not journal.open(Exchange(TurnId(bytes(16)), NOW, Caller(), "openai_chat"))
        for exchange in await take_all(journal, len(kept)):
            journal.release(exchange)
        world.now += 60_000
        await until(lambda: journal.problem is None)


async def test_what_the_store_confirms_first_is_never_written(world: World) -> None:
    async with world.journal() as journal:
        exchange = end(journal, begin(journal, "quick"), "quick")
        assert await journal.take(1) == [exchange]
        journal.release(exchange)
        assert await journal.is_safe(exchange)
        later = await chat(journal, "later")
        assert await journal.take(1) == [later]
        crash = world.crash()
    async with world.journal(crash) as journal:
        assert [said(found)[0] for found in await take_all(journal, 1)] == ["question later"]


async def test_a_directory_that_others_may_write_in_is_refused(world: World) -> None:
    (world.directory / "journal").mkdir(mode=0o700)
    (world.directory / "journal").chmod(0o770)

    with pytest.raises(ConfigurationError, match="others may write"):
        async with world.journal():
            pass


async def test_nothing_readable_is_in_its_files_and_nobody_else_may_read_them(world: World) -> None:
    async with world.journal() as journal:
        await chat(journal, "canary")
        for path in (world.directory / "journal").rglob("*"):
            assert path.stat().st_mode & 0o077 == 0
            if path.is_file():
                data = path.read_bytes()
                assert b"canary" not in data
                assert b"ana" not in data


async def test_what_was_kept_can_be_put_again_for_a_while_and_only_what_was_kept(world: World) -> None:
    async with world.journal(again_seconds=300.0) as journal:
        for text in ("one", "two", "refused"):
            await chat(journal, text)
        quick = end(journal, begin(journal, "quick"), "quick")
        taken = await take_all(journal, 4)
        for exchange in taken:
            journal.release(exchange, is_kept="refused" not in said(exchange)[0])
        assert journal.is_idle
        assert quick in taken

        assert journal.put_again() == 3

        again = await take_all(journal, 3)
        assert {said(exchange)[0] for exchange in again} == {"question one", "question two", "question quick"}
        assert world.metrics.registry.get_sample_value("chatproxy_turns_pending") == 3
        for exchange in again:
            journal.release(exchange, is_kept=True)
        assert journal.put_again() == 3
        for exchange in await take_all(journal, 3):
            journal.release(exchange)
        assert journal.put_again() == 0
        world.now += 60_000
        await until(lambda: not world.bytes_on_disk())


async def test_what_was_kept_goes_from_disk_when_its_while_is_over(world: World) -> None:
    async with world.journal(again_seconds=0.01) as journal:
        await chat(journal, "one")
        [exchange] = await take_all(journal, 1)
        journal.release(exchange, is_kept=True)
        world.now += 60_000
        await until(lambda: not world.bytes_on_disk())
        assert journal.put_again() == 0


async def test_who_does_not_want_to_wait_for_the_disk_any_longer_loses_nothing(world: World) -> None:
    async with world.journal() as journal:
        await chat(journal, "one")
        crash = world.crash()
    async with world.journal(crash) as journal:
        for _ in range(5):
            taking = asyncio.ensure_future(journal.take(1))
            await asyncio.sleep(0)
            taking.cancel()
            await asyncio.gather(taking, return_exceptions=True)
        assert [said(found)[0] for found in await take_all(journal, 1)] == ["question one"]
