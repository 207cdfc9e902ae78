"""Pieces of an exchange become that exchange again, in whatever way it was cut, and however often they come."""

import random

import pytest

from chatproxy.errors import UnreadableError
from chatproxy.journal.copies import NOTHING_WRITTEN, Assembly, Piece, encode_piece
from chatproxy.model import Age, Caller, Exchange, StreamEnd, Surface, TurnId

CALLER = Caller(
    tenant="acme",
    subject="ana",
    plan="pro",
    conversation="c1",
    surface=Surface.CODE,
    age=Age.ADULT,
    incognito=True,
    train_ai_no=True,
    gpc=True,
)


def an_exchange() -> Exchange:
    return Exchange(
        TurnId(b"a turn's 16 byte"),
        1_750_000_000_000,
        CALLER,
        "openai_chat",
        "gzip",
        conversation="x-thread\x001",
    )


class Notes:
    """Of an exchange: what was added since the note before."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._written = NOTHING_WRITTEN

    def next(self) -> bytes:
        exchange = self._exchange
        piece = self._written.missing(exchange)
        self._written = self._written.and_then(
            piece, request_pieces=len(exchange.request), reply_pieces=len(exchange.reply)
        )
        return encode_piece(piece)


def grown(cuts: random.Random) -> tuple[Exchange, list[bytes]]:
    """Return an exchange that has ended, and the pieces that were noted at random moments."""
    exchange = an_exchange()
    notes = Notes(exchange)
    pieces = []
    for step in range(30):
        side = exchange.request if step < 10 else exchange.reply
        side.append(bytes(cuts.randbytes(cuts.randrange(1, 40))))
        if step == 10:
            exchange.status, exchange.content_type, exchange.content_encoding = 200, "text/event-stream", "br"
        if cuts.random() < 0.3:
            pieces.append(notes.next())
    exchange.named = exchange.turn = TurnId(b"as the client it")
    exchange.end = StreamEnd.CLIENT_ABORTED
    pieces.append(notes.next())
    exchange.size = sum(map(len, (*exchange.request, *exchange.reply)))
    return exchange, pieces


def joined(exchange: Exchange) -> Exchange:
    exchange.request = [b"".join(exchange.request)]
    exchange.reply = [b"".join(exchange.reply)]
    return exchange


@pytest.mark.parametrize("seed", range(20))
def test_an_exchange_in_pieces_is_the_same_exchange(seed: int) -> None:
    exchange, pieces = grown(random.Random(seed))  # noqa: S311 - cuts, no keys
    assembly = Assembly()

    for piece in pieces:
        assembly.add(piece)

    assert assembly.exchange() == joined(exchange)


@pytest.mark.parametrize("seed", range(20))
def test_pieces_that_come_twice_or_overlap_change_nothing(seed: int) -> None:
    cuts = random.Random(seed)  # noqa: S311 - cuts, no keys
    exchange, pieces = grown(cuts)
    assembly = Assembly()

    for number, piece in enumerate(pieces):
        assembly.add(piece)
        assembly.add(pieces[cuts.randrange(number + 1)])
    assembly.add(encode_piece(NOTHING_WRITTEN.missing(exchange)))

    assert assembly.exchange() == joined(exchange)


def test_what_has_no_end_was_interrupted() -> None:
    exchange = an_exchange()
    notes = Notes(exchange)
    exchange.request.append(b"{")
    assembly = Assembly()
    assembly.add(notes.next())

    found = assembly.exchange()

    assert found is not None
    assert (found.end, found.request, found.reply, found.size) == (StreamEnd.INTERRUPTED, [b"{"], [], 1)
    assert not found.truncated


def test_what_misses_a_piece_is_kept_up_to_there_and_marked() -> None:
    exchange = an_exchange()
    notes = Notes(exchange)
    assembly = Assembly()
    for number, text in enumerate([b"one", b"two", b"three"]):
        exchange.reply.append(text)
        piece = notes.next()
        if number != 1:
            assembly.add(piece)

    found = assembly.exchange()

    assert found is not None
    assert (found.reply, found.truncated) == ([b"one"], True)


def test_what_misses_its_beginning_is_nothing() -> None:
    exchange = an_exchange()
    notes = Notes(exchange)
    notes.next()
    exchange.reply.append(b"more")
    assembly = Assembly()
    assembly.add(notes.next())

    assert assembly.exchange() is None
    assert Assembly().exchange() is None


@pytest.mark.parametrize(
    "content", [b"", b"\xc1", b"\x90", encode_piece(NOTHING_WRITTEN.missing(an_exchange()))[:-5]]
)
def test_what_is_no_piece_is_refused(content: bytes) -> None:
    with pytest.raises(UnreadableError):
        Assembly().add(content)


def test_a_piece_shows_nothing_of_what_it_holds() -> None:
    exchange = an_exchange()
    exchange.request.append(b"a secret question")

    assert "secret" not in repr(NOTHING_WRITTEN.missing(exchange))
    assert "ana" not in repr(NOTHING_WRITTEN.missing(exchange))
    assert isinstance(NOTHING_WRITTEN.missing(exchange), Piece)
