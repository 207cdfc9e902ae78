"""The whole proxy before a backend that speaks TLS with a certificate of a private authority."""

import ssl
from pathlib import Path

import pytest
import trustme

from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from integration.proxy_fixtures import a_world
from simulators.backend import answering, backend, ok


@pytest.mark.parametrize("is_named", [True, False])
async def test_the_proxy_trusts_the_authority_that_its_setting_names_and_no_other(
    is_named: bool, tmp_path: Path, server: EmbeddedServer, connections: Connections
) -> None:
    authority = trustme.CA()
    named = authority if is_named else trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    named.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    async with (
        backend(answering(ok(b"sealed")), tls=context) as behind,
        a_world(
            answering(), tmp_path, server.url, upstream=behind.url, upstream_ca_file=str(tmp_path / "ca.pem")
        ) as world,
    ):
        found = await world.client.get("/v1/models")
        assert found.status_code == (200 if is_named else 502)
        if is_named:
            assert found.content == b"sealed"
        else:
            assert found.json()["error"]["code"] == "upstream_unreachable"
            assert "certificate" not in found.text
