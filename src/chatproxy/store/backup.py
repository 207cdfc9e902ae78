"""How is the embedded store copied, and brought back, without forgetting what has happened since?

A backup is a directory: the append-only files, ``ENGINE``, and ``BACKUP.json`` with the instant and the digest of each
file. It holds no key but wrapped ones. A directory that was restored carries the file ``RESTORED`` until what has
happened since was done again; until then nothing opens it.
"""

import asyncio
import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from redis.exceptions import ResponseError

from chatproxy.disk.directory import private_directory
from chatproxy.errors import ConfigurationError, StoreRefusedError
from chatproxy.store.connections import Command, Reply, Servers

_DATA = "appendonlydir"
_ENGINE = "ENGINE"
_MANIFEST = "BACKUP.json"
_RESTORED = "RESTORED"
_FORMAT = "chatproxy/backup/v1"
_POLL_SECONDS = 0.1
_REWRITE = "auto-aof-rewrite-percentage"


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup as its manifest describes it."""

    taken_at: int
    """Of the node's clock, ms, before the first file was copied."""
    files: dict[str, str]
    """SHA-256 by name, in hexadecimal."""


async def take_backup(connections: Servers, store: Path, target: Path, *, now: int) -> Backup:
    """Copy the store in the directory *store*, whose server runs, to *target*, which must not be there.

    While it is copied the server does not write its file anew, so that files only grow; an end that was cut off is left
    out when it is loaded. Raises ConfigurationError, StoreUnavailableError.
    """
    draft = await asyncio.to_thread(_draft_of, target)
    [before] = await _say(connections, ["CONFIG", "GET", _REWRITE])
    await _say(connections, ["CONFIG", "SET", _REWRITE, "0"])
    try:
        while b"aof_rewrite_in_progress:1" in (await _say(connections, ["INFO", "persistence"]))[0]:  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(_POLL_SECONDS)
        files = await asyncio.to_thread(_copy, store, draft)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    finally:
        await _say(connections, ["CONFIG", "SET", _REWRITE, before[1]])
    manifest = {"format": _FORMAT, "taken_at": now, "files": files}
    (draft / _MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="ascii")
    draft.rename(target)
    return Backup(now, files)


def read_backup(source: Path) -> Backup:
    """Return what a backup says of itself. Raises ConfigurationError where a file is missing or altered."""
    try:
        manifest = json.loads((source / _MANIFEST).read_text(encoding="ascii"))
        if manifest["format"] != _FORMAT:
            raise ConfigurationError(f"{source} is a backup of a form that this chatproxy does not know")
        backup = Backup(int(manifest["taken_at"]), dict(manifest["files"]))
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigurationError(f"{source} is no backup: it has no readable {_MANIFEST}") from None
    for name, digest in backup.files.items():
        path = source / name
        if not path.is_file() or _digest(path) != digest:
            raise ConfigurationError(f"{path} is missing, or not as it was backed up: use another backup")
    return backup


def lay_down(source: Path, store: Path) -> Backup:
    """Put a backup where the store was, which must be empty, marked as not up to date. Raises ConfigurationError."""
    backup = read_backup(source)
    if (store / _DATA).exists() and not (store / _RESTORED).exists():
        raise ConfigurationError(f"{store} has a store: stop chatproxy and move the directory away first")
    private_directory(store)
    (store / _RESTORED).write_text(json.dumps({"taken_at": backup.taken_at}), encoding="ascii")
    shutil.rmtree(store / _DATA, ignore_errors=True)
    for name in backup.files:
        (store / name).parent.mkdir(mode=0o700, exist_ok=True)
        shutil.copyfile(source / name, store / name)
    return backup


def is_restored(store: Path) -> bool:
    """Whether the store in a directory was restored and is not up to date."""
    return (store / _RESTORED).exists()


def require_up_to_date(store: Path) -> None:
    """Raise StoreRefusedError if what has happened since the backup was not done again yet."""
    if is_restored(store):
        raise StoreRefusedError(
            f"the store in {store} was restored from a backup, and does not know yet who was erased and what was "
            "deleted or taken back since: run `chatproxy restore` again to the end"
        )


def declare_up_to_date(store: Path) -> None:
    """What has happened since the backup was done again."""
    (store / _RESTORED).unlink()


def _draft_of(target: Path) -> Path:
    if target.exists():
        raise ConfigurationError(f"{target} is there already: name a new directory for the backup")
    return private_directory(target.with_name(f".{target.name}.partial"))


def _copy(store: Path, target: Path) -> dict[str, str]:
    names = [_ENGINE, *sorted(f"{_DATA}/{path.name}" for path in (store / _DATA).iterdir())]
    (target / _DATA).mkdir(mode=0o700)
    for name in names:
        shutil.copyfile(store / name, target / name)
        descriptor = os.open(target / name, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    return {name: _digest(target / name) for name in names}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


async def _say(connections: Servers, command: Command) -> list[Reply]:
    replies = await connections.ask([command])
    for reply in replies:
        if isinstance(reply, ResponseError):
            raise connections.refused(reply)
    return replies
