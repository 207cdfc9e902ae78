"""What does the 200th turn of a conversation cost, whose client sends all that was said again, beside the first?

``python benchmarks/long_conversation.py [--conversations 60] [--turns 200]``

So many conversations of as many people go on side by side, eight requests at a time, each question of 100 random characters and
each answer of 1,140. ``chatproxy serve`` with its embedded store runs on the first processor; backend and clients share the
second. CPU is user and system time per turn until it is kept. Beside it a request of the same length that is no chat, so that
what a byte costs to pass on is told apart from what it costs to read it. Linux only.
"""

import argparse
import asyncio
import json
import secrets

import uvloop
from backend import ANSWER_BODY
from byte_path import a_backend, cpu_seconds
from flat import PATH, settled
from whole import own_cpu, served

STEPS = ((1, 10), (41, 50), (91, 100), (141, 150), (191, 200))
"""First and last turn of what is measured together."""
AT_ONCE = 8
ANSWER = json.loads(ANSWER_BODY)["choices"][0]["message"]


class Conversation:
    """One person, one connection, one conversation."""

    def __init__(self, number):
        self.messages = []
        self.number = number

    async def open(self, port):
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port)

    async def turn(self):
        """Ask and be answered; return the bytes of the request."""
        self.messages.append({"role": "user", "content": secrets.token_hex(50)})
        size = await self.send(PATH)
        self.messages.append(ANSWER)
        return size

    async def send(self, path):
        body = json.dumps({"model": "m", "messages": self.messages}).encode()
        self.writer.write(
            b"POST %b HTTP/1.1\r\nhost: chat\r\ncontent-type: application/json\r\nx-chat-subject: person-%d\r\n"
            b"x-chat-plan: pro\r\ncontent-length: %d\r\n\r\n" % (path.encode(), self.number, len(body))
        )
        self.writer.write(body)
        head = await self.reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(head.decode())
        await self.reader.readexactly(len(ANSWER_BODY))
        return len(body)


async def all_of(conversations, ask):
    """Have each ask once, so many at a time; return the bytes sent."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(conversation):
        async with room:
            return await ask(conversation)

    return sum(await asyncio.gather(*map(one, conversations)))


async def measured(process, admin, conversations, times, ask):
    """Return bytes a request, and CPU µs of the proxy and of its store."""
    own, together = own_cpu(process.pid), cpu_seconds(process.pid)
    sent = 0
    for _ in range(times):
        sent += await all_of(conversations, ask)
        # Else hundreds of copies wait at once, as where more is asked than one worker can answer.
        await asyncio.to_thread(settled, admin)
    own = own_cpu(process.pid) - own
    store = cpu_seconds(process.pid) - together - own
    count = times * len(conversations)
    return sent / count, own / count * 1e6, store / count * 1e6


async def run(process, port, admin, options):
    conversations = [Conversation(number) for number in range(options.conversations)]
    for conversation in conversations:
        await conversation.open(port)
    print("| turns | KB a request | proxy CPU µs | and of the store | passed on only | reading and keeping |")
    print("|--:|--:|--:|--:|--:|--:|")
    found, turn = [], 0
    for first, last in STEPS:
        if last > options.turns:
            break
        while turn < first - 1:
            await all_of(conversations, Conversation.turn)
            turn += 1
        count = last - first + 1
        size, own, store = await measured(process, admin, conversations, count, Conversation.turn)
        turn = last
        _, passed, _ = await measured(process, admin, conversations, count, lambda one: one.send("/v1/other"))
        found.append((size, own - passed))
        print(
            f"| {first} to {last} | {size / 1000:.1f} | {own:,.0f} | {store:,.0f} | {passed:,.0f} | {own - passed:,.0f} |",
            flush=True,
        )
    (less, cheap), *_, (more, dear) = found
    print(
        f"\nreading and keeping: {(dear - cheap) / (more - less) * 1000:.1f} µs more for each KB sent again"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--conversations", type=int, default=40)
    parser.add_argument("--turns", type=int, default=200)
    options = parser.parse_args()
    with a_backend() as backend_port, served(backend_port) as (process, port, admin):
        uvloop.run(run(process, port, admin, options))


if __name__ == "__main__":
    main()
