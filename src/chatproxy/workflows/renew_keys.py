"""New versions of the keys that authenticate: annotations (and consent events), receipts, checkpoints, certificates.

1. Hand out before use: a new version is PENDING, and known to every live node, before anything is made with it.
2. Nothing that exists is made again: it names its version, or is tried against the public keys, and stays believable for
   as long as it lasts. So an old annotation key goes on verifying, and of an old signing key the public half stays.
3. Where it is lies in the keyset alone, so that whoever is interrupted, anybody goes on.

The pseudonym key is not among them: another one renames everybody, and every row of the store (security B2).
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from chatproxy.clock import Clock
from chatproxy.crypto.keys import KeyStatus
from chatproxy.crypto.keyset import KeyVersion, RenewedPurpose
from chatproxy.ports import AuditLog, KeysetSource, TranscriptStore
from chatproxy.workflows.rotate import NotYetError
from chatproxy.workflows.watch_ring import waiting_nodes


class RenewalStep(StrEnum):
    """What was done last."""

    GENERATED = "generated"
    PROMOTED = "promoted"


class KeyRenewal:
    """Renews one key of a keyset."""

    def __init__(
        self, store: TranscriptStore, source: KeysetSource, *, audit: AuditLog, clock: Clock, by: str
    ) -> None:
        """``by``: who does it."""
        self._store = store
        self._source = source
        self._audit = audit
        self._clock = clock
        self._by = by

    async def advance(self, purpose: RenewedPurpose) -> tuple[RenewalStep, int]:
        """Do the next step, or begin; return it with the version.

        Raises NotYetError, KeysetError, StoreUnavailableError, AuditUnavailableError.
        """
        keyset = await self._source.load(self._store)
        pending = _pending(keyset.versioned()[purpose])
        if pending is None:
            self._audit.append("keys.renew", {"purpose": purpose, "by": self._by})
            now = self._clock()
            changed = await self._source.change(
                self._store, lambda each: each.with_new_version(purpose, created_at=now)
            )
            return RenewalStep.GENERATED, max(entry.version for entry in changed.versioned()[purpose])
        waiting = await waiting_nodes(
            self._store,
            lambda node: node.state is not None and pending.version in node.state.keyset.get(purpose, ()),
            f"knows version {pending.version} of the {purpose} key: give it the keyset as it is now",
            now=self._clock(),
            also_gone=False,
        )
        if waiting:
            raise NotYetError("; ".join(waiting))
        self._audit.append(
            "keys.renew.promote", {"purpose": purpose, "version": pending.version, "by": self._by}
        )
        await self._source.change(self._store, lambda each: each.with_promoted(purpose, pending.version))
        return RenewalStep.PROMOTED, pending.version


def _pending(entries: Sequence[KeyVersion[Any]]) -> KeyVersion[Any] | None:
    return next((entry for entry in entries if entry.status is KeyStatus.PENDING), None)
