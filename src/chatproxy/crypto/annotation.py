"""What makes an annotation believable, though it lies in clear in a store that others may write to?

The annotation of a turn is a store hash of seven fields. All but ``mac`` are authenticated together with the
subject and the turn, so that none can be edited, swapped or moved (security B5). Rolling one back to an older,
authentic state is what ``seq`` and the audit log are for (``chatproxy.workflows.annotation_log``).

``mac = HMAC-SHA256(K[kv], "chatproxy/ann/v1" || TLV...)``, TLV: number of the field (1 byte), ``lp(value)``.
"""

import re
from collections.abc import Mapping

from chatproxy.crypto.encoding import lps, tlvs
from chatproxy.crypto.keys import MacKey
from chatproxy.crypto.primitives import are_equal
from chatproxy.errors import StoreUnavailableError, UndecryptableError
from chatproxy.model import SubjectTag, TurnId
from chatproxy.unshown import Unshown

_LABEL = b"chatproxy/ann/v1"
_EVENT_LABEL = b"chatproxy/consent-event/v1"
_FIELDS = frozenset({b"kv", b"seq", b"exp", b"meta", b"body", b"prev", b"mac"})
_DECIMAL = re.compile(rb"0|[1-9][0-9]{0,18}")
_DECIMAL_END = 10**19
_AUTHENTICATED = (b"kv", b"seq", b"exp", b"meta", b"body", b"prev")


class AnnotationKeys:
    """The versions of the annotation key that open, and which of them authenticates what is new.

    Before they are known, as long as a provider does not answer, whatever needs them raises StoreUnavailableError.
    """

    __slots__ = ("_primary_version", "_versions")

    def __init__(self, primary_version: int = 0, versions: Mapping[int, MacKey] | None = None) -> None:
        """Without arguments: not known yet, until ``use``."""
        self._primary_version = primary_version
        self._versions = versions

    def use(self, keys: "AnnotationKeys") -> None:
        """Work with what *keys* has from now on."""
        self._primary_version, self._versions = keys.primary_version, keys.versions

    @property
    def versions(self) -> Mapping[int, MacKey]:
        """Return the versions that open."""
        if self._versions is None:
            raise StoreUnavailableError("the annotation keys are not known yet")
        return self._versions

    @property
    def primary_version(self) -> int:
        """Return the version that authenticates what is new."""
        if self._versions is None:
            raise StoreUnavailableError("the annotation keys are not known yet")
        return self._primary_version

    def __getitem__(self, version: int) -> MacKey:
        """Return a version. Raises UndecryptableError("unknown_annotation_key_version")."""
        try:
            return self.versions[version]
        except KeyError:
            raise UndecryptableError("unknown_annotation_key_version") from None


class Annotation(Unshown, frozen=True, kw_only=True):
    """What is known about a turn without its keys."""

    seq: int
    """From 1, one more with every change."""
    expires_at: int
    """ms; the same as in the record and the TTL."""
    metadata: bytes
    """Canonical JSON that never changes: the AAD of the turn's records."""
    body: bytes
    """Canonical JSON of the present decision."""
    previous_mac: bytes = b""
    """The ``mac`` of ``seq`` - 1."""


def authenticate(
    annotation: Annotation, *, keys: AnnotationKeys, subject: SubjectTag, turn: TurnId
) -> dict[bytes, bytes]:
    """Return the fields to store, authenticated under the primary version."""
    version = keys.primary_version
    fields = {
        b"kv": _decimal(version),
        b"seq": _decimal(annotation.seq),
        b"exp": _decimal(annotation.expires_at),
        b"meta": annotation.metadata,
        b"body": annotation.body,
        b"prev": annotation.previous_mac,
    }
    fields[b"mac"] = _mac(fields, keys[version], subject=subject, turn=turn)
    return fields


def verify(
    fields: Mapping[bytes, bytes], *, keys: AnnotationKeys, subject: SubjectTag, turn: TurnId
) -> Annotation:
    """Return the annotation that *fields* hold, authentic as that of *turn* of *subject*.

    Raises UndecryptableError: annotation_fields (one is missing, or one too many), annotation_number,
    unknown_annotation_key_version, annotation_mac.
    """
    if fields.keys() != _FIELDS:
        raise UndecryptableError("annotation_fields")
    version = _number(fields[b"kv"])
    annotation = Annotation(
        seq=_number(fields[b"seq"]),
        expires_at=_number(fields[b"exp"]),
        metadata=fields[b"meta"],
        body=fields[b"body"],
        previous_mac=fields[b"prev"],
    )
    if not are_equal(_mac(fields, keys[version], subject=subject, turn=turn), fields[b"mac"]):
        raise UndecryptableError("annotation_mac")
    return annotation


def event_mac(event: bytes, *, keys: AnnotationKeys, version: int, subject: SubjectTag) -> bytes:
    """Authenticate an event of *subject*'s consent ledger. The event itself names *version* and its place."""
    return keys[version].mac(_EVENT_LABEL + lps(_decimal(version), subject, event))


def verify_event_mac(
    event: bytes, mac: bytes, *, keys: AnnotationKeys, version: int, subject: SubjectTag
) -> None:
    """Raise UndecryptableError unless *mac* is that of ``event_mac``: event_mac, or an unknown version."""
    if not are_equal(event_mac(event, keys=keys, version=version, subject=subject), mac):
        raise UndecryptableError("event_mac")


def _mac(fields: Mapping[bytes, bytes], key: MacKey, *, subject: SubjectTag, turn: TurnId) -> bytes:
    return key.mac(_LABEL + tlvs([subject, turn, *map(fields.__getitem__, _AUTHENTICATED)]))


def _decimal(number: int) -> bytes:
    if not 0 <= number < _DECIMAL_END:
        raise ValueError("annotations hold numbers from 0 to 19 digits")
    return b"%d" % number


def _number(text: bytes) -> int:
    """Read the one spelling of a number that ``_decimal`` writes."""
    if not _DECIMAL.fullmatch(text):
        raise UndecryptableError("annotation_number")
    return int(text)
