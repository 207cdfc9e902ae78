"""Keys come over TLS, or from this machine."""

import pytest

from chatproxy.errors import ConfigurationError
from chatproxy.identities.address import require_key_source


@pytest.mark.parametrize(
    "url",
    [
        "https://login.example.com/.well-known/jwks.json",
        "https://login.example.com:8443/keys?p=policy",
        "https://192.0.2.7/keys",
        "https://login.example.com./keys",
        "http://127.0.0.1:8000/keys",
        "http://localhost/keys",
        "http://[::1]:8000/keys",
    ],
)
def test_a_safe_source_is_accepted(url: str) -> None:
    require_key_source(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "keys.json",
        "http://login.example.com/keys",
        "http://192.0.2.7/keys",
        "http://localhost.example.com/keys",
        "http://127.0.0.1.example.com/keys",
        "https://",
        "https:///keys",
        "https://user:password@login.example.com/keys",
        "https://login.example.com/keys#key",
        "https://login.example.com/a b",
        "https://login.example.com/\n",
        "https://lögin.example.com/",
        "https://login..example.com/",
        f"https://{'a' * 64}.example.com/",
        "https://login.example.com:0/",
        "https://login.example.com:99999/",
        "https://login.example.com:x/",
        "https://[::1/",
        "file:///etc/keys",
        "ftp://login.example.com/keys",
    ],
)
def test_any_other_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        require_key_source(url)
    assert "https://" in str(caught.value)
    assert "password" not in str(caught.value)
