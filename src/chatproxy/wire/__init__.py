"""Which chatbot protocol does a request speak? The list of dialects is this file; adding one is a line in it."""

from collections.abc import Sequence

from chatproxy.wire.anthropic_messages import AnthropicMessages
from chatproxy.wire.base import Dialect, Failure
from chatproxy.wire.gemini import Gemini
from chatproxy.wire.ollama import Ollama
from chatproxy.wire.openai_chat import OpenAIChat
from chatproxy.wire.openai_responses import OpenAIResponses

DIALECTS: tuple[Dialect, ...] = (OpenAIChat(), OpenAIResponses(), AnthropicMessages(), Gemini(), Ollama())
"""Every dialect that needs no description. Those that settings describe come before them (``wire.json_chat``)."""

_CHAT_SEGMENTS = frozenset(
    {
        "batches",
        "chat",
        "chat_stream",
        "complete",
        "completions",
        "converse",
        "converse-stream",
        "generate",
        "generate_stream",
        "invocations",
        "invoke",
        "invoke-with-response-stream",
        "messages",
        "responses",
        "runs",
    }
)
"""Last segments of paths under which known backends take chats."""
_CHAT_METHODS = frozenset(
    {"generateContent", "streamGenerateContent", "generateMessage", "rawPredict", "streamRawPredict"}
)
"""What such a segment says after a colon."""


class Dialects:
    """The dialects that are spoken here. Of two that claim a path, the first one speaks there."""

    def __init__(self, dialects: Sequence[Dialect]) -> None:
        """Take *dialects*, each with a name of its own."""
        self._dialects = tuple(dialects)
        self._by_name = {dialect.name: dialect for dialect in dialects}

    def find(self, method: str, path: str) -> Dialect | None:
        """Return the dialect that claims *method* and *path* (undecoded, without the query), or None."""
        return next((dialect for dialect in self._dialects if dialect.claims(method, path)), None)

    def named(self, name: str) -> Dialect | None:
        """Return the dialect called *name*, or None."""
        return self._by_name.get(name)

    def looks_like_chat(self, method: str, path: str) -> bool:
        """Tell whether a request that no dialect claims is probably a chat, which then passes uncaptured.

        To be counted and warned of; never a reason to treat the request differently.
        """
        segment = path.rstrip("/").rpartition("/")[2]
        return (
            method == "POST"
            and (segment in _CHAT_SEGMENTS or segment.rpartition(":")[2] in _CHAT_METHODS)
            and self.find(method, path) is None
        )

    def render_failure(self, method: str, path: str, failure: Failure) -> bytes:
        """Return the JSON body of an error of chatproxy's own, in the dialect that speaks at *path*, else as OpenAI's.

        What a request of another method is answered with, is what a chat there would be.
        """
        dialect = self.find(method, path) or self.find("POST", path) or DIALECTS[0]
        return dialect.render_failure(failure)
