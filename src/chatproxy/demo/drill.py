"""Drills: what an operator does when it counts, on a scratch store of its own, through the real code; with evidence.

A drill makes a keyset and an embedded store in a temporary directory, keeps some turns, does the thing, and looks whether what
must hold does. Nothing of the deployment is touched or read.
"""

import asyncio
import contextlib
import secrets
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from types import MappingProxyType

from chatproxy.audit.log import LOG_NAME
from chatproxy.audit.verify import verify_log
from chatproxy.crypto.keyring import RING_NAME, RING_PURPOSE, parse_manifest
from chatproxy.crypto.keys import DataKey
from chatproxy.crypto.record import open_record
from chatproxy.demo.old_backup import read_old_backup
from chatproxy.demo.tour import demonstration, let_people_chat
from chatproxy.errors import AccessRefusedError, NotFoundError, StoreRefusedError, UndecryptableError
from chatproxy.kms.file import FileRoot, KeysetFile
from chatproxy.model import ConversationTag, SubjectTag
from chatproxy.settings import Address, Settings
from chatproxy.store.backup import declare_up_to_date, lay_down, take_backup
from chatproxy.store.reaping import RedisReaper
from chatproxy.vault import Vault, audit_directory, bring_up_to_date, open_vault
from chatproxy.wiring import RunningProxy
from chatproxy.workflows.annotation_log import read_last_changes
from chatproxy.workflows.happenings import Actor
from chatproxy.workflows.horizon import erasure_horizon
from chatproxy.workflows.keys import open_ring
from chatproxy.workflows.replace_keys import Pace, Replacement, Scope, Stage
from chatproxy.workflows.rotate import NotYetError, Rotation, Step
from chatproxy.workflows.tombstones import read_tombstones
from chatproxy.workflows.transcripts import KeptTurn

_PATIENCE_SECONDS = 60.0
_PAUSE_SECONDS = 0.05
_A_LIFE_MS = 100 * 365 * 86_400_000
_ANYWHERE = Address("127.0.0.1", 0)


@dataclass(slots=True)
class Evidence:
    """What a drill has seen: each claim, and whether it held."""

    claims: list[tuple[str, bool]] = field(default_factory=list)
    say: Callable[[str, bool], None] = lambda _claim, _held: None

    def claim(self, what: str, *, held: bool) -> None:
        """Note one more."""
        self.claims.append((what, held))
        self.say(what, held)

    @property
    def all_held(self) -> bool:
        """Whether the drill has passed."""
        return bool(self.claims) and all(held for _, held in self.claims)


def _running(directory: Path) -> AbstractAsyncContextManager[RunningProxy]:
    """Run a proxy on a store of its own."""
    return demonstration(
        directory, listen=_ANYWHERE, admin_listen=_ANYWHERE, admin_token=secrets.token_urlsafe()
    )


@asynccontextmanager
async def _scratch(directory: Path) -> AsyncIterator[RunningProxy]:
    """Run it with a few conversations kept."""
    async with _running(directory) as running:
        await let_people_chat(running)
        yield running


async def drill_rotate(directory: Path, evidence: Evidence) -> None:
    """Rotate root and key-encryption key, and see that everything opens and the old keys open nothing."""
    async with _scratch(directory) as running:
        vault = running.vault
        before = await _opened(vault)
        evidence.claim(f"{before} turns are kept and open", held=before > 0)
        old_ring = await vault.store.read_control(RING_NAME) or b""
        await _rotate(vault, evidence)
        after = await _opened(vault)
        evidence.claim(f"{after} turns open after the rotation", held=after == before)
        opened, faulty = await _rotation(vault).verify()
        evidence.claim(f"{opened} wrapped keys open, {faulty} do not", held=faulty == 0)
        await _see_that_it_is_gone(vault, old_ring, evidence)


async def drill_compromise(directory: Path, evidence: Evidence) -> None:
    """Take a copy of the keyset and of all keys in the store, as a thief would; rotate, and seal everything anew.

    Then see what the copy is still good for.
    """
    async with _scratch(directory) as running:
        vault = running.vault
        stolen = directory / "stolen"
        shutil.copy2(Path(vault.settings.keyset.removeprefix("file:")), stolen)
        old_ring = await vault.store.read_control(RING_NAME) or b""
        before = await _opened(vault)
        loot = await _stolen_keys(vault)
        evidence.claim("a thief has a copy of the keyset and of the ring", held=stolen.stat().st_size > 0)
        await _rotate(vault, evidence)
        with_loot = await _opened_with(vault, loot)
        evidence.claim(
            f"after the rotation alone, the thief's keys of people and days open {with_loot} records",
            held=with_loot > 0,
        )
        await _reseal(vault, evidence)
        evidence.claim("sealed anew, they open none of them", held=await _opened_with(vault, loot) == 0)
        evidence.claim("everything opens with the new keys", held=await _opened(vault) == before)
        await _see_that_it_is_gone(vault, old_ring, evidence)
        new_ring = await vault.store.read_control(RING_NAME) or b""
        evidence.claim(
            "the ring of now does not open with the stolen keyset",
            held=not await _opens(new_ring, vault, stolen),
        )


async def drill_erase(directory: Path, evidence: Evidence) -> None:
    """Erase a person, and try what a backup from before has of them: at once, and after the next rotation."""
    async with _scratch(directory) as running:
        vault = running.vault
        kept = [row async for row in vault.transcripts.walk() if isinstance(row, KeptTurn)]
        person = kept[0].subject
        others = await _opened(vault, without=person)
        backup = await vault.store.subject_state(person)
        old_ring = await vault.store.read_control(RING_NAME) or b""
        evidence.claim(
            "a backup has a person's wrapped keys and the ring", held=bool(backup.wraps and old_ring)
        )
        erasure = await vault.eraser.erase(person, by="drill")
        left = [row async for row in vault.transcripts.walk(subject=person)]
        evidence.claim("the person is erased, and nothing of them is listed", held=bool(erasure) and not left)
        evidence.claim(
            f"{others} turns of the others open", held=others > 0 and await _opened(vault) == others
        )
        evidence.claim(
            "until the next rotation the backup's copy of their keys still opens",
            held=await _unwraps(vault, person, backup.wraps),
        )
        await _rotate(vault, evidence)
        evidence.claim(
            "after it no key of now opens that copy", held=not await _unwraps(vault, person, backup.wraps)
        )
        await _see_that_it_is_gone(vault, old_ring, evidence)
        evidence.claim(f"{others} turns of the others open after it", held=await _opened(vault) == others)


async def drill_restore(directory: Path, evidence: Evidence) -> None:
    """Lose the store and restore its backup: what was kept opens again, and what has gone since stays gone."""
    backup, lost = directory / "backup", directory / "lost"
    async with _scratch(directory) as running:
        vault = running.vault
        settings = vault.settings
        store = Path(settings.data_dir) / "store"
        copied = await take_backup(vault.store.connections, store, backup, now=vault.clock())
        evidence.claim(
            f"a backup was taken beside the running proxy: {len(copied.files)} files", held=bool(copied.files)
        )
        rows = [row async for row in vault.transcripts.walk() if isinstance(row, KeptTurn)]
        erased = rows[0].subject
        deleted = next(row for row in rows if row.subject != erased)
        await vault.eraser.erase(erased, by="drill")
        await vault.happenings.delete_conversation(
            deleted.subject, deleted.facts.conversation_tag, actor=Actor(by="drill", method="drill")
        )
        kept = await _opened(vault, without=deleted.subject)
        evidence.claim("since then a person was erased, and a conversation deleted", held=kept > 0)
    store.rename(lost)
    lay_down(backup, store)
    evidence.claim(
        "nothing opens the restored store before all that is done again", held=await _is_shut(settings)
    )
    logs = [audit_directory(settings) / LOG_NAME]
    done = await bring_up_to_date(settings, logs, since=copied.taken_at, by="drill")
    declare_up_to_date(store)
    evidence.claim(
        f"from the audit log: {done.erased} erased again, {done.events} written again",
        held=(done.erased, done.events) == (1, 1),
    )
    async with _running(directory) as running:
        vault = running.vault
        await _see_what_was_restored(vault, erased=erased, deleted=deleted, kept=kept, evidence=evidence)
        await vault.roller.roll(deleted.subject)
        await _rotate(vault, evidence)
        old = await read_old_backup(backup, vault, scratch=directory / "old")
        others = {place for place in old.conversations if place[0] not in {erased, deleted.subject}}
        evidence.claim(
            f"of {len(old.conversations)} conversations in the old backup the keys of now open {len(old.readable)}, and "
            "nothing of these two people",
            held=old.readable == others and len(others) > 0,
        )


async def _is_shut(settings: Settings) -> bool:
    try:
        async with open_vault(settings):
            return False
    except StoreRefusedError:
        return True


async def _see_what_was_restored(
    vault: Vault, *, erased: SubjectTag, deleted: KeptTurn, kept: int, evidence: Evidence
) -> None:
    opened = await _opened(vault, without=deleted.subject)
    evidence.claim(f"all {kept} other turns open again", held=opened == kept)
    state = await vault.store.subject_state(erased)
    left = [row async for row in vault.store.annotations(erased)]
    evidence.claim(
        "of the person who was erased nothing is there, and no key", held=not (left or state.wraps)
    )
    try:
        shown = await vault.transcripts.show(
            deleted.subject, deleted.facts.conversation_tag, purpose="service"
        )
    except (NotFoundError, AccessRefusedError):
        shown = []
    evidence.claim("the conversation that was deleted is not read", held=not shown)
    later = replace(vault, clock=lambda: vault.clock() + _A_LIFE_MS)
    over = [row async for row in later.transcripts.walk()]
    evidence.claim("what is over is not read, whatever the store holds of it", held=not over)
    logs = [audit_directory(vault.settings) / LOG_NAME]
    stones, changes = read_tombstones(logs, since=0), read_last_changes(logs)
    verifier = vault.kept_verifier
    faults = [fault async for fault in verifier.faults(stones, changes, opens=True)]
    evidence.claim(f"each of {verifier.looked.records} records is as it was kept", held=not faults)
    log = verify_log(audit_directory(vault.settings), keys=vault.audit_keys)
    evidence.claim(f"the audit log is whole: {log.entries} entries", held=log.fault is None)


async def _unwraps(vault: Vault, subject: SubjectTag, wraps: Mapping[int, bytes]) -> bool:
    """Whether any of a person's wrapped keys opens under the ring of now."""
    ring = await _rotation(vault).ring()
    for generation, wrapped in wraps.items():
        with contextlib.suppress(UndecryptableError):
            ring.unwrap_subject_key(wrapped, subject=subject, generation=generation)
            return True
    return False


async def _see_that_it_is_gone(vault: Vault, old_ring: bytes, evidence: Evidence) -> None:
    old_kek = parse_manifest(old_ring).primary
    try:
        await vault.root.unwrap(RING_PURPOSE, [(old_kek.ident, old_kek.wrapped or b"")])
        is_gone = False
    except UndecryptableError as error:
        is_gone = error.reason == "destroyed_root_version"
    evidence.claim(
        "the old key-encryption key, from a backup of the ring, opens with no root of now", held=is_gone
    )
    ring = (await _rotation(vault).ring()).manifest
    horizon = erasure_horizon(ring, await vault.root.versions(), version_of=vault.root.version_of)
    evidence.claim(
        "the erasure horizon is the promotion of the new version", held=horizon.at == ring.primary.promoted_at
    )


async def _opened(vault: Vault, *, without: SubjectTag | None = None) -> int:
    """Return how many of the turns that are kept open, those of one person left out."""
    conversations: set[tuple[SubjectTag, ConversationTag]] = set()
    async for row in vault.transcripts.walk():
        if isinstance(row, KeptTurn) and row.subject != without:
            conversations.add((row.subject, row.facts.conversation_tag))
    opened = 0
    for subject, conversation in conversations:
        opened += len(await vault.transcripts.show(subject, conversation, purpose="service"))
    return opened


def _rotation(vault: Vault) -> Rotation:
    """Return a rotation that waits for nodes and not for time."""
    return Rotation(
        vault.store,
        vault.root,
        audit=vault.audit,
        clock=vault.clock,
        by="drill",
        soak_ms=0,
        grace_ms=0,
        follow_root=vault.follow_root,
    )


async def _rotate(vault: Vault, evidence: Evidence) -> None:
    rotation = _rotation(vault)
    step = None
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while step is not Step.DESTROYED:
            try:
                step = (await rotation.advance()).step
            except NotYetError:
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                evidence.claim(f"step: {step}", held=step is not Step.ABORTED)


async def _reseal(vault: Vault, evidence: Evidence) -> None:
    reaping = RedisReaper(vault.store.connections, vault.erasure)
    work = Replacement(
        vault.store,
        reaping,
        vault.root,
        vault.record_keys,
        vault.roller,
        audit=vault.audit,
        clock=vault.clock,
        by="drill",
        soak_ms=0,
        pace=Pace(),
    )
    state = await work.begin(Scope.parse("all"))
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while not state.is_over:
            try:
                state = await work.advance()
            except NotYetError:
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                evidence.claim(f"step: {state.step}", held=state.step is not Stage.ABORTED)


@dataclass(frozen=True, slots=True)
class _Loot:
    """The keys of people and days as they were once."""

    of_people: Mapping[SubjectTag, Sequence[DataKey]]
    of_days: Sequence[DataKey]


async def _stolen_keys(vault: Vault) -> _Loot:
    people: dict[SubjectTag, list[DataKey]] = {}
    async for subject in vault.store.subjects():
        state = await vault.store.subject_state(subject)
        people[subject] = [
            vault.record_keys.unwrap_subject_key(subject, state, generation) for generation in state.wraps
        ]
    epochs = list(await vault.store.all_epoch_wraps())
    return _Loot(people, list((await vault.record_keys.existing_epoch_keys(epochs)).values()))


async def _opened_with(vault: Vault, loot: _Loot) -> int:
    """Return how many of the records that are there now open with stolen keys."""
    opened = 0
    async for row in vault.transcripts.walk():
        if not isinstance(row, KeptTurn):
            continue
        numbers = [group.n for group in row.note.groups]
        blobs = await vault.store.records(row.subject, row.turn, numbers)
        for number, blob in zip(numbers, blobs, strict=True):
            for of_person, of_day in product(loot.of_people.get(row.subject, ()), loot.of_days):
                with contextlib.suppress(UndecryptableError):
                    open_record(
                        blob or b"",
                        subject_key=of_person,
                        epoch_key=of_day,
                        subject=row.subject,
                        metadata=row.facts.record_metadata(number),
                    )
                    opened += 1
    return opened


async def _opens(ring: bytes, vault: Vault, keyset: Path) -> bool:
    file = KeysetFile(keyset, data_dir=Path(vault.settings.data_dir))
    try:
        await open_ring(ring, FileRoot(file))
    except UndecryptableError:
        return False
    return True


DRILLS: Mapping[str, Callable[[Path, Evidence], Awaitable[None]]] = MappingProxyType(
    {"rotate": drill_rotate, "erase": drill_erase, "restore": drill_restore, "compromise": drill_compromise}
)
