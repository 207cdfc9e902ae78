"""How does a key version come and go? Each change of the ring as a step from one manifest to the next (security B9).

PENDING -> PRIMARY -> DECRYPT -> RETIRED -> DESTROYED; RETIRED may go back to DECRYPT, and what was never promoted may be
destroyed at once. Each change counts the ring up by one. What breaks this order is refused.
"""

from collections.abc import Mapping

from msgspec.structs import replace

from chatproxy.crypto.keyring import RingKey, RingManifest
from chatproxy.crypto.keys import KeyStatus
from chatproxy.errors import KeysetError

_MOST_VERSIONS = 65_535


def next_version(ring: RingManifest) -> int:
    """Return the number of a new version: numbers are never given again. Raises KeysetError at the last one."""
    version = max(key.version for key in ring.keys) + 1
    if version > _MOST_VERSIONS:
        raise KeysetError("the key ring has had all the versions it can have; move to a new store")
    return version


def with_pending(ring: RingManifest, *, version: int, wrapped: bytes, at: int) -> RingManifest:
    """Add a version that every node can open with, and none wraps with yet. *at* in ms."""
    pending = [key.version for key in ring.keys if key.status is KeyStatus.PENDING]
    if pending:
        raise KeysetError(f"version {pending[0]} is PENDING already: promote or destroy it first")
    new = RingKey(version=version, status=KeyStatus.PENDING, created_at=at, wrapped=wrapped)
    return replace(ring, counter=ring.counter + 1, keys=(*ring.keys, new))


def with_primary(ring: RingManifest, *, version: int, at: int) -> RingManifest:
    """Make a PENDING version the one to wrap with; the one that was becomes DECRYPT."""
    _require(ring, version, KeyStatus.PENDING, to=KeyStatus.PRIMARY)
    return _changed(
        ring,
        {
            ring.primary.version: replace(ring.primary, status=KeyStatus.DECRYPT, changed_at=at),
            version: replace(ring.key(version), status=KeyStatus.PRIMARY, promoted_at=at, changed_at=at),
        },
    )


def with_retired(ring: RingManifest, *, version: int, at: int) -> RingManifest:
    """Refuse to open with a version from now on. It can be brought back."""
    _require(ring, version, KeyStatus.DECRYPT, to=KeyStatus.RETIRED)
    return _changed(ring, {version: replace(ring.key(version), status=KeyStatus.RETIRED, changed_at=at)})


def with_unretired(ring: RingManifest, *, version: int, at: int) -> RingManifest:
    """Open with a version again."""
    _require(ring, version, KeyStatus.RETIRED, to=KeyStatus.DECRYPT)
    return _changed(ring, {version: replace(ring.key(version), status=KeyStatus.DECRYPT, changed_at=at)})


def with_destroyed(ring: RingManifest, *, version: int, at: int) -> RingManifest:
    """Take a version's key away for good. Its row stays, so that its number is never given again."""
    key = ring.key(version)
    if key.status not in {KeyStatus.RETIRED, KeyStatus.PENDING}:
        raise KeysetError(
            f"version {version} is {key.status}, and only a RETIRED one can be destroyed, or one that was never "
            "promoted: `chatproxy keys retire` comes first"
        )
    return _changed(ring, {version: replace(key, status=KeyStatus.DESTROYED, wrapped=None, changed_at=at)})


def with_rewrapped(ring: RingManifest, *, wrapped_mac_key: bytes, wraps: Mapping[int, bytes]) -> RingManifest:
    """Put every secret of the ring under another root version. *wraps*: by version, all that has a key."""
    keys = tuple(
        key if key.wrapped is None else replace(key, wrapped=wraps[key.version]) for key in ring.keys
    )
    return replace(ring, counter=ring.counter + 1, wrapped_mac_key=wrapped_mac_key, keys=keys)


def erasure_horizon(ring: RingManifest) -> int | None:
    """Return the instant (ms) before which whatever was erased cannot be read from any backup; None: there is none.

    A backup holds wraps under the versions of its day. What was erased before the oldest version that still exists was
    promoted was never wrapped under that one, and what it was wrapped under is destroyed.
    """
    left = [key for key in ring.keys if key.status is not KeyStatus.DESTROYED]
    oldest = min(left, key=lambda key: key.version)
    return oldest.promoted_at


def _require(ring: RingManifest, version: int, status: KeyStatus, *, to: KeyStatus) -> None:
    found = ring.key(version).status
    if found is not status:
        raise KeysetError(f"version {version} is {found}: only a {status} one can become {to}")


def _changed(ring: RingManifest, keys: Mapping[int, RingKey]) -> RingManifest:
    return replace(
        ring,
        counter=ring.counter + 1,
        keys=tuple(keys.get(key.version, key) for key in ring.keys),
    )
