import asyncio
import os
import socket
from collections.abc import Iterator
from time import monotonic

import pytest

from chatproxy.web.server import run_event_loop
from chatproxy.workflows.giving_way import GivingWay

Ends = tuple[int, int]


@pytest.fixture
def pipe() -> Iterator[Ends]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def compute(seconds: float) -> None:
    """Keep the loop from going on."""
    until = monotonic() + seconds
    while monotonic() < until:
        pass


async def listen(pipe: Ends) -> None:
    """Have the loop wait for what comes through the pipe."""
    asyncio.get_running_loop().add_reader(pipe[0], lambda: os.read(pipe[0], 1))
    await asyncio.sleep(0)


def test_way_is_given_to_what_has_come(pipe: Ends) -> None:
    async def main() -> None:
        giving_way = GivingWay(goes_first=lambda: False)
        await listen(pipe)
        await giving_way.give()
        os.write(pipe[1], b".")

        assert giving_way.is_due()

    run_event_loop(main())


def test_way_is_given_until_the_task_has_run_that_begins_with_what_has_come() -> None:
    async def main() -> None:
        giving_way = GivingWay(goes_first=lambda: False)
        loop = asyncio.get_running_loop()
        answered = asyncio.Event()

        async def answer() -> None:
            answered.set()

        class Listening(asyncio.Protocol):
            def data_received(self, data: bytes) -> None:
                self.task = loop.create_task(answer())

        ours, theirs = socket.socketpair()
        transport, _ = await loop.create_connection(Listening, sock=ours)
        with theirs:
            theirs.send(b".")
            await giving_way.give()
        transport.close()

        assert answered.is_set()

    run_event_loop(main())


def test_no_way_is_given_while_nothing_has_come(pipe: Ends) -> None:
    async def main() -> bool:
        giving_way = GivingWay(goes_first=lambda: False)
        await listen(pipe)
        await giving_way.give()
        return not giving_way.is_due()

    # On a busy machine a millisecond may pass between two lines.
    assert any(run_event_loop(main()) for _ in range(100))


def test_way_is_given_after_a_millisecond_to_whoever_cannot_be_seen_to_wait() -> None:
    async def main() -> None:
        giving_way = GivingWay(goes_first=lambda: False)
        await giving_way.give()
        compute(0.001)

        assert giving_way.is_due()

    run_event_loop(main())


async def test_a_loop_that_cannot_be_asked_is_given_way_by_time() -> None:
    giving_way = GivingWay(goes_first=lambda: False)
    await giving_way.give()
    compute(0.001)

    assert giving_way.is_due()


def test_work_goes_on_for_a_tenth_of_what_a_crowd_has_just_taken_whoever_waits(pipe: Ends) -> None:
    async def main() -> None:
        giving_way = GivingWay(goes_first=lambda: False)
        await listen(pipe)
        asyncio.get_running_loop().call_soon(compute, 0.4)
        await giving_way.give()
        crowd_ended_at = monotonic()
        os.write(pipe[1], b".")

        while not giving_way.is_due():
            pass
        assert monotonic() - crowd_ended_at >= 0.4 * 0.1 * 0.9

    run_event_loop(main())


async def others_ran(giving_way: GivingWay) -> bool:
    """Return whether a callback of somebody else ran when way was given."""
    ran = False

    def other() -> None:
        nonlocal ran
        ran = True

    handle = asyncio.get_running_loop().call_soon(other)
    await giving_way.give()
    handle.cancel()
    return ran


@pytest.mark.parametrize("goes_first", [False, True])
async def test_what_goes_first_gives_no_way(*, goes_first: bool) -> None:
    assert await others_ran(GivingWay(goes_first=lambda: goes_first)) is not goes_first
