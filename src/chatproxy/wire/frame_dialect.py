"""The interface of a chat over WebSocket: which messages are said by the person, which are the answer?

What it chooses is read later by the dialect of the same name, as if it had come by HTTP: the person's message is the
request's body, the messages of the answer are the reply's, one a line (``application/x-ndjson``).
"""

from typing import Protocol


class FrameDialect(Protocol):
    """One chat protocol over WebSocket. No method raises, whatever the payload."""

    name: str
    """The name of the dialect that reads what was said (``wire.base.Dialect``)."""
    names_conversations: bool
    """Whether messages name their conversation. If not, one connection is one conversation."""
    marks_ends: bool
    """Whether ``ends_turn`` is ever true: then an answer without its end was cut."""

    def claims_socket(self, path: str) -> bool:
        """Whether a connection to this undecoded path (no query) is a chat of this dialect."""

    def is_user_message(self, payload: bytes) -> bool:
        """Whether this message of the client begins a turn."""

    def is_answer(self, payload: bytes) -> bool:
        """Whether this message of the backend is an answer, or a piece of one, or the error in its place."""

    def ends_turn(self, payload: bytes) -> bool:
        """Whether this message of the backend is the end of an answer."""
