"""What does chatproxy cost with everything on, beside gateways that merely forward?

``python benchmarks/peers.py [--seconds 4] [--rounds 3] [--rate 200] [--picture FILE.svg] [PEER ...]``

Each proxy runs alone on the first processor, as one worker; backend and load generator share the second. CPU is user and
system time per request of all of its processes; of chatproxy that is measured until the last turn is kept, and its store
is told apart. Runs alternate; the table has medians, and the ratio to Envoy, which is the claim. Of the peers, those that
are on the PATH take part. Linux only.
"""

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from byte_path import (
    PROXY_CPU,
    Load,
    a_backend,
    cpu_seconds,
    family,
    free_port,
    generate,
    wait_for,
)
from picture import bars
from whole import WHO, metric, own_cpu, serve

_WARM_UPS = 30
"""How often, a second each, a gateway is tried until it has answered for the first time."""
_COLUMNS = (
    "| | requests/s | CPU µs an answer | beside Envoy | CPU µs a stream | beside Envoy "
    "| paced: CPU µs | p50 / p99 ms | first byte p50 / p99 ms | reads a stream | RSS MiB |"
)
ANSWERS, STREAMS = 32, 24
_PACED_STREAMS = 128
"""Enough connections for one to be free when the next stream is to begin: one takes at least 0.13 s."""
_NGINX = """
daemon off; worker_processes 1; pid {directory}/pid; error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000;
  client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/f;
  uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;
  upstream backend {{ server 127.0.0.1:{backend}; keepalive 256; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    }}
  }}
}}
"""
_ENVOY = """
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: in
          route_config:
            virtual_hosts: [{{name: all, domains: ["*"], routes: [{{match: {{prefix: /}}, route: {{cluster: backend}}}}]}}]
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  clusters:
  - name: backend
    type: STATIC
    load_assignment:
      cluster_name: backend
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {backend}}}}}}}
"""
_LITELLM = """
general_settings: {{dangerously_permit_weak_or_unset_master_key: true}}
model_list:
  - model_name: m
    litellm_params: {{model: openai/m, api_base: "http://127.0.0.1:{backend}/v1", api_key: none}}
"""
_LOGGING = """
litellm_settings:
  callbacks: kept.everything
"""
_KEPT = """
import json

from litellm.integrations.custom_logger import CustomLogger


class Everything(CustomLogger):
    async def async_log_success_event(self, kwargs, response_obj, start_time, end_time):
        said = {"messages": kwargs["messages"], "answer": response_obj.model_dump(mode="json"), "at": str(start_time)}
        with open("kept.jsonl", "a") as file:
            file.write(json.dumps(said) + "\\n")


everything = Everything()
"""


@dataclass
class Running:
    """A proxy that serves."""

    pid: int
    port: int
    admin: int | None = None
    """Of chatproxy: where it tells how many turns are not kept yet."""

    def cpu(self) -> tuple[float, float]:
        """Return the seconds of processor that it has taken so far, and those of its store."""
        if self.admin is None:
            return cpu_seconds(self.pid), 0.0
        while metric(self.admin, "chatproxy_turns_pending"):
            time.sleep(0.05)
        own = own_cpu(self.pid)
        return own, cpu_seconds(self.pid) - own


@dataclass(frozen=True)
class Peer:
    """A gateway. ``begin`` gives the process and what it is, in a directory, in front of a backend."""

    title: str
    begin: Callable[[str, int], tuple[subprocess.Popen[str], Running]]
    program: str = ""
    path: str = "/v1/chat/completions"
    stream_path: str | None = "/stream/chat/completions"
    headers: Sequence[str] = ()


def program(directory: str, port: int, *command: str) -> tuple[subprocess.Popen[str], Running]:
    with Path(directory, "log").open("w") as log:
        process = subprocess.Popen(command, cwd=directory, stdout=log, stderr=log, text=True)
    wait_for(port, process, seconds=90)
    return process, Running(process.pid, port)


def nginx(directory: str, backend: int) -> tuple[subprocess.Popen[str], Running]:
    port = free_port()
    Path(directory, "conf").write_text(_NGINX.format(directory=directory, port=port, backend=backend))
    return program(directory, port, "nginx", "-p", directory, "-c", f"{directory}/conf")


def envoy(directory: str, backend: int) -> tuple[subprocess.Popen[str], Running]:
    port = free_port()
    Path(directory, "envoy.yaml").write_text(_ENVOY.format(port=port, backend=backend))
    return program(
        directory, port, "envoy", "-c", f"{directory}/envoy.yaml", "--concurrency", "1",
        "--use-dynamic-base-id", "-l", "error",
    )  # fmt: skip


def litellm(directory: str, backend: int, *, more: str = "") -> tuple[subprocess.Popen[str], Running]:
    port = free_port()
    Path(directory, "config.yaml").write_text(_LITELLM.format(backend=backend) + more)
    return program(
        directory,
        port,
        "litellm",
        "--config",
        f"{directory}/config.yaml",
        "--port",
        str(port),
        "--num_workers",
        "1",
    )


def litellm_that_logs(directory: str, backend: int) -> tuple[subprocess.Popen[str], Running]:
    Path(directory, "kept.py").write_text(_KEPT)
    return litellm(directory, backend, more=_LOGGING)


def portkey(directory: str, backend: int) -> tuple[subprocess.Popen[str], Running]:
    del backend  # each request names it
    port = free_port()
    return program(directory, port, "gateway", "--headless", f"--port={port}")


def chatproxy(directory: str, backend: int) -> tuple[subprocess.Popen[str], Running]:
    process, port, admin = serve(directory, backend)
    return process, Running(process.pid, port, admin)


PEERS = {
    "chatproxy": Peer("chatproxy, everything on", chatproxy, headers=WHO),
    "passed": Peer(
        "chatproxy, a request that is no chat", chatproxy, path="/v1/other", stream_path="/stream"
    ),
    "nginx": Peer("nginx, forwards", nginx, "nginx"),
    "envoy": Peer("Envoy, forwards", envoy, "envoy"),
    "portkey": Peer(
        "Portkey, forwards",
        portkey,
        "gateway",
        stream_path=None,
        headers=("x-portkey-provider: openai", "x-portkey-custom-host: http://127.0.0.1:{backend}/v1"),
    ),
    "litellm": Peer("LiteLLM, no logging", litellm, "litellm", stream_path=None),
    "litellm-logging": Peer("LiteLLM, logs to a file", litellm_that_logs, "litellm", stream_path=None),
}


@dataclass(frozen=True)
class Run:
    """Microseconds of processor, milliseconds, and MiB; None: not measured."""

    rate: float
    answer_cpu: float
    store_cpu: float
    answer_p50: float
    answer_p99: float
    rss_mib: float
    paced_cpu: float
    stream_cpu: float | None = None
    stream_store_cpu: float | None = None
    first_byte_p50: float | None = None
    first_byte_p99: float | None = None
    reads: float | None = None


def cost(running: Running, load: Load, seconds: float, headers: Sequence[str]) -> tuple[float, float, dict]:
    """Return CPU µs of the proxy and of its store per request, and what the load generator saw."""
    before = running.cpu()
    total = generate(running.port, load, seconds, headers)
    own, store = (after - earlier for after, earlier in zip(running.cpu(), before, strict=True))
    if total["errors"] or not total["requests"]:
        raise SystemExit(f"{load}: {total}")
    return own / total["requests"] * 1e6, store / total["requests"] * 1e6, total


def paced(
    running: Running,
    path: str,
    seconds: float,
    headers: Sequence[str],
    *,
    connections: int = ANSWERS,
    rate: int = 200,
    options: Sequence[str] = (),
) -> dict:
    load = Load("paced", path, connections)
    return generate(running.port, load, seconds, headers, options=[f"--rate={rate}", *options])


def measure(peer: Peer, backend: int, seconds: float, *, rate: int) -> Run:
    headers = [header.format(backend=backend) for header in peer.headers]
    with tempfile.TemporaryDirectory(prefix="chatproxy-bench-") as directory:
        process, running = peer.begin(directory, backend)
        try:
            for member in family(process.pid):
                os.sched_setaffinity(member, PROXY_CPU)
            answers = Load("answer", peer.path, ANSWERS)
            for _ in range(_WARM_UPS):
                if generate(running.port, answers, 1, headers)["requests"]:
                    break
            own, store, total = cost(running, answers, seconds, headers)
            before = sum(running.cpu())
            calm = paced(running, peer.path, seconds, headers, rate=rate)
            paced_cpu = (sum(running.cpu()) - before) / calm["requests"] * 1e6
            status = Path(f"/proc/{process.pid}/status").read_text()
            rss = int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024
            run = (
                total["requests"] / total["seconds"],
                own,
                store,
                calm["p50_ms"],
                calm["p99_ms"],
                rss,
                paced_cpu,
            )
            if peer.stream_path is None:
                return Run(*run)
            own, store, total = cost(running, Load("stream", peer.stream_path, STREAMS), seconds, headers)
            reads = total["reads"] / total["requests"]
            calm = paced(running, peer.stream_path, seconds, headers, connections=_PACED_STREAMS, rate=rate)
            return Run(*run, own, store, calm["first_byte_p50_ms"], calm["first_byte_p99_ms"], reads)
        finally:
            process.terminate()
            process.wait()


def median(runs: Sequence[Run], figure: str) -> float | None:
    found = [value for run in runs if (value := getattr(run, figure)) is not None]
    return statistics.median(found) if found else None


def shown(value: float | None, form: str = "{:,.0f}") -> str:
    return "-" if value is None else form.format(value)


def table(runs: dict[str, list[Run]]) -> str:
    envoy = runs.get("envoy", [])
    lines = [_COLUMNS, f"|---{'|--:' * (_COLUMNS.count('|') - 2)}|"]
    for name, done in runs.items():
        cells = [PEERS[name].title, shown(median(done, "rate"))]
        for figure, store in (("answer_cpu", "store_cpu"), ("stream_cpu", "stream_store_cpu")):
            own, kept, other = median(done, figure), median(done, store), median(envoy, figure)
            with_store = f" + {kept:,.0f} of the store" if name == "chatproxy" and kept else ""
            cells += [shown(own) + with_store, shown(own / other if own and other else None, "{:.2f}")]
        cells += [
            shown(median(done, "paced_cpu")),
            f"{shown(median(done, 'answer_p50'), '{:.2f}')} / {shown(median(done, 'answer_p99'), '{:.2f}')}",
            f"{shown(median(done, 'first_byte_p50'), '{:.2f}')} / {shown(median(done, 'first_byte_p99'), '{:.2f}')}",
            shown(median(done, "reads")),
            shown(median(done, "rss_mib")),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("peers", nargs="*", metavar="PEER", help=", ".join(PEERS))
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=int, default=200, help="requests a second of the paced load")
    parser.add_argument("--picture", type=Path, help="where to draw the answers' CPU as SVG")
    options = parser.parse_args()
    runs: dict[str, list[Run]] = {}
    for name in options.peers or PEERS:
        if PEERS[name].program and not shutil.which(PEERS[name].program):
            print(f"{name} is left out: {PEERS[name].program} is not on the PATH", file=sys.stderr)
        else:
            runs[name] = []
    with a_backend() as backend_port:
        for _ in range(options.rounds):
            for name, done in runs.items():
                done.append(measure(PEERS[name], backend_port, options.seconds, rate=options.rate))
                print(f"{name}: {done[-1]}", file=sys.stderr)
    print(table(runs))
    if options.picture:
        rows = [(PEERS[name].title, median(done, "answer_cpu") or 0.0) for name, done in runs.items()]
        options.picture.write_text(bars("CPU µs a plain answer", sorted(rows, key=lambda row: row[1])))


if __name__ == "__main__":
    main()
