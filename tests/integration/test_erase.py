"""A person is erased: at once unreadable everywhere, then gone, with nothing of anybody else touched."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from chatproxy.clock import wall_clock
from chatproxy.consent.events import Choice, FactKind
from chatproxy.errors import NotFoundError
from chatproxy.model import SubjectTag
from chatproxy.policy.instants import format_instant
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.workflows.erase import Erasure
from integration.proxy_fixtures import ANA, DAY, World, a_world, all_keys, chatting

BEA = {"x-chat-subject": "bea", "x-chat-plan": "pro"}


@pytest.fixture
def store(server: EmbeddedServer, connections: Connections) -> str:
    return server.url


class Clock:
    """The wall clock, put forward."""

    ahead = 0

    def __call__(self) -> int:
        return wall_clock() + self.ahead


async def erased(world: World, subject: str = "ana") -> Erasure:
    erasure = await world.running.vault.eraser.erase(world.tag(subject), by="test")
    assert erasure is not None
    return erasure


async def keys_of(connections: Connections, tag: SubjectTag) -> list[str]:
    found = await all_keys(connections)
    prefix = b"cp:{%s}:" % tag.hex().encode()
    return sorted(key.removeprefix(prefix).decode() for key in found if key.startswith(prefix))


async def test_an_erased_person_leaves_nothing_but_the_fence(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        await world.choose(Choice.GIVEN)
        await world.chat("hello", who=ANA | {"x-chat-conversation": "one"})
        await world.chat("hello", who=ANA | {"x-chat-conversation": "two"})
        await world.chat("hello", who=BEA)
        rows = await world.kept()
        await world.decided_again()
        others = await keys_of(connections, world.tag("bea"))
        erasure = await erased(world)
        assert await keys_of(connections, world.tag()) == ["s"]
        assert await keys_of(connections, world.tag("bea")) == others
        assert (erasure.removed.annotations, erasure.removed.records, erasure.erased.events) == (2, 2, 1)
        assert (erasure.erased.generations, erasure.kek_versions) == ((1,), (1,))
        assert (erasure.proof.tried, erasure.proof.opened, erasure.proof.codes) == (
            2,
            0,
            {"no_subject_key": 2},
        )
        [bea] = await world.kept()
        assert await world.said(bea["conversation"]) == ["user: hello", "assistant: reply 2"]
        for row in rows:
            if row["subject"] == world.tag().hex():
                with pytest.raises(NotFoundError):
                    await world.said(row["conversation"])
        assert await connections.ask([["ZCARD", "cp:{chore:erase}"]]) == [0]
