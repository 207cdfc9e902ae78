"""From which address does a request come? The nearest one that is not a trusted front's.

Who is not in front cannot say anything about addresses: ``X-Forwarded-For`` counts only from trusted peers, read from
the end, where they wrote it.
"""

import ipaddress
from collections.abc import Sequence

from starlette.requests import HTTPConnection

_MOST_HOPS = 20
_ONE_HOST_V6 = 64
"""Bits of an IPv6 address that one subscriber has at the least."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def client_network(request: HTTPConnection, trusted: Sequence[Network]) -> str:
    """Return whose requests are counted as one: an IPv4 address, or the /64 of an IPv6 one; ``?`` if it is not known."""
    claimed = ",".join(request.headers.getlist("x-forwarded-for")).split(",")
    hops = [request.client.host if request.client else "", *reversed(claimed[-_MOST_HOPS:])]
    nearest: ipaddress.IPv4Address | ipaddress.IPv6Address | None = None
    for hop in hops:
        try:
            nearest = ipaddress.ip_address(hop.strip())
        except ValueError:
            break
        if isinstance(nearest, ipaddress.IPv6Address) and nearest.ipv4_mapped:
            nearest = nearest.ipv4_mapped
        if not any(nearest in network for network in trusted):
            break
    if isinstance(nearest, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((nearest, _ONE_HOST_V6), strict=False))
    return str(nearest or "?")
