"""What is written in a person's ledger, how it is authenticated, and how it is read back (R8, R37).

The ledger holds whatever changes the facts about what is kept of a person: their choices, which are consent records,
and what else happened, such as a deletion, a flag or a hold. One order for all of it, and one length: a turn is put
and decided again only with the ledger that its decision has seen.

Each event names the hash of the one before, so none can be taken out or put in between; each carries a MAC, so none
can be forged by whoever can write to the store. No event, no permission. Nothing about how the person behaved while
choosing is recorded.

Bytes of a stored event: ``CE``, format version (1), annotation-key version (2 bytes, big-endian), MAC (32), canonical
JSON. ``previous_event`` is the SHA-256 of all bytes of the event before.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from chatproxy.crypto.annotation import AnnotationKeys, event_mac, verify_event_mac
from chatproxy.errors import UndecryptableError
from chatproxy.model import Age, ConversationTag, SubjectTag, Surface, TurnId
from chatproxy.policy.instants import format_instant, parse_instant
from chatproxy.policy.versions import PolicyVersion

_MAGIC = b"CE"
_VERSION = 1
_HEAD = 5
_MAC = 32
_CHOICE_SCHEMA = "dpv-27560:record-eu-gdpr"
_FACT_SCHEMA = "chatproxy:fact"
CAPABILITY = "train.capability"
PURPOSES = (CAPABILITY, "train.safety")
SURFACES = (Surface.CHAT, Surface.CODE)
"""Where a yes about the account can hold."""
DATA_SUBJECT = "data_subject"
"""Who an event is by, where the person did it themselves."""


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
    RENEWED = "renewed", "RenewedConsentGiven"
    REFUSED = "refused", "ConsentRefused"
    DEFERRED = "deferred", "ConsentRequestDeferred"
    WITHDRAWN = "withdrawn", "ConsentWithdrawn"
    REQUESTED = "requested", "ConsentRequested"
    EXPIRED = "expired", "ConsentExpired"
    INVALIDATED = "invalidated", "ConsentInvalidated"

    @property
    def permits(self) -> bool:
        """Whether it is a yes."""
        return self in {Choice.GIVEN, Choice.RENEWED}


UNDECIDED = frozenset({Choice.REQUESTED, Choice.DEFERRED})
"""What stood before them stands (R8)."""
_BY_DPV = {choice.dpv: choice for choice in Choice}


class FactKind(StrEnum):
    """What can happen beside a choice."""

    CONVERSATION_DELETED = "conversation_deleted"
    """R22."""
    ACCOUNT_DELETED = "account_deleted"
    """R23."""
    FLAGGED = "flagged"
    """A turn was flagged for safety (R19)."""
    FLAG_LIFTED = "flag_lifted"
    FEEDBACK_GIVEN = "feedback_given"
    """On a conversation; ``details.kind`` says which (R14, R15)."""
    FEEDBACK_WITHDRAWN = "feedback_withdrawn"
    """All feedback on a conversation is taken back."""
    HOLD_PLACED = "hold_placed"
    """A legal hold (R24); ``details``: ``case``, ``authority``, ``review_at``."""
    HOLD_RELEASED = "hold_released"
    """``details.case`` says which."""
    MINOR_FOUND = "minor_found"
    """The person is a minor after all (R5)."""
    CHOICES_UNREAD = "choices_unread"
    """The company's consent service gave no good answer when something of the person was kept (R30)."""
    CHOICES_READ = "choices_read"
    """It has given one since, and all that it says is recorded (R31)."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What an event is about: the whole account, one conversation, or one turn of it."""

    conversation: ConversationTag | None = None
    turn: TurnId | None = None

    def to_json(self) -> dict[str, str]:
        """Return kind and id, in hexadecimal."""
        if self.turn is not None:
            return {"kind": "turn", "id": self.turn.hex()}
        if self.conversation is not None:
            return {"kind": "conversation", "id": self.conversation.hex()}
        return {"kind": "account"}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Scope":
        """Undo ``to_json``."""
        ident = bytes.fromhex(value.get("id", ""))
        match value["kind"]:
            case "turn":
                return cls(turn=TurnId(ident))
            case "conversation":
                return cls(conversation=ConversationTag(ident))
            case _:
                return cls()


ACCOUNT = Scope()


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownNotice:
    """The exact notice that a choice was made on."""

    sha256: str
    """Of the notice's text in that language, in hexadecimal."""
    language: str
    screen: str
    """Where it was shown: ``signup``, ``popup``, ``settings``, ``page``, ``cli``, ``api``."""
    buttons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What a consent record says beside the choice itself (R37)."""

    policy: PolicyVersion | None = None
    notice: ShownNotice | None = None
    plan: str | None = None
    age: Age = Age.UNKNOWN
    gpc: bool = False
    source: Mapping[str, str] = field(default_factory=dict)
    """Where the choice was copied from, if it was: ``id`` names it, as a pseudonym, at the company's service."""
    terms: Mapping[str, Any] = field(default_factory=dict)
    """What is the same for everybody: retention if yes and if no, controller, jurisdiction, how to withdraw."""


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
    conversation: ConversationTag | None = None
    """The one conversation that it is about: a yes shares it, a no excludes it, a withdrawal ends either (R17)."""
    policy_version: str | None = None
    policy_effective_at: int | None = None
    source_id: str | None = None
    """The pseudonym of the choice at the company's consent service, if it was copied from there."""
    stored: bytes = field(default=b"", repr=False)

    @property
    def record(self) -> Mapping[str, Any]:
        """Return the whole consent record as written; read anew each time, since of many people many are cached."""
        record: dict[str, Any] = json.loads(self.stored[_HEAD + _MAC :])
        return record


@dataclass(frozen=True, slots=True)
class FactEvent:
    """What else happened, as read back."""

    at: int
    kind: FactKind
    by: str
    method: str
    scope: Scope
    details: Mapping[str, Any] = field(repr=False)
    digest: str
    """``sha256:…`` of the stored bytes."""


LedgerEvent = ConsentEvent | FactEvent


def write_choice(
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
    conversation: ConversationTag | None = None,
    circumstances: Circumstances | None = None,
) -> bytes:
    """Return the bytes of a new choice. ``at`` in ms; ``previous`` the stored bytes of the event before, if any."""
    agreed = choice.permits
    about = circumstances or Circumstances()
    record: dict[str, Any] = {
        **about.terms,
        "v": 1,
        "schema": _CHOICE_SCHEMA,
        "record_id": record_id,
        "receipt_id": f"receipt-{record_id}",
        "subject": subject.hex(),
        "account_plan": about.plan,
        "age_assurance": str(about.age),
        "event": _event(at=at, by=by, method=method, previous=previous)
        | {
            "state": choice.dpv,
            "type": "ExplicitlyExpressedConsent" if agreed else "ExplicitlyExpressedChoice",
            "duration": "until_withdrawn",
        },
        "purposes": [
            {"id": purpose, "basis": "A6-1-a", "decision": "yes" if agreed and purpose in purposes else "no"}
            for purpose in PURPOSES
        ],
        "scope": Scope(conversation).to_json() | {"surfaces": [str(surface) for surface in surfaces]},
        "policy": _policy_to_json(about.policy),
        "notice": _notice_to_json(about.notice),
        "signals": {"sec_gpc": about.gpc},
    }
    if about.source:
        record["source"] = dict(about.source)
    return _sealed(record, subject=subject, keys=keys)


def write_fact(
    *,
    subject: SubjectTag,
    kind: FactKind,
    at: int,
    by: str,
    method: str,
    scope: Scope,
    details: Mapping[str, Any],
    record_id: str,
    previous: bytes | None,
    keys: AnnotationKeys,
) -> bytes:
    """Return the bytes of a new fact. ``at`` in ms; ``previous`` the stored bytes of the event before, if any."""
    record = {
        "v": 1,
        "schema": _FACT_SCHEMA,
        "record_id": record_id,
        "subject": subject.hex(),
        "event": _event(at=at, by=by, method=method, previous=previous) | {"kind": str(kind)},
        "scope": scope.to_json(),
        "details": dict(details),
    }
    return _sealed(record, subject=subject, keys=keys)


def read_ledger(
    events: Sequence[bytes], *, subject: SubjectTag, keys: AnnotationKeys
) -> tuple[LedgerEvent, ...]:
    """Read and check a whole ledger.

    Raises UndecryptableError where an event is forged, cut, out of its chain, or a fact of an unknown kind.
    """
    read = []
    previous: bytes | None = None
    for stored in events:
        read.append(_read_event(stored, subject=subject, previous=previous, keys=keys))
        previous = stored
    return tuple(read)


def _read_event(
    stored: bytes, *, subject: SubjectTag, previous: bytes | None, keys: AnnotationKeys
) -> LedgerEvent:
    if len(stored) < _HEAD + _MAC or stored[:2] != _MAGIC or stored[2] != _VERSION:
        raise UndecryptableError("consent_event_format")
    head, mac, body = stored[:_HEAD], stored[_HEAD : _HEAD + _MAC], stored[_HEAD + _MAC :]
    version = int.from_bytes(head[3:5], "big")
    verify_event_mac(head + body, mac, keys=keys, version=version, subject=subject)
    record = json.loads(body)
    event = record["event"]
    if event["previous_event"] != (_digest(previous) if previous is not None else None):
        raise UndecryptableError("consent_event_chain")
    if record["schema"] == _FACT_SCHEMA:
        if event["kind"] not in set(FactKind):
            # Written by a newer chatproxy: whatever it says, it must not be passed over.
            raise UndecryptableError("consent_event_kind")
        return FactEvent(
            at=event["at_ms"],
            kind=FactKind(event["kind"]),
            by=event["by"],
            method=event["method"],
            scope=Scope.from_json(record["scope"]),
            details=record["details"],
            digest=_digest(stored),
        )
    policy = record["policy"] or {}
    return ConsentEvent(
        at=event["at_ms"],
        choice=_BY_DPV.get(event["state"]),
        by=event["by"],
        method=event["method"],
        purposes={purpose["id"]: purpose["decision"] == "yes" for purpose in record["purposes"]},
        surfaces=tuple(record["scope"]["surfaces"]),
        receipt_id=record["receipt_id"],
        digest=_digest(stored),
        conversation=Scope.from_json(record["scope"]).conversation,
        policy_version=policy.get("version"),
        policy_effective_at=parse_instant(policy["effective_at"]) if policy else None,
        source_id=record.get("source", {}).get("id"),
        stored=stored,
    )


def _event(*, at: int, by: str, method: str, previous: bytes | None) -> dict[str, Any]:
    return {
        "at": format_instant(at),
        "at_ms": at,
        "by": by,
        "method": method,
        "previous_event": _digest(previous) if previous is not None else None,
    }


def _policy_to_json(policy: PolicyVersion | None) -> dict[str, Any] | None:
    if policy is None:
        return None
    return {
        "version": policy.version,
        "published_at": format_instant(policy.published_at),
        "effective_at": format_instant(policy.effective_at),
        "sha256": policy.sha256,
    }


def _notice_to_json(notice: ShownNotice | None) -> dict[str, Any] | None:
    if notice is None:
        return None
    return {
        "sha256": notice.sha256,
        "language": notice.language,
        "screen": notice.screen,
        "layout": {
            "buttons": list(notice.buttons),
            "equal_prominence": True,
            "preselected": False,
            "bundled_with_terms": False,
        },
    }


def _sealed(record: Mapping[str, Any], *, subject: SubjectTag, keys: AnnotationKeys) -> bytes:
    body = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    version = keys.primary_version
    head = _MAGIC + bytes([_VERSION]) + version.to_bytes(2, "big")
    return head + event_mac(head + body, keys=keys, version=version, subject=subject) + body


def _digest(stored: bytes) -> str:
    return "sha256:" + hashlib.sha256(stored).hexdigest()
