"""The floor: two asyncio protocols on httptools, no ASGI, which look for the ends of messages and alter nothing."""

import asyncio

import httptools
import uvloop

from stacks.serving import PORT, UPSTREAM_PORT

idle = []


class Upward(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def begin(self, downward):
        self.downward = downward
        self.parser = httptools.HttpResponseParser(self)
        self.transport.write(downward.request)

    def data_received(self, data):
        if self.downward.transport.is_closing():
            self.transport.abort()
            return
        self.downward.transport.write(data)
        self.parser.feed_data(data)

    def on_message_complete(self):
        idle.append(self)


class Downward(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)
        self.tasks = set()

    def data_received(self, data):
        self.request = data
        self.parser.feed_data(data)

    def on_message_complete(self):
        if idle:
            idle.pop().begin(self)
        else:
            task = asyncio.ensure_future(self.connect())
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def connect(self):
        loop = asyncio.get_running_loop()
        _, upward = await loop.create_connection(Upward, "127.0.0.1", UPSTREAM_PORT)
        upward.begin(self)


async def main():
    server = await asyncio.get_running_loop().create_server(Downward, "127.0.0.1", PORT)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
