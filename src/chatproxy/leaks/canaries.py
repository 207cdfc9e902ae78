"""Which words are planted, and how would each look where it leaked?

A canary is of lower-case letters and digits alone, so that JSON, URLs and logs write it as it is; what could hide it is
an encoding of every byte. All canaries of a run begin alike, so that one search finds any of them.
"""

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_MARK = "leak"
_RANDOM_OF_RUN = 14
_RANDOM_OF_WORD = 8


@dataclass(frozen=True, slots=True)
class Canaries:
    """The words of one run, by what each is planted in."""

    mark: str
    """What all of them begin with."""
    words: Mapping[str, str] = field(repr=False)

    def __getitem__(self, name: str) -> str:
        return self.words[name]


def make_canaries(names: Sequence[str], *, random: Callable[[int], bytes]) -> Canaries:
    """Make a word for each of *names*, which stand for nothing but themselves."""

    def letters(count: int) -> str:
        return "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in random(count))

    mark = _MARK + letters(_RANDOM_OF_RUN)
    return Canaries(mark, {name: mark + letters(_RANDOM_OF_WORD) for name in names})


def spellings(word: str) -> Iterator[tuple[str, bytes]]:
    """Yield each form in which *word* may stand in a file, by the name of the form."""
    raw = word.encode()
    yield "as it is", raw
    yield "in capitals", raw.upper()
    yield "backwards", raw[::-1]
    yield "UTF-16", word.encode("utf-16-le")
    yield "UTF-16", word.encode("utf-16-be")
    yield "UTF-32", word.encode("utf-32-le")
    yield "hex", raw.hex().encode()
    yield "hex", raw.hex().upper().encode()
    yield "hex", raw.hex(" ").encode()
    yield "URL-encoded", "".join(f"%{byte:02x}" for byte in raw).encode()
    yield "URL-encoded", "".join(f"%{byte:02X}" for byte in raw).encode()
    yield "escaped", "".join(f"\\u{byte:04x}" for byte in raw).encode()
    yield "escaped", "".join(f"\\u{byte:04X}" for byte in raw).encode()
    yield "escaped", "".join(f"\\x{byte:02x}" for byte in raw).encode()
    yield "as numbers", ", ".join(map(str, raw)).encode()
    yield "as numbers", ",".join(map(str, raw)).encode()
    # Whatever stands before and behind it, the middle of a word looks alike: in three ways for base64, in five for base32.
    for shift in range(3):
        encoded = _middle(base64.b64encode, raw, shift=shift, bits=6)
        yield "base64", encoded
        if (other := encoded.translate(bytes.maketrans(b"+/", b"-_"))) != encoded:
            yield "base64", other
    for shift in range(5):
        encoded = _middle(base64.b32encode, raw, shift=shift, bits=5)
        yield "base32", encoded
        yield "base32", encoded.lower()


def _middle(encode: Callable[[bytes], bytes], raw: bytes, *, shift: int, bits: int) -> bytes:
    """Return the letters, each of so many *bits*, that *raw* alone decides where it stands behind *shift* bytes."""
    return encode(bytes(shift) + raw)[-(-shift * 8 // bits) : (shift + len(raw)) * 8 // bits]
