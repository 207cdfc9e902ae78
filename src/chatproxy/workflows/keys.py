"""The keys of records: a ring of KEKs from the store and the root, and under it a key per person and per expiry day."""

import asyncio
from collections import OrderedDict

from chatproxy.crypto.keyring import RING_NAME, RING_PURPOSE, Keyring, MintedSecrets, parse_manifest
from chatproxy.crypto.keys import DataKey
from chatproxy.crypto.keyset import Keyset
from chatproxy.crypto.wrap import wrapped_under
from chatproxy.errors import KeysetError, StoreUnavailableError, UndecryptableError
from chatproxy.model import SubjectTag
from chatproxy.ports import RootKey, SubjectState, TranscriptStore

CHECK_NAME = "keyset"
"""The control value by which a store knows the keyset that it was made with."""
_MOST_DAYS = 4096
_NO_RING = (
    "the store has no key ring and is not empty, so it was restored in part or damaged. Restore the control values "
    "'ring' and 'keyset' from the backup that its transcripts came from"
)


async def load_keyring(
    store: TranscriptStore, root: RootKey, keyset: Keyset, *, source: str, now: int
) -> Keyring:
    """Return the key ring of *store*; make the first one in a store that is empty.

    ``source`` names the keyset in messages. Raises KeysetError where the keyset does not fit the store or a store
    with transcripts has no ring, StoreUnavailableError.
    """
    found = await store.read_control(CHECK_NAME)
    data = await store.read_control(RING_NAME)
    if found is None and data is None:
        if not await store.is_empty():
            raise KeysetError(_NO_RING)
        # Two nodes may begin at once: the first to swap wins, and the other reads what is there then.
        minted = MintedSecrets()
        manifest = minted.manifest(await root.wrap(RING_PURPOSE, minted.to_wrap()), created_at=now)
        await store.swap_control(CHECK_NAME, None, keyset.check_value)
        await store.swap_control(RING_NAME, None, manifest)
        found, data = await store.read_control(CHECK_NAME), await store.read_control(RING_NAME)
    keyset.require_check_value(found or b"", source=source)
    if data is None:
        raise KeysetError(_NO_RING)
    try:
        return await open_ring(data, root)
    except UndecryptableError as error:
        raise KeysetError(
            f"the key ring in the store cannot be opened with {source} ({error.reason}). Restore the keyset that "
            "this store was last used with"
        ) from None


async def open_ring(data: bytes, root: RootKey) -> Keyring:
    """Return the ring of a stored manifest. Raises UndecryptableError, KeysetError, StoreUnavailableError."""
    return Keyring(data, await root.unwrap(RING_PURPOSE, parse_manifest(data).wrapped_secrets()))


class RecordKeys:
    """The keys that records are sealed under."""

    def __init__(self, store: TranscriptStore, keyring: Keyring | None = None) -> None:
        """Without a *keyring*, which a store that is away cannot give, wait for ``use``."""
        self._store = store
        self._loaded = keyring
        self._epochs: OrderedDict[int, DataKey] = OrderedDict()
        self.lacks = asyncio.Event()
        """Set when a wrap names a KEK that this ring does not know: the store's ring is newer, and is to be read."""

    def use(self, keyring: Keyring) -> None:
        """Work with *keyring* from now on."""
        self._loaded = keyring
        self.lacks.clear()

    @property
    def ring(self) -> Keyring | None:
        """Return the key ring in use, None before there is one."""
        return self._loaded

    @property
    def _keyring(self) -> Keyring:
        if self._loaded is None:
            raise StoreUnavailableError("the key ring has not been read from the store yet")
        return self._loaded

    def new_subject_key(self, subject: SubjectTag, *, generation: int) -> tuple[DataKey, bytes]:
        """Draw the key of a subject's *generation*; return it and its wrap."""
        key = DataKey.generate()
        return key, self._keyring.wrap_subject_key(key, subject=subject, generation=generation)

    def unwrap_subject_key(self, subject: SubjectTag, state: SubjectState, generation: int) -> DataKey:
        """Return the key of a subject's *generation*. Raises UndecryptableError."""
        wrapped = state.wraps.get(generation)
        if wrapped is None:
            raise UndecryptableError("no_subject_key")
        self._require_known(wrapped)
        return self._keyring.unwrap_subject_key(wrapped, subject=subject, generation=generation)

    async def epoch_key(self, day: int) -> DataKey:
        """Return the key of an expiry day, made on first use. Raises UndecryptableError, StoreUnavailableError."""
        key = self._epochs.get(day)
        if key is None:
            wrapped = self._keyring.wrap_epoch_key(DataKey.generate(), day=day)
            kept = await self._store.add_epoch_wrap(day, wrapped)
            self._require_known(kept)
            key = self._epochs[day] = self._keyring.unwrap_epoch_key(kept, day=day)
            if len(self._epochs) > _MOST_DAYS:
                self._epochs.popitem(last=False)
        return key

    async def existing_epoch_key(self, day: int) -> DataKey:
        """Return the key of an expiry day if it still exists. Raises UndecryptableError, StoreUnavailableError."""
        wraps = await self._store.epoch_wraps([day])
        if day not in wraps:
            raise UndecryptableError("no_epoch_key")
        self._require_known(wraps[day])
        return self._keyring.unwrap_epoch_key(wraps[day], day=day)

    def _require_known(self, wrapped: bytes) -> None:
        """Raise StoreUnavailableError where a wrap is newer than this ring: that is no damage, and passes (B9)."""
        if wrapped_under(wrapped) > max(key.version for key in self._keyring.manifest.keys):
            self.lacks.set()
            raise StoreUnavailableError(
                "a key is wrapped under a version that this node has not read yet; it is reading the key ring"
            )
