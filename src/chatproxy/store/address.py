"""Where is the store, and how is it reached? A URL is read once, strictly, and its password is never shown.

The query string that client libraries accept is refused: ``?ssl_cert_reqs=none`` would turn off what rediss is for.
"""

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from chatproxy.errors import ConfigurationError

_ACCEPTED = (
    "accepted are embedded, redis://[user:password@]host[:port][/db], rediss://… and "
    "unix://[user:password@]/path/to/socket"
)
_DEFAULT_PORT = 6379


class Transport(Enum):
    """What carries the Redis protocol."""

    TCP = "redis"
    TLS = "rediss"
    UNIX = "unix"


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """A store's address. ``str()`` of it has no credentials."""

    transport: Transport
    host: str = ""
    port: int = _DEFAULT_PORT
    path: str = ""
    database: int = 0
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    """Certificate authorities for TLS; None: those of the system."""

    def __str__(self) -> str:
        if self.transport is Transport.UNIX:
            return f"unix://{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.transport.value}://{host}:{self.port}/{self.database}"

    @classmethod
    def parse(cls, url: str, *, ca_file: Path | None = None) -> "StoreAddress":
        """Read a store URL.

        Raises:
            ConfigurationError: not a URL of a kind this version can use. The message never repeats the URL.
        """
        try:
            parts = urlsplit(url)
            port = parts.port or _DEFAULT_PORT
        except ValueError:
            raise ConfigurationError(f"CHATPROXY_STORE is not a valid URL: {_ACCEPTED}") from None
        if parts.scheme == "redis+cluster":
            raise ConfigurationError(
                "CHATPROXY_STORE: redis+cluster:// is not in this version: use a single server, with redis://"
            )
        if parts.scheme not in {transport.value for transport in Transport}:
            raise ConfigurationError(f"CHATPROXY_STORE has no known scheme: {_ACCEPTED}")
        if parts.query or parts.fragment:
            raise ConfigurationError("CHATPROXY_STORE takes no options after ? or #: remove them")
        transport = Transport(parts.scheme)
        if transport is not Transport.TLS and ca_file is not None:
            raise ConfigurationError("A CA file for the store is only of use with rediss://: change the URL")
        username, password = _credentials(parts)
        if transport is Transport.UNIX:
            if parts.netloc.rpartition("@")[2] or not parts.path.startswith("/"):
                raise ConfigurationError(
                    "CHATPROXY_STORE: unix:// needs an absolute path: unix:///path/to/socket"
                )
            return cls(transport=transport, path=unquote(parts.path), username=username, password=password)
        if not parts.hostname:
            raise ConfigurationError(f"CHATPROXY_STORE names no host: {_ACCEPTED}")
        return cls(
            transport=transport,
            host=parts.hostname,
            port=port,
            database=_database(parts.path),
            username=username,
            password=password,
            ca_file=ca_file,
        )


def _credentials(parts: SplitResult) -> tuple[str | None, str | None]:
    username = unquote(parts.username) if parts.username else None
    password = unquote(parts.password) if parts.password else None
    return username, password


def _database(path: str) -> int:
    number = path.removeprefix("/")
    if not number:
        return 0
    if not (number.isascii() and number.isdigit()):
        raise ConfigurationError("CHATPROXY_STORE: what follows the host must be a database number, as /0")
    return int(number)
