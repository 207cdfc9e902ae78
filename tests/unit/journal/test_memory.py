"""What waits is bounded in bytes, all of them, and never forgotten by accident."""

import asyncio

from chatproxy.journal.memory import MemoryJournal
from chatproxy.model import Caller, Exchange, TurnId

KIB = 1024


def an_exchange(number: int = 0) -> Exchange:
    return Exchange(TurnId(number.to_bytes(16)), 0, Caller(), "openai_chat")


def grow(journal: MemoryJournal, exchange: Exchange, data: bytes) -> bool:
    has_room = journal.grow(exchange, len(data), pieces=1)
    if has_room:
        exchange.request.append(data)
    return has_room


def test_what_is_held_is_let_go_entirely_whatever_becomes_of_it() -> None:
    journal = MemoryJournal(100 * KIB)
    kept, abandoned = an_exchange(1), an_exchange(2)
    for exchange in (kept, abandoned):
        assert journal.open(exchange)
        assert grow(journal, exchange, b"x" * 1000)
        assert grow(journal, exchange, b"y")
    assert journal.held_bytes > 2002
    assert not journal.is_idle
    journal.abandon(abandoned)
    journal.close(kept)
    assert asyncio.run(journal.take(10)) == [kept]
    assert not journal.is_idle
    journal.release(kept)
    assert journal.held_bytes == 0
    assert journal.is_idle


def test_exchanges_without_any_bytes_are_bounded_too() -> None:
    journal = MemoryJournal(100 * KIB)
    opened = 0
    while journal.open(an_exchange(opened)):
        opened += 1
        assert opened < 1000
    assert journal.is_full


def test_many_small_pieces_take_more_than_their_bytes() -> None:
    journal = MemoryJournal(20 * KIB)
    exchange = an_exchange()
    journal.open(exchange)
    pieces = 0
    while grow(journal, exchange, b"x"):
        pieces += 1
        assert pieces < 1000
    assert journal.held_bytes <= 20 * KIB


def test_a_piece_that_finds_no_room_changes_nothing() -> None:
    journal = MemoryJournal(10 * KIB)
    exchange = an_exchange()
    journal.open(exchange)
    before = journal.held_bytes
    assert not journal.grow(exchange, 11 * KIB, pieces=1)
    assert (journal.held_bytes, exchange.size) == (before, 0)


def test_the_oldest_is_taken_first_and_no_more_than_asked() -> None:
    journal = MemoryJournal(100 * KIB)
    exchanges = [an_exchange(number) for number in range(3)]
    for exchange in exchanges:
        journal.open(exchange)
        journal.close(exchange)
    assert asyncio.run(journal.take(2)) == exchanges[:2]
    assert asyncio.run(journal.take(2)) == exchanges[2:]


async def test_who_takes_waits_until_something_has_ended() -> None:
    journal = MemoryJournal(100 * KIB)
    exchange = an_exchange()
    async with asyncio.TaskGroup() as group:
        taking = group.create_task(journal.take(1))
        await asyncio.sleep(0)
        assert not taking.done()
        journal.open(exchange)
        journal.close(exchange)
    assert taking.result() == [exchange]
