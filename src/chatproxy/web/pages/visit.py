"""Who visits, in which language, and what has the last step come to? What the pages have in common.

1. A page is asked for by GET and changes nothing. A form is sent by POST, with the token of its session, and answered
   by sending the browser to a page, so that a reload repeats nothing.
2. What a step came to is told once: its name travels in a cookie that only this site can set.
3. Who is not known is told so, and so is who asks for what is not theirs, in the same words as for what is not there.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from chatproxy.errors import (
    AccessRefusedError,
    AmbiguousIdentityError,
    AuditUnavailableError,
    ConflictError,
    NotFoundError,
    StoreUnavailableError,
    UndecryptableError,
)
from chatproxy.rates import TooOftenError
from chatproxy.web.pages.headers import PAGE_HEADERS
from chatproxy.web.pages.render import Templates
from chatproxy.web.pages.words import Language, Words, preferred_language
from chatproxy.web.person_session import (
    PREFIX,
    ForeignRequestError,
    NotIdentifiedError,
    PersonSession,
    PersonSessions,
)

_LANGUAGE_COOKIE = "chatproxy-language"
_DONE_COOKIE = "chatproxy-done"
_DONE_SECONDS = 60
_YEAR_SECONDS = 365 * 86_400
_LARGEST_FORM = 16_384
_TABS = (("choice", ""), *((name, name) for name in ("conversations", "history", "uses", "copy")))
_A_MOMENT_SECONDS = 120

Form = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Visit:
    """A request of a person who is known."""

    request: Request
    session: PersonSession
    words: Words


class BadFormError(Exception):
    """A form says what no form of these pages says."""


class Frame:
    """What is around every page: person, language, navigation, and the words for what goes wrong."""

    def __init__(
        self,
        templates: Templates,
        words: Mapping[Language, Words],
        sessions: PersonSessions,
    ) -> None:
        self._templates = templates
        self._words = words
        self._sessions = sessions

    def get(self, path: str, show: Callable[[Visit], Awaitable[Response]]) -> Route:
        """Return a route to a page."""

        async def endpoint(request: Request) -> Response:
            return self._remember_language(request, await self._answered(request, show))

        return Route(PREFIX + path, endpoint, methods=["GET"])

    def post(self, path: str, act: Callable[[Visit, Form], Awaitable[Response]]) -> Route:
        """Return a route to what a form does."""

        async def send(visit: Visit) -> Response:
            form = await _form(visit.request)
            self._sessions.require_own_request(visit.request, visit.session, token=form.get("token", ""))
            return await act(visit, form)

        async def endpoint(request: Request) -> Response:
            return await self._answered(request, send)

        return Route(PREFIX + path, endpoint, methods=["POST"])

    def page(self, visit: Visit, name: str, *, tab: str, status: int = 200, **context: Any) -> Response:
        """Answer with the template *name*, and with what the last step came to."""
        done = visit.request.cookies.get(_DONE_COOKIE, "")
        is_told = visit.words.knows(f"done.{done}")
        response = self._render(
            name,
            visit.words,
            visit.request,
            status=status,
            person=visit.session,
            tab=tab,
            done=visit.words.say(f"done.{done}") if is_told else None,
            **context,
        )
        if done:
            response.delete_cookie(_DONE_COOKIE, path=PREFIX)
        return response

    def go(self, path: str, *, done: str) -> Response:
        """Send the browser to a page, which tells what is *done*."""
        response = RedirectResponse(PREFIX + path, status_code=303, headers=dict(PAGE_HEADERS))
        response.set_cookie(
            _DONE_COOKIE, done, max_age=_DONE_SECONDS, path=PREFIX, httponly=True, samesite="strict"
        )
        return response

    def missing(self, request: Request) -> Response:
        """Answer that there is no such page."""
        return self._problem(request, None, "missing", 404)

    def who(self, request: Request) -> Response:
        """Answer somebody who is not known, or whose link does not count any more."""
        words = self._language(request, None)
        return self._message(
            request,
            words,
            words.say("who.heading"),
            [words.say("who.text"), words.say("who.action")],
            status=401,
        )

    def unavailable(self, request: Request) -> Response:
        """Answer that what is asked for cannot be read just now."""
        return self._problem(request, None, "unavailable", 503)

    def busy(self, request: Request, error: TooOftenError) -> Response:
        """Answer who asks too often."""
        name = "busy" if error.retry_after <= _A_MOMENT_SECONDS else "too_often"
        response = self._problem(request, None, name, 429)
        response.headers["retry-after"] = str(error.retry_after)
        return response

    async def _answered(self, request: Request, answer: Callable[[Visit], Awaitable[Response]]) -> Response:
        session = None
        try:
            session = await self._sessions.identify_person(request)
            return await answer(Visit(request, session, self._language(request, session)))
        except TooOftenError as error:
            return self.busy(request, error)
        except (NotIdentifiedError, AmbiguousIdentityError):
            return self.who(request)
        except (BadFormError, ForeignRequestError):
            return self._problem(request, session, "form", 403)
        except (NotFoundError, AccessRefusedError):
            return self._problem(request, session, "missing", 404)
        except ConflictError:
            return self._problem(request, session, "choice", 409)
        except (StoreUnavailableError, UndecryptableError, AuditUnavailableError):
            return self._problem(request, session, "unavailable", 503)

    def _problem(self, request: Request, session: PersonSession | None, name: str, status: int) -> Response:
        words = self._language(request, session)
        return self._message(
            request,
            words,
            words.say("problem.heading"),
            [words.say(f"problem.{name}")],
            status=status,
            again=True,
        )

    def _message(
        self,
        request: Request,
        words: Words,
        heading: Markup,
        paragraphs: Sequence[Markup],
        *,
        status: int,
        again: bool = False,
    ) -> Response:
        return self._render(
            "message.html",
            words,
            request,
            status=status,
            person=None,
            tab=None,
            done=None,
            heading=heading,
            paragraphs=paragraphs,
            again=again,
        )

    def _render(
        self, name: str, words: Words, request: Request, *, status: int = 200, **context: Any
    ) -> Response:
        page = request.query_params.get("page", "")
        return self._templates.render(
            name,
            words,
            status=status,
            tabs=_TABS,
            keep_query=f"page={page}&" if page.isdecimal() else "",
            **context,
        )

    def _language(self, request: Request, session: PersonSession | None) -> Words:
        return self._words[
            preferred_language(
                request.query_params.get("lang"),
                request.cookies.get(_LANGUAGE_COOKIE),
                session.language if session else None,
                accept=request.headers.get("accept-language", ""),
            )
        ]

    def _remember_language(self, request: Request, response: Response) -> Response:
        asked = request.query_params.get("lang")
        if asked in set(Language):
            response.set_cookie(
                _LANGUAGE_COOKIE,
                asked,
                max_age=_YEAR_SECONDS,
                path=PREFIX,
                httponly=True,
                samesite="lax",
            )
        return response


async def _form(request: Request) -> Form:
    """Read a form. Raises BadFormError for what is none, or is larger than any of these pages."""
    if (
        request.headers.get("content-type", "").partition(";")[0].strip()
        != "application/x-www-form-urlencoded"
    ):
        raise BadFormError
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LARGEST_FORM:
            raise BadFormError
    try:
        return dict(parse_qsl(body.decode("ascii"), keep_blank_values=True, strict_parsing=True))
    except ValueError:
        raise BadFormError from None
