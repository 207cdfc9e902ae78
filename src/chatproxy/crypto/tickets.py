"""Tickets: what chatproxy gives out to know it again when it comes back, such as a link or a session.

A ticket is ``base64url(nonce || AES-256-GCM(key, nonce, what it says))``, under a key that is derived from the
pseudonym key for one use alone: a ticket of one use is none of another, whoever has it can neither read nor change
it, and it has one spelling. How long it counts is for what it says.
"""

import base64

from chatproxy.crypto.encoding import lps
from chatproxy.crypto.keys import PseudonymKey
from chatproxy.crypto.primitives import (
    KEY_SIZE,
    NONCE_SIZE,
    TAG_SIZE,
    RandomSource,
    aes_gcm_decrypt,
    aes_gcm_encrypt,
    hkdf_sha256,
    hmac_sha256,
    random_bytes,
)
from chatproxy.errors import UndecryptableError

_LABEL = b"chatproxy/ticket/v1/"
_LONGEST = 2048


class Tickets:
    """Issues and takes the tickets of one use."""

    __slots__ = ("_aad", "_key", "_mac_key", "_random")

    def __init__(self, key: PseudonymKey, *, use: bytes, random: RandomSource = random_bytes) -> None:
        self._aad = _LABEL + use
        self._key = hkdf_sha256(key.reveal(), salt=b"", info=self._aad, size=KEY_SIZE)
        self._mac_key = hkdf_sha256(key.reveal(), salt=b"", info=self._aad + b"/mac", size=KEY_SIZE)
        self._random = random

    def issue(self, says: bytes) -> str:
        """Return a new ticket that says *says*."""
        nonce = self._random(NONCE_SIZE)
        sealed = aes_gcm_encrypt(self._key, nonce=nonce, plaintext=says, aad=self._aad)
        return base64.urlsafe_b64encode(nonce + sealed).rstrip(b"=").decode()

    def open(self, ticket: str) -> bytes:
        """Return what *ticket* says. Raises UndecryptableError("ticket") for what was not issued for this use."""
        try:
            raw = base64.b64decode(ticket + "=" * (-len(ticket) % 4), altchars=b"-_", validate=True)
        except ValueError:
            raw = b""
        spelled = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
        if not NONCE_SIZE + TAG_SIZE <= len(raw) <= _LONGEST or spelled != ticket:
            raise UndecryptableError("ticket")
        return aes_gcm_decrypt(
            self._key, nonce=raw[:NONCE_SIZE], ciphertext=raw[NONCE_SIZE:], aad=self._aad, reason="ticket"
        )

    def countersign(self, *about: bytes) -> str:
        """Return a token that only this keyset can make about these values: 32 hexadecimal digits."""
        return hmac_sha256(self._mac_key, lps(*about))[:TAG_SIZE].hex()
