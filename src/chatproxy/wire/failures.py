"""What does an error say, in whichever shape? Read from replies of the upstream; and types for chatproxy's own."""

from collections.abc import Mapping
from typing import Any

from chatproxy.errors import UnreadableError
from chatproxy.wire.base import ChatReply
from chatproxy.wire.json_reading import read_object


def failed_reply(status: int, body: bytes) -> ChatReply:
    """Return the reply that an error status with *body* is: no answer, and the error's code as the finish reason."""
    try:
        code = error_code(read_object(body))
    except UnreadableError:
        code = ""
    return ChatReply((), finish=(code or f"http_{status}",), failed=True)


def is_error(body: Mapping[str, Any]) -> bool:
    """Tell whether a JSON object is an error in one of the shapes that chat backends use."""
    return body.get("error") is not None or body.get("type") == "error" or body.get("object") == "error"


def error_code(body: Mapping[str, Any]) -> str:
    """Return the code, type or status, whichever is text, of the error that *body* is, or "" if none is.

    Never its message, which often repeats what the person wrote.
    """
    error = body.get("error")
    if not isinstance(error, Mapping):
        error = body
    for key in ("code", "type", "status"):
        value = error.get(key)
        if isinstance(value, str) and value:
            return value
    return ""


def type_of_status(types: Mapping[int, str], status: int) -> str:
    """Return the error type that a dialect has for *status*, or for the class of statuses it belongs to."""
    return types.get(status) or types[400 if status < 500 else 500]  # noqa: PLR2004 - HTTP's own classes
