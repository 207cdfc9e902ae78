from pathlib import Path

import pytest

from chatproxy.errors import ConfigurationError
from chatproxy.store.address import StoreAddress, Topology, Transport


@pytest.mark.parametrize(
    "url, expected",
    [
        ("redis://db", StoreAddress(Transport.TCP, host="db")),
        ("redis://db:7000/3", StoreAddress(Transport.TCP, host="db", port=7000, database=3)),
        ("redis://:p%40ss@db", StoreAddress(Transport.TCP, host="db", password="p@ss")),
        (
            "redis://app:pw@[::1]:1",
            StoreAddress(Transport.TCP, host="::1", port=1, username="app", password="pw"),
        ),
        ("rediss://db/", StoreAddress(Transport.TLS, host="db")),
        ("unix:///run/s%20p.sock", StoreAddress(Transport.UNIX, path="/run/s p.sock")),
        ("unix://app:pw@/run/s", StoreAddress(Transport.UNIX, path="/run/s", username="app", password="pw")),
        (
            "redis+cluster://app:p%2Cw@a:7000,[::1]:7001,c",
            StoreAddress(
                Transport.TCP,
                username="app",
                password="p,w",
                topology=Topology.CLUSTER,
                seeds=(("a", 7000), ("::1", 7001), ("c", 6379)),
            ),
        ),
        (
            "rediss+sentinel://:pw@a,b:7/chats/2",
            StoreAddress(
                Transport.TLS,
                password="pw",
                database=2,
                topology=Topology.SENTINEL,
                seeds=(("a", 26379), ("b", 7)),
                service="chats",
            ),
        ),
    ],
)
def test_urls_that_name_a_store(url: str, expected: StoreAddress) -> None:
    assert StoreAddress.parse(url) == expected


@pytest.mark.parametrize(
    "url, said",
    [
        ("", "scheme"),
        ("db:6379", "scheme"),
        ("http://db", "scheme"),
        ("redis+bus://:s3cret@db", "no known scheme"),
        ("unix+cluster://:s3cret@/run/s", "no known scheme"),
        ("redis+cluster://:s3cret@", "no host"),
        ("redis+cluster://:s3cret@a,,b", "no host"),
        ("redis+cluster://:s3cret@a:x", "not a valid URL"),
        ("redis+cluster://:s3cret@a/1", "no databases"),
        ("redis+sentinel://:s3cret@a", "name of the primary"),
        ("redis+sentinel://:s3cret@a/chats/x", "database number"),
        ("redis://", "no host"),
        ("redis://:s3cret@", "no host"),
        ("redis://:s3cret@db:port", "not a valid URL"),
        ("redis://:s3cret@db:99999", "not a valid URL"),
        ("redis://:s3cret@db/first", "database number"),
        ("redis://:s3cret@db/-1", "database number"),
        ("rediss://:s3cret@db?ssl_cert_reqs=none", "no options"),
        ("redis://:s3cret@db#s3cret", "no options"),
        ("unix://s.sock", "absolute path"),
        ("unix://", "absolute path"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_being_repeated(url: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as caught:
        StoreAddress.parse(url)

    assert "s3cret" not in f"{caught.value}{caught.value.__cause__}"


def test_a_ca_file_belongs_to_tls() -> None:
    ca = Path("/ca.pem")

    assert StoreAddress.parse("rediss://db", ca_file=ca).ca_file == ca
    with pytest.raises(ConfigurationError, match="rediss"):
        StoreAddress.parse("redis://db", ca_file=ca)


@pytest.mark.parametrize(
    "url, shown",
    [
        ("redis://app:s3cret@db", "redis://db:6379/0"),
        ("rediss://:s3cret@[::1]:7000/2", "rediss://[::1]:7000/2"),
        ("unix://app:s3cret@/run/s", "unix:///run/s"),
        ("redis+cluster://:s3cret@a,[::1]:7001", "redis+cluster://a:6379,[::1]:7001"),
        ("rediss+sentinel://:s3cret@a,b/chats", "rediss+sentinel://a:26379,b:26379/chats/0"),
    ],
)
def test_an_address_is_shown_without_credentials(url: str, shown: str) -> None:
    address = StoreAddress.parse(url)

    assert str(address) == shown
    assert "s3cret" not in repr(address)
