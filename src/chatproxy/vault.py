"""What is stored, opened: the store, the keys to it and the policy, as every command and the proxy work with them."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin

from chatproxy.audit.late import LateAudit
from chatproxy.audit.log import LOG_NAME, FileAuditLog, operating_user
from chatproxy.clock import Clock, wall_clock
from chatproxy.consent.controller import (
    Controller,
    load_controller,
    periods_by_ground,
    record_terms,
)
from chatproxy.consent.events import DATA_SUBJECT
from chatproxy.consent.notices import NO_TERMS, Terms, load_terms
from chatproxy.crypto.annotation import AnnotationKeys
from chatproxy.crypto.keys import SigningSeed
from chatproxy.crypto.keyset import Keyset, RenewedPurpose
from chatproxy.crypto.pseudonyms import Pseudonymizer
from chatproxy.crypto.tlog import NoteSigner, read_checkpoint
from chatproxy.datasets.redaction import Redactor
from chatproxy.errors import (
    ConfigurationError,
    KeysetError,
    RootRefusedError,
    RootUnavailableError,
    StoreUnavailableError,
)
from chatproxy.kms.file import PlacedKeyset
from chatproxy.kms.opening import keyset_source
from chatproxy.kms.sealed import StoredKeyset
from chatproxy.model import SubjectTag
from chatproxy.ports import Journal, KeysetSource, RootKey
from chatproxy.settings import DEFAULT_NOTICES, Settings, read_variable, shown
from chatproxy.store.backup import require_up_to_date
from chatproxy.store.erasure import RedisErasure
from chatproxy.store.health import StoreHealth
from chatproxy.store.known import KnownStore
from chatproxy.store.lineage import RedisLineage
from chatproxy.store.opening import EMBEDDED, open_store
from chatproxy.store.preflight import Demands, examine, require_safe
from chatproxy.store.reaping import RedisReaper
from chatproxy.store.redis import RedisStore
from chatproxy.telemetry import Log, Metrics
from chatproxy.workflows.access import AccessDesk, Explain
from chatproxy.workflows.annotation_log import AnnotationLog, LastChange, Turn, read_last_changes
from chatproxy.workflows.decide import Policy
from chatproxy.workflows.erase import Eraser, Erasure
from chatproxy.workflows.erasure_certificate import certificate_of, sign_certificate
from chatproxy.workflows.explain import Explainer
from chatproxy.workflows.export import Exporter
from chatproxy.workflows.export_gate import GROUNDS, ExportGate
from chatproxy.workflows.export_run import Limits, Means
from chatproxy.workflows.happenings import Happenings
from chatproxy.workflows.key_report import KeyReport, report_keys
from chatproxy.workflows.keys import RecordKeys, RingUnopenedError, load_keyring
from chatproxy.workflows.keyset_in_use import KeysetInUse
from chatproxy.workflows.ledger import LEDGER_OUTLIVES_MS, Ledger
from chatproxy.workflows.move_keys import move_keys
from chatproxy.workflows.person import PersonDesk
from chatproxy.workflows.policies import Policies
from chatproxy.workflows.preview import Applier
from chatproxy.workflows.reap import Reaper
from chatproxy.workflows.recall import Recalls, RecallWatch
from chatproxy.workflows.redecide import Redecider
from chatproxy.workflows.renew_keys import KeyRenewal
from chatproxy.workflows.replace_keys import Pace, Replacement
from chatproxy.workflows.replay import Replay
from chatproxy.workflows.retention_report import RetentionReporter
from chatproxy.workflows.roll import Roller
from chatproxy.workflows.rotate import Rotation
from chatproxy.workflows.rotate_on_schedule import ScheduledRotation
from chatproxy.workflows.tombstones import Replayed, Tombstone, Tombstones, read_tombstones, replay
from chatproxy.workflows.transcripts import AskChanges, Transcripts
from chatproxy.workflows.verify_dataset import LineageVerifier
from chatproxy.workflows.verify_kept import KeptVerifier
from chatproxy.workflows.watch_ring import RingWatch

_log = Log("vault")


@dataclass(frozen=True, slots=True)
class Vault:
    """What every command on stored data works with."""

    settings: Settings
    clock: Clock
    store: RedisStore
    health: StoreHealth
    source: KeysetSource
    keyset_in_use: KeysetInUse
    record_keys: RecordKeys
    policies: Policies
    terms: Terms
    controller: Controller | None
    """Who keeps the conversations, as consent records name them."""
    process: str
    """The name of this process among those that share keys: the node's, or a worker's."""
    opened: asyncio.Event
    """Set once keyset and key ring are known. Before the first ring, nothing may make the store look used."""

    @property
    def keyset(self) -> Keyset:
        """Return the keyset. Raises StoreUnavailableError before it is known."""
        return self.keyset_in_use.keyset

    @property
    def root(self) -> RootKey:
        """Return the provider of the root."""
        return self.source.root

    @property
    def annotation_keys(self) -> AnnotationKeys:
        """Return the annotation keys, which may not be known yet."""
        return self.keyset_in_use.annotation_keys

    @property
    def pseudonyms(self) -> Pseudonymizer:
        """Return what makes pseudonyms, once its key is known."""
        return self.keyset_in_use.pseudonyms

    @property
    def policy(self) -> Policy:
        """Return the policy of the settings."""
        return self.policies.current

    @property
    def ledger(self) -> Ledger:
        """Return the ledgers of people."""
        return Ledger(
            self.store,
            self.annotation_keys,
            training=self.policy.periods.training,
            new_record_id=lambda: str(uuid.uuid4()),
            clock=self.clock,
            noted=Tombstones(LateAudit(lambda: self.audit)).note,
        )

    @property
    def audit_keys(self) -> dict[str, tuple[bytes, ...]]:
        """Return the public keys of the audit log's checkpoints, by origin."""
        return {audit_origin(self.settings, self.keyset): self.keyset.signing_publics()}

    @property
    def audit(self) -> FileAuditLog:
        """Return the audit log of this node, for what its operator does."""
        return self._audit_by(operating_user)

    def _audit_by(self, actor: Callable[[], str]) -> FileAuditLog:
        origin = audit_origin(self.settings, self.keyset)
        return FileAuditLog(
            audit_directory(self.settings),
            signer=lambda: NoteSigner(origin, self.keyset.signing_key()),
            clock=self.clock,
            actor=actor,
        )

    @property
    def erasure(self) -> RedisErasure:
        """Return what makes people, or old keys of theirs, unreadable."""
        return RedisErasure(self.store.connections, horizon_ms=self.settings.erasure_horizon.length)

    @property
    def eraser(self) -> Eraser:
        """Return what erases people."""
        return Eraser(
            self.store,
            self.erasure,
            self.record_keys,
            self.annotation_keys,
            audit=LateAudit(lambda: self.audit),
            clock=self.clock,
            training=self.policy.periods.training,
            rewrites_log=self.settings.store == EMBEDDED,
            certify=self._erasure_certificate,
            recall=self.recalls().erased,
        )

    @property
    def lineage(self) -> RedisLineage:
        """Return what knows what of whom is in which dataset."""
        return RedisLineage(self.store.connections)

    def export_gate(self, purpose: str, stones: Sequence[Tombstone] = ()) -> ExportGate:
        """Return what decides what may go into a dataset for *purpose*; *stones*: what the audit logs know of."""
        return ExportGate(
            self.store,
            self.annotation_keys,
            self.policies,
            purpose=purpose,
            clock=self.clock,
            min_age_ms=int(self.settings.export_min_age * 1000),
            versions=self.terms.versions,
            stones=stones,
        )

    def exporter(self, purpose: str, stones: Sequence[Tombstone], *, limits: Limits = Limits()) -> Exporter:  # noqa: B008 - a value
        """Return what makes datasets for *purpose*."""
        return Exporter(
            Means(
                store=self.store,
                lineage=self.lineage,
                gate=self.export_gate(purpose, stones),
                keys=self.record_keys,
                pseudonyms=self.pseudonyms,
                redactor=Redactor(),
                audit=self.audit,
                clock=self.clock,
                signing_key=self._signing_key,
                signing_publics=self._signing_publics,
                min_age_ms=int(self.settings.export_min_age * 1000),
                keep_ms=self.policy.periods.training.length + LEDGER_OUTLIVES_MS,
                limits=limits,
            )
        )

    def recalls(self, stones: Sequence[Tombstone] = ()) -> Recalls:
        """Return what keeps the recall lists."""
        return Recalls(
            self.store,
            self.lineage,
            {purpose: self.export_gate(purpose, stones) for purpose in GROUNDS},
            self.pseudonyms,
            clock=self.clock,
            deadline_ms=int(self.settings.recall_deadline * 1000),
        )

    def recall_watch(self, metrics: Metrics) -> RecallWatch:
        """Return what looks for what is to be recalled."""
        return RecallWatch(self.recalls(), self.store, clock=self.clock, metrics=metrics)

    @property
    def lineage_verifier(self) -> LineageVerifier:
        """Return what leads items of datasets back to their turns."""
        return LineageVerifier(
            self.store,
            self.lineage,
            self.annotation_keys,
            self.policies,
            self.pseudonyms,
            versions=self.terms.versions,
        )

    @property
    def roller(self) -> Roller:
        """Return what rolls the keys of people."""
        return Roller(self.store, self.erasure, self.record_keys, self.annotation_keys, clock=self.clock)

    def reaper(self, metrics: Metrics) -> Reaper:
        """Return what removes what is over."""
        return Reaper(
            self.store,
            RedisReaper(self.store.connections, self.erasure),
            audit=LateAudit(lambda: self.audit),
            clock=self.clock,
            metrics=metrics,
            grace_ms=int(self.settings.epoch_grace * 1000),
            longest_ms=self.policy.periods.training.length + LEDGER_OUTLIVES_MS,
        )

    @property
    def retention_reporter(self) -> RetentionReporter:
        """Return what says what is kept on which ground, and whether anything is overdue."""
        return RetentionReporter(
            self.store,
            RedisReaper(self.store.connections, self.erasure),
            self.annotation_keys,
            self.policies,
            clock=self.clock,
            day_grace_ms=int(self.settings.epoch_grace * 1000),
            versions=self.terms.versions,
        )

    @property
    def kept_verifier(self) -> KeptVerifier:
        """Return what looks whether everything is as it was kept."""
        return KeptVerifier(
            self.store,
            RedisReaper(self.store.connections, self.erasure),
            self.record_keys,
            self.annotation_keys,
            self.policies,
            clock=self.clock,
            versions=self.terms.versions,
        )

    async def _erasure_certificate(self, erasure: Erasure) -> bytes:
        """Return the signed certificate of an erasure that was just done. Raises AuditUnavailableError."""
        note = await asyncio.to_thread(self.audit.latest_checkpoint)
        certificate = certificate_of(
            erasure,
            certificate_id=str(uuid.uuid4()),
            checkpoint=read_checkpoint(note or "", keys=self.audit_keys),
            horizon_ms=self.settings.erasure_horizon.length,
        )
        return sign_certificate(certificate, seed=self.keyset.signing_key())

    def ring_watch(
        self, metrics: Metrics, *, node: str | None = None, journal: Journal | None = None
    ) -> RingWatch:
        """Return what keeps this node's key ring new; *node*: its name, where this is not ``serve``."""
        return RingWatch(
            self.store,
            self.root,
            self.record_keys,
            node=node or self.process,
            instance=uuid.uuid4().hex,
            policy=self.policy.digest,
            clock=self.clock,
            metrics=metrics,
            horizon_ms=self.settings.erasure_horizon.length,
            refresh_keyset=self.refresh_keyset,
            journal=journal,
        )

    async def refresh_keyset(self) -> Mapping[str, Sequence[int]]:
        """Work with the keyset as it is now; return the versions that this process knows.

        Raises KeysetError, StoreUnavailableError.
        """
        if not self.keyset_in_use.is_known:
            return {}
        keyset = await self.source.load(self.store)
        keyset.require_check_value(self.keyset.check_value, source=self.source.name)
        self.keyset_in_use.use(keyset)
        return {purpose: keyset.known_versions(purpose) for purpose in RenewedPurpose}

    def key_renewal(self, *, by: str) -> KeyRenewal:
        """Return what renews annotation and signing keys; *by*: who does it."""
        return KeyRenewal(self.store, self.source, audit=self.audit, clock=self.clock, by=by)

    def rotation(self, *, by: str, progress: Callable[[int], None] = lambda _: None) -> Rotation:
        """Return the rotation of this store's keys; *by*: who does it."""
        return Rotation(
            self.store,
            self.root,
            audit=self.audit,
            clock=self.clock,
            by=by,
            soak_ms=int(self.settings.key_soak * 1000),
            grace_ms=int(self.settings.key_grace * 1000),
            progress=progress,
            follow_root=self.follow_root,
        )

    def replacement(self, *, by: str, pace: Pace) -> Replacement:
        """Return what replaces keys that have leaked; *by*: who does it."""
        return Replacement(
            self.store,
            RedisReaper(self.store.connections, self.erasure),
            self.root,
            self.record_keys,
            self.roller,
            audit=self.audit,
            clock=self.clock,
            by=by,
            soak_ms=int(self.settings.key_soak * 1000),
            pace=pace,
        )

    async def follow_root(self) -> None:
        """Put what of the keyset lies in the store under the primary root version."""
        await self.source.follow_root(self.store)

    def scheduled_rotation(self) -> ScheduledRotation:
        """Return what rotates the keys by itself, as often as the settings say."""
        return ScheduledRotation(
            self.store,
            self.rotation(by=f"node {self.process}"),
            node=self.process,
            period_ms=int(self.settings.key_rotation * 1000),
            clock=self.clock,
        )

    async def key_report(self, *, by: str) -> KeyReport:
        """Look at every key. Raises KeysetError, UndecryptableError, StoreUnavailableError."""
        return await report_keys(
            self.store,
            self.root,
            self.keyset,
            self.rotation(by=by),
            clock=self.clock,
            horizon_ms=self.settings.erasure_horizon.length,
            waiting_ms=int((self.settings.key_soak + self.settings.key_grace) * 1000),
        )

    async def move_to(self, url: str) -> None:
        """Move root and keyset to what *url* names. Raises KeysetError, StoreUnavailableError."""
        if url == self.settings.keyset:
            raise KeysetError(f"the keyset is at {self.source.name} already")
        target = open_keyset(replace(self.settings, keyset=url), clock=self.clock)
        if isinstance(self.source, StoredKeyset) and isinstance(target, StoredKeyset):
            raise KeysetError(
                "from one vault to another the keyset moves by way of a file: first `chatproxy keys move --to file:PATH`"
            )
        await move_keys(
            self.store, self.source, target, keyset=self.keyset, audit=self.audit, now=self.clock()
        )

    def redecider(self, metrics: Metrics) -> Redecider:
        """Return what decides again on what is kept."""
        return Redecider(
            self.store,
            self.record_keys,
            self.annotation_keys,
            self.policies,
            clock=self.clock,
            metrics=metrics,
            mark_roll=self.roller.mark,
            note_changes=AnnotationLog(LateAudit(lambda: self.audit)).note,
            versions=self.terms.versions,
        )

    @property
    def happenings(self) -> Happenings:
        """Return what writes down what happens to what is kept."""
        return Happenings(
            self.store,
            self.ledger,
            self.annotation_keys,
            self.pseudonyms,
            audit=LateAudit(lambda: self.audit),
            clock=self.clock,
        )

    @property
    def explainer(self) -> Explainer:
        """Return what says why a turn is kept."""
        return Explainer(self.redecider(Metrics()), self.policies, audit=self.audit)

    @property
    def applier(self) -> Applier:
        """Return what previews and applies policies."""
        return Applier(
            self.store, self.redecider(Metrics()), self.policies, audit=self.audit, clock=self.clock
        )

    @property
    def replay(self) -> Replay:
        """Return what makes past decisions again."""
        return Replay(self.store, self.annotation_keys, self.policies, versions=self.terms.versions)

    @property
    def transcripts(self) -> Transcripts:
        """Return what is kept, to be read by who operates this process."""
        return self._transcripts_for(operating_user, last_changes=self._last_changes)

    def _last_changes(self, subject: SubjectTag) -> Mapping[Turn, LastChange]:
        """Return what this node's audit log knows of a person's annotations. Raises OSError."""
        log = audit_directory(self.settings) / LOG_NAME
        return read_last_changes([log] if log.exists() else [], subject=subject)

    @property
    def person_desk(self) -> PersonDesk:
        """Return what a person may see and do about what is kept of them."""
        return PersonDesk(
            self.ledger,
            self.happenings,
            self._transcripts_for(lambda: DATA_SUBJECT),
            self.pseudonyms,
            self.policies,
            signing_key=self._signing_key,
            clock=self.clock,
            terms=self.terms,
            deadline=self.settings.deadline,
            is_chosen_elsewhere=self.settings.consent_source != "builtin",
            record_terms=self._record_terms,
            used_of=self.recalls().used_of,
        )

    @property
    def _record_terms(self) -> Mapping[str, Any]:
        return record_terms(
            self.controller,
            periods=self.policy.periods,
            withdrawal_url=urljoin(self.settings.public_url or "", self.settings.choice_url),
            steps_to_withdraw=self.terms.steps_to_withdraw,
        )

    def access_desk(self, explain: Explain, *, by: Callable[[], str] = operating_user) -> AccessDesk:
        """Return what makes the record of all that is held of a person; *by*: who asks for it."""
        return AccessDesk(
            self.store,
            self.ledger,
            self._transcripts_for(by, last_changes=self._last_changes),
            self.pseudonyms,
            audit=LateAudit(lambda: self._audit_by(by)),
            clock=self.clock,
            used_of=self.recalls().used_of,
            signing_key=self._signing_key,
            terms={**self._record_terms, "periods": periods_by_ground(self.policy.periods)},
            explain=explain,
        )

    def _signing_key(self) -> SigningSeed:
        """Return the key that signs receipts. Raises StoreUnavailableError before it is known."""
        return self.keyset.signing_key()

    def _signing_publics(self) -> Sequence[bytes]:
        return self.keyset.signing_publics()

    def _transcripts_for(
        self, reader: Callable[[], str], *, last_changes: AskChanges | None = None
    ) -> Transcripts:
        return Transcripts(
            self.store,
            self.record_keys,
            self.annotation_keys,
            self.pseudonyms,
            self.policies,
            audit=LateAudit(lambda: self._audit_by(reader)),
            clock=self.clock,
            versions=self.terms.versions,
            last_changes=last_changes,
        )


async def bring_up_to_date(settings: Settings, logs: Sequence[Path], *, since: int, by: str) -> Replayed:
    """Do again on a restored store what the audit *logs* have since the instant *since* (ms); *by*: who restores it.

    Raises OSError, ConfigurationError, StoreUnavailableError, AuditUnavailableError, UndecryptableError.
    """
    stones = read_tombstones(logs, since=since)
    async with open_vault(settings, is_being_restored=True) as vault:
        await asyncio.to_thread(vault.audit.append, "store.restore", {"since": since, "entries": len(stones)})
        return await replay(stones, eraser=vault.eraser, ledger=vault.ledger, by=by)


def audit_directory(settings: Settings) -> Path:
    """Return where the audit log of this node lies."""
    return Path(settings.data_dir) / "audit"


def audit_origin(settings: Settings, keyset: Keyset) -> str:
    """Return the name that the checkpoints of this node's audit log are signed under."""
    return f"chatproxy/{keyset.id[:8]}/{quote(settings.node, safe='')}"


def open_terms(settings: Settings) -> Terms:
    """Return what people choose about; nothing where only the built-in path is named and is not there.

    Raises ConfigurationError.
    """
    path = Path(settings.choice_notices)
    if settings.choice_notices == DEFAULT_NOTICES and not path.exists():
        return NO_TERMS
    try:
        return load_terms(path)
    except ConfigurationError as error:
        raise ConfigurationError(f"CHATPROXY_CHOICE_NOTICES = {path} cannot be used:\n{error}") from None


def open_controller(settings: Settings) -> Controller | None:
    """Return who keeps the conversations; None where ``controller.toml`` is not there. Raises ConfigurationError."""
    path = Path(settings.choice_notices) / "controller.toml"
    return load_controller(path) if path.exists() else None


def open_keyset(settings: Settings, *, clock: Clock = wall_clock) -> PlacedKeyset | StoredKeyset:
    """Return where the keyset of the settings comes from. Raises KeysetError."""
    return keyset_source(
        settings.keyset,
        data_dir=Path(settings.data_dir),
        variable=read_variable,
        token=settings.keyset_token,
        ca_file=Path(settings.keyset_ca_file) if settings.keyset_ca_file else None,
        clock=clock,
    )


def open_store_of(
    settings: Settings, *, clock: Clock = wall_clock, may_wait: bool = False
) -> AbstractAsyncContextManager[RedisStore]:
    """Open the store of the settings. Raises as ``open_store``."""
    ca_file = Path(settings.store_ca_file) if settings.store_ca_file else None
    return open_store(
        settings.store,
        Path(settings.data_dir),
        ca_file=ca_file,
        deadline=settings.store_timeout,
        replicas=settings.store_replicas,
        clock=clock,
        longest_pause=settings.store_longest_pause,
        may_wait=may_wait,
    )


def known_store(settings: Settings) -> KnownStore:
    """Return what is known of the store of the settings from before this start."""
    return KnownStore(Path(settings.data_dir), shown(settings, "store") or "")


def store_demands(settings: Settings) -> Demands:
    """Return what the store of the settings must be."""
    return Demands(
        allow_volatile=settings.store_allow_volatile,
        in_cluster="+cluster:" in settings.store,
        replicas=settings.store_replicas,
    )


async def create_sealed(settings: Settings, keyset: Keyset, *, clock: Clock = wall_clock) -> bool:
    """Seal *keyset*, which is new, into the store that the settings name; return whether the vault's key was made too.

    Raises ConfigurationError where there is one, or store or vault must not be used; StoreUnavailableError.
    """
    source = open_keyset(settings, clock=clock)
    if isinstance(source, PlacedKeyset):
        raise KeysetError(f"{source.name} holds its keyset itself")
    async with open_store_of(settings) as store:
        require_safe((await examine(store.connections, store_demands(settings), clock=clock))[1])
        return await source.create(store, keyset)


@contextlib.asynccontextmanager
async def open_vault(
    settings: Settings,
    *,
    clock: Clock = wall_clock,
    store_may_be_away: bool = False,
    is_being_restored: bool = False,
    worker: int | None = None,
    machine_clock: Clock | None = None,
) -> AsyncIterator[Vault]:
    """Open keyset and store and see that they fit each other. ``worker``: which one of its node, where there are some.

    ``machine_clock``: what the store's clock is compared with, where *clock* is not this machine's.

    With ``store_may_be_away`` a store, or a provider of the root, that does not answer yet is accepted; one that
    answers and must not be used never is. A store that was restored from a backup is opened by the command that brings
    it up to date alone (``is_being_restored``). Raises ConfigurationError, StoreUnavailableError.
    """
    if settings.store == EMBEDDED and not is_being_restored:
        require_up_to_date(Path(settings.data_dir) / "store")
    terms, controller = open_terms(settings), open_controller(settings)
    source, in_use, opened = open_keyset(settings, clock=clock), KeysetInUse(), asyncio.Event()
    if (keyset := source.local()) is not None:
        in_use.use(keyset)
    async with open_store_of(settings, clock=machine_clock or clock, may_wait=store_may_be_away) as store:
        record_keys = RecordKeys(store)
        policies = Policies(store, Policy(settings.profile, settings.periods))

        known = known_store(settings)

        async def prepare() -> None:
            keyset = in_use.keyset if in_use.is_known else await source.load(store)
            try:
                ring = await load_keyring(
                    store,
                    source.root,
                    keyset,
                    source=source.name,
                    now=clock(),
                    had_one=known.how_to_begin_anew(keyset.id),
                )
            except (RingUnopenedError, RootUnavailableError, RootRefusedError):
                # Once it has a ring, a node goes on with that; ``RingWatch`` says when that has gone on for too long.
                if record_keys.ring is None:
                    raise
            else:
                if record_keys.ring is None:
                    record_keys.use(ring)
            if not in_use.is_known:
                # Not before there is a ring: what a person chooses would make the store look used.
                in_use.use(keyset)
            try:
                known.note(keyset.id)
            except OSError as error:
                # Chats go on, and are kept: this is for the next start, and is tried again with the next check.
                _log.warning("it cannot be noted that this store was used", problem=error.strerror)
            opened.set()
            await policies.register()

        health = StoreHealth(
            store, clock=machine_clock or clock, demands=store_demands(settings), when_safe=prepare
        )
        try:
            await health.check()
        except StoreUnavailableError:
            if not store_may_be_away:
                raise
        yield Vault(
            settings=settings,
            clock=clock,
            store=store,
            health=health,
            source=source,
            keyset_in_use=in_use,
            record_keys=record_keys,
            policies=policies,
            terms=terms,
            controller=controller,
            process=settings.node if worker is None else f"{settings.node}/{worker}",
            opened=opened,
        )
