"""How is a file sealed to a passphrase, piece by piece, so that neither side holds the whole (docs/access.md)?

1. The key is scrypt of the passphrase under a salt that is drawn for this file, so it seals one file alone.
2. The plaintext is cut into pieces of 65 536 bytes, each AES-256-GCM with the head of the file as additional data. The
   nonce is the number of the piece and whether it is the last: pieces cannot be changed, moved, left out or added, and a
   file that ends early is told.
3. The head is ``chatproxy/sealed/v1`` and a line end, log2 of scrypt's N (1 byte), and the salt (16 bytes); r is 8, p 1.
"""

import unicodedata
from collections.abc import Iterator

from chatproxy.crypto.primitives import (
    KEY_SIZE,
    TAG_SIZE,
    RandomSource,
    aes_gcm_decrypt,
    aes_gcm_encrypt,
    random_bytes,
    scrypt,
)
from chatproxy.errors import UndecryptableError

_MAGIC = b"chatproxy/sealed/v1\n"
_SALT_SIZE = 16
_HEAD_SIZE = len(_MAGIC) + 1 + _SALT_SIZE
_PIECE = 1 << 16
_LOG_N, _R, _P = 17, 8, 1
"""128 MiB and some tenths of a second a guess."""
_LEAST_LOG_N, _MOST_LOG_N = 10, 20
"""A file cannot make its reader take more than 1 GiB."""
SHORTEST_PASSPHRASE = 12
"""Characters."""


class Sealing:
    """Seals one file: ``head``, then what ``add`` gives, then what ``end`` does."""

    def __init__(self, passphrase: str, *, log_n: int = _LOG_N, random: RandomSource = random_bytes) -> None:
        """``log_n``: how much work a guess is; less only for tests."""
        self.head = _MAGIC + bytes([log_n]) + random(_SALT_SIZE)
        self._key = _key(passphrase, self.head)
        self._rest = bytearray()
        self._number = 0

    def add(self, plain: bytes) -> Iterator[bytes]:
        """Take more of the plaintext; yield what of the file is sealed by now."""
        self._rest += plain
        while (
            len(self._rest) > _PIECE
        ):  # the last piece, known by ``end`` alone, is never empty but of an empty file
            yield self._seal(is_last=False)

    def end(self) -> bytes:
        """Return the last piece."""
        return self._seal(is_last=True)

    def _seal(self, *, is_last: bool) -> bytes:
        plain, self._rest = bytes(self._rest[:_PIECE]), self._rest[_PIECE:]
        nonce = _nonce(self._number, is_last=is_last)
        self._number += 1
        return aes_gcm_encrypt(self._key, nonce=nonce, plaintext=plain, aad=self.head)


class Opening:
    """Opens one file, as its bytes come."""

    def __init__(self, passphrase: str) -> None:
        self._passphrase = passphrase
        self._head = b""
        self._key = b""
        self._rest = bytearray()
        self._number = 0

    def add(self, sealed: bytes) -> Iterator[bytes]:
        """Take more of the file; yield what is authentic by now, though not yet that the file is whole.

        Raises UndecryptableError: sealed_file_format; sealed_file, for another passphrase or a changed file.
        """
        self._rest += sealed
        if not self._key:
            if len(self._rest) < _HEAD_SIZE:
                return
            self._read_head()
        while len(self._rest) > _PIECE + TAG_SIZE:
            yield self._open(is_last=False)

    def end(self) -> bytes:
        """Return the last piece: only now the file is known to be whole. Raises UndecryptableError as ``add``."""
        if not self._key:
            raise UndecryptableError("sealed_file_format")
        return self._open(is_last=True)

    def _read_head(self) -> None:
        self._head, self._rest = bytes(self._rest[:_HEAD_SIZE]), self._rest[_HEAD_SIZE:]
        log_n = self._head[len(_MAGIC)]
        if not self._head.startswith(_MAGIC) or not _LEAST_LOG_N <= log_n <= _MOST_LOG_N:
            raise UndecryptableError("sealed_file_format")
        self._key = _key(self._passphrase, self._head)

    def _open(self, *, is_last: bool) -> bytes:
        size = _PIECE + TAG_SIZE
        piece, self._rest = bytes(self._rest[:size]), self._rest[size:]
        if len(piece) < TAG_SIZE:
            raise UndecryptableError("sealed_file")
        nonce = _nonce(self._number, is_last=is_last)
        self._number += 1
        return aes_gcm_decrypt(self._key, nonce=nonce, ciphertext=piece, aad=self._head, reason="sealed_file")


def _key(passphrase: str, head: bytes) -> bytes:
    # Two keyboards may spell one letter in two ways.
    words = unicodedata.normalize("NFC", passphrase).encode()
    salt = head[-_SALT_SIZE:]
    return scrypt(words, salt=salt, log_n=head[len(_MAGIC)], r=_R, p=_P, size=KEY_SIZE)


def _nonce(number: int, *, is_last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([is_last])
