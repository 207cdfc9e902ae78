"""What does a chat cost with everything on: identity, consent, policy, capture, sealing, store and annotation?

``python benchmarks/whole.py [--seconds 5] [--rounds 3]``

``chatproxy serve`` with its embedded store runs on the first processor; backend and load generator share the second.
CPU is user and system time per request, of the proxy and of the store's server apart, until the last turn is kept.
Beside it: the same path for a request that is not captured, and a bare pass-through of the same parts. Linux only.
"""

import argparse
import contextlib
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from byte_path import (
    PROXY_CPU,
    Load as Path_,
    a_backend,
    cpu_seconds,
    family,
    free_port,
    generate,
    measure,
    wait_for,
)

WHO = ("X-Chat-Subject: ana", "X-Chat-Plan: pro")
LOADS = {
    "captured answer": (Path_("captured answer", "/v1/chat/completions", 32), WHO),
    "captured stream": (Path_("captured stream", "/stream/chat/completions", 24), WHO),
    "passed answer": (Path_("passed answer", "/v1/other", 32), ()),
    "passed stream": (Path_("passed stream", "/stream", 24), ()),
}


@dataclass(frozen=True)
class Run:
    rate: float
    proxy: float
    store: float
    rss_mib: float
    first_byte_added_ms: float


def own_cpu(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def settings_of(directory, backend_port, port, admin):
    return {
        "CHATPROXY_UPSTREAM": f"http://127.0.0.1:{backend_port}",
        "CHATPROXY_LISTEN": f"127.0.0.1:{port}",
        "CHATPROXY_ADMIN_LISTEN": f"127.0.0.1:{admin}",
        "CHATPROXY_DATA_DIR": f"{directory}/data",
        "CHATPROXY_KEYSET": f"file:{directory}/keyset",
        "CHATPROXY_TRUSTED_PROXIES": "127.0.0.1",
        "CHATPROXY_LOG_LEVEL": "error",
    }


def serve(directory, backend_port):
    port, admin = free_port(), free_port()
    environment = os.environ | settings_of(directory, backend_port, port, admin)
    command = [sys.executable, "-m", "chatproxy"]
    subprocess.run([*command, "keys", "init"], env=environment, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(
        [*command, "consent", "give", "ana"], env=environment, check=True, stdout=subprocess.DEVNULL
    )
    process = subprocess.Popen([*command, "serve"], env=environment)
    wait_for(port, process)
    for member in family(process.pid):
        os.sched_setaffinity(member, PROXY_CPU)
    return process, port, admin


@contextlib.contextmanager
def served(backend_port):
    """Serve from a new directory until the block ends; yield the process and its ports."""
    with served_from(backend_port) as (_, process, port, admin):
        yield process, port, admin


@contextlib.contextmanager
def served_from(backend_port):
    """Do as ``served``, and yield the directory before the rest."""
    with tempfile.TemporaryDirectory(prefix="chatproxy-bench-", ignore_cleanup_errors=True) as directory:
        process, port, admin = serve(directory, backend_port)
        try:
            yield directory, process, port, admin
        finally:
            process.terminate()
            process.wait()


def metric(admin, name):
    with urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics") as answer:
        return float(re.search(rf"^{re.escape(name)} (\S+)", answer.read().decode(), re.MULTILINE)[1])


def run(name, backend_port, seconds):
    load, headers = LOADS[name]
    with served(backend_port) as (process, port, admin):
        generate(port, load, 1, headers)
        alone = Path_(load.name, load.path, 1)
        added = (
            generate(port, alone, 1, headers)["first_byte_p50_ms"]
            - generate(backend_port, alone, 1)["first_byte_p50_ms"]
        )
        proxy, all_of_it = own_cpu(process.pid), cpu_seconds(process.pid)
        total = generate(port, load, seconds, headers)
        while metric(admin, "chatproxy_turns_pending"):
            time.sleep(0.05)
        used_by_proxy = own_cpu(process.pid) - proxy
        used_by_store = cpu_seconds(process.pid) - all_of_it - used_by_proxy
        if metric(admin, 'chatproxy_turns_total{outcome="lost"}') or total["errors"]:
            raise SystemExit(f"{name}: turns or requests were lost: {total}")
        rss = int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())[1]) / 1024
    count = total["requests"]
    return Run(count / total["seconds"], used_by_proxy / count * 1e6, used_by_store / count * 1e6, rss, added)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    runs = {name: [] for name in LOADS}
    bare = {"answer": [], "stream": []}
    with a_backend() as backend_port:
        for _ in range(options.rounds):
            for name, done in runs.items():
                done.append(run(name, backend_port, options.seconds))
                print(f"{name}: {done[-1]}", file=sys.stderr)
            for kind, done in bare.items():
                load = LOADS[f"passed {kind}"][0]
                done.append(measure("asgi_connector", load, backend_port, options.seconds).cpu_microseconds)
    print(
        "| | requests/s | proxy CPU µs | store CPU µs | proxy beside a bare pass-through | first byte added ms | RSS MiB |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|")
    for name, done in runs.items():
        rate, proxy, store, rss, added = (
            statistics.median(getattr(each, figure) for each in done)
            for figure in ("rate", "proxy", "store", "rss_mib", "first_byte_added_ms")
        )
        ratio = proxy / statistics.median(bare[name.split()[1]])
        print(
            f"| {name} | {rate:,.0f} | {proxy:,.0f} | {store:,.0f} | {ratio:.1f} | {added:.2f} | {rss:,.0f} |"
        )


if __name__ == "__main__":
    main()
