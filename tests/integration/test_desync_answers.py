"""No answer is taken for two, and nobody gets what was meant for somebody else (security D5)."""

import asyncio
import json

import pytest

from integration.desync import HostileAnswer, hostile_answers
from integration.proxy_fixtures import PATIENCE, exchange
from integration.websocket_fixtures import a_gate
from simulators.backend import Peer, Script, backend, ok

CASES = hostile_answers()


def giving(case: HostileAnswer, *, cut_at: int | None = None) -> Script:
    """Answer the first request with the case, in two pieces if it is cut, and any other with its path."""

    async def script(peer: Peer) -> None:
        while True:
            head = await peer.read_head()
            path = head.split(b" ")[1]
            if path != b"/first":
                await peer.send(ok(path))
                continue
            await peer.send(case.raw[:cut_at])
            if cut_at is not None:
                await peer.pause(0)
                await peer.send(case.raw[cut_at:])
            if case.closes:
                peer.close()

    return script


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
async def test_an_answer_that_could_be_two_is_refused_or_is_one(case: HostileAnswer) -> None:
    async with (
        asyncio.timeout(PATIENCE),
        backend(giving(case)) as behind,
        a_gate(behind.url) as gate,
    ):
        first = await exchange(gate.url, b"%b /first HTTP/1.1\r\nHost: a\r\n\r\n" % case.asked.encode())
        others = [await exchange(gate.url, b"GET /%d HTTP/1.1\r\nHost: b\r\n\r\n" % n) for n in range(3)]

        assert (first.status, first.is_whole) == (case.status, case.is_whole)
        if case.status == 502:
            assert json.loads(first.body)["error"]["code"] == "upstream_error"
        else:
            assert first.body == case.body
        assert [other.body for other in others] == [b"/0", b"/1", b"/2"]
        assert all(b"POISON" not in answer.body for answer in (first, *others))
        # A redirect is an answer like others: nobody goes there.
        if case.severity == "harmless" and not case.closes:
            assert len(behind.connections) == 1


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
async def test_wherever_it_is_cut_the_next_one_gets_his_own(case: HostileAnswer) -> None:
    async with asyncio.timeout(PATIENCE):
        for cut_at in range(1, len(case.raw), max(1, len(case.raw) // 8)):
            async with backend(giving(case, cut_at=cut_at)) as behind, a_gate(behind.url) as gate:
                first = await exchange(
                    gate.url, b"%b /first HTTP/1.1\r\nHost: a\r\n\r\n" % case.asked.encode()
                )
                other = await exchange(gate.url, b"GET /other HTTP/1.1\r\nHost: b\r\n\r\n")
                assert first.status == case.status
                assert other.body == b"/other"
