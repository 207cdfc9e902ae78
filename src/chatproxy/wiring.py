"""The composition root: settings in, a running whole out. What stands behind each port is named only here."""

import asyncio
import contextlib
import logging
import secrets
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from chatproxy.audit.late import LateAudit
from chatproxy.audit.log import LOG_NAME
from chatproxy.clock import Clock, wall_clock
from chatproxy.consent.events import DATA_SUBJECT
from chatproxy.consent.receipts import write_public_keys
from chatproxy.consent.service import ConsentService
from chatproxy.errors import ConfigurationError
from chatproxy.forwarding import UpstreamAddress
from chatproxy.identities.api_keys import APIKeyFile, APIKeyIdentity
from chatproxy.identities.claims import ClaimNames, Issuer
from chatproxy.identities.jwks import JWKSCache
from chatproxy.identities.jwt import JWTIdentity
from chatproxy.identities.operators import Operators
from chatproxy.identity import IDENTITY_HEADERS, HeaderIdentity, IdentifyCaller
from chatproxy.journal.disk import DiskJournal
from chatproxy.journal.memory import MemoryJournal
from chatproxy.journal.volumes import Volumes
from chatproxy.memory import give_back_memory
from chatproxy.model import Caller, ConversationSource, SubjectTag, TurnId
from chatproxy.ports import ConsentSource, Journal
from chatproxy.rates import Buckets
from chatproxy.settings import Settings
from chatproxy.tasks import Background
from chatproxy.telemetry import Log, Metrics
from chatproxy.vault import Vault, audit_directory, open_vault
from chatproxy.watchdog import watched
from chatproxy.web.access_downloads import AccessDownloads
from chatproxy.web.admin import build_admin
from chatproxy.web.api.admin import AdminAPI
from chatproxy.web.api.happened import HappenedOperations
from chatproxy.web.api.person import PersonAPI
from chatproxy.web.client_call import asgi
from chatproxy.web.connection import ClientLimits
from chatproxy.web.console import Console
from chatproxy.web.framing import HeadLimits
from chatproxy.web.operator_door import OperatorDoor
from chatproxy.web.own import Own
from chatproxy.web.pages import PersonPages
from chatproxy.web.pages.access_page import reason_in_words
from chatproxy.web.pages.words import load_words
from chatproxy.web.person_session import Limits, PersonSessions
from chatproxy.web.proxy import Proxy
from chatproxy.web.public import Public
from chatproxy.web.server import Listener, allow_connections
from chatproxy.web.siblings import Alone, Node, Siblings
from chatproxy.web.tally import Tally
from chatproxy.web.turn_history import History
from chatproxy.web.upstream import Upstream
from chatproxy.wire import DIALECTS, Dialects
from chatproxy.wire.base import OriginRules
from chatproxy.wire.json_chat import JSONChat
from chatproxy.wire.json_chat_description import read_descriptions
from chatproxy.workflows.announce import DECISION_HEADERS, Announcer
from chatproxy.workflows.archive import Archive
from chatproxy.workflows.capacity import Capacity
from chatproxy.workflows.consult import Consultations
from chatproxy.workflows.frame_copy import FrameCapture
from chatproxy.workflows.gate import Gate
from chatproxy.workflows.housekeeping import Housekeeping
from chatproxy.workflows.import_choices import ChoiceImport
from chatproxy.workflows.place import Places
from chatproxy.workflows.publish_checkpoint import publish_checkpoints
from chatproxy.workflows.record import Capture
from chatproxy.workflows.redecide import Redecider
from chatproxy.workflows.retry import Retries
from chatproxy.workflows.seal import Sealer
from chatproxy.workflows.subjects import Subjects
from chatproxy.workflows.watch_ring import RingWatch

_log = Log("serve")
_AGAIN_SECONDS = 300.0
"""How long what replicas have confirmed can be put again: longer than any failover takes."""
_LAST_KEEPING_SECONDS = 5.0
"""How long, after the last answer has ended, turns that wait may still be kept before the process stops."""


class RunningProxy:
    """The proxy while it serves."""

    def __init__(
        self,
        vault: Vault,
        public: Listener,
        admin: Listener,
        journal: Journal,
        metrics: Metrics,
        *,
        upstream: str,
    ) -> None:
        """``upstream``: its origin, for people."""
        self.vault = vault
        self.upstream = upstream
        self.metrics = metrics
        self._public = public
        self._admin = admin
        self._journal = journal

    @property
    def url(self) -> str:
        """Return where chats are taken."""
        return self._public.url

    @property
    def admin_url(self) -> str:
        """Return where health and metrics are."""
        return self._admin.url

    async def all_kept(self, *, within: float) -> bool:
        """Wait until every captured turn has met its outcome; False if *within* seconds were not enough."""
        deadline = asyncio.get_running_loop().time() + within
        while not self._journal.is_idle:
            if asyncio.get_running_loop().time() > deadline:
                return False
            await asyncio.sleep(0.01)
        return True

    def cut(self) -> None:
        """Do not wait for running answers any longer."""
        self._public.cut()


@dataclass(frozen=True, slots=True)
class Worker:
    """One of several processes that serve as one node."""

    number: int
    public: socket.socket
    """What all of them listen on."""
    admin: socket.socket
    directory: Path
    """Where they meet."""
    tally: Tally
    """How many clients each of them has."""


@contextlib.asynccontextmanager
async def running_proxy(
    settings: Settings,
    *,
    clock: Clock = wall_clock,
    worker: Worker | None = None,
    machine_clock: Clock | None = None,
) -> AsyncIterator[RunningProxy]:
    """Serve; on leaving, stop in order: no new chats, running answers end, turns are kept, the store closes.

    ``machine_clock``: as for ``open_vault``. Raises ConfigurationError.
    """
    address = _upstream_address(settings)
    async with contextlib.AsyncExitStack() as closing:
        vault = await closing.enter_async_context(
            open_vault(
                settings,
                clock=clock,
                store_may_be_away=True,
                worker=worker.number if worker else None,
                machine_clock=machine_clock,
            )
        )
        metrics = Metrics()
        source = await closing.enter_async_context(_consent_source(settings, clock=clock))
        background = Background(logging.getLogger("chatproxy.background"))
        closing.enter_context(watched(metrics))
        journal = await _journal(vault, metrics, closing, background)
        closing.push_async_callback(background.aclose)
        subjects = _subjects(vault, source, metrics, background)
        described = _described_chats(settings.json_chats)
        dialects = Dialects((*described, *DIALECTS))
        redecider = vault.redecider(metrics)
        background.spawn(
            _once_opened(vault, lambda: redecider.run(chats_run=lambda: not journal.is_idle)), name="redecide"
        )
        archive = _archive(vault, journal, subjects, dialects, redecider, metrics)
        background.spawn(archive.run(), name="archive")
        background.spawn(subjects.listen(redecider.wake), name="changes")
        _keep_house(vault, metrics, background)
        ring_watch = _look_after_keys(vault, background, metrics, journal)
        upstream = await closing.enter_async_context(contextlib.aclosing(_upstream(settings, address)))
        capture = _capture(vault, journal, metrics)
        identify = await _identification(settings, clock=clock, background=background)
        own, admin_api, door = _own_surfaces(vault, identify, metrics)
        proxy = Proxy(
            upstream,
            address=address,
            dialects=dialects,
            identify=identify,
            capture=capture,
            frames=FrameCapture(
                capture,
                described,
                metrics=metrics,
                clock=clock,
                new_name=lambda: secrets.token_hex(16),
                memory=settings.capture_queue // 4,
            ),
            tunnel_idle_timeout=settings.websocket_idle_timeout,
            announcer=Announcer(
                subjects, vault.pseudonyms, vault.policy, clock=clock, with_headers=settings.response_headers
            ),
            gate=_gate(vault, subjects, metrics),
            metrics=metrics,
            clock=clock,
            new_request_id=_new_request_id,
            refuse_uncaptured=_must_keep(settings),
            hold_until_safe=settings.capture_durability == "strict",
            conversation_headers=[name.encode() for name in settings.conversation_headers]
            if ConversationSource.HEADER in settings.conversation_sources
            else (),
        )
        is_draining = False

        def unready() -> list[str]:
            stopping = ["stopping: no new chats are taken"] if is_draining else []
            return stopping + _problems(vault, archive, journal, ring_watch)

        history = History(metrics, clock=clock)
        background.spawn(history.run(), name="history")
        node: Node = (alone := Alone(metrics, history, unready=unready))
        if worker is not None:
            node = siblings = Siblings(worker.directory, alone)
            await closing.enter_async_context(siblings.present())
        admin = Listener(
            asgi(
                build_admin(
                    node,
                    door=door,
                    is_open=settings.admin_listen.is_loopback
                    if settings.admin_open is None
                    else settings.admin_open,
                    console=_console(vault),
                    api=admin_api.routes(),
                )
            ),
            host=settings.admin_listen.host,
            port=settings.admin_listen.port,
            setting="CHATPROXY_ADMIN_LISTEN",
            drain_seconds=0,
            listening=worker.admin if worker else None,
            tls=_admin_tls(settings),
        )
        public = Listener(
            Public(proxy, own),
            host=settings.listen.host,
            port=settings.listen.port,
            setting="CHATPROXY_LISTEN",
            drain_seconds=settings.drain_time,
            listening=worker.public if worker else None,
            tally=worker.tally if worker else None,
            limits=_client_limits(settings),
            words=proxy.words,
            cut=lambda reason: metrics.client_cuts.labels(reason).inc(),
            fronts=settings.trusted_proxies,
            not_in_trailers=IDENTITY_HEADERS,
        )
        await admin.start()
        closing.push_async_callback(admin.stop)
        metrics.clients.set_function(lambda: public.connections)
        await public.start()
        running = RunningProxy(vault, public, admin, journal, metrics, upstream=str(address))
        try:
            yield running
        finally:
            is_draining = True
            await public.stop()
            if not await running.all_kept(within=_LAST_KEEPING_SECONDS):
                _log.error("stopped with turns that could not be kept", bytes=journal.held_bytes)
            await ring_watch.leave()


async def _journal(
    vault: Vault, metrics: Metrics, closing: contextlib.AsyncExitStack, background: Background
) -> Journal:
    """Return what exchanges wait in, as durable as the settings ask for. Raises ConfigurationError."""
    settings = vault.settings
    if settings.capture_durability == "relaxed":
        memory = MemoryJournal(settings.capture_queue)
        metrics.queue_bytes.set_function(lambda: memory.held_bytes)
        return memory
    volumes = Volumes(Path(settings.data_dir) / "journal", vault.root, clock=vault.clock)
    journal = DiskJournal(
        volumes,
        memory=settings.capture_queue,
        disk=settings.journal_size,
        refuses=_must_keep(settings),
        keep_ms=settings.retention_service.length,
        clock=vault.clock,
        metrics=metrics,
        is_clock_sure=vault.health.is_clock_sure,
        again_seconds=_AGAIN_SECONDS if settings.store_replicas else 0.0,
    )
    metrics.queue_bytes.set_function(lambda: journal.held_bytes)
    metrics.journal_bytes.set_function(lambda: journal.disk_bytes)
    metrics.journal_room.set_function(lambda: journal.disk_room)
    metrics.journal_waiting.set_function(lambda: journal.waiting)
    await journal.begin()
    closing.push_async_callback(journal.aclose)
    background.spawn(journal.run(), name="journal")
    background.spawn(_put_again(vault, journal), name="put-again")
    return journal


async def _put_again(vault: Vault, journal: DiskJournal) -> None:
    """Put again what was confirmed by a server that another one has taken the place of (security B8.5)."""
    promoted = vault.health.promoted
    while True:
        await promoted.wait()
        promoted.clear()
        if count := journal.put_again():
            _log.warning("what was kept in the last minutes is put again", turns=count)


def _must_keep(settings: Settings) -> bool:
    """Whether a chat that cannot be kept is refused."""
    return settings.capture_failure == "refuse" or settings.capture_durability == "strict"


def _console(vault: Vault) -> Console:
    return Console(
        vault.store,
        vault.root,
        vault.record_keys,
        node=vault.settings.node,
        clock=vault.clock,
        recalls=lambda: vault.recalls().open_by_dataset(),
    )


def _keep_house(vault: Vault, metrics: Metrics, background: Background) -> None:
    """Begin what goes on beside the chats, for as long as the process runs."""
    health = vault.health
    metrics.store_usable.set_function(lambda: health.problem is None)
    metrics.store_keys.set_function(lambda: health.keys)
    metrics.store_offset.set_function(lambda: health.offset_ms / 1000)
    metrics.store_used.set_function(lambda: health.used)
    capacity = Capacity(vault.store, lambda: health.used, clock=vault.clock, metrics=metrics)
    chores = [
        vault.eraser.take_up,
        vault.roller.take_up,
        vault.reaper(metrics).take_up,
        capacity.take_up,
    ]
    background.spawn(_once_opened(vault, Housekeeping(chores, metrics=metrics).run), name="housekeeping")
    background.spawn(_once_opened(vault, vault.recall_watch(metrics).run), name="recalls")
    background.spawn(vault.health.watch(), name="store-health")
    background.spawn(give_back_memory(), name="memory")
    background.spawn(_once_opened(vault, lambda: _publish_checkpoints(vault)), name="audit-checkpoints")


def _upstream_address(settings: Settings) -> UpstreamAddress:
    if settings.upstream is None:
        raise ConfigurationError(
            "CHATPROXY_UPSTREAM is not set: give the base URL of the chat backend, such as "
            "https://api.example.com, or run `chatproxy demo`, which brings its own"
        )
    try:
        return UpstreamAddress.parse(settings.upstream)
    except ConfigurationError as error:
        raise ConfigurationError(f"CHATPROXY_UPSTREAM cannot be used: {error}") from None


def _client_limits(settings: Settings) -> ClientLimits:
    room = allow_connections(settings.client_connections)
    if room < settings.client_connections:
        _log.warning(
            "the system lets this process open too few files for CHATPROXY_CLIENT_CONNECTIONS; raise its limit "
            "(ulimit -n, LimitNOFILE) to two for each connection and 256 more",
            connections=room,
        )
    return ClientLimits(
        HeadLimits(
            head=settings.request_head_limit,
            field=settings.request_header_limit,
            fields=settings.request_header_count,
            target=settings.request_target_limit,
            body=settings.request_body_limit,
            hosts=frozenset(name.encode() for name in settings.request_hosts),
        ),
        head_timeout=settings.client_head_timeout,
        body_timeout=settings.client_body_timeout,
        body_rate=settings.client_body_rate,
        take_timeout=settings.client_take_timeout,
        idle_timeout=settings.client_idle_timeout,
        connections=room,
        connections_of_one=settings.client_connections_per_address,
    )


def _upstream(settings: Settings, address: UpstreamAddress) -> Upstream:
    return Upstream(
        address,
        connect_timeout=settings.upstream_connect_timeout,
        head_timeout=settings.upstream_head_timeout,
        idle_timeout=settings.upstream_idle_timeout,
        ssl_context=_tls(settings.upstream_ca_file, "CHATPROXY_UPSTREAM_CA_FILE") if address.is_tls else None,
        drop=DECISION_HEADERS,
    )


@contextlib.asynccontextmanager
async def _consent_source(settings: Settings, *, clock: Clock) -> AsyncIterator[ConsentSource | None]:
    """Yield the company's own consent service; None: people choose here. Raises ConfigurationError."""
    if settings.consent_source == "builtin":
        yield None
        return
    service = ConsentService(
        settings.consent_source,
        shared_secrets=settings.consent_service_secret or (),
        token=settings.consent_service_token,
        clock=clock,
        connect_timeout=settings.consent_service_connect_timeout,
        deadline=settings.consent_service_timeout,
        ssl_context=_tls(settings.consent_service_ca_file, "CHATPROXY_CONSENT_SERVICE_CA_FILE"),
    )
    try:
        yield service
    finally:
        await service.aclose()


def _subjects(
    vault: Vault, source: ConsentSource | None, metrics: Metrics, background: Background
) -> Subjects:
    max_staleness_ms = int(vault.settings.consent_max_staleness * 1000)
    consultations = None
    if source is not None:
        consultations = Consultations(
            source,
            vault.ledger,
            vault.pseudonyms,
            clock=vault.clock,
            metrics=metrics,
            background=background,
            max_staleness_ms=max_staleness_ms,
            versions=vault.terms.versions,
        )
    return Subjects(
        vault.store,
        vault.annotation_keys,
        clock=vault.clock,
        metrics=metrics,
        background=background,
        max_staleness_ms=max_staleness_ms,
        versions=vault.terms.versions,
        consultations=consultations,
    )


def _problems(vault: Vault, archive: Archive, journal: Journal, ring_watch: RingWatch) -> list[str]:
    """Return why what is captured now would not be kept, in words."""
    reasons = []
    if vault.health.problem is not None:
        reasons.append(vault.health.problem)
    elif archive.is_failing:
        reasons.append("the store does not take turns; they wait")
    if ring_watch.problem is not None:
        reasons.append(ring_watch.problem)
    if journal.problem is not None:
        reasons.append(journal.problem)
    if journal.is_full:
        reasons.append("the memory for turns that wait is full; new turns are lost")
    return reasons


def _look_after_keys(vault: Vault, background: Background, metrics: Metrics, journal: Journal) -> RingWatch:
    """Keep the key ring new and, if that is set, rotate it."""
    watch = vault.ring_watch(metrics, journal=journal)
    background.spawn(watch.run(), name="key-ring")
    background.spawn(watch.hear(), name="key-ring-changes")
    if vault.settings.key_rotation:
        background.spawn(_once_opened(vault, lambda: vault.scheduled_rotation().run()), name="key-rotation")
    return watch


async def _once_opened(vault: Vault, begin: Callable[[], Awaitable[None]]) -> None:
    """Begin once keyset and key ring are known: what signs needs the one, and the other is made in an empty store."""
    await vault.opened.wait()
    await begin()


async def _publish_checkpoints(vault: Vault) -> None:
    await publish_checkpoints(
        vault.store, vault.audit, node=vault.settings.node, keys=lambda: vault.audit_keys
    )


def _capture(vault: Vault, journal: Journal, metrics: Metrics) -> Capture:
    def name_turn(caller: Caller, key: bytes, request: bytes) -> TurnId | None:
        if not vault.pseudonyms.is_known:
            return None
        return vault.pseudonyms.turn_id(
            tenant=caller.tenant, subject=caller.subject or "", request_key=key, request=request
        )

    return Capture(
        journal,
        metrics,
        limit=vault.settings.capture_limit,
        never_kept=vault.policy.never_kept,
        new_turn_id=lambda: TurnId(secrets.token_bytes(16)),
        name_turn=name_turn,
    )


def _gate(vault: Vault, subjects: Subjects, metrics: Metrics) -> Gate | None:
    """Return what holds up chats of who must choose first; None where nobody must."""
    settings = vault.settings
    if settings.choice_missing != "gate" or settings.deadline is None:
        return None
    return Gate(
        subjects,
        vault.pseudonyms,
        vault.policy,
        vault.terms,
        deadline=settings.deadline,
        address=settings.choice_url,
        clock=vault.clock,
        metrics=metrics,
    )


def _archive(
    vault: Vault,
    journal: Journal,
    subjects: Subjects,
    dialects: Dialects,
    redecider: Redecider,
    metrics: Metrics,
) -> Archive:
    settings = vault.settings
    places = Places(
        vault.store,
        vault.pseudonyms,
        random=secrets.token_bytes,
        erased_at=subjects.erased_at,
        sources=[ConversationSource(name) for name in settings.conversation_sources],
    )
    return Archive(
        journal=journal,
        store=vault.store,
        places=places,
        retries=Retries(vault.store, places, vault.annotation_keys),
        subjects=subjects,
        keys=vault.record_keys,
        sealer=Sealer(
            policy=vault.policy,
            keys=vault.record_keys,
            annotation_keys=vault.annotation_keys,
            metrics=metrics,
            node=settings.node,
        ),
        dialects=dialects,
        rules=OriginRules(settings.connector_tools, settings.block_origins),
        clock=vault.clock,
        metrics=metrics,
        capture_limit=settings.capture_limit,
        media_room=settings.media_limit if settings.media == "sealed" else 0,
        may_put=vault.health.may_put,
        decide_again=redecider.mark,
    )


def _own_surfaces(
    vault: Vault, identify: IdentifyCaller, metrics: Metrics
) -> tuple[Own, AdminAPI, OperatorDoor]:
    """Return what is chatproxy's own on the public listener, the API on the other one, and who may come in there."""
    settings, desk = vault.settings, vault.person_desk

    def subject_tag(tenant: str, subject: str) -> SubjectTag:
        return vault.pseudonyms.subject_tag(tenant=tenant, subject=subject)

    sessions = PersonSessions(
        identify,
        subject_tag,
        lambda: vault.keyset.pseudonyms.key,
        clock=vault.clock,
        metrics=metrics,
        exempt_plans=settings.plans_exempt,
        public_url=settings.public_url,
        origins=settings.api_origins,
        link_seconds=settings.link_lifetime,
        session_seconds=settings.session_lifetime,
        limits=Limits(
            Buckets(settings.person_rate), Buckets(settings.address_rate), settings.trusted_proxies
        ),
    )
    door = OperatorDoor(
        Operators(settings.admin_token or (), settings.admin_clients or ()),
        clock=vault.clock,
        metrics=metrics,
        trusted=settings.trusted_proxies,
    )
    person_api = PersonAPI(desk, sessions, vault.terms, clock=vault.clock, new_request_id=_new_request_id)
    admin_api = AdminAPI(
        desk,
        sessions,
        vault.terms,
        subject_tag=subject_tag,
        new_import=lambda is_dry_run: ChoiceImport(
            vault.ledger, vault.pseudonyms, clock=vault.clock, is_dry_run=is_dry_run
        ),
        door=door,
        audit=LateAudit(lambda: vault.audit),
        new_request_id=_new_request_id,
        more=HappenedOperations(vault.happenings, desk, vault.pseudonyms, clock=vault.clock).operations(),
    )
    words = load_words()
    audit_log = audit_directory(settings) / LOG_NAME

    def public_keys() -> str:
        return write_public_keys(vault.keyset.signing_publics())

    downloads = AccessDownloads(
        vault.access_desk(lambda code: reason_in_words(code, list(words.values())), by=lambda: DATA_SUBJECT),
        words.values(),
        logs=lambda: [audit_log] if audit_log.exists() else [],
        public_keys=public_keys,
        rate=Buckets(settings.access_rate),
        take_timeout=settings.client_take_timeout,
        clock=vault.clock,
        metrics=metrics,
    )
    pages = PersonPages(
        desk,
        vault.terms,
        sessions,
        public_keys=public_keys,
        download=downloads.begin,
        words=words,
    )
    own = Own(
        [*pages.routes, *person_api.routes()],
        sessions=sessions,
        new_request_id=_new_request_id,
        refused_link=pages.refused_link,
        untold_link=pages.untold_link,
        busy=pages.busy,
    )
    return own, admin_api, door


def _new_request_id() -> str:
    return f"req_{secrets.token_hex(12)}"


def _described_chats(path: str | None) -> tuple[JSONChat, ...]:
    """Return the home-grown chats that are described, which come before the built-in dialects.

    Raises ConfigurationError.
    """
    if path is None:
        return ()
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise ConfigurationError(f"CHATPROXY_JSON_CHATS = {path} is not a readable text file") from None
    return tuple(map(JSONChat, read_descriptions(text)))


async def _identification(settings: Settings, *, clock: Clock, background: Background) -> IdentifyCaller:
    """Return the way to tell who sends a request. Raises ConfigurationError."""
    if settings.identity == "jwt":
        keys = JWKSCache(
            settings.jwt_jwks_url or "",
            algorithms=settings.jwt_algorithms,
            clock=clock,
            refresh_seconds=settings.jwt_jwks_refresh,
            max_age_seconds=settings.jwt_jwks_max_age,
            ssl_context=_tls(settings.jwt_jwks_ca_file, "CHATPROXY_JWT_JWKS_CA_FILE"),
        )
        await keys.refresh()
        background.spawn(keys.watch(), name="jwks")
        return JWTIdentity(
            keys,
            issuer=Issuer(
                name=settings.jwt_issuer or "",
                audiences=frozenset(settings.jwt_audience or ()),
                leeway_ms=int(settings.jwt_leeway * 1000),
            ),
            names=ClaimNames(
                subject=settings.jwt_claim_subject,
                tenant=settings.jwt_claim_tenant,
                plan=settings.jwt_claim_plan,
                conversation=settings.jwt_claim_conversation,
                surface=settings.jwt_claim_surface,
                age=settings.jwt_claim_age,
                zdr=settings.jwt_claim_zdr,
            ),
            algorithms=frozenset(settings.jwt_algorithms),
            clock=clock,
            header=settings.jwt_header.encode(),
        )
    if settings.identity == "api_keys":
        api_keys = APIKeyFile(Path(settings.api_keys_file or ""))
        api_keys.load()
        background.spawn(api_keys.watch(), name="api-keys")
        return APIKeyIdentity(api_keys)
    return HeaderIdentity(trusted_proxies=settings.trusted_proxies, secrets=settings.identity_secret or ())


def _admin_tls(settings: Settings) -> ssl.SSLContext | None:
    """Return how the admin listener speaks TLS; None: it does not. Raises ConfigurationError."""
    certificate, key = settings.admin_tls_certificate, settings.admin_tls_key
    if certificate is None or key is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError):
        raise ConfigurationError(
            f"CHATPROXY_ADMIN_TLS_CERTIFICATE = {certificate} and CHATPROXY_ADMIN_TLS_KEY = {key} are not PEM files of a "
            "certificate and its key, without a passphrase, that this account can read"
        ) from None
    if settings.admin_client_ca is not None:
        try:
            context.load_verify_locations(settings.admin_client_ca)
        except (OSError, ssl.SSLError):
            raise ConfigurationError(
                f"CHATPROXY_ADMIN_CLIENT_CA = {settings.admin_client_ca} is not a readable PEM file of certificates"
            ) from None
        # Not required: probes have none, and a token does as well.
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def _tls(ca_file: str | None, setting: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError):
        raise ConfigurationError(
            f"{setting} = {ca_file} is not a readable PEM file of certificates"
        ) from None
