"""Remember a chat over WebSocket turn by turn: each message of the person, with the answers up to the next.

Rules of this file:

1. A turn is closed as soon as it is over, so that a crash in minute 30 costs no more than the turn that runs (P16): by
   the answer's end as described, by the person's next message, by ten seconds without a further piece of the answer,
   or with the connection.
2. What the backend says when no turn is open begins one without request: greetings, and what comes late.
3. Nothing here waits, raises or alters; what cannot be read is given up and counted.
"""

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from chatproxy.clock import Clock
from chatproxy.model import Caller, StreamEnd
from chatproxy.telemetry import Log, Metrics
from chatproxy.wire.frame_dialect import FrameDialect
from chatproxy.wire.frames import Agreed, Fault, FrameMessage, FrameReader, read_agreed
from chatproxy.workflows.record import Capture, Recorder

_log = Log("capture")
TURN_SILENCE_MS = 10_000
"""After so long without a further piece, an answer is taken to be whole. Below the 15 s of P16."""
LONGEST_REQUEST = 16 << 20
"""Bytes of one message of the client that are read; files can be in it."""
LONGEST_ANSWER = 1 << 20
"""Bytes of one message of the backend that are read: no line of a reply is read that is longer."""
_OK = 200
_JSON_LINES = "application/x-ndjson"
_LINE_ENDS = bytes.maketrans(b"\r\n", b"  ")


class FrameCapture:
    """Opens a copy for each connection that is described, and bounds what they hold together."""

    def __init__(
        self,
        capture: Capture,
        dialects: Sequence[FrameDialect],
        *,
        metrics: Metrics,
        clock: Clock,
        new_name: Callable[[], str],
        memory: int,
    ) -> None:
        """``memory``: bytes that unfinished messages of all connections may take. ``new_name``: of a connection."""
        self._capture = capture
        self._dialects = tuple(dialects)
        self._metrics = metrics
        self._clock = clock
        self._new_name = new_name
        self._free = memory
        self._has_warned = False

    def claims(self, path: str) -> bool:
        """Whether a connection to *path* is described, so that it is captured."""
        return self._find(path) is not None

    def _find(self, path: str) -> FrameDialect | None:
        return next((dialect for dialect in self._dialects if dialect.claims_socket(path)), None)

    def begin(
        self, caller: Caller, path: str, extensions: Sequence[bytes], *, conversation: str | None = None
    ) -> "FrameCopy | None":
        """Return the copy of a connection that begins, or None if nothing describes it, which is counted.

        ``conversation``: as in ``Exchange``, from the handshake. ``extensions`` are the values of ``Sec-WebSocket-Extensions`` in the upstream's answer.
        """
        dialect = self._find(path)
        self._metrics.websockets.labels("passed" if dialect is None else "captured").inc()
        if dialect is None:
            self._warn()
            return None
        is_named = conversation is not None and caller.subject is not None
        if caller.conversation is None and not is_named and not dialect.names_conversations:
            # Zero bytes are in no header, so no id that identity gives can be taken for this one.
            caller = replace(caller, conversation=f"\0websocket\0{self._new_name()}")
        agreed = read_agreed(extensions)
        copy = FrameCopy(self, dialect, agreed or Agreed(), caller, conversation)
        if agreed is None:
            copy.give_up(Fault.EXTENSION)
        return copy

    # Called by the copies.

    def open_turn(
        self, caller: Caller, dialect: FrameDialect, conversation: str | None
    ) -> tuple[Recorder | None, bool]:
        """Return what remembers a new turn, if it is kept, and whether it is lost."""
        opened = self._capture.begin(
            caller,
            dialect=dialect.name,
            request_encoding="",
            received_at=self._clock(),
            conversation=conversation,
        )
        return (opened if isinstance(opened, Recorder) else None), opened is None

    def now(self) -> int:
        """Return the time."""
        return self._clock()

    def hold(self, more: int) -> bool:
        """Account for *more* bytes (or fewer, if negative) of unfinished messages; False if there is no room."""
        if more > self._free:
            return False
        self._free -= more
        return True

    def given_up(self, fault: Fault) -> None:
        """Count a connection that is not read any further."""
        self._metrics.websocket_faults.labels(fault).inc()
        _log.warning("a described WebSocket connection is not captured any further", reason=fault)

    def _warn(self) -> None:
        if not self._has_warned:
            self._has_warned = True
            _log.warning(
                "WebSocket connections pass that no description claims; nothing of them is kept "
                "(counted as chatproxy_websockets_total)"
            )


class FrameCopy:
    """The copy of one connection."""

    def __init__(
        self,
        capture: FrameCapture,
        dialect: FrameDialect,
        agreed: Agreed,
        caller: Caller,
        conversation: str | None,
    ) -> None:
        self.is_unkept = False
        """Whether something that was said here could not be kept for want of room, or of understanding."""
        self._capture = capture
        self._dialect = dialect
        self._caller = caller
        self._conversation = conversation
        self._client = FrameReader(
            compressed=agreed.is_compressed,
            keeps_context=agreed.client_keeps_context,
            longest=LONGEST_REQUEST,
        )
        self._upstream = FrameReader(
            compressed=agreed.is_compressed,
            keeps_context=agreed.server_keeps_context,
            longest=LONGEST_ANSWER,
        )
        self._held = 0
        self._is_given_up = False
        self._is_open = False
        self._recorder: Recorder | None = None
        self._answered_at: int | None = None

    def from_client(self, data: bytes) -> None:
        """Take what was passed to the upstream."""
        for message in self._client.feed(data):
            # What is too long to be understood is kept as it is rather than passed over.
            if not message.is_whole or self._dialect.is_user_message(message.payload):
                self._end_turn(StreamEnd.COMPLETE)
                self._begin_turn()
                if self._recorder is not None:
                    self._recorder.request(message.payload)
                    self._note_cut(message)
        if self._client.is_closed:
            marks = self._dialect.marks_ends or self._answered_at is None
            self._end_turn(StreamEnd.CLIENT_ABORTED if marks else StreamEnd.COMPLETE)
        self._settle(self._client)

    def from_upstream(self, data: bytes) -> None:
        """Take what was passed to the client."""
        for message in self._upstream.feed(data):
            ends = message.is_whole and self._dialect.ends_turn(message.payload)
            if not message.is_whole or (ends and self._is_open) or self._dialect.is_answer(message.payload):
                self._answer(message)
            if ends:
                self._end_turn(StreamEnd.COMPLETE)
        if self._upstream.is_closed:
            self._end_turn(StreamEnd.UPSTREAM_ABORTED if self._answered_at is None else StreamEnd.COMPLETE)
        self._settle(self._upstream)

    def tick(self) -> None:
        """Close a turn whose answer has been silent; to be called every few seconds."""
        if self._answered_at is not None and self._capture.now() - self._answered_at >= TURN_SILENCE_MS:
            self._end_turn(StreamEnd.COMPLETE)

    def finish(self, end: StreamEnd) -> None:
        """No answer can follow. May be called again."""
        self._end_turn(end)
        self._capture.hold(-self._held)
        self._held = 0

    def give_up(self, fault: Fault) -> None:
        """Remember nothing more of this connection, in either direction; the turn that runs is closed as cut."""
        self._is_given_up = True
        self._client.give_up(fault)
        self._upstream.give_up(fault)
        self._capture.given_up(fault)
        self.is_unkept = True
        self.finish(StreamEnd.INTERRUPTED)

    def _settle(self, reader: FrameReader) -> None:
        """Account for what *reader* holds, and give up if it has."""
        if self._is_given_up:
            return
        held = self._client.buffered + self._upstream.buffered
        if reader.fault is not None:
            self.give_up(reader.fault)
        elif self._capture.hold(held - self._held):
            self._held = held
        else:
            self.give_up(Fault.NO_MEMORY)

    def _begin_turn(self) -> None:
        self._recorder, is_lost = self._capture.open_turn(self._caller, self._dialect, self._conversation)
        self._is_open = True
        self.is_unkept |= is_lost

    def _answer(self, message: FrameMessage) -> None:
        if not self._is_open:
            self._begin_turn()
        recorder = self._recorder
        if recorder is not None:
            if self._answered_at is None:
                recorder.head(_OK, _JSON_LINES, "")
            # Outside of strings a line end is space in JSON, and inside there is none.
            line = message.payload.translate(_LINE_ENDS) + b"\n"
            recorder.reply((line,), len(line))
            self._note_cut(message)
        self._answered_at = self._capture.now()

    def _note_cut(self, message: FrameMessage) -> None:
        if not message.is_whole and self._recorder is not None:
            self._recorder.exchange.truncated = True

    def _end_turn(self, end: StreamEnd) -> None:
        recorder, self._recorder = self._recorder, None
        self._is_open = False
        self._answered_at = None
        if recorder is not None:
            recorder.finish(end)
