r"""What does this JSON text say, if it is one? Strict, and bounded in depth.

Strict: UTF-8 without a byte order mark, no NaN, no number that is no finite double, nothing after the value; of equal
keys the last counts, as in every common reader. Whatever else comes raises UnreadableError: such bodies are kept
raw, never guessed at.

One thing that strict readers refuse is read: ``\ud83d`` without its other half. JavaScript cuts text between the
halves of a character and writes such JSON, and in a stream the other half begins the next piece. ``well_formed``
joins the halves that meet and replaces those that stay alone, so that what is kept can be written again.
"""

import codecs
import json
import math
import re
from collections.abc import Sequence
from typing import Any, Generic, NoReturn, TypeVar

import msgspec

from chatproxy.errors import UnreadableError

T = TypeVar("T")

DEEPEST = 64
"""Levels of nesting in a value that is kept as JSON."""
MOST_BRACKETS = 1 << 19
"""Opening brackets in one text, in strings or not: an empty object takes twenty times its bytes once it is read."""

_REFUSED = (msgspec.MsgspecError, ValueError, RecursionError)
_SPACE = " \t\r\n"
_SEPARATOR = re.compile(r"[ \t\r\n]*(?:,[ \t\r\n]*|(?=\]\Z)|\Z)")
_LONGEST_ESCAPE = 6
"""Characters. An error that is nearer to the end says only that the text was cut there."""


class JSONReader(Generic[T]):
    """Reads JSON texts as values of one type (a msgspec Struct, a built-in type, ``Any``)."""

    def __init__(self, shape: type[T]) -> None:
        self._shape = shape
        self._decode = msgspec.json.Decoder(shape).decode

    def read(self, text: bytes) -> T:
        """Return the value. Raises UnreadableError."""
        _require_few_brackets(text)
        try:
            return self._decode(text)
        except _REFUSED:
            if b"\\ud" not in text.lower():
                raise UnreadableError("a body or event is not JSON of the expected shape") from None
        try:
            value = json.loads(text.decode(), parse_constant=_refuse, parse_float=_finite)
            return msgspec.convert(value, self._shape)
        except _REFUSED:
            raise UnreadableError("a body or event is not JSON of the expected shape") from None

    def read_all(self, texts: Sequence[bytes]) -> list[T]:
        """Return the value of each text. Raises UnreadableError if one of them has none."""
        try:
            return list(map(self._decode, texts))
        except _REFUSED:
            return [self.read(text) for text in texts]

    def read_begun(self, text: bytes) -> list[T]:
        """Return the elements of the array that *text* is, or is a beginning of, as far as they came whole.

        Raises UnreadableError if it is neither.
        """
        _require_few_brackets(text)
        try:
            return msgspec.json.decode(text, type=list[self._shape])  # type: ignore[name-defined]
        except _REFUSED:
            pass  # most often cut, perhaps with half characters
        try:
            elements = _elements_begun(codecs.getincrementaldecoder("utf-8")().decode(text))
            return [msgspec.convert(element, self._shape) for element in elements]
        except _REFUSED:
            raise UnreadableError("a body is no JSON array, nor the beginning of one") from None


_OBJECTS: JSONReader[dict[str, Any]] = JSONReader(dict[str, Any])


def read_object(text: bytes) -> dict[str, Any]:
    """Return the JSON object that *text* is. Raises UnreadableError."""
    return _OBJECTS.read(text)


def as_text(value: object) -> str:
    """Return *value* if it is a string, else "": for fields that backends leave out, null or misuse."""
    return value if isinstance(value, str) else ""


def as_objects(value: object) -> list[dict[str, Any]]:
    """Return the objects in *value* if it is a list, else []."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def json_text(value: object) -> str:
    """Return *value*, read from JSON, as compact JSON text. Raises UnreadableError if it is nested too deeply."""
    require_shallow(value)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def require_shallow(value: object) -> None:
    """Raise UnreadableError if *value*, read from JSON, has more than DEEPEST levels."""
    level = [value]
    for _ in range(DEEPEST):
        level = [child for parent in level for child in _children(parent)]
        if not level:
            return
    raise UnreadableError(f"a block has more than {DEEPEST} levels of nesting")


def well_formed(value: T, shape: type[T], *, source: bytes) -> T:
    """Return *value*, which was read from *source*, with every character whole (U+FFFD for a lone half)."""
    if b"\\u" not in source or (b"\\ud" not in source and b"\\uD" not in source):
        return value
    try:
        msgspec.json.encode(value)
    except UnicodeEncodeError:
        text = json.dumps(msgspec.to_builtins(value), ensure_ascii=False)
        whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        return msgspec.json.decode(whole, type=shape)
    return value


def _require_few_brackets(text: bytes) -> None:
    if len(text) > MOST_BRACKETS and text.count(b"{") + text.count(b"[") > MOST_BRACKETS:
        raise UnreadableError(f"a body has more than {MOST_BRACKETS} brackets")


def _elements_begun(text: str) -> list[Any]:
    """Read an array one element at a time. Raises ValueError where it is no beginning of one."""
    decoder = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite)
    text = text.strip(_SPACE)
    if text[:1] != "[":
        raise ValueError
    last = len(text) - text.endswith("]")
    at = len(text) - len(text[1:].lstrip(_SPACE))
    values: list[Any] = []
    while at < last:
        try:
            value, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            if error.pos + _LONGEST_ESCAPE > len(text) or error.msg.startswith("Unterminated string"):
                break  # cut there
            raise
        separator = _SEPARATOR.match(text, at)
        if separator is None:
            raise ValueError
        values.append(value)
        at = separator.end()
    return values


def _children(value: object) -> Sequence[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else ()


def _refuse(_constant: str) -> NoReturn:
    raise ValueError


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError
    return number
