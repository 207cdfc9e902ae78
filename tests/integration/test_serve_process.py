"""`chatproxy serve` as a process: signals, and commands beside it."""

import asyncio
import signal
from pathlib import Path

import httpx
import pytest

from integration.left_whole import CANARY
from integration.proxy_fixtures import (
    ANA,
    ANA_LINES,
    LAST_CHUNK,
    OPENAI,
    PATIENCE,
    STREAM_HEAD,
    chat_bytes,
    chatting,
    chunk,
    exchange,
    http_client,
    openai_events,
    post,
    raw_client,
)
from integration.serve_process import environment, run, serving
from simulators.backend import Peer, backend

EVENTS = openai_events("one", " two")


async def test_commands_work_beside_a_running_proxy_and_alone(tmp_path: Path) -> None:
    async with backend(chatting()) as behind:
        env = environment(tmp_path, upstream=behind.url + "/CANARYPATH")
        async with serving(env) as proxy:
            assert "CANARYPATH" not in "".join(proxy.log)
            given = await run(env, "consent", "give", "-", stdin="ana\n")
            assert given.status == 0, given.err
            await exchange(proxy.url, post(OPENAI, chat_bytes("hello"), *ANA_LINES))
            async with http_client() as client:
                assert (await client.get(proxy.admin_url + "/healthz")).status_code == 200
                assert (await client.get(proxy.admin_url + "/readyz")).status_code == 200
                async with asyncio.timeout(PATIENCE):
                    while (
                        'turns_total{outcome="stored"} 1.0'
                        not in (await client.get(proxy.admin_url + "/metrics")).text
                    ):
                        await asyncio.sleep(0.02)
            beside = await run(env, "transcripts", "list", "--subject", "-", "--json", stdin="ana\n")
            [row] = beside.rows()
            assert (row["reason"], row["eligible"]["capability"]) == ("ELIGIBLE_CONSENT", True)
            proxy.terminate()
            assert await proxy.ended() == 0
        alone = await run(env, "transcripts", "list", "--json")
        assert alone.rows() == beside.rows()
        shown = await run(env, "transcripts", "show", row["conversation"], "--purpose", "capability")
        assert (shown.status, shown.out.splitlines()[1:]) == (0, ["user: hello", "assistant: reply 0"])


async def test_sigterm_lets_streams_end_and_stores_them(tmp_path: Path) -> None:
    may_end = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(STREAM_HEAD + chunk(EVENTS[0]))
        await may_end.wait()
        await peer.send(b"".join(map(chunk, EVENTS[1:])) + LAST_CHUNK)

    async with asyncio.timeout(3 * PATIENCE), backend(script) as behind:
        env = environment(tmp_path, upstream=behind.url)
        async with serving(env) as proxy, raw_client(proxy.url) as one, raw_client(proxy.url) as two:
            for client in (one, two):
                await client.send(post(OPENAI, chat_bytes(CANARY, stream=True), *ANA_LINES))
                await client.head()
                assert await client.chunk() == EVENTS[0]
            proxy.terminate()
            await proxy.logged("stopping")
            async with http_client() as admin:
                answer = await admin.get(proxy.admin_url + "/readyz")
                assert answer.status_code == 503
                assert "stopping" in answer.json()["reasons"][0]
                with pytest.raises(httpx.ConnectError):
                    await admin.get(proxy.url + "/v1/models")
            may_end.set()
            for client in (one, two):
                rest = await client.reader.read()
                assert rest.endswith(LAST_CHUNK)
            assert await proxy.ended() == 0
        rows = (await run(env, "transcripts", "list", "--json")).rows()
        assert [row["end"] for row in rows] == ["complete", "complete"]


async def test_a_second_sigterm_cuts_and_still_stores(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(STREAM_HEAD + chunk(EVENTS[0]))
        await peer.until_gone()

    async with asyncio.timeout(3 * PATIENCE), backend(script) as behind:
        env = environment(tmp_path, upstream=behind.url, drain_time="10m")
        async with serving(env) as proxy, raw_client(proxy.url) as client:
            await client.send(post(OPENAI, chat_bytes(CANARY, stream=True), *ANA_LINES))
            await client.head()
            assert await client.chunk() == EVENTS[0]
            proxy.terminate()
            await proxy.logged("stopping")
            proxy.terminate()
            assert LAST_CHUNK not in await client.reader.read()
            assert await proxy.ended() == 0
        [row] = (await run(env, "transcripts", "list", "--json")).rows()
        assert row["end"] == "interrupted"
        assert not [process for process in Path("/proc").iterdir() if belongs_to(process, tmp_path)]


def belongs_to(process: Path, directory: Path) -> bool:
    try:
        return process.name.isdigit() and str(directory).encode() in (process / "cmdline").read_bytes()
    except OSError:
        return False


async def test_two_signals_at_once_cut_too(tmp_path: Path) -> None:
    async with asyncio.timeout(3 * PATIENCE), backend(lambda peer: peer.until_gone()) as behind:
        env = environment(tmp_path, upstream=behind.url, drain_time="10m")
        async with serving(env) as proxy, raw_client(proxy.url) as client:
            await client.send(post(OPENAI, chat_bytes(CANARY), *ANA_LINES))
            await behind.connection(0)
            proxy.terminate()
            proxy.process.send_signal(signal.SIGINT)
            assert await proxy.ended() == 0


async def test_hangup_does_not_end_a_single_process(tmp_path: Path) -> None:
    async with backend(chatting()) as behind:
        env = environment(tmp_path, upstream=behind.url)
        async with serving(env) as proxy:
            proxy.process.send_signal(signal.SIGHUP)
            await proxy.logged("nothing was replaced: there is one process only; stop it and start it again")
            answer = await exchange(proxy.url, post(OPENAI, chat_bytes("hello"), *ANA_LINES))
            assert answer.status == 200


async def test_a_killed_proxy_leaves_no_server_and_no_lock(tmp_path: Path) -> None:
    async with backend(chatting()) as behind:
        env = environment(tmp_path, upstream=behind.url)
        async with serving(env) as proxy:
            await exchange(proxy.url, post(OPENAI, chat_bytes("hello"), *ANA_LINES))
            async with http_client() as client:
                async with asyncio.timeout(PATIENCE):
                    while (
                        'turns_total{outcome="stored"} 1.0'
                        not in (await client.get(proxy.admin_url + "/metrics")).text
                    ):
                        await asyncio.sleep(0.02)
            proxy.process.kill()
            await proxy.ended()
        listed = await run(env, "transcripts", "list", "--json")
        assert (listed.status, len(listed.rows())) == (0, 1)


async def test_nothing_of_a_chat_is_in_the_arguments_or_the_log_of_the_process(tmp_path: Path) -> None:
    async with backend(chatting(lambda _: "canaryanswer")) as behind:
        env = environment(tmp_path, upstream=behind.url, log_level="debug")
        async with serving(env) as proxy:
            async with http_client(proxy.url) as client:
                await client.post(
                    OPENAI + "?q=canaryquery",
                    content=chat_bytes("canaryprompt"),
                    headers=ANA | {"x-chat-subject": "canarysubject", "authorization": "canarykey"},
                )
            assert b"canary" not in Path(f"/proc/{proxy.process.pid}/cmdline").read_bytes()
            proxy.terminate()
            await proxy.ended()
            assert "canary" not in "".join(proxy.log)
