"""Both languages say everything, of every reason too; what is filled in is inert; dates are words."""

import re
import string
from pathlib import Path

import jinja2
import pytest
from markupsafe import Markup

from chatproxy.consent.events import Choice
from chatproxy.policy.grounds import ENDED_BY_DELETION, Ground
from chatproxy.policy.reasons import Reason
from chatproxy.web.pages.render import Templates
from chatproxy.web.pages.words import Language, Words, load_words, preferred_language
from chatproxy.workflows.annotate import UNPARSED
from chatproxy.workflows.decide import public_reason
from chatproxy.workflows.person_history import TOLD

WORDS = load_words()
EN, FR = WORDS[Language.ENGLISH], WORDS[Language.FRENCH]
PAGES = Path(__file__).parents[4] / "src" / "chatproxy" / "web" / "pages"
BOTH = pytest.mark.parametrize("words", [EN, FR], ids=["English", "French"])


def text(markup: Markup) -> str:
    return re.sub(r"<[^>]+>", "", markup)


def fields(sentence: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(sentence) if name}


def test_both_languages_have_the_same_sentences_with_the_same_gaps() -> None:
    assert set(EN.sentences) == set(FR.sentences)
    for name, sentence in EN.sentences.items():
        differing = fields(sentence) ^ fields(FR.sentences[name])
        # Where there is one, a language may say so in words or in a figure.
        assert differing <= ({"count"} if name.endswith("_one") else set()), name


@BOTH
def test_every_reason_is_said_in_words(words: Words) -> None:
    codes = {str(reason) for reason in Reason} | {public_reason(reason) for reason in Reason} | {UNPARSED}
    said = {name.removeprefix("reason.") for name in words.sentences if name.startswith("reason.")}

    assert said == codes


@BOTH
def test_every_copy_that_can_stay_is_explained(words: Words) -> None:
    assert all(words.knows(f"stays.{ground}") for ground in set(Ground) - ENDED_BY_DELETION)


@BOTH
def test_every_choice_and_deed_of_the_history_is_named(words: Words) -> None:
    assert [word for word in (*Choice, *TOLD) if not words.knows(f"history.{word}")] == []
    assert [word for word in Choice if not words.knows(f"standing.{word}")] == []


@pytest.mark.parametrize("path", sorted(PAGES.glob("templates/*.html")), ids=lambda path: path.name)
def test_what_a_template_says_exists(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    said = set(re.findall(r'say\("([a-z_.]+)"[,)]', source))
    counted = {
        f"{name}_{form}" for name in re.findall(r'count\("([a-z_.]+)"', source) for form in ("one", "other")
    }

    assert said | counted <= set(EN.sentences)


@BOTH
def test_what_is_filled_in_is_escaped(words: Words) -> None:
    said = words.say("list.model", model="<script>alert(1)</script>")

    assert "<script>" not in said
    assert "&lt;script&gt;" in said


def test_markup_that_is_filled_in_stays_markup() -> None:
    assert EN.say("list.last", at=Markup("<time>x</time>")) == "last message <time>x</time>"


# 2026-03-01T09:05:00Z and 2026-12-31T23:59:59.999Z
@pytest.mark.parametrize(
    "at, english, french",
    [
        pytest.param(
            1772355900000,
            "1 March 2026, 09:05 UTC",
            "1er mars 2026 à 09\u00a0h\u00a005\u00a0UTC",
            id="first of a month",
        ),
        pytest.param(
            1798761599999,
            "31 December 2026, 23:59 UTC",
            "31 décembre 2026 à 23\u00a0h\u00a059\u00a0UTC",
            id="last of a year",
        ),
    ],
)
def test_an_instant_is_said_with_its_time_zone(at: int, english: str, french: str) -> None:
    assert text(EN.moment(at)) == english
    assert text(FR.moment(at)) == french
    assert text(EN.day(at)) == english.partition(",")[0]


def test_an_instant_is_there_for_machines_too() -> None:
    assert 'datetime="2026-03-01T09:05:00' in EN.day(1772355900000)


@pytest.mark.parametrize(
    "number, english, french",
    [
        (0, "0 conversations", "0 conversation"),
        (1, "1 conversation", "1 conversation"),
        (2, "2 conversations", "2 conversations"),
    ],
)
def test_numbers_are_counted_as_the_language_does(number: int, english: str, french: str) -> None:
    assert EN.count("list.total", number) == english
    assert FR.count("list.total", number) == french


@pytest.mark.parametrize(
    "named, accept, language",
    [
        pytest.param((), "fr-CA,en;q=0.8", "fr", id="the browser's first"),
        pytest.param((), "en;q=0.2, fr;q=0.9", "fr", id="by weight"),
        pytest.param((), "de, fr;q=0.1", "fr", id="the first that is spoken"),
        pytest.param((), "fr;q=0, en;q=0.1", "en", id="not wanted"),
        pytest.param((), "fr;q=x", "en", id="malformed weight"),
        pytest.param((), "", "en", id="nothing said"),
        pytest.param((), "de", "en", id="nothing spoken"),
        pytest.param((None, "fr"), "en", "fr", id="the cookie before the browser"),
        pytest.param(("en", "fr"), "fr", "en", id="the address before the cookie"),
        pytest.param(("xx", None), "fr", "fr", id="an unknown name is passed over"),
    ],
)
def test_the_language_is_the_one_that_is_asked_for(
    named: tuple[str | None, ...], accept: str, language: str
) -> None:
    assert preferred_language(*named, accept=accept) == language


def test_templates_escape_and_refuse_names_that_they_do_not_know() -> None:
    templates = Templates(WORDS, base="/p/")

    with pytest.raises(jinja2.UndefinedError):
        templates.render("message.html", EN)
