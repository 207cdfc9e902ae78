"""``chatproxy config show``, driven as a person would."""

import dataclasses
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from chatproxy.cli.config import config
from chatproxy.errors import ConfigurationError
from chatproxy.settings import PREFIX, Settings


def show(*arguments: str, **environment: str) -> Result:
    """Run ``chatproxy config show`` with settings by field name."""
    environ = {PREFIX + name.upper(): value for name, value in environment.items()}
    return CliRunner().invoke(config, ["show", *arguments], env=environ)


@pytest.fixture(autouse=True)
def _away_from_the_files_of_this_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_every_setting_is_shown_with_value_and_source() -> None:
    result = show("--json", retention_training="3y")

    rows = [json.loads(line) for line in result.output.splitlines()]
    assert [row["setting"] for row in rows] == [
        PREFIX + field.name.upper() for field in dataclasses.fields(Settings)
    ]
    by_name = {row["setting"]: row for row in rows}
    assert by_name["CHATPROXY_RETENTION_TRAINING"] == {
        "setting": "CHATPROXY_RETENTION_TRAINING",
        "value": "3y",
        "source": "CHATPROXY_RETENTION_TRAINING",
    }
    assert by_name["CHATPROXY_UPSTREAM"]["value"] is None
    assert by_name["CHATPROXY_RETENTION_SERVICE"]["source"] == "built-in"


def test_a_file_is_named_as_the_source(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "chatproxy.toml").write_text('node = "eu-1"')

    lines = show().output.splitlines()

    assert lines[0].split() == ["SETTING", "VALUE", "FROM"]
    assert ["CHATPROXY_NODE", "eu-1", "config/chatproxy.toml"] in [line.split() for line in lines]


def test_a_setting_without_value_is_a_dash() -> None:
    assert ["CHATPROXY_UPSTREAM", "-", "built-in"] in [line.split() for line in show().output.splitlines()]


@pytest.mark.parametrize("form", [(), ("--json",)], ids=["table", "json"])
def test_secrets_are_hidden(form: tuple[str, ...]) -> None:
    result = show(*form, identity_secret="correct-horse-battery", store="redis://u:hunter2@store:6379/0")

    assert "correct-horse" not in result.output
    assert "hunter2" not in result.output
    assert "redis://(hidden)@store:6379/0" in result.output


def test_a_setting_that_is_wrong_is_told_instead() -> None:
    result = show(retention_service="30")

    assert isinstance(result.exception, ConfigurationError)
    assert "CHATPROXY_RETENTION_SERVICE = '30'" in str(result.exception)
