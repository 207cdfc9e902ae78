"""The key ring: which KEKs are there, what is each for now, and how do they come and go?

1. The ring lies in the store as a manifest: KEK versions with status, each wrapped by the root. It is known to
   every node and replaced by compare-and-set, so ``counter`` only grows.
2. A secret of its own, wrapped by the root too, authenticates it. Whoever can write to the store, even holding
   an old KEK, can neither make another version primary nor bring a retired one back.
3. Nothing here reaches the root: the caller has it unwrap ``RingManifest.wrapped_secrets()`` under the purpose
   ``RING_PURPOSE`` and gives the secrets to ``Keyring``.
4. Versions that a wrap names and this ring does not know are newer than this node, not damage: the code is
   ``unknown_kek_version``, and the answer is to load the ring again (security B9).
"""

from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec

from chatproxy.crypto.keys import DataKey, KeyEncryptionKey, KeyStatus, MacKey, WrappedKey
from chatproxy.crypto.primitives import RandomSource, are_equal, random_bytes
from chatproxy.crypto.record import MAX_SERIES
from chatproxy.crypto.wrap import Purpose, unwrap_key, wrap_key, wrapped_under
from chatproxy.errors import KeysetError, UndecryptableError
from chatproxy.model import SubjectTag

CHECK_NAME = "keyset"
"""The control value by which a store knows the keyset that it was made with."""
RING_NAME = "ring"
"""The control value of the store that holds the manifest."""
RING_PURPOSE = "ring"
"""The purpose under which the root wraps what is in the manifest."""
RING_FORMAT = "chatproxy/ring/v1"
MAX_RING_BYTES = 1024 * 1024

_MAC_IDENT = b"mac"
_FIRST_VERSION = 1
_DAMAGED = (
    "the key ring in the store (control value 'ring') {}. Nothing was changed. Restore this value from a backup of "
    "the store, or find out who wrote it"
)
_Instant = Annotated[int, msgspec.Meta(ge=0)]


class RingKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """One KEK version. Instants in ms; ``wrapped`` by the root, absent once destroyed."""

    version: Annotated[int, msgspec.Meta(ge=1, le=65_535)]
    status: KeyStatus
    created_at: _Instant
    wrapped: bytes | None
    promoted_at: _Instant | None = None
    """When it became PRIMARY; the first one was from the start."""
    changed_at: _Instant | None = None
    """When it came to its present status, if that is not since it was created."""

    @property
    def ident(self) -> bytes:
        """Return what the root binds the wrap to."""
        return b"kek/%d" % self.version


class RingManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """What the ring says, without the keys. ``counter`` grows by one with each change."""

    counter: Annotated[int, msgspec.Meta(ge=1)]
    wrapped_mac_key: bytes
    keys: tuple[RingKey, ...]
    epoch_series: Annotated[int, msgspec.Meta(ge=0, le=MAX_SERIES)] = 0
    """Which of the keys of a day seals what is new (``chatproxy.crypto.record``)."""

    def wrapped_secrets(self) -> list[tuple[bytes, bytes]]:
        """Return the (ident, wrapped) pairs for the root to unwrap, in the order that ``Keyring`` takes."""
        return [
            (_MAC_IDENT, self.wrapped_mac_key),
            *((key.ident, key.wrapped) for key in self.keys if key.status.opens and key.wrapped),
        ]

    @property
    def primary(self) -> RingKey:
        """Return the version that new wraps are made with."""
        return next(key for key in self.keys if key.status is KeyStatus.PRIMARY)

    def key(self, version: int) -> RingKey:
        """Return a version. Raises KeysetError if there is none of that number."""
        found = next((key for key in self.keys if key.version == version), None)
        if found is None:
            raise KeysetError(f"the key ring has no version {version}; see `chatproxy keys status`")
        return found


class _SignedRing(msgspec.Struct, forbid_unknown_fields=True):
    """The stored form. The MAC is over the very bytes of ``ring``, so no two encodings can matter."""

    format: str
    ring: msgspec.Raw
    mac: bytes


class MintedSecrets:
    """The secrets of a first ring, between drawing them and having the root wrap them."""

    __slots__ = ("_kek", "_mac_key")

    def __init__(self, random: RandomSource = random_bytes) -> None:
        self._mac_key = MacKey.generate(random)
        self._kek = KeyEncryptionKey.generate(random)

    def to_wrap(self) -> list[tuple[bytes, bytes]]:
        """Return the (ident, secret) pairs for the root to wrap under ``RING_PURPOSE``."""
        return [
            (_MAC_IDENT, self._mac_key.reveal()),
            (b"kek/%d" % _FIRST_VERSION, self._kek.reveal()),
        ]

    def manifest(self, wraps: Sequence[bytes], *, created_at: int) -> bytes:
        """Return the bytes of the first ring; *wraps* as the root gave them for ``to_wrap()``."""
        wrapped_mac_key, wrapped_kek = wraps
        key = RingKey(
            version=_FIRST_VERSION, status=KeyStatus.PRIMARY, created_at=created_at, wrapped=wrapped_kek
        )
        ring = RingManifest(counter=1, wrapped_mac_key=wrapped_mac_key, keys=(key,))
        return sign_manifest(ring, mac_key=self._mac_key)


def sign_manifest(ring: RingManifest, *, mac_key: MacKey) -> bytes:
    """Return the bytes of *ring* for the store: canonical JSON, authenticated."""
    body = msgspec.json.encode(ring, order="sorted")
    signed = _SignedRing(RING_FORMAT, msgspec.Raw(body), _manifest_mac(body, mac_key=mac_key))
    return msgspec.json.encode(signed, order="sorted")


def parse_manifest(data: bytes) -> RingManifest:
    """Read a stored ring, not yet authentic: ``Keyring`` checks that. Raises KeysetError."""
    _, ring = _parse(data)
    return ring


class Keyring:
    """The KEKs in memory. Made of a stored manifest and its secrets, which the root has unwrapped.

    Raises KeysetError if the manifest is damaged or not authentic.
    """

    __slots__ = ("_keks", "_mac_key", "_statuses", "counter", "data", "manifest", "primary_version")

    def __init__(self, data: bytes, secrets: Sequence[bytes]) -> None:
        signed, ring = _parse(data)
        self._mac_key = MacKey(secrets[0])
        self.manifest = ring
        self.data = data
        if not are_equal(signed.mac, _manifest_mac(bytes(signed.ring), mac_key=self._mac_key)):
            raise KeysetError(_DAMAGED.format("is not authentic: its check value does not fit"))
        in_use = [key for key in ring.keys if key.status.opens]
        self._keks: Mapping[int, KeyEncryptionKey] = {
            key.version: KeyEncryptionKey(secret) for key, secret in zip(in_use, secrets[1:], strict=True)
        }
        self._statuses: Mapping[int, KeyStatus] = {key.version: key.status for key in ring.keys}
        self.primary_version = ring.primary.version
        self.counter = ring.counter

    def __repr__(self) -> str:
        versions = ", ".join(f"{version} {status}" for version, status in self._statuses.items())
        return f"Keyring(counter={self.counter}, {versions})"

    def signed(self, ring: RingManifest) -> bytes:
        """Return the bytes of *ring*, which comes after this one, for the store."""
        return sign_manifest(ring, mac_key=self._mac_key)

    def wrap_subject_key(self, key: DataKey, *, subject: SubjectTag, generation: int) -> WrappedKey:
        """Wrap the key of a subject's generation under the primary KEK."""
        return self._wrap(Purpose.SUBJECT, _subject_ident(subject, generation), key)

    def unwrap_subject_key(self, wrapped: bytes, *, subject: SubjectTag, generation: int) -> DataKey:
        """Undo ``wrap_subject_key``, under any KEK of the ring. Raises UndecryptableError; see ``_unwrap``."""
        return self._unwrap(Purpose.SUBJECT, _subject_ident(subject, generation), wrapped)

    def wrap_epoch_key(self, key: DataKey, *, epoch: int) -> WrappedKey:
        """Wrap an epoch key, by its number, under the primary KEK."""
        return self._wrap(Purpose.EPOCH, _epoch_ident(epoch), key)

    def unwrap_epoch_key(self, wrapped: bytes, *, epoch: int) -> DataKey:
        """Undo ``wrap_epoch_key``, under any KEK of the ring. Raises UndecryptableError; see ``_unwrap``."""
        return self._unwrap(Purpose.EPOCH, _epoch_ident(epoch), wrapped)

    def _wrap(self, purpose: Purpose, ident: bytes, key: DataKey) -> WrappedKey:
        kek = self._keks[self.primary_version]
        return wrap_key(kek, kek_version=self.primary_version, purpose=purpose, ident=ident, key=key)

    def _unwrap(self, purpose: Purpose, ident: bytes, wrapped: bytes) -> DataKey:
        """Unwrap under exactly the KEK that *wrapped* names.

        Raises UndecryptableError: unknown_kek_version, retired_kek_version, destroyed_kek_version, or as
        ``unwrap_key``.
        """
        version = wrapped_under(wrapped)
        kek = self._keks.get(version)
        if kek is None:
            status = self._statuses.get(version)
            raise UndecryptableError(f"{status.lower() if status else 'unknown'}_kek_version")
        return unwrap_key(kek, purpose=purpose, ident=ident, wrapped=wrapped)


def _parse(data: bytes) -> tuple[_SignedRing, RingManifest]:
    """Read the form and refuse rings that break a rule."""
    if len(data) > MAX_RING_BYTES:
        raise KeysetError(_DAMAGED.format("is too long"))
    try:
        signed = msgspec.json.decode(data, type=_SignedRing)
        if signed.format != RING_FORMAT:
            msg = f"has a format that this chatproxy does not know (it reads {RING_FORMAT}): use a newer chatproxy"
            raise KeysetError(_DAMAGED.format(msg))
        ring = msgspec.json.decode(signed.ring, type=RingManifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise KeysetError(_DAMAGED.format("cannot be read")) from None
    versions = [key.version for key in ring.keys]
    if len(set(versions)) != len(versions):
        raise KeysetError(_DAMAGED.format("has one version twice"))
    if [key.status for key in ring.keys].count(KeyStatus.PRIMARY) != 1:
        raise KeysetError(_DAMAGED.format("must have exactly one PRIMARY version"))
    if any((key.wrapped is None) != (key.status is KeyStatus.DESTROYED) for key in ring.keys):
        raise KeysetError(_DAMAGED.format("must have a key for each version but the DESTROYED ones"))
    return signed, ring


def _manifest_mac(body: bytes, *, mac_key: MacKey) -> bytes:
    return mac_key.mac(RING_FORMAT.encode() + b"\0" + body)


def _subject_ident(subject: SubjectTag, generation: int) -> bytes:
    return subject + generation.to_bytes(2, "big")


def _epoch_ident(epoch: int) -> bytes:
    return epoch.to_bytes(4, "big")
