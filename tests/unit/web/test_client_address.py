"""The address that counts is the nearest one that is not a front of ours."""

import ipaddress

import pytest
from starlette.requests import HTTPConnection

from chatproxy.web.client_address import client_network

FRONTS = tuple(map(ipaddress.ip_network, ("10.0.0.0/8", "fd00::/8")))


def network(peer: str | None, *forwarded: str) -> str:
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    client = None if peer is None else (peer, 1)
    return client_network(HTTPConnection({"type": "http", "headers": headers, "client": client}), FRONTS)


@pytest.mark.parametrize(
    "peer, forwarded, expected",
    [
        pytest.param("192.0.2.1", [], "192.0.2.1", id="nobody in front"),
        pytest.param("192.0.2.1", ["198.51.100.7"], "192.0.2.1", id="a client that claims another address"),
        pytest.param("10.0.0.1", ["198.51.100.7"], "198.51.100.7", id="through a front"),
        pytest.param(
            "10.0.0.1", ["1.1.1.1, 198.51.100.7"], "198.51.100.7", id="a claim before the front's word"
        ),
        pytest.param("10.0.0.1", ["1.1.1.1", "198.51.100.7"], "198.51.100.7", id="the same in two headers"),
        pytest.param("10.0.0.1", ["198.51.100.7, 10.0.0.2"], "198.51.100.7", id="through two fronts"),
        pytest.param("10.0.0.1", [], "10.0.0.1", id="a front that says nothing"),
        pytest.param("10.0.0.1", ["nonsense"], "10.0.0.1", id="a front that says nonsense"),
        pytest.param("10.0.0.1", ["198.51.100.7, unknown"], "10.0.0.1", id="nonsense next to the front"),
        pytest.param("2001:db8::1", [], "2001:db8::/64", id="an IPv6 host"),
        pytest.param("2001:db8::ffff:2", [], "2001:db8::/64", id="another of the same subscriber"),
        pytest.param("::ffff:192.0.2.1", [], "192.0.2.1", id="an IPv4 host on an IPv6 socket"),
        pytest.param(None, [], "?", id="a socket without addresses"),
    ],
)
def test_the_nearest_address_that_is_no_front(peer: str | None, forwarded: list[str], expected: str) -> None:
    assert network(peer, *forwarded) == expected


def test_a_long_chain_is_read_from_its_end_alone() -> None:
    assert network("10.0.0.1", ",".join(["1.1.1.1"] + ["10.0.0.2"] * 50)) == "10.0.0.2"
