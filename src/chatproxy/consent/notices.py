"""What are people asked, in which words, and about which version of the policy? (R8, R33, R35, R39).

A directory of TOML files, which the company writes and which is checked when it is loaded:

- ``policy.toml``: the versions of the policy, each with its dates and the text or its SHA-256, and the language that
  stands in for one that is missing;
- ``screens.toml``: how the question is shown, screen by screen, and how many steps a withdrawal takes;
- ``notices/<version>.<language>.toml``: the words.

A receipt names the SHA-256 of the policy's text, which is that of the file's bytes, and of the notice, which is that of
``Notice.canonical``. Both can be computed again from the directory.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Set as AbstractSet
from dataclasses import asdict, dataclass, field
from pathlib import Path

from chatproxy.consent.events import ShownNotice
from chatproxy.consent.fairness import CHOICES, Control, unfair_layout, unfair_words
from chatproxy.consent.toml_table import TOMLTable
from chatproxy.errors import ConfigurationError
from chatproxy.policy.versions import PolicyVersion

SCREENS = ("signup", "popup", "settings", "page", "cli", "api")
"""Where people may be asked, as a consent record names it."""
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[a-z0-9]{2,8})*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """The words that people read before they choose, about one version, in one language. Plain text throughout."""

    version: str
    language: str
    """BCP 47, in lower case."""
    title: str
    paragraphs: tuple[str, ...]
    question: str
    yes: str
    """Label of the button, as are ``no`` and ``later``."""
    no: str
    later: str
    """Shown only while the choice may be put off."""
    if_yes: str
    """What then happens, as is ``if_no``."""
    if_no: str

    @property
    def canonical(self) -> bytes:
        """Return the notice as JSON: keys sorted, no space between, UTF-8 without escapes beyond JSON's own."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    @property
    def sha256(self) -> str:
        """Return the name of the notice in a receipt: SHA-256 of ``canonical``, in hexadecimal."""
        return hashlib.sha256(self.canonical).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What people choose about, and how they are asked."""

    versions: tuple[PolicyVersion, ...] = ()
    """By the time they take effect."""
    notices: Mapping[tuple[str, str], Notice] = field(default_factory=dict)
    """By version and language."""
    screens: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The buttons of each screen, in order."""
    fallback_language: str = "en"
    steps_to_withdraw: int = 1

    def current(self, now: int) -> PolicyVersion | None:
        """Return the version in force at *now* (ms): the latest that has taken effect."""
        return next((known for known in reversed(self.versions) if known.effective_at <= now), None)

    def to_choose_about(self, now: int) -> PolicyVersion | None:
        """Return the version that people are to be asked about at *now* (ms): the latest that is published."""
        return next((known for known in reversed(self.versions) if known.published_at <= now), None)

    def notice(self, version: str, language: str) -> Notice | None:
        """Return the words about *version* in *language* (BCP 47), or in the nearest language there is.

        ``fr-CA`` is followed by ``fr``, and that by the fallback language.
        """
        wanted = language.lower()
        for candidate in (wanted, wanted.partition("-")[0], self.fallback_language):
            if found := self.notices.get((version, candidate)):
                return found
        return None

    def shown(self, notice: Notice, screen: str) -> ShownNotice:
        """Return what a consent record says of *notice* when it was shown on *screen*."""
        return ShownNotice(
            sha256=notice.sha256,
            language=notice.language,
            screen=screen,
            buttons=self.screens.get(screen, ()),
        )


NO_TERMS = Terms()
"""Nothing is published, so nobody is asked."""


def load_terms(path: Path) -> Terms:
    """Read and check the directory *path*. Raises ConfigurationError that lists all that is wrong with it."""
    if not path.is_dir():
        raise ConfigurationError(
            f"{path} is not a directory; it must hold policy.toml, screens.toml and notices/"
        )
    problems: list[str] = []
    fallback, versions = _read_policy(path / "policy.toml", problems)
    screens, steps_to_withdraw = _read_screens(path / "screens.toml", problems)
    names = {known.version for known in versions}
    files = sorted(path.glob("notices/*.toml"))
    notices = {
        (notice.version, notice.language): notice
        for file in files
        if (notice := _read_notice(file, names, problems)) is not None
    }
    problems += [
        f"{path}/notices/{name}.{fallback}.toml is missing: every version needs its notice, in the fallback "
        "language at least, so that what was shown can be proved; write it"
        for name in sorted(names)
        if path / f"notices/{name}.{fallback}.toml" not in files
    ]
    if problems:
        raise ConfigurationError("\n".join(problems))
    return Terms(
        versions=versions,
        notices=notices,
        screens=screens,
        fallback_language=fallback,
        steps_to_withdraw=steps_to_withdraw,
    )


def _read_policy(path: Path, problems: list[str]) -> tuple[str, tuple[PolicyVersion, ...]]:
    table = TOMLTable.of_file(path, problems)
    if table is None:
        return "en", ()
    fallback = table.text("fallback_language", default="en")
    if not _LANGUAGE.fullmatch(fallback):
        table.wrong("fallback_language", "must be a language code in lower case, such as en or pt-br")
    versions: list[PolicyVersion] = []
    for entry in table.tables("version"):
        version = PolicyVersion(
            version=entry.text("version"),
            published_at=entry.instant("published"),
            effective_at=entry.instant("effective"),
            material=entry.flag("material"),
            sha256=_text_digest(entry, path.parent),
        )
        entry.end()
        if not _VERSION.fullmatch(version.version):
            entry.wrong("version", "must be up to 64 letters, digits, dots, - and _, such as 2025-08-28")
        if version.effective_at < version.published_at:
            entry.wrong("effective", "is before published; people must be able to read it before it holds")
        for other in versions:
            if version.version == other.version:
                entry.wrong("version", "is the name of another version too; give each one its own")
            if version.effective_at == other.effective_at:
                entry.wrong(
                    "effective", "is that of another version too, so neither would be the one in force"
                )
        versions.append(version)
    table.end()
    return fallback, tuple(sorted(versions, key=lambda version: version.effective_at))


def _text_digest(entry: TOMLTable, directory: Path) -> str:
    """Return the SHA-256 of a version's text, which is given as a file or by its digest."""
    if entry.has("text") == entry.has("sha256"):
        entry.wrong(
            "text", "or sha256 must be given, one of them: the policy's file, or the SHA-256 of its bytes"
        )
    digest, name = entry.text("sha256", default="0" * 64), entry.text("text", default="-")
    if not entry.has("text"):
        if not _SHA256.fullmatch(digest):
            entry.wrong("sha256", "must be 64 hexadecimal digits in lower case")
        return digest
    file = directory / name
    try:
        if not file.resolve().is_relative_to(directory.resolve()):
            raise FileNotFoundError
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        entry.wrong("text", f"= {name!r} must be a readable file beside policy.toml, or below")
        return digest


def _read_screens(path: Path, problems: list[str]) -> tuple[dict[str, tuple[str, ...]], int]:
    table = TOMLTable.of_file(path, problems)
    if table is None:
        return {}, 1
    screens: dict[str, tuple[str, ...]] = {}
    shortest = []
    steps_to_withdraw = table.count("steps_to_withdraw")
    for screen in table.tables("screen"):
        name = screen.text("name")
        if name not in SCREENS:
            screen.wrong("name", f"must be one of {', '.join(SCREENS)}")
        if name in screens:
            screen.wrong("name", "is that of another screen too; describe each once")
        controls = [_read_control(control) for control in screen.tables("control")]
        screen.end()
        for member, why in unfair_layout(controls):
            screen.wrong(f"control {member}", why)
        screens[name] = tuple(control.choice for control in controls)
        shortest += [control.steps for control in controls if control.choice == "yes"]
    table.end()
    if steps_to_withdraw > min(shortest, default=steps_to_withdraw):
        table.wrong("steps_to_withdraw", "are more than for a yes; withdrawing must be as short as agreeing")
    return screens, steps_to_withdraw


def _read_control(table: TOMLTable) -> Control:
    default = Control(choice="yes")
    control = Control(
        choice=table.text("choice"),
        steps=table.count("steps", default=default.steps),
        size=table.text("size", default=default.size),
        contrast=table.text("contrast", default=default.contrast),
        preselected=table.flag("preselected", default=default.preselected),
        accepts=table.texts("accepts", default=default.accepts),
    )
    table.end()
    if control.choice not in CHOICES:
        table.wrong("choice", f"must be one of {', '.join(CHOICES)}")
    return control


def _read_notice(path: Path, versions: AbstractSet[str], problems: list[str]) -> Notice | None:
    """Read one notice; None where that added to *problems*."""
    before = len(problems)
    version, _, language = path.stem.rpartition(".")
    if version not in versions or not _LANGUAGE.fullmatch(language):
        problems.append(
            f"{path}: the file's name must be <version>.<language>.toml, with a version of policy.toml and a "
            "language code in lower case, such as 2025-08-28.fr.toml; rename it"
        )
    table = TOMLTable.of_file(path, problems)
    if table is None:
        return None
    notice = Notice(
        version=version,
        language=language,
        title=table.text("title"),
        paragraphs=table.texts("paragraphs"),
        question=table.text("question"),
        yes=table.text("yes"),
        no=table.text("no", why="who may say yes must be able to say no"),
        later=table.text("later"),
        if_yes=table.text("if_yes"),
        if_no=table.text("if_no"),
    )
    table.end()
    if len(problems) > before:
        return None
    words = {name: getattr(notice, name) for name in ("question", *CHOICES)}
    for name, why in unfair_words(language, words):
        table.wrong(name, why)
    return notice
