"""How does a key version come and go? Each change of the ring as a step from one manifest to the next (security B9).

PENDING -> PRIMARY -> DECRYPT -> RETIRED -> DESTROYED; RETIRED may go back to DECRYPT, and what was never promoted may be
destroyed at once. Each change counts the ring up by one. What breaks this order is refused.
"""

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from chatproxy.crypto.keyring import RingKey, RingManifest
from chatproxy.crypto.keys import KeyStatus
from chatproxy.crypto.record import MAX_SERIES
from chatproxy.errors import KeysetError

_MOST_VERSIONS = 65_535


def next_version(ring: RingManifest) -> int:
    """Return the number of a new version: numbers are never given again. Raises KeysetError at the last one."""
    version = max(key.version for key in ring.keys) + 1
    if version > _MOST_VERSIONS:
        raise KeysetError("the key ring has had all the versions it can have; move to a new store")
    return version


def with_pending(
    ring: RingManifest, *, version: int, wrapped: bytes, wrapped_mac_key: bytes, at: int
) -> RingManifest:
    """Add a version that every node can open with, and none wraps with yet. *at* in ms.

    The ring gets a key of its own with it: whoever knows the one before cannot write this ring.
    """
    pending = pending_version(ring)
    if pending is not None:
        raise KeysetError(f"version {pending.version} is PENDING already: promote or destroy it first")
    new = RingKey(version=version, status=KeyStatus.PENDING, created_at=at, wrapped=wrapped)
    return replace(ring, counter=ring.counter + 1, wrapped_mac_key=wrapped_mac_key, keys=(*ring.keys, new))


def pending_version(ring: RingManifest) -> RingKey | None:
    """Return the version that is being handed out, if there is one."""
    return next((key for key in ring.keys if key.status is KeyStatus.PENDING), None)


def older_versions(ring: RingManifest, *statuses: KeyStatus) -> list[int]:
    """Return the versions before the primary one that have one of *statuses*."""
    return [key.version for key in ring.keys if key.version < ring.primary.version and key.status in statuses]


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


def with_epoch_series(ring: RingManifest, *, series: int) -> RingManifest:
    """Seal what is new under another key of each day. Raises KeysetError beyond the last series."""
    if series > MAX_SERIES:
        raise KeysetError("the keys of days have had all the series they can have; move to a new store")
    return replace(ring, counter=ring.counter + 1, epoch_series=series)


def require_settled(ring: RingManifest) -> None:
    """Raise KeysetError while a version comes or goes."""
    if any(key.status not in {KeyStatus.PRIMARY, KeyStatus.DESTROYED} for key in ring.keys):
        raise KeysetError(
            "a rotation is not over: go on with `chatproxy keys rotate`, or give it up, before you move"
        )


def with_rewrapped(ring: RingManifest, wraps: Sequence[bytes]) -> RingManifest:
    """Put every secret of a settled ring under another root; *wraps* in the order of ``wrapped_secrets``."""
    wrapped_mac_key, wrapped = wraps
    return replace(
        ring,
        counter=ring.counter + 1,
        wrapped_mac_key=wrapped_mac_key,
        keys=tuple(
            replace(key, wrapped=wrapped) if key.status is KeyStatus.PRIMARY else key for key in ring.keys
        ),
    )


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
