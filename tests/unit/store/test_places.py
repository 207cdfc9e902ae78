import tempfile
from pathlib import Path

import pytest

from chatproxy.errors import ConfigurationError, StoreRefusedError
from chatproxy.store.engine import Engine, claim, confirm
from chatproxy.store.socketpath import socket_path


def test_a_short_directory_has_the_socket_in_it(tmp_path: Path) -> None:
    assert socket_path(Path("/srv/chatproxy/store")) == Path("/srv/chatproxy/store/s.sock")


def test_a_directory_too_deep_for_any_socket_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path.joinpath(*["a-rather-long-name"] * 8)
    monkeypatch.setattr("tempfile.tempdir", str(deep))

    with pytest.raises(StoreRefusedError, match="too long"):
        socket_path(deep)


def test_a_socket_directory_that_others_can_write_to_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path.joinpath(*["a-rather-long-name"] * 8)
    # pytest's own directory may be too long a name for a socket.
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        monkeypatch.setattr("tempfile.tempdir", short)
        socket_path(deep).parent.chmod(0o777)

        with pytest.raises(ConfigurationError, match="others may write"):
            socket_path(deep)


@pytest.mark.parametrize(
    "line, expected",
    [
        ("Valkey server v=9.1.2 sha=00000000:1 malloc=libc bits=64", Engine("valkey", (9, 1, 2))),
        ("Redis server v=7.0.15 sha=00000000:0", Engine("redis", (7, 0, 15))),
    ],
)
def test_a_server_says_what_it_is(line: str, expected: Engine) -> None:
    assert Engine.parse(line) == expected
    assert str(expected) == f"{expected.name} {'.'.join(map(str, expected.version))}"


def test_the_marker_names_the_newer_version_before_that_may_touch_the_files(tmp_path: Path) -> None:
    (tmp_path / "appendonlydir").mkdir()
    (tmp_path / "ENGINE").write_text('{"engine": "valkey", "version": "8.0", "started": true}')

    claim(tmp_path, Engine("valkey", (9, 1)))

    with pytest.raises(StoreRefusedError, match=r"valkey 9\.1"):
        claim(tmp_path, Engine("valkey", (8, 0)))


def test_a_start_that_came_to_nothing_leaves_no_claim_to_data(tmp_path: Path) -> None:
    engine = Engine("valkey", (9, 1))
    claim(tmp_path, engine)
    claim(tmp_path, engine)

    confirm(tmp_path, engine)

    with pytest.raises(StoreRefusedError, match="lost its files"):
        claim(tmp_path, engine)
