"""Rotations under traffic on three nodes, the rotating process killed again and again; and what is true afterwards."""

import asyncio
import sys
import time
from asyncio.subprocess import PIPE, create_subprocess_exec
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from chatproxy.crypto.keys import KeyStatus
from chatproxy.crypto.record import parse_header, series_of_epoch
from chatproxy.errors import ChatproxyError
from chatproxy.settings import load_settings
from chatproxy.store.connections import Connections
from chatproxy.vault import open_vault
from chatproxy.workflows.transcripts import KeptTurn
from integration.proxy_fixtures import OPENAI, all_keys, chat_bytes, chatting, http_client, post, raw_client
from integration.rotation_fixtures import a_rotation, versions_in_use
from integration.serve_process import WORDS, Serving, environment, serving
from simulators.backend import backend

NODES = 3
_WORKERS_A_NODE = 4
_PATIENCE = 60.0


@dataclass
class Load:
    """Chats that are sent at a steady pace, and how they went."""

    people: int
    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    is_over: bool = False

    async def send(self, url: str, *, number: int, every: float) -> None:
        """Send one chat after the other to one node. Each fiftieth is of a person who is new."""
        loop = asyncio.get_running_loop()
        next_at = loop.time() + every * number / _WORKERS_A_NODE / NODES
        sent = 0
        async with raw_client(url) as client:
            while not self.is_over:
                await asyncio.sleep(max(0.0, next_at - loop.time()))
                next_at += every
                who = f"new-{number}-{sent}" if sent % 50 == 49 else f"p{(number * 7 + sent) % self.people}"
                lines = [
                    b"x-chat-subject: " + who.encode(), b"x-chat-plan: pro", b"x-chat-conversation: c",
                ]  # fmt: skip
                began = time.perf_counter()
                try:
                    async with asyncio.timeout(_PATIENCE):
                        await client.send(post(OPENAI, chat_bytes(f"chat {number}/{sent}"), *lines))
                        answer = await client.answer()
                    self.statuses[answer.status if answer.is_whole else 0] += 1
                except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
                    self.failures.append(type(error).__name__)
                    return
                self.seconds.append(time.perf_counter() - began)
                sent += 1

    @property
    def sent(self) -> int:
        return sum(self.statuses.values())


@dataclass
class Nodes:
    """Three nodes on one store and one keyset file, with the environment of commands."""

    env: dict[str, str]
    running: list[Serving]

    async def have_stored(self, turns: int) -> None:
        """Wait until so many turns are stored, so that there is something to seal anew."""
        async with http_client() as client, asyncio.timeout(_PATIENCE):
            while True:
                found = [await _values(client, node) for node in self.running]
                if sum(_outcomes(values)["stored"] for values in found) >= turns:
                    return
                await asyncio.sleep(0.05)

    async def outcomes(self) -> Counter[str]:
        """Wait until nothing is pending; return how many turns met which outcome, on all nodes."""
        found: Counter[str] = Counter()
        async with http_client() as client, asyncio.timeout(_PATIENCE):
            for node in self.running:
                while (values := await _values(client, node))["chatproxy_turns_pending"]:
                    await asyncio.sleep(0.05)
                found += _outcomes(values)
        return found


async def _values(client: httpx.AsyncClient, node: Serving) -> dict[str, float]:
    """Return the metrics of a node."""
    text = (await client.get(node.admin_url + "/metrics")).text
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if line[:1] != "#")
    return {name: float(value) for name, value in lines}


def _outcomes(values: Mapping[str, float]) -> Counter[str]:
    """Return how many turns met which outcome, of those that were met."""
    return Counter(
        {
            name.split('"')[1]: int(value)
            for name, value in values.items()
            if name.startswith("chatproxy_turns_total") and value
        }
    )


@asynccontextmanager
async def three_nodes(directory: Path, store: str) -> AsyncIterator[Nodes]:
    async with AsyncExitStack() as closing:
        behind = await closing.enter_async_context(backend(chatting()))
        settings = {"store": store, "upstream": behind.url, "key_soak": "0s", "key_grace": "0s"}
        env = environment(directory, **settings)
        envs = [
            env
            | {"CHATPROXY_NODE": f"node-{number}", "CHATPROXY_DATA_DIR": str(directory / f"data-{number}")}
            for number in range(NODES)
        ]
        running = [await closing.enter_async_context(serving(each)) for each in envs]
        yield Nodes(env | {"CHATPROXY_NODE": "operator"}, running)


@asynccontextmanager
async def loaded(nodes: Nodes, *, rate: float, people: int = 200) -> AsyncIterator[Load]:
    """Send *rate* chats a second to the nodes together until the block ends."""
    load = Load(people)
    workers = _WORKERS_A_NODE * NODES
    async with asyncio.TaskGroup() as group:
        for number in range(workers):
            url = nodes.running[number % NODES].url
            group.create_task(load.send(url, number=number, every=workers / rate))
        try:
            yield load
        finally:
            load.is_over = True


async def rotate(nodes: Nodes, *, kill_after: int, kills: int) -> int:
    """Rotate once, the rotating process killed after each *kill_after* writes, at most *kills* times; return how often."""
    return await killed_again_and_again(nodes, "integration.rotating_process", kill_after, kills)


async def reseal(nodes: Nodes, *, kill_after: int, kills: int) -> int:
    """Seal everything anew once, otherwise as ``rotate``."""
    return await killed_again_and_again(nodes, "integration.resealing_process", kill_after, kills)


async def killed_again_and_again(nodes: Nodes, module: str, kill_after: int, kills: int) -> int:
    """Run a module of that kind; return how often it was killed."""
    process = await create_subprocess_exec(
        sys.executable, "-m", module, str(kill_after), str(kills),
        env={**WORDS, **nodes.env, "PYTHONPATH": ":".join(filter(None, sys.path))}, stdout=PIPE,
    )  # fmt: skip
    async with asyncio.timeout(_PATIENCE):
        out, _ = await process.communicate()
    assert process.returncode == 0
    return int(out)


@dataclass
class Found:
    """What is true of the store after rotations."""

    turns: int
    unreadable: int
    wraps_that_do_not_open: int
    versions_in_use: set[int]
    primary: int
    statuses_of_others: set[str]
    moved_ttls: int
    series_in_use: set[int]
    """Of day keys, of those that there are and those that records are under."""


async def examine(nodes: Nodes, connections: Connections) -> Found:
    """Open every turn that is kept, and compare every expiry with what the record says."""
    async with open_vault(load_settings(nodes.env).settings) as vault:
        conversations, turns, opened = set(), 0, 0
        async for row in vault.transcripts.walk():
            turns += 1
            if isinstance(row, KeptTurn):
                conversations.add((row.subject, row.facts.conversation_tag))
        for subject, conversation in conversations:
            try:
                opened += len(await vault.transcripts.show(subject, conversation, purpose="service"))
            except ChatproxyError:
                continue
        records = {key: at for key, at in (await all_keys(connections)).items() if b":r:" in key}
        blobs = await connections.ask([["GET", key] for key in records])
        ring = (await a_rotation(vault).ring()).manifest
        return Found(
            turns=turns,
            unreadable=turns - opened,
            wraps_that_do_not_open=(await a_rotation(vault).verify())[1],
            versions_in_use=await versions_in_use(vault),
            primary=ring.primary.version,
            statuses_of_others={
                status.value
                for status in [
                    *(key.status for key in ring.keys),
                    *(root.status for root in await vault.root.versions()),
                ]
                if status is not KeyStatus.PRIMARY
            },
            series_in_use={series_of_epoch(epoch) for epoch in await vault.store.all_epoch_wraps()}
            | {parse_header(blob).series for blob in blobs},
            moved_ttls=sum(
                parse_header(blob).expires_at != at for blob, at in zip(blobs, records.values(), strict=True)
            ),
        )
