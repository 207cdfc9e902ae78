"""The keys of records: a ring of KEKs from the store and the root, and under it a key per person and per expiry day."""

import asyncio
import contextlib
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from chatproxy.crypto.keyring import (
    CHECK_NAME,
    RING_NAME,
    RING_PURPOSE,
    Keyring,
    MintedSecrets,
    parse_manifest,
)
from chatproxy.crypto.keys import DataKey
from chatproxy.crypto.keyset import Keyset
from chatproxy.crypto.record import epoch_number
from chatproxy.crypto.wrap import wrapped_under
from chatproxy.errors import (
    KeysetError,
    RingBehindError,
    StoreUnavailableError,
    UndecryptableError,
)
from chatproxy.model import SubjectTag
from chatproxy.ports import RootKey, SubjectState, TranscriptStore

_LOOKS, _LOOK_SECONDS = 20, 0.05
_TRIES = 5
_MOST_DAYS = 4096
_MOST_UNKNOWN = 1000
_LOOKS_TO_BE_SURE = 2
"""The first look at the ring after a wrap was met may have begun before that; the second has not."""
_NO_RING = (
    "the store has no key ring and is not empty, so it was restored in part or damaged. Restore the control values "
    "'ring' and 'keyset' from the backup that its transcripts came from"
)
_LOST_RING = (
    "the store had a key ring, and has none any more: it was emptied, or another one answers at its address. What it "
    "had is lost unless you restore it from a backup; "
)


async def load_keyring(
    store: TranscriptStore,
    root: RootKey,
    keyset: Keyset,
    *,
    source: str,
    now: int,
    had_one: str | None = None,
) -> Keyring:
    """Return the key ring of *store*; make the first one in a store that is empty.

    ``had_one``: what to do in words, if it is known that it had a ring: then none is made in its place.
    ``source`` names the keyset in messages. Raises KeysetError where the keyset does not fit the store or a store
    with transcripts has no ring, StoreUnavailableError.
    """
    # In this order: the check value is there before the ring is, so who sees a ring of another's making sees that too.
    data = await store.read_control(RING_NAME)
    found = await store.read_control(CHECK_NAME)
    if found is not None:
        keyset.require_check_value(found, source=source)
    if data is None:
        if had_one is not None:
            raise KeysetError(_LOST_RING + had_one)
        # Several may begin at once: the first to swap wins, and the others read what is there then. Whoever did not live
        # to make the ring has left the check value alone.
        if await store.is_empty():
            minted = MintedSecrets()
            manifest = minted.manifest(await root.wrap(RING_PURPOSE, minted.to_wrap()), created_at=now)
            await store.swap_control(CHECK_NAME, None, keyset.check_value)
            await store.swap_control(RING_NAME, None, manifest)
        elif found is None:
            await _made_by_another(store)
        found = await store.read_control(CHECK_NAME)
    keyset.require_check_value(found or b"", source=source)
    try:
        ring = await read_ring(store, root)
    except UndecryptableError as error:
        raise RingUnopenedError(
            f"the key ring in the store cannot be opened with {source} ({error.reason}). Give this node the keyset "
            "that this store was last used with: if its root was rotated on another node, copy the keyset file from "
            "there"
        ) from None
    if ring is None:
        raise KeysetError(_NO_RING)
    return ring


async def _made_by_another(store: TranscriptStore) -> None:
    """Wait for the ring that another process makes at this moment. Raises KeysetError if nobody does."""
    for _ in range(_LOOKS):
        if await store.read_control(RING_NAME) is not None:
            return
        await asyncio.sleep(_LOOK_SECONDS)
    raise KeysetError(_NO_RING)


async def read_ring(store: TranscriptStore, root: RootKey) -> Keyring | None:
    """Return the ring of *store*, None if there is none.

    Raises UndecryptableError, KeysetError, StoreUnavailableError.
    """
    data = await store.read_control(RING_NAME)
    for _ in range(_TRIES):
        if data is None:
            break
        try:
            return await open_ring(data, root)
        except UndecryptableError:
            # The root may have moved on between reading the ring and opening it.
            before, data = data, await store.read_control(RING_NAME)
            if data == before:
                raise
    return None


async def open_ring(data: bytes, root: RootKey) -> Keyring:
    """Return the ring of a stored manifest. Raises UndecryptableError, KeysetError, StoreUnavailableError."""
    return Keyring(data, await root.unwrap(RING_PURPOSE, parse_manifest(data).wrapped_secrets()))


class RingUnopenedError(KeysetError):
    """The ring in the store does not open with this node's root."""


class EpochKey(NamedTuple):
    """A key that seals what expires on one day."""

    series: int
    key: DataKey


class RecordKeys:
    """The keys that records are sealed under."""

    def __init__(self, store: TranscriptStore, keyring: Keyring | None = None) -> None:
        """Without a *keyring*, which a store that is away cannot give, wait for ``use``."""
        self._store = store
        self._loaded = keyring
        self._epochs: OrderedDict[int, EpochKey] = OrderedDict()
        self._looks = 0
        self._unknown: dict[int, int] = {}
        self._held: Counter[int] = Counter()
        self.may_wrap = True
        """Whether the ring is new enough to make wraps with; to open with, any ring will do (B9)."""
        self.news = asyncio.Event()
        """Set when the ring is to be read: a wrap names a KEK that it does not know, or an older one is let go."""

    def use(self, keyring: Keyring) -> None:
        """Work with *keyring* from now on."""
        self._loaded = keyring

    def looked(self) -> None:
        """The ring in use was the one in the store, a moment ago."""
        self._looks += 1
        self.may_wrap = True

    @property
    def oldest_in_use(self) -> int:
        """Return the counter of the oldest ring that something under way may still wrap with; 0: there is none."""
        return min(self._held, default=self._loaded.counter if self._loaded else 0)

    @contextlib.contextmanager
    def wrapping(self) -> Iterator[None]:
        """Surround what wraps keys and puts the wraps into the store.

        As long as it lasts, this node does not say that it has moved on to a newer ring, so nobody takes away the
        version that a wrap under way lies under.
        """
        counter = self._loaded.counter if self._loaded else 0
        self._held[counter] += 1
        try:
            yield
        finally:
            self._held[counter] -= 1
            if not self._held[counter]:
                del self._held[counter]
                if self._loaded is not None and self._loaded.counter > counter:
                    self.news.set()

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
        """Draw the key of a subject's *generation*; return it and its wrap. Call it within ``wrapping``.

        Raises RingBehindError.
        """
        self._require_fresh()
        key = DataKey.generate()
        return key, self._keyring.wrap_subject_key(key, subject=subject, generation=generation)

    def unwrap_subject_key(self, subject: SubjectTag, state: SubjectState, generation: int) -> DataKey:
        """Return the key of a subject's *generation*. Raises UndecryptableError, RingBehindError."""
        wrapped = state.wraps.get(generation)
        if wrapped is None:
            raise UndecryptableError("no_subject_key")
        self._require_known(wrapped)
        return self._keyring.unwrap_subject_key(wrapped, subject=subject, generation=generation)

    async def epoch_key(self, day: int) -> EpochKey:
        """Return the key that seals what expires on a day from now on, made on first use.

        Call it within ``wrapping``, which lasts until what is sealed is in the store: as long, this series stays.
        Raises UndecryptableError, StoreUnavailableError.
        """
        series = self._keyring.manifest.epoch_series
        epoch = epoch_number(day, series=series)
        found = self._epochs.get(epoch)
        if found is None:
            kept = (await self._store.epoch_wraps([epoch])).get(epoch)
            if kept is None:
                self._require_fresh()
                with self.wrapping():
                    wrapped = self._keyring.wrap_epoch_key(DataKey.generate(), epoch=epoch)
                    kept = await self._store.add_epoch_wrap(epoch, wrapped)
            self._require_known(kept)
            found = EpochKey(series, self._keyring.unwrap_epoch_key(kept, epoch=epoch))
            self._epochs[epoch] = found
            if len(self._epochs) > _MOST_DAYS:
                self._epochs.popitem(last=False)
        return found

    async def existing_epoch_key(self, epoch: int) -> DataKey:
        """Return an epoch key by its number if it still exists. Raises UndecryptableError, StoreUnavailableError."""
        keys = await self.existing_epoch_keys([epoch])
        if epoch not in keys:
            raise UndecryptableError("no_epoch_key")
        return keys[epoch]

    async def existing_epoch_keys(self, epochs: Sequence[int]) -> dict[int, DataKey]:
        """Return those epoch keys that exist, by number, in one round trip.

        Raises UndecryptableError, StoreUnavailableError.
        """
        wraps = await self._store.epoch_wraps(epochs)
        for wrap in wraps.values():
            self._require_known(wrap)
        return {epoch: self._keyring.unwrap_epoch_key(wrap, epoch=epoch) for epoch, wrap in wraps.items()}

    def _require_fresh(self) -> None:
        if not self.may_wrap:
            raise RingBehindError(
                "the key ring could not be read for a while, so no new key is wrapped under it; what is captured waits"
            )

    def _require_known(self, wrapped: bytes) -> None:
        """Raise RingBehindError where a wrap is newer than this ring: that is no damage, and passes (B9).

        A version that is still unknown after the ring was read again is damage, and unwrapping says so.
        """
        version = wrapped_under(wrapped)
        if version <= max(key.version for key in self._keyring.manifest.keys):
            return
        if len(self._unknown) > _MOST_UNKNOWN:
            self._unknown.clear()
        if self._looks < self._unknown.setdefault(version, self._looks) + _LOOKS_TO_BE_SURE:
            self.news.set()
            raise RingBehindError(
                "a key is wrapped under a version that this process has not read yet; try again. If it stays so, "
                "`chatproxy keys verify` tells whether the key is damaged"
            )
