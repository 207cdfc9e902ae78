"""A directory of versions, screens and notices that can be loaded, to be changed in one place. Builders."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

WORDS: Mapping[str, Any] = {
    "title": "Your choice",
    "paragraphs": ["What it is about.", "What you can do."],
    "question": "May we use your conversations?",
    "yes": "Yes, use them",
    "no": "No, do not use them",
    "later": "Not now",
    "if_yes": "We keep them for five years.",
    "if_no": "We keep them for 30 days.",
}
SCREENS = """\
steps_to_withdraw = 1

[[screen]]
name = "page"
control = [{ choice = "yes" }, { choice = "no" }, { choice = "later" }]
"""


def a_version(
    name: str, *, published: str = "2025-08-28", effective: str = "2025-09-28", material: bool = False
) -> str:
    """A [[version]] of policy.toml, by its dates."""
    return (
        f'[[version]]\nversion = "{name}"\npublished = {published}T00:00:00Z\neffective = {effective}T00:00:00Z\n'
        f'material = {str(material).lower()}\nsha256 = "{"a" * 64}"\n'
    )


def write_notice(directory: Path, name: str = "1.en", /, **changed: Any) -> Path:
    """Write a notice; a member that is None is left out."""
    words = {key: value for key, value in {**WORDS, **changed}.items() if value is not None}
    path = directory / "notices" / f"{name}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "".join(f"{key} = {json.dumps(value)}\n" for key, value in words.items()), encoding="utf-8"
    )
    return path


def a_choice(directory: Path, *versions: str, screens: str = SCREENS) -> Path:
    """Write a whole directory: *versions* (one called 1, if none is given), screens, a notice for version 1."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "policy.toml").write_text("\n".join(versions or [a_version("1")]), encoding="utf-8")
    (directory / "screens.toml").write_text(screens, encoding="utf-8")
    write_notice(directory)
    return directory
