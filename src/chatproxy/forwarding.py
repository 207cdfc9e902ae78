"""What may pass through a gateway, and in what form? Pure functions over request targets and header lists.

Rules of this file:

1. What is passed on is passed on byte for byte: order, duplicates, spelling and values of headers; encoding, empty
   queries and doubled slashes of targets. Nothing is added (no ``Via``, no ``Forwarded``).
2. What belongs to one connection stays on it (RFC 9110 7.6.1), in both directions.
3. What two readers could understand differently is refused, never repaired (security D1, D3, D5).
4. What is chatproxy's own (identity, secrets) does not pass, however it is spelt.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Self
from urllib.parse import unquote_to_bytes, urlsplit

import msgspec

from chatproxy.errors import ChatproxyError, ConfigurationError

Header = tuple[bytes, bytes]

SWITCHING_PROTOCOLS = 101
"""The status after which a connection is no longer HTTP."""

_HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"http2-settings",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
"""RFC 9110 7.6.1, the registered fields of one connection, and those of proxies and of h2c (security D1, 39)."""
_REQUEST_SPECIAL = _HOP_BY_HOP | {b"host", b"expect", b"content-length", b"authorization"}
_SAYS_WHAT_IT_IS = frozenset((b"content-type", b"content-encoding"))
_RESPONSE_SPECIAL = _HOP_BY_HOP | _SAYS_WHAT_IT_IS | {b"content-length"}
_NOT_NOMINABLE = frozenset(
    (
        b"authorization",
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"cookie",
        b"host",
        b"transfer-encoding",
        b"x-api-key",
    )
)
"""Fields that ``Connection`` may not take away: the meaning of the message hangs on them (security D3, 78)."""

_NEVER_TAKEN_AWAY = _HOP_BY_HOP | _NOT_NOMINABLE
_SINGLE = frozenset((b"authorization", b"content-length", b"host", b"transfer-encoding"))

_FORBIDDEN_IN_TARGET = re.compile(rb'[^!"$-\[\]-~]')
"""All but visible ASCII, and ``#`` and backslash."""
_SEGMENT_END = re.compile(rb"/|%2f|%5c")
_ENCODED_CONTROL = re.compile(rb"%(?:[01][0-9a-f]|7f)")
_HOST = re.compile(r"[A-Za-z0-9._:-]+")
_NEVER_IN_BASE_URL = frozenset("?#\\ \t\r\n")
_MOST_DIGITS = 19


class RefusedRequestError(ChatproxyError):
    """A request that is not passed on, since two readers could understand it differently.

    Answered with ``status``; ``code`` is for the client's program. The message repeats nothing of the request.
    """

    def __init__(self, code: str, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class RefusedResponseError(ChatproxyError):
    """A response head of the upstream that two readers could understand differently (security D5)."""


@dataclass(frozen=True, slots=True)
class UpstreamAddress:
    """Where the chat backend is: the one place that requests go to, whatever they say."""

    host: str
    port: int
    is_tls: bool
    authority: bytes
    """The value of ``Host``: with the port unless it is the scheme's own, an IPv6 address in brackets."""
    base_path: bytes
    """Put before the path of every request; empty, or begins with a slash and does not end with one."""

    def __str__(self) -> str:
        """The origin alone: a path can hold a secret."""
        return f"{'https' if self.is_tls else 'http'}://{self.authority.decode()}"

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read a base URL. Raises ConfigurationError."""
        try:
            parts = urlsplit(url)
            port = parts.port
            path = parts.path.rstrip("/").encode("ascii")
            host = (parts.hostname or "").encode("idna").decode()
        except ValueError:
            raise ConfigurationError(_BASE_URL_FORM) from None
        if parts.scheme not in {"http", "https"} or port == 0 or not _HOST.fullmatch(host):
            raise ConfigurationError(_BASE_URL_FORM)
        if "@" in parts.netloc or not _NEVER_IN_BASE_URL.isdisjoint(url):
            raise ConfigurationError(_BASE_URL_FORM)
        try:
            _check_target(path or b"/")
        except RefusedRequestError:
            raise ConfigurationError(_BASE_URL_FORM) from None
        is_tls = parts.scheme == "https"
        default_port = 443 if is_tls else 80
        name = f"[{host}]" if ":" in host else host
        return cls(
            host=host,
            port=port or default_port,
            is_tls=is_tls,
            authority=(name if port in {None, default_port} else f"{name}:{port}").encode("ascii"),
            base_path=path,
        )


_BASE_URL_FORM = (
    "the upstream must be a base URL such as https://chat.internal:8443/api, "
    "without user, query, fragment, or dots as path segments"
)


class RequestHead(msgspec.Struct, frozen=True):
    """What goes upstream: end-to-end headers under our own Host, with the framing of the body."""

    headers: list[Header]
    length: int | None
    """Bytes of body to send; None if that is not known, and then the body is chunked."""


class Framing(Enum):
    """How the end of a response body is known (RFC 9112 6.3)."""

    NO_BODY = auto()
    LENGTH = auto()
    CHUNKED = auto()
    CLOSE = auto()
    """By the end of the connection: that something is missing cannot be seen."""


class ResponseHead(msgspec.Struct, frozen=True):
    """What goes downstream of a response's head. Names are spelt as received."""

    status: int
    reason: bytes
    headers: list[Header]
    framing: Framing
    length: int | None
    """Bytes of a body that has its length said."""
    content_type: bytes = b""
    content_encoding: bytes = b""


def require_path(target: bytes) -> None:
    """Refuse a request target that is no path: a URL, an authority or ``*``. Raises RefusedRequestError."""
    if not target.startswith(b"/") or target.startswith(b"//"):
        raise RefusedRequestError(
            "bad_target", "the request target must be a path that begins with one slash, not a URL"
        )


def upstream_target(target: bytes, *, base_path: bytes) -> bytes:
    """Return the target to send upstream for the raw *target* of a request: the same, under *base_path*.

    Only origin-form passes, so that no target can name another host (security F12), and only one that every reader
    splits into the same segments (D3, 61 to 72). Raises RefusedRequestError.
    """
    _check_target(target)
    return base_path + target


def request_head(headers: Iterable[Header], *, authority: bytes, drop: frozenset[bytes]) -> RequestHead:
    """Return the head to send upstream for a request with *headers*, names in lower case as ASGI has them.

    *drop* are names that never pass, in lower case with hyphens; underscores for hyphens do not help them through
    (security D3, 76). ``Expect`` ends here: the server in front has answered it. Raises RefusedRequestError.
    """
    kept = [(b"host", authority)]
    seen: dict[bytes, bytes] = {}
    nominated: set[bytes] = set()
    for header in headers:
        name, value = header
        if name in _REQUEST_SPECIAL:
            if name == b"connection":
                nominated.update(_tokens(value))
                continue
            if name in seen and name in _SINGLE:
                raise RefusedRequestError(
                    "duplicate_header", f"the request has two {name.decode()} headers; send one"
                )
            if name == b"content-length":
                value = value.strip(b" \t")
                kept.append((name, value))
            elif name == b"authorization":
                kept.append(header)
            seen[name] = value
        elif name not in drop and (b"_" not in name or name.replace(b"_", b"-") not in drop):
            kept.append(header)
    if nominated:
        kept = _without_nominated(kept, nominated, protected=drop)
    return _framed(kept, seen)


def response_head(
    status: int,
    reason: bytes,
    headers: list[Header],
    *,
    http_version: str,
    to_head_request: bool,
    drop: frozenset[bytes],
    may_switch: bool = False,
) -> ResponseHead:
    """Return what to send downstream for a response head of the upstream, and how its body ends.

    *drop* are lower-case names that only chatproxy may set. A field that ``Connection`` may not nominate stays
    (security D5, 118). With *may_switch* a 101 that goes over to WebSocket is final (RFC 9110 15.2.2). Raises
    RefusedResponseError.
    """
    switches = may_switch and status == SWITCHING_PROTOCOLS
    if not 200 <= status <= 599 and not switches:  # noqa: PLR2004 - security D5, 107 to 109; 1xx are not final
        raise RefusedResponseError("its status is not between 200 and 599")
    kept: list[Header] = []
    seen: dict[bytes, bytes] = {}
    nominated: set[bytes] = set()
    for header in headers:
        name = header[0].lower()
        if name not in _RESPONSE_SPECIAL:
            if name not in drop:
                kept.append(header)
        elif name == b"connection":
            nominated.update(_tokens(header[1]))
        elif name in _SAYS_WHAT_IT_IS:
            # Of two the first counts, for us.
            if name not in seen:
                seen[name] = header[1]
            kept.append(header)
        else:
            if name in seen and name in _SINGLE:
                raise RefusedResponseError(f"it has two {name.decode()} headers")
            seen[name] = header[1]
            # A 204 has no Content-Length (RFC 9110 8.6), a 304 needs none, and servers take it for a promise.
            if name == b"content-length" and status not in {204, 304}:
                kept.append(header)
    if switches:
        _check_switch(seen, nominated)
    if nominated := nominated - _NEVER_TAKEN_AWAY:
        kept = [header for header in kept if header[0].lower() not in nominated]
    length = seen.get(b"content-length")
    framing = _response_framing(length, seen.get(b"transfer-encoding"), http_version)
    if to_head_request or switches or status in {204, 304}:
        framing = Framing.NO_BODY
    return ResponseHead(
        status,
        reason,
        kept,
        framing,
        int(length) if length and framing is Framing.LENGTH else None,
        seen.get(b"content-type", b""),
        seen.get(b"content-encoding", b""),
    )


def _check_switch(seen: dict[bytes, bytes], nominated: set[bytes]) -> None:
    """Refuse a 101 of the upstream that is not the one thing that was asked for."""
    if seen.get(b"upgrade", b"").strip().lower() != b"websocket" or b"upgrade" not in nominated:
        raise RefusedResponseError("it switches to a protocol that was not asked for")
    if b"content-length" in seen or b"transfer-encoding" in seen:
        raise RefusedResponseError("it switches protocols and has a body")


def _response_framing(length: bytes | None, transfer_encoding: bytes | None, http_version: str) -> Framing:
    if transfer_encoding is not None:
        if length is not None:
            raise RefusedResponseError("it has both Content-Length and Transfer-Encoding")
        if http_version != "1.1":
            raise RefusedResponseError("it has Transfer-Encoding in HTTP/1.0")
        if transfer_encoding.strip().lower() != b"chunked":
            raise RefusedResponseError("its Transfer-Encoding is not chunked")
        return Framing.CHUNKED
    if length is None:
        return Framing.CLOSE
    if not _is_length(length.strip()):
        raise RefusedResponseError("its Content-Length is not a number")
    return Framing.LENGTH


def _framed(kept: list[Header], seen: dict[bytes, bytes]) -> RequestHead:
    """Add the framing to *kept*, from what was *seen* of it."""
    length = seen.get(b"content-length")
    transfer_encoding = seen.get(b"transfer-encoding")
    if transfer_encoding is not None:
        if length is not None or transfer_encoding.strip().lower() != b"chunked":
            raise RefusedRequestError(
                "ambiguous_length",
                "the length of the request's body is ambiguous; send Content-Length or chunks",
            )
        kept.append((b"transfer-encoding", b"chunked"))
        return RequestHead(kept, None)
    if length is None:
        return RequestHead(kept, 0)
    if not _is_length(length):
        raise RefusedRequestError("ambiguous_length", "the request's Content-Length is not a number")
    return RequestHead(kept, int(length))


def _without_nominated(
    kept: list[Header], nominated: set[bytes], *, protected: frozenset[bytes]
) -> list[Header]:
    """Take away what the request's ``Connection`` nominates, refusing where that would change its meaning."""
    if not nominated.isdisjoint(_NOT_NOMINABLE) or not {
        name.replace(b"_", b"-") for name in nominated
    }.isdisjoint(protected):
        raise RefusedRequestError(
            "protected_header", "Connection names a header that is not of one connection; remove it there"
        )
    nominated -= _HOP_BY_HOP
    return [header for header in kept if header[0] not in nominated] if nominated else kept


def _is_length(value: bytes) -> bool:
    return value.isdigit() and len(value) <= _MOST_DIGITS


def _tokens(value: bytes) -> set[bytes]:
    return {token.strip(b" \t") for token in value.lower().split(b",")}


def _check_target(target: bytes) -> None:
    require_path(target)
    if _FORBIDDEN_IN_TARGET.search(target):
        raise RefusedRequestError(
            "bad_target",
            "the request target has a space, backslash, fragment, control or non-ASCII character",
        )
    path = target.partition(b"?")[0]
    if b"." in path or b"%" in path:
        _check_path(path.lower())


def _check_path(path: bytes) -> None:
    """Refuse a lower-case *path* that a reader may normalise to another one, or decode to what no path holds."""
    if _ENCODED_CONTROL.search(path):
        raise RefusedRequestError("bad_target", "the request path has an encoded control character")
    try:
        unquote_to_bytes(path).decode()
    except UnicodeDecodeError:
        raise RefusedRequestError("bad_target", "the request path is not UTF-8 when decoded") from None
    for segment in _SEGMENT_END.split(path.replace(b"%2e", b".")):
        # Some servers cut ;parameters off before they look for dots.
        if segment.partition(b";")[0] in {b".", b".."}:
            raise RefusedRequestError(
                "bad_target", "the request path has . or .. as a segment; send it resolved"
            )
