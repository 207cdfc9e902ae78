"""What a root that we hold ourselves does: wraps the 32-byte secrets of the key ring under a root version.

``ver 1 | root version 2 | nonce 12 | ciphertext 32 | tag 16``, 63 bytes. Providers that keep their root to
themselves (a vault, a cloud KMS) have formats of their own.
"""

import struct

from chatproxy.crypto.encoding import lps
from chatproxy.crypto.keys import RootSecret, WrappedKey
from chatproxy.crypto.primitives import (
    KEY_SIZE,
    NONCE_SIZE,
    TAG_SIZE,
    RandomSource,
    aes_gcm_decrypt,
    aes_gcm_encrypt,
    hkdf_sha256,
    random_bytes,
)
from chatproxy.errors import UndecryptableError

_VERSION = 1
_HEAD = struct.Struct(">BH")
_LABEL = b"chatproxy/root/v1"
_CHECK_LABEL = b"chatproxy/root-check/v1"
_CHECK_SIZE = 8
ROOT_WRAPPED_SIZE = _HEAD.size + NONCE_SIZE + KEY_SIZE + TAG_SIZE


def root_check(root: RootSecret) -> str:
    """Return what tells whether two have the same root version, and nothing about it."""
    return hkdf_sha256(root.reveal(), salt=b"", info=_CHECK_LABEL, size=_CHECK_SIZE).hex()


def wrap_under_root(
    root: RootSecret,
    *,
    version: int,
    purpose: str,
    ident: bytes,
    secret: bytes,
    random: RandomSource = random_bytes,
) -> WrappedKey:
    """Wrap 32 bytes so that they open only as *ident* of *purpose*. Raises ValueError on another length."""
    if len(secret) != KEY_SIZE:
        raise ValueError("the root wraps secrets of 32 bytes")
    head = _HEAD.pack(_VERSION, version)
    nonce = random(NONCE_SIZE)
    aad = _LABEL + head + lps(purpose.encode(), ident)
    return WrappedKey(head + nonce + aes_gcm_encrypt(root.reveal(), nonce=nonce, plaintext=secret, aad=aad))


def root_version_of(wrapped: bytes) -> int:
    """Return the root version that *wrapped* names. Raises UndecryptableError: root_wrap_length, _version."""
    if len(wrapped) != ROOT_WRAPPED_SIZE:
        raise UndecryptableError("root_wrap_length")
    version, root_version = _HEAD.unpack_from(wrapped)
    if version != _VERSION:
        raise UndecryptableError("root_wrap_version")
    return int(root_version)


def unwrap_under_root(root: RootSecret, *, purpose: str, ident: bytes, wrapped: bytes) -> bytes:
    """Undo ``wrap_under_root``. Raises UndecryptableError: as ``root_version_of``, then root_wrap_tag."""
    root_version_of(wrapped)
    head, sealed_from = wrapped[: _HEAD.size], _HEAD.size + NONCE_SIZE
    return aes_gcm_decrypt(
        root.reveal(),
        nonce=wrapped[_HEAD.size : sealed_from],
        ciphertext=wrapped[sealed_from:],
        aad=_LABEL + head + lps(purpose.encode(), ident),
        reason="root_wrap_tag",
    )
