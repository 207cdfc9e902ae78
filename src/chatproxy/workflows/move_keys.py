"""Another provider for the root: what the root wraps is wrapped by another one, and nothing else changes.

1. First the keyset is put under the new root, where nobody looks for it yet; then the key ring is replaced by
   compare-and-set. Interrupted in between, everything works as before, and the same command goes on. Two vaults would both
   look in one place of the store, so between them a move goes by way of a file.
2. A node that still has the old provider keeps the ring that it has, as one that lags in a rotation.
3. Not while a rotation is under way: its versions are the old root's.
"""

from chatproxy.crypto.keyring import RING_NAME, RING_PURPOSE
from chatproxy.crypto.keyset import Keyset
from chatproxy.crypto.ring_changes import require_settled, with_rewrapped
from chatproxy.errors import KeysetError, StoreUnavailableError
from chatproxy.ports import AuditLog, KeysetSource, TranscriptStore
from chatproxy.workflows.keys import read_ring


async def move_keys(
    store: TranscriptStore,
    source: KeysetSource,
    target: KeysetSource,
    *,
    keyset: Keyset,
    audit: AuditLog,
    now: int,
) -> None:
    """Move *keyset* and ring from *source* to *target*. *now* in ms.

    Raises KeysetError, UndecryptableError, StoreUnavailableError, AuditUnavailableError.
    """
    ring = await read_ring(store, source.root)
    if ring is None:
        raise KeysetError("the store has no key ring: start chatproxy once, or restore the store")
    secrets = ring.manifest.wrapped_secrets()
    require_settled(ring.manifest)
    audit.append("keys.move", {"from": source.name.split(":")[0], "to": target.name.split(":")[0]})
    await target.take(store, keyset, now=now)
    opened = await source.root.unwrap(RING_PURPOSE, secrets)
    idents = [ident for ident, _ in secrets]
    wraps = await target.root.wrap(RING_PURPOSE, list(zip(idents, opened, strict=True)))
    if not await store.swap_control(RING_NAME, ring.data, ring.signed(with_rewrapped(ring.manifest, wraps))):
        raise StoreUnavailableError("the key ring was changed meanwhile; run the command again")
