"""The keyset of a provider that keeps the root: the rest lies in the store, sealed under it, as a ``KeysetSource``."""

from collections.abc import Callable

from chatproxy.crypto.keys import KeyStatus
from chatproxy.crypto.keyset import Keyset, without_root
from chatproxy.crypto.sealed_keyset import (
    SEALED_NAME,
    SEALED_PURPOSE,
    open_sealed,
    parse_sealed,
    secrets_of,
    write_sealed,
)
from chatproxy.errors import KeysetError, StoreUnavailableError, UndecryptableError
from chatproxy.kms.transit import TransitRoot
from chatproxy.ports import KeysetSource, TranscriptStore

_MOST_TRIES = 5


class StoredKeyset:
    """The keyset whose root is *root*, which *name* names."""

    __slots__ = ("_seen", "_transit", "name", "root")

    def __init__(self, name: str, root: TransitRoot) -> None:
        self.name = name
        self.root = self._transit = root
        self._seen: tuple[bytes, Keyset] | None = None
        """What lay in the store last, and what it says: the vault is asked again only for something new."""

    def local(self) -> None:
        """Return None: without the store nothing is known."""
        return

    async def create(self, store: TranscriptStore, keyset: Keyset) -> bool:
        """Seal *keyset*, without its root, into a store that is empty; return whether the root's key was made too.

        Raises KeysetError, StoreUnavailableError.
        """
        if not await store.is_empty():
            raise KeysetError(
                "the store is not empty, so it has a keyset: name that one with CHATPROXY_KEYSET, and take it to the "
                f"vault with: chatproxy keys move --to {self.name}"
            )
        if await store.read_control(SEALED_NAME) is not None:
            raise self._there_is_one()
        return await self._put(store, None, keyset)

    async def take(self, store: TranscriptStore, keyset: Keyset, *, now: int) -> bool:
        """Seal *keyset*, without its root, into the store, where there may be a form of it that is out of use.

        Return whether the root's key was made too. Raises KeysetError, StoreUnavailableError.
        """
        del now
        before = await store.read_control(SEALED_NAME)
        if before is not None and parse_sealed(before).id != keyset.id:
            raise KeysetError(
                "the store has a sealed keyset that is another one (control value 'sealed-keyset')"
            )
        return await self._put(store, before, keyset)

    async def _put(self, store: TranscriptStore, before: bytes | None, keyset: Keyset) -> bool:
        made = await self._transit.create()
        if not await store.swap_control(SEALED_NAME, before, await self._sealed(without_root(keyset))):
            raise self._there_is_one()
        return made

    async def change(self, store: TranscriptStore, step: Callable[[Keyset], Keyset]) -> Keyset:
        """Replace it by what *step* makes of it. Raises KeysetError, StoreUnavailableError."""
        for _ in range(_MOST_TRIES):
            changed = step(await self.load(store))
            if self._seen is None:
                break
            if await store.swap_control(SEALED_NAME, self._seen[0], await self._sealed(changed)):
                return changed
        raise StoreUnavailableError("the sealed keyset keeps changing; try again")

    async def load(self, store: TranscriptStore) -> Keyset:
        """Read and open what lies in the store. Raises KeysetError, StoreUnavailableError."""
        data = await store.read_control(SEALED_NAME)
        if data is None:
            raise KeysetError(
                f"{self.name}: the store has no keyset that is sealed under it. Make the first one with: chatproxy keys "
                "init, or take the one of a file there with: chatproxy keys move. If there was one, restore the "
                "control value 'sealed-keyset' from a backup of the store"
            )
        if self._seen is None or self._seen[0] != data:
            self._seen = data, await self._open(data)
        return self._seen[1]

    async def follow_root(self, store: TranscriptStore) -> None:
        """Seal anew what lies under an older root version. Raises KeysetError, StoreUnavailableError."""
        for _ in range(_MOST_TRIES):
            data = await store.read_control(SEALED_NAME)
            if data is None:
                raise KeysetError("the store has no sealed keyset any more (control value 'sealed-keyset')")
            primary = next(
                each.version for each in await self.root.versions() if each.status is KeyStatus.PRIMARY
            )
            wraps = [wrapped for _, wrapped in parse_sealed(data).wrapped_secrets()]
            if all(self.root.version_of(wrapped) >= primary for wrapped in wraps):
                return
            await store.swap_control(SEALED_NAME, data, await self._sealed(await self._open(data)))
        raise StoreUnavailableError("the sealed keyset keeps changing; try again")

    async def _open(self, data: bytes) -> Keyset:
        try:
            secrets = await self.root.unwrap(SEALED_PURPOSE, parse_sealed(data).wrapped_secrets())
        except UndecryptableError as error:
            raise KeysetError(
                f"the sealed keyset in the store cannot be opened with {self.name} ({error.reason}). Name the key that "
                "it was sealed under, or restore the control value 'sealed-keyset', or the vault, from the backups "
                "that belong together"
            ) from None
        return open_sealed(data, secrets)

    async def _sealed(self, keyset: Keyset) -> bytes:
        try:
            return write_sealed(keyset, await self.root.wrap(SEALED_PURPOSE, secrets_of(keyset)))
        except UndecryptableError as error:
            raise KeysetError(
                f"{self.name} does not open what it has wrapped a moment ago ({error.reason}), so nothing was stored"
            ) from None

    def _there_is_one(self) -> KeysetError:
        return KeysetError(
            "the store has a sealed keyset already, and it is left as it is: what was stored with it cannot be read "
            "without it"
        )


_: type[KeysetSource] = StoredKeyset
