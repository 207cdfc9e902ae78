"""An exchange in pieces: what of it is not written yet, and how pieces that were read become an exchange again."""

import msgspec

from chatproxy.errors import UnreadableError
from chatproxy.model import Caller, Exchange, StreamEnd, TurnId


class Begun(msgspec.Struct, array_like=True, frozen=True):
    """What is known of an exchange from its beginning."""

    received_at: int
    caller: Caller
    dialect: str
    request_encoding: str
    conversation: str | None

    def __repr__(self) -> str:
        return f"Begun({self.received_at}, {self.dialect})"


class State(msgspec.Struct, array_like=True, frozen=True):
    """What may change while an exchange runs."""

    turn: TurnId
    named: TurnId | None
    status: int
    content_type: str
    content_encoding: str
    truncated: bool
    end: StreamEnd | None


class Piece(msgspec.Struct, array_like=True, frozen=True):
    """What was added to an exchange since the piece before. ``*_at``: bytes of request and reply that come before."""

    begun: Begun | None
    state: State
    request_at: int
    request: bytes
    reply_at: int
    reply: bytes

    def __repr__(self) -> str:
        return f"Piece({len(self.request)} and {len(self.reply)} bytes)"


class Written(msgspec.Struct, frozen=True):
    """How much of a running exchange is in pieces already."""

    has_begun: bool = False
    request: int = 0
    """Bytes."""
    reply: int = 0
    request_pieces: int = 0
    reply_pieces: int = 0

    def missing(self, exchange: Exchange) -> Piece:
        """Return what is not written yet. Quick: nothing is copied twice."""
        return Piece(
            begun=None
            if self.has_begun
            else Begun(
                exchange.received_at,
                exchange.caller,
                exchange.dialect,
                exchange.request_encoding,
                exchange.conversation,
            ),
            state=State(
                exchange.turn,
                exchange.named,
                exchange.status,
                exchange.content_type,
                exchange.content_encoding,
                exchange.truncated,
                exchange.end,
            ),
            request_at=self.request,
            request=b"".join(exchange.request[self.request_pieces :]),
            reply_at=self.reply,
            reply=b"".join(exchange.reply[self.reply_pieces :]),
        )

    def and_then(self, piece: Piece, *, request_pieces: int, reply_pieces: int) -> "Written":
        """Return what is written with *piece*, which went up to so many pieces of request and reply."""
        return Written(
            has_begun=True,
            request=self.request + len(piece.request),
            reply=self.reply + len(piece.reply),
            request_pieces=request_pieces,
            reply_pieces=reply_pieces,
        )


NOTHING_WRITTEN = Written()


class Assembly:
    """Pieces of one exchange, as they are read: each may come more than once."""

    def __init__(self) -> None:
        self._begun: Begun | None = None
        self._state: State | None = None
        self._request, self._reply = bytearray(), bytearray()
        self._has_gap = False

    def add(self, content: bytes) -> None:
        """Take a piece. Raises UnreadableError."""
        try:
            piece = _decoder.decode(content)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise UnreadableError("a journal frame is of another version") from error
        if piece.begun is not None:
            self._begun = piece.begun
        if self._state is None or self._state.end is None:
            self._state = piece.state
        self._has_gap |= _extend(self._request, piece.request_at, piece.request)
        self._has_gap |= _extend(self._reply, piece.reply_at, piece.reply)

    def exchange(self) -> Exchange | None:
        """Return the exchange: interrupted, unless its end is there; None if its beginning is missing."""
        if self._begun is None or self._state is None:
            return None
        state = self._state
        return Exchange(
            turn=state.turn,
            received_at=self._begun.received_at,
            caller=self._begun.caller,
            dialect=self._begun.dialect,
            request_encoding=self._begun.request_encoding,
            conversation=self._begun.conversation,
            request=[bytes(self._request)] if self._request else [],
            status=state.status,
            content_type=state.content_type,
            content_encoding=state.content_encoding,
            reply=[bytes(self._reply)] if self._reply else [],
            size=len(self._request) + len(self._reply),
            truncated=state.truncated or self._has_gap,
            end=state.end or StreamEnd.INTERRUPTED,
            named=state.named,
        )


def _extend(data: bytearray, at: int, more: bytes) -> bool:
    """Append what of *more* is new; return whether something before it is missing."""
    if at > len(data):
        return True
    data += more[len(data) - at :]
    return False


encode_piece = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(Piece)
