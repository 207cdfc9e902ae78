"""What does the choice page say: where does the person stand, which answers are there, and what would each do?

1. The answers stand side by side and are alike; none is chosen beforehand (R8, R39).
2. Each is one click from the page, a withdrawal as well as a yes.
3. What a yes or a no would do is what the policy computed, not what the notice promises.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from chatproxy.consent.due import ChoiceDue, DueState
from chatproxy.consent.events import Choice
from chatproxy.consent.notices import Notice
from chatproxy.web.pages.words import Words
from chatproxy.workflows.person_preview import Previews
from chatproxy.workflows.person_views import Standing

ANSWERS = ("yes", "no", "later")
CHOICES = {"yes": Choice.GIVEN, "no": Choice.REFUSED, "later": Choice.DEFERRED}
"""What is recorded for each answer; a no over a yes withdraws it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: what it means, what it would do, and the button that gives it."""

    name: str
    heading: Markup
    meaning: str
    preview: tuple[Markup, ...]
    label: str
    is_standing: bool
    """It stands already, so there is no button."""
    language: str | None
    """Of ``meaning`` and ``label``, where the notice has them in another language than the page."""


def standing_sentences(standing: Standing, due: ChoiceDue, words: Words) -> Iterator[Markup]:
    """Yield where the person stands, and by when they may choose."""
    yield _stands(standing, words)
    if due.state is DueState.OVERDUE and due.until is not None:
        yield words.say("standing.overdue", deadline=words.moment(due.until))
    elif due.state is not DueState.SETTLED and standing.has_yes:
        yield words.say("standing.asked_again")
    if due.may_defer and due.until is not None:
        yield words.say("standing.until", deadline=words.moment(due.until))


def nothing_to_choose(standing: Standing, words: Words) -> Iterator[Markup]:
    """Yield why there is nothing to choose, and what was chosen before."""
    yield words.say("standing.exempt")
    if standing.since is not None:
        yield _stands(standing, words)


def answers(
    notice: Notice,
    standing: Standing,
    due: ChoiceDue,
    previews: Previews,
    words: Words,
    *,
    order: Sequence[str] = ANSWERS,
) -> list[Answer]:
    """Return the answers in the *order* that the screen declares; "later" only while it is one."""
    is_settled = due.state is DueState.SETTLED
    standing_yes = is_settled and standing.has_yes
    standing_no = is_settled and standing.choice in {Choice.REFUSED, Choice.WITHDRAWN}
    language = notice.language if notice.language != words.language else None
    found = {
        "yes": Answer(
            "yes",
            words.say("choice.if_yes"),
            notice.if_yes,
            tuple(_if_yes(previews, words)),
            notice.yes,
            standing_yes,
            language,
        ),
        "no": Answer(
            "no",
            words.say("choice.if_no"),
            notice.if_no,
            tuple(_if_no(previews, words)),
            words.say("choice.withdraw") if standing_yes else notice.no,
            standing_no,
            language,
        ),
    }
    if due.may_defer:
        found["later"] = Answer(
            "later",
            words.say("choice.if_later"),
            words.say("choice.later"),
            (),
            notice.later,
            is_standing=False,
            language=language,
        )
    return [found[name] for name in order if name in found]


def _stands(standing: Standing, words: Words) -> Markup:
    if standing.since is None:
        return words.say("standing.unknown")
    return words.say(f"standing.{standing.choice or 'unrecognised'}", at=words.moment(standing.since))


def _if_yes(previews: Previews, words: Words) -> Iterator[Markup]:
    coming = previews.next_turn
    yield _coming(coming.if_yes_expires_at, words, is_used=coming.if_yes_eligible)
    if previews.eligible_if_yes:
        yield words.count("preview.used", previews.eligible_if_yes)
    continued = [
        each.if_continued_expires_at
        for each in previews.conversations
        if each.if_continued_eligible
        and not each.if_yes_eligible
        and each.if_continued_expires_at is not None
    ]
    if continued:
        yield words.count("preview.continued", len(continued), until=words.day(max(continued)))


def _if_no(previews: Previews, words: Words) -> Iterator[Markup]:
    yield _coming(previews.next_turn.if_no_expires_at, words, is_used=False)
    if previews.eligible_now:
        yield words.count("preview.ended", previews.eligible_now)
    kept = [each.if_no_expires_at for each in previews.conversations if each.if_no_expires_at is not None]
    if kept:
        yield words.count("preview.kept", len(kept), until=words.day(max(kept)))
    if previews.gone_if_no:
        yield words.count("preview.gone", previews.gone_if_no)


def _coming(expires_at: int | None, words: Words, *, is_used: bool) -> Markup:
    if expires_at is None:
        return words.say("preview.next_gone")
    return words.say("preview.next_used" if is_used else "preview.next_unused", until=words.day(expires_at))
