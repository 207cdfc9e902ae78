"""Every client, unmodified but for its base URL, works; and what is kept of it is what it saw, once, in order."""

from pathlib import Path

import pytest

from chatproxy.wire import DIALECTS
from e2e.clients import CLIENTS, Client, drive
from e2e.conversations import kept, said
from e2e.route import Route
from e2e.tap import tap

CAPTURED = frozenset(dialect.name for dialect in DIALECTS)
SAYS = [
    "What is a lighthouse?",
    "Where would I find one? Été, 灯台, \N{ELECTRIC LIGHT BULB}.",
    "And who looks after it?",
]
SYSTEM = "You answer in one short sentence."

EACH_WAY = [
    pytest.param(client, streamed, id=f"{client.name}, {'streamed' if streamed else 'whole'}")
    for client in CLIENTS
    for streamed in client.can_stream
]
BY_MODEL = [each for each in EACH_WAY if isinstance(each.values[0], Client) and each.values[0].by_model]


@pytest.mark.parametrize("client,streamed", EACH_WAY)
async def test_a_conversation_with_the_demo_backend_is_kept_as_the_client_saw_it(
    client: Client, streamed: bool, demo: Route, tmp_path: Path, ran: dict[str, str]
) -> None:
    await a_conversation_is_kept_as_seen(client, streamed, demo, tmp_path, ran)


@pytest.mark.parametrize("client,streamed", BY_MODEL)
async def test_a_conversation_with_a_real_model_is_kept_as_the_client_saw_it(
    client: Client, streamed: bool, model: Route, tmp_path: Path, ran: dict[str, str]
) -> None:
    await a_conversation_is_kept_as_seen(client, streamed, model, tmp_path, ran)


async def a_conversation_is_kept_as_seen(
    client: Client, streamed: bool, route: Route, home: Path, ran: dict[str, str]
) -> None:
    proxy = route.proxy
    person = f"{client.name} {streamed}"
    uncaptured = await proxy.metric("chatproxy_uncaptured_chats_total")

    identity = [(b"X-Chat-Subject", person.encode()), (b"X-Chat-Plan", b"pro")]
    async with tap(proxy.url, adding=identity) as front:
        seen = await drive(client, front.url, SAYS, home=home, streamed=streamed, system=SYSTEM)

    assert [role for role, _ in said(seen)] == ["system", *["user", "assistant"] * len(SAYS)]
    assert all(text for _, text in said(seen))
    turns = await proxy.turns(person)
    if client.dialect in CAPTURED:
        assert [turn["dialect"] for turn in turns] == [client.dialect] * len(SAYS)
        assert {turn["end"] for turn in turns} == {"complete"}
        (handle,) = {turn["conversation"] for turn in turns}
        shown = await proxy.conversation(handle)
        assert kept(shown) == said(seen)
        if seen.finish is not None:
            assert [reason for turn in shown for reason in turn["finish"]] == seen.finish
    else:
        # It works all the same, nothing of it is kept, and the operator can see that.
        assert turns == []
        assert await proxy.metric("chatproxy_uncaptured_chats_total") == uncaptured + len(SAYS)
    ran[client.name] = seen.version
