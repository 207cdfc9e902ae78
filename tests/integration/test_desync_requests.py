"""No request is taken for two, and none in another way than by whoever stands before or behind (security D1)."""

import asyncio
import json
import re

import pytest

from chatproxy.web.connection import ClientLimits
from chatproxy.web.framing import HeadLimits
from integration.desync import HostileRequest, hostile_requests
from integration.proxy_fixtures import PATIENCE, Answer, RawClient, raw_client
from integration.websocket_fixtures import Gate, a_gate
from simulators.backend import Backend, Peer, backend, ok

CASES = hostile_requests()
SOON = ClientLimits(HeadLimits(body=1 << 26), head_timeout=0.4, body_timeout=0.4, body_rate=1 << 20)
PROBE = b"GET /probe HTTP/1.1\r\nHost: chat\r\n\r\n"


async def echo(peer: Peer) -> None:
    """Answer each request with its path and the size of its body."""
    while True:
        request = await peer.read_request()
        head, _, body = request.partition(b"\r\n\r\n")
        if b"transfer-encoding: chunked" in head.lower():
            body = b"".join(re.findall(rb"(?:^|\r\n)[0-9a-f]+\r\n(.*?)(?=\r\n)", body, re.DOTALL))
        await peer.send(ok(b"%b %d" % (head.split(b" ")[1], len(body))))


async def answers(client: RawClient, *, has_body: bool = True) -> list[Answer]:
    """Read answers until the connection ends."""
    found = []
    while True:
        try:
            found.append(await client.answer(has_body=has_body))
        except (asyncio.IncompleteReadError, ConnectionResetError):
            return found


def whole_requests(behind: Backend) -> list[bytes]:
    """Return what reached the backend."""
    return [bytes(peer.received) for peer in behind.connections]


def assert_is_an_error_of_ours(answer: Answer, status: int, *, has_body: bool = True) -> None:
    assert answer.status == status
    assert answer.header(b"connection") == b"close"
    if not has_body:
        return
    error = json.loads(answer.body)["error"]
    assert error["type"]
    assert error["code"]
    assert len(error["message"]) > 20


async def exchange_all(gate: Gate, case: HostileRequest, *, cut_at: int | None = None) -> list[Answer]:
    async with raw_client(gate.url) as client:
        if cut_at is None:
            await client.send(case.raw)
        else:
            for piece in (case.raw[:cut_at], case.raw[cut_at:]):
                await client.send(piece)
                await asyncio.sleep(0)
        if case.severity == "harmless":
            found = [await client.answer() for _ in case.forwarded]
            await client.send(PROBE)
            found.append(await client.answer())
            return found
        if case.informational:
            assert (await client.head()).status == 100
        return await answers(client, has_body=not case.raw.startswith(b"HEAD"))


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
async def test_a_request_that_could_be_two_is_refused_or_is_one(case: HostileRequest) -> None:
    async with (
        asyncio.timeout(PATIENCE),
        backend(echo) as behind,
        a_gate(behind.url, limits=SOON) as gate,
    ):
        found = await exchange_all(gate, case)
        if case.severity == "severe":
            [answer] = found
            assert_is_an_error_of_ours(answer, case.answer, has_body=not case.raw.startswith(b"HEAD"))
            # What is found to be wrong in a body is found while it is passed on, and then it is never ended.
            for received in whole_requests(behind):
                head, _, body = received.partition(b"\r\n\r\n")
                assert b"/smuggled" not in head
                assert not body.endswith(b"0\r\n\r\n")
                assert b"eve" not in received
            return
        passed = [answer for answer in found if answer.status == 200]
        expected = list(case.forwarded) + ["/probe 0"] * (case.severity == "harmless")
        assert [answer.body.decode() for answer in passed] == expected
        # A trailer ends here.
        assert all(b"x-sum: 1" not in received.lower() for received in whole_requests(behind))
        if case.then is not None:
            assert_is_an_error_of_ours(found[-1], case.then)
        assert len(found) == len(passed) + (case.then is not None)


def where_to_cut(raw: bytes) -> list[int]:
    """Return the places of a request at which another piece may begin: around line ends, and some others."""
    near = {at + by for match in re.finditer(rb"[\r\n]", raw) for at in [match.start()] for by in (0, 1)}
    return sorted(near & set(range(1, len(raw))))


SEVERE = [case for case in CASES if case.severity == "severe" and case.answer != 408]


@pytest.mark.parametrize("case", SEVERE, ids=[case.name for case in SEVERE])
async def test_what_is_refused_is_refused_wherever_it_is_cut(case: HostileRequest) -> None:
    async with (
        asyncio.timeout(PATIENCE),
        backend(echo) as behind,
        a_gate(behind.url, limits=ClientLimits(HeadLimits(body=1 << 26))) as gate,
    ):
        for cut_at in where_to_cut(case.raw):
            [answer] = await exchange_all(gate, case, cut_at=cut_at)
            assert_is_an_error_of_ours(answer, case.answer, has_body=not case.raw.startswith(b"HEAD"))


@pytest.mark.parametrize("case", SEVERE, ids=[case.name for case in SEVERE])
async def test_what_is_refused_is_refused_behind_a_good_request_on_the_same_connection(
    case: HostileRequest,
) -> None:
    async with (
        asyncio.timeout(PATIENCE),
        backend(echo) as behind,
        a_gate(behind.url, limits=ClientLimits(HeadLimits(body=1 << 26))) as gate,
        raw_client(gate.url) as client,
    ):
        await client.send(PROBE + case.raw)
        assert (await client.answer()).body == b"/probe 0"
        has_body = not case.raw.startswith(b"HEAD")
        [answer] = await answers(client, has_body=has_body)
        assert_is_an_error_of_ours(answer, case.answer, has_body=has_body)
