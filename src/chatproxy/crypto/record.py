"""Record format v1: how does a turn lie sealed in the store? (docs/record-format.md; security B4, list 1 and 2).

1. A record is under two keys at once, the subject's and its expiry day's. Without either it is noise, so erasing
   a person and ending a day are each the destruction of one key.
2. Key, nonce and commitment of a record come from one HKDF over both keys, salted with a random seed that is
   used once. Everything that names the record goes into it and into the AAD.
3. The key of a day has series: another one where that of the day has leaked. A record names the one that it is under.
4. Opening checks length, then form, then the commitment, then the tag, then the padding. The commitment says
   that these are the keys before GCM is asked: a ciphertext that opens under two keys cannot be made.
5. Whatever is wrong raises UndecryptableError with a code; there is no partial result and no second try.

Whether a record has expired is its reader's to check, who knows the time: ``RecordHeader.expires_at`` is what
was promised at sealing, whatever the store's TTL says.
"""

import struct
from dataclasses import dataclass
from enum import IntFlag

from chatproxy.crypto.encoding import lp, lps
from chatproxy.crypto.keys import DataKey
from chatproxy.crypto.padding import pad, unpad
from chatproxy.crypto.primitives import (
    KEY_SIZE,
    NONCE_SIZE,
    aes_gcm_decrypt,
    aes_gcm_encrypt,
    are_equal,
    hkdf_sha256,
    random_bytes,
    sha256,
)
from chatproxy.errors import UndecryptableError
from chatproxy.model import SubjectTag, TurnId

OVERHEAD = 108
"""Bytes a record has beyond its payload, padding aside."""
MAX_RECORD_BYTES = 512 * 1024 * 1024
"""What a store takes as one value; longer ones are refused before anything is read or made."""

_MAGIC = b"CP"
_VERSION = 1
_SUITE = 1
_HEAD = struct.Struct(">2sBBBBHIQ16s24s")
_COMMITMENT_SIZE = 32
_SEED_SIZE = 24
_TAG_BYTES = 16
_DERIVED = struct.Struct(f"{KEY_SIZE}s{NONCE_SIZE}s{_COMMITMENT_SIZE}s")
_LABEL = b"chatproxy/record/v1"
_DAY_MS = 86_400_000
_MAX_GENERATION = 2**16 - 1
_DAY_BITS = 20
_MAX_EXPIRES_AT = 2**_DAY_BITS * _DAY_MS - 1
MAX_SERIES = 2 ** (32 - _DAY_BITS) - 1
"""The last series that the keys of days can have."""


class RecordFlags(IntFlag):
    """Byte 4. The payload is opaque here: only PADDED changes what sealing does."""

    ZSTD = 1
    """The payload is a zstd frame."""
    PADDED = 2
    """The payload is padded to hide its exact length."""
    INTERRUPTED = 4
    """The exchange did not come to its end."""
    IMPORTED = 8


class Grounds(IntFlag):
    """Byte 5: the policy's grounds for keeping, as they were when the record was sealed."""

    SERVICE = 1
    TRAIN = 2
    SAFETY_IO = 4
    FEEDBACK = 8
    SESSION_SHARE = 16
    TRAIN_RESIDUE = 32


_ALL_FLAGS = 0b0000_1111
_PADDED = int(RecordFlags.PADDED)
_ALL_GROUNDS = 0b0011_1111


def epoch_day(at: int) -> int:
    """Return the UTC day, counted from 1970-01-01, in which the instant *at* (ms) falls."""
    return at // _DAY_MS


def epoch_number(day: int, *, series: int) -> int:
    """Return by which number a day's key of *series* is named; in series 0 it is the day itself."""
    return series << _DAY_BITS | day


def day_of_epoch(epoch: int) -> int:
    """Return the day that an epoch key is of."""
    return epoch & (1 << _DAY_BITS) - 1


def series_of_epoch(epoch: int) -> int:
    """Return which of its day's keys an epoch key is."""
    return epoch >> _DAY_BITS


@dataclass(frozen=True, slots=True)
class RecordHeader:
    """What a record says about itself in clear. Raises ValueError when made with values that have no bytes."""

    flags: RecordFlags
    grounds: Grounds
    generation: int
    """Which of the subject's keys."""
    expires_at: int
    """ms; authoritative."""
    turn: TurnId
    series: int = 0
    """Which of the day's keys."""

    def __post_init__(self) -> None:
        # As numbers: to compute with flags makes an enum member each time.
        if int(self.flags) & ~_ALL_FLAGS:
            raise ValueError("record flags 4 to 7 must be 0")
        if not self.grounds or int(self.grounds) & ~_ALL_GROUNDS:
            raise ValueError("a record needs a ground, and grounds 6 and 7 must be 0")
        if not 0 <= self.generation <= _MAX_GENERATION:
            raise ValueError("a subject key generation has 16 bits")
        if not 0 <= self.series <= MAX_SERIES:
            raise ValueError("a series of day keys has 12 bits")
        if not 0 <= self.expires_at <= _MAX_EXPIRES_AT:
            raise ValueError("expires_at is outside the days that a record can name")
        if len(self.turn) != _TAG_BYTES:
            raise ValueError("a turn id has 16 bytes")

    @property
    def epoch(self) -> int:
        """Return the number of the epoch key that seals the record; its day is always that of ``expires_at``."""
        return epoch_number(epoch_day(self.expires_at), series=self.series)


def parse_header(blob: bytes) -> RecordHeader:
    """Read the clear part of a record, which is not authentic before the record is opened.

    Raises UndecryptableError with ``record_length``, ``_magic``, ``_version``, ``_suite``, ``_flags``,
    ``_grounds`` or ``_epoch``.
    """
    if not OVERHEAD <= len(blob) <= MAX_RECORD_BYTES:
        raise UndecryptableError("record_length")
    magic, version, suite, flags, grounds, generation, epoch, expires_at, turn, _seed = _HEAD.unpack_from(
        blob
    )
    if magic != _MAGIC:
        raise UndecryptableError("record_magic")
    if version != _VERSION:
        raise UndecryptableError("record_version")
    if suite != _SUITE:
        raise UndecryptableError("record_suite")
    if flags & ~_ALL_FLAGS:
        raise UndecryptableError("record_flags")
    if not grounds or grounds & ~_ALL_GROUNDS:
        raise UndecryptableError("record_grounds")
    if day_of_epoch(epoch) != epoch_day(expires_at):
        raise UndecryptableError("record_epoch")
    return RecordHeader(
        flags=RecordFlags(flags),
        grounds=Grounds(grounds),
        generation=generation,
        expires_at=expires_at,
        turn=TurnId(turn),
        series=series_of_epoch(epoch),
    )


def seal_record(
    header: RecordHeader,
    *,
    subject_key: DataKey,
    epoch_key: DataKey,
    subject: SubjectTag,
    metadata: bytes,
    payload: bytes,
    seed: bytes | None = None,
) -> bytes:
    """Seal *payload* for *subject*; *metadata* (canonical JSON, immutable) is bound to it, not contained.

    *seed* is given only by tests against vectors: one seed must never seal two payloads.
    Raises ValueError if subject or seed have the wrong length or the record would be too long.
    """
    seed = random_bytes(_SEED_SIZE) if seed is None else seed
    if len(seed) != _SEED_SIZE or len(subject) != _TAG_BYTES:
        raise ValueError("a record needs a seed of 24 bytes and a subject tag of 16")
    plaintext = pad(payload) if int(header.flags) & _PADDED else payload
    if len(plaintext) > MAX_RECORD_BYTES - OVERHEAD:
        raise ValueError("the payload is too long for one record")
    head = _HEAD.pack(
        _MAGIC,
        _VERSION,
        _SUITE,
        header.flags,
        header.grounds,
        header.generation,
        header.epoch,
        header.expires_at,
        header.turn,
        seed,
    )
    names = lps(subject, metadata)
    key, nonce, commitment = _derive(head, subject_key=subject_key, epoch_key=epoch_key, names=names)
    public = head + commitment
    return public + aes_gcm_encrypt(key, nonce=nonce, plaintext=plaintext, aad=public + names)


def open_record(
    blob: bytes, *, subject_key: DataKey, epoch_key: DataKey, subject: SubjectTag, metadata: bytes
) -> bytes:
    """Return the payload of a record, authentic with its header, subject and metadata.

    Raises UndecryptableError: as ``parse_header``, then ``record_commitment`` (other keys, subject, metadata or
    header), ``record_tag`` (ciphertext altered) or ``record_padding``.
    """
    header = parse_header(blob)
    head, public = blob[: _HEAD.size], blob[: _HEAD.size + _COMMITMENT_SIZE]
    names = lps(subject, metadata)
    key, nonce, commitment = _derive(head, subject_key=subject_key, epoch_key=epoch_key, names=names)
    if not are_equal(commitment, public[_HEAD.size :]):
        raise UndecryptableError("record_commitment")
    plaintext = aes_gcm_decrypt(
        key,
        nonce=nonce,
        ciphertext=blob[len(public) :],
        aad=public + names,
        reason="record_tag",
    )
    return unpad(plaintext) if int(header.flags) & _PADDED else plaintext


def _derive(
    head: bytes, *, subject_key: DataKey, epoch_key: DataKey, names: bytes
) -> tuple[bytes, bytes, bytes]:
    """Derive key, nonce and commitment from both keys. The salt is the seed; the info binds header, subject and metadata by hash."""
    out = hkdf_sha256(
        subject_key.reveal() + epoch_key.reveal(),
        salt=head[-_SEED_SIZE:],
        info=_LABEL + sha256(_LABEL + b"\0" + lp(head) + names),
        size=_DERIVED.size,
    )
    key, nonce, commitment = _DERIVED.unpack(out)
    return key, nonce, commitment
