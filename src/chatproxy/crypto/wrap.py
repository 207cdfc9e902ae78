"""Wrapped key v1: how does a data key lie in the store? Under a KEK, for one purpose and one owner (security B4).

``ver 1 | purpose 1 | KEK version 2 | nonce 12 | ciphertext 32 | tag 16``, 64 bytes. Purpose and ident are in the
AAD: a day's wrap cannot be replayed as a subject's, nor one subject's as another's.
"""

import struct
from enum import IntEnum

from chatproxy.crypto.encoding import lp
from chatproxy.crypto.keys import DataKey, KeyEncryptionKey, WrappedKey
from chatproxy.crypto.primitives import (
    KEY_SIZE,
    NONCE_SIZE,
    TAG_SIZE,
    RandomSource,
    aes_gcm_decrypt,
    aes_gcm_encrypt,
    random_bytes,
)
from chatproxy.errors import UndecryptableError

_VERSION = 1
_HEAD = struct.Struct(">BBH")
_LABEL = b"chatproxy/wrap/v1"
WRAPPED_SIZE = _HEAD.size + NONCE_SIZE + KEY_SIZE + TAG_SIZE


class Purpose(IntEnum):
    """What a wrapped key is for. Numbers are never given again."""

    SUBJECT = 1
    """Ident: subject tag, generation as 2 bytes."""
    EPOCH = 2
    """Ident: day as 4 bytes."""
    JOURNAL = 3
    """Reserved: the journal's keys are wrapped by the root."""
    ANNOTATION = 4
    """Ident: version as 2 bytes."""


def wrap_key(
    kek: KeyEncryptionKey,
    *,
    kek_version: int,
    purpose: Purpose,
    ident: bytes,
    key: DataKey,
    random: RandomSource = random_bytes,
) -> WrappedKey:
    """Wrap *key* so that it opens only as *purpose* of *ident*. *kek_version* is 1 to 65535."""
    head = _HEAD.pack(_VERSION, purpose, kek_version)
    nonce = random(NONCE_SIZE)
    sealed = aes_gcm_encrypt(kek.reveal(), nonce=nonce, plaintext=key.reveal(), aad=_LABEL + head + lp(ident))
    return WrappedKey(head + nonce + sealed)


def wrapped_under(wrapped: bytes) -> int:
    """Return the version of the KEK that *wrapped* names. Raises UndecryptableError: wrap_length, wrap_version."""
    if len(wrapped) != WRAPPED_SIZE:
        raise UndecryptableError("wrap_length")
    version, _purpose, kek_version = _HEAD.unpack_from(wrapped)
    if version != _VERSION:
        raise UndecryptableError("wrap_version")
    return int(kek_version)


def unwrap_key(kek: KeyEncryptionKey, *, purpose: Purpose, ident: bytes, wrapped: bytes) -> DataKey:
    """Undo ``wrap_key``. Raises UndecryptableError: as ``wrapped_under``, then wrap_purpose or wrap_tag."""
    kek_version = wrapped_under(wrapped)
    head = wrapped[: _HEAD.size]
    if head != _HEAD.pack(_VERSION, purpose, kek_version):
        raise UndecryptableError("wrap_purpose")
    sealed_from = _HEAD.size + NONCE_SIZE
    return DataKey(
        aes_gcm_decrypt(
            kek.reveal(),
            nonce=wrapped[_HEAD.size : sealed_from],
            ciphertext=wrapped[sealed_from:],
            aad=_LABEL + head + lp(ident),
            reason="wrap_tag",
        )
    )
