"""The keyset where a provider keeps the root: it lies in the store, each secret wrapped by the root.

1. What it says of versions is in clear. Each secret is wrapped under the purpose ``SEALED_PURPOSE`` and an ident that
   names the keyset, the key and its version, so that none can stand for another.
2. A MAC under a key derived from the pseudonym key covers all that is written and every secret in it: whoever writes to
   the store can delete it or put back an older one, and nothing else; a secret that was unwrapped wrongly is noticed.
3. Only the wraps change when the root rotates: the check value of the store stays.

The bytes are in docs/record-format.md. Nothing here reaches the root: the caller has it wrap ``secrets_of`` and unwrap
``SealedKeyset.wrapped_secrets()``.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import msgspec

from chatproxy.crypto.encoding import lps
from chatproxy.crypto.keys import KeyStatus, MacKey, PseudonymKey, SigningSeed
from chatproxy.crypto.keyset import Keyset, KeyVersion, Pseudonyms, SigningVersion, require_rules
from chatproxy.crypto.primitives import KEY_SIZE, are_equal, hkdf_sha256, hmac_sha256
from chatproxy.errors import KeysetError

SEALED_NAME = "sealed-keyset"
"""The control value of the store that holds it."""
SEALED_PURPOSE = "keyset"
"""The purpose under which the root wraps what is in it."""
SEALED_FORMAT = "chatproxy/sealed-keyset/v1"

_MAC_LABEL = b"chatproxy/sealed-keyset-mac/v1"
_DAMAGED = (
    "the sealed keyset in the store (control value 'sealed-keyset') {}. Nothing was changed. Restore this value from a "
    "backup of the store: without it nothing that is stored can be read"
)

_Instant = Annotated[int, msgspec.Meta(ge=0)]


class _Version(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """One version of a key. ``wrapped`` is None once destroyed."""

    version: Annotated[int, msgspec.Meta(ge=1, le=65_535)]
    status: KeyStatus
    created_at: _Instant
    wrapped: bytes | None
    public: bytes | None = None
    """Of a signing key."""


class _Pseudonyms(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    created_at: _Instant
    wrapped: bytes


class SealedKeyset(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a sealed keyset says, without its secrets."""

    id: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{32}\Z")]
    created_at: _Instant
    pseudonyms: _Pseudonyms
    annotations: tuple[_Version, ...]
    signing: tuple[_Version, ...]

    def wrapped_secrets(self) -> list[tuple[bytes, bytes]]:
        """Return the (ident, wrapped) pairs for the root to unwrap, in the order of ``secrets_of``."""
        return [
            (_ident(self.id, "pseudonyms", 0), self.pseudonyms.wrapped),
            *(
                (_ident(self.id, purpose, entry.version), entry.wrapped)
                for purpose, entries in (("annotations", self.annotations), ("signing", self.signing))
                for entry in entries
                if entry.wrapped is not None
            ),
        ]


class _Written(msgspec.Struct, forbid_unknown_fields=True):
    """The stored form. The MAC is over the very bytes of ``keyset``."""

    format: str
    keyset: msgspec.Raw
    mac: bytes


class _Format(msgspec.Struct):
    format: str


def secrets_of(keyset: Keyset) -> list[tuple[bytes, bytes]]:
    """Return the (ident, secret) pairs for the root to wrap under ``SEALED_PURPOSE``."""
    return [
        (_ident(keyset.id, "pseudonyms", 0), keyset.pseudonyms.key.reveal()),
        *(
            (_ident(keyset.id, purpose, entry.version), entry.key.reveal())
            for purpose, entries in (("annotations", keyset.annotations), ("signing", keyset.signing))
            for entry in entries
            if entry.key is not None
        ),
    ]


def write_sealed(keyset: Keyset, wraps: Sequence[bytes]) -> bytes:
    """Return the bytes of *keyset*, sealed, for the store; *wraps* as the root gave them for ``secrets_of``."""
    secrets = secrets_of(keyset)
    each = iter(wraps)
    sealed = SealedKeyset(
        id=keyset.id,
        created_at=keyset.created_at,
        pseudonyms=_Pseudonyms(created_at=keyset.pseudonyms.created_at, wrapped=next(each)),
        annotations=tuple(_sealed(entry, each) for entry in keyset.annotations),
        signing=tuple(_sealed(entry, each, public=entry.public) for entry in keyset.signing),
    )
    body = msgspec.json.encode(sealed, order="sorted")
    mac = _mac(body, [secret for _, secret in secrets])
    return msgspec.json.encode(_Written(SEALED_FORMAT, msgspec.Raw(body), mac))


def parse_sealed(data: bytes) -> SealedKeyset:
    """Read a sealed keyset, not yet authentic: ``open_sealed`` checks that. Raises KeysetError."""
    return _parse(data)[1]


def open_sealed(data: bytes, secrets: Sequence[bytes]) -> Keyset:
    """Return the keyset; *secrets* as the root unwrapped them for ``wrapped_secrets``. Raises KeysetError."""
    written, sealed = _parse(data)
    if len(secrets) != len(sealed.wrapped_secrets()) or any(len(secret) != KEY_SIZE for secret in secrets):
        raise KeysetError(_DAMAGED.format("was not unwrapped to keys"))
    if not are_equal(written.mac, _mac(bytes(written.keyset), secrets)):
        raise KeysetError(_DAMAGED.format("is not authentic: its check value does not fit"))
    each = iter(secrets)
    keyset = Keyset(
        id=sealed.id,
        created_at=sealed.created_at,
        root=(),
        pseudonyms=Pseudonyms(created_at=sealed.pseudonyms.created_at, key=PseudonymKey(next(each))),
        annotations=tuple(
            KeyVersion(**_about(entry), key=MacKey(next(each)) if entry.wrapped is not None else None)
            for entry in sealed.annotations
        ),
        signing=tuple(
            SigningVersion(
                **_about(entry),
                key=SigningSeed(next(each)) if entry.wrapped is not None else None,
                public=entry.public or b"",
            )
            for entry in sealed.signing
        ),
    )
    require_rules(keyset, source="the sealed keyset in the store", has_root=False)
    return keyset


def _about(entry: _Version) -> dict[str, Any]:
    return {"version": entry.version, "status": entry.status, "created_at": entry.created_at}


def _sealed(entry: KeyVersion[Any], wraps: Iterator[bytes], *, public: bytes | None = None) -> _Version:
    return _Version(
        version=entry.version,
        status=entry.status,
        created_at=entry.created_at,
        wrapped=next(wraps) if entry.key is not None else None,
        public=public,
    )


def _parse(data: bytes) -> tuple[_Written, SealedKeyset]:
    try:
        found = msgspec.json.decode(data, type=_Format).format
        if found != SEALED_FORMAT:
            raise KeysetError(
                _DAMAGED.format(f"has the format {found[:40]!r}, which this chatproxy does not read")
            )
        written = msgspec.json.decode(data, type=_Written)
        return written, msgspec.json.decode(written.keyset, type=SealedKeyset)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise KeysetError(_DAMAGED.format("is damaged")) from None


def _mac(body: bytes, secrets: Sequence[bytes]) -> bytes:
    key = hkdf_sha256(secrets[0], salt=b"", info=_MAC_LABEL, size=KEY_SIZE)
    return hmac_sha256(key, lps(body, *secrets))


def _ident(keyset_id: str, purpose: str, version: int) -> bytes:
    return f"{keyset_id}/{purpose}/{version}".encode()
