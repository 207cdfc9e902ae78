"""What must not serve does not start, and says what to do (pitfalls P40)."""

import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from chatproxy.errors import ConfigurationError
from chatproxy.store.address import StoreAddress
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.wiring import running_proxy
from integration.proxy_fixtures import a_proxy, a_world, chatting
from integration.serve_process import call, environment


def no_upstream(env: dict[str, str], _: Path) -> None:
    del env["CHATPROXY_UPSTREAM"]


def no_keyset(_: dict[str, str], directory: Path) -> None:
    (directory / "keys" / "keyset").unlink()


def open_keyset(_: dict[str, str], directory: Path) -> None:
    (directory / "keys" / "keyset").chmod(0o644)


def short_keyset(_: dict[str, str], directory: Path) -> None:
    path = directory / "keys" / "keyset"
    path.write_bytes(path.read_bytes()[:-40])


def keyset_with_the_data(env: dict[str, str], directory: Path) -> None:
    (directory / "data" / "keys").mkdir(parents=True, mode=0o700)
    shutil.copy2(directory / "keys" / "keyset", directory / "data" / "keys" / "keyset")
    env["CHATPROXY_KEYSET"] = f"file:{directory}/data/keys/keyset"


def setting(name: str, value: str) -> Callable[[dict[str, str], Path], None]:
    def change(env: dict[str, str], _: Path) -> None:
        env[f"CHATPROXY_{name}"] = value

    return change


REFUSED: dict[str, tuple[Callable[[dict[str, str], Path], None], tuple[str, ...]]] = {
    "no upstream": (no_upstream, ("CHATPROXY_UPSTREAM", "chatproxy demo")),
    "no keyset": (no_keyset, ("chatproxy keys init", "keyset")),
    "a keyset that others may read": (open_keyset, ("chmod", "600")),
    "a keyset that was cut": (short_keyset, ("keyset",)),
    "a keyset with the data": (keyset_with_the_data, ("CHATPROXY_KEYSET", "data")),
    "an unknown setting": (setting("WROKERS", "1"), ("CHATPROXY_WROKERS",)),
    "a period without unit": (setting("RETENTION_SERVICE", "30"), ("CHATPROXY_RETENTION_SERVICE",)),
    "notices that are nowhere": (
        setting("CHOICE_NOTICES", "nowhere"),
        ("CHATPROXY_CHOICE_NOTICES = nowhere",),
    ),
    "a gate without deadline": (setting("CHOICE_MISSING", "gate"), ("CHATPROXY_CHOICE_DEADLINE",)),
    "a short secret": (setting("IDENTITY_SECRET", "canary"), ("CHATPROXY_IDENTITY_SECRET", "16")),
    "an upstream that is no URL": (setting("UPSTREAM", "chat.internal"), ("CHATPROXY_UPSTREAM", "http")),
    "an upstream with dots": (setting("UPSTREAM", "http://127.0.0.1/a/../b"), ("CHATPROXY_UPSTREAM",)),
}


@pytest.mark.parametrize("change, words", REFUSED.values(), ids=REFUSED)
async def test_serve_refuses(
    change: Callable[[dict[str, str], Path], None], words: tuple[str, ...], tmp_path: Path
) -> None:
    env = environment(tmp_path, upstream="http://127.0.0.1:9")
    change(env, tmp_path)
    refused = await call(env, "serve")
    assert refused.status == 1
    for word in words:
        assert word in refused.err
    assert "Traceback" not in refused.err
    assert "canary" not in refused.err
    assert not (tmp_path / "data" / "store").exists()


@pytest.mark.parametrize("name", ["listen", "admin_listen"])
async def test_an_address_in_use_is_named(
    name: str, tmp_path: Path, server: EmbeddedServer, connections: Connections
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        settings = a_proxy(tmp_path, upstream="http://127.0.0.1:9", store=server.url, **{name: address})
        with pytest.raises(ConfigurationError, match=f"CHATPROXY_{name.upper()} = {address}"):
            async with running_proxy(settings):
                pass


async def test_a_store_made_with_another_keyset_is_refused(
    tmp_path: Path, server: EmbeddedServer, connections: Connections
) -> None:
    (tmp_path / "two").mkdir()
    async with a_world(chatting(), tmp_path, server.url):
        pass
    settings = a_proxy(tmp_path / "two", upstream="http://127.0.0.1:9", store=server.url)
    with pytest.raises(ConfigurationError, match="keyset"):
        async with running_proxy(settings):
            pass


async def test_a_store_with_transcripts_and_no_ring_is_refused(
    tmp_path: Path, server: EmbeddedServer, connections: Connections
) -> None:
    async with a_world(chatting(), tmp_path, server.url) as world:
        await world.chat("hello")
        await world.kept()
    await connections.ask([["DEL", "cp:{ctl}:ring"]])
    settings = a_proxy(tmp_path, upstream="http://127.0.0.1:9", store=server.url)
    with pytest.raises(ConfigurationError, match="ring"):
        async with running_proxy(settings):
            pass


UNSAFE = {
    "evicts": (["CONFIG", "SET", "maxmemory-policy", "volatile-ttl"], "maxmemory-policy"),
    "keeps nothing on disk": (["CONFIG", "SET", "appendonly", "no"], "appendonly"),
}


@pytest.mark.parametrize("command, word", UNSAFE.values(), ids=UNSAFE)
async def test_a_store_is_refused_that(command: list[str], word: str, tmp_path: Path) -> None:
    async with EmbeddedServer(tmp_path / "server", ballast_bytes=0) as server:
        connections = Connections(StoreAddress.parse(server.url))
        await connections.ask([command])
        await connections.aclose()
        settings = a_proxy(tmp_path, upstream="http://127.0.0.1:9", store=server.url)
        with pytest.raises(ConfigurationError, match=word):
            async with running_proxy(settings):
                pass


async def test_a_data_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    env = environment(tmp_path, upstream="http://127.0.0.1:9", data_dir=str(tmp_path / "file" / "data"))
    refused = await call(env, "serve")
    assert refused.status == 1
    assert "Traceback" not in refused.err
    assert str(tmp_path / "file") in refused.err
    assert (tmp_path / "file").is_file()
