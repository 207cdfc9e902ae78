"""Rotation of root and KEK, step by step, while everything runs (security B9).

1. A step is done when the store says so, and doing it again changes nothing: whoever is interrupted, anybody goes on.
   The state lies in the store beside the ring; both are replaced by compare-and-set. The ring is authentic and the
   state is not, so what the ring says counts.
2. Distribute before use: a new version is promoted only when every live node can open with it.
3. It costs the number of keys, never that of transcripts: records stay as they are, only the wraps of keys change,
   and no expiry moves.
4. What is destroyed is first retired, which can be taken back, and only when no wrap needs it, no journal of a node needs
   its root version, and every node is known.
5. A KEK stays under the root version that it was made under: with that it dies, in every backup (B3).
6. A wrap that does not open is counted and left alone. It stops nothing but the destruction of what it names.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import msgspec
from msgspec.structs import replace

from chatproxy.clock import Clock
from chatproxy.crypto.keyring import RING_NAME, RING_PURPOSE, Keyring, RingManifest, sign_manifest
from chatproxy.crypto.keys import DataKey, KeyEncryptionKey, KeyStatus, MacKey
from chatproxy.crypto.ring_changes import (
    next_version,
    older_versions,
    pending_version,
    with_destroyed,
    with_pending,
    with_primary,
    with_retired,
    with_unretired,
)
from chatproxy.crypto.wrap import wrapped_under
from chatproxy.errors import KeysetError, StoreUnavailableError, UndecryptableError
from chatproxy.model import SubjectTag
from chatproxy.policy.instants import format_instant
from chatproxy.ports import AuditLog, RootKey, RootVersion, TranscriptStore
from chatproxy.workflows.batches import in_batches
from chatproxy.workflows.keys import read_ring
from chatproxy.workflows.watch_ring import (
    ROTATION_NAME,
    WORKS_WITH_RING,
    Node,
    waiting_journals,
    waiting_nodes,
    works_with,
)

_BATCH = 500
_MOST_TRIES = 5


class Step(StrEnum):
    """How far a rotation is: what was done last."""

    ROOT_ADDED = "root_added"
    KEK_ADDED = "kek_added"
    PROMOTED = "promoted"
    REWRAPPED = "rewrapped"
    RETIRED = "retired"
    DESTROYED = "destroyed"
    ABORTED = "aborted"


class RotationState(msgspec.Struct, frozen=True, kw_only=True):
    """Where the latest rotation is. Instants in ms."""

    started_at: int
    by: str
    step: Step
    step_at: int
    step_by: str
    root_from: int
    root_to: int
    kek_from: int
    kek_to: int | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to do."""
        return self.step in {Step.DESTROYED, Step.ABORTED}


class NotYetError(KeysetError):
    """The next step has to wait; the message says for what. Trying again later is all there is to do."""


@dataclass(frozen=True, slots=True)
class WrapCount:
    """How many wrapped keys lie under one KEK version."""

    subjects: int = 0
    epochs: int = 0

    @property
    def total(self) -> int:
        """Return both together."""
        return self.subjects + self.epochs


@dataclass(frozen=True, slots=True)
class Rewrapped:
    """What a pass over all keys has done, by the version that they lay under."""

    moved: Mapping[int, int]
    damaged: Mapping[int, int]
    """Keys that do not open; 0 stands for what names no version."""


@dataclass(frozen=True, slots=True)
class _Wrap:
    """A wrapped key as it lies in the store."""

    subject: SubjectTag | None
    """None: an epoch key."""
    number: int
    """The generation, or the number of the epoch key."""
    wrapped: bytes = field(repr=False)

    @property
    def version(self) -> int:
        """Return the KEK version that it names; 0: none, for it is not a wrap."""
        try:
            return wrapped_under(self.wrapped)
        except UndecryptableError:
            return 0

    def open(self, ring: Keyring) -> DataKey:
        """Return the key. Raises UndecryptableError."""
        if self.subject is None:
            return ring.unwrap_epoch_key(self.wrapped, epoch=self.number)
        return ring.unwrap_subject_key(self.wrapped, subject=self.subject, generation=self.number)

    def anew(self, ring: Keyring) -> bytes:
        """Return the key wrapped under the primary version. Raises UndecryptableError."""
        key = self.open(ring)
        if self.subject is None:
            return ring.wrap_epoch_key(key, epoch=self.number)
        return ring.wrap_subject_key(key, subject=self.subject, generation=self.number)


class _RingStep(Protocol):
    def __call__(self, ring: RingManifest, *, version: int, at: int) -> RingManifest: ...


class Rotation:
    """Takes the keys of one store from version to version."""

    def __init__(
        self,
        store: TranscriptStore,
        root: RootKey,
        *,
        audit: AuditLog,
        clock: Clock,
        by: str,
        soak_ms: int,
        grace_ms: int,
        progress: Callable[[int], None] = lambda _: None,
        follow_root: Callable[[], Awaitable[None]],
    ) -> None:
        """``soak_ms``: how long after rewrapping the old version still opens; ``grace_ms``: how long it is retired.

        ``progress`` is told how many keys were looked at; ``follow_root`` puts what else the root wraps, beside the
        ring, under its primary version.
        """
        self._store = store
        self._root = root
        self._audit = audit
        self._clock = clock
        self._by = by
        self._soak_ms = soak_ms
        self._grace_ms = grace_ms
        self._progress = progress
        self._follow_root = follow_root

    async def state(self) -> RotationState | None:
        """Return where the latest rotation is; None if there never was one. Raises KeysetError if it is damaged."""
        state, _ = await self._read_state()
        return state

    async def ring(self) -> Keyring:
        """Return the ring as it is in the store now. Raises KeysetError, UndecryptableError."""
        ring = await read_ring(self._store, self._root)
        if ring is None:
            raise KeysetError("the store has no key ring: start chatproxy once, or restore the store")
        return ring

    async def advance(self, *, abandon_damaged: int = 0) -> RotationState:
        """Do the next step, or begin a rotation where none is under way; return where it is then.

        ``abandon_damaged``: how many keys that do not open may be given up with the version that they name.
        Raises NotYetError, KeysetError, UndecryptableError, StoreUnavailableError, AuditUnavailableError.
        """
        state, data = await self._read_state()
        if state is None or state.is_over:
            return await self._begin(data)
        match state.step:
            case Step.ROOT_ADDED:
                return await self._add_kek(state, data)
            case Step.KEK_ADDED:
                return await self._promote(state, data)
            case Step.PROMOTED:
                self._audit.append("keys.rewrap", {"kek": state.kek_to or 0, "by": self._by})
                await self.rewrap()
                return await self._done(state, data, Step.REWRAPPED)
            case Step.REWRAPPED:
                return await self._retire(state, data)
            case _:
                return await self._destroy(state, data, abandon_damaged)

    async def abort(self) -> None:
        """Give up a rotation whose version is not promoted yet. Raises KeysetError where it is too late."""
        state, data = await self._read_state()
        if state is None or state.is_over:
            raise KeysetError("no rotation is under way")
        if state.step not in {Step.ROOT_ADDED, Step.KEK_ADDED}:
            raise KeysetError(
                f"the new version is in use since {state.step}: go on with `chatproxy keys rotate`; "
                "whoever wants another key begins another rotation after it"
            )
        self._audit.append("keys.rotate.abort", {"root": state.root_to, "by": self._by})
        ring = await self.ring()
        if state.kek_to == ring.primary_version:
            raise KeysetError(
                f"version {state.kek_to} was promoted a moment ago: go on with `chatproxy keys rotate`"
            )
        if (pending := pending_version(ring.manifest)) is not None:
            await self._change_if(pending.version, KeyStatus.PENDING, with_destroyed)
        if (await self._root_version(state.root_to)).status is KeyStatus.PENDING:
            await self._bring_root(state.root_to, KeyStatus.DESTROYED)
        # A root version that is in use stays so: the next rotation takes it, and all before it, away.
        await self._done(state, data, Step.ABORTED)

    async def rewrap(self) -> Rewrapped:
        """Wrap every key that lies under another version than the primary one under that; no expiry moves.

        Raises KeysetError, UndecryptableError for the ring, StoreUnavailableError.
        """
        ring = await self.ring()
        moved: dict[int, int] = {}
        damaged: dict[int, int] = {}
        async for batch in self._batches():
            old, new = [], []
            for wrap in batch:
                if wrap.version == ring.primary_version:
                    continue
                try:
                    new.append(wrap.anew(ring))
                    old.append(wrap)
                except UndecryptableError:
                    damaged[wrap.version] = damaged.get(wrap.version, 0) + 1
            # What was changed or has gone meanwhile is not ours to write.
            for wrap, is_done in zip(old, await self._swap_wraps(old, new), strict=True):
                moved[wrap.version] = moved.get(wrap.version, 0) + is_done
        return Rewrapped({version: number for version, number in moved.items() if number}, damaged)

    async def count_wraps(self) -> dict[int, WrapCount]:
        """Return how many wraps lie under each KEK version; under 0 those that name none. Walks every person."""
        subjects: dict[int, int] = {}
        epochs: dict[int, int] = {}
        async for batch in self._batches():
            for wrap in batch:
                counts = epochs if wrap.subject is None else subjects
                counts[wrap.version] = counts.get(wrap.version, 0) + 1
        versions = sorted({*subjects, *epochs})
        return {version: WrapCount(subjects.get(version, 0), epochs.get(version, 0)) for version in versions}

    async def verify(self) -> tuple[int, int]:
        """Open every wrapped key; return how many open, and how many do not."""
        ring = await self.ring()
        opened = faulty = 0
        async for batch in self._batches():
            for wrap in batch:
                try:
                    wrap.open(ring)
                    opened += 1
                except UndecryptableError:
                    faulty += 1
        return opened, faulty

    async def unretire(self) -> list[int]:
        """Open with what the rotation under way has retired again, root and KEK; return the KEK versions.

        It goes on from there with rewrapping. Raises KeysetError, NotYetError.
        """
        state, data = await self._read_state()
        if state is None or state.is_over:
            raise KeysetError(
                "no rotation is under way, so nothing is retired; what is destroyed does not come back"
            )
        retired = older_versions((await self.ring()).manifest, KeyStatus.RETIRED)
        self._audit.append("keys.unretire", {"keks": ",".join(map(str, retired)), "by": self._by})
        for root in await self._root.versions():
            if root.version < state.root_to and root.status is KeyStatus.RETIRED:
                await self._bring_root(root.version, KeyStatus.DECRYPT)
        # The root first: a ring that needs a root version which is refused opens nowhere. Every node hears of this.
        state = await self._done(state, data, state.step)
        back = [
            root for root in await self._root.versions() if root.version < state.root_to and root.status.opens
        ]
        await self._require_nodes(
            lambda node: (
                node.state is not None
                and all(node.state.roots.get(root.version) == root.check for root in back)
            ),
            "can open with the root version that was brought back: give it the keyset as it is now",
        )
        for version in retired:
            await self._change_if(version, KeyStatus.RETIRED, with_unretired)
        await self._done(state, msgspec.json.encode(state), Step.PROMOTED)
        return retired

    async def _begin(self, before: bytes | None) -> RotationState:
        versions = await self._root.versions()
        pending = [version.version for version in versions if version.status is KeyStatus.PENDING]
        root_from = next(version.version for version in versions if version.status is KeyStatus.PRIMARY)
        kek_from = (await self.ring()).primary_version
        self._audit.append("keys.rotate.begin", {"root": root_from, "kek": kek_from, "by": self._by})
        # One that was made by a process that did not live to say so is taken up.
        root_to = pending[0] if pending else await self._root.add_version(now=self._clock())
        now = self._clock()
        state = RotationState(
            started_at=now,
            by=self._by,
            step=Step.ROOT_ADDED,
            step_at=now,
            step_by=self._by,
            root_from=root_from,
            root_to=root_to,
            kek_from=kek_from,
        )
        if not await self._store.swap_control(ROTATION_NAME, before, msgspec.json.encode(state)):
            raise await self._in_progress()
        return state

    async def _add_kek(self, state: RotationState, data: bytes | None) -> RotationState:
        root = await self._root_version(state.root_to)
        if root.status is KeyStatus.DESTROYED:
            # Somebody gave the rotation up, and did not live to say so.
            return await self._done(state, data, Step.ABORTED)
        await self._require_nodes(
            lambda node: node.state is not None and node.state.roots.get(root.version) == root.check,
            f"can open with root version {root.version}: give it the keyset as it is now",
        )
        if root.status is KeyStatus.PENDING:
            self._audit.append("keys.promote_root", {"root": root.version, "by": self._by})
            await self._bring_root(root.version, KeyStatus.PRIMARY)
        for _ in range(_MOST_TRIES):
            ring = await self.ring()
            pending = pending_version(ring.manifest)
            if pending is not None and self._root.version_of(pending.wrapped or b"") >= root.version:
                return await self._done(replace(state, kek_to=pending.version), data, Step.KEK_ADDED)
            if pending is not None:
                await self._change_if(pending.version, KeyStatus.PENDING, with_destroyed)
                continue
            version = next_version(ring.manifest)
            self._audit.append("keys.generate", {"kek": version, "root": root.version, "by": self._by})
            await self._add_version(ring, version)
        raise StoreUnavailableError("the key ring keeps changing; try again")

    async def _add_version(self, ring: Keyring, version: int) -> None:
        """Put a new KEK into the ring, and a new key that authenticates it, unless the ring has changed."""
        kek, mac = KeyEncryptionKey.generate(), MacKey.generate()
        wrapped_mac_key, wrapped = await self._root.wrap(
            RING_PURPOSE, [(b"mac", mac.reveal()), (b"kek/%d" % version, kek.reveal())]
        )
        changed = with_pending(
            ring.manifest, version=version, wrapped=wrapped, wrapped_mac_key=wrapped_mac_key, at=self._clock()
        )
        await self._store.swap_control(RING_NAME, ring.data, sign_manifest(changed, mac_key=mac))

    async def _promote(self, state: RotationState, data: bytes | None) -> RotationState:
        ring = await self.ring()
        version = state.kek_to or 0
        if ring.primary_version != version:
            if ring.manifest.key(version).status is KeyStatus.DESTROYED:
                # Somebody gave the rotation up, and did not live to say so.
                return await self._done(state, data, Step.ABORTED)
            await self._require_ring(ring)
            self._audit.append("keys.promote", {"kek": version, "by": self._by})
            await self._change_if(version, KeyStatus.PENDING, with_primary)
            if (await self.ring()).primary_version != version:
                raise await self._in_progress()
        return await self._done(state, data, Step.PROMOTED)

    async def _retire(self, state: RotationState, data: bytes | None) -> RotationState:
        ring = await self.ring()
        ready_at = self._soak_until(state, ring)
        if self._clock() < ready_at:
            raise NotYetError(
                f"version {state.kek_from} still opens for a while, so that a node that lags can go on; "
                f"{(ready_at - self._clock()) // 1000} s are left"
            )
        old = older_versions(ring.manifest, KeyStatus.DECRYPT)
        # First the nodes: after that, none of them makes another wrap under the old version.
        await self._require_ring(ring, also_gone=True)
        await self._require_journals()
        damaged = (await self.rewrap()).damaged
        counts = await self.count_wraps()
        left = sum(counts.get(version, WrapCount()).total - damaged.get(version, 0) for version in old)
        if left > 0:
            raise NotYetError(f"{left} keys lie under the old version again; they are rewrapped")
        self._audit.append("keys.retire", {"kek": state.kek_from, "root": state.root_from, "by": self._by})
        for version in old:
            await self._change_if(version, KeyStatus.DECRYPT, with_retired)
        await self._end_roots(KeyStatus.DECRYPT, KeyStatus.RETIRED)
        return await self._done(state, data, Step.RETIRED)

    async def _destroy(self, state: RotationState, data: bytes | None, abandon_damaged: int) -> RotationState:
        ring = await self.ring()
        if older_versions(ring.manifest, KeyStatus.DECRYPT):
            # Somebody brought it back, and did not live to say so.
            return await self._done(state, data, Step.PROMOTED)
        old = older_versions(ring.manifest, KeyStatus.RETIRED)
        retired_at = max([state.step_at, *(ring.manifest.key(version).changed_at or 0 for version in old)])
        if self._clock() < retired_at + self._grace_ms:
            raise NotYetError(
                f"version {state.kek_from} is retired and can be brought back for "
                f"{(retired_at + self._grace_ms - self._clock()) // 1000} s more; then it is destroyed"
            )
        # A node with an old keyset may have come since.
        await self._require_journals()
        counts = await self.count_wraps()
        left = sum(counts.get(version, WrapCount()).total for version in old)
        if left > abandon_damaged:
            raise KeysetError(
                f"{left} keys lie under the old version, and destroying it would make what they seal unreadable. Bring "
                "it back with `chatproxy keys unretire`, which rewraps what opens. What is left then is damaged: "
                f"restore it, or give it up with `chatproxy keys destroy --abandon-damaged {left}`"
            )
        self._audit.append(
            "keys.destroy",
            {"kek": state.kek_from, "root": state.root_from, "abandoned": left, "by": self._by},
        )
        for version in old:
            await self._change_if(version, KeyStatus.RETIRED, with_destroyed)
        await self._end_roots(KeyStatus.DECRYPT, KeyStatus.RETIRED)
        await self._end_roots(KeyStatus.RETIRED, KeyStatus.DESTROYED)
        return await self._done(state, data, Step.DESTROYED)

    async def _change_if(self, version: int, status: KeyStatus, step: _RingStep) -> None:
        """Take *step* with a version that has *status*, unless somebody else has done so meanwhile."""
        for _ in range(_MOST_TRIES):
            ring = await self.ring()
            if ring.manifest.key(version).status is not status:
                return
            changed = ring.signed(step(ring.manifest, version=version, at=self._clock()))
            if await self._store.swap_control(RING_NAME, ring.data, changed):
                return
        raise StoreUnavailableError("the key ring keeps changing; try again")

    async def _end_roots(self, before: KeyStatus, after: KeyStatus) -> None:
        """Bring every root version from *before* to *after* that nothing in the ring needs any more.

        What is needed is read from the ring, which is authentic: a forged state must not cost a root. What else lies
        under the root goes under its primary version first.
        """
        await self._follow_root()
        ring = (await self.ring()).manifest
        wraps = [ring.wrapped_mac_key]
        for key in ring.keys:
            is_needed = key.status.opens or (after is KeyStatus.DESTROYED and key.status is KeyStatus.RETIRED)
            if is_needed and key.wrapped is not None:
                wraps.append(key.wrapped)
        needed = {self._root.version_of(wrapped) for wrapped in wraps}
        for root in await self._root.versions():
            if root.version not in needed and root.status is before:
                await self._bring_root(root.version, after)

    async def _bring_root(self, version: int, status: KeyStatus) -> None:
        """Bring a root version to *status*, unless somebody else has done so meanwhile. Raises KeysetError."""
        try:
            await self._root.set_status(version, status)
        except KeysetError:
            if (await self._root_version(version)).status is not status:
                raise

    async def _root_version(self, version: int) -> RootVersion:
        """Return a version of the root as it is here. Raises KeysetError."""
        found = next((each for each in await self._root.versions() if each.version == version), None)
        if found is None:
            raise KeysetError(
                f"the keyset of this node has no root version {version}, which a rotation has made: copy the keyset "
                "file from the node where it was begun"
            )
        return found

    async def blockers(self) -> list[str]:
        """Return what stands in the way of retiring the old versions now, each in words; it changes nothing."""
        state = await self.state()
        if state is None or state.is_over:
            return []
        if state.step is Step.RETIRED:
            return []
        ring = await self.ring()
        if state.step not in {Step.PROMOTED, Step.REWRAPPED}:
            return [f"the new version is not in use yet: {state.step}"]
        found = await self._waiting_nodes(works_with(ring), WORKS_WITH_RING, also_gone=True)
        found += await waiting_journals(self._store)
        counts = await self.count_wraps()
        for version in older_versions(ring.manifest, KeyStatus.DECRYPT):
            if left := counts.get(version, WrapCount()).total:
                found.append(f"{left} keys lie under version {version}")
        if (left_ms := self._soak_until(state, ring) - self._clock()) > 0 or state.step is Step.PROMOTED:
            found.append(f"the old version still opens for {max(left_ms, 0) // 1000} s")
        return found

    def _soak_until(self, state: RotationState, ring: Keyring) -> int:
        return max(state.step_at, ring.manifest.primary.promoted_at or 0) + self._soak_ms

    async def _require_ring(self, ring: Keyring, *, also_gone: bool = False) -> None:
        await self._require_nodes(works_with(ring), WORKS_WITH_RING, also_gone=also_gone)

    async def _require_nodes(
        self, is_ready: Callable[[Node], bool], what: str, *, also_gone: bool = False
    ) -> None:
        """Raise NotYetError unless every live node is ready; ``also_gone``: and none has vanished."""
        if waiting := await self._waiting_nodes(is_ready, what, also_gone=also_gone):
            raise NotYetError("; ".join(waiting))

    async def _require_journals(self) -> None:
        """Raise NotYetError while a node's journal needs an older root version than the primary one."""
        if waiting := await waiting_journals(self._store):
            raise NotYetError("; ".join(waiting))

    async def _waiting_nodes(
        self, is_ready: Callable[[Node], bool], what: str, *, also_gone: bool
    ) -> list[str]:
        return await waiting_nodes(self._store, is_ready, what, now=self._clock(), also_gone=also_gone)

    async def _read_state(self) -> tuple[RotationState | None, bytes | None]:
        data = await self._store.read_control(ROTATION_NAME)
        try:
            return (msgspec.json.decode(data, type=RotationState) if data is not None else None), data
        except msgspec.DecodeError:
            raise KeysetError(
                "the control value 'rotation' in the store cannot be read: it is damaged, or of a newer chatproxy. "
                "Restore it from a backup of the store"
            ) from None

    async def _done(self, state: RotationState, data: bytes | None, step: Step) -> RotationState:
        done = replace(state, step=step, step_at=self._clock(), step_by=self._by)
        if not await self._store.swap_control(ROTATION_NAME, data, msgspec.json.encode(done)):
            raise await self._in_progress()
        return done

    async def _in_progress(self) -> NotYetError:
        state = await self.state()
        if state is None:
            return NotYetError("somebody else changes the rotation; try again")
        return NotYetError(
            f"a rotation begun by {state.by} at {format_instant(state.started_at)} is under way, and {state.step_by} "
            f"is at it: {state.step} since {format_instant(state.step_at)}; try again"
        )

    async def _swap_wraps(self, old: list[_Wrap], new: list[bytes]) -> list[bool]:
        subjects = [
            (wrap.subject, wrap.number, wrap.wrapped, anew)
            for wrap, anew in zip(old, new, strict=True)
            if wrap.subject is not None
        ]
        epochs = [
            (wrap.number, wrap.wrapped, anew)
            for wrap, anew in zip(old, new, strict=True)
            if wrap.subject is None
        ]
        # A batch holds either people or days.
        return await self._store.swap_subject_wraps(subjects) + await self._store.swap_epoch_wraps(epochs)

    async def _batches(self) -> AsyncIterator[list[_Wrap]]:
        """Walk every wrapped key: those of people, some people at a time, then those of days."""
        async for batch in in_batches(self._store.subjects(), _BATCH):
            yield await self._wraps_of(batch)
        days = (await self._store.all_epoch_wraps()).items()
        self._progress(len(days))
        yield [_Wrap(None, day, wrapped) for day, wrapped in days]

    async def _wraps_of(self, subjects: list[SubjectTag]) -> list[_Wrap]:
        found = await self._store.subject_wraps(subjects)
        wraps = [
            _Wrap(subject, generation, wrapped)
            for subject, wraps in zip(subjects, found, strict=True)
            # What is of another type than it must be holds nothing that names a version.
            for generation, wrapped in ({0: b""} if wraps is None else wraps).items()
        ]
        self._progress(len(wraps))
        return wraps
