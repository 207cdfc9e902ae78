"""The keyset: which secrets does a deployment start from, and how are they written into one file?

1. It has every purpose from its first day: root, pseudonyms, annotations, signing. All but pseudonyms have
   versions with a status; exactly one of each is PRIMARY.
2. Reading is strict. What breaks a rule is refused by name, before a key of it is used: a keyset that is a
   little wrong makes transcripts that nobody can open.
3. Where the root is kept by a provider, a keyset has no root versions of its own (``chatproxy.crypto.sealed_keyset``).
4. ``check_value`` goes into the store at its birth. It tells whether a keyset is the one that the store was made
   with, and nothing about the keys. It stays the same when root or annotation keys rotate.

The bytes are in docs/record-format.md. Nothing here touches a file: ``chatproxy.kms.file`` does.
"""

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from msgspec.structs import replace

from chatproxy.crypto.annotation import AnnotationKeys
from chatproxy.crypto.keys import KeyStatus, MacKey, PseudonymKey, RootSecret, Secret, SigningSeed
from chatproxy.crypto.primitives import (
    RandomSource,
    are_equal,
    ed25519_public,
    hkdf_sha256,
    random_bytes,
    sha256,
)
from chatproxy.errors import KeysetError

KEYSET_FORMAT = "chatproxy/keyset/v1"
MAX_KEYSET_BYTES = 1024 * 1024

_ID_SIZE = 16
_CHECK_LABEL = b"chatproxy/keyset-check/v1"
_CHECK_SIZE = 16
_CHECK_VALUE = re.compile(rb"chatproxy/keyset-check/v1 ([0-9a-f]{32}) [0-9a-f]{32}")
_LEAST_DISTINCT_BYTES = 16
_RESTORE = "Restore the keyset from its backup; without it nothing that is stored can be read"

_ROOT_STEPS = frozenset(
    {
        (KeyStatus.PENDING, KeyStatus.PRIMARY),
        (KeyStatus.PENDING, KeyStatus.DESTROYED),
        (KeyStatus.DECRYPT, KeyStatus.RETIRED),
        (KeyStatus.RETIRED, KeyStatus.DECRYPT),
        (KeyStatus.RETIRED, KeyStatus.DESTROYED),
    }
)

_Version = Annotated[int, msgspec.Meta(ge=1, le=65_535)]
_Instant = Annotated[int, msgspec.Meta(ge=0)]
_SecretT = TypeVar("_SecretT", bound=Secret)


class RenewedPurpose(StrEnum):
    """The keys that authenticate, and can be replaced while what they have made stays."""

    ANNOTATIONS = "annotations"
    SIGNING = "signing"


class KeyVersion(
    msgspec.Struct, Generic[_SecretT], frozen=True, eq=False, forbid_unknown_fields=True, kw_only=True
):
    """One version of a key. ``created_at`` in ms; ``key`` is None once destroyed."""

    version: _Version
    status: KeyStatus
    created_at: _Instant
    key: _SecretT | None


class SigningVersion(
    KeyVersion[SigningSeed], frozen=True, eq=False, forbid_unknown_fields=True, kw_only=True
):
    """One version of the signing key. ``public`` stays when the seed is destroyed: it verifies for ever."""

    public: bytes


class Pseudonyms(msgspec.Struct, frozen=True, eq=False, forbid_unknown_fields=True, kw_only=True):
    """The one key without versions (security B2)."""

    created_at: _Instant
    key: PseudonymKey


class Keyset(msgspec.Struct, frozen=True, eq=False, forbid_unknown_fields=True, kw_only=True):
    """Everything that a keyset file holds."""

    id: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{32}\Z")]
    """Random; names the keyset in messages."""
    created_at: _Instant
    root: tuple[KeyVersion[RootSecret], ...]
    """None where a provider keeps the root."""
    pseudonyms: Pseudonyms
    annotations: tuple[KeyVersion[MacKey], ...]
    signing: tuple[SigningVersion, ...]

    def __repr__(self) -> str:
        versions = "; ".join(
            f"{purpose}: " + ", ".join(f"{entry.version} {entry.status}" for entry in entries)
            for purpose, entries in self.versioned().items()
        )
        return f"Keyset({self.id}; {versions})"

    def versioned(self) -> dict[str, Sequence[KeyVersion[Any]]]:
        """Return the versions of each purpose that has versions here."""
        own_root = {"root": self.root} if self.root else {}
        return {**own_root, "annotations": self.annotations, "signing": self.signing}

    def with_new_version(
        self, purpose: RenewedPurpose, *, created_at: int, random: RandomSource = random_bytes
    ) -> "Keyset":
        """Return the keyset with one more annotation or signing key, PENDING, unless there is one.

        *created_at* in ms.
        """
        entries = self.versioned()[purpose]
        if any(entry.status is KeyStatus.PENDING for entry in entries):
            return self
        new: dict[str, Any] = {
            "version": max(entry.version for entry in entries) + 1,
            "status": KeyStatus.PENDING,
            "created_at": created_at,
        }
        if purpose is RenewedPurpose.ANNOTATIONS:
            return replace(
                self, annotations=(*self.annotations, KeyVersion(**new, key=MacKey.generate(random)))
            )
        seed = SigningSeed.generate(random)
        version = SigningVersion(**new, key=seed, public=ed25519_public(seed.reveal()))
        return replace(self, signing=(*self.signing, version))

    def with_promoted(self, purpose: RenewedPurpose, version: int) -> "Keyset":
        """Return the keyset with a PENDING annotation or signing key as the one that is used.

        The annotation key before it verifies on; the seed of the signing key before it goes, and its public key verifies.
        Raises KeysetError where there is no such version; one that is in use already stays.
        """
        found = next((entry for entry in self.versioned()[purpose] if entry.version == version), None)
        if found is None or found.status not in {KeyStatus.PENDING, KeyStatus.PRIMARY}:
            raise KeysetError(f"the keyset has no {purpose} version {version} to promote")
        if found.status is KeyStatus.PRIMARY:
            return self
        if purpose is RenewedPurpose.ANNOTATIONS:
            return replace(
                self,
                annotations=tuple(
                    _promoted(entry, version, before={"status": KeyStatus.DECRYPT})
                    for entry in self.annotations
                ),
            )
        return replace(
            self,
            signing=tuple(
                _promoted(entry, version, before={"status": KeyStatus.DESTROYED, "key": None})
                for entry in self.signing
            ),
        )

    def with_new_root(self, *, created_at: int, random: RandomSource = random_bytes) -> "Keyset":
        """Return the keyset with one more root version, PENDING. *created_at* in ms. Raises KeysetError."""
        if any(entry.status is KeyStatus.PENDING for entry in self.root):
            raise KeysetError("a root version is PENDING already: promote or destroy it first")
        new = KeyVersion(
            version=max(entry.version for entry in self.root) + 1,
            status=KeyStatus.PENDING,
            created_at=created_at,
            key=RootSecret.generate(random),
        )
        return replace(self, root=(*self.root, new))

    def with_root_status(self, version: int, status: KeyStatus) -> "Keyset":
        """Return the keyset with a root version in another status, in the order of ``KeyStatus``.

        Raises KeysetError where that cannot be.
        """
        found = next((entry for entry in self.root if entry.version == version), None)
        if found is None:
            raise KeysetError(f"the keyset has no root version {version}; see `chatproxy keys status`")
        if (found.status, status) not in _ROOT_STEPS:
            raise KeysetError(f"root version {version} is {found.status}, and cannot become {status}")
        root = []
        for entry in self.root:
            if entry is found:
                key = None if status is KeyStatus.DESTROYED else entry.key
                root.append(replace(entry, status=status, key=key))
            elif status is KeyStatus.PRIMARY and entry.status is KeyStatus.PRIMARY:
                root.append(replace(entry, status=KeyStatus.DECRYPT))
            else:
                root.append(entry)
        return replace(self, root=tuple(root))

    @property
    def check_value(self) -> bytes:
        """Return what the store keeps to know its keyset again."""
        proof = hkdf_sha256(
            self.pseudonyms.key.reveal(), salt=b"", info=_CHECK_LABEL + self.id.encode(), size=_CHECK_SIZE
        )
        return b"%s %s %s" % (_CHECK_LABEL, self.id.encode(), proof.hex().encode())

    def require_check_value(self, found: bytes, *, source: str) -> None:
        """Raise KeysetError unless *found*, from the store, is this keyset's. *source* names the keyset."""
        if are_equal(found, self.check_value):
            return
        match = _CHECK_VALUE.fullmatch(found)
        other = f"keyset {match[1].decode()}" if match else "another keyset"
        raise KeysetError(
            f"{source}: this is keyset {self.id}, but the store was made with {other}. "
            "Set CHATPROXY_KEYSET to that one, or CHATPROXY_STORE and CHATPROXY_DATA_DIR to this one's store"
        )

    def known_versions(self, purpose: RenewedPurpose) -> list[int]:
        """Return the versions that what is there can be verified with."""
        return [
            entry.version
            for entry in self.versioned()[purpose]
            if entry.status.opens or purpose is RenewedPurpose.SIGNING
        ]

    def signing_key(self) -> SigningSeed:
        """Return the key that receipts and checkpoints are signed with now."""
        key = _primary(self.signing).key
        assert key is not None  # noqa: S101 - a primary version has its key
        return key

    def signing_publics(self) -> tuple[bytes, ...]:
        """Return the public keys of all that was ever signed, the present one first."""
        return tuple(entry.public for entry in sorted(self.signing, key=lambda entry: -entry.version))

    def annotation_keys(self) -> AnnotationKeys:
        """Return the annotation keys that may be used."""
        return AnnotationKeys(
            primary_version=_primary(self.annotations).version,
            versions={
                entry.version: entry.key
                for entry in self.annotations
                if entry.status.opens and entry.key is not None
            },
        )


class _KeysetFile(msgspec.Struct, forbid_unknown_fields=True):
    """The written form. The checksum is over the very bytes of ``keyset`` and finds damage, not malice."""

    format: str
    keyset: msgspec.Raw
    checksum: str


class _Format(msgspec.Struct):
    """What is read of a file before its format is known."""

    format: str


def make_keyset(*, created_at: int, random: RandomSource = random_bytes) -> Keyset:
    """Draw a new keyset, each purpose with version 1 as PRIMARY. *created_at* in ms."""
    seed = SigningSeed.generate(random)
    first: dict[str, Any] = {"version": 1, "status": KeyStatus.PRIMARY, "created_at": created_at}
    return Keyset(
        id=random(_ID_SIZE).hex(),
        created_at=created_at,
        root=(KeyVersion(**first, key=RootSecret.generate(random)),),
        pseudonyms=Pseudonyms(created_at=created_at, key=PseudonymKey.generate(random)),
        annotations=(KeyVersion(**first, key=MacKey.generate(random)),),
        signing=(SigningVersion(**first, key=seed, public=ed25519_public(seed.reveal())),),
    )


_VersionT = TypeVar("_VersionT", bound=KeyVersion[Any])


def _promoted(entry: _VersionT, version: int, *, before: Mapping[str, Any]) -> _VersionT:
    """Return a version as it is once *version* is PRIMARY; ``before``: what becomes of the one that was."""
    if entry.version == version:
        return replace(entry, status=KeyStatus.PRIMARY)
    return replace(entry, **before) if entry.status is KeyStatus.PRIMARY else entry


def with_other_root(keyset: Keyset, *, created_at: int, random: RandomSource = random_bytes) -> Keyset:
    """Return *keyset* with a root of its own and no other. *created_at* in ms."""
    root = KeyVersion(
        version=1, status=KeyStatus.PRIMARY, created_at=created_at, key=RootSecret.generate(random)
    )
    return replace(keyset, root=(root,))


def are_same_but_for_root(one: Keyset, other: Keyset) -> bool:
    """Whether two keysets hold the same keys, whatever their root."""
    return are_equal(write_keyset(without_root(one)), write_keyset(without_root(other)))


def without_root(keyset: Keyset) -> Keyset:
    """Return *keyset* for a provider that keeps the root itself."""
    return replace(keyset, root=())


def write_keyset(keyset: Keyset) -> bytes:
    """Return the bytes of a keyset file. They hold every secret in clear."""
    body = msgspec.json.encode(keyset, enc_hook=_encode_secret, order="sorted")
    return msgspec.json.encode(_KeysetFile(KEYSET_FORMAT, msgspec.Raw(body), sha256(body).hex())) + b"\n"


def parse_keyset(data: bytes, *, source: str) -> Keyset:
    """Read a keyset file. Raises KeysetError, which names *source*, the rule that is broken, and what to do."""
    try:
        found = msgspec.json.decode(data, type=_Format).format
        if found != KEYSET_FORMAT:
            raise KeysetError(
                f"{source}: its format is {found[:40]!r}, and this chatproxy reads {KEYSET_FORMAT!r}. "
                "Use the chatproxy that made it, or a newer one"
            )
        file = msgspec.json.decode(data, type=_KeysetFile)
        keyset = msgspec.json.decode(file.keyset, type=Keyset, dec_hook=_decode_secret)
    except msgspec.ValidationError as error:
        raise KeysetError(f"{source}: {error}. {_RESTORE}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise KeysetError(f"{source}: this is not a whole keyset file (JSON). {_RESTORE}") from None
    require_rules(keyset, source=source, has_root=True)
    if sha256(bytes(file.keyset)).hex() != file.checksum:
        raise KeysetError(f"{source}: its checksum does not fit: the file was damaged or edited. {_RESTORE}")
    return keyset


def require_rules(keyset: Keyset, *, source: str, has_root: bool) -> None:
    """Raise KeysetError if *keyset* breaks a rule. ``has_root``: whether it must have a root of its own, or none."""
    problem = next(_problems(keyset), None)
    if problem is None and bool(keyset.root) != has_root:
        problem = (
            "root has 0 PRIMARY versions, and must have one"
            if has_root
            else "it has a root of its own, beside the provider's"
        )
    if problem is not None:
        raise KeysetError(f"{source}: {problem}. {_RESTORE}")


def _problems(keyset: Keyset) -> Iterator[str]:
    """Name each rule that *keyset* breaks."""
    secrets: list[Secret] = [keyset.pseudonyms.key]
    for purpose, entries in keyset.versioned().items():
        versions = [entry.version for entry in entries]
        for version in sorted({version for version in versions if versions.count(version) > 1}):
            yield f"{purpose} has version {version} twice"
        primaries = [entry.status for entry in entries].count(KeyStatus.PRIMARY)
        if primaries != 1:
            yield f"{purpose} has {primaries} PRIMARY versions, and must have one"
        for entry in entries:
            if (entry.key is None) != (entry.status is KeyStatus.DESTROYED):
                yield f"{purpose} version {entry.version} is {entry.status}: only DESTROYED ones have no key"
        secrets += [entry.key for entry in entries if entry.key is not None]
    for entry in keyset.signing:
        if entry.key is not None and entry.public != ed25519_public(entry.key.reveal()):
            yield f"signing version {entry.version} has a public key that is not its seed's"
    if len({secret.reveal() for secret in secrets}) != len(secrets):
        yield "one key is used twice"
    if not all(_could_be_random(secret.reveal()) for secret in secrets):
        yield "a key is a default, a text or a pattern, not random"


def _could_be_random(secret: bytes) -> bool:
    """Refuse constants, counters, patterns and text. A random key is refused with a chance below 1e-9."""
    steps = {(after - before) % 256 for before, after in pairwise(secret)}
    is_text = all(0x20 <= byte < 0x7F for byte in secret)  # noqa: PLR2004 - printable ASCII
    return min(len(set(secret)), len(steps)) >= _LEAST_DISTINCT_BYTES and not is_text


def _primary(entries: Sequence[KeyVersion[_SecretT]]) -> KeyVersion[_SecretT]:
    return next(entry for entry in entries if entry.status is KeyStatus.PRIMARY)


def _encode_secret(secret: Secret) -> str:
    return base64.b64encode(secret.reveal()).decode()


def _decode_secret(kind: type[Secret], text: object) -> Secret:
    if not isinstance(text, str):
        raise TypeError("a key is written in base64")
    try:
        secret = base64.b64decode(text, validate=True)
    except ValueError:
        raise ValueError("a key is written in base64") from None
    return kind(secret)
