"""``chatproxy keys init`` and ``status``, driven as a person would."""

import json
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from chatproxy.cli.keys import keys
from chatproxy.errors import ConfigurationError, KeysetError


def run(directory: Path, *arguments: str, keyset: str = "keys/keyset") -> Result:
    """Run ``chatproxy keys …`` with a keyset and a data directory below *directory*."""
    environment = {
        "CHATPROXY_KEYSET": f"file:{directory / keyset}",
        "CHATPROXY_DATA_DIR": str(directory / "data"),
    }
    return CliRunner().invoke(keys, arguments, env=environment)


def test_init_makes_a_keyset_and_says_to_keep_a_copy_apart(tmp_path: Path) -> None:
    result = run(tmp_path, "init")

    path = tmp_path / "keys" / "keyset"
    assert result.exit_code == 0
    assert str(path) in result.output
    assert "apart from every backup of the data directory" in result.output
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_init_makes_a_keyset_at_another_path(tmp_path: Path) -> None:
    result = run(tmp_path, "init", "--path", str(tmp_path / "elsewhere"))

    assert result.exit_code == 0
    assert (tmp_path / "elsewhere").exists()
    assert not (tmp_path / "keys").exists()


def test_init_leaves_a_keyset_that_is_there(tmp_path: Path) -> None:
    run(tmp_path, "init")
    before = (tmp_path / "keys" / "keyset").read_bytes()

    result = run(tmp_path, "init")

    assert isinstance(result.exception, KeysetError)
    assert (tmp_path / "keys" / "keyset").read_bytes() == before


@pytest.mark.parametrize("arguments", [("init",), ("init", "--path", "{}/data/keyset")])
def test_init_refuses_the_data_directory(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    result = run(tmp_path, *(part.format(tmp_path) for part in arguments), keyset="data/keyset")

    assert isinstance(result.exception, ConfigurationError)
    assert not (tmp_path / "data").exists()


def test_status_shows_purposes_versions_and_states(tmp_path: Path) -> None:
    run(tmp_path, "init")

    result = run(tmp_path, "status", "--offline")

    assert result.exit_code == 0
    rows = [line.split() for line in result.output.splitlines()[2:]]
    assert [row[:3] for row in rows] == [
        ["root", "1", "PRIMARY"],
        ["annotations", "1", "PRIMARY"],
        ["signing", "1", "PRIMARY"],
        ["pseudonyms", "-", "PRIMARY"],
    ]


def test_status_as_json_is_an_object_a_line(tmp_path: Path) -> None:
    made = run(tmp_path, "init").output

    rows = [json.loads(line) for line in run(tmp_path, "status", "--offline", "--json").output.splitlines()]

    assert [row["purpose"] for row in rows] == ["root", "annotations", "signing", "pseudonyms"]
    assert {frozenset(row) for row in rows} == {
        frozenset({"keyset", "purpose", "version", "status", "created_at", "since", "ends_at", "wraps"})
    }
    assert rows[0]["created_at"].endswith("Z")
    assert rows[0]["keyset"] in made


def test_no_output_holds_a_byte_of_a_key(tmp_path: Path) -> None:
    outputs = [
        run(tmp_path, *arguments).output
        for arguments in (("init",), ("status", "--offline"), ("status", "--offline", "--json"))
    ]
    stored = json.loads((tmp_path / "keys" / "keyset").read_text())["keyset"]
    entries = [*stored["root"], *stored["annotations"], *stored["signing"], stored["pseudonyms"]]

    assert len(entries) == 4
    for entry in entries:
        assert not any(entry["key"][:12] in output for output in outputs)


def test_status_without_a_keyset_says_how_to_make_one(tmp_path: Path) -> None:
    result = run(tmp_path, "status")

    assert isinstance(result.exception, KeysetError)
    assert "chatproxy keys init" in str(result.exception)


@pytest.mark.parametrize("arguments", [("status", "--yaml"), ("init", "now"), ("make",)])
def test_a_wrong_command_line_is_a_usage_error(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert run(tmp_path, *arguments).exit_code == 2
