"""A root that never leaves its vault: the transit engine of OpenBao or Vault, as a ``RootKey``.

1. It is asked at the start, by rotation, by a node that reads a new key ring, and every few seconds by each node for its
   versions; never for a chat.
2. Every wrap names the key version it was made under, and purpose and ident are its associated data: a wrap opens only
   as what it was made.
3. The vault is not believed: a wrap carries a check of what is in it, so that a wrong plaintext is noticed, and it is
   opened once before anything relies on it (F-52).
4. A version exists for everybody at once: there is nothing to hand out, so none is ever PENDING. Retiring raises
   ``min_decryption_version``, which can be taken back; destroying trims, which cannot. Both take all older versions with
   them, and neither ever undoes the other.
5. The key must be there before anything is wrapped: the engine makes a key that is not, under whatever name was
   misspelt.

A wrap is ``vault:vN:BASE64``, as the engine gives it, ``.``, and the check in base64url.
"""

import base64
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NoReturn
from urllib.parse import quote

from chatproxy.crypto.encoding import lps
from chatproxy.crypto.keys import KeyStatus
from chatproxy.crypto.primitives import KEY_SIZE, are_equal, hkdf_sha256
from chatproxy.errors import RootRefusedError, UndecryptableError
from chatproxy.kms.transit_address import TransitAddress
from chatproxy.kms.vault_api import NoKeyError, VaultAPI
from chatproxy.policy.instants import parse_instant
from chatproxy.ports import RootKey, RootVersion

_LABEL = b"chatproxy/transit/v1"
_CHECK_LABEL = b"chatproxy/transit-check/v1"
_CHECK_SIZE = 16
_TYPE = "aes256-gcm96"
_BATCH = 200
"""The engine takes up to 250 items with associated data."""
_WRAP = re.compile(rb"(vault:v([1-9][0-9]{0,8}):[A-Za-z0-9+/]+={0,2})\.([A-Za-z0-9_-]{22})")


class _Key(NamedTuple):
    """The key as the vault describes it: its versions are from 1 to ``latest``."""

    latest: int
    least: int
    """The lowest version that opens."""
    available: int
    """The lowest version that is still there; 0: none was trimmed."""
    created: Mapping[str, Any]


class TransitRoot:
    """The root in a vault."""

    def __init__(self, address: TransitAddress, api: VaultAPI) -> None:
        self._address = address
        self._api = api

    def __repr__(self) -> str:
        return f"TransitRoot({self._address})"

    async def wrap(self, purpose: str, keys: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
        """Wrap (ident, key) pairs, keys of 32 bytes, under the latest version.

        Raises RootRefusedError, RootUnavailableError, UndecryptableError where the vault does not open what it wrapped.
        """
        await self._key()
        items = [
            {"plaintext": _encoded(key), "associated_data": _encoded(_names(purpose, ident))}
            for ident, key in keys
        ]
        results = await self._batched("encrypt", items)
        wraps = [
            b"%s.%s" % (_text(result, "ciphertext").encode(), _check(purpose, ident, key))
            for (ident, key), result in zip(keys, results, strict=True)
        ]
        await self.unwrap(purpose, [(ident, wrap) for (ident, _), wrap in zip(keys, wraps, strict=True)])
        return wraps

    async def unwrap(self, purpose: str, wraps: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
        """Unwrap (ident, wrapped) pairs.

        Raises UndecryptableError: root_wrap_form; root_wrap_refused (another key, ident or purpose, or a version that
        is retired or destroyed); root_wrap_check (the vault opened it to something else); RootRefusedError,
        RootUnavailableError.
        """
        items = [
            {
                "ciphertext": _parts(wrapped)[1].decode("ascii"),
                "associated_data": _encoded(_names(purpose, ident)),
            }
            for ident, wrapped in wraps
        ]
        results = await self._batched("decrypt", items)
        opened = [_decoded(_text(result, "plaintext")) for result in results]
        for (ident, wrapped), key in zip(wraps, opened, strict=True):
            if len(key) != KEY_SIZE or not are_equal(_check(purpose, ident, key), _parts(wrapped)[3]):
                raise UndecryptableError("root_wrap_check")
        return opened

    def version_of(self, wrapped: bytes) -> int:
        """Return the version that a wrap names. Raises UndecryptableError: root_wrap_form."""
        return int(_parts(wrapped)[2])

    async def versions(self) -> list[RootVersion]:
        """Return every version that there is or was, the oldest first. Raises RootRefusedError, RootUnavailableError.

        The vault does not say when a version was made that it does not open with: 0.
        """
        key = await self._key()
        return [
            RootVersion(version, _status(version, key), _created_at(key.created.get(str(version))))
            for version in range(1, key.latest + 1)
        ]

    async def add_version(self, *, now: int) -> int:
        """Rotate the key in the vault; return the new version, which is the one to wrap with at once.

        Raises RootRefusedError, RootUnavailableError; then there may be a version more all the same.
        """
        del now
        await self._key()
        await self._change("rotate", {})
        return (await self._key()).latest

    async def set_status(self, version: int, status: KeyStatus) -> None:
        """Retire, bring back or destroy a version. Raises RootRefusedError, RootUnavailableError."""
        key = await self._key()
        found = _status(version, key)
        if found is status:
            return
        match found, status:
            case KeyStatus.DECRYPT, KeyStatus.RETIRED:
                await self._change("config", {"min_decryption_version": version + 1})
            case KeyStatus.RETIRED, KeyStatus.DECRYPT:
                await self._change("config", {"min_decryption_version": version})
            case KeyStatus.RETIRED, KeyStatus.DESTROYED:
                # The engine trims only where the version to wrap with is named, and not below it.
                await self._change("config", {"min_encryption_version": key.latest})
                await self._change("trim", {"min_available_version": version + 1})
            case _:
                raise RootRefusedError(
                    f"version {version} of {self._address} is {found}, and cannot become {status}"
                )

    async def create(self) -> bool:
        """Make the key in the vault, unless it is there; return whether it was made.

        Raises RootRefusedError, RootUnavailableError.
        """
        try:
            await self._key()
        except NoKeyError:
            await self._change("", {"type": _TYPE, "exportable": False, "allow_plaintext_backup": False})
            await self._key()
            return True
        return False

    async def _key(self) -> _Key:
        """Return what the vault says of the key. Raises RootRefusedError where there is none, or one of another kind."""
        answer = await self._api.ask("GET", self._path("keys"))
        data = answer.data
        if answer.is_refusal or data.get("type") != _TYPE or data.get("derived") or data.get("soft_deleted"):
            self._refuse(f"is not a key of the type {_TYPE} without derivation")
        latest, least, available = (
            data.get(name, 0)
            for name in ("latest_version", "min_decryption_version", "min_available_version")
        )
        created = data.get("keys")
        if (
            not isinstance(latest, int)
            or not isinstance(least, int)
            or not isinstance(available, int)
            or not isinstance(created, dict)
        ):
            self._refuse("is described in a way that this chatproxy does not know")
        return _Key(latest, least, available, created)

    async def _change(self, verb: str, body: Mapping[str, object]) -> None:
        """Change the key. Raises RootRefusedError, RootUnavailableError."""
        answer = await self._api.ask("POST", self._path("keys", verb), body)
        if answer.is_refusal:
            self._refuse(
                f"does not take the change {verb or 'to make it'} (status 400): see the vault's own log"
            )

    async def _batched(self, verb: str, items: Sequence[Mapping[str, str]]) -> list[Mapping[str, Any]]:
        results: list[Mapping[str, Any]] = []
        for start in range(0, len(items), _BATCH):
            batch = items[start : start + _BATCH]
            answer = await self._api.ask("POST", self._path(verb), {"batch_input": batch})
            found = answer.data.get("batch_results")
            if not isinstance(found, list) or len(found) != len(batch):
                # Nothing is said of single wraps, so this is about the key: it may have been deleted.
                await self._key()
                self._refuse(f"does not do {verb}: see the vault's own log")
            if answer.is_refusal or any(not isinstance(each, dict) or each.get("error") for each in found):
                raise UndecryptableError("root_wrap_refused")
            results += found
        return results

    def _path(self, what: str, verb: str = "") -> str:
        return "/".join(part for part in (what, quote(self._address.name, safe=""), verb) if part)

    def _refuse(self, what: str) -> NoReturn:
        raise RootRefusedError(f"{self._address} {what}")


def _status(version: int, key: _Key) -> KeyStatus:
    if not 1 <= version <= key.latest:
        raise RootRefusedError(f"the key in the vault has no version {version}")
    if version < key.available:
        return KeyStatus.DESTROYED
    if version < key.least:
        return KeyStatus.RETIRED
    return KeyStatus.PRIMARY if version == key.latest else KeyStatus.DECRYPT


def _created_at(found: object) -> int:
    """Return when a version was made, ms; 0 where the vault does not say. Vaults write seconds, or a date."""
    if isinstance(found, int):
        return found * 1000
    try:
        return parse_instant(str(found))
    except ValueError:
        return 0


def _names(purpose: str, ident: bytes) -> bytes:
    return _LABEL + lps(purpose.encode(), ident)


def _check(purpose: str, ident: bytes, key: bytes) -> bytes:
    """Return what tells whether an opened wrap is *key*, and nothing about it."""
    check = hkdf_sha256(key, salt=b"", info=_CHECK_LABEL + lps(purpose.encode(), ident), size=_CHECK_SIZE)
    return base64.urlsafe_b64encode(check).rstrip(b"=")


def _parts(wrapped: bytes) -> re.Match[bytes]:
    """Read a wrap: 1 what the vault gave, 2 the version, 3 the check. Raises UndecryptableError."""
    match = _WRAP.fullmatch(wrapped)
    if match is None:
        raise UndecryptableError("root_wrap_form")
    return match


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise UndecryptableError("root_wrap_check") from None


def _text(result: Mapping[str, Any], name: str) -> str:
    value = result.get(name)
    if not isinstance(value, str) or not value.isascii():
        raise UndecryptableError("root_wrap_refused")
    return value


_: type[RootKey] = TransitRoot
