"""What can be read in an old backup of the store, by who has it and every key of now?

He has the wrapped keys that lie in the backup and those that lie in the store of now, the key ring of each, and the keyset of
now. So everything is tried that any of these may open: a ring of the backup that the root opens no more is not there.
"""

import itertools
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from chatproxy.crypto.annotation import verify
from chatproxy.crypto.keyring import RING_NAME
from chatproxy.crypto.keys import DataKey
from chatproxy.crypto.record import open_record, parse_header
from chatproxy.errors import UndecryptableError
from chatproxy.model import ConversationTag, SubjectTag
from chatproxy.store.address import StoreAddress
from chatproxy.store.backup import lay_down
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.store.redis import RedisStore
from chatproxy.vault import Vault
from chatproxy.workflows.annotate import read
from chatproxy.workflows.keys import RecordKeys, open_ring

_DEADLINE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class OldBackup:
    """What was tried."""

    conversations: frozenset[tuple[SubjectTag, ConversationTag]]
    """Every one that is in the backup."""
    readable: frozenset[tuple[SubjectTag, ConversationTag]]
    """Those of which any record opens."""


async def read_old_backup(backup: Path, now: Vault, *, scratch: Path) -> OldBackup:
    """Try every record of a *backup*, which is not changed, in the directory *scratch*, which is made and removed.

    Raises ConfigurationError, StoreUnavailableError.
    """
    async with _laid_down(backup, scratch) as old:
        conversations, readable = set(), set()
        sources = [(now.record_keys, now.store), *[(keys, old) for keys in await _of_backup(old, now)]]
        async for row in old.annotations():
            facts, note = read(
                verify(row.annotation, keys=now.annotation_keys, subject=row.subject, turn=row.turn)
            )
            conversations.add((row.subject, facts.conversation_tag))
            numbers = [group.n for group in note.groups]
            blobs = await old.records(row.subject, row.turn, numbers)
            for number, blob in zip(numbers, blobs, strict=True):
                if blob is not None and await _opens(
                    blob, row.subject, facts.record_metadata(number), sources
                ):
                    readable.add((row.subject, facts.conversation_tag))
    return OldBackup(frozenset(conversations), frozenset(readable))


@asynccontextmanager
async def _laid_down(backup: Path, scratch: Path) -> AsyncIterator[RedisStore]:
    lay_down(backup, scratch)
    try:
        async with EmbeddedServer(scratch, ballast_bytes=0) as server:
            store = RedisStore(Connections(StoreAddress.parse(server.url), deadline=_DEADLINE_SECONDS))
            try:
                yield store
            finally:
                await store.aclose()
    finally:
        shutil.rmtree(scratch)


async def _of_backup(old: RedisStore, now: Vault) -> list[RecordKeys]:
    """Return what opens the wraps of a backup: the ring of now, and its own if the root of now opens that."""
    found = [RecordKeys(old, now.record_keys.ring)]
    with suppress(UndecryptableError):
        found.append(RecordKeys(old, await open_ring(await old.read_control(RING_NAME) or b"", now.root)))
    return found


async def _opens(
    blob: bytes, subject: SubjectTag, metadata: bytes, sources: Sequence[tuple[RecordKeys, RedisStore]]
) -> bool:
    header = parse_header(blob)
    of_person: list[DataKey] = []
    of_day: list[DataKey] = []
    for keys, store in sources:
        state = await store.subject_state(subject)
        with suppress(UndecryptableError):
            of_person.append(keys.unwrap_subject_key(subject, state, header.generation))
        with suppress(UndecryptableError):
            of_day.append(await keys.existing_epoch_key(header.epoch))
    for subject_key, epoch_key in itertools.product(of_person, of_day):
        with suppress(UndecryptableError):
            open_record(
                blob, subject_key=subject_key, epoch_key=epoch_key, subject=subject, metadata=metadata
            )
            return True
    return False
