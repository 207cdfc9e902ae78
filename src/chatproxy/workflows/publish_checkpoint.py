"""The latest statement about a node's audit log goes to the store, where whoever changes the log does not reach it.

What lies there is replaced only by what continues it: a log that was rewritten or has become shorter is not believed,
and said loudly.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from chatproxy.audit.log import FileAuditLog
from chatproxy.crypto.tlog import read_checkpoint
from chatproxy.errors import AuditUnavailableError, StoreUnavailableError, UndecryptableError
from chatproxy.ports import TranscriptStore
from chatproxy.telemetry import Log

_log = Log("audit")
_EVERY_SECONDS = 10.0


def checkpoint_name(node: str) -> str:
    """Return the control value that holds a node's latest checkpoint."""
    return f"audit:{node}"


async def publish_checkpoint(
    store: TranscriptStore, audit: FileAuditLog, *, node: str, keys: Mapping[str, Sequence[bytes]]
) -> None:
    """Publish once. *keys*: the public keys by origin. Raises StoreUnavailableError, AuditUnavailableError."""
    note = await asyncio.to_thread(audit.latest_checkpoint)
    if note is None:
        return
    name = checkpoint_name(node)
    before = await store.read_control(name)
    if note.encode() == before:
        return
    if before is not None:
        try:
            published = read_checkpoint(before.decode("utf-8", "replace"), keys=keys)
            is_continued = await asyncio.to_thread(audit.had, published)
        except (UndecryptableError, OSError):
            is_continued = False
        if not is_continued:
            _log.error(
                "the audit log is not the one that its checkpoint in the store is about, which is left as it is; "
                "see `chatproxy audit verify`",
                node=node,
            )
            return
    await store.swap_control(name, before, note.encode())


async def publish_checkpoints(
    store: TranscriptStore,
    audit: FileAuditLog,
    *,
    node: str,
    keys: Callable[[], Mapping[str, Sequence[bytes]]],
) -> None:
    """Publish again and again, until cancelled. *keys* gives the public keys of now, since they may be renewed."""
    while True:
        try:
            await publish_checkpoint(store, audit, node=node, keys=keys())
        except (StoreUnavailableError, AuditUnavailableError) as error:
            _log.warning("the audit log's checkpoint is not in the store yet", kind=type(error).__name__)
        await asyncio.sleep(_EVERY_SECONDS)
