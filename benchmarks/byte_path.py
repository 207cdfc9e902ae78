"""What does it cost to pass a chat through, by the server and the client a proxy is made of?

``python benchmarks/byte_path.py [--seconds 5] [--rounds 3] [STACK ...]``

The proxy runs alone on the first processor; backend and load generator share the second. CPU is user and system time
of the proxy (with its children) per request, the figure to trust on a noisy machine. Runs of the stacks alternate;
the table has medians, and ratios to the cheapest. Linux only: it reads ``/proc``.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
PROXY_CPU, REST_CPU = {0}, {1}
STACKS = {
    "starlette_httpx": "Starlette Request and StreamingResponse, uvicorn, httpx",
    "asgi_httpx": "plain ASGI, uvicorn, httpx",
    "asgi_aiohttp": "plain ASGI, uvicorn, aiohttp",
    "asgi_connector_asyncio": "plain ASGI, uvicorn on asyncio, own connector",
    "asgi_connector": "plain ASGI, uvicorn on uvloop, own connector",
    "granian_connector": "plain ASGI, granian, own connector",
    "protocols": "two asyncio protocols, nothing altered (a floor, not a proxy)",
}
NEEDS = {"asgi_aiohttp": "aiohttp", "granian_connector": "granian"}


@dataclass(frozen=True)
class Load:
    name: str
    path: str
    connections: int


LOADS = (Load("answer", "/v1/chat/completions", 32), Load("stream", "/stream", 24))


@dataclass(frozen=True)
class Run:
    rate: float
    cpu_microseconds: float
    reads: float


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(*arguments, cpus):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(HERE), str(HERE.parent / "src")))}
    process = subprocess.Popen([sys.executable, *arguments], cwd=HERE, env=environment)
    os.sched_setaffinity(process.pid, cpus)
    return process


@contextlib.contextmanager
def a_backend():
    """Run the backend until the block ends; yield its port."""
    port = free_port()
    process = start("backend.py", str(port), cpus=REST_CPU)
    try:
        wait_for(port, process)
        yield port
    finally:
        process.terminate()
        process.wait()


def wait_for(port, process, seconds=20):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise SystemExit(f"{process.args} does not listen")


def family(pid):
    children = Path(f"/proc/{pid}/task/{pid}/children")
    found = [pid]
    for child in children.read_text().split() if children.exists() else ():
        found += family(int(child))
    return found


def cpu_seconds(pid):
    ticks = 0
    for member in family(pid):
        fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def generate(port, load, seconds, headers=(), *, options=()):
    """Run the load generator, and return what it says in the end."""
    arguments = [str(port), load.path, str(load.connections), str(seconds), *headers]
    with start_load([str(HERE / "load.py"), *options, *arguments]) as process:
        output, _ = process.communicate()
    return json.loads(output)


def start_load(arguments):
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True)
    os.sched_setaffinity(process.pid, REST_CPU)
    return process


def measure(stack, load, backend_port, seconds):
    port = free_port()
    proxy = start("-m", f"stacks.{stack}", str(port), str(backend_port), cpus=PROXY_CPU)
    try:
        wait_for(port, proxy)
        generate(port, load, 1)
        before = cpu_seconds(proxy.pid)
        total = generate(port, load, seconds)
        used = cpu_seconds(proxy.pid) - before
    finally:
        proxy.terminate()
        proxy.wait()
    if total["errors"] or not total["requests"]:
        raise SystemExit(f"{stack}, {load.name}: {total}")
    count = total["requests"]
    return Run(count / total["seconds"], used / count * 1e6, total["reads"] / count)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("stacks", nargs="*", metavar="STACK", help=", ".join(STACKS))
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    stacks = []
    for stack in options.stacks or STACKS:
        if importlib.util.find_spec(NEEDS.get(stack, "httptools")):
            stacks.append(stack)
        else:
            print(f"{stack} is left out: {NEEDS[stack]} is not installed", file=sys.stderr)

    runs = {(stack, load): [] for stack in stacks for load in LOADS}
    with a_backend() as backend_port:
        for _ in range(options.rounds):
            for (stack, load), done in runs.items():
                done.append(measure(stack, load, backend_port, options.seconds))
                print(f"{stack} {load.name}: {done[-1]}", file=sys.stderr)

    def median(stack, load, figure):
        return statistics.median(getattr(run, figure) for run in runs[stack, load])

    answer, stream = LOADS
    cheapest = {load: min(median(stack, load, "cpu_microseconds") for stack in stacks) for load in LOADS}
    print("| stack | requests/s | CPU µs a request | ratio | CPU µs a stream | ratio | reads a stream |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for stack in stacks:
        request_cpu, stream_cpu = (median(stack, load, "cpu_microseconds") for load in LOADS)
        print(
            f"| {STACKS[stack]} | {median(stack, answer, 'rate'):,.0f} "
            f"| {request_cpu:,.0f} | {request_cpu / cheapest[answer]:.1f} "
            f"| {stream_cpu:,.0f} | {stream_cpu / cheapest[stream]:.1f} | {median(stack, stream, 'reads'):.0f} |"
        )


if __name__ == "__main__":
    main()
