"""`chatproxy leaktest` finds what leaks, wherever chatproxy may write, and nothing where nothing does."""

import base64
import gzip
import json
import resource
import signal
import sys
import zlib
from pathlib import Path

import pytest

from chatproxy.cli.leaktest import tell
from chatproxy.leaks.canaries import Canaries
from chatproxy.leaks.drive import NotDrivenError, Place
from chatproxy.leaks.planting import NAMES, PATHS, headers, request_body
from chatproxy.leaks.report import CORE_FILE, Report, look_for_leaks
from chatproxy.leaks.scan import Hit, Looked, Scanner
from integration.serve_process import environment, run, serving

PLANTED = {
    ("data/store/appendonlydir/left.aof", "prompt", "as it is"),
    ("data/audit/audit.jsonl", "subject", "hex"),
    ("logs/first", "query", "URL-encoded"),
    ("logs/crash", "authorization", "escaped"),
    ("tmp/upload", "file content", "as it is, in gzip"),
    ("tmp/frame", "answer", "as it is, in deflate"),
    ("home/.history", "cookie", "base64"),
    ("read/metrics-99", "conversation", "as it is"),
    ("cwd/core.1", "admin token", "UTF-16"),
    ("cwd/core.1", "memory", CORE_FILE),
}


def plant(place: Place, canaries: Canaries) -> None:
    """Leave a word of each kind in each place, as a fault of ours would."""

    def add(name: str, content: bytes) -> None:
        path = place.seen / name
        path.write_bytes((path.read_bytes() if path.exists() else b"") + content)

    add("data/store/appendonlydir/left.aof", b"*3\r\n" + canaries["prompt"].encode())
    add("data/audit/audit.jsonl", canaries["subject"].encode().hex().encode())
    add("logs/first", "".join(f"%{ord(c):02x}" for c in canaries["query"]).encode())
    add("logs/crash", "".join(f"\\u{ord(c):04x}" for c in canaries["authorization"]).encode())
    add("tmp/upload", gzip.compress(canaries["file content"].encode() * 3))
    add("tmp/frame", b"frame" + zlib.compress(canaries["answer"].encode() * 3))
    add("home/.history", base64.b64encode(b"a" + canaries["cookie"].encode()))
    add("read/metrics-99", f'x{{conversation="{canaries["conversation"]}"}} 1'.encode())
    add("cwd/core.1", canaries["admin token"].encode("utf-16-le"))


@pytest.mark.timeout(240)
async def test_it_finds_each_leak_that_was_planted_and_nothing_else_leaks(tmp_path: Path) -> None:
    report = await look_for_leaks(tmp_path, before_looking=plant)
    assert {(hit.where, hit.name, hit.form) for hit in report.hits} == PLANTED
    assert report.canaries == len(NAMES) == len(set(NAMES))
    assert report.looked.places > 20
    done = " / ".join(report.done)
    for what in (
        "killed",
        "SIGABRT",
        "stopped",
        "left by the client",
        "silent",
        "failed",
        "stream-cut",
        "doctor",
    ):
        assert what in done
    read = {path.name for path in (tmp_path / "seen" / "read").iterdir()}
    assert {"readyz", "transcripts-list", "config-show"} <= read
    assert [name for name in read if name.startswith("metrics-")]
    assert [name for name in read if name.startswith("cmdline-")]
    assert "Fatal Python error: Aborted" in (tmp_path / "seen" / "logs" / "crash").read_text()
    assert len((tmp_path / "seen" / "read" / "transcripts-list").read_text().splitlines()) > 5


def test_every_place_of_a_request_has_a_word_of_its_own() -> None:
    canaries = Canaries("leakmark", {name: f"leakmark{number:04}" for number, name in enumerate(NAMES)})
    sent = b"".join(request_body(canaries, "well", path=path) for path in PATHS)
    sent += json.dumps(headers(canaries)).encode()
    found = {hit.name for hit in Scanner(canaries).scan("sent", sent)}
    assert len(found) >= 20


async def test_where_nothing_can_be_driven_it_does_not_say_that_all_is_well(tmp_path: Path) -> None:
    (tmp_path / "seen").mkdir()
    (tmp_path / "seen" / "data").write_text("no directory")
    with pytest.raises((NotDrivenError, OSError)):
        await look_for_leaks(tmp_path)


def test_what_was_found_is_told_by_place_and_form_alone(capsys: pytest.CaptureFixture[str]) -> None:
    looked = Looked(places=3, size=1 << 20, streams=2)
    found = Report(2, ("a chat",), looked, (Hit("logs/first", "prompt", "base64"),))
    tell(found, as_json=False)
    tell(found, as_json=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "LEAK  prompt, base64: logs/first"
    assert lines[1].endswith(": 1 leak")
    assert json.loads(lines[2]) == {"leak": "prompt", "form": "base64", "where": "logs/first"}
    assert json.loads(lines[3])["leaks"] == 1


# --- the process ---


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the flag is Linux's")


async def test_a_process_that_runs_can_write_no_core_file(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))
    try:
        async with serving(environment(tmp_path, upstream="http://127.0.0.1:9")) as proxy:
            pid = proxy.process.pid
            limits = Path(f"/proc/{pid}/limits").read_text()
            assert "Max core file size        0 " in limits
            # The files of a process that must not be dumped are the system's, whoever it runs as.
            assert Path(f"/proc/{pid}/environ").stat().st_uid == 0
            proxy.process.send_signal(signal.SIGABRT)
            assert await proxy.ended() == -signal.SIGABRT
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)


async def test_no_command_leaves_a_core_file_either(tmp_path: Path) -> None:
    probe = "import resource, chatproxy.memory as m; m.refuse_dumps(); print(resource.getrlimit(resource.RLIMIT_CORE)[0])"
    flag = "import ctypes, chatproxy.memory as m; m.refuse_dumps(); print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    import subprocess  # noqa: PLC0415

    for code in (probe, flag):
        found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: ASYNC221
        assert found.stdout.strip() == "0"
    assert (await run(environment(tmp_path), "config", "show")).status == 0
