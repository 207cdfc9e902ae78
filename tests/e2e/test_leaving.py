"""A client that hangs up in the middle of an answer: what it saw is kept, marked, and talked on from."""

from pathlib import Path

import pytest

from e2e.backend import STALL
from e2e.clients import CLIENTS, Client, drive
from e2e.conversations import kept, said
from e2e.route import Route
from e2e.tap import tap

LEAVING = [pytest.param(client, id=client.name) for client in CLIENTS if client.can_leave]


@pytest.mark.parametrize("client", LEAVING)
async def test_a_conversation_goes_on_after_an_answer_that_the_client_left(
    client: Client, demo: Route, tmp_path: Path
) -> None:
    person = f"{client.name} left"
    says = ["What is a lighthouse?", STALL, "Are you there?"]

    async with tap(demo.proxy.url, adding=[(b"X-Chat-Subject", person.encode())]) as front:
        seen = await drive(client, front.url, says, home=tmp_path, streamed=True, leave_in=1)

    turns = await demo.proxy.turns(person)
    assert [turn["end"] for turn in turns] == ["complete", "client_aborted", "complete"]
    (handle,) = {turn["conversation"] for turn in turns}
    assert kept(await demo.proxy.conversation(handle)) == said(seen)
