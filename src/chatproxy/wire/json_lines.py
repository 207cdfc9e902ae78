"""Which JSON objects does a body of lines hold? One a line, as Ollama and others stream them (NDJSON).

1. The body is complete or cut anywhere. The last line needs no line end, since clients read it without one too: being
   an object, it is whole or it is not, and one that is not was cut and is no error.
2. A single line and the number of lines are bounded, as in an event stream (security D4).
"""

from typing import TypeVar

from chatproxy.errors import UnreadableError
from chatproxy.wire.json_reading import JSONReader
from chatproxy.wire.sse import LONGEST_LINE, MOST_LINES

T = TypeVar("T")

_TYPES = frozenset(
    {
        "application/json-lines",
        "application/jsonl",
        "application/ndjson",
        "application/stream+json",
        "application/x-jsonlines",
        "application/x-ndjson",
    }
)


def is_json_lines(content_type: str, body: bytes) -> bool:
    """Tell whether *body* is to be read as one object a line: by its type, else by how its lines meet."""
    if content_type.split(";", 1)[0].strip().lower() in _TYPES:
        return True
    return body.startswith(b"{") and (b"}\n{" in body or b"}\r\n{" in body)


def read_json_lines(body: bytes, reader: JSONReader[T]) -> list[T]:
    """Return the object on each line. Raises UnreadableError if a whole line has none, or beyond the bounds."""
    if body.count(b"\n") > MOST_LINES:
        raise UnreadableError(f"the reply has more than {MOST_LINES} lines")
    lines = [line for line in body.split(b"\n") if line and not line.isspace()]
    if len(body) > LONGEST_LINE and max(map(len, lines), default=0) > LONGEST_LINE:
        raise UnreadableError(f"the reply has a line of more than {LONGEST_LINE} bytes")
    rest = b"" if body.endswith(b"\n") or not lines else lines.pop().strip()
    if rest and not rest.startswith(b"{"):
        raise UnreadableError("the reply is not one JSON object a line")
    values = reader.read_all(lines)
    try:
        return [*values, reader.read(rest)]
    except UnreadableError:
        return values
