"""Which person asks, and did they mean to? For their own pages and the API behind them.

1. Who a person is, is said by what says it for chats (``chatproxy.identity``); or by a session, which a signed link
   begins. Where both speak, identity counts.
2. A link and a session are tickets: they name the person by pseudonym, end by themselves, and neither is the other.
3. What changes something must come from the person's own pages. Identity may rest on a cookie of the front's, which a
   foreign page sends along too, so the browser must say that the request is ours (``Sec-Fetch-Site``, ``Origin``), or
   say nothing, as programs do. In a session it must say so, and a token must come with it that a foreign page does not
   know.
4. Nobody asks too often: who is known is counted by pseudonym, and who is not by address, so that guessing is slow and
   a front that many people come through is no one's limit.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import msgspec
from starlette.requests import HTTPConnection, Request
from starlette.responses import RedirectResponse, Response

from chatproxy.clock import Clock
from chatproxy.crypto.keys import PseudonymKey
from chatproxy.crypto.primitives import are_equal
from chatproxy.crypto.tickets import Tickets
from chatproxy.errors import AmbiguousIdentityError, ChatproxyError, UndecryptableError
from chatproxy.identity import IdentifyCaller
from chatproxy.model import Age, SubjectTag
from chatproxy.rates import Buckets, TooOftenError
from chatproxy.telemetry import Metrics
from chatproxy.web.client_address import Network, client_network

PREFIX = "/_chatproxy/"
COOKIE = "chatproxy_session"
LINK_PARAMETER = "link"
TOKEN_HEADER = "x-chat-csrf"  # noqa: S105 - a name, not a token


class NotIdentifiedError(ChatproxyError):
    """Nobody has said who asks, or nobody who is believed."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How often may be asked, by each person and from each address."""

    people: Buckets[SubjectTag]
    addresses: Buckets[str]
    trusted: Sequence[Network] = ()
    """Fronts, which say where a request of nobody's comes from."""


class ForeignRequestError(ChatproxyError):
    """A change was asked for by a page that is not the person's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonSession:
    """Who asks."""

    subject: SubjectTag
    plan: str | None
    age: Age
    gpc: bool
    csrf: str
    """The token that must come back with what changes something."""
    can_manage: bool
    """Whether there is a choice to make: not on an exempt plan, and not for a minor. Reading and deleting always are.
    """
    is_by_cookie: bool
    language: str | None = None
    """The one that the link was made for."""


class _Ticket(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a link or a session says. The instant in ms."""

    subject: str
    until: int
    plan: str | None = None
    age: Age = Age.UNKNOWN
    language: str | None = None


class PersonSessions:
    """Tells which person asks, makes links, and begins sessions."""

    def __init__(
        self,
        identify: IdentifyCaller,
        subject_tag: Callable[[str, str], SubjectTag],
        key: Callable[[], PseudonymKey],
        *,
        clock: Clock,
        metrics: Metrics,
        exempt_plans: Iterable[str],
        public_url: str | None,
        origins: Iterable[str],
        link_seconds: float,
        session_seconds: float,
        limits: Limits,
    ) -> None:
        """``subject_tag``: the pseudonym of (tenant, subject). ``public_url`` and ``origins``: as ``Origin`` has them.

        ``key`` is asked each time, and raises StoreUnavailableError as long as the key is not known.
        """
        self._identify = identify
        self._subject_tag = subject_tag
        self._key = key
        self._clock = clock
        self._metrics = metrics
        self._exempt_plans = frozenset(exempt_plans)
        self._public_url = public_url
        self._origins = frozenset(origins)
        self._limits = limits
        self._link_ms = int(link_seconds * 1000)
        self._session_ms = int(session_seconds * 1000)

    @property
    def _links(self) -> Tickets:
        return Tickets(self._key(), use=b"link")

    @property
    def _sessions(self) -> Tickets:
        return Tickets(self._key(), use=b"session")

    async def identify_person(self, request: HTTPConnection) -> PersonSession:
        """Return who asks.

        Raises NotIdentifiedError, AmbiguousIdentityError, TooOftenError, StoreUnavailableError.
        """
        try:
            session = self._known(request)
        except (NotIdentifiedError, AmbiguousIdentityError):
            self._count_address(request)
            raise
        if wait := self._limits.people.take(session.subject, now=self._clock()):
            self._metrics.rate_limited.labels("person").inc()
            raise TooOftenError(wait)
        return session

    def _count_address(self, request: HTTPConnection) -> None:
        address = client_network(request, self._limits.trusted)
        if wait := self._limits.addresses.take(address, now=self._clock()):
            self._metrics.rate_limited.labels("address").inc()
            raise TooOftenError(wait)

    def _known(self, request: HTTPConnection) -> PersonSession:
        client = request.client
        identified = self._identify(request.headers.raw, client.host if client else None)
        if identified.rejected:
            self._metrics.identity_rejected.labels(identified.rejected).inc()
        caller = identified.caller
        if caller.subject is not None:
            subject = self._subject_tag(caller.tenant, caller.subject)
            return PersonSession(
                subject=subject,
                plan=caller.plan,
                age=caller.age,
                gpc=caller.gpc,
                csrf=self._sessions.countersign(subject),
                can_manage=not caller.zdr and self._can_manage(caller.plan, caller.age),
                is_by_cookie=False,
            )
        cookie = request.cookies.get(COOKIE)
        ticket = self._take(self._sessions, cookie) if cookie else None
        if cookie is None or ticket is None:
            raise NotIdentifiedError(
                "nobody is signed in: come through the chat that you use, or by a new link from it"
            )
        subject = SubjectTag(bytes.fromhex(ticket.subject))
        return PersonSession(
            subject=subject,
            plan=ticket.plan,
            age=ticket.age,
            gpc=caller.gpc,
            csrf=self._sessions.countersign(subject, cookie.encode()),
            can_manage=self._can_manage(ticket.plan, ticket.age),
            is_by_cookie=True,
            language=ticket.language,
        )

    def require_own_request(
        self, request: HTTPConnection, session: PersonSession, *, token: str | None
    ) -> None:
        """Raise ForeignRequestError unless a change was asked for by the person's own page, or by a program.

        ``token``: what came as ``csrf``, if anything. One that came must be right, in a session one must come.
        """
        origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
        if token is not None or session.is_by_cookie:
            given = (token or "").encode("utf-8", "replace")
            if not are_equal(given, session.csrf.encode()):
                raise ForeignRequestError("the page is out of date, or not of this chat; load it again")
        if site == "same-origin" or (site is None and origin is not None and self._is_own(request, origin)):
            return
        if not session.is_by_cookie and (origin in self._origins or (site is None and origin is None)):
            return
        raise ForeignRequestError("a page of another site has asked for this; nothing was changed")

    def new_link(
        self, subject: SubjectTag, *, plan: str | None, age: Age, language: str | None
    ) -> tuple[str, int]:
        """Return a signed link to a person's pages, and until when it counts (ms)."""
        until = self._clock() + self._link_ms
        ticket = _Ticket(subject=subject.hex(), until=until, plan=plan, age=age, language=language)
        link = self._links.issue(msgspec.json.encode(ticket))
        return f"{self._public_url or ''}{PREFIX}?{LINK_PARAMETER}={link}", until

    def begin(self, request: Request) -> Response | None:
        """Begin the session that a link stands for; None: the link does not count, or there is none.

        The answer leads to the pages without the link, so that it stays in no history and is sent nowhere. Raises
        StoreUnavailableError where that cannot be told yet, and TooOftenError.
        """
        self._count_address(request)
        ticket = self._take(self._links, request.query_params.get(LINK_PARAMETER, ""))
        if ticket is None:
            return None
        session = msgspec.structs.replace(ticket, until=self._clock() + self._session_ms)
        answer = RedirectResponse(
            PREFIX, status_code=303, headers={"cache-control": "no-store", "referrer-policy": "no-referrer"}
        )
        answer.set_cookie(
            COOKIE,
            self._sessions.issue(msgspec.json.encode(session)),
            max_age=self._session_ms // 1000,
            path=PREFIX,
            secure=(self._public_url or "").startswith("https:"),
            httponly=True,
            samesite="lax",  # strict would keep it from who follows the link on a page of another site
        )
        return answer

    def allows_origin(self, origin: str | None) -> bool:
        """Return whether pages of *origin* may use the API from a browser."""
        return origin in self._origins

    def _can_manage(self, plan: str | None, age: Age) -> bool:
        return plan not in self._exempt_plans and age is not Age.MINOR

    def _is_own(self, request: HTTPConnection, origin: str) -> bool:
        """Whether *origin* is where this request went. Behind a front that ends TLS the scheme is not known."""
        return origin == self._public_url or urlsplit(origin).netloc == request.headers.get("host", "")

    def _take(self, tickets: Tickets, ticket: str) -> _Ticket | None:
        try:
            found = msgspec.json.decode(tickets.open(ticket), type=_Ticket)
        except UndecryptableError:
            return None
        return found if self._clock() < found.until else None
