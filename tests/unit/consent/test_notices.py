"""What people are asked is data, checked when it is loaded: an unfair question is never put (R39)."""

import dataclasses
import hashlib
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from chatproxy.consent.notices import NO_TERMS, load_terms
from chatproxy.errors import ConfigurationError
from chatproxy.policy.instants import parse_instant
from unit.consent.choice_files import SCREENS, a_choice, a_version, write_notice

SHIPPED = Path(__file__).parents[3] / "config" / "choice"
PUBLISHED, EFFECTIVE = parse_instant("2025-08-28T00:00:00Z"), parse_instant("2025-09-28T00:00:00Z")


def problems(directory: Path) -> list[str]:
    """Return the lines that a refusal says, without the path of the directory."""
    with pytest.raises(ConfigurationError) as refusal:
        load_terms(directory)
    return str(refusal.value).replace(f"{directory}/", "").splitlines()


def screen(controls: str) -> str:
    return f'steps_to_withdraw = 1\n\n[[screen]]\nname = "page"\ncontrol = [{controls}]\n'


# --- what is loaded ---


def test_a_directory_that_can_be_loaded(tmp_path: Path) -> None:
    terms = load_terms(a_choice(tmp_path))

    [version] = terms.versions
    assert (version.version, version.published_at, version.effective_at) == ("1", PUBLISHED, EFFECTIVE)
    assert (version.material, version.sha256) == (False, "a" * 64)
    assert terms.screens == {"page": ("yes", "no", "later")}
    assert terms.steps_to_withdraw == 1


def test_what_is_shipped_can_be_loaded_and_is_complete() -> None:
    terms = load_terms(SHIPPED)

    assert terms.versions
    assert {language for _, language in terms.notices} == {"en", "fr"}
    for version in terms.versions:
        for language in ("en", "fr"):
            notice = terms.notice(version.version, language)
            assert notice is not None
            assert notice.language == language
            shown = (notice.title, *notice.paragraphs, notice.question, notice.if_yes, notice.if_no)
            assert sum(len(text.split()) for text in shown) <= 230, "more than a minute to read"


def test_the_digest_of_a_text_is_that_of_the_bytes_of_its_file(tmp_path: Path) -> None:
    text = a_version("1").replace(f'sha256 = "{"a" * 64}"', 'text = "policy.md"')
    (tmp_path / "policy.md").write_bytes(b"What we do.\r\n")

    [version] = load_terms(a_choice(tmp_path, text)).versions

    assert version.sha256 == hashlib.sha256(b"What we do.\r\n").hexdigest()


def test_a_notice_is_named_by_its_content_as_json(tmp_path: Path) -> None:
    a_choice(tmp_path)
    path = write_notice(tmp_path, "1.fr", title="Votre choix à vous", paragraphs=["« Un »"])
    notice = load_terms(tmp_path).notice("1", "fr")

    content = tomllib.loads(path.read_text(encoding="utf-8")) | {"version": "1", "language": "fr"}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert notice is not None
    assert notice.sha256 == hashlib.sha256(canonical.encode()).hexdigest()


def test_every_word_of_a_notice_counts_for_its_name(tmp_path: Path) -> None:
    notice = load_terms(a_choice(tmp_path)).notice("1", "en")
    assert notice is not None

    changed: list[dict[str, Any]] = [
        {field.name: ("other",) if field.name == "paragraphs" else "other"}
        for field in dataclasses.fields(notice)
    ]
    names = {dataclasses.replace(notice, **change).sha256 for change in changed}

    assert len(names | {notice.sha256}) == len(changed) + 1


def test_what_was_shown_names_the_notice_and_the_buttons_in_their_order(tmp_path: Path) -> None:
    terms = load_terms(a_choice(tmp_path))
    notice = terms.notice("1", "en")
    assert notice is not None

    shown = terms.shown(notice, "page")

    assert (shown.sha256, shown.language, shown.screen) == (notice.sha256, "en", "page")
    assert shown.buttons == ("yes", "no", "later")
    assert terms.shown(notice, "api").buttons == ()


@pytest.mark.parametrize(
    "wanted, found",
    [("fr", "fr"), ("FR", "fr"), ("fr-CA", "fr-ca"), ("fr-BE", "fr"), ("de", "en"), ("", "en")],
)
def test_a_notice_is_given_in_the_nearest_language(wanted: str, found: str, tmp_path: Path) -> None:
    a_choice(tmp_path)
    write_notice(tmp_path, "1.fr")
    write_notice(tmp_path, "1.fr-ca")

    notice = load_terms(tmp_path).notice("1", wanted)

    assert notice is not None
    assert notice.language == found


def test_the_fallback_language_can_be_another(tmp_path: Path) -> None:
    a_choice(tmp_path, 'fallback_language = "fr"\n' + a_version("1"))
    write_notice(tmp_path, "1.fr")

    notice = load_terms(tmp_path).notice("1", "de")

    assert notice is not None
    assert notice.language == "fr"


def test_a_version_that_is_not_known_has_no_notice(tmp_path: Path) -> None:
    assert load_terms(a_choice(tmp_path)).notice("2", "en") is None


TWO = (
    a_version("2", published="2026-01-01", effective="2026-03-01"),
    a_version("1"),
)


@pytest.mark.parametrize(
    "now, current, to_choose_about",
    [
        ("2025-08-27T23:59:59Z", None, None),
        ("2025-08-28T00:00:00Z", None, "1"),
        ("2025-09-28T00:00:00Z", "1", "1"),
        ("2026-01-01T00:00:00Z", "1", "2"),
        ("2026-02-28T23:59:59.999Z", "1", "2"),
        ("2026-03-01T00:00:00Z", "2", "2"),
    ],
)
def test_what_is_in_force_and_what_is_asked_about(
    now: str, current: str | None, to_choose_about: str | None, tmp_path: Path
) -> None:
    write_notice(a_choice(tmp_path, *TWO), "2.en")
    terms = load_terms(tmp_path)

    assert getattr(terms.current(parse_instant(now)), "version", None) == current
    assert getattr(terms.to_choose_about(parse_instant(now)), "version", None) == to_choose_about


def test_without_anything_nobody_is_asked() -> None:
    assert NO_TERMS.current(EFFECTIVE) is None
    assert NO_TERMS.to_choose_about(EFFECTIVE) is None
    assert NO_TERMS.notice("1", "en") is None


# --- what is refused ---


@pytest.mark.parametrize(
    "controls, expected",
    [
        pytest.param(
            '{ choice = "yes" }, { choice = "later" }', "control choice has no button for no", id="yes and later"
        ),
        pytest.param('{ choice = "no" }', "control choice has no button for yes", id="no alone"),
        pytest.param(
            '{ choice = "yes", preselected = true }, { choice = "no" }',
            "control preselected is true for yes",
            id="a yes chosen beforehand",
        ),
        pytest.param(
            '{ choice = "yes" }, { choice = "no", preselected = true }',
            "control preselected is true for no",
            id="a no chosen beforehand",
        ),
        pytest.param(
            '{ choice = "yes", accepts = ["terms", "training"] }, { choice = "no" }',
            "control accepts couples yes with terms",
            id="terms and training in one",
        ),
        pytest.param(
            '{ choice = "yes", size = "large" }, { choice = "no" }',
            "control size is not the same",
            id="a larger yes",
        ),
        pytest.param(
            '{ choice = "yes" }, { choice = "no", contrast = "faint" }',
            "control contrast is not the same",
            id="a fainter no",
        ),
        pytest.param(
            '{ choice = "yes" }, { choice = "no" }, { choice = "later", size = "large" }',
            "control size is not the same",
            id="a larger later",
        ),
        pytest.param(
            '{ choice = "yes" }, { choice = "later" }, { choice = "no" }',
            "control choice puts later before",
            id="a no behind later",
        ),
        pytest.param(
            '{ choice = "yes" }, { choice = "no", steps = 2 }', "control steps are more for no", id="a longer no"
        ),
        pytest.param(
            '{ choice = "yes" }, { choice = "no" }, { choice = "yes" }', "names one choice twice", id="two yes"
        ),
        pytest.param('{ choice = "yes" }, { choice = "maybe" }', "must be one of yes, no, later", id="maybe"),
        pytest.param(
            '{ choice = "yes", colour = "red" }, { choice = "no" }', "colour is not known here", id="unknown"
        ),
        pytest.param('{ choice = "yes", steps = 0 }, { choice = "no" }', "steps must be a whole", id="no steps"),
    ],
)  # fmt: skip
def test_an_unfair_screen_is_refused(controls: str, expected: str, tmp_path: Path) -> None:
    found = problems(a_choice(tmp_path, screens=screen(controls)))

    assert any(expected in line for line in found), found
    assert all(line.startswith("screens.toml, [[screen]] 1") for line in found)


def test_no_may_come_first_and_be_shorter(tmp_path: Path) -> None:
    load_terms(a_choice(tmp_path, screens=screen('{ choice = "no" }, { choice = "yes", steps = 2 }')))


def test_a_withdrawal_is_as_short_as_the_shortest_yes(tmp_path: Path) -> None:
    more = (
        SCREENS
        + '\n[[screen]]\nname = "popup"\ncontrol = [{ choice = "yes", steps = 3 }, { choice = "no" }]\n'
    )

    [line] = problems(a_choice(tmp_path, screens=more.replace("withdraw = 1", "withdraw = 2")))

    assert line == (
        "screens.toml: steps_to_withdraw are more than for a yes; withdrawing must be as short as agreeing"
    )


@pytest.mark.parametrize(
    "screens, expected",
    [
        (
            "steps_to_withdraw = 1\n",
            "screens.toml: screen is missing; it must be tables, each headed [[screen]]",
        ),
        (SCREENS.replace("page", "cellar"), "screens.toml, [[screen]] 1: name must be one of signup, popup,"),
        (SCREENS + SCREENS.partition("\n")[2], "screens.toml, [[screen]] 2: name is that of another screen"),
        (
            SCREENS.replace("steps_to_withdraw", "steps"),
            "screens.toml: steps_to_withdraw is missing; it must",
        ),
        ("steps_to_withdraw = ", "screens.toml is not TOML: "),
    ],
    ids=["none", "unknown name", "same name", "no withdrawal", "not TOML"],
)
def test_a_screens_file_that_is_wrong_is_refused(screens: str, expected: str, tmp_path: Path) -> None:
    assert any(line.startswith(expected) for line in problems(a_choice(tmp_path, screens=screens)))


@pytest.mark.parametrize(
    "language, changed, expected",
    [
        pytest.param("en", {"no": None}, "no is missing; it must be", id="yes without no"),
        pytest.param("en", {"no": " "}, "no must be a text in quotes, and not empty: who may", id="an empty no"),
        pytest.param("en", {"if_no": None}, "if_no is missing", id="not said what no means"),
        pytest.param("en", {"paragraphs": []}, "paragraphs must be a list of texts", id="nothing to read"),
        pytest.param("en", {"paragraphs": "text"}, "paragraphs must be a list", id="no list"),
        pytest.param("en", {"title": 1}, "title must be a text", id="a number"),
        pytest.param("en", {"checked": True}, "checked is not known here", id="unknown member"),
        pytest.param("en", {"no": "yes, USE them"}, "yes is the same text as another", id="the same label"),
        pytest.param("en", {"question": "May we not use them?"}, "question negates", id="a negated question"),
        pytest.param("en", {"question": "Do you object to training?"}, "question negates", id="an objection"),
        pytest.param("en", {"yes": "Yes, don’t use them"}, "yes negates", id="a yes that is a no"),  # noqa: RUF001
        pytest.param("en", {"yes": "Opt out"}, "yes negates", id="a yes to opting out"),
        pytest.param("en", {"no": "No, don't opt out"}, "no negates twice", id="a double no"),
        pytest.param("en", {"later": "Do not stop"}, "later negates twice", id="a double later"),
        pytest.param("en", {"yes": "Accept the Terms"}, "yes speaks of 'terms'", id="accept the terms"),
        pytest.param("en-gb", {"yes": "Agree to the licence"}, "yes speaks of 'licence'", id="in a region"),
        pytest.param("fr", {"question": "Voulez-vous refuser ?"}, "question negates", id="refuser"),
        pytest.param("fr", {"yes": "Oui, ne les utilisez pas"}, "yes negates", id="oui, pas"),
        pytest.param("fr", {"no": "Non, ne pas désactiver"}, "no negates twice", id="pas désactiver"),
        pytest.param("fr", {"yes": "J’accepte les CGU"}, "yes speaks of 'cgu'", id="les CGU"),  # noqa: RUF001
    ],
)  # fmt: skip
def test_an_unfair_notice_is_refused(
    language: str, changed: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    write_notice(a_choice(tmp_path), f"1.{language}", **changed)

    found = problems(tmp_path)

    assert any(line.startswith(f"notices/1.{language}.toml: {expected}") for line in found), found


@pytest.mark.parametrize("no", ["No", "No, do not use them", "Don't use them", "Opt out", "I refuse"])
def test_a_no_may_say_once_that_it_is_one(no: str, tmp_path: Path) -> None:
    write_notice(a_choice(tmp_path), no=no)

    load_terms(tmp_path)


def test_words_of_a_language_that_is_not_known_are_left_to_who_writes_them(tmp_path: Path) -> None:
    write_notice(a_choice(tmp_path), "1.de", yes="Ja, nicht verwenden")

    load_terms(tmp_path)


@pytest.mark.parametrize(
    "policy, expected",
    [
        ("", "policy.toml: version is missing; it must be tables, each headed [[version]]"),
        (a_version("../1"), "policy.toml, [[version]] 1: version must be up to 64 letters"),
        (a_version("1") + a_version("1"), "policy.toml, [[version]] 2: version is the name of another"),
        (a_version("1") + a_version("2"), "policy.toml, [[version]] 2: effective is that of another version too"),
        (a_version("1", effective="2025-08-01"), "policy.toml, [[version]] 1: effective is before published"),
        (a_version("1").replace("00Z", "00"), "policy.toml, [[version]] 1: published must be an instant with"),
        (a_version("1").replace("material = false", ""), "policy.toml, [[version]] 1: material is missing"),
        (a_version("1").replace("a" * 64, "A" * 64), "policy.toml, [[version]] 1: sha256 must be 64"),
        (a_version("1") + 'text = "x.md"', "policy.toml, [[version]] 1: text or sha256 must be given, one of"),
        (a_version("1").replace("sha256 =", "# "), "policy.toml, [[version]] 1: text or sha256 must be given"),
        (
            a_version("1").replace("sha256", "text").replace("a" * 64, "../policy.md"),
            "policy.toml, [[version]] 1: text = '../policy.md' must be a readable file beside policy.toml",
        ),
        ('fallback_language = "English"\n' + a_version("1"), "policy.toml: fallback_language must be a language"),
        ("draft = true\n" + a_version("1"), "policy.toml: draft is not known here; there are fallback_language,"),
    ],
    ids=[
        "no version", "a path for a name", "one name twice", "one date twice", "dates reversed", "no zone",
        "material not said", "digest in capitals", "both", "neither", "text outside", "no language", "unknown member",
    ],
)  # fmt: skip
def test_versions_that_are_wrong_are_refused(policy: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "policy.md").write_text("outside", encoding="utf-8")
    directory = a_choice(tmp_path / "choice", policy)

    assert any(line.startswith(expected) for line in problems(directory)), problems(directory)


def test_a_version_without_a_notice_in_the_fallback_language_is_refused(tmp_path: Path) -> None:
    write_notice(a_choice(tmp_path, *TWO), "2.fr")

    [line] = problems(tmp_path)

    assert line.startswith("notices/2.en.toml is missing: every version needs its notice")


@pytest.mark.parametrize("name", ["en", "3.en", "1.EN", "1.english"])
def test_a_notice_of_no_version_or_language_is_refused(name: str, tmp_path: Path) -> None:
    write_notice(a_choice(tmp_path), name)

    [line] = problems(tmp_path)

    assert line.startswith(f"notices/{name}.toml: the file's name must be <version>.<language>.toml")


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    a_choice(tmp_path, a_version("1", effective="2025-08-01"), screens=screen('{ choice = "yes" }'))
    write_notice(tmp_path, no=None, title=None)

    assert len(problems(tmp_path)) == 4


@pytest.mark.parametrize("missing", ["policy.toml", "screens.toml"])
def test_a_file_that_is_missing_is_named(missing: str, tmp_path: Path) -> None:
    (a_choice(tmp_path) / missing).unlink()

    assert f"{missing} cannot be read: No such file or directory" in problems(tmp_path)


def test_a_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    (a_choice(tmp_path) / "screens.toml").write_bytes(b"\xff")

    assert problems(tmp_path) == ["screens.toml is not UTF-8 text; save it as UTF-8"]


def test_a_path_that_is_no_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is not a directory; it must hold"):
        load_terms(tmp_path / "nowhere")
