"""A closed-loop load generator: each connection sends its next request when the last answer is whole.

``python load.py PORT PATH CONNECTIONS SECONDS [HEADER ...]`` prints JSON: requests, seconds, reads, errors
and the median time to the first byte of an answer.
"""

import asyncio
import json
import statistics
import sys
import time

import httptools
import uvloop

_BODY = b'{"model":"m","messages":[{"role":"user","content":"' + b"z" * 950 + b'"}]}'
_REQUEST = (
    b"POST %b HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: */*\r\naccept-encoding: gzip, deflate\r\n"
    b"user-agent: load\r\nauthorization: Bearer 0123456789abcdef0123456789abcdef\r\n"
    b"content-type: application/json\r\n%bcontent-length: %d\r\n\r\n"
)


class Client(asyncio.Protocol):
    def __init__(self, request, total, done):
        self.request = request
        self.total = total
        self.done = done

    def connection_made(self, transport):
        self.transport = transport
        self.send()

    def send(self):
        self.parser = httptools.HttpResponseParser(self)
        self.sent_at = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data):
        self.total["reads"] += 1
        if self.sent_at is not None:
            self.total["first_bytes"].append(time.perf_counter() - self.sent_at)
            self.sent_at = None
        self.parser.feed_data(data)

    def on_headers_complete(self):
        if self.parser.get_status_code() != 200:
            self.total["errors"] += 1

    def on_message_complete(self):
        self.total["requests"] += 1
        # Not from within the parser that has just called.
        asyncio.get_running_loop().call_soon(self.send)

    def connection_lost(self, exc):  # noqa: ARG002 - asyncio.Protocol's
        self.total["errors"] += 1
        if not self.done.done():
            self.done.set_result(None)


async def main():
    port, path, connections, seconds, *headers = sys.argv[1:]
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    total = {"requests": 0, "reads": 0, "errors": 0, "first_bytes": []}
    extra = "".join(f"{header}\r\n" for header in headers).encode()
    request = _REQUEST % (path.encode(), extra, len(_BODY)) + _BODY
    for _ in range(int(connections)):
        await loop.create_connection(lambda: Client(request, total, done), "127.0.0.1", int(port))
    started = time.monotonic()
    await asyncio.wait((done,), timeout=float(seconds))
    seconds = time.monotonic() - started
    found = {name: total[name] for name in ("requests", "reads", "errors")}
    first_byte = statistics.median(total["first_bytes"]) * 1000
    print(json.dumps(found | {"seconds": seconds, "first_byte_ms": first_byte}), flush=True)


if __name__ == "__main__":
    uvloop.run(main())
