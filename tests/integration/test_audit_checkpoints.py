"""The latest checkpoint lies in the store, and is replaced only by what continues it."""

from pathlib import Path

import pytest

from chatproxy.audit.log import FileAuditLog
from chatproxy.audit.verify import verify_log
from chatproxy.crypto.keys import SigningSeed
from chatproxy.crypto.primitives import ed25519_public
from chatproxy.crypto.tlog import NoteSigner
from chatproxy.store.redis import RedisStore
from chatproxy.workflows.publish_checkpoint import checkpoint_name, publish_checkpoint

SEED = bytes(range(32))
ORIGIN = "chatproxy/test/node-1"
KEYS = {ORIGIN: (ed25519_public(SEED),)}


def a_log(directory: Path) -> FileAuditLog:
    signer = NoteSigner(ORIGIN, SigningSeed(SEED))
    return FileAuditLog(directory, signer=lambda: signer, clock=lambda: 1_000, actor=lambda: "ana")


async def published(store: RedisStore, log: FileAuditLog) -> str | None:
    await publish_checkpoint(store, log, node="node-1", keys=KEYS)
    note = await store.read_control(checkpoint_name("node-1"))
    return note.decode() if note else None


async def test_a_log_without_entries_publishes_nothing(store: RedisStore, tmp_path: Path) -> None:
    assert await published(store, a_log(tmp_path / "audit")) is None
    assert not (tmp_path / "audit").exists()


async def test_what_continues_the_log_is_published(store: RedisStore, tmp_path: Path) -> None:
    log = a_log(tmp_path)
    log.append("read", {"turns": 1})
    first = await published(store, log)
    log.append("read", {"turns": 2})
    second = await published(store, log)
    assert first is not None
    assert second is not None
    assert second != first
    assert verify_log(tmp_path, keys=KEYS, kept=[first, second]).fault is None


@pytest.mark.parametrize("entries", [1, 2, 3], ids=["shorter", "as long", "longer"])
async def test_a_log_that_was_written_anew_does_not_replace_it(
    entries: int, store: RedisStore, tmp_path: Path
) -> None:
    log = a_log(tmp_path / "before")
    log.append_all([("read", {"turns": number}) for number in range(2)])
    before = await published(store, log)
    anew = a_log(tmp_path / "anew")
    anew.append_all([("read", {"turns": 7 + number}) for number in range(entries)])
    assert await published(store, anew) == before
    assert before is not None
    assert verify_log(tmp_path / "anew", keys=KEYS, kept=[before]).fault is not None
