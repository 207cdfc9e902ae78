"""The keyset file: made once and whole, and read only when nobody else could have."""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from chatproxy.crypto.keys import KeyStatus
from chatproxy.crypto.keyset import MAX_KEYSET_BYTES, Keyset, make_keyset, write_keyset
from chatproxy.crypto.root import ROOT_WRAPPED_SIZE, wrap_under_root
from chatproxy.errors import KeysetError, UndecryptableError
from chatproxy.kms.file import FileRoot, KeysetFile

AT = 1_790_000_000_000
NO_DATA = Path("/nowhere/data")


def a_file(path: Path) -> KeysetFile:
    return KeysetFile(path, data_dir=NO_DATA)


def a_made_file(directory: Path) -> KeysetFile:
    file = a_file(directory / "keyset")
    file.create(make_keyset(created_at=AT))
    return file


def a_root(directory: Path, keyset: Keyset | None = None) -> FileRoot:
    """Return the root of a file made below *directory*."""
    file = KeysetFile(directory / "keys" / "keyset", data_dir=NO_DATA)
    file.create(keyset or make_keyset(created_at=AT))
    return FileRoot(file)


def refusal(load: Callable[[], object]) -> str:
    with pytest.raises(KeysetError) as caught:
        load()
    return str(caught.value)


def test_a_keyset_that_is_written_is_read_again(tmp_path: Path) -> None:
    keyset = make_keyset(created_at=AT)
    file = a_file(tmp_path / "keys" / "prod" / "keyset")

    file.create(keyset)

    assert write_keyset(file.load()) == write_keyset(keyset)


def test_a_keyset_is_for_its_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        file = a_file(tmp_path / "keys" / "keyset")
        file.create(make_keyset(created_at=AT))
    finally:
        os.umask(before)

    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.path.parent.stat().st_mode) == 0o700


def test_nothing_but_the_keyset_is_left(tmp_path: Path) -> None:
    a_made_file(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["keyset"]


@pytest.mark.parametrize("kind", ["keyset", "other file", "directory", "dangling link"])
def test_what_is_there_is_never_overwritten(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "keyset"
    if kind == "keyset":
        a_made_file(tmp_path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "dangling link":
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path.write_bytes(b"mine")
    before = path.lstat()

    message = refusal(lambda: a_file(path).create(make_keyset(created_at=AT)))

    assert message.startswith(f"{path}: there is a file already")
    assert path.lstat() == before
    assert [found.name for found in tmp_path.iterdir()] == ["keyset"]


def test_where_nothing_can_be_written_nothing_is_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    message = refusal(lambda: a_file(tmp_path / "file" / "keyset").create(make_keyset(created_at=AT)))

    assert "the keyset cannot be written: Not a directory" in message


def test_a_missing_keyset_says_how_to_make_one(tmp_path: Path) -> None:
    message = refusal(a_file(tmp_path / "keyset").load)

    assert f"{tmp_path / 'keyset'}: there is no keyset" in message
    assert "chatproxy keys init" in message


@pytest.mark.parametrize("mode", [0o640, 0o620, 0o610, 0o604, 0o602, 0o601, 0o644, 0o666, 0o777])
def test_a_keyset_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    file = a_made_file(tmp_path)
    file.path.chmod(mode)

    message = refusal(file.load)

    assert f"others may use it (mode {mode:04o})" in message
    assert f"chmod 600 {file.path}" in message


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_stricter_modes_are_fine(tmp_path: Path, mode: int) -> None:
    file = a_made_file(tmp_path)
    file.path.chmod(mode)

    assert isinstance(file.load(), Keyset)


def test_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    a_made_file(tmp_path)
    link = tmp_path / "link"
    link.symlink_to("keyset")

    assert "not a symbolic link" in refusal(a_file(link).load)


def test_a_directory_is_refused(tmp_path: Path) -> None:
    assert "not a regular file" in refusal(a_file(tmp_path).load)


def test_a_named_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)

    assert "not a regular file" in refusal(a_file(tmp_path / "pipe").load)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_keyset_of_another_account_is_refused(tmp_path: Path) -> None:
    file = a_made_file(tmp_path)
    os.chown(file.path, 12_345, -1)

    message = refusal(file.load)

    assert "it belongs to user 12345" in message
    assert f"chown {os.geteuid()} {file.path}" in message


def test_a_file_too_long_for_a_keyset_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "keyset"
    path.touch(mode=0o600)
    os.truncate(path, MAX_KEYSET_BYTES + 1)

    assert "too long for a keyset" in refusal(a_file(path).load)


def test_what_is_wrong_inside_is_told_with_the_path(tmp_path: Path) -> None:
    file = a_made_file(tmp_path)
    file.path.write_bytes(file.path.read_bytes()[:100])

    assert refusal(file.load).startswith(f"{file.path}: this is not a whole keyset file")


@pytest.mark.parametrize(
    "inside",
    [
        pytest.param("data/keyset", id="directly"),
        pytest.param("data/a/b/keyset", id="deep"),
        pytest.param("data/../data/keyset", id="by a detour"),
        pytest.param("alias/keyset", id="by a link to the data directory"),
        pytest.param("data", id="the data directory itself"),
    ],
)
def test_a_keyset_in_the_data_directory_is_refused(tmp_path: Path, inside: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "alias").symlink_to("data")

    message = refusal(lambda: KeysetFile(tmp_path / inside, data_dir=tmp_path / "data"))

    assert f"{tmp_path / inside}: the keyset must not lie in the data directory" in message
    assert "CHATPROXY_KEYSET" in message


@pytest.mark.parametrize("outside", ["data-keys/keyset", "keyset", "data/../keyset"])
def test_a_keyset_beside_the_data_directory_is_fine(tmp_path: Path, outside: str) -> None:
    (tmp_path / "data").mkdir()

    KeysetFile(tmp_path / outside, data_dir=tmp_path / "data")


@pytest.mark.parametrize(
    "url, path",
    [
        ("file:./keys/keyset", "keys/keyset"),
        ("file:/etc/chatproxy/keyset", "/etc/chatproxy/keyset"),
        ("file:///etc/chatproxy/keyset", "/etc/chatproxy/keyset"),
        ("file:a:b", "a:b"),
    ],
)
def test_the_setting_names_a_path(url: str, path: str) -> None:
    assert KeysetFile.from_url(url, data_dir=NO_DATA).path == Path(path)


@pytest.mark.parametrize("url", ["", "file:", "keyset", "FILE:keyset", "vault://u:secret@host", "file:a\0b"])
def test_other_settings_are_refused_without_repeating_them(url: str) -> None:
    message = refusal(lambda: KeysetFile.from_url(url, data_dir=NO_DATA))

    assert "must be file:PATH" in message
    assert "secret" not in message


async def test_the_root_wraps_and_unwraps_in_order(tmp_path: Path) -> None:
    root = a_root(tmp_path)
    pairs = [(b"kek/%d" % number, bytes([number]) * 32) for number in range(5)]

    wraps = await root.wrap("ring", pairs)
    secrets = await root.unwrap(
        "ring", [(ident, wrap) for (ident, _), wrap in zip(pairs, wraps, strict=True)]
    )

    assert secrets == [secret for _, secret in pairs]
    assert {len(wrap) for wrap in wraps} == {ROOT_WRAPPED_SIZE} == {63}


async def test_the_root_wraps_only_keys(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        await a_root(tmp_path).wrap("ring", [(b"kek/1", bytes(16))])


@pytest.mark.parametrize("names", [("ring", b"kek/2"), ("other", b"kek/1")])
async def test_a_root_wrap_opens_only_as_what_it_was_made(tmp_path: Path, names: tuple[str, bytes]) -> None:
    root = a_root(tmp_path)
    (wrapped,) = await root.wrap("ring", [(b"kek/1", bytes(32))])

    with pytest.raises(UndecryptableError, match="root_wrap_tag"):
        await root.unwrap(names[0], [(names[1], wrapped)])


async def test_the_root_of_another_keyset_does_not_open(tmp_path: Path) -> None:
    (wrapped,) = await a_root(tmp_path / "one").wrap("ring", [(b"kek/1", bytes(32))])

    with pytest.raises(UndecryptableError, match="root_wrap_tag"):
        await a_root(tmp_path / "other").unwrap("ring", [(b"kek/1", wrapped)])


@pytest.mark.parametrize(
    "version, outcome",
    [
        (1, "destroyed_root_version"),
        (2, "retired_root_version"),
        (3, "opens"),
        (4, "opens"),
        (5, "opens"),
        (6, "unknown_root_version"),
    ],
)
async def test_what_each_root_version_opens(
    tmp_path: Path, testkit_keyset: Keyset, version: int, outcome: str
) -> None:
    entry = next((entry for entry in testkit_keyset.root if entry.version == version), testkit_keyset.root[3])
    secret = entry.key or testkit_keyset.root[3].key
    assert secret is not None
    wrapped = wrap_under_root(secret, version=version, purpose="ring", ident=b"mac", secret=bytes(32))
    root = a_root(tmp_path, testkit_keyset)

    if outcome == "opens":
        assert await root.unwrap("ring", [(b"mac", wrapped)]) == [bytes(32)]
    else:
        with pytest.raises(UndecryptableError) as caught:
            await root.unwrap("ring", [(b"mac", wrapped)])
        assert caught.value.reason == outcome


async def test_the_root_wraps_under_its_primary_version(tmp_path: Path, testkit_keyset: Keyset) -> None:
    (wrapped,) = await a_root(tmp_path, testkit_keyset).wrap("ring", [(b"mac", bytes(32))])

    assert wrapped[1:3] == b"\0\4"


async def test_a_new_root_version_opens_and_does_not_wrap_before_it_is_promoted(tmp_path: Path) -> None:
    root = a_root(tmp_path)
    assert await root.add_version(now=AT) == 2
    [old] = await root.wrap("ring", [(b"mac", bytes(32))])
    await root.set_status(2, KeyStatus.PRIMARY)
    [new] = await root.wrap("ring", [(b"mac", bytes(32))])
    assert (root.version_of(old), root.version_of(new)) == (1, 2)
    assert await root.unwrap("ring", [(b"mac", old), (b"mac", new)]) == [bytes(32)] * 2


async def test_a_destroyed_root_version_opens_nothing_and_leaves_no_byte(tmp_path: Path) -> None:
    root = a_root(tmp_path)
    path = tmp_path / "keys" / "keyset"
    before = path.read_bytes()
    await root.add_version(now=AT)
    [wrapped] = await root.wrap("ring", [(b"mac", bytes(32))])
    for version, status in [(2, KeyStatus.PRIMARY), (1, KeyStatus.RETIRED), (1, KeyStatus.DESTROYED)]:
        await root.set_status(version, status)
    with pytest.raises(UndecryptableError, match="destroyed_root_version"):
        await root.unwrap("ring", [(b"mac", wrapped)])
    key = json.loads(before)["keyset"]["root"][0]["key"]
    assert key.encode() not in path.read_bytes()
    assert [each.name for each in path.parent.iterdir()] == ["keyset"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "version, status",
    [
        (1, KeyStatus.DESTROYED),
        (1, KeyStatus.RETIRED),
        (1, KeyStatus.PENDING),
        (2, KeyStatus.RETIRED),
        (2, KeyStatus.DECRYPT),
        (7, KeyStatus.PRIMARY),
    ],
)
async def test_a_root_version_changes_only_in_order(tmp_path: Path, version: int, status: KeyStatus) -> None:
    root = a_root(tmp_path)
    await root.add_version(now=AT)
    before = (tmp_path / "keys" / "keyset").read_bytes()
    with pytest.raises(KeysetError):
        await root.set_status(version, status)
    assert (tmp_path / "keys" / "keyset").read_bytes() == before


async def test_two_new_root_versions_at_once_are_refused(tmp_path: Path) -> None:
    root = a_root(tmp_path)
    await root.add_version(now=AT)
    with pytest.raises(KeysetError, match="PENDING already"):
        await root.add_version(now=AT)
