"""A file sealed to a passphrase opens whole or not at all, and as the document says, also without our code."""

import hashlib
from collections.abc import Iterable

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from chatproxy.crypto.sealed_file import Opening, Sealing
from chatproxy.errors import UndecryptableError

PIECE = 65_536
HEAD = len(b"chatproxy/sealed/v1\n") + 17
WORDS = "correct horse battery"


def sealed(plain: bytes, *, words: str = WORDS, cut: int = 10_007) -> bytes:
    sealing = Sealing(words, log_n=10)
    pieces = [piece for at in range(0, len(plain), cut) for piece in sealing.add(plain[at : at + cut])]
    return b"".join([sealing.head, *pieces, sealing.end()])


def opened(file: bytes, *, words: str = WORDS, cut: int = 9_973) -> bytes:
    opening = Opening(words)
    pieces = [piece for at in range(0, len(file), cut) for piece in opening.add(file[at : at + cut])]
    return b"".join([*pieces, opening.end()])


def by_the_document(file: bytes, words: str) -> bytes:
    """Open a file as docs/access.md describes it."""
    head, rest = file[:HEAD], file[HEAD:]
    assert head.startswith(b"chatproxy/sealed/v1\n")
    n = 2 ** head[20]
    key = hashlib.scrypt(words.encode(), salt=head[21:], n=n, r=8, p=1, dklen=32, maxmem=2 * 128 * n * 8)
    pieces = [rest[at : at + PIECE + 16] for at in range(0, len(rest), PIECE + 16)]
    return b"".join(
        AESGCM(key).decrypt(number.to_bytes(11, "big") + bytes([number + 1 == len(pieces)]), piece, head)
        for number, piece in enumerate(pieces)
    )


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE, 3 * PIECE + 17])
def test_what_is_sealed_opens_with_the_passphrase_alone(size: int) -> None:
    plain = bytes(number % 251 for number in range(size))
    file = sealed(plain)

    assert opened(file) == by_the_document(file, WORDS) == plain
    assert len(file) == HEAD + size + 16 * max(1, -(-size // PIECE))
    # A single byte stands in every eighth file by chance.
    assert size <= 1 or plain[:64] not in file
    with pytest.raises(UndecryptableError, match="sealed_file"):
        opened(file, words=WORDS + "!")


def test_the_default_costs_what_the_document_says() -> None:
    head = Sealing(WORDS).head

    assert head[20] == 17


def test_one_passphrase_spelt_in_two_ways_is_one() -> None:
    assert opened(sealed(b"x", words="de\u0301sordre complet"), words="d\u00e9sordre complet") == b"x"


def test_each_file_has_a_key_of_its_own() -> None:
    assert sealed(b"same")[HEAD:] != sealed(b"same")[HEAD:]


def altered(file: bytes) -> Iterable[tuple[str, bytes]]:
    body = file[HEAD:]
    first, second = body[: PIECE + 16], body[PIECE + 16 : 2 * (PIECE + 16)]
    yield "a bit of the head", file[:25] + bytes([file[25] ^ 1]) + file[26:]
    yield "a bit of a piece", file[:-1] + bytes([file[-1] ^ 1])
    yield "cut at a piece", file[: HEAD + PIECE + 16]
    yield "cut within a piece", file[:-5]
    yield "all but the head", file[:HEAD]
    yield "pieces exchanged", file[:HEAD] + second + first + body[2 * (PIECE + 16) :]
    yield "a piece left out", file[:HEAD] + first + body[2 * (PIECE + 16) :]
    yield "a byte added", file + b"x"
    yield "a piece added", file + first
    yield "half a head", file[:30]
    yield "of another format", b"C" + file[1:]


@pytest.mark.parametrize(
    "file", [pytest.param(file, id=name) for name, file in altered(sealed(bytes(2 * PIECE + 100)))]
)
def test_a_file_that_was_changed_does_not_open(file: bytes) -> None:
    with pytest.raises(UndecryptableError, match="sealed_file"):
        opened(file)


@pytest.mark.parametrize("log_n", [9, 21, 255], ids=["too cheap to guess", "too costly to open", "absurd"])
def test_what_a_guess_costs_is_bounded_before_it_is_paid(log_n: int) -> None:
    file = sealed(b"x")

    with pytest.raises(UndecryptableError, match="sealed_file_format"):
        opened(file[:20] + bytes([log_n]) + file[21:])


def test_the_second_reader_tells_changes_too() -> None:
    file = sealed(b"x")

    with pytest.raises(InvalidTag):
        by_the_document(file[:-1] + bytes([file[-1] ^ 1]), WORDS)
