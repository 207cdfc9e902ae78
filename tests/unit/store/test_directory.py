import os
import tempfile
from pathlib import Path

import pytest

from chatproxy.errors import StoreRefusedError
from chatproxy.store.ballast import Ballast
from chatproxy.store.directory import FileLock, private_directory
from chatproxy.store.engine import Engine, claim, confirm
from chatproxy.store.socketpath import socket_path


def test_a_directory_is_made_for_its_user_alone_whatever_the_umask(tmp_path: Path) -> None:
    made = private_directory(tmp_path / "a" / "b")

    assert made == tmp_path / "a" / "b"
    assert made.stat().st_mode & 0o777 == 0o700


def test_a_relative_directory_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert private_directory(Path("data")) == tmp_path / "data"


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777])
def test_a_directory_where_others_may_write_is_refused(mode: int, tmp_path: Path) -> None:
    tmp_path.chmod(mode)

    with pytest.raises(StoreRefusedError, match="others may write"):
        private_directory(tmp_path)


def test_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")

    with pytest.raises(StoreRefusedError, match="symbolic link"):
        private_directory(tmp_path / "link")


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_file_is_no_directory(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StoreRefusedError, match=str(tmp_path)):
        private_directory(tmp_path / name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_somebody_elses_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir(mode=0o700)
    os.chown(tmp_path / "theirs", 12345, 12345)

    with pytest.raises(StoreRefusedError, match="another user"):
        private_directory(tmp_path / "theirs")


def test_a_lock_is_held_once_until_it_is_closed(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")

    assert first.acquire()
    assert not second.acquire()
    first.close()
    assert second.acquire()
    second.close()


def test_a_lock_lives_as_long_as_any_descriptor_of_it(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert first.acquire()
    inherited = os.dup(first.descriptor)
    first.close()

    assert not second.acquire()
    os.close(inherited)
    assert second.acquire()
    second.close()


def test_a_lock_that_is_not_held_cannot_be_passed_on(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "lock")

    assert not lock.held
    with pytest.raises(RuntimeError):
        _ = lock.descriptor


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

        with pytest.raises(StoreRefusedError, match="others may write"):
            socket_path(deep)


def test_ballast_takes_up_real_space_once_and_is_kept_while_there_is_room(tmp_path: Path) -> None:
    ballast = Ballast(tmp_path, size=1 << 20)
    ballast.lay()
    ballast.lay()

    assert (tmp_path / "ballast").stat().st_blocks * 512 >= 1 << 20
    assert not ballast.drop_if_full()
    assert (tmp_path / "ballast").exists()


@pytest.mark.parametrize("size", [0, 1 << 60])
def test_no_ballast_where_none_is_wanted_or_there_is_no_room(size: int, tmp_path: Path) -> None:
    ballast = Ballast(tmp_path, size=size)
    ballast.lay()

    assert not (tmp_path / "ballast").exists()
    assert not ballast.drop_if_full()


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
