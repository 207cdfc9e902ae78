"""Where settings come from: environment over file over built-in, and how they are shown."""

import dataclasses
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chatproxy.errors import ConfigurationError
from chatproxy.policy.periods import Period, format_duration
from chatproxy.settings import forms
from chatproxy.settings.contradictions import contradictions
from chatproxy.settings.table import PREFIX, Settings

DEFAULT_FILE = Path("config/chatproxy.toml")
# What Kubernetes injects into every pod for a service called chatproxy.
_INJECTED = re.compile(r"CHATPROXY_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\w+)?)")


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings and, by field name, where each came from (``built-in``, the file, or the variable)."""

    settings: Settings
    sources: Mapping[str, str]


def load_settings(
    environ: Mapping[str, str] | None = None, *, overrides: Mapping[str, str] | None = None
) -> Loaded:
    """Read environment and file once.

    ``overrides`` are values of the command line, by field name, over everything else. Raises ConfigurationError
    that lists every problem, one a line.
    """
    environ = os.environ if environ is None else environ
    problems: list[str] = []
    texts: dict[str, tuple[str, str]] = {}
    for layer in (_read_file(environ, problems), _read_environment(environ, problems)):
        texts.update(layer)
    texts.update({name: (text, "command line") for name, text in (overrides or {}).items()})

    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for field in dataclasses.fields(Settings):
        if field.name not in texts:
            sources[field.name] = "built-in"
            continue
        text, source = texts[field.name]
        sources[field.name] = source
        try:
            values[field.name] = field.metadata["parse"](text)
        except ValueError as error:
            value = "" if field.metadata["secret"] else f" = {_without_credentials(text)!r}"
            problems.append(f"{PREFIX}{field.name.upper()}{value} (from {source}) {error}")
    settings = Settings(**values)
    problems += contradictions(settings)
    if problems:
        raise ConfigurationError("\n".join(problems))
    return Loaded(settings, sources)


def read_variable(name: str) -> str | None:
    """Return the value of an environment variable that a setting names, None if it is not set."""
    return os.environ.get(name)


def other_variables() -> dict[str, str]:
    """Return the environment without chatproxy's own variables, for a process that gets others."""
    return {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}


def _read_file(environ: Mapping[str, str], problems: list[str]) -> dict[str, tuple[str, str]]:
    named = environ.get(PREFIX + "CONFIG")
    path = Path(named) if named else DEFAULT_FILE
    if not named and not path.exists():
        return {}
    try:
        with path.open("rb") as file:
            table = tomllib.load(file)
    except OSError as error:
        problems.append(f"{PREFIX}CONFIG: {path} cannot be read: {error.strerror}")
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problems.append(f"{path} is not valid TOML: {error}")
        return {}
    known = {field.name for field in dataclasses.fields(Settings)}
    texts = {}
    for key, value in table.items():
        if key not in known:
            problems.append(f"{key} in {path} is not a setting; the settings are listed in docs/settings.md")
        elif isinstance(value, bool):
            texts[key] = (str(value).lower(), str(path))
        elif isinstance(value, list) and all(isinstance(item, str) for item in value):
            texts[key] = (",".join(value), str(path))
        elif isinstance(value, str | int):
            texts[key] = (str(value), str(path))
        else:
            problems.append(f"{key} in {path} must be text, a number, true, false or a list of text")
    return texts


def _read_environment(environ: Mapping[str, str], problems: list[str]) -> dict[str, tuple[str, str]]:
    fields = {field.name: field for field in dataclasses.fields(Settings)}
    texts: dict[str, tuple[str, str]] = {}
    for variable, value in sorted(environ.items()):
        if not variable.startswith(PREFIX) or variable == PREFIX + "CONFIG":
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name in fields and variable.isupper():
            texts[name] = (value, variable)
            continue
        target = fields.get(name.removesuffix("_file"))
        if name.endswith("_file") and variable.isupper() and target and target.metadata["secret"]:
            if PREFIX + target.name.upper() in environ:
                problems.append(f"{variable} and {PREFIX}{target.name.upper()} are both set; set only one")
                continue
            try:
                texts[target.name] = (Path(value).read_text(encoding="utf-8").strip(), variable)
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
                problems.append(f"{variable}: {value} cannot be read: {reason}")
        elif not _INJECTED.fullmatch(variable):
            problems.append(f"{variable} is not a setting; the settings are listed in docs/settings.md")
    return texts


def shown(settings: Settings, name: str) -> str | None:
    """Return the value of a setting in the form that it is written in; secrets and URLs' passwords are hidden."""
    value = getattr(settings, name)
    if value is None:
        return None
    if name == "store":
        return _without_credentials(value)
    metadata = next(field for field in dataclasses.fields(settings) if field.name == name).metadata
    if metadata["secret"]:
        return "(hidden)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Period):
        return format_duration(value)
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    if isinstance(value, float):
        return format_duration(Period(ms=round(value * 1000)))
    if metadata["parse"] is forms.size:
        return _format_bytes(value)
    return str(value)


def _without_credentials(text: str) -> str:
    """Hide what may be secret in a URL: user and password, and the query. What is no URL stays as it is."""
    if "://" not in text:
        return text
    without_user = re.sub(r"(?<=://).*@", "(hidden)@", text, flags=re.DOTALL)
    return re.sub(r"\?.*", "?(hidden)", without_user, flags=re.DOTALL)


def _format_bytes(size: int) -> str:
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size % factor == 0:
            return f"{size // factor}{unit}"
    return f"{size}B"
