"""How far is an export? Written beside its files after each part, so that who is interrupted goes on where they were.

1. It is signed: who can write where the dataset lies must not have the manifest speak for their files.
2. It holds the hashes of what was written, and what was counted, so that nothing is read again to say what a dataset is.
3. It holds names of the dataset alone, and goes when the manifest is there.
"""

import hashlib
from collections.abc import Sequence

import msgspec

from chatproxy.crypto.keys import SigningSeed
from chatproxy.crypto.signed_document import sign_document, verify_document
from chatproxy.datasets.manifest import File, Shard
from chatproxy.datasets.tables import Form
from chatproxy.errors import UndecryptableError

_FORMAT = "chatproxy/export-state/v1"


class Place(msgspec.Struct, frozen=True, array_like=True):
    """Up to where it is done: a person, and the last of their turns."""

    person: str
    received_at: int
    turn: str


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A part that is written."""

    number: int
    items: int
    turns: int
    left_out: dict[str, int]
    redacted: dict[str, int]
    policies: dict[str, int]
    files: tuple[File, ...]
    """None, or the items and what is said of them."""
    again: int = 0
    """How often it was written without some items. Each time under other names: what is listed here is there."""
    until: Place


class State(msgspec.Struct, frozen=True, kw_only=True):
    """How far an export is."""

    dataset: str
    purpose: str
    consumer: str
    at: int
    form: Form
    shard: tuple[int, int]
    redaction: str
    min_age_ms: int
    parts: tuple[Part, ...] = ()
    is_walked: bool = False

    def sign(self, seed: SigningSeed) -> bytes:
        """Return it as a file: a signed line about what follows, and that."""
        body = msgspec.json.encode(self)
        return (
            sign_document({"format": _FORMAT, "sha256": hashlib.sha256(body).hexdigest()}, seed=seed) + body
        )


def read_state(file: bytes, publics: Sequence[bytes]) -> State:
    """Undo ``State.sign``. Raises UndecryptableError where it is no state, or somebody else's."""
    head, _, body = file.partition(b"\n")
    signed = verify_document(head, form=_FORMAT, kind="state", publics=publics)
    if signed.get("sha256") != hashlib.sha256(body).hexdigest():
        raise UndecryptableError("state_hash")
    try:
        return msgspec.json.decode(body, type=State)
    except msgspec.MsgspecError:
        raise UndecryptableError("state_format") from None


def state_name(shard: Shard) -> str:
    """Return where is written how far a shard is, until it is done."""
    return f".state-{shard.suffix}.json"
