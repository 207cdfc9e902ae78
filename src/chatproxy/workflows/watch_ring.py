"""A node keeps up with the key ring, and says how far it is: what a rotation waits for before it goes on (B9).

The ring is read every few seconds, and at once when a wrap names a version that is not known here. A node that cannot
read it keeps what it has: it goes on capturing with that.
"""

import asyncio
import contextlib
from dataclasses import dataclass

import msgspec

from chatproxy.clock import Clock
from chatproxy.crypto.keyring import RING_NAME
from chatproxy.errors import ChatproxyError, UndecryptableError
from chatproxy.ports import RootKey, TranscriptStore
from chatproxy.telemetry import Log
from chatproxy.workflows.keys import RecordKeys, open_ring

_log = Log("keys")
EVERY_SECONDS = 5.0
LIVE_MS = 30_000
"""A node that has said nothing for so long is not running, or cannot be reached."""


class NodeState(msgspec.Struct, frozen=True):
    """What a node says of itself. ``at`` in ms."""

    at: int
    ring: int
    """The counter of the ring that it works with; 0: none yet."""
    roots: tuple[int, ...]
    """The root versions that it can open with."""
    policy: str
    """The digest of the policy that it decides under."""


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


def _read(state: bytes) -> NodeState | None:
    try:
        return msgspec.json.decode(state, type=NodeState)
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
        policy: str,
        clock: Clock,
    ) -> None:
        """``policy``: the digest of the policy that this node decides under."""
        self._store = store
        self._root = root
        self._keys = keys
        self._node = node
        self._policy = policy
        self._clock = clock

    async def run(self) -> None:
        """Keep up until cancelled."""
        while True:
            try:
                await self.look()
            except (ChatproxyError, UndecryptableError) as error:
                _log.warning(
                    "the key ring cannot be read; this node goes on with what it has",
                    kind=type(error).__name__,
                )
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EVERY_SECONDS):
                    await self._keys.lacks.wait()
                    # A ring that is still behind after it was read is read again at the usual pace.
                    self._keys.lacks.clear()

    async def look(self) -> None:
        """Read the ring if there is a newer one, and say where this node is.

        Raises KeysetError, UndecryptableError, StoreUnavailableError.
        """
        data = await self._store.read_control(RING_NAME)
        ring = self._keys.ring
        if data is not None and (ring is None or data != ring.data):
            self._keys.use(await open_ring(data, self._root))
            ring = self._keys.ring
        state = NodeState(
            at=self._clock(),
            ring=ring.counter if ring else 0,
            roots=tuple(version.version for version in await self._root.versions() if version.status.opens),
            policy=self._policy,
        )
        await self._store.beat(self._node, msgspec.json.encode(state))

    async def leave(self) -> None:
        """This node stops, with nothing left on it. Raises StoreUnavailableError."""
        await self._store.forget_node(self._node)
