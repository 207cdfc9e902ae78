"""The example for Ray exports a dataset in shards that are one dataset."""

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from chatproxy.consent.events import Choice
from chatproxy.store.embedded import EmbeddedServer
from e2e.environments import ROOT, NotInstallableError, python_environment
from integration.dataset_fixtures import an_archive, said
from integration.serve_process import call, environment

SHARDS = 3
PATIENCE = 300.0
"""Ray starts a cluster of its own."""


def export_with_ray(
    interpreter: Path, words: Sequence[str], env: Mapping[str, str]
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [interpreter, ROOT / "examples" / "export_with_ray.py", *words],
        env=env, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip


async def test_the_example_makes_one_dataset_of_all_shards(tmp_path: Path) -> None:
    try:
        interpreter = python_environment("ray")
    except NotInstallableError as error:
        pytest.skip(str(error))
    program = tmp_path / "chatproxy"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m chatproxy "$@"\n')
    program.chmod(0o700)
    # Ray puts sockets below its directory, so its name must be short.
    with tempfile.TemporaryDirectory() as short, tempfile.TemporaryDirectory(prefix="ray") as home:
        async with EmbeddedServer(Path(short), ballast_bytes=0) as server:
            async with an_archive(tmp_path, server.url) as archive:
                for number in range(12):
                    await archive.choose(f"p{number}", Choice.GIVEN, days_ago=40)
                    await archive.keep_all(f"p{number}", [said("one"), said("two")], days_ago=10)
            env = environment(tmp_path, store=server.url)
            words = ["--purpose", "capability", "--consumer", "ml", "--out", str(tmp_path / "out")]
            done = await asyncio.to_thread(
                export_with_ray,
                interpreter,
                ["--shards", str(SHARDS), "--chatproxy", str(program), "--", *words],
                {**env, "PATH": os.environ["PATH"], "HOME": home, "RAY_TMPDIR": home, "RAY_USAGE_STATS_ENABLED": "0",
                 "PYTHONPATH": str(ROOT / "src")},
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            assert done.stdout.splitlines()[-1] == "24 items of 24 turns"
            checked = await call(env, "dataset", "verify", str(tmp_path / "out"))
            assert checked.out.startswith("24 items in ")
            assert checked.status == 0
