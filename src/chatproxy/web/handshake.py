"""May this request become a WebSocket, and did the upstream agree? The opening handshake (RFC 6455 4), without I/O.

Only what is one in every reader's eyes is passed on as one. A proxy that opens a tunnel where the upstream did not
lets whoever asked speak HTTP through it unseen.
"""

import binascii
import hashlib
from collections.abc import Sequence

from chatproxy.forwarding import Header, RefusedRequestError, RequestHead, ResponseHead
from chatproxy.web.upstream import UpstreamProtocolError

UPGRADE_REQUIRED = 426
"""The status of a handshake of a version of the protocol that there is no more."""
VERSION_HEADERS: list[Header] = [(b"upgrade", b"websocket"), (b"sec-websocket-version", b"13")]
"""What an answer says that refuses another version (RFC 6455 4.4, RFC 9110 15.5.22)."""
_SWITCH: list[Header] = [(b"connection", b"Upgrade"), (b"upgrade", b"websocket")]
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY = b"sec-websocket-key"
_VERSION = b"sec-websocket-version"
_ACCEPT = b"sec-websocket-accept"
_KEY_BYTES = 16


def asks_for_websocket(headers: Sequence[Header]) -> bool:
    """Whether an HTTP/1.1 request asks for a WebSocket, in whatever form; any other upgrade is not taken up."""
    return any(
        name == b"upgrade" and b"websocket" in (token.strip() for token in value.lower().split(b","))
        for name, value in headers
    )


def upgrade_request(method: str, headers: Sequence[Header], head: RequestHead) -> RequestHead:
    """Return the head to send upstream for a handshake.

    *headers* are the request's own, *head* what ``request_head`` made of them. Raises RefusedRequestError.
    """
    if method != "GET" or head.length != 0:
        raise RefusedRequestError("bad_websocket", "a WebSocket is asked for by GET, without a body")
    if _values(headers, b"upgrade") != [b"websocket"]:
        raise RefusedRequestError("bad_websocket", "the request asks for other protocols beside WebSocket")
    if _values(headers, _VERSION) != [b"13"]:
        raise RefusedRequestError(
            "websocket_version",
            "Sec-WebSocket-Version must be 13, sent once: there is no other in use",
            status=UPGRADE_REQUIRED,
        )
    if _key(headers) is None:
        raise RefusedRequestError(
            "bad_websocket", "Sec-WebSocket-Key must be 16 bytes in Base64, sent once (RFC 6455 4.1)"
        )
    return RequestHead([*head.headers, *_SWITCH], 0)


def upgrade_response(headers: Sequence[Header], head: ResponseHead) -> list[Header]:
    """Return the headers to send downstream with the 101 of the upstream.

    *headers* are the request's. Raises UpstreamProtocolError where the upstream did not take up this handshake.
    """
    expected = binascii.b2a_base64(
        hashlib.sha1((_key(headers) or b"") + _GUID, usedforsecurity=False).digest(), newline=False
    )
    if [value.strip() for name, value in head.headers if name.lower() == _ACCEPT] != [expected]:
        raise UpstreamProtocolError("the upstream switched protocols without accepting the handshake")
    return [*head.headers, *_SWITCH]


def agreed_extensions(head: ResponseHead) -> list[bytes]:
    """Return the extensions that the upstream's 101 agrees on, as they are written."""
    return [value for name, value in head.headers if name.lower() == b"sec-websocket-extensions"]


def _values(headers: Sequence[Header], wanted: bytes) -> list[bytes]:
    return [value.strip().lower() for name, value in headers if name == wanted]


def _key(headers: Sequence[Header]) -> bytes | None:
    keys = [value.strip() for name, value in headers if name == _KEY]
    try:
        is_key = len(keys) == 1 and len(binascii.a2b_base64(keys[0], strict_mode=True)) == _KEY_BYTES
    except binascii.Error:
        is_key = False
    return keys[0] if is_key else None
