"""Where is the key of a transit engine, as the setting writes it? ``transit:https://HOST:PORT/MOUNT/NAME``."""

import re
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from chatproxy.errors import KeysetError

SCHEME = "transit:"
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_SEGMENT = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")
_FORM = (
    "must be transit:https://HOST:PORT/MOUNT/NAME, such as transit:https://vault.internal:8200/transit/chatproxy; "
    "the token goes into CHATPROXY_KEYSET_TOKEN"
)


@dataclass(frozen=True, slots=True)
class TransitAddress:
    """A key *name* in the transit engine at *mount* of the server at *origin*."""

    origin: str
    mount: str
    name: str

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read the setting's form. Raises KeysetError, which does not repeat it: somebody may have put a token in."""
        try:
            parts = urlsplit(url.removeprefix(SCHEME))
            is_whole = bool(url.startswith(SCHEME) and parts.hostname and parts.port != 0)
        except ValueError:
            raise KeysetError(f"CHATPROXY_KEYSET {_FORM}") from None
        *mount, name = parts.path.removeprefix("/").split("/")
        is_plain = not (
            parts.username or parts.password or parts.query or parts.fragment or "@" in parts.netloc
        )
        if not (is_whole and is_plain and mount and all(map(_SEGMENT.fullmatch, (*mount, name)))):
            raise KeysetError(f"CHATPROXY_KEYSET {_FORM}")
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
            raise KeysetError("CHATPROXY_KEYSET must name the vault by https, or by http on this machine")
        return cls(f"{parts.scheme}://{parts.netloc}", "/".join(mount), name)

    def __str__(self) -> str:
        return f"{SCHEME}{self.origin}/{self.mount}/{self.name}"
