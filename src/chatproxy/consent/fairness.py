"""Is a question put fairly? What can be told from the words and the layout that a company declares (R39, R8).

1. Yes and no stand side by side, look alike, take as many steps, and neither is chosen beforehand. "Later" comes after
   both, looks no different, and is never there without a no.
2. One button decides one thing: agreeing to terms is never part of agreeing to training.
3. The question and the yes say what is done, without a negation; the no has one at most. So nobody has to work out
   which answer keeps their conversations out of training.

What the words mean can be told only in English and French. The rest is for a person to read.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

CHOICES = ("yes", "no", "later")
TRAINING = "training"


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """One button of a screen, as the company declares it."""

    choice: str
    """One of ``CHOICES``."""
    steps: int = 1
    """Clicks or taps from seeing the question until this is chosen."""
    size: str = "normal"
    """The company's own word; what counts is that it is the same for all."""
    contrast: str = "normal"
    """As ``size``."""
    preselected: bool = False
    accepts: tuple[str, ...] = (TRAINING,)
    """What else is accepted by the same button."""


def unfair_layout(controls: Sequence[Control]) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the buttons of one screen, in their order: a field, and why and what to do."""
    order = [control.choice for control in controls]
    by_choice = {control.choice: control for control in controls}
    if len(by_choice) < len(order):
        yield "choice", "names one choice twice; give each of yes, no and later one button"
    if missing := [choice for choice in ("yes", "no") if choice not in by_choice]:
        yield (
            "choice",
            f"has no button for {' and '.join(missing)}: who is asked must be able to say yes and to say no; add it",
        )
        return
    if set(order[:2]) != {"yes", "no"}:
        yield "choice", "puts later before or between yes and no; put yes and no first, side by side"
    for name in ("size", "contrast"):
        if len({getattr(control, name) for control in controls}) > 1:
            yield name, "is not the same for every button, which pushes people to one; make them alike"
    if by_choice["no"].steps > by_choice["yes"].steps:
        yield "steps", "are more for no than for yes; refusing must be as short as agreeing"
    for control in controls:
        if control.preselected:
            yield (
                "preselected",
                f"is true for {control.choice}; nothing may be chosen before the person does",
            )
        if others := [thing for thing in control.accepts if thing != TRAINING]:
            yield (
                "accepts",
                f"couples {control.choice} with {', '.join(others)}; ask for that apart, and leave {TRAINING} alone here",
            )


@dataclass(frozen=True, slots=True)
class _Words:
    negations: re.Pattern[str]
    answer: re.Pattern[str]
    """A yes or no at the beginning, which is the answer itself and negates nothing."""
    terms: re.Pattern[str]


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{text})\b", re.IGNORECASE)


_BY_LANGUAGE: Mapping[str, _Words] = {
    "en": _Words(
        negations=_pattern(
            r"no|not|never|none|without|cannot|\w+n't|opt(?:s|ed|ing)?[ -]?out|object(?:s|ing)? to|refus\w+|declin\w+|"
            r"disabl\w+|stop\w*|prevent\w*|exclud\w+|withhold\w*|forbid\w*"
        ),
        answer=re.compile(r"(?:yes|no)\b[\s,.:;!–—-]*", re.IGNORECASE),  # noqa: RUF001 - dashes of a label
        terms=_pattern(r"terms|conditions|agreement|privacy policy|licen[cs]e"),
    ),
    "fr": _Words(
        negations=_pattern(
            r"pas|non|jamais|aucune?|sans|refus\w+|oppos\w+|désactiv\w+|empêch\w+|exclu\w*|interdi\w+|arrêt\w+"
        ),
        answer=re.compile(r"(?:oui|non)\b[\s,.:;!–—-]*", re.IGNORECASE),  # noqa: RUF001 - dashes of a label
        terms=_pattern(r"conditions|cgu|cgv|contrat|politique de confidentialité|licence"),
    ),
}
_MOST_NEGATIONS = {"question": 0, "yes": 0, "no": 1, "later": 1}


def unfair_words(language: str, words: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with ``question``, ``yes``, ``no`` and ``later``: a field, and why and what to do."""
    labels = [words[choice].casefold() for choice in CHOICES]
    if len(set(labels)) < len(labels):
        yield "yes", "is the same text as another button; give each answer words of its own"
    known = _BY_LANGUAGE.get(language.partition("-")[0])
    if known is None:
        return
    for name, most in _MOST_NEGATIONS.items():
        text = words[name].replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
        statement = known.answer.sub("", text, count=1) if known.answer.match(text) else text
        if len(known.negations.findall(statement)) > most:
            yield (
                name,
                "negates, so that a yes would mean no; say what is done"
                if most == 0
                else "negates twice; say once that it is not done",
            )
        if found := known.terms.search(text):
            yield (
                name,
                f"speaks of {found[0].lower()!r}; ask about training alone, and about terms elsewhere",
            )
