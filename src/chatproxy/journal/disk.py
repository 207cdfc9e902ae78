"""What waits between capture and store, in memory and, sealed, on the local disk: a crash loses nothing that is on disk.

1. Whoever captures never waits: pieces of what runs, and what has ended, are written by a thread of the journal's own,
   many at once, with one sync. What the store has confirmed before it was written is not written at all.
2. Turns are kept from memory, as long as they have room there. If the store is away for long, those that wait longest
   are put away: they are only on disk then, and are read again in their turn.
3. A segment goes when everything in it is kept. What a dead process has left is adopted, at the start and while another
   runs; an exchange that had not ended counts as interrupted. Keeping a turn twice changes nothing.
4. Each volume has a key of its own, wrapped by the root; a new one is made each day and with each root version. So the
   journal in an old backup opens no longer than the erasure horizon. What waits is kept, or written anew, before a root
   version that it lies under is retired: the node says which it needs (``RingWatch``), and the rotation waits for that.
5. Of a store with replicas, what it has confirmed stays for some minutes: another server may take over that does not have
   it, and then it is kept again.
6. A disk that is full, or gone, makes this a memory journal, which says so, until it can be written again.
"""

import asyncio
import contextlib
import math
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

from chatproxy.clock import Clock
from chatproxy.errors import ChatproxyError
from chatproxy.journal.copies import NOTHING_WRITTEN, Piece, encode_piece
from chatproxy.journal.memory import MemoryJournal
from chatproxy.journal.segment import Frame
from chatproxy.journal.volume import Recovered, SegmentFile, Volume, Waiting
from chatproxy.journal.volumes import Volumes
from chatproxy.model import Exchange
from chatproxy.ports import Journal
from chatproxy.telemetry import Log, Metrics, TurnOutcome

_log = Log("journal")

_TICK_SECONDS = 0.1
"""How long a piece of a running exchange waits before it is written."""
_LOOK_SECONDS = 0.003
"""How often it is looked whether something has waited for long enough."""
_GATHER_SECONDS = 0.006
"""How long what has ended waits for more to be written with it, or for the store, which is often as quick."""
_CHORES_SECONDS = 1.0
_ADOPT_SECONDS = 5.0
_AGE_SECONDS = 30.0
"""How often it is looked whether the volume is a day old."""
_PAUSE_SECONDS = 0.5
"""After a write that failed."""
_FAILING_SECONDS = 5.0
"""How long the disk may fail before that is a problem to tell."""
_SAFE_SECONDS = 5.0
"""How long an answer may be held for its copy to be on disk."""
_BATCH_BYTES = 4 << 20
_SHARE = 5
"""The journal takes no more than the fifth part of its file system."""
_LONGEST_LEAD = 8
"""How many segments may be begun after one in which something still runs: then that is written anew."""


class _Ticket:
    """What is on disk of one exchange."""

    __slots__ = (
        "exchange",
        "is_dirty",
        "is_released",
        "is_safe",
        "number",
        "number_there",
        "segments",
        "since",
        "stale",
        "waiters",
        "written",
    )

    def __init__(self, number: int, exchange: Exchange) -> None:
        self.number = number
        self.number_there = number
        """Its number in the segments; of what was read again, another one than its own."""
        self.exchange = exchange
        self.written = NOTHING_WRITTEN
        self.segments: list[SegmentFile] = []
        self.stale: list[SegmentFile] = []
        """Segments that are not needed once it is written anew."""
        self.is_dirty = False
        self.since = 0.0
        """Since when it waits to be written, as the loop's clock has it; 0: for long enough."""
        self.is_safe = False
        """Whether all of it is on disk, its end included."""
        self.is_released = False
        self.waiters: list[asyncio.Future[bool]] = []

    def begin_anew(self) -> None:
        """Write it again from the start."""
        self.stale += self.segments
        self.segments = []
        self.written = NOTHING_WRITTEN

    def lies_in(self, segment: SegmentFile) -> None:
        """A piece of it was written there."""
        if segment not in self.segments:
            self.segments.append(segment)
            segment.holds += 1
        for other in self.stale:
            other.holds -= 1
        self.stale.clear()

    def let_go(self) -> None:
        """Nothing of it is needed on disk any more."""
        self.is_released = True
        for segment in (*self.segments, *self.stale):
            segment.holds -= 1
        self.segments, self.stale = [], []
        if self.waiters:
            self.tell(is_safe=True)
        self.part()

    def part(self) -> None:
        """Forget the exchange, which knows its ticket: as a circle, both would stay until the collector comes."""
        del self.exchange

    def tell(self, *, is_safe: bool) -> None:
        """Answer those who wait to know whether it is safe."""
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(is_safe)
        self.waiters.clear()


class DiskJournal:
    """A memory journal with a disk behind it."""

    def __init__(
        self,
        volumes: Volumes,
        *,
        memory: int,
        disk: int,
        refuses: bool,
        keep_ms: int,
        clock: Clock,
        metrics: Metrics,
        is_clock_sure: Callable[[], bool],
        again_seconds: float = 0.0,
    ) -> None:
        """``memory`` and ``disk``: bytes. ``refuses``: no exchange is opened that would be in memory only.

        ``is_clock_sure``: whether *clock* may say that something is over; a wrong one must not cost what waits.
        ``again_seconds``: for so long what is kept can be put again.
        ``keep_ms``: what could not be kept for so long goes, since nobody may have agreed to more.
        """
        self._volumes = volumes
        self._memory = MemoryJournal(memory)
        self._memory_room = memory
        self._disk_room = disk
        self._refuses = refuses
        self._keep_ms = keep_ms
        self._clock = clock
        self._metrics = metrics
        self._is_clock_sure = is_clock_sure
        self._last_number = 0
        self._running: dict[int, _Ticket] = {}
        self._dirty: OrderedDict[int, _Ticket] = OrderedDict()
        """What is to be written, in this order."""
        self._grown: dict[int, _Ticket] = {}
        """What is to be written with the next tick."""
        self._is_hurried = False
        """Somebody waits until what they have is on disk."""
        self._next_look: asyncio.TimerHandle | None = None
        """When it is looked next whether something waits for long enough; None: nothing waits, or it is being written."""
        self._is_due = asyncio.Event()
        """Something is to be written now."""
        self._something = self._memory.something_ended
        self._primary = 0
        """The root's primary version, as far as that was told."""
        self._root_moved = asyncio.Event()
        self._has_adopted = False
        self._backlog: deque[SegmentFile] = deque()
        """Where ended exchanges are that are on disk only, oldest first."""
        self._loaded: deque[Exchange] = deque()
        self._is_loading = False
        self._failing_since: float | None = None
        self._failure = ""
        self._disk_bytes = 0
        self._again_seconds = again_seconds
        self._confirmed: deque[tuple[float, _Ticket]] = deque()
        """What is kept and may have to be put again, oldest first, by when it was kept."""

    @property
    def held_bytes(self) -> int:
        """Bytes in memory now."""
        return self._memory.held_bytes

    @property
    def disk_bytes(self) -> int:
        """Bytes on disk, as of the last write."""
        return self._disk_bytes

    @property
    def disk_room(self) -> int:
        """Return how many bytes may be on disk."""
        return self._disk_room

    @property
    def waiting(self) -> int:
        """How many ended exchanges are on disk only."""
        return sum(len(segment.waiting.numbers) for segment in self._backlog)

    @property
    def is_full(self) -> bool:
        """Whether no more than a twentieth of the memory is free."""
        return self._memory.is_full

    @property
    def is_filling(self) -> bool:
        """Whether copies come faster than they are kept."""
        return self._memory.is_filling

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs, waits or is being kept."""
        return self._memory.is_idle and not self._backlog and not self._is_loading

    @property
    def problem(self) -> str | None:
        """Why what is captured now is in memory only, in words; None: it is not."""
        if self._is_over:
            return "the journal has reached CHATPROXY_JOURNAL_SIZE; new turns wait in memory only"
        if self._failing_since is not None:
            since = asyncio.get_running_loop().time() - self._failing_since
            if since >= _FAILING_SECONDS:
                return f"the journal cannot be written ({self._failure}); turns wait in memory only"
        if self._volumes.current is None:
            return "the journal has no key yet, since the root does not answer; turns wait in memory only"
        return None

    @property
    def _is_over(self) -> bool:
        return self._disk_bytes > self._disk_room * 0.95

    def open(self, exchange: Exchange) -> bool:
        """Begin to keep *exchange*; False if there is no room, and then it is lost and counted."""
        if (self._refuses and self.problem is not None) or not self._memory.open(exchange):
            return False
        ticket = self._new_ticket(exchange)
        self._running[ticket.number] = ticket
        return True

    def grow(self, exchange: Exchange, size: int, *, pieces: int) -> bool:
        """Account for *size* more bytes in *pieces*; False if there is no room for them."""
        ticket: _Ticket = exchange.ticket
        if not ticket.is_dirty:
            ticket.is_dirty = True
            self._grown[ticket.number] = ticket
        return self._memory.grow(exchange, size, pieces=pieces)

    def abandon(self, exchange: Exchange) -> None:
        """Forget a running exchange."""
        ticket: _Ticket = exchange.ticket
        del self._running[ticket.number]
        self._grown.pop(ticket.number, None)
        self._memory.abandon(exchange)
        self._forget(ticket)

    def close(self, exchange: Exchange) -> None:
        """The exchange has ended: it may be kept now."""
        ticket: _Ticket = exchange.ticket
        del self._running[ticket.number]
        self._grown.pop(ticket.number, None)
        if ticket.number not in self._dirty:
            loop = asyncio.get_running_loop()
            ticket.since = loop.time()
            self._dirty[ticket.number] = ticket
            if self._next_look is None:
                self._next_look = loop.call_later(_LOOK_SECONDS, self._look)
        self._memory.close(exchange)

    async def is_safe(self, exchange: Exchange) -> bool:
        """Wait until an exchange that has ended is on disk, or kept; False if that takes too long."""
        ticket: _Ticket = exchange.ticket
        if ticket.is_safe or ticket.is_released:
            return True
        if self._failing_since is not None or self.problem is not None:
            return False
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        ticket.waiters.append(waiter)
        self._is_hurried = True
        self._is_due.set()
        try:
            async with asyncio.timeout(_SAFE_SECONDS):
                return await waiter
        except TimeoutError:
            return False

    async def take(self, most: int) -> list[Exchange]:
        """Wait for ended exchanges and return up to *most* of them, oldest first."""
        while True:
            self._something.clear()
            if self._backlog and not self._loaded:
                await self._load(self._backlog[0])
            if self._loaded:
                return [self._loaded.popleft() for _ in range(min(most, len(self._loaded)))]
            if not self._backlog:
                if taken := self._memory.take_now(most):
                    return taken
                await self._something.wait()

    def release(self, exchange: Exchange, *, is_kept: bool = False) -> None:
        """The exchange has met its fate; forget it, but for what may have to be put again."""
        self._memory.release(exchange)
        if is_kept and self._again_seconds and self.problem is None and self._failing_since is None:
            self._confirmed.append((asyncio.get_running_loop().time(), exchange.ticket))
        else:
            self._forget(exchange.ticket)

    def put_again(self) -> int:
        """Have everything kept again that was kept a moment ago; return how many turns."""
        count = 0
        while self._confirmed:
            _, ticket = self._confirmed.popleft()
            if not ticket.is_safe:
                # Not written yet, so it is still in memory.
                self._memory.take_back(ticket.exchange)
                self._loaded.append(ticket.exchange)
            else:
                self._leave_to_disk(ticket)
            count += 1
        self._metrics.turns_seen.inc(count)
        self._something.set()
        return count

    async def set_aside(self, exchange: Exchange) -> bool:
        """Leave what cannot be kept to the next start, which tries again; False if it is lost."""
        ticket: _Ticket = exchange.ticket
        volume = self._volumes.current
        is_written = False
        if volume is not None:
            piece = NOTHING_WRITTEN.missing(exchange)
            try:
                await self._volumes.in_thread(
                    lambda: volume.set_aside(_frame(ticket.number, piece), now=exchange.received_at)
                )
                is_written = True
            except OSError as error:
                self._note_failure(error)
        self.release(exchange)
        return is_written

    def follow_root(self, primary: int) -> int | None:
        """Have no volume need a root version older than *primary*; return the oldest that one needs now."""
        oldest = self._volumes.oldest_root if self._has_adopted else 0
        if primary > self._primary or (oldest is not None and oldest < primary):
            self._primary = max(primary, self._primary)
            self._root_moved.set()
        return oldest

    @property
    def leaves_nothing(self) -> bool:
        """Whether nothing is left that is not kept, and nothing that was set aside."""
        return self.is_idle and not any(
            segment.is_set_aside and segment.holds for segment in self._volumes.segments()
        )

    async def begin(self) -> None:
        """Be ready to write, if the root answers, and adopt what is there. Raises ConfigurationError."""
        await self._volumes.begin()
        self._disk_room = min(self._disk_room, self._volumes.file_system_bytes // _SHARE)
        await self._once(self._renew)
        await self._once(self._adopt)

    async def run(self) -> None:
        """Write, adopt and tidy, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for work in (self._write_all(), self._collect(), self._look_after()):
                tasks.create_task(work)

    async def aclose(self) -> None:
        """Write what there is, and leave it to the next process."""
        self._dirty.update(self._grown)
        try:
            while self._dirty and await self._write_some(math.inf):
                pass
        except OSError as error:
            self._note_failure(error)
        await self._volumes.aclose()

    def _look(self) -> None:
        """Have what waits for long enough written, or look again soon."""
        self._next_look = None
        if not self._dirty:
            return
        loop = asyncio.get_running_loop()
        if next(iter(self._dirty.values())).since <= loop.time() - _GATHER_SECONDS:
            self._is_due.set()
        else:
            self._next_look = loop.call_later(_LOOK_SECONDS, self._look)

    async def _write_all(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._is_due.wait()
            self._is_due.clear()
            until = math.inf if self._is_hurried else loop.time() - _GATHER_SECONDS
            self._is_hurried = False
            try:
                has_written = await self._write_some(until)
            except OSError as error:
                self._note_failure(error)
                await self._volumes.make_room()
                has_written = False
            if not has_written:
                await asyncio.sleep(_PAUSE_SECONDS)
            if self._dirty and self._next_look is None:
                self._next_look = loop.call_later(_LOOK_SECONDS, self._look)

    async def _write_some(self, until: float) -> bool:
        """Write what waits since *until*, up to a bound; False if that cannot be now. Raises OSError."""
        volume = self._volumes.current
        if volume is None or self._is_over:
            self._forget_confirmed(all_unwritten=True)
            return False
        batch: list[tuple[_Ticket, Piece, int, int]] = []
        size = 0
        while self._dirty and size < _BATCH_BYTES:
            ticket = next(iter(self._dirty.values()))
            if ticket.since > until:
                break
            del self._dirty[ticket.number]
            ticket.is_dirty, ticket.since = False, 0.0
            if ticket.segments and ticket.segments[0].volume is not volume:
                ticket.begin_anew()
            exchange = ticket.exchange
            piece = ticket.written.missing(exchange)
            batch.append((ticket, piece, len(exchange.request), len(exchange.reply)))
            size += len(piece.request) + len(piece.reply)
        if not batch:
            return True
        try:
            segment = await self._volumes.in_thread(
                lambda: volume.append(
                    [_frame(ticket.number, piece) for ticket, piece, _, _ in batch], now=self._clock()
                )
            )
        except BaseException:
            # Also when cancelled: it may be on disk, or not. Twice is once.
            for ticket, *_ in batch:
                if not ticket.is_released:
                    ticket.is_dirty = True
                    self._dirty[ticket.number] = ticket
                    ticket.tell(is_safe=False)
            raise
        self._failing_since = None
        self._disk_bytes = self._volumes.size
        for ticket, piece, request_pieces, reply_pieces in batch:
            if ticket.is_released:
                continue
            ticket.written = ticket.written.and_then(
                piece, request_pieces=request_pieces, reply_pieces=reply_pieces
            )
            ticket.lies_in(segment)
            if piece.state.end is not None:
                ticket.is_safe = True
                ticket.tell(is_safe=True)
        return True

    async def _collect(self) -> None:
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            if self._grown:
                self._dirty |= self._grown
                self._grown.clear()
                self._is_due.set()

    async def _look_after(self) -> None:
        """Do what is to be done now and then."""
        chores = {self._tidy: _CHORES_SECONDS, self._adopt: _ADOPT_SECONDS, self._renew: _AGE_SECONDS}
        loop = asyncio.get_running_loop()
        due = {chore: loop.time() + seconds for chore, seconds in chores.items()}
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CHORES_SECONDS):
                    await self._root_moved.wait()
            if has_root_moved := self._root_moved.is_set():
                self._root_moved.clear()
                await self._once(self._renew)
            for chore, seconds in chores.items():
                is_due = loop.time() >= due[chore] or (has_root_moved and chore == self._tidy)
                if is_due or (chore == self._renew and self._volumes.current is None):
                    await self._once(chore)
                    due[chore] = loop.time() + seconds

    async def _once(self, chore: Callable[[], Awaitable[None]]) -> None:
        try:
            await chore()
        except OSError as error:
            self._note_failure(error)
        except ChatproxyError as error:
            _log.warning("the root does not open the journal; it is tried again", kind=type(error).__name__)

    async def _renew(self) -> None:
        await self._volumes.renew(self._primary)
        await self._volumes.move_set_aside()

    async def _adopt(self) -> None:
        """Take over what dead processes have left, as far as it opens now. Raises OSError, ChatproxyError."""
        adopted: list[tuple[Volume, int]] = []
        try:
            async for each in self._volumes.adopt():
                adopted.append(each)  # noqa: PERF401 - what came before a failure counts
            self._has_adopted = not self._volumes.unread
            self._metrics.journal_failures.inc(len(self._volumes.unread))
        finally:
            self._take_over(adopted)

    def _take_over(self, adopted: Sequence[tuple[Volume, int]]) -> None:
        found = [segment for volume, _ in adopted for segment in volume.segments if segment.waiting.numbers]
        # Oldest first, whoever has written it: of a conversation, what comes first is to be kept first.
        found.sort(key=lambda segment: (segment.created_at, segment.number))
        self._backlog.extendleft(reversed(found))
        for _, count in adopted:
            self._metrics.turns_seen.inc(count)
            self._metrics.turns_recovered.inc(count)
            if count:
                _log.warning("turns of a process that ended are kept now", turns=count)
        if adopted:
            self._something.set()

    async def _tidy(self) -> None:
        """Remove what is kept, and what nobody may keep any longer; make room in memory. Raises OSError."""
        self._move_on()
        self._forget_confirmed()
        self._put_away()
        self._expire()
        await self._volumes.tidy()
        self._disk_bytes = self._volumes.size

    def _move_on(self) -> None:
        """Write anew what has run for long, so that old segments can go."""
        current = self._volumes.current
        newest = current.last_number if current is not None else 0
        for ticket in self._running.values():
            if ticket.segments and (
                ticket.segments[0].volume is not current or newest - ticket.segments[0].number > _LONGEST_LEAD
            ):
                ticket.begin_anew()
                self._dirty[ticket.number] = ticket
                self._is_due.set()

    def _put_away(self) -> None:
        """Where memory runs short, leave to the disk what waits longest."""
        if self._memory.held_bytes <= self._memory_room // 2:
            return
        for exchange in self._memory.put_away(lambda exchange: exchange.ticket.is_safe):
            self._leave_to_disk(exchange.ticket)
        self._something.set()

    def _leave_to_disk(self, ticket: _Ticket) -> None:
        """It is read again in its turn."""
        ticket.part()
        *earlier, last = ticket.segments
        last.waiting.add(ticket.number_there, earlier)
        if last not in self._backlog:
            self._backlog.append(last)

    def _forget_confirmed(self, *, all_unwritten: bool = False) -> None:
        """Forget what has been kept for long enough; ``all_unwritten``: also what is only in memory."""
        until = asyncio.get_running_loop().time() - self._again_seconds
        while self._confirmed and self._confirmed[0][0] <= until:
            self._forget(self._confirmed.popleft()[1])
        if all_unwritten:
            for entry in [entry for entry in self._confirmed if not entry[1].is_safe]:
                self._confirmed.remove(entry)
                self._forget(entry[1])

    def _expire(self) -> None:
        """Let go what could not be kept for so long that it must be gone (R9)."""
        if not self._is_clock_sure():
            return
        until = self._clock() - self._keep_ms
        for segment in self._volumes.segments():
            if segment.created_at >= until:
                continue
            if segment in self._backlog:
                self._backlog.remove(segment)
                for _, files in _places(segment, segment.take_waiting()):
                    self._let_go(files, TurnOutcome.EXPIRED)
            elif segment.is_set_aside:
                segment.holds = 0

    async def _load(self, segment: SegmentFile) -> None:
        """Read what waits in a segment into memory."""
        self._backlog.remove(segment)
        waiting = segment.take_waiting()
        self._is_loading = True
        try:
            recovered = await self._volumes.in_thread(lambda: _read(segment, waiting))
        except OSError as error:
            # Nothing of it is let go: whoever starts next tries again.
            _log.error("a segment of the journal cannot be read; it stays for the next start", failure=error)
            self._metrics.journal_failures.inc()
            for _ in waiting.numbers:
                self._metrics.settle(TurnOutcome.LOST)
            return
        except asyncio.CancelledError:
            # Who takes did not want to wait longer; it is read the next time.
            segment.put_back(waiting)
            self._backlog.appendleft(segment)
            raise
        finally:
            self._is_loading = False
        if recovered.damaged_frames:
            self._metrics.journal_damaged.inc(recovered.damaged_frames)
            _log.error("frames of the journal are damaged", frames=recovered.damaged_frames)
        for number, files in _places(segment, waiting):
            exchange = recovered.exchanges[number]
            if exchange is None:
                self._let_go(files, TurnOutcome.LOST)
                continue
            # A number of its own: the one that it has there may be that of another one here.
            ticket = self._new_ticket(exchange)
            ticket.segments, ticket.is_safe, ticket.number_there = files, True, number
            self._memory.take_back(exchange)
            self._loaded.append(exchange)

    def _let_go(self, files: Iterable[SegmentFile], outcome: TurnOutcome) -> None:
        """What is on disk only is not needed any more."""
        for file in files:
            file.holds -= 1
        self._metrics.settle(outcome)

    def _new_ticket(self, exchange: Exchange) -> _Ticket:
        self._last_number += 1
        ticket = _Ticket(self._last_number, exchange)
        exchange.ticket = ticket
        return ticket

    def _forget(self, ticket: _Ticket) -> None:
        self._dirty.pop(ticket.number, None)
        ticket.let_go()

    def _note_failure(self, error: OSError) -> None:
        self._metrics.journal_failures.inc()
        if self._failing_since is None:
            self._failing_since = asyncio.get_running_loop().time()
            _log.error("the journal cannot be written; turns wait in memory only", failure=error)
        self._failure = error.strerror or type(error).__name__
        self._forget_confirmed(all_unwritten=True)


def _frame(number: int, piece: Piece) -> Frame:
    return Frame(number, is_last=piece.state.end is not None, content=encode_piece(piece))


def _places(segment: SegmentFile, waiting: Waiting) -> Iterator[tuple[int, list[SegmentFile]]]:
    """Yield the number of each exchange that waits in *segment*, with all segments that it is in."""
    for number in waiting.numbers:
        yield number, [*waiting.earlier.get(number, ()), segment]


def _read(segment: SegmentFile, waiting: Waiting) -> Recovered:
    """Read a segment, which nothing more is written to from here on. Raises OSError."""
    if segment.volume.current is segment:
        segment.volume.roll()
    return segment.volume.read(segment, waiting)


_: type[Journal] = DiskJournal
