"""What a key is in memory: typed by what it may do, and silent.

1. A secret does not print, compare, hash, copy or pickle. Its bytes are got with ``reveal()``, which a reader can
   search for.
2. Keys with different work are different types, so that a checker finds a KEK where a data key belongs.
3. A wrapped key is only bytes: it may be stored and shown.
"""

from enum import StrEnum
from typing import NewType, NoReturn, Self

from chatproxy.crypto.primitives import KEY_SIZE, KeyedHash, RandomSource, random_bytes

WrappedKey = NewType("WrappedKey", bytes)
"""A key encrypted under another; tells nothing without that."""


class Secret:
    """32 secret bytes. Raises ValueError if they are not 32."""

    __slots__ = ("_bytes",)

    def __init__(self, secret: bytes) -> None:
        if len(secret) != KEY_SIZE:
            msg = f"a key has {KEY_SIZE} bytes, this one has {len(secret)}"
            raise ValueError(msg)
        self._bytes = bytes(secret)

    @classmethod
    def generate(cls, random: RandomSource = random_bytes) -> Self:
        """Draw a new key."""
        return cls(random(KEY_SIZE))

    def reveal(self) -> bytes:
        """Return the 32 bytes, for a primitive or for the keyset file; nowhere else."""
        return self._bytes

    def __repr__(self) -> str:
        return f"{type(self).__name__}(hidden)"

    def __eq__(self, other: object) -> NoReturn:
        raise TypeError("keys are not compared")

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> NoReturn:
        raise TypeError("keys are not copied or pickled")


class DataKey(Secret):
    """Seals content: the key of a subject's generation, of an expiry day, or of a journal segment."""

    __slots__ = ()


class KeyEncryptionKey(Secret):
    """A KEK: wraps data keys; itself at rest only under the root."""

    __slots__ = ()


class RootSecret(Secret):
    """A version of the root of a keyset file: wraps what is in the key ring."""

    __slots__ = ()


class MacKey(Secret):
    """Authenticates: annotations and consent events, or the key ring."""

    __slots__ = ("_keyed",)

    def __init__(self, secret: bytes) -> None:
        super().__init__(secret)
        self._keyed = KeyedHash(self.reveal())

    def mac(self, message: bytes) -> bytes:
        """Return the 32 bytes that authenticate *message*, whose encoding must be unambiguous."""
        return self._keyed.of(message)


class PseudonymKey(Secret):
    """Turns names into pseudonyms. Exempt from rotation: another one renames everybody (security B2)."""

    __slots__ = ()


class SigningSeed(Secret):
    """The Ed25519 seed that receipts and checkpoints are signed with."""

    __slots__ = ()


class KeyStatus(StrEnum):
    """The life of a key version, in this order (security B9). Only RETIRED goes back, to DECRYPT."""

    PENDING = "PENDING"
    """Made and being handed out: every node can open with it, none wraps yet."""
    PRIMARY = "PRIMARY"
    """The one that new wraps are made with."""
    DECRYPT = "DECRYPT"
    """Opens what it wrapped while it was primary."""
    RETIRED = "RETIRED"
    """Refused, but still there."""
    DESTROYED = "DESTROYED"
    """Gone for good; the row stays so that its number is never given again."""

    @property
    def opens(self) -> bool:
        """Whether a key of this status may open what was made with it."""
        return self in {KeyStatus.PENDING, KeyStatus.PRIMARY, KeyStatus.DECRYPT}
