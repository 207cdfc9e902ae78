"""What do chats feel of people who download all that is held of them, and what does that cost?

``python benchmarks/download.py [--turns 5000] [--seconds 20]``

At least so many turns are of one person; how many is told. ``chatproxy serve`` with its embedded store runs on the first
processor; backend, load generator and whoever downloads share the second. 200 chats a second of somebody else, alone and beside
downloads one after the other. Linux only.
"""

import argparse
import os
import re
import threading
import time
import urllib.parse
import urllib.request

from byte_path import a_backend
from flat import PATH, fill, rss_mib
from peers import Running, paced
from whole import WHO, metric, own_cpu, served

OTHER = ("X-Chat-Subject: bob", "X-Chat-Plan: pro")
HEADERS = dict(header.split(": ") for header in WHO)


def download(port):
    """Ask for the archive as the page does; return its bytes and the seconds."""
    url = f"http://127.0.0.1:{port}/_chatproxy/copy"
    with urllib.request.urlopen(urllib.request.Request(url, headers=HEADERS)) as page:
        token = re.search(r'name="token" value="([^"]+)"', page.read().decode())[1]
    form = urllib.parse.urlencode({"token": token, "passphrase": ""}).encode()
    begun, size = time.perf_counter(), 0
    with urllib.request.urlopen(urllib.request.Request(url, data=form, headers=HEADERS)) as answer:
        while data := answer.read(1 << 16):
            size += len(data)
    return size, time.perf_counter() - begun


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--turns", type=int, default=5_000)
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    os.environ["CHATPROXY_ACCESS_RATE"] = "9999/1s"
    with a_backend() as backend_port, served(backend_port) as (process, port, admin):
        fill(port, admin, options.turns)
        turns = metric(admin, 'chatproxy_turns_total{outcome="stored"}')
        running = Running(process.pid, port)
        paced(running, PATH, 2, OTHER)
        before = rss_mib(process.pid)
        alone = paced(running, PATH, options.seconds, OTHER)
        cpu = own_cpu(process.pid)
        size, seconds = download(port)
        cpu, peak, is_over = own_cpu(process.pid) - cpu, before, False

        def keep_downloading():
            while not is_over:
                download(port)

        def watch():
            nonlocal peak
            while not is_over:
                peak = max(peak, rss_mib(process.pid))
                time.sleep(0.05)

        threads = [threading.Thread(target=work) for work in (keep_downloading, watch)]
        for thread in threads:
            thread.start()
        beside = paced(running, PATH, options.seconds, OTHER)
        is_over = True
        for thread in threads:
            thread.join()
        print(
            f"{turns:,.0f} turns: {size / 1e6:.1f} MB in {seconds:.1f} s, {cpu:.1f} s of CPU; "
            f"RSS {before:.0f} MiB before, {peak:.0f} at most"
        )
        for name, what in (("alone", alone), ("beside downloads", beside)):
            print(
                f"chats {name}: p50 {what['p50_ms']:.2f} ms, p99 {what['p99_ms']:.2f} ms; {what['errors']} errors"
            )


if __name__ == "__main__":
    main()
