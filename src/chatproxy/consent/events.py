"""A choice as an event: what is written, how it is authenticated, and what the policy reads in it (R8, R37).

Each event names the hash of the one before, so none can be taken out or put in between; each carries a MAC, so none
can be forged by whoever can write to the store. No event, no permission. Nothing about how the person behaved while
choosing is recorded.

Bytes of a stored event: ``CE``, format version (1), annotation-key version (2 bytes, big-endian), MAC (32), canonical
JSON. ``previous_event`` is the SHA-256 of all bytes of the event before.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Self

from chatproxy.crypto.annotation import AnnotationKeys, event_mac, verify_event_mac
from chatproxy.errors import UndecryptableError
from chatproxy.model import SubjectTag, Surface

_MAGIC = b"CE"
_VERSION = 1
_HEAD = 5
_MAC = 32
CAPABILITY = "train.capability"
PURPOSES = (CAPABILITY, "train.safety")


class Choice(StrEnum):
    """A word of the policy (R8) beside the W3C DPV concept that the record names."""

    dpv: str

    def __new__(cls, word: str, dpv: str) -> Self:
        """Make the member *word*, known to DPV as *dpv*."""
        member = str.__new__(cls, word)
        member._value_ = word
        member.dpv = dpv
        return member

    GIVEN = "given", "ConsentGiven"
    REFUSED = "refused", "ConsentRefused"
    DEFERRED = "deferred", "ConsentRequestDeferred"
    WITHDRAWN = "withdrawn", "ConsentWithdrawn"


_BY_DPV = {choice.dpv: choice for choice in Choice}


@dataclass(frozen=True, slots=True)
class ConsentEvent:
    """One choice as read back. Purposes map to yes or no; surfaces are those that the choice is about."""

    at: int
    choice: Choice | None
    """None: a state this version does not know, which permits nothing."""
    by: str
    method: str
    purposes: dict[str, bool]
    surfaces: tuple[str, ...]
    receipt_id: str
    digest: str
    """``sha256:…`` of the stored bytes."""


def write_event(
    *,
    subject: SubjectTag,
    choice: Choice,
    at: int,
    by: str,
    method: str,
    purposes: Sequence[str],
    surfaces: Sequence[Surface],
    record_id: str,
    previous: bytes | None,
    keys: AnnotationKeys,
) -> bytes:
    """Return the bytes of a new event. ``at`` in ms; ``previous`` the stored bytes of the event before, if any."""
    agreed = choice is Choice.GIVEN
    record: dict[str, Any] = {
        "v": 1,
        "schema": "dpv-27560:record-eu-gdpr",
        "record_id": record_id,
        "receipt_id": f"receipt-{record_id}",
        "subject": subject.hex(),
        "event": {
            "state": choice.dpv,
            "type": "ExplicitlyExpressedConsent" if agreed else "ExplicitlyExpressedChoice",
            "at": datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds"),
            "at_ms": at,
            "by": by,
            "method": method,
            "duration": "until_withdrawn",
            "previous_event": _digest(previous) if previous is not None else None,
        },
        "purposes": [
            {"id": purpose, "basis": "A6-1-a", "decision": "yes" if agreed and purpose in purposes else "no"}
            for purpose in PURPOSES
        ],
        "scope": {"kind": "account", "surfaces": [str(surface) for surface in surfaces]},
    }
    body = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    version = keys.primary_version
    head = _MAGIC + bytes([_VERSION]) + version.to_bytes(2, "big")
    return head + event_mac(head + body, keys=keys, version=version, subject=subject) + body


def read_ledger(
    events: Sequence[bytes], *, subject: SubjectTag, keys: AnnotationKeys
) -> tuple[ConsentEvent, ...]:
    """Read and check a whole ledger. Raises UndecryptableError where an event is forged, cut or out of its chain."""
    read = []
    previous: bytes | None = None
    for stored in events:
        read.append(_read_event(stored, subject=subject, previous=previous, keys=keys))
        previous = stored
    return tuple(read)


def _read_event(
    stored: bytes, *, subject: SubjectTag, previous: bytes | None, keys: AnnotationKeys
) -> ConsentEvent:
    if len(stored) < _HEAD + _MAC or stored[:2] != _MAGIC or stored[2] != _VERSION:
        raise UndecryptableError("consent_event_format")
    head, mac, body = stored[:_HEAD], stored[_HEAD : _HEAD + _MAC], stored[_HEAD + _MAC :]
    version = int.from_bytes(head[3:5], "big")
    verify_event_mac(head + body, mac, keys=keys, version=version, subject=subject)
    record = json.loads(body)
    event = record["event"]
    if event["previous_event"] != (_digest(previous) if previous is not None else None):
        raise UndecryptableError("consent_event_chain")
    return ConsentEvent(
        at=event["at_ms"],
        choice=_BY_DPV.get(event["state"]),
        by=event["by"],
        method=event["method"],
        purposes={purpose["id"]: purpose["decision"] == "yes" for purpose in record["purposes"]},
        surfaces=tuple(record["scope"]["surfaces"]),
        receipt_id=record["receipt_id"],
        digest=_digest(stored),
    )


def _digest(stored: bytes) -> str:
    return "sha256:" + hashlib.sha256(stored).hexdigest()


def choices(events: Sequence[ConsentEvent], *, surface: Surface) -> tuple[tuple[int, str], ...]:
    """Return what the policy engine reads: (instant, word) of each event that is about *surface*.

    A yes counts only for the surfaces and purposes it names; anything else counts for every surface (R35).
    """
    read: list[tuple[int, str]] = []
    for event in events:
        if event.choice is Choice.GIVEN:
            if surface not in event.surfaces:
                continue
            word = Choice.GIVEN if event.purposes.get(CAPABILITY) else Choice.REFUSED
            read.append((event.at, str(word)))
        else:
            read.append((event.at, str(event.choice) if event.choice else "unrecognised"))
    return tuple(read)
