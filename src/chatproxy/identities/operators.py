"""Which of the company's own servers and people asks on the admin listener, and in which roles?

1. Who asks is known by a bearer token, or by a client certificate that a named authority has signed. Both are
   settings, each with a name, which the audit log has, and with roles.
2. A token without a name is the company's as a whole: it has every role.
3. Tokens are compared in constant time, every one of them, so that the time taken tells neither how much of one was
   right nor which one it was.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from chatproxy.crypto.primitives import are_equal

SHORTEST_SECRET = 16
MOST_TOKENS = 64
_COMPANY = "company"
_NAMED = re.compile(r"([a-z0-9][a-z0-9._-]{0,63})\(([a-z+]+)\)=(.+)", re.DOTALL)
_CERTIFICATE_NAMES = frozenset({"DNS", "URI"})
TOKEN_FORM = (
    f"must be ASCII secrets of {SHORTEST_SECRET} characters or more, comma-separated, at most {MOST_TOKENS}, each alone "
    "(at most two) or as name(role+role)=SECRET with the roles ops, security, privacy, data"
)
CLIENT_FORM = (
    "must be name(role+role)=CERTIFICATE, comma-separated, with the roles ops, security, privacy, data, and the DNS name or "
    "the URI that the certificate is made out to"
)


class Role(StrEnum):
    """What somebody is there for, and so may do on the admin listener."""

    OPS = "ops"
    """Sees that it runs."""
    SECURITY = "security"
    """Reviews what is said for safety, and answers courts."""
    PRIVACY = "privacy"
    """Acts for people: choices, deletions, access."""
    DATA = "data"
    """Makes datasets, and proves what they rest on."""


@dataclass(frozen=True, slots=True)
class Operator:
    """Who asks on the admin listener."""

    name: str
    roles: frozenset[Role]

    @property
    def audited_as(self) -> str:
        """Return how the audit log names them."""
        return f"admin:{self.name}({'+'.join(sorted(self.roles))})"


@dataclass(frozen=True, slots=True)
class OperatorToken:
    """A bearer token, and whose it is."""

    operator: Operator
    secret: str = field(repr=False)

    def __str__(self) -> str:
        return f"{self.operator.name}({'+'.join(sorted(self.operator.roles))})=(hidden)"


@dataclass(frozen=True, slots=True)
class OperatorCertificate:
    """A name that a client's certificate is made out to (DNS or URI of its subjectAltName), and whose it is."""

    operator: Operator
    name: str

    def __str__(self) -> str:
        return f"{self.operator.name}({'+'.join(sorted(self.operator.roles))})={self.name}"


def parse_tokens(text: str) -> tuple[OperatorToken, ...]:
    """Read tokens as the settings have them. Raises ValueError, which never repeats one."""
    tokens = []
    for item in _items(text):
        operator, secret = _named(item) or (Operator(_COMPANY, frozenset(Role)), item)
        if len(secret) < SHORTEST_SECRET or not secret.isascii():
            raise ValueError(TOKEN_FORM)
        tokens.append(OperatorToken(operator, secret))
    unnamed = [token for token in tokens if token.operator.name == _COMPANY]
    if not 1 <= len(tokens) <= MOST_TOKENS or len(unnamed) > 2:  # noqa: PLR2004 - two while it is changed
        raise ValueError(TOKEN_FORM)
    if len({token.secret for token in tokens}) != len(tokens):
        raise ValueError("must not have the same secret twice: it could not be told whose it is")
    _require_one_meaning(token.operator for token in tokens)
    return tuple(tokens)


def parse_certificates(text: str) -> tuple[OperatorCertificate, ...]:
    """Read whose certificates count. Raises ValueError."""
    found = []
    for item in _items(text):
        named = _named(item)
        if named is None:
            raise ValueError(CLIENT_FORM)
        found.append(OperatorCertificate(*named))
    if not found or len({each.name for each in found}) != len(found):
        raise ValueError(CLIENT_FORM)
    _require_one_meaning(each.operator for each in found)
    return tuple(found)


class Operators:
    """Tells who asks, by token or certificate."""

    def __init__(
        self, tokens: Sequence[OperatorToken] = (), certificates: Sequence[OperatorCertificate] = ()
    ) -> None:
        self._tokens = tuple((token.operator, token.secret.encode()) for token in tokens)
        self._by_certificate = {each.name: each.operator for each in certificates}

    @property
    def is_anybody_known(self) -> bool:
        """Return whether anybody can authenticate at all."""
        return bool(self._tokens or self._by_certificate)

    def by_authorization(self, value: str) -> Operator | None:
        """Return whose token a value of ``Authorization`` has; None: nobody's, or it is no bearer token."""
        scheme, _, given = value.partition(" ")
        token = given.strip().encode("utf-8", "replace")
        matches = [operator for operator, secret in self._tokens if are_equal(token, secret)]
        return matches[0] if matches and scheme.lower() == "bearer" else None

    def by_certificate(self, certificate: Mapping[str, Any] | None) -> Operator | None:
        """Return whose a *certificate* is, which TLS has verified (``ssl.SSLSocket.getpeercert``); None: nobody's.

        One that is made out to two people's names is nobody's.
        """
        names = (certificate or {}).get("subjectAltName", ())
        found = {
            self._by_certificate[name]
            for kind, name in names
            if kind in _CERTIFICATE_NAMES and name in self._by_certificate
        }
        return found.pop() if len(found) == 1 else None


def _items(text: str) -> list[str]:
    return [item.strip() for item in re.split(r"[,\n]", text) if item.strip()]


def _named(item: str) -> tuple[Operator, str] | None:
    """Take ``name(role+role)=VALUE`` apart; None: it is not of that form. Raises ValueError for an unknown role."""
    match = _NAMED.fullmatch(item)
    if match is None:
        return None
    name, roles = match[1], match[2].split("+")
    if not set(roles) <= set(Role) or name == _COMPANY:
        raise ValueError(
            f"names somebody with a role that is not one of {', '.join(Role)}, or by the name {_COMPANY}, which is "
            "that of tokens without a name"
        )
    return Operator(name, frozenset(map(Role, roles))), match[3]


def _require_one_meaning(operators: Iterable[Operator]) -> None:
    roles: dict[str, frozenset[Role]] = {}
    for operator in operators:
        if roles.setdefault(operator.name, operator.roles) != operator.roles:
            raise ValueError("must give one name the same roles each time: the audit log has the name")
