"""A dataset goes to a bucket of a real object store's interface, over HTTP, and is checked and taken back there.

S3 is moto's server with s3fs, Google's interface an emulator with gcsfs; both listen on loopback alone.
"""

import asyncio
import hashlib
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from chatproxy.clock import wall_clock
from chatproxy.consent.events import Choice
from chatproxy.policy.instants import format_instant
from chatproxy.store.embedded import EmbeddedServer
from e2e.environments import PROGRAMS, ROOT, NotInstallableError, python_environment
from integration.dataset_fixtures import an_archive, said
from integration.serve_process import Finished, environment

SECRET = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY"
"""What must never be shown."""
PATIENCE = 60.0


@dataclass(frozen=True)
class Store:
    """An object store that runs."""

    interpreter: Path
    root: str
    environment: Mapping[str, str]
    home: Path

    def env(self, more: Mapping[str, str] = {}) -> dict[str, str]:
        words = {"PATH": os.environ["PATH"], "HOME": str(self.home), "PYTHONPATH": str(ROOT / "src")}
        return {
            **words,
            "HF_ENDPOINT": "http://127.0.0.1:9",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            **self.environment,
            **more,
        }

    def look(self, what: str, address: str) -> Any:
        """Ask the store what is there, without chatproxy."""
        done = subprocess.run(
            [self.interpreter, PROGRAMS / "bucket.py", what, address],
            env=self.env(), capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def start(self, env: Mapping[str, str], *words: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [self.interpreter, "-m", "chatproxy", *words],
            env=self.env(env), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, env: Mapping[str, str], *words: str) -> Finished:
        out, err = (process := self.start(env, *words)).communicate(timeout=PATIENCE)
        assert SECRET not in out + err
        return Finished(process.returncode, out, err)


@pytest.fixture(scope="module")
def interpreter() -> Path:
    try:
        return python_environment("buckets")
    except NotInstallableError as error:
        pytest.skip(str(error))


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


@contextmanager
def served(command: list[str], port: int, env: Mapping[str, str]) -> Iterator[None]:
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(command, env={"PATH": os.environ["PATH"], **env}, stdout=log, stderr=log)
        try:
            until = time.monotonic() + PATIENCE
            while True:
                with socket.socket() as asking:
                    if asking.connect_ex(("127.0.0.1", port)) == 0:
                        break
                assert time.monotonic() < until, "the store does not answer"
                time.sleep(0.1)
            yield
        finally:
            server.kill()
            server.wait()


@contextmanager
def s3(interpreter: Path, home: Path, **settings: str) -> Iterator[Store]:
    port = free_port()
    command = [str(interpreter), "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with served(command, port, settings):
        yield Store(
            interpreter,
            "s3://bucket/team/may-set",
            {
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
                "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
                "AWS_SECRET_ACCESS_KEY": SECRET,
                "AWS_REGION": "us-east-1",
            },
            home,
        )


@contextmanager
def gs(interpreter: Path, home: Path) -> Iterator[Store]:
    port = free_port()
    command = [
        str(interpreter.parent / "gcp-storage-emulator"), "start", "--host", "127.0.0.1", "--port", str(port), "--in-memory"
    ]  # fmt: skip
    with served(command, port, {"HOME": str(home)}):
        yield Store(
            interpreter,
            "gs://bucket/team/may-set",
            {"STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}", "GOOGLE_CLOUD_PROJECT": "test"},
            home,
        )


@pytest.fixture(params=[s3, gs], ids=["s3", "gs"])
def store(request: pytest.FixtureRequest, interpreter: Path, tmp_path: Path) -> Iterator[Store]:
    with request.param(interpreter, tmp_path) as running:
        running.look("make", running.root.partition("/team")[0])
        yield running


@asynccontextmanager
async def filled(directory: Path, turns: int) -> AsyncIterator[tuple[dict[str, str], str]]:
    """Two people with so many turns each; yields the environment and the address of what keeps them."""
    with tempfile.TemporaryDirectory() as short:
        async with EmbeddedServer(Path(short), ballast_bytes=0) as server:
            async with an_archive(directory, server.url) as archive:
                for subject in ("ana", "bea"):
                    await archive.choose(subject, Choice.GIVEN, days_ago=40)
                    for start in range(0, turns, 500):
                        texts = [said(f"{subject} {n} a@b.fr") for n in range(start, min(turns, start + 500))]
                        await archive.keep_all(subject, texts, days_ago=10)
            yield environment(directory, store=server.url), server.url


def wanted(out: str, *more: str) -> tuple[str, ...]:
    return ("dataset", "export", "--purpose", "capability", "--consumer", "ml", "--out", out, *more)


def in_directory(path: Path) -> dict[str, str]:
    files = [file for file in path.rglob("*") if file.is_file()]
    return {
        file.relative_to(path).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files
    }


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
async def test_a_bucket_holds_a_dataset_that_is_checked_loaded_recalled_and_acknowledged(
    form: str, store: Store, tmp_path: Path
) -> None:
    async with filled(tmp_path, 30) as (env, url):
        at = format_instant(wall_clock() // 1000 * 1000)
        words = ("--format", form, "--at", at)
        made = await asyncio.to_thread(store.run, env, *wanted(store.root, *words))
        assert (made.status, made.err) == (0, "")
        assert f"60 items of 60 turns in {store.root}" in made.out
        await asyncio.to_thread(store.run, env, *wanted(str(tmp_path / "same"), *words))
        assert await asyncio.to_thread(store.look, "files", store.root) == in_directory(tmp_path / "same")
        loaded = await asyncio.to_thread(store.look, "load", store.root)
        assert (len(set(loaded["datasets"])), loaded["arrow"]) == (60, 60)

        again = await asyncio.to_thread(store.run, env, *wanted(store.root, *words))
        assert (again.status, "holds this shard already" in again.err) == (1, True)
        checked = await asyncio.to_thread(store.run, env, "dataset", "verify", store.root)
        assert (checked.status, checked.out) == (
            0,
            "60 items in 2 files. 60 were allowed; 0 cannot be led back any more.\n",
        )
        async with an_archive(tmp_path, url) as archive:
            await archive.choose("ana", Choice.WITHDRAWN)
        recalled = await asyncio.to_thread(store.run, env, "dataset", "recall", store.root)
        assert (recalled.status, recalled.out.count("CONSENT_WITHDRAWN open")) == (0, 30)
        done = await asyncio.to_thread(store.run, env, "dataset", "acknowledge", store.root)
        assert done.out == "30 items acknowledged.\n"
        log = (tmp_path / "data" / "audit" / "audit.jsonl").read_text()
        assert ("dataset.exported" in log, SECRET in log) == (True, False)


async def test_an_export_to_a_bucket_goes_on_after_kills_to_the_same_bytes(
    store: Store, tmp_path: Path
) -> None:
    async with filled(tmp_path, 6000) as (env, _):
        at = format_instant(wall_clock() // 1000 * 1000)
        words = wanted(store.root, "--at", at)
        killed: list[set[str]] = []
        for left in ({".state"}, {".state", "data"}, {".state", "data", "items"}):
            process = store.start(env, *words)
            until = time.monotonic() + PATIENCE
            while process.poll() is None and time.monotonic() < until:
                there = await asyncio.to_thread(store.look, "names", store.root)
                if left <= {name.partition("/")[0].partition("-")[0] for name in there}:
                    break
            process.send_signal(signal.SIGKILL)
            process.communicate()
            if process.returncode == -signal.SIGKILL:
                killed.append(left)
                there = await asyncio.to_thread(store.look, "names", store.root)
                assert not [name for name in there if name.startswith("manifest")]
        assert killed
        made = await asyncio.to_thread(store.run, env, *words)
        assert made.status == 0, made.err
        await asyncio.to_thread(store.run, env, *wanted(str(tmp_path / "same"), "--at", at))
        assert await asyncio.to_thread(store.look, "files", store.root) == in_directory(tmp_path / "same")


async def test_objects_in_s3_are_for_the_owner_alone(interpreter: Path, tmp_path: Path) -> None:
    with s3(interpreter, tmp_path) as store:
        store.look("make", "s3://bucket")
        async with filled(tmp_path, 3) as (env, _):
            made = await asyncio.to_thread(store.run, env, *wanted(store.root))
            assert made.status == 0, made.err
        grants = await asyncio.to_thread(store.look, "grants", store.root)
    assert len(grants) == 5
    assert all(each == [["CanonicalUser", "FULL_CONTROL"]] for each in grants.values())


async def test_a_bucket_that_is_not_there_or_refuses_is_said_before_anything_is_noted(
    interpreter: Path, tmp_path: Path
) -> None:
    async with filled(tmp_path, 3) as (env, _):
        with s3(interpreter, tmp_path) as store:
            missing = await asyncio.to_thread(store.run, env, *wanted(store.root))
        with s3(interpreter, tmp_path, INITIAL_NO_AUTH_ACTION_COUNT="0") as store:
            refused = await asyncio.to_thread(store.run, env, *wanted(store.root))
            unread = await asyncio.to_thread(store.run, env, "dataset", "verify", store.root)
        gone = await asyncio.to_thread(store.run, env, *wanted(store.root))
        for done in (missing, refused, unread, gone):
            assert (done.status, "s3://bucket/team/may-set" in done.err) == (1, True)
            assert "Traceback" not in done.err
            assert "AKIA" not in done.err
        log = tmp_path / "data" / "audit" / "audit.jsonl"
        assert not log.exists() or "dataset.export" not in log.read_text()
