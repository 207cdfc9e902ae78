"""Where is the store, and how is it reached? A URL is read once, strictly, and its password is never shown.

The query string that client libraries accept is refused: ``?ssl_cert_reqs=none`` would turn off what rediss is for.
"""

from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from chatproxy.errors import ConfigurationError

_ACCEPTED = (
    "accepted are embedded, redis://[user:password@]host[:port][/db], rediss://…, "
    "unix://[user:password@]/path/to/socket, redis+cluster://[user:password@]host[:port],… and "
    "redis+sentinel://[user:password@]host[:port],…/name[/db]"
)
_DEFAULT_PORT = 6379
_SENTINEL_PORT = 26379


class Transport(Enum):
    """What carries the Redis protocol."""

    TCP = "redis"
    TLS = "rediss"
    UNIX = "unix"


class Topology(Enum):
    """How many servers the store is, and who knows which of them to ask."""

    SINGLE = ""
    CLUSTER = "+cluster"
    SENTINEL = "+sentinel"


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
    topology: Topology = Topology.SINGLE
    seeds: tuple[tuple[str, int], ...] = ()
    """Of a cluster: nodes to ask about it. Of a primary that sentinels know: the sentinels."""
    service: str = ""
    """The name by which sentinels know the primary."""

    def __str__(self) -> str:
        if self.transport is Transport.UNIX:
            return f"unix://{self.path}"
        scheme = f"{self.transport.value}{self.topology.value}://"
        match self.topology:
            case Topology.SINGLE:
                return f"{scheme}{_shown(self.host, self.port)}/{self.database}"
            case Topology.CLUSTER:
                return scheme + ",".join(_shown(*seed) for seed in self.seeds)
            case Topology.SENTINEL:
                seeds = ",".join(_shown(*seed) for seed in self.seeds)
                return f"{scheme}{seeds}/{self.service}/{self.database}"

    def at(self, host: str, port: int) -> "StoreAddress":
        """Return the address of one server of this store."""
        return replace(self, host=host, port=port, topology=Topology.SINGLE, seeds=(), service="")

    @classmethod
    def parse(cls, url: str, *, ca_file: Path | None = None) -> "StoreAddress":
        """Read a store URL.

        Raises:
            ConfigurationError: not a URL of a kind this version can use. The message never repeats the URL.
        """
        try:
            parts = urlsplit(url)
            scheme, plus, kind = parts.scheme.partition("+")
            topology = Topology(plus + kind)
            transport = Transport(scheme)
            if topology is not Topology.SINGLE and transport is Transport.UNIX:
                raise ValueError  # noqa: TRY301 - the same as an unknown scheme
        except ValueError:
            raise ConfigurationError(f"CHATPROXY_STORE has no known scheme: {_ACCEPTED}") from None
        if parts.query or parts.fragment:
            raise ConfigurationError("CHATPROXY_STORE takes no options after ? or #: remove them")
        if transport is not Transport.TLS and ca_file is not None:
            raise ConfigurationError("A CA file for the store is only of use with rediss://: change the URL")
        if topology is not Topology.SINGLE:
            return _of_several(parts, transport, topology, ca_file)
        try:
            port = parts.port or _DEFAULT_PORT
        except ValueError:
            raise ConfigurationError(f"CHATPROXY_STORE is not a valid URL: {_ACCEPTED}") from None
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


def _of_several(
    parts: SplitResult, transport: Transport, topology: Topology, ca_file: Path | None
) -> StoreAddress:
    default_port = _DEFAULT_PORT if topology is Topology.CLUSTER else _SENTINEL_PORT
    seeds = []
    for place in parts.netloc.rpartition("@")[2].split(","):
        try:
            one = urlsplit(f"//{place}")
            host, port = one.hostname, one.port or default_port
        except ValueError:
            raise ConfigurationError(f"CHATPROXY_STORE is not a valid URL: {_ACCEPTED}") from None
        if not host:
            raise ConfigurationError(f"CHATPROXY_STORE names no host: {_ACCEPTED}")
        seeds.append((host, port))
    if topology is Topology.CLUSTER:
        service, database = "", _database(parts.path)
        if database:
            raise ConfigurationError("CHATPROXY_STORE: a cluster has no databases: remove the number")
    else:
        service, _, number = parts.path.removeprefix("/").partition("/")
        if not service:
            raise ConfigurationError(
                "CHATPROXY_STORE: redis+sentinel:// needs the name of the primary after the hosts, as /mymaster"
            )
        database = _database(number)
    username, password = _credentials(parts)
    return StoreAddress(
        transport=transport,
        database=database,
        username=username,
        password=password,
        ca_file=ca_file,
        topology=topology,
        seeds=tuple(seeds),
        service=unquote(service),
    )


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


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
