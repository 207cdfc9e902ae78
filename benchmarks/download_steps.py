"""For how long does a download of all that is held keep the event loop from everything else?

``python benchmarks/download_steps.py [--conversations 200]``

A task of the same loop looks how much CPU goes by until it is its turn again: one step of whatever else runs there. CPU and no
clock, so that other processes on the machine do not matter. Client and proxy share the loop, so a step is rather too long.
"""

import argparse
import asyncio
import gc
import re
import sys
import tempfile
import time
from array import array
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from chatproxy.consent.events import Choice
from chatproxy.store.embedded import EmbeddedServer
from integration.dataset_fixtures import an_archive, said
from integration.proxy_fixtures import ANA, a_world, chatting

COPY = "/_chatproxy/copy"
TURNS = 5
"""In each conversation, of some 1.5 KB."""


async def fill(directory, store, conversations):
    async with an_archive(directory, store) as archive:
        await archive.choose("ana", Choice.GIVEN, days_ago=40)
        for number in range(conversations):
            turns = [said("How do I bake bread? " * 20, "Like this. " * 80) for _ in range(TURNS)]
            await archive.keep_all("ana", turns, days_ago=12, conversation=str(number))


async def download(client):
    """Return the bytes of an archive, and the CPU seconds of each step meanwhile, in order of size."""
    token = re.search(r'name="token" value="([^"]+)"', (await client.get(COPY)).text)[1]
    steps, is_over = array("d"), False  # no list, which the collector would go through

    async def watch():
        while not is_over:
            before = time.thread_time()
            await asyncio.sleep(0)
            steps.append(time.thread_time() - before)

    watching = asyncio.create_task(watch())
    answer = await client.post(COPY, data={"token": token})
    is_over = True
    await watching
    return len(answer.content), sorted(steps)


async def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--conversations", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chatproxy-bench-") as name:
        directory = Path(name)
        (directory / "server").mkdir()
        async with EmbeddedServer(directory / "server", ballast_bytes=0) as server:
            await fill(directory, server.url, options.conversations)
            async with (
                a_world(chatting(), directory, server.url, access_rate="999/1s") as world,
                httpx.AsyncClient(
                    base_url=world.running.url, headers=ANA, timeout=600, trust_env=False
                ) as client,
            ):
                gc.collect()
                gc.freeze()  # as serve does
                for _ in range(3):
                    size, steps = await download(client)
                    at = {share: steps[int(len(steps) * share)] * 1e3 for share in (0.99, 0.999)}
                    print(
                        f"{options.conversations * TURNS:,} turns, {size / 1e3:.0f} KB: of {len(steps):,} steps p99 "
                        f"{at[0.99]:.2f} ms, p99.9 {at[0.999]:.2f}, longest {steps[-1] * 1e3:.1f}",
                        flush=True,
                    )


if __name__ == "__main__":
    asyncio.run(main())
