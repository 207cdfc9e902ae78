"""What the company's own servers may ask for, on the admin listener, in the roles that they have there.

A person's id stands in bodies alone, never in a URL, where it would be logged: ``subjects`` gives the pseudonym that
everything else goes by.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

import msgspec
from starlette.requests import Request
from starlette.routing import Route

from chatproxy.consent.events import Choice, Circumstances, ShownNotice
from chatproxy.consent.notices import Terms
from chatproxy.errors import ConflictError, NotFoundError, UndecryptableError
from chatproxy.identities.operators import Operator
from chatproxy.model import Age, SubjectTag, Surface
from chatproxy.policy.instants import format_instant, parse_instant
from chatproxy.ports import AuditLog
from chatproxy.unshown import Unshown
from chatproxy.web.api import forms, problems
from chatproxy.web.api.describe import describe, description_route
from chatproxy.web.api.of_subject import SubjectOperations
from chatproxy.web.api.operation import API, LINES_TYPE, Call, Operation, Query, require_type
from chatproxy.web.api.problems import RefusedError
from chatproxy.web.operator_door import OperatorDoor
from chatproxy.web.person_session import PersonSessions
from chatproxy.web.rights import may, roles_for
from chatproxy.workflows.import_choices import IMPORTED_BY, ChoiceImport, ForeignRecord
from chatproxy.workflows.person import PersonDesk

BASE = "/api/v1"
DESCRIPTION = "/api/openapi.json"
METHOD = "admin_api"
READ = "admin.read"
"""What the audit log calls it when somebody reads what is held of people."""
PERSON = "/subjects/{subject}"
_TAG = re.compile(r"[0-9a-f]{32}")
_LONGEST_LINE = 16 << 10
_MOST_LINES = 100_000
_MOST_PROBLEMS = 1_000
_PATH_NAMES = {
    "subject": "The pseudonym of a person, as `subjects` gives it.",
    "turn": "The handle of a turn, as X-Chat-Turn gives it.",
    "handle": "The handle of a conversation.",
    "receipt_id": "The name of a receipt, as `choice` and `history` give it.",
}
_SECURITY = {
    "token": {"type": "http", "scheme": "bearer", "description": "One of CHATPROXY_ADMIN_TOKEN."},
    "certificate": {"type": "mutualTLS", "description": "One of CHATPROXY_ADMIN_CLIENTS."},
}

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]


class NamedPerson(Unshown, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A person, by the company's own id, as the identity layer sends it."""

    subject: _Name
    tenant: _Name = "default"


class Pseudonym(msgspec.Struct, frozen=True, kw_only=True):
    """The name of a person here: the same for ever, whether or not anything is held of them."""

    subject: str


class LinkFor(Unshown, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whom a link is for, and what is to hold in the session that it begins."""

    subject: _Name
    tenant: _Name = "default"
    plan: _Name | None = None
    age: Age = Age.UNKNOWN
    language: forms.Language | None = None


class Link(Unshown, frozen=True, kw_only=True):
    """A signed link to a person's pages. Whoever has it is that person, so it goes to nobody else."""

    url: str
    """A path where CHATPROXY_PUBLIC_URL is not set."""
    expires_at: str


class CompanyChoice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A choice that a person has made with the company just now, such as at sign-up."""

    choice: forms.Answer
    method: forms.Label
    """Such as ``signup:button:yes``; never how long it took."""
    screen: forms.Screen
    language: forms.Language
    """Of the notice that was shown."""
    plan: _Name | None = None
    age: Age = Age.UNKNOWN
    gpc: bool = False
    purposes: forms.Purposes = tuple(forms.Purpose)
    surfaces: forms.Surfaces = tuple(forms.ChosenSurface)


_IMPORTED = (Choice.GIVEN, Choice.REFUSED, Choice.WITHDRAWN, Choice.DEFERRED)


class ImportLine(Unshown, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A choice about the account that is on record elsewhere."""

    source_id: _Name
    """Its name there, by which it is known again."""
    subject: _Name
    tenant: _Name = "default"
    state: Choice
    at: str
    """When it was made, RFC 3339."""
    method: forms.Label = "import"
    policy_version: str | None = None
    """One of the versions of the settings; left out: not known."""
    notice_sha256: forms.Digest | None = None
    language: forms.Language | None = None
    screen: forms.Screen | None = None
    plan: _Name | None = None
    age: Age = Age.UNKNOWN
    gpc: bool = False
    purposes: forms.Purposes = tuple(forms.Purpose)
    surfaces: forms.Surfaces = tuple(forms.ChosenSurface)


class ImportProblem(msgspec.Struct, frozen=True, kw_only=True):
    """A line that was not recorded, from 1 on, and why."""

    line: int
    problem: str


class ImportAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What became of each line, or would."""

    dry_run: bool
    lines: int
    recorded: int
    known: int
    """They were on record already."""
    refused: int
    problems: tuple[ImportProblem, ...]
    """At most 1000 of them."""


class AdminAPI:
    """The operations, and what they work with."""

    def __init__(
        self,
        desk: PersonDesk,
        sessions: PersonSessions,
        terms: Terms,
        *,
        subject_tag: Callable[[str, str], SubjectTag],
        new_import: Callable[[bool], ChoiceImport],
        door: OperatorDoor,
        audit: AuditLog,
        new_request_id: Callable[[], str],
        more: Sequence[Operation[Operator]] = (),
    ) -> None:
        """``subject_tag``: the pseudonym of (tenant, subject). ``new_import``: one, dry or not. ``more``: of others."""
        self._desk = desk
        self._sessions = sessions
        self._terms = terms
        self._subject_tag = subject_tag
        self._new_import = new_import
        self._of_subject = of_subject(desk)
        self._door = door
        self._audit = audit
        self.api = API(
            [self._audited(operation) for operation in (*self._operations(), *more)],
            base=BASE,
            authenticate=self._authenticate,
            new_request_id=new_request_id,
        )

    def description(self) -> dict[str, Any]:
        """Return the API as OpenAPI."""
        return describe(
            self.api.operations,
            base=BASE,
            title="chatproxy: for the company's servers",
            about="People's choices and what happens to what is kept of them, read and recorded by the company, "
            "and links to people's own pages.",
            security=_SECURITY,
            path_names=_PATH_NAMES,
        )

    def routes(self) -> list[Route]:
        """Return the routes of the admin listener."""
        return [description_route(DESCRIPTION, self.description()), *self.api.routes()]

    def _operations(self) -> list[Operation[Operator]]:
        return [
            Operation(
                name="postSubject",
                method="POST",
                path="/subjects",
                about="The pseudonym of a person, which is the same for ever. Nothing is recorded.",
                handler=self._pseudonym,
                takes=NamedPerson,
                gives=Pseudonym,
            ),
            Operation(
                name="postLink",
                method="POST",
                path="/links",
                about="A signed link to a person's own pages.",
                handler=self._link,
                takes=LinkFor,
                gives=Link,
            ),
            *self._of_subject.of_choice(
                Operation(
                    name="putChoice",
                    method="PUT",
                    path=PERSON + "/choice",
                    about="Record a choice that the person has made with the company just now.",
                    handler=self._choose,
                    takes=CompanyChoice,
                    gives=forms.RecordedChoice,
                    fails=(409,),
                ),
            ),
            Operation(
                name="deleteAccount",
                method="DELETE",
                path=PERSON + "/account",
                about="Delete all conversations of a person and withdraw what they agreed to.",
                handler=self._delete_account,
                gives=forms.Deleted,
            ),
            Operation(
                name="importChoices",
                method="POST",
                path="/import",
                about="Take over choices that are on record elsewhere, a line each; again is as good as once.",
                handler=self._import,
                takes=ImportLine,
                are_lines=True,
                gives=ImportAnswer,
                queries=(
                    Query("dry_run", "true: say what would become of each line, and write nothing.", bool),
                ),
            ),
        ]

    async def _authenticate(self, request: Request, operation: Operation[Operator]) -> Operator:
        if not self._door.is_anybody_known:
            raise RefusedError(problems.DISABLED, "set CHATPROXY_ADMIN_TOKEN to enable it")
        operator = self._door.operator_of(request)
        if operator is None:
            raise RefusedError(
                problems.UNAUTHENTICATED,
                "send Authorization: Bearer and a token of CHATPROXY_ADMIN_TOKEN, or come with a certificate that "
                "CHATPROXY_ADMIN_CLIENTS names",
                {"www-authenticate": "Bearer"},
            )
        if not may(operator, operation.name):
            raise RefusedError(problems.NO_RIGHT, f"this needs the role {roles_for(operation.name)}")
        return operator

    def _audited(self, operation: Operation[Operator]) -> Operation[Operator]:
        """Return *operation*; one that reads of people is in the audit log before it is done, as what changes is."""
        if operation.changes_something:
            return operation

        async def read(call: Call[Operator]) -> Any:
            of_whom = {"subject": subject_of(call).hex()} if "subject" in call.path else {}
            await self._write_down(call, READ, {"what": operation.name, **of_whom})
            return await operation.handler(call)

        return replace(operation, handler=read)

    async def _pseudonym(self, call: Call[Operator]) -> Pseudonym:
        return Pseudonym(subject=self._subject_tag(call.body.tenant, call.body.subject).hex())

    async def _link(self, call: Call[Operator]) -> Link:
        wanted: LinkFor = call.body
        subject = self._subject_tag(wanted.tenant, wanted.subject)
        # Whoever has the link is that person, so who made one must be known.
        await self._write_down(call, "link.make", {"subject": subject.hex()})
        url, until = self._sessions.new_link(
            subject,
            plan=wanted.plan.lower() if wanted.plan else None,
            age=wanted.age,
            language=wanted.language,
        )
        return Link(url=url, expires_at=format_instant(until))

    async def _choose(self, call: Call[Operator]) -> forms.RecordedChoice:
        given: CompanyChoice = call.body
        plan = given.plan.lower() if given.plan else None
        return await self._of_subject.choose(call, plan=plan, age=given.age, gpc=given.gpc)

    async def _delete_account(self, call: Call[Operator]) -> forms.Deleted:
        desk = self._desk.audited_as(call.who.audited_as)
        deletion = await desk.delete_account(subject_of(call), by=IMPORTED_BY, method=METHOD)
        return forms.deleted(deletion)

    async def _import(self, call: Call[Operator]) -> ImportAnswer:
        require_type(call.request, LINES_TYPE)
        wish = call.query.get("dry_run", "false")
        if wish not in {"true", "false"}:
            raise RefusedError(problems.BAD_REQUEST, "dry_run must be true or false")
        taking = self._new_import(wish == "true")
        if wish == "false":
            await self._write_down(call, "choices.import", {})
        found: list[ImportProblem] = []
        counts = {True: 0, False: 0}
        number = refused = 0
        async for line in _lines(call.request):
            number += 1
            if number > _MOST_LINES:
                raise RefusedError(
                    problems.TOO_LARGE, f"it may have {_MOST_LINES} lines; those before it were taken"
                )
            try:
                counts[await taking.take(self._record(line))] += 1
            except (ConflictError, UndecryptableError, ValueError) as error:
                refused += 1
                if len(found) < _MOST_PROBLEMS:
                    found.append(ImportProblem(line=number, problem=str(error)))
        if wish == "false":
            told = {"recorded": counts[True], "known": counts[False], "refused": refused}
            await self._write_down(call, "choices.imported", told)
        return ImportAnswer(
            dry_run=wish == "true",
            lines=number,
            recorded=counts[True],
            known=counts[False],
            refused=refused,
            problems=tuple(found),
        )

    async def _write_down(
        self, call: Call[Operator], action: str, details: Mapping[str, str | int | bool]
    ) -> None:
        """Write to the audit log, off the loop: it waits for the disk. Raises AuditUnavailableError."""
        await asyncio.to_thread(self._audit.append, action, details, by=call.who.audited_as)

    def _record(self, line: bytes) -> ForeignRecord:
        """Read one line. Raises ValueError that says what is wrong with it."""
        if len(line) > _LONGEST_LINE:
            raise ValueError(f"it is longer than {_LONGEST_LINE} bytes")
        try:
            found = msgspec.json.decode(line, type=ImportLine)
        except msgspec.ValidationError as error:
            raise ValueError(str(error)) from None
        except (msgspec.DecodeError, RecursionError):
            raise ValueError("it is not JSON") from None
        if found.state not in _IMPORTED:
            raise ValueError("state must be one of: " + ", ".join(_IMPORTED))
        try:
            at = parse_instant(found.at)
        except ValueError as error:
            raise ValueError(f"at {error}") from None
        version = None
        if found.policy_version is not None:
            version = next((v for v in self._terms.versions if v.version == found.policy_version), None)
            if version is None:
                raise ValueError("policy_version is none of the settings' versions")
        notice = None
        if found.notice_sha256 is not None and found.language is not None and found.screen is not None:
            notice = ShownNotice(sha256=found.notice_sha256, language=found.language, screen=found.screen)
        return ForeignRecord(
            source_id=found.source_id,
            subject=self._subject_tag(found.tenant, found.subject),
            choice=found.state,
            at=at,
            method=found.method,
            purposes=tuple(map(str, found.purposes)),
            surfaces=tuple(Surface(surface) for surface in found.surfaces),
            circumstances=Circumstances(
                policy=version,
                notice=notice,
                plan=found.plan.lower() if found.plan else None,
                age=found.age,
                gpc=found.gpc,
            ),
        )


def subject_of(call: Call[Operator]) -> SubjectTag:
    """Return whom a path names. Raises NotFoundError."""
    name = call.path["subject"]
    if not _TAG.fullmatch(name):
        raise NotFoundError("a person is named by the pseudonym that `subjects` gives")
    return SubjectTag(bytes.fromhex(name))


def of_subject(desk: PersonDesk) -> SubjectOperations[Operator]:
    """Return the operations about one person, who is named in the path."""
    return SubjectOperations(
        lambda call: desk.audited_as(call.who.audited_as),
        path=PERSON,
        subject_of=subject_of,
        by=IMPORTED_BY,
        method=METHOD,
    )


async def _lines(request: Request) -> AsyncIterator[bytes]:
    """Yield the lines of a body that are not empty, without holding more than one."""
    rest = bytearray()
    async for piece in request.stream():
        rest += piece
        *lines, last = rest.split(b"\n")
        for line in lines:
            if line.strip():
                yield bytes(line)
        rest = last
        if len(rest) > _LONGEST_LINE:
            raise RefusedError(problems.TOO_LARGE, f"a line may have {_LONGEST_LINE} bytes")
    if rest.strip():
        yield bytes(rest)
