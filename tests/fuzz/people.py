"""What says who somebody is: headers, credentials and tokens. Nobody becomes somebody by odd bytes."""

import ipaddress
from contextlib import suppress

from chatproxy.errors import AmbiguousIdentityError
from chatproxy.identities.presented import bearer
from chatproxy.identities.token import read_token
from chatproxy.identities.unproved import UnprovedError
from chatproxy.identity import HeaderIdentity
from chatproxy.model import Caller
from fuzz.target import Target

SECRET = "0123456789abcdef"
TRUSTED = HeaderIdentity(trusted_proxies=(ipaddress.ip_network("10.0.0.0/8"),))
SECRETLY = HeaderIdentity(secrets=(SECRET,))


def identify(data: bytes) -> None:
    """Read *data* as lines of ``name: value``."""
    headers = [
        (name.strip().lower(), value.strip())
        for name, _, value in (line.partition(b":") for line in data.split(b"\n"))
    ]
    with suppress(AmbiguousIdentityError):
        found = TRUSTED(headers, "10.0.0.1").caller
        assert found.subject is None or (found.subject.isprintable() and len(found.subject.encode()) <= 4096)
    named = {name for name, _ in headers}
    strangers = [TRUSTED(headers, "192.0.2.1").caller]
    if SECRET.encode() not in data:
        strangers.append(SECRETLY(headers, "10.0.0.1").caller)
    for stranger in strangers:
        signals = Caller(incognito=stranger.incognito, train_ai_no=stranger.train_ai_no, gpc=stranger.gpc)
        assert stranger == signals
        assert not stranger.incognito or b"x-chat-incognito" in named


def token(data: bytes) -> None:
    """Read *data* as the value of ``Authorization``."""
    text = bearer(data)
    with suppress(UnprovedError):
        read_token(text or data).claims()


TARGETS = {
    "identity_headers": Target(
        identify,
        (
            b"x-chat-subject: ana\nx-chat-plan: pro\nx-chat-conversation: c 1\nx-chat-age: adult\nx-chat-zdr: ?1",
            b"x-chat-auth: 0123456789abcdef\nx-chat-subject: \xc3\xa9\nx-chat-incognito: ?1;a=b",
            b"content-usage: train-ai=n, x;y=z\nsec-gpc: 1\nx_chat_subject: eve\nx-chat-surface: code",
        ),
    ),
    "tokens": Target(
        token,
        (
            b"Bearer eyJhbGciOiJSUzI1NiIsImtpZCI6ImEiLCJ0eXAiOiJhdCtqd3QifQ.eyJzdWIiOiJhbmEiLCJleHAiOjF9.AAAA",
            b"eyJhbGciOiJub25lIn0.e30.",
        ),
    ),
}
