import os
from pathlib import Path

import pytest

from chatproxy.disk.ballast import Ballast
from chatproxy.disk.directory import FileLock, private_directory, replace_file
from chatproxy.errors import ConfigurationError


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

    with pytest.raises(ConfigurationError, match="others may write"):
        private_directory(tmp_path)


def test_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")

    with pytest.raises(ConfigurationError, match="symbolic link"):
        private_directory(tmp_path / "link")


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_file_is_no_directory(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(ConfigurationError, match=str(tmp_path)):
        private_directory(tmp_path / name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_somebody_elses_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir(mode=0o700)
    os.chown(tmp_path / "theirs", 12345, 12345)

    with pytest.raises(ConfigurationError, match="another user"):
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


def test_a_file_is_replaced_whole_and_for_its_user_alone(tmp_path: Path) -> None:
    for content in (b"a longer one", b"short"):
        replace_file(tmp_path / "file", content)

        assert (tmp_path / "file").read_bytes() == content
        assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600
        assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_what_a_killed_process_has_left_of_a_file_is_hidden_and_written_over(tmp_path: Path) -> None:
    (tmp_path / ".file.draft").write_bytes(b"half of something longer")
    replace_file(tmp_path / "file", b"all")

    assert (tmp_path / "file").read_bytes() == b"all"
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_a_draft_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"somebody's")
    (tmp_path / ".file.draft").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic link"):
        replace_file(tmp_path / "file", b"mine")

    assert (tmp_path / "elsewhere").read_bytes() == b"somebody's"
