"""Rotation without a person: one node of several takes the steps as they fall due (security B9).

The node that holds the lease works; when it stops, another takes over. The lease saves work and is not what makes it
safe: every step is a compare-and-set, so two nodes at once do no harm.
"""

import asyncio

import msgspec

from chatproxy.clock import Clock
from chatproxy.errors import ChatproxyError, UndecryptableError
from chatproxy.ports import TranscriptStore
from chatproxy.telemetry import Log
from chatproxy.workflows.rotate import NotYetError, Rotation

_log = Log("rotation")
LEASE_NAME = "rotation_lease"
"""The control value that says which node rotates."""
_LEASE_MS = 60_000
_EVERY_SECONDS = 15.0


class _Lease(msgspec.Struct, frozen=True):
    node: str
    until: int
    """In ms."""


class ScheduledRotation:
    """Rotates the keys every so often, from within the running proxy."""

    def __init__(
        self, store: TranscriptStore, rotation: Rotation, *, node: str, period_ms: int, clock: Clock
    ) -> None:
        """``period_ms``: how long a version is the primary one."""
        self._store = store
        self._rotation = rotation
        self._node = node
        self._period_ms = period_ms
        self._clock = clock
        self._waits_for = ""

    async def run(self) -> None:
        """Take each step as it falls due, until cancelled."""
        while True:
            try:
                while await self.take_step():
                    pass
            except NotYetError as waiting:
                if str(waiting) != self._waits_for:
                    self._waits_for = str(waiting)
                    _log.info("the rotation waits", why=self._waits_for)
            except (ChatproxyError, UndecryptableError) as error:
                _log.error("the rotation does not go on; it is tried again", failure=error)
            except Exception as error:  # noqa: BLE001 - the outer edge of this task: it must never end by itself
                _log.error("the rotation does not go on; it is tried again", failure=error)
            await asyncio.sleep(_EVERY_SECONDS)

    async def take_step(self) -> bool:
        """Take one step if one is due, and if this node is the one to do it; return whether it was taken.

        Raises NotYetError, KeysetError, UndecryptableError, StoreUnavailableError, AuditUnavailableError.
        """
        state = await self._rotation.state()
        if state is None or state.is_over:
            primary = (await self._rotation.ring()).manifest.primary
            if self._clock() - (primary.promoted_at or primary.created_at) < self._period_ms:
                return False
        if not await self._take_lease():
            return False
        done = await self._rotation.advance()
        _log.info("the rotation has taken a step", step=done.step)
        return True

    async def _take_lease(self) -> bool:
        now = self._clock()
        data = await self._store.read_control(LEASE_NAME)
        held = _read(data)
        if held is not None and held.node != self._node and 0 <= held.until - now <= _LEASE_MS:
            return False
        lease = msgspec.json.encode(_Lease(self._node, now + _LEASE_MS))
        return await self._store.swap_control(LEASE_NAME, data, lease)


def _read(data: bytes | None) -> _Lease | None:
    try:
        return msgspec.json.decode(data or b"", type=_Lease)
    except msgspec.DecodeError:
        return None
