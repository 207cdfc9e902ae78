"""A choice on one node is in force on the other: in what it says, and in what it keeps, for streams that run too."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from chatproxy.consent.events import Choice
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from integration.proxy_fixtures import (
    ANA_LINES,
    LAST_CHUNK,
    OPENAI,
    PATIENCE,
    STREAM_HEAD,
    World,
    a_world,
    chat_bytes,
    chatting,
    chunk,
    make_keys,
    openai_events,
    post,
    raw_client,
)
from simulators.backend import Peer, Script


@pytest.fixture
def store(server: EmbeddedServer, connections: Connections) -> str:
    return server.url


@asynccontextmanager
async def two_nodes(
    directory: Path, store: str, script: Script | None = None
) -> AsyncIterator[tuple[World, World]]:
    """Two proxies on one store and one keyset, each with its backend."""
    keyset = make_keys(directory)
    behind = script or chatting()
    async with (
        asyncio.timeout(PATIENCE),
        a_world(behind, directory / "one", store, keyset=keyset) as one,
        a_world(behind, directory / "two", store, keyset=keyset) as two,
    ):
        for node in (one, two):
            while not node.counted("chatproxy_consent_listening"):
                await asyncio.sleep(0.01)
        yield one, two


async def forgotten(world: World) -> None:
    while world.counted("chatproxy_consent_cached_people"):
        await asyncio.sleep(0.005)


async def known(world: World, reason: str) -> None:
    """Chat until the answer's head says the reason, which it does once the person is cached."""
    while (await world.chat("hello")).headers["x-decision-reason"] != reason:
        pass


async def test_a_withdrawal_on_one_node_is_said_and_kept_on_the_other(tmp_path: Path, store: str) -> None:
    async with two_nodes(tmp_path, store) as (one, two):
        await one.choose(Choice.GIVEN)
        await known(two, "ELIGIBLE_CONSENT")
        await one.choose(Choice.WITHDRAWN)
        await forgotten(two)
        answer = await two.chat("and now?")
        assert answer.headers["x-decision-reason"] in {"PENDING", "CONSENT_WITHDRAWN"}
        await known(two, "CONSENT_WITHDRAWN")
        await one.decided_again()
        assert {row["reason"] for row in await two.kept()} == {"CONSENT_WITHDRAWN"}


async def test_a_yes_on_one_node_counts_on_the_other(tmp_path: Path, store: str) -> None:
    async with two_nodes(tmp_path, store) as (one, two):
        await known(two, "CONSENT_UNKNOWN")
        await one.choose(Choice.GIVEN)
        await forgotten(two)
        await known(two, "ELIGIBLE_CONSENT")


def held(may_end: asyncio.Event) -> Script:
    """A backend that begins a stream and ends it when it may."""

    async def script(peer: Peer) -> None:
        await peer.read_request()
        first, *rest = openai_events("one ", "two")
        await peer.send(STREAM_HEAD + chunk(first))
        await may_end.wait()
        await peer.send(b"".join(map(chunk, rest)) + LAST_CHUNK)

    return script


@pytest.mark.parametrize(
    "before, during, reason",
    [
        (Choice.GIVEN, Choice.WITHDRAWN, "CONSENT_WITHDRAWN"),
        (Choice.GIVEN, Choice.REFUSED, "CONSENT_REFUSED"),
        (Choice.REFUSED, Choice.GIVEN, "NOT_RESUMED"),
        (None, Choice.GIVEN, "NOT_RESUMED"),
        (Choice.GIVEN, Choice.RENEWED, "ELIGIBLE_CONSENT"),
    ],
    ids=["withdrawn", "refused", "given after a no", "given", "renewed"],
)
async def test_a_stream_that_runs_meanwhile_is_kept_by_the_stricter_of_both(
    tmp_path: Path, store: str, before: Choice | None, during: Choice, reason: str
) -> None:
    """P24, R29: what held at acceptance and what holds when it is kept."""
    may_end = asyncio.Event()
    async with two_nodes(tmp_path, store, held(may_end)) as (one, two):
        if before is not None:
            await one.choose(before)
        async with raw_client(two.running.url) as client:
            await client.send(post(OPENAI, chat_bytes(stream=True), *ANA_LINES))
            assert (await client.head()).status == 200
            await client.chunk()
            await one.choose(during)
            may_end.set()
            while await client.chunk():
                pass
        [row] = await two.kept()
        assert (row["reason"], row["end"]) == (reason, "complete")
        assert row["eligible"]["capability"] is (reason == "ELIGIBLE_CONSENT")


async def test_a_node_that_hears_nothing_says_no_old_yes(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with two_nodes(tmp_path, store) as (one, two):
        await one.choose(Choice.GIVEN)
        await known(two, "ELIGIBLE_CONSENT")
        await connections.ask([["CLIENT", "KILL", "TYPE", "pubsub"]])
        await forgotten(two)
        await one.choose(Choice.WITHDRAWN)
        await known(two, "CONSENT_WITHDRAWN")
        for node in (one, two):
            while not node.counted("chatproxy_consent_listening"):
                await asyncio.sleep(0.01)
        await one.choose(Choice.GIVEN)
        await forgotten(two)
        await known(two, "ELIGIBLE_CONSENT")
