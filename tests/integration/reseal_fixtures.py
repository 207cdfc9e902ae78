"""Keys that are replaced after a leak, by runs that break off; what a thief has; and what must hold. Builders, not fixtures."""

import asyncio
from dataclasses import dataclass

from chatproxy.crypto.keyring import RING_NAME, RING_PURPOSE, Keyring, parse_manifest
from chatproxy.crypto.keys import DataKey
from chatproxy.crypto.record import open_record, parse_header
from chatproxy.errors import UndecryptableError
from chatproxy.model import SubjectTag, TurnId
from chatproxy.store.reaping import RedisReaper
from chatproxy.vault import Vault
from chatproxy.workflows.replace_keys import Pace, Replacement, ReplacementState, Scope, Stage
from chatproxy.workflows.roll import Roller
from chatproxy.workflows.rotate import NotYetError
from chatproxy.workflows.transcripts import KeptTurn
from integration.proxy_fixtures import PATIENCE
from integration.rotation_fixtures import Watched, Writes

KEY_WRITES = ("renew_key", "reseal", "retire_keys")


def a_replacement(
    vault: Vault,
    writes: Writes | None = None,
    *,
    soak_ms: int = 0,
    by: str = "test",
    pace: Pace | None = None,
) -> Replacement:
    """A replacement of the keys of *vault*, whose writes are told to *writes*."""
    writes = writes or Writes()
    store = Watched(vault.store, writes, ("swap_control",))
    erasure = Watched(vault.erasure, writes, KEY_WRITES)
    reaping = RedisReaper(vault.store.connections, vault.erasure)
    return Replacement(
        store,
        Watched(reaping, writes, ("destroy_epochs",)),
        vault.root,
        vault.record_keys,
        Roller(store, erasure, vault.record_keys, vault.annotation_keys, clock=vault.clock),
        audit=vault.audit,
        clock=vault.clock,
        by=by,
        soak_ms=soak_ms,
        pace=pace or Pace(),
    )


async def replace_all(
    work: Replacement, scope: str = "all", *, to: Stage = Stage.DESTROYED
) -> ReplacementState:
    """Begin, or go on, until *to*, waiting for the nodes."""
    async with asyncio.timeout(2 * PATIENCE):
        state = await work.begin(Scope.parse(scope))
        while state.step is not to:
            try:
                state = await work.advance()
            except NotYetError:
                await asyncio.sleep(0.01)
        return state


@dataclass
class Loot:
    """What a thief has: the root's secrets of the ring, and every wrapped key, as they were."""

    subject_keys: list[DataKey]
    epoch_keys: list[DataKey]


async def steal(vault: Vault) -> Loot:
    """Take every key of a person and a day that there is."""
    data = await vault.store.read_control(RING_NAME)
    assert data is not None
    ring = Keyring(data, await vault.root.unwrap(RING_PURPOSE, parse_manifest(data).wrapped_secrets()))
    loot = Loot([], [])
    async for subject in vault.store.subjects():
        [wraps] = await vault.store.subject_wraps([subject])
        loot.subject_keys += [
            ring.unwrap_subject_key(wrap, subject=subject, generation=generation)
            for generation, wrap in (wraps or {}).items()
        ]
    loot.epoch_keys += [
        ring.unwrap_epoch_key(wrap, epoch=epoch)
        for epoch, wrap in (await vault.store.all_epoch_wraps()).items()
    ]
    return loot


async def opens_with(vault: Vault, loot: Loot) -> int:
    """Return how many of the records that the store has now a thief can open."""
    found = 0
    async for row in vault.transcripts.walk():
        assert isinstance(row, KeptTurn)
        for number, blob in enumerate(await vault.store.records(row.subject, row.turn, [0, 1, 2])):
            if blob is not None:
                found += _opens(blob, loot, row.subject, row.facts.record_metadata(number))
    return found


def _opens(blob: bytes, loot: Loot, subject: SubjectTag, metadata: bytes) -> bool:
    for subject_key in loot.subject_keys:
        for epoch_key in loot.epoch_keys:
            try:
                open_record(
                    blob, subject_key=subject_key, epoch_key=epoch_key, subject=subject, metadata=metadata
                )
            except UndecryptableError:
                continue
            return True
    return False


async def lies_under(vault: Vault) -> dict[tuple[SubjectTag, TurnId], set[tuple[int, int]]]:
    """Return the generation and the series of day keys that the records of each turn are under."""
    found: dict[tuple[SubjectTag, TurnId], set[tuple[int, int]]] = {}
    async for row in vault.store.annotations():
        found[row.subject, row.turn] = {
            (parse_header(blob).generation, parse_header(blob).series)
            for blob in await vault.store.records(row.subject, row.turn, [0, 1, 2])
            if blob is not None
        }
    return found
