"""No plaintext of a conversation, no id and no secret is ever written anywhere (pitfalls P35, P36)."""

import asyncio
import json
import logging
import random
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from chatproxy.clock import wall_clock
from chatproxy.consent.events import Choice
from chatproxy.leaks.canaries import make_canaries
from chatproxy.leaks.scan import Scanner
from chatproxy.telemetry import JSONFormatter
from integration.proxy_fixtures import (
    OPENAI,
    PATIENCE,
    STREAM_HEAD,
    a_world,
    chunk,
    openai_events,
    post,
    raw_client,
    response,
)
from simulators.backend import Peer

NAMES = (
    "prompt", "answer", "header", "subject", "conversation", "query", "key", "tenant", "secret", "error", "system", "tool",
    "result", "reasoning", "refusal", "spoken", "user", "metadata", "attempt",
)  # fmt: skip
CANARIES = make_canaries(NAMES, random=random.Random(35).randbytes)  # noqa: S311 - the same each time


LINES = (
    b"Authorization: Bearer " + CANARIES["key"].encode(),
    b"X-Chat-Auth: " + CANARIES["secret"].encode(),
    b"X-Chat-Subject: " + CANARIES["subject"].encode(),
    b"X-Chat-Conversation: " + CANARIES["conversation"].encode(),
    b"X-Chat-Tenant: " + CANARIES["tenant"].encode(),
    b"X-Chat-Plan: pro",
    b"X-Other: " + CANARIES["header"].encode(),
)
REQUEST: dict[str, Any] = {
    "user": CANARIES["user"],
    "metadata": {"note": CANARIES["metadata"]},
    "tools": [{"type": "function", "function": {"name": CANARIES["tool"], "description": CANARIES["tool"]}}],
    "messages": [
        {"role": "system", "content": CANARIES["system"]},
        {"role": "user", "content": CANARIES["prompt"]},
        {"role": "tool", "tool_call_id": "1", "content": CANARIES["result"]},
    ],
}
"""A chat with something of everybody's in every place (P36)."""
KEPT = ("prompt", "system", "result", "answer", "reasoning", "refusal", "spoken")
"""What is read back with the keys: the conversation, and nothing else of a request."""
PATH = f"{OPENAI}?q={CANARIES['query']}"


async def backend_of_all_sorts(peer: Peer) -> None:
    answer = CANARIES["answer"]
    while True:
        request = await peer.read_request()
        if b"case-ok" in request:
            message = {
                "role": "assistant",
                "content": answer,
                "reasoning_content": CANARIES["reasoning"],
                "refusal": CANARIES["refusal"],
                "audio": {"id": "a", "data": "AAAA", "transcript": CANARIES["spoken"]},
            }
            await peer.send(response(json.dumps({"choices": [{"index": 0, "message": message}]}).encode()))
        elif b"case-slow" in request:
            await peer.until_gone()
        elif b"case-4xx" in request:
            await peer.send(
                response(b'{"error": {"message": "%b"}}' % CANARIES["error"].encode(), status=b"400 Bad")
            )
        elif b"case-5xx" in request:
            await peer.send(response(b"<p>%b" % CANARIES["error"].encode(), status=b"500 Bad"))
        elif b"case-garbage" in request:
            await peer.send(b"%b: %b\r\n\r\n" % (answer.encode(), answer.encode()))
            peer.close()
        elif b"case-cut" in request:
            await peer.send(STREAM_HEAD + chunk(openai_events(answer)[0]))
            peer.close()
        else:
            await peer.send(STREAM_HEAD + chunk(openai_events(answer)[0]))
            await peer.until_gone()


async def crash_a_task() -> None:
    """Have the loop report a task that nobody waited for, as its own handler words it."""

    async def crash() -> None:
        raise RuntimeError(CANARIES["prompt"])

    task = asyncio.get_running_loop().create_task(crash(), name="crash")
    await asyncio.wait([task])
    told = "\n".join(["Task exception was never retrieved", f"future: {task!r}"])
    logging.getLogger("asyncio").error(told, exc_info=task.exception())


async def test_no_canary_is_found_in_files_logs_or_metrics(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = StringIO()
    handler = logging.StreamHandler(log)
    handler.setFormatter(JSONFormatter())
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        async with (
            asyncio.timeout(3 * PATIENCE),
            a_world(
                backend_of_all_sorts,
                tmp_path,
                "embedded",
                identity_secret=CANARIES["secret"],
                log_level="debug",
                upstream_head_timeout="1s",
            ) as world,
        ):
            vault = world.running.vault
            subject = vault.pseudonyms.subject_tag(tenant=CANARIES["tenant"], subject=CANARIES["subject"])
            await vault.ledger.record(subject, Choice.GIVEN, at=wall_clock(), by="test", method="test")
            for case in (
                "ok", "retried-ok", "retried-ok", "4xx", "5xx", "slow", "garbage", "cut", "unparsed", "ambiguous",
            ):  # fmt: skip
                asked = {"role": "user", "content": f"case-{case.removeprefix('retried-')}"}
                messages = [*REQUEST["messages"], asked]
                body = json.dumps(REQUEST | {"messages": messages}).encode()
                lines: tuple[bytes, ...] = LINES
                if case.startswith("retried"):
                    lines = (*LINES, b"Idempotency-Key: " + CANARIES["attempt"].encode())
                if case == "unparsed":
                    body = b"case-ok {" + body
                if case == "ambiguous":
                    lines = (*LINES, b"X-Chat-Subject: " + CANARIES["subject"].encode())
                async with raw_client(world.running.url) as client:
                    await client.send(post(PATH, body, *lines))
                    await client.answer()
            async with raw_client(world.running.url) as client:
                await client.send(post(PATH, b'{"case": "case-abort", "messages": []}', *LINES))
                await client.head()
            async with raw_client(world.running.url) as client:
                await client.send(b"POST /%b HTTP/9.9\r\nbroken\r\n\r\n" % CANARIES["query"].encode())
                await client.reader.read()

            await crash_a_task()
            assert await world.running.all_kept(within=PATIENCE)
            rows = await world.kept()
            assert {row["end"] for row in rows} >= {"complete", "error", "upstream_aborted", "client_aborted"}
            read = "\n".join([line for row in rows for line in await world.said(row["conversation"])])
            assert {name for name, word in CANARIES.words.items() if word in read} == set(KEPT)
            world.assert_outcomes_add_up()
            metrics = world.running.metrics.render()
    finally:
        root.removeHandler(handler)
        root.setLevel(before)
    out, err = capfd.readouterr()
    found = {"metrics": metrics, "log": log.getvalue().encode(), "out": out.encode(), "err": err.encode()}
    found |= {
        str(path.relative_to(tmp_path)): path.read_bytes()
        for path in tmp_path.rglob("*")
        if path.is_file() and path.name != "keyset"
    }
    assert {name for name in found if "appendonlydir" in name}
    assert b'"level": "warning"' in found["log"]
    scanner = Scanner(CANARIES)
    assert [hit for place, content in found.items() for hit in scanner.scan(place, content)] == []
