"""What the store gives back, which somebody may have written to: refused by a reason, never taken for authentic."""

from contextlib import suppress

from chatproxy.codec import MAX_OUTPUT, Encoder, Payload, decode_groups
from chatproxy.consent.events import read_ledger
from chatproxy.crypto.annotation import Annotation, AnnotationKeys, authenticate, verify
from chatproxy.crypto.keys import MacKey
from chatproxy.crypto.record import OVERHEAD, parse_header
from chatproxy.errors import UndecryptableError
from chatproxy.model import Message, Origin, Part, PartKind, SubjectTag, Transcript, TurnId
from fuzz.target import Target

KEYS = AnnotationKeys(1, {1: MacKey(bytes(32))})
SUBJECT, TURN = SubjectTag(bytes(16)), TurnId(bytes(16))
ANNOTATION = Annotation(seq=1, expires_at=5, metadata=b"{}", body=b"{}")
FIELDS = authenticate(ANNOTATION, keys=KEYS, subject=SUBJECT, turn=TURN)
SAID = Transcript((Message("user", (Part(PartKind.TEXT, Origin.TYPED, {"text": "hi"}),)),), ())
PAYLOAD = Encoder().encode_group(SAID, set(Origin))


def payload(data: bytes) -> None:
    """Read *data* as a payload; the first byte says whether it is compressed."""
    with suppress(UndecryptableError):
        read = decode_groups([Payload(data[1:], compressed=bool(data[:1] > b"\x7f"))], 1 << 20)
        assert decode_groups([Encoder().encode_group(read, set(Origin))], MAX_OUTPUT) == read


def event(data: bytes) -> None:
    """Read *data* as a consent event, which it is not: it is not authentic."""
    try:
        read_ledger([data], subject=SUBJECT, keys=KEYS)
    except UndecryptableError:
        return
    raise AssertionError


def annotation(data: bytes) -> None:
    """Read *data* as the fields of an annotation, one a line, in place of the authentic ones."""
    names = sorted(FIELDS)
    fields = dict(zip(names, data.split(b"\n"), strict=False))
    with suppress(UndecryptableError):
        verify(fields, keys=KEYS, subject=SUBJECT, turn=TURN)
        assert fields == FIELDS


def header(data: bytes) -> None:
    """Read *data* as the clear part of a record."""
    with suppress(UndecryptableError):
        parse_header(data)


TARGETS = {
    "payloads": Target(
        payload, (b"\xff" + PAYLOAD.data, b'\0{"v":1,"input":[{"at":0,"role":"user","parts":[]}]}'), head=1
    ),
    "consent_events": Target(
        event, (b"CE\x01\x00\x01" + bytes(32) + b"{}", b'CE\x01\x00\x02{"event": {"previous_event": null}}')
    ),
    "annotations": Target(annotation, (b"\n".join(FIELDS[name] for name in sorted(FIELDS)),)),
    "records": Target(header, (b"CP\x01\x01" + bytes(OVERHEAD),)),
}
