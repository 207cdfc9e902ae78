"""Which keyset does the setting name? The same one for ``serve`` and for every command."""

import ssl
from collections.abc import Callable
from pathlib import Path

from chatproxy.clock import Clock
from chatproxy.errors import KeysetError
from chatproxy.kms.file import PlacedKeyset
from chatproxy.kms.sealed import StoredKeyset
from chatproxy.kms.transit import TransitRoot
from chatproxy.kms.transit_address import SCHEME, TransitAddress
from chatproxy.kms.variable import keyset_place
from chatproxy.kms.vault_api import VaultAPI


def keyset_source(
    url: str,
    *,
    data_dir: Path,
    variable: Callable[[str], str | None],
    token: str | None,
    ca_file: Path | None,
    clock: Clock,
) -> PlacedKeyset | StoredKeyset:
    """Return what ``CHATPROXY_KEYSET`` names, a ``KeysetSource``; nothing is asked yet.

    Args:
        url: ``file:PATH``, ``env:NAME``, or ``transit:https://HOST:PORT/MOUNT/NAME``.
        data_dir: where a file may not lie.
        variable: gives the value of an environment variable.
        token: for a vault.
        ca_file: certificate authorities of a vault, instead of the system's.
        clock: tells how long a vault that did not answer is left alone.

    Raises:
        KeysetError: the URL cannot be used, or the token or a readable *ca_file* is missing.
    """
    if not url.startswith(SCHEME):
        return PlacedKeyset(url, keyset_place(url, data_dir=data_dir, variable=variable))
    address = TransitAddress.parse(url)
    if token is None:
        raise KeysetError(
            f"{address} needs a token: set CHATPROXY_KEYSET_TOKEN_FILE, or CHATPROXY_KEYSET_TOKEN"
        )
    is_tls = address.origin.startswith("https:")
    api = VaultAPI(address, token=token, ssl_context=_tls(ca_file) if is_tls else None, clock=clock)
    return StoredKeyset(str(address), TransitRoot(address, api))


def _tls(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError):
        raise KeysetError(
            f"CHATPROXY_KEYSET_CA_FILE = {ca_file} is not a readable PEM file of certificates"
        ) from None
