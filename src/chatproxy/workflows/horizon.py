"""The erasure horizon: from when on can nobody read what was erased, whichever backup he has (security B3)?

A backup holds the wraps and the ring of its day. What was erased before the oldest KEK that still exists was promoted
was never wrapped under that one; what it was wrapped under is destroyed, and so is every root version that a ring in
an old backup needs to open it: a KEK is never wrapped under a later root version than its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from chatproxy.crypto.keyring import RingManifest
from chatproxy.crypto.keys import KeyStatus
from chatproxy.ports import RootVersion


@dataclass(frozen=True, slots=True)
class Horizon:
    """What was erased before ``at`` cannot be read from any backup; None: there is no such instant yet. Both in ms."""

    at: int | None
    since: int
    """When the oldest key came that still opens something: how long ago that is, is how far backups reach."""

    def is_overdue(self, now: int, *, within: int) -> bool:
        """Whether what was erased *within* ms ago, and longer, may still be read from a backup."""
        return now - self.since > within


def erasure_horizon(
    ring: RingManifest, roots: Sequence[RootVersion], *, version_of: Callable[[bytes], int]
) -> Horizon:
    """Return how far back the keys that exist can read. ``version_of``: the root version that a wrap names.

    Raises UndecryptableError where the oldest wrap of the ring is not one.
    """
    oldest = min((key for key in ring.keys if key.wrapped is not None), key=lambda key: key.version)
    root = version_of(oldest.wrapped or b"")
    left = [each for each in roots if each.version < root and each.status is not KeyStatus.DESTROYED]
    if left:
        return Horizon(None, min(each.created_at for each in left))
    return Horizon(oldest.promoted_at, oldest.promoted_at or oldest.created_at)
