"""Rotation of root and KEK, step by step, while everything runs (security B9).

1. A step is done when the store says so, and doing it again changes nothing: whoever is interrupted, anybody goes on.
   The state lies in the store beside the ring; both are replaced by compare-and-set.
2. Distribute before use: a new version is promoted only when every live node can open with it.
3. It costs the number of keys, never that of transcripts: records stay as they are, only the wraps of keys change,
   and no expiry moves.
4. What is destroyed is first retired, which can be taken back, and only when no wrap needs it and every node is known.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import msgspec
from msgspec.structs import replace

from chatproxy.clock import Clock
from chatproxy.crypto.keyring import RING_NAME, RING_PURPOSE, Keyring, RingManifest
from chatproxy.crypto.keys import KeyEncryptionKey, KeyStatus
from chatproxy.crypto.ring_changes import (
    next_version,
    with_destroyed,
    with_pending,
    with_primary,
    with_retired,
    with_rewrapped,
    with_unretired,
)
from chatproxy.crypto.wrap import wrapped_under
from chatproxy.errors import KeysetError, StoreUnavailableError, UndecryptableError
from chatproxy.model import SubjectTag
from chatproxy.ports import AuditLog, RootKey, TranscriptStore
from chatproxy.workflows.keys import open_ring
from chatproxy.workflows.watch_ring import Node, list_nodes

ROTATION_NAME = "rotation"
"""The control value that holds where a rotation is."""
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


class RotationState(msgspec.Struct, frozen=True, kw_only=True):
    """Where the latest rotation is. Instants in ms."""

    started_at: int
    by: str
    step: Step
    step_at: int
    root_from: int
    root_to: int
    kek_from: int
    kek_to: int | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to do."""
        return self.step is Step.DESTROYED


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
    ) -> None:
        """``soak_ms``: how long after rewrapping the old version still opens; ``grace_ms``: how long it is retired.

        ``progress`` is told how many people's keys were looked at.
        """
        self._store = store
        self._root = root
        self._audit = audit
        self._clock = clock
        self._by = by
        self._soak_ms = soak_ms
        self._grace_ms = grace_ms
        self._progress = progress

    async def state(self) -> RotationState | None:
        """Return where the latest rotation is; None if there never was one."""
        data = await self._store.read_control(ROTATION_NAME)
        return msgspec.json.decode(data, type=RotationState) if data else None

    async def ring(self) -> Keyring:
        """Return the ring as it is in the store now. Raises KeysetError, UndecryptableError."""
        data = await self._store.read_control(RING_NAME)
        if data is None:
            raise KeysetError("the store has no key ring: start chatproxy once, or restore the store")
        return await open_ring(data, self._root)

    async def advance(self) -> RotationState:
        """Do the next step, or begin a rotation where none is under way; return where it is then.

        Raises NotYetError, KeysetError, UndecryptableError, StoreUnavailableError, AuditUnavailableError.
        """
        state = await self.state()
        if state is None or state.is_over:
            return await self._begin(state)
        match state.step:
            case Step.ROOT_ADDED:
                return await self._add_kek(state)
            case Step.KEK_ADDED:
                return await self._promote(state)
            case Step.PROMOTED:
                await self.rewrap()
                return await self._done(state, Step.REWRAPPED)
            case Step.REWRAPPED:
                return await self._retire(state)
            case _:
                return await self._destroy(state)

    async def abort(self) -> None:
        """Give up a rotation whose version is not promoted yet. Raises KeysetError where it is too late."""
        state = await self.state()
        if state is None or state.is_over:
            raise KeysetError("no rotation is under way")
        if state.step not in {Step.ROOT_ADDED, Step.KEK_ADDED}:
            raise KeysetError(
                f"the new version is in use since {state.step}: go on with `chatproxy keys rotate`; "
                "whoever wants another key begins another rotation after it"
            )
        self._audit.append("keys.rotate.abort", {"root": state.root_to, "kek": state.kek_to or 0})
        if state.kek_to is not None:
            version = state.kek_to
            await self._change(lambda ring, at: with_destroyed(ring, version=version, at=at))
        else:
            await self._set_root(state.root_to, KeyStatus.DESTROYED)
        # A root version that is in use stays so: the next rotation takes it, and all before it, away.
        await self._done(state, Step.DESTROYED)

    async def rewrap(self) -> dict[int, int]:
        """Wrap every key that lies under another version than the primary under that; return how many of each."""
        ring = await self.ring()
        moved: dict[int, int] = {}
        async for subjects in self._in_batches():
            wraps = await self._store.subject_wraps(subjects)
            swaps = []
            for subject, found in zip(subjects, wraps, strict=True):
                for generation, old in found.items():
                    if wrapped_under(old) == ring.primary_version:
                        continue
                    key = ring.unwrap_subject_key(old, subject=subject, generation=generation)
                    new = ring.wrap_subject_key(key, subject=subject, generation=generation)
                    swaps.append((subject, generation, old, bytes(new)))
                    moved[wrapped_under(old)] = moved.get(wrapped_under(old), 0) + 1
            await self._store.swap_subject_wraps(swaps)
            self._progress(len(subjects))
        epochs = []
        for day, old in (await self._store.all_epoch_wraps()).items():
            if wrapped_under(old) != ring.primary_version:
                new = ring.wrap_epoch_key(ring.unwrap_epoch_key(old, day=day), day=day)
                epochs.append((day, old, bytes(new)))
                moved[wrapped_under(old)] = moved.get(wrapped_under(old), 0) + 1
        await self._store.swap_epoch_wraps(epochs)
        return moved

    async def count_wraps(self) -> dict[int, WrapCount]:
        """Return how many wraps lie under each KEK version. Walks every person."""
        subjects: dict[int, int] = {}
        async for batch in self._in_batches():
            for found in await self._store.subject_wraps(batch):
                for wrap in found.values():
                    subjects[wrapped_under(wrap)] = subjects.get(wrapped_under(wrap), 0) + 1
            self._progress(len(batch))
        epochs: dict[int, int] = {}
        for wrap in (await self._store.all_epoch_wraps()).values():
            epochs[wrapped_under(wrap)] = epochs.get(wrapped_under(wrap), 0) + 1
        versions = sorted({*subjects, *epochs})
        return {version: WrapCount(subjects.get(version, 0), epochs.get(version, 0)) for version in versions}

    async def verify(self) -> tuple[int, int]:
        """Open every wrapped key; return how many open, and how many do not."""
        ring = await self.ring()
        opened = faulty = 0
        async for subjects in self._in_batches():
            for subject, found in zip(subjects, await self._store.subject_wraps(subjects), strict=True):
                for generation, wrap in found.items():
                    try:
                        ring.unwrap_subject_key(wrap, subject=subject, generation=generation)
                        opened += 1
                    except UndecryptableError:
                        faulty += 1
            self._progress(len(subjects))
        for day, wrap in (await self._store.all_epoch_wraps()).items():
            try:
                ring.unwrap_epoch_key(wrap, day=day)
                opened += 1
            except UndecryptableError:
                faulty += 1
        return opened, faulty

    async def unretire(self, version: int) -> None:
        """Open with a retired KEK version again."""
        self._audit.append("keys.unretire", {"kek": version})
        await self._change(lambda ring, at: with_unretired(ring, version=version, at=at))

    async def _begin(self, before: RotationState | None) -> RotationState:
        versions = await self._root.versions()
        pending = [version.version for version in versions if version.status is KeyStatus.PENDING]
        root_from = next(version.version for version in versions if version.status is KeyStatus.PRIMARY)
        self._audit.append("keys.rotate.begin", {"root": root_from})
        # One that was made by a process that did not live to say so is taken up.
        root_to = pending[0] if pending else await self._root.add_version(now=self._clock())
        now = self._clock()
        state = RotationState(
            started_at=now,
            by=self._by,
            step=Step.ROOT_ADDED,
            step_at=now,
            root_from=root_from,
            root_to=root_to,
            kek_from=(await self.ring()).primary_version,
        )
        old = msgspec.json.encode(before) if before is not None else None
        if not await self._store.swap_control(ROTATION_NAME, old, msgspec.json.encode(state)):
            raise await self._in_progress()
        return state

    async def _add_kek(self, state: RotationState) -> RotationState:
        await self._require_nodes(
            lambda node: node.state is not None and state.root_to in node.state.roots,
            f"can open with root version {state.root_to}: give it the new keyset",
        )
        await self._set_root(state.root_to, KeyStatus.PRIMARY)
        for _ in range(_MOST_TRIES):
            ring = await self.ring()
            pending = [key for key in ring.manifest.keys if key.status is KeyStatus.PENDING]
            changed = ring.manifest
            if not pending:
                version = next_version(ring.manifest)
                kek = KeyEncryptionKey.generate()
                [wrapped] = await self._root.wrap(RING_PURPOSE, [(b"kek/%d" % version, kek.reveal())])
                changed = with_pending(ring.manifest, version=version, wrapped=wrapped, at=self._clock())
            changed = await self._under_root(changed, state.root_to)
            if changed == ring.manifest or await self._swap(ring, changed):
                [kek_to] = [key.version for key in changed.keys if key.status is KeyStatus.PENDING]
                self._audit.append("keys.generate", {"kek": kek_to, "root": state.root_to})
                return await self._done(replace(state, kek_to=kek_to), Step.KEK_ADDED, was=state)
        raise StoreUnavailableError("the key ring keeps changing; try again")

    async def _promote(self, state: RotationState) -> RotationState:
        ring = await self.ring()
        version = state.kek_to
        if version is None:
            raise KeysetError("the rotation has lost its version; abort it and begin anew")
        if ring.primary_version != version:
            await self._require_nodes(
                lambda node: node.state is not None and node.state.ring >= ring.counter,
                "has read the key ring with the new version",
            )
            self._audit.append("keys.promote", {"kek": version})
            await self._change(lambda ring, at: with_primary(ring, version=version, at=at))
        return await self._done(state, Step.PROMOTED)

    async def _retire(self, state: RotationState) -> RotationState:
        ready_at = state.step_at + self._soak_ms
        if self._clock() < ready_at:
            raise NotYetError(
                f"version {state.kek_from} still opens for a while, so that a node that lags can go on; "
                f"{(ready_at - self._clock()) // 1000} s are left"
            )
        # A node that lagged may have wrapped under the old version until it heard of the new one.
        await self.rewrap()
        left = (await self.count_wraps()).get(state.kek_from, WrapCount()).total
        if left:
            raise NotYetError(f"{left} keys lie under version {state.kek_from} again; rewrap once more")
        ring = await self.ring()
        await self._require_nodes(
            lambda node: node.state is not None and node.state.ring >= ring.counter,
            "has read the key ring",
            also_gone=True,
        )
        self._audit.append("keys.retire", {"kek": state.kek_from, "root": state.root_from})
        if ring.manifest.key(state.kek_from).status is KeyStatus.DECRYPT:
            await self._change(lambda ring, at: with_retired(ring, version=state.kek_from, at=at))
        await self._end_roots(state, KeyStatus.DECRYPT, KeyStatus.RETIRED)
        return await self._done(state, Step.RETIRED)

    async def _destroy(self, state: RotationState) -> RotationState:
        ready_at = state.step_at + self._grace_ms
        if self._clock() < ready_at:
            raise NotYetError(
                f"version {state.kek_from} is retired and can be brought back for "
                f"{(ready_at - self._clock()) // 1000} s more; then it is destroyed"
            )
        left = (await self.count_wraps()).get(state.kek_from, WrapCount()).total
        if left:
            raise KeysetError(
                f"{left} keys lie under version {state.kek_from}: destroying it would make what they seal unreadable. "
                "Bring it back with `chatproxy keys unretire`, then rewrap"
            )
        self._audit.append("keys.destroy", {"kek": state.kek_from, "root": state.root_from})
        ring = await self.ring()
        if ring.manifest.key(state.kek_from).status is KeyStatus.RETIRED:
            await self._change(lambda ring, at: with_destroyed(ring, version=state.kek_from, at=at))
        await self._end_roots(state, KeyStatus.RETIRED, KeyStatus.DESTROYED)
        return await self._done(state, Step.DESTROYED)

    async def _change(self, step: Callable[[RingManifest, int], RingManifest]) -> None:
        """Replace the ring by what *step* makes of it."""
        for _ in range(_MOST_TRIES):
            ring = await self.ring()
            if await self._swap(ring, step(ring.manifest, self._clock())):
                return
        raise StoreUnavailableError("the key ring keeps changing; try again")

    async def _swap(self, ring: Keyring, changed: RingManifest) -> bool:
        return await self._store.swap_control(RING_NAME, ring.data, ring.signed(changed))

    async def _under_root(self, ring: RingManifest, root: int) -> RingManifest:
        """Return the ring with every secret wrapped under that root version."""
        secrets = [(b"mac", ring.wrapped_mac_key)] + [
            (key.ident, key.wrapped) for key in ring.keys if key.wrapped is not None
        ]
        if all(self._root.version_of(wrapped) == root for _, wrapped in secrets):
            return ring
        opened = await self._root.unwrap(RING_PURPOSE, secrets)
        idents = [ident for ident, _ in secrets]
        mac, *keks = await self._root.wrap(RING_PURPOSE, list(zip(idents, opened, strict=True)))
        versions = [key.version for key in ring.keys if key.wrapped is not None]
        return with_rewrapped(ring, wrapped_mac_key=mac, wraps=dict(zip(versions, keks, strict=True)))

    async def _set_root(self, version: int, status: KeyStatus) -> None:
        """Bring a root version to *status*, unless it is there already."""
        found = next(each for each in await self._root.versions() if each.version == version)
        if found.status is not status:
            await self._root.set_status(version, status)

    async def _end_roots(self, state: RotationState, before: KeyStatus, after: KeyStatus) -> None:
        """Bring every root version older than the new one from *before* to *after*."""
        for version in await self._root.versions():
            if version.version < state.root_to and version.status is before:
                await self._root.set_status(version.version, after)

    async def _require_nodes(
        self, is_ready: Callable[[Node], bool], what: str, *, also_gone: bool = False
    ) -> None:
        """Raise NotYetError unless every live node is ready; ``also_gone``: and none has vanished."""
        now = self._clock()
        nodes = await list_nodes(self._store)
        waiting = [node.name for node in nodes if node.is_live(now) and not is_ready(node)]
        if waiting:
            raise NotYetError(f"waiting until each node {what}: {', '.join(waiting)}")
        gone = [node.name for node in nodes if not node.is_live(now)]
        if also_gone and gone:
            raise NotYetError(
                f"nodes have vanished without stopping, and may hold what needs the old version: {', '.join(gone)}. "
                "Start them again, or say that they are lost with `chatproxy keys forget-node`"
            )

    async def _done(
        self, state: RotationState, step: Step, *, was: RotationState | None = None
    ) -> RotationState:
        old = msgspec.json.encode(was or state)
        done = replace(state, step=step, step_at=self._clock())
        if not await self._store.swap_control(ROTATION_NAME, old, msgspec.json.encode(done)):
            raise await self._in_progress()
        return done

    async def _in_progress(self) -> KeysetError:
        state = await self.state()
        if state is None:
            return NotYetError("somebody else changes the rotation; try again")
        return NotYetError(f"a rotation by {state.by} is under way, at {state.step}; try again")

    async def _in_batches(self) -> AsyncIterator[Sequence[SubjectTag]]:
        batch: list[SubjectTag] = []
        async for subject in self._store.subjects():
            batch.append(subject)
            if len(batch) == _BATCH:
                yield batch
                batch = []
        if batch:
            yield batch
