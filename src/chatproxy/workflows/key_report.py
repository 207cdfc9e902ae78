"""How are the keys? Every version with its age and what lies under it, what blocks a retirement, and the horizon."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from chatproxy.clock import Clock
from chatproxy.crypto.keys import KeyStatus
from chatproxy.crypto.keyset import Keyset, RenewedPurpose
from chatproxy.policy.periods import DAY_MS
from chatproxy.ports import RootKey, RootVersion, TranscriptStore
from chatproxy.workflows.horizon import Horizon, erasure_horizon
from chatproxy.workflows.rotate import Rotation, RotationState, WrapCount
from chatproxy.workflows.watch_ring import Node, list_nodes

_YEAR_MS = 365 * DAY_MS
"""How long an annotation or signing key is used (SP 800-57: originator period of one to two years)."""


@dataclass(frozen=True, slots=True)
class KeyRow:
    """One version of one key. Instants in ms."""

    purpose: str
    version: int | None
    status: KeyStatus
    created_at: int
    since: int
    """When it came to its status, as far as that is known."""
    ends_at: int | None = None
    """By when it should be replaced, where it is PRIMARY and has a lifetime."""
    wraps: int | None = None


@dataclass(frozen=True, slots=True)
class KeyReport:
    """The keys of a deployment at a glance."""

    rows: tuple[KeyRow, ...]
    unreadable_wraps: int
    """Rows of the store that should be a wrapped key and are none."""
    state: RotationState | None
    blockers: tuple[str, ...]
    nodes: tuple[Node, ...]
    warnings: tuple[str, ...]
    horizon: Horizon
    is_overdue: bool
    rotate_by: int
    """When the next rotation must have begun for the horizon to hold, ms."""


def keyset_rows(keyset: Keyset) -> Iterator[KeyRow]:
    """Give one row a version of the keyset but the root's. Pseudonyms have no versions: their key is for ever."""
    for purpose, entries in keyset.versioned().items():
        if purpose == "root":
            continue
        for entry in entries:
            ends_at = entry.created_at + _YEAR_MS if entry.status is KeyStatus.PRIMARY else None
            yield KeyRow(purpose, entry.version, entry.status, entry.created_at, entry.created_at, ends_at)
    made = keyset.pseudonyms.created_at
    yield KeyRow("pseudonyms", None, KeyStatus.PRIMARY, made, made)


def root_rows(versions: Sequence[RootVersion]) -> Iterator[KeyRow]:
    """Give one row a version of the root."""
    for each in versions:
        yield KeyRow("root", each.version, each.status, each.created_at, each.created_at)


async def report_keys(
    store: TranscriptStore,
    root: RootKey,
    keyset: Keyset,
    rotation: Rotation,
    *,
    clock: Clock,
    horizon_ms: int,
    waiting_ms: int,
) -> KeyReport:
    """Look at everything. Walks every person's keys.

    ``horizon_ms``: the erasure horizon; ``waiting_ms``: soak and grace of a rotation. Raises KeysetError,
    UndecryptableError, StoreUnavailableError.
    """
    ring = (await rotation.ring()).manifest
    versions = await root.versions()
    counts = await rotation.count_wraps()
    horizon = erasure_horizon(ring, versions, version_of=root.version_of)
    # The next rotation takes away what came with the present primary version.
    primary_since = ring.primary.promoted_at or ring.primary.created_at
    rotate_by = primary_since + horizon_ms - waiting_ms
    keks = [
        KeyRow(
            "kek",
            key.version,
            key.status,
            key.created_at,
            key.changed_at or key.created_at,
            rotate_by if key.status is KeyStatus.PRIMARY else None,
            counts.get(key.version, WrapCount()).total,
        )
        for key in ring.keys
    ]
    known = {key.version for key in ring.keys}
    nodes = await list_nodes(store)
    now = clock()
    rows = (*keks, *root_rows(versions), *keyset_rows(keyset))
    return KeyReport(
        rows=rows,
        unreadable_wraps=sum(count.total for version, count in counts.items() if version not in known),
        state=await rotation.state(),
        blockers=tuple(await rotation.blockers()),
        nodes=tuple(nodes),
        warnings=tuple(_warnings(rows, nodes, versions, now=now)),
        horizon=horizon,
        is_overdue=horizon.is_overdue(now, within=horizon_ms),
        rotate_by=rotate_by,
    )


def _warnings(
    rows: Sequence[KeyRow], nodes: Sequence[Node], versions: Sequence[RootVersion], *, now: int
) -> Iterator[str]:
    destroyed = {each.version for each in versions if each.status is KeyStatus.DESTROYED}
    for row in rows:
        if row.status is not KeyStatus.PENDING or row.purpose not in set(RenewedPurpose):
            continue
        yield f"version {row.version} of the {row.purpose} key is not in use yet: run `chatproxy keys renew {row.purpose}`"
    for node in nodes:
        still = sorted(destroyed & set(node.state.roots if node.state is not None else ()))
        if still:
            yield (
                f"node {node.name} can still open with root version {still[0]}, which is destroyed: give it the keyset "
                "as it is now, or the horizon does not hold"
            )
    for row in rows:
        if row.purpose != "kek" and row.ends_at is not None and now > row.ends_at:
            what = "keys rotate" if row.purpose == "root" else f"keys renew {row.purpose}"
            yield f"the {row.purpose} key is older than a year: run `chatproxy {what}`"
