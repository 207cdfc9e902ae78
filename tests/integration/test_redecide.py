"""Something about a person changes: what is kept of them follows, on every node, and cannot be undone by what is late."""

from pathlib import Path

import pytest

from chatproxy.clock import wall_clock
from chatproxy.consent.events import Choice, FactKind
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.workflows.transcripts import KeptTurn
from integration.proxy_fixtures import DAY, a_world, all_keys, chatting


@pytest.fixture
def store(server: EmbeddedServer, connections: Connections) -> str:
    return server.url


async def rows(connections: Connections) -> list[bytes]:
    return [key for key in await all_keys(connections) if b"}:r:" in key or b"}:a:" in key or b"}:h:" in key]


async def test_a_withdrawal_shortens_what_is_kept(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        await world.choose(Choice.GIVEN)
        await world.chat("hello")
        [before] = await world.kept()
        assert before["reason"] == "ELIGIBLE_CONSENT"
        await world.choose(Choice.WITHDRAWN)
        await world.decided_again()
        [turn] = await world.turns()
        assert isinstance(turn, KeptTurn)
        assert turn.note.expires_at <= wall_clock() + 30 * DAY
        [after] = await world.kept()
        assert (after["reason"], after["eligible"]["capability"]) == ("CONSENT_WITHDRAWN", False)
        assert set(after["grounds"]) == {"SERVICE", "TRAIN_RESIDUE"}
        assert await world.said(after["conversation"]) == ["user: hello", "assistant: reply 0"]


async def test_a_minor_who_is_found_leaves_nothing(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        await world.chat("hello")
        await world.kept()
        await world.running.vault.ledger.note(
            world.tag(), FactKind.MINOR_FOUND, at=wall_clock(), by="test", method="test"
        )
        assert await world.turns() == []
        await world.decided_again()
        assert await rows(connections) == []
