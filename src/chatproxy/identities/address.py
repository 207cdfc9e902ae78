"""May keys be fetched from there? Whoever answers at this URL decides who everybody is."""

import ipaddress
import re
from urllib.parse import urlsplit

from chatproxy.errors import ConfigurationError

_FORM = (
    "must be an https:// URL such as https://login.example.com/.well-known/jwks.json, without user and fragment; "
    "http:// is accepted for this machine alone (localhost, 127.0.0.1, [::1])"
)
_LABEL = re.compile(r"[A-Za-z0-9_-]{1,63}")
_WEB_PORTS = range(1, 65_536)


def require_key_source(url: str) -> None:
    """Raise ConfigurationError unless *url* is https, or http on the loopback interface."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConfigurationError(_FORM) from None
    host = parts.hostname or ""
    if (
        not _is_host(host)
        or "@" in parts.netloc
        or "#" in url
        or not (url.isascii() and url.isprintable())
        or " " in url
    ):
        raise ConfigurationError(_FORM)
    if port is not None and port not in _WEB_PORTS:
        raise ConfigurationError(_FORM)
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(host)):
        raise ConfigurationError(_FORM)


def _is_host(host: str) -> bool:
    return ":" in host or all(_LABEL.fullmatch(label) for label in host.removesuffix(".").split("."))


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
