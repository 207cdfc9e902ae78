"""Which chatbot protocol does a request speak? The list of dialects is this file; adding one is a line in it."""

from chatproxy.wire.anthropic_messages import AnthropicMessages
from chatproxy.wire.base import Dialect, Failure
from chatproxy.wire.openai_chat import OpenAIChat

DIALECTS: tuple[Dialect, ...] = (OpenAIChat(), AnthropicMessages())

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


def find_dialect(method: str, path: str) -> Dialect | None:
    """Return the dialect that claims *method* and *path* (undecoded, without the query), or None."""
    return next((dialect for dialect in DIALECTS if dialect.claims(method, path)), None)


def dialect_named(name: str) -> Dialect | None:
    """Return the dialect called *name*, or None."""
    return next((dialect for dialect in DIALECTS if dialect.name == name), None)


def looks_like_chat(method: str, path: str) -> bool:
    """Tell whether a request that no dialect claims is probably a chat, which then passes uncaptured.

    To be counted and warned of; never a reason to treat the request differently.
    """
    if method != "POST" or find_dialect(method, path) is not None:
        return False
    segment = path.rstrip("/").rpartition("/")[2]
    return segment in _CHAT_SEGMENTS or segment.rpartition(":")[2] in _CHAT_METHODS


def render_failure(path: str, failure: Failure) -> bytes:
    """Return the JSON body of an error of chatproxy's own, in the dialect that speaks at *path*, else as OpenAI's."""
    dialect = find_dialect("POST", path) or DIALECTS[0]
    return dialect.render_failure(failure)
