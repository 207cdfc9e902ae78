"""What the outside world does for chatproxy. Workflows know these, never what stands behind them."""

from chatproxy.ports.audit import AuditLog
from chatproxy.ports.consent import ConsentSource, StatedChoice
from chatproxy.ports.datasets import DatasetFiles, LineageStore, Uses
from chatproxy.ports.erasure import (
    Chore,
    Doomed,
    Erased,
    EraseRefusal,
    ErasureStore,
    NewKey,
    Removed,
    ResealedTurn,
    Unfinished,
)
from chatproxy.ports.journal import Journal
from chatproxy.ports.keys import KeysetSource, RootKey, RootVersion
from chatproxy.ports.reaping import FoundKey, ReapStore
from chatproxy.ports.transcripts import (
    MOST_GROUPS,
    Attempt,
    Due,
    KnownTurn,
    PutStatus,
    RedecidedTurn,
    RedecideStatus,
    SealedGroup,
    SealedTurn,
    StoredTurn,
    SubjectState,
    TranscriptStore,
)

__all__ = [
    "MOST_GROUPS",
    "Attempt",
    "AuditLog",
    "Chore",
    "ConsentSource",
    "DatasetFiles",
    "Doomed",
    "Due",
    "EraseRefusal",
    "Erased",
    "ErasureStore",
    "FoundKey",
    "Journal",
    "KeysetSource",
    "KnownTurn",
    "LineageStore",
    "NewKey",
    "PutStatus",
    "ReapStore",
    "RedecideStatus",
    "RedecidedTurn",
    "Removed",
    "ResealedTurn",
    "RootKey",
    "RootVersion",
    "SealedGroup",
    "SealedTurn",
    "StatedChoice",
    "StoredTurn",
    "SubjectState",
    "TranscriptStore",
    "Unfinished",
    "Uses",
]
