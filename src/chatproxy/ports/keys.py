"""The root that wraps the keyset, and where the keyset comes from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from chatproxy.crypto.keys import KeyStatus
from chatproxy.crypto.keyset import Keyset
from chatproxy.ports.transcripts import TranscriptStore


@dataclass(frozen=True, slots=True)
class RootVersion:
    """One version of the root, as its provider has it. ``created_at`` in ms."""

    version: int
    status: KeyStatus
    created_at: int
    check: str = ""
    """Tells whether two nodes have the same key under this number, where each has a copy of its own."""


class RootKey(Protocol):
    """The provider that holds the root: a keyset file, OpenBao/Vault transit, a cloud KMS.

    It is asked at the start, for rotation, and by each node now and then for its versions; never for a chat. Raises
    KeysetError where the operator must act, and RootUnavailableError where it does not answer.
    """

    async def wrap(self, purpose: str, keys: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
        """Wrap (ident, key) pairs under the primary root version. Ident and purpose are authenticated."""

    async def unwrap(self, purpose: str, wraps: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
        """Unwrap (ident, wrapped) pairs. Raises UndecryptableError too."""

    def version_of(self, wrapped: bytes) -> int:
        """Return the root version that a wrap names. Raises UndecryptableError."""

    async def versions(self) -> list[RootVersion]:
        """Return every version, the oldest first."""

    async def add_version(self, *, now: int) -> int:
        """Make a version that opens and does not wrap yet; return its number. *now* in ms."""

    async def set_status(self, version: int, status: KeyStatus) -> None:
        """Promote, retire, bring back or destroy a version, in the order of ``KeyStatus``."""


class KeysetSource(Protocol):
    """Where the keyset comes from, and its root with it.

    Either both are here, in a file, or a provider keeps the root and the rest lies in the store, sealed by it. Raises
    KeysetError where the operator must act, StoreUnavailableError where store or provider do not answer.
    """

    @property
    def name(self) -> str:
        """As the setting names it, for messages."""

    @property
    def root(self) -> RootKey: ...
    def local(self) -> Keyset | None:
        """The keyset, where that can be told without store and network; None where it lies in the store."""

    async def load(self, store: TranscriptStore) -> Keyset:
        """The keyset, wherever it lies."""

    async def change(self, store: TranscriptStore, step: Callable[[Keyset], Keyset]) -> Keyset:
        """Replace what is not the root by what *step* makes of it, whole or not at all; return that."""

    async def take(self, store: TranscriptStore, keyset: Keyset, *, now: int) -> bool:
        """Hold *keyset* under this root from now on; return whether the root was made for it. *now* in ms.

        What is held already must be the same keyset.
        """

    async def follow_root(self, store: TranscriptStore) -> None:
        """Put what lies in the store under the primary root version, since older ones are about to be retired."""
