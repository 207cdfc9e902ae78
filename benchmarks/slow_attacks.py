"""Are chats answered as fast as ever while somebody attacks by being slow?

``python benchmarks/slow_attacks.py [--seconds 40] [--connections 3000]``

``slowhttptest`` (its Debian package has that name) attacks a ``chatproxy serve`` with its built-in limits in each of its
modes: slow headers, slow bodies, slow reading of a large answer, and range requests. Meanwhile somebody at another
address chats, each chat on a connection of its own. Fails if a chat is not answered. Linux only.
"""

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request

from byte_path import free_port, wait_for

BIG = 1 << 20
PIECE = b"z" * 65_536
PATIENCE = 10.0
MODES = {
    "slow headers": ["-H", "-i", "5", "-x", "24", "-l", "600"],
    "slow bodies": ["-B", "-i", "5", "-s", "8192", "-x", "10", "-t", "POST"],
    "slow reading": ["-X", "-w", "512", "-y", "1024", "-n", "5", "-z", "32", "-k", "1"],
    "ranges": ["-R", "-a", "10", "-b", "3000", "-t", "HEAD"],
}
_BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hello"}]}).encode()
_REQUEST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: chat\r\nX-Chat-Subject: ana\r\nX-Chat-Plan: pro\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(_BODY), _BODY)
)
_REPLY = b'{"choices":[{"message":{"role":"assistant","content":"yes"},"finish_reason":"stop"}]}'


async def answer(reader, writer):
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = next(
                (int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:")), 0
            )
            await reader.readexactly(length)
            is_big = head.startswith(b"GET /big")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (BIG if is_big else len(_REPLY)))
            for _ in range(BIG // len(PIECE) if is_big else 0):
                writer.write(PIECE)
                await writer.drain()
            if not is_big and not head.startswith(b"HEAD"):
                writer.write(_REPLY)
    writer.close()


async def chat(port):
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.2", 0))
    writer.write(_REQUEST)
    found = await reader.read()
    writer.close()
    if not found.startswith(b"HTTP/1.1 200 ") or not found.endswith(_REPLY):
        raise ConnectionError(found[:200])
    return time.perf_counter() - began


async def chats(port, seconds):
    took, failed = [], 0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            async with asyncio.timeout(PATIENCE):
                took.append(await chat(port))
        except (OSError, TimeoutError):
            failed += 1
        await asyncio.sleep(0.02)
    return sorted(took), failed


def counted(admin):
    with urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics") as found:
        lines = [line.rpartition(" ") for line in found.read().decode().splitlines() if line[0] != "#"]
    return {
        name: float(value) for name, _, value in lines if "_cut_total" in name or "client_connections" in name
    }


async def attack(port, options, words):
    path = "/big" if "-X" in words else "/v1/chat/completions"
    return await asyncio.create_subprocess_exec(
        "slowhttptest", *words, "-c", str(options.connections), "-r", str(options.connections // 6), "-p", "3",
        "-l", str(options.seconds), "-u", f"http://127.0.0.1:{port}{path}",
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def row(name, took, failed, cut, most):
    at = [took[int(len(took) * share)] * 1000 for share in (0.5, 0.99)]
    print(f"| {name} | {len(took)} | {failed} | {at[0]:.1f} | {at[1]:.1f} | {most:.0f} | {cut} |", flush=True)


async def answer_all(port):
    server = await asyncio.start_server(answer, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


def serve(directory, behind):
    port, admin = free_port(), free_port()
    environment = os.environ | {
        "CHATPROXY_UPSTREAM": f"http://127.0.0.1:{behind}",
        "CHATPROXY_LISTEN": f"127.0.0.1:{port}",
        "CHATPROXY_ADMIN_LISTEN": f"127.0.0.1:{admin}",
        "CHATPROXY_DATA_DIR": f"{directory}/data",
        "CHATPROXY_KEYSET": f"file:{directory}/keys/keyset",
        "CHATPROXY_TRUSTED_PROXIES": "127.0.0.2",
        "CHATPROXY_LOG_LEVEL": "error",
    }
    chatproxy = [sys.executable, "-m", "chatproxy"]
    subprocess.run([*chatproxy, "keys", "init"], env=environment, check=True, capture_output=True)
    process = subprocess.Popen([*chatproxy, "serve"], env=environment)
    wait_for(port, process)
    wait_for(admin, process)
    return process, port, admin


async def run(options, port, admin):
    lost = 0
    print(
        "| attack | chats | failed | p50 ms | p99 ms | most connections | connections cut |\n|---|--:|--:|--:|--:|--:|---|"
    )
    row("none", *(await chats(port, options.seconds / 2)), "", 0)
    for name, words in MODES.items():
        if options.mode not in {None, name}:
            continue
        before = counted(admin)
        attacker = await attack(port, options, words)
        watching = asyncio.get_running_loop().create_task(peak(admin))
        took, failed = await chats(port, options.seconds)
        watching.cancel()
        with contextlib.suppress(ProcessLookupError):
            attacker.terminate()
        await attacker.wait()
        after = counted(admin)
        cut = ", ".join(
            f"{after[key] - before.get(key, 0):.0f} {key.partition(chr(34))[2][:-2]}"
            for key in after
            if "_cut_total" in key and after[key] != before.get(key, 0)
        )
        row(name, took, failed, cut, Peak.most)
        Peak.most = 0
        lost += failed
        await asyncio.sleep(5)
    return lost


class Peak:
    most = 0


async def peak(admin):
    while True:
        found = await asyncio.to_thread(counted, admin)
        Peak.most = max(Peak.most, found["chatproxy_client_connections"])
        await asyncio.sleep(1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=40)
    parser.add_argument("--connections", type=int, default=3_000)
    parser.add_argument("--mode", choices=MODES)
    parser.add_argument("--backend", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.backend:
        asyncio.run(answer_all(options.backend))
    behind = free_port()
    backend = subprocess.Popen([sys.executable, __file__, "--backend", str(behind)])
    with tempfile.TemporaryDirectory(prefix="chatproxy-slow-") as directory:
        wait_for(behind, backend)
        process, port, admin = serve(directory, behind)
        try:
            sys.exit(bool(asyncio.run(run(options, port, admin))))
        finally:
            for one in (process, backend):
                one.terminate()
                one.wait()


if __name__ == "__main__":
    main()
