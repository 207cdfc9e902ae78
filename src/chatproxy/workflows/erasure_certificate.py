"""What does a person hold in their hands after an erasure? A certificate, which anybody can verify (R40, R41).

It says what was destroyed and how that was tried, where the audit log stood, until when a backup can still hold it, and
what stays and why. No content, and no id of the company's: the pseudonym alone. docs/erasure.md has every member.
"""

from collections.abc import Iterable
from typing import Any

from chatproxy.crypto.keys import SigningSeed
from chatproxy.crypto.signed_document import sign_document, verify_document
from chatproxy.crypto.tlog import Checkpoint
from chatproxy.policy.instants import format_instant
from chatproxy.workflows.erase import Erasure

FORMAT = "chatproxy/erasure-certificate/v1"


def certificate_of(
    erasure: Erasure, *, certificate_id: str, checkpoint: Checkpoint, horizon_ms: int
) -> dict[str, Any]:
    """Return the certificate of an erasure, not yet signed.

    ``checkpoint``: of the audit log, once it has the erasure; ``horizon_ms``: after that no backup can be read.
    """
    erased = erasure.erased
    kept = []
    if erasure.held_turns and erasure.held_until is not None:
        kept.append(
            {
                "what": "turns",
                "count": erasure.held_turns,
                "why": "LEGAL_HOLD",
                "review_at": format_instant(erasure.held_until),
            }
        )
    return {
        "format": FORMAT,
        "certificate_id": certificate_id,
        "subject": erasure.subject.hex(),
        "scope": "account",
        "erased_at": format_instant(erased.at),
        "completed_at": format_instant(erasure.completed_at),
        "removed": {
            "turns": erasure.removed.annotations,
            "records": erasure.removed.records,
            "names": erasure.removed.names,
            "ledger_events": 0 if kept else erased.events,
        },
        "keys": {
            "subject_generations": list(erased.generations),
            "kek_versions": list(erasure.kek_versions),
        },
        "proof": {
            "tried": erasure.proof.tried,
            "opened": erasure.proof.opened,
            "codes": dict(erasure.proof.codes),
        },
        "audit": {
            "origin": checkpoint.origin,
            "size": checkpoint.size,
            "root": checkpoint.root.hex(),
        },
        "backups": {"readable_until": format_instant(erased.at + horizon_ms)},
        "kept": kept,
    }


def sign_certificate(certificate: dict[str, Any], *, seed: SigningSeed) -> bytes:
    """Return a certificate as a file, signed."""
    return sign_document(certificate, seed=seed)


def verify_certificate(file: bytes, *, publics: Iterable[bytes]) -> dict[str, Any]:
    """Return what a certificate says. Raises UndecryptableError as ``verify_document``."""
    return verify_document(file, form=FORMAT, kind="certificate", publics=publics)
