"""A node keeps up with the key ring, and says how far it is: what a rotation waits for before it goes on (B9).

1. The ring is read every few seconds, at once when another node has changed it, and at once when a wrap names a version
   that is not known here.
2. A node that cannot read it keeps what it has, and goes on capturing with that. It makes no new wraps after a minute,
   and is not ready after ten.
3. A ring that is older than the one in use is not taken: somebody has put back an old store, or an old value.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from chatproxy.clock import Clock
from chatproxy.crypto.keyring import RING_NAME, Keyring
from chatproxy.crypto.keys import KeyStatus
from chatproxy.crypto.sealed_keyset import SEALED_NAME
from chatproxy.errors import ChatproxyError, KeysetError, StoreUnavailableError, UndecryptableError
from chatproxy.ports import Journal, RootKey, RootVersion, TranscriptStore
from chatproxy.telemetry import Log, Metrics
from chatproxy.workflows.horizon import erasure_horizon
from chatproxy.workflows.keys import RecordKeys, read_ring

_log = Log("keys")
ROTATION_NAME = "rotation"
"""The control value that holds where a rotation is."""
_ABOUT_KEYS = frozenset({RING_NAME, ROTATION_NAME, SEALED_NAME})
_EVERY_SECONDS = 5.0
_BEHIND_SECONDS = 0.2
"""How often, while a rotation waits for this node's journal."""
_PAUSE_SECONDS = 1.0
_LONGEST_LOOK_SECONDS = 10.0
_LONGEST_LEAVE_SECONDS = 2.0
_NO_WRAPS_AFTER_MS = 60_000
_NOT_READY_AFTER_MS = 600_000
LIVE_MS = 30_000
"""A node that has said nothing for so long is not running, or cannot be reached."""


class NodeState(msgspec.Struct, frozen=True):
    """What a node says of itself. ``at`` in ms."""

    at: int
    ring: int
    """The counter of the oldest ring that it may still wrap with; 0: none yet."""
    roots: dict[int, str]
    """The root versions that it can open with, each with what tells whether it is the same key as elsewhere."""
    policy: str
    """The digest of the policy that it decides under."""
    instance: str = ""
    """Differs with each start."""
    is_contested: bool = False
    """Another process says things under the same name."""
    keyset: dict[str, list[int]] = {}
    """The versions of annotation and signing keys that it knows."""
    is_journal_behind: bool = False
    """Its journal needs a root version that is older than the primary one, as this node knows it, or that is not known."""


@dataclass(frozen=True, slots=True)
class Node:
    """A node as it was last heard of; ``state`` None: it says what cannot be read."""

    name: str
    state: NodeState | None

    def is_live(self, now: int) -> bool:
        """Whether it was heard of lately."""
        return self.state is not None and now - self.state.at <= LIVE_MS


async def list_nodes(store: TranscriptStore) -> list[Node]:
    """Return every node that has not said that it stopped. Raises StoreUnavailableError."""
    return [Node(name, _read(state)) for name, state in sorted((await store.nodes()).items())]


WORKS_WITH_RING = "works with the key ring as it is now"


def works_with(ring: Keyring) -> Callable[[Node], bool]:
    """Return what tells whether a node, and all that is under way on it, works with *ring* or a newer one."""
    return lambda node: node.state is not None and node.state.ring >= ring.counter


async def waiting_journals(store: TranscriptStore) -> list[str]:
    """Say in words which nodes have a journal that needs an old root version, also those that have vanished.

    Raises StoreUnavailableError.
    """
    nodes = await list_nodes(store)
    names = ", ".join(node.name for node in nodes if node.state is not None and node.state.is_journal_behind)
    return [f"waiting until what lies in the journal under the old root is kept: {names}"] if names else []


async def waiting_nodes(
    store: TranscriptStore,
    is_ready: Callable[[Node], bool],
    what: str,
    *,
    now: int,
    also_gone: bool,
) -> list[str]:
    """Say in words which nodes are in the way of going on: the live ones that are not ready for *what*.

    ``also_gone``: and those that have vanished. Raises StoreUnavailableError.
    """
    nodes = await list_nodes(store)
    found = []
    if contested := [node.name for node in nodes if node.state is not None and node.state.is_contested]:
        found.append(
            f"two processes are called {', '.join(contested)}: give each a CHATPROXY_NODE of its own"
        )
    if waiting := [node.name for node in nodes if node.is_live(now) and not is_ready(node)]:
        found.append(f"waiting until each node {what}: {', '.join(waiting)}")
    gone = [node.name for node in nodes if not node.is_live(now)]
    if also_gone and gone:
        found.append(
            f"nodes have vanished without stopping, and may hold what needs the old version: {', '.join(gone)}. "
            "Start them again, or say that they are lost with `chatproxy keys forget-node`"
        )
    return found


def _read(state: bytes | None) -> NodeState | None:
    try:
        return msgspec.json.decode(state or b"", type=NodeState)
    except msgspec.DecodeError:
        return None


class RingWatch:
    """Keeps one node's ring new."""

    def __init__(
        self,
        store: TranscriptStore,
        root: RootKey,
        keys: RecordKeys,
        *,
        node: str,
        instance: str,
        policy: str,
        clock: Clock,
        metrics: Metrics,
        horizon_ms: int,
        refresh_keyset: Callable[[], Awaitable[Mapping[str, Sequence[int]]]],
        journal: Journal | None = None,
    ) -> None:
        """``instance``: differs with each start; ``policy``: the digest of the one that this node decides under.

        ``horizon_ms``: within which what was erased must not be readable from a backup any more.
        ``journal``: what of this node lies under the root beside the store; None: nothing.
        ``refresh_keyset`` has this node work with the keyset as it is now, and returns the versions that it knows then.
        """
        self._store = store
        self._root = root
        self._keys = keys
        self._node = node
        self._instance = instance
        self._policy = policy
        self._clock = clock
        self._metrics = metrics
        self._horizon_ms = horizon_ms
        self._refresh_keyset = refresh_keyset
        self._journal = journal
        self._is_journal_behind = False
        self._versions: Mapping[str, Sequence[int]] = {}
        self._read_at = clock()
        self._beat_at: int | None = None
        self._roots: Sequence[RootVersion] | None = None
        self._is_root_away = False
        self._is_keyset_away = False
        self._has_left = False
        self._speaking = asyncio.Lock()
        """So that a word that is under way does not come after the last one."""

    @property
    def problem(self) -> str | None:
        """Return why this node is not ready, in words; None: it is."""
        if self._clock() - self._read_at <= _NOT_READY_AFTER_MS:
            return None
        return "the key ring could not be read for 10 minutes; new people's turns wait in memory"

    async def run(self) -> None:
        """Keep up until cancelled."""
        while True:
            self._keys.news.clear()
            try:
                async with asyncio.timeout(_LONGEST_LOOK_SECONDS):
                    await self.look()
            except (ChatproxyError, UndecryptableError, TimeoutError) as error:
                _log.warning(
                    "the key ring cannot be read; this node goes on with what it has",
                    kind=type(error).__name__,
                )
            except Exception as error:  # noqa: BLE001 - the outer edge of this task: it must never end by itself
                _log.error("the key ring cannot be looked at; it is tried again", failure=error)
            self._keys.may_wrap = self._clock() - self._read_at <= _NO_WRAPS_AFTER_MS
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_BEHIND_SECONDS if self._is_journal_behind else _EVERY_SECONDS):
                    await self._keys.news.wait()

    async def hear(self) -> None:
        """Look at once when another node has changed the ring, until cancelled. What is not heard is polled."""
        while True:
            try:
                async with self._store.control_changes() as changes:
                    async for name in changes:
                        if name in _ABOUT_KEYS:
                            self._keys.news.set()
            except StoreUnavailableError:
                self._metrics.store_failures.labels("listen").inc()
            await asyncio.sleep(_PAUSE_SECONDS)

    async def look(self) -> None:
        """Read the ring if there is a newer one, and say where this node is.

        Raises KeysetError, UndecryptableError, StoreUnavailableError.
        """
        try:
            await self._refresh()
        finally:
            # A node that cannot open the ring must still be seen: the rotation waits for it.
            roots = await self._known_roots()
            self._lead_journal(roots)
            await self._learn_keyset()
            await self._beat(roots)
        self._measure(ring=self._keys.ring, roots=roots)

    async def _known_roots(self) -> Sequence[RootVersion]:
        """Return the root versions; those that were known where the provider does not tell (F-51)."""
        try:
            self._roots = await self._root.versions()
        except (KeysetError, StoreUnavailableError) as error:
            if self._roots is None:
                raise
            if not self._is_root_away:
                _log.warning(
                    "the root cannot be asked; this node goes on with what it has", problem=str(error)
                )
            self._is_root_away = True
        else:
            self._is_root_away = False
        return self._roots

    async def _learn_keyset(self) -> None:
        """Read the keyset again; where that fails, this node goes on with what it has."""
        try:
            self._versions = await self._refresh_keyset()
        except (KeysetError, StoreUnavailableError) as error:
            if self._versions and not self._is_keyset_away:
                _log.warning(
                    "the keyset cannot be read again; this node goes on with what it has", problem=str(error)
                )
            self._is_keyset_away = True
        else:
            self._is_keyset_away = False

    async def _refresh(self) -> None:
        data = await self._store.read_control(RING_NAME)
        ring = self._keys.ring
        if ring is None or data != ring.data:
            found = await read_ring(self._store, self._root)
            if found is None:
                raise KeysetError("the store has no key ring any more")
            if ring is not None and found.counter <= ring.counter and found.data != ring.data:
                raise KeysetError("the key ring in the store is older than the one in use")
            ring = found
            self._keys.use(ring)
        self._keys.looked()
        self._read_at = self._clock()

    def _measure(self, *, ring: Keyring | None, roots: Sequence[RootVersion]) -> None:
        if ring is None:
            return
        horizon = erasure_horizon(ring.manifest, roots, version_of=self._root.version_of)
        self._metrics.backups_reach.set((self._read_at - horizon.since) / 1000)
        self._metrics.rotation_overdue.set(horizon.is_overdue(self._read_at, within=self._horizon_ms))

    async def _beat(self, roots: Sequence[RootVersion]) -> None:
        async with self._speaking:
            if not self._has_left:
                await self._say(roots)

    async def _say(self, roots: Sequence[RootVersion]) -> None:
        if self._keys.ring is None and await self._store.read_control(RING_NAME) is None:
            # The first ring is made in a store that is empty: this must not be what fills it.
            return
        before = _read((await self._store.nodes()).get(self._node))
        is_contested = (
            before is not None
            and before.instance != self._instance
            and self._beat_at is not None
            and before.at >= self._beat_at
        )
        if is_contested:
            _log.error("another process has the same CHATPROXY_NODE; give each a name of its own")
        state = NodeState(
            at=self._clock(),
            ring=self._keys.oldest_in_use,
            roots={each.version: each.check for each in roots if each.status.opens},
            policy=self._policy,
            instance=self._instance,
            is_contested=is_contested,
            keyset={purpose: list(versions) for purpose, versions in self._versions.items()},
            is_journal_behind=self._is_journal_behind,
        )
        await self._store.beat(self._node, msgspec.json.encode(state))
        self._beat_at = state.at

    def _lead_journal(self, roots: Sequence[RootVersion]) -> None:
        """Have the journal move to the primary root version, and see whether it has."""
        primary = next((each.version for each in roots if each.status is KeyStatus.PRIMARY), None)
        if self._journal is not None and primary is not None:
            oldest = self._journal.follow_root(primary)
            self._is_journal_behind = oldest is not None and oldest < primary

    async def leave(self) -> None:
        """This node stops. With nothing left on it, it says so; else, or if there is no time for that, it counts as vanished."""
        self._has_left = True
        if self._journal is not None and not self._journal.leaves_nothing:
            return
        with contextlib.suppress(StoreUnavailableError, TimeoutError):
            async with asyncio.timeout(_LONGEST_LEAVE_SECONDS), self._speaking:
                await self._store.forget_node(self._node)
