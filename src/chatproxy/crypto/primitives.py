"""The cryptographic primitives of chatproxy, and for each why its use is safe. Nothing else touches them.

Every check raises; none returns a flag. The ``reason`` of a failed one is named by the caller, since only it
knows what was being opened.
"""

import hashlib
import hmac
import os
from collections.abc import Callable

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from chatproxy.errors import UndecryptableError

KEY_SIZE = 32
NONCE_SIZE = 12
TAG_SIZE = 16
BLOCK_SIZE = 16

RandomSource = Callable[[int], bytes]
"""Gives that many unpredictable bytes. Everything but tests uses ``random_bytes``."""


def random_bytes(size: int) -> bytes:
    """Return *size* bytes from the operating system's generator, the only source of keys, seeds and nonces."""
    return os.urandom(size)


def sha256(data: bytes) -> bytes:
    """SHA-256 of public structure. For anything secret or guessable use ``hmac_sha256``."""
    return hashlib.sha256(data).digest()


def hkdf_sha256(secret: bytes, *, salt: bytes, info: bytes, size: int) -> bytes:
    """HKDF-SHA256 (RFC 5869). *info* must tell every use of *secret* from every other."""
    return HKDF(algorithm=hashes.SHA256(), length=size, salt=salt, info=info).derive(secret)


def scrypt(passphrase: bytes, *, salt: bytes, log_n: int, r: int, p: int, size: int) -> bytes:
    """Scrypt (RFC 7914), for what people think up. It takes ``128 * 2**log_n * r`` bytes of memory: bound them first."""
    return Scrypt(salt=salt, length=size, n=1 << log_n, r=r, p=p).derive(passphrase)


def hmac_sha256(key: bytes, message: bytes) -> bytes:
    """HMAC-SHA256 (RFC 2104). The encoding of *message* must be unambiguous."""
    return hmac.digest(key, message, "sha256")


class KeyedHash:
    """HMAC-SHA256 (RFC 2104) under one key, for many messages: the key is hashed in once, which is half of the work."""

    __slots__ = ("_begun", "_size")

    def __init__(self, key: bytes, *, size: int = 32) -> None:
        """*size*: how many of the 32 bytes are used."""
        self._begun = HMAC(key, hashes.SHA256())
        self._size = size

    def of(self, message: bytes) -> bytes:
        """Return the bytes of *message*, whose encoding must be unambiguous."""
        mac = self._begun.copy()
        mac.update(message)
        return mac.finalize()[: self._size]


def are_equal(left: bytes, right: bytes) -> bool:
    """Compare without telling by the time it takes where two byte strings differ."""
    return hmac.compare_digest(left, right)


class SealingKey:
    """AES-256-GCM under one key, for many messages: setting the key up is half of the work of a short one.

    A nonce used twice under one key gives both plaintexts away. There are three kinds of use, all safe: records
    derive key and nonce together from a fresh 24-byte seed, so a key serves once; wraps and tickets draw the nonce at
    random, which holds for 2**32 of them a key (SP 800-38D), far above what a key that is rotated monthly wraps, or
    what people follow links; journal segments and sealed files have a key of their own each, by a fresh id or salt,
    and count their frames and pieces.
    """

    __slots__ = ("_cipher",)

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def encrypt(self, plaintext: bytes, *, nonce: bytes, aad: bytes) -> bytes:
        """Return the ciphertext, then a 16-byte tag."""
        return self._cipher.encrypt(nonce, plaintext, aad)

    def decrypt(self, ciphertext: bytes, *, nonce: bytes, aad: bytes, reason: str) -> bytes:
        """Undo ``encrypt``. Raises UndecryptableError(reason) if anything differs by a bit."""
        try:
            return self._cipher.decrypt(nonce, ciphertext, aad)
        except InvalidTag:
            raise UndecryptableError(reason) from None


def aes_gcm_encrypt(key: bytes, *, nonce: bytes, plaintext: bytes, aad: bytes) -> bytes:
    """Do as ``SealingKey.encrypt``, for one message."""
    return AESGCM(key).encrypt(nonce, plaintext, aad)


def aes_gcm_decrypt(key: bytes, *, nonce: bytes, ciphertext: bytes, aad: bytes, reason: str) -> bytes:
    """Do as ``SealingKey.decrypt``, for one message."""
    return SealingKey(key).decrypt(ciphertext, nonce=nonce, aad=aad, reason=reason)


class BlockPermutation:
    """AES-256 on single blocks: a secret permutation of all 16-byte strings.

    Only for what is unpredictable already or must merely be renamed (handles). It hides equality of nothing but
    the block itself and authenticates nothing, so no content goes through it.
    """

    __slots__ = ("_backward", "_forward")

    def __init__(self, key: bytes) -> None:
        cipher = Cipher(algorithms.AES256(key), modes.ECB())  # noqa: S305 - one block, never a text
        # Blocks leave nothing behind in this mode, so both serve for all of them.
        self._forward = cipher.encryptor()
        self._backward = cipher.decryptor()

    def forward(self, block: bytes) -> bytes:
        """Permute 16 bytes."""
        return self._forward.update(block)

    def backward(self, block: bytes) -> bytes:
        """Undo ``forward``."""
        return self._backward.update(block)


def ed25519_public(seed: bytes) -> bytes:
    """Return the 32-byte public key of a 32-byte seed (RFC 8032). Any 32 random bytes are a seed."""
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def ed25519_sign(seed: bytes, message: bytes) -> bytes:
    """Sign; 64 bytes, deterministic. *message* begins with a label that says what is being signed."""
    return Ed25519PrivateKey.from_private_bytes(seed).sign(message)


def ed25519_verify(public: bytes, signature: bytes, message: bytes, *, reason: str) -> None:
    """Raise UndecryptableError(reason) unless *signature* is *public*'s over *message*."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):  # ValueError: not 32 bytes of a key
        raise UndecryptableError(reason) from None
