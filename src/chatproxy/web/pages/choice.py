"""The page of the choice, at the front door: where the person stands, what each answer means, and one click for it."""

from starlette.responses import Response
from starlette.routing import Route

from chatproxy.consent.due import ChoiceDue
from chatproxy.consent.events import DATA_SUBJECT
from chatproxy.consent.notices import Notice, Terms
from chatproxy.errors import ConflictError
from chatproxy.web.pages.choice_words import (
    ANSWERS,
    CHOICES,
    answers,
    nothing_to_choose,
    standing_sentences,
)
from chatproxy.web.pages.visit import BadFormError, Form, Frame, Visit
from chatproxy.workflows.person import PersonDesk

SCREEN = "page"
_MOST_LISTED = 20
"""Conversations that are listed one by one; the page of conversations has all of them."""


class ChoicePage:
    """Shows the choice and takes it."""

    def __init__(
        self,
        desk: PersonDesk,
        terms: Terms,
        frame: Frame,
    ) -> None:
        self._desk = desk
        self._terms = terms
        self._frame = frame

    def routes(self) -> list[Route]:
        """Return where the page is and where its forms go."""
        return [self._frame.get("", self._show), self._frame.post("choice", self._choose)]

    async def _show(self, visit: Visit) -> Response:
        subject = visit.session.subject
        standing = await self._desk.standing(subject)
        due = standing.due
        previews = await self._desk.preview(subject, plan=visit.session.plan, age=visit.session.age)
        notice = self._notice(due, visit)
        order = self._terms.screens.get(SCREEN, ANSWERS)
        return self._frame.page(
            visit,
            "choice.html",
            tab="choice",
            notice=notice,
            standing=list(
                standing_sentences(standing, due, visit.words)
                if visit.session.can_manage
                else nothing_to_choose(standing, visit.words)
            ),
            answers=answers(notice, standing, due, previews, visit.words, order=order)
            if notice and visit.session.can_manage
            else [],
            may_withdraw=standing.has_yes,
            previews=previews.conversations[:_MOST_LISTED],
            are_more=len(previews.conversations) > _MOST_LISTED,
        )

    async def _choose(self, visit: Visit, form: Form) -> Response:
        name = form.get("choice", "")
        if name not in CHOICES:
            raise BadFormError
        subject = visit.session.subject
        standing = await self._desk.standing(subject)
        had_yes = standing.has_yes
        notice = self._notice(standing.due, visit)
        if name != "no" and (notice is None or not visit.session.can_manage):
            raise ConflictError("there is nothing that could be agreed to")
        if name != "no" and notice is not None and form.get("notice") != notice.sha256:
            # What was read is what is recorded: a choice about other words is none.
            raise BadFormError
        await self._desk.choose(
            subject,
            CHOICES[name],
            by=DATA_SUBJECT,
            method=f"button:{name}",
            language=visit.words.language,
            screen=SCREEN,
            plan=visit.session.plan,
            age=visit.session.age,
            gpc=visit.session.gpc,
        )
        return self._frame.go("", done="withdrawn" if had_yes and name == "no" else name)

    def _notice(self, due: ChoiceDue, visit: Visit) -> Notice | None:
        if due.version is None:
            return None
        return self._terms.notice(due.version.version, visit.words.language)
