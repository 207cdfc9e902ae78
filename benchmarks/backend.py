"""A chat backend that is never the bottleneck: answers at once, or streams at a steady pace.

``python backend.py PORT``. ``/v1/chat/completions`` gives 1.2 KB of JSON; ``/stream`` gives 64 events of about
200 bytes, each in its own chunk and its own write, 2 ms apart, and ``[DONE]``; ``/slow`` one each five seconds.
"""

import asyncio
import sys

import httptools
import uvloop

EVENTS = 64
PACE_SECONDS = 0.002
SLOW_SECONDS = 5.0

ANSWER_BODY = b'{"choices":[{"message":{"role":"assistant","content":"' + b"x" * 1140 + b'"}}]}'
_ANSWER = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: 0123456789\r\n"
    b"date: Thu, 01 Jan 2026 00:00:00 GMT\r\nserver: backend\r\ncontent-length: %d\r\n\r\n" % len(ANSWER_BODY)
) + ANSWER_BODY
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
_EVENT = b'data: {"choices":[{"delta":{"content":"' + b"y" * 155 + b'"}}]}\n\n'
_CHUNK = b"%x\r\n%b\r\n" % (len(_EVENT), _EVENT)
_LAST = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"


class Backend(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)
        self.loop = asyncio.get_running_loop()

    def data_received(self, data):
        self.parser.feed_data(data)

    def on_url(self, url):
        self.url = url

    def on_message_complete(self):
        if self.url.startswith((b"/stream", b"/slow")):
            self.pace = SLOW_SECONDS if self.url.startswith(b"/slow") else PACE_SECONDS
            self.transport.write(_STREAM_HEAD)
            self.next_event(EVENTS)
        else:
            self.transport.write(_ANSWER)

    def next_event(self, left):
        if self.transport.is_closing():
            return
        self.transport.write(_CHUNK if left else _LAST)
        if left:
            self.loop.call_later(self.pace, self.next_event, left - 1)


async def main():
    server = await asyncio.get_running_loop().create_server(Backend, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
