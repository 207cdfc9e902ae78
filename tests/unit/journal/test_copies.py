"""Pieces of an exchange become that exchange again, in whatever way it was cut, and however often they come."""

import random

import pytest

from chatproxy.errors import UnreadableError
from chatproxy.journal.copies import Assembly, Piece, Written, encode_piece
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


def noted(written: Written, exchange: Exchange) -> bytes:
    piece = written.missing(exchange)
    written.note(piece, request_pieces=len(exchange.request), reply_pieces=len(exchange.reply))
    return encode_piece(piece)


def grown(cuts: random.Random) -> tuple[Exchange, list[bytes]]:
    """Return an exchange that has ended, and the pieces that were noted at random moments."""
    exchange, written = an_exchange(), Written()
    pieces = []
    for step in range(30):
        side = exchange.request if step < 10 else exchange.reply
        side.append(bytes(cuts.randbytes(cuts.randrange(1, 40))))
        if step == 10:
            exchange.status, exchange.content_type, exchange.content_encoding = 200, "text/event-stream", "br"
        if cuts.random() < 0.3:
            pieces.append(noted(written, exchange))
    exchange.named = exchange.turn = TurnId(b"as the client it")
    exchange.end = StreamEnd.CLIENT_ABORTED
    pieces.append(noted(written, exchange))
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
    assembly.add(encode_piece(Written().missing(exchange)))

    assert assembly.exchange() == joined(exchange)


def test_what_has_no_end_was_interrupted() -> None:
    exchange, written = an_exchange(), Written()
    exchange.request.append(b"{")
    assembly = Assembly()
    assembly.add(noted(written, exchange))

    found = assembly.exchange()

    assert found is not None
    assert (found.end, found.request, found.reply, found.size) == (StreamEnd.INTERRUPTED, [b"{"], [], 1)
    assert not found.truncated


def test_what_misses_a_piece_is_kept_up_to_there_and_marked() -> None:
    exchange, written = an_exchange(), Written()
    assembly = Assembly()
    for number, text in enumerate([b"one", b"two", b"three"]):
        exchange.reply.append(text)
        piece = noted(written, exchange)
        if number != 1:
            assembly.add(piece)

    found = assembly.exchange()

    assert found is not None
    assert (found.reply, found.truncated) == ([b"one"], True)


def test_what_misses_its_beginning_is_nothing() -> None:
    exchange, written = an_exchange(), Written()
    noted(written, exchange)
    exchange.reply.append(b"more")
    assembly = Assembly()
    assembly.add(noted(written, exchange))

    assert assembly.exchange() is None
    assert Assembly().exchange() is None


@pytest.mark.parametrize(
    "content", [b"", b"\xc1", b"\x90", encode_piece(Written().missing(an_exchange()))[:-5]]
)
def test_what_is_no_piece_is_refused(content: bytes) -> None:
    with pytest.raises(UnreadableError):
        Assembly().add(content)


def test_a_piece_shows_nothing_of_what_it_holds() -> None:
    exchange = an_exchange()
    exchange.request.append(b"a secret question")

    assert "secret" not in repr(Written().missing(exchange))
    assert "ana" not in repr(Written().missing(exchange))
    assert isinstance(Written().missing(exchange), Piece)
