"""A dataset is loaded by `datasets` and by pyarrow as it is, the same in either form."""

import asyncio
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from chatproxy.consent.events import Choice
from chatproxy.datasets.tables import Form
from chatproxy.model import Message, Origin, Part, PartKind, Transcript
from chatproxy.store.embedded import EmbeddedServer
from e2e.environments import PROGRAMS, NotInstallableError, python_environment
from integration.dataset_fixtures import an_archive, said

CALL = Part(PartKind.TOOL_CALL, Origin.ASSISTANT, {"id": "1", "name": "f", "arguments": '{"a":1}'})


@pytest.fixture(scope="module")
def interpreter() -> Path:
    try:
        return python_environment("datasets")
    except NotInstallableError as error:
        pytest.skip(str(error))


def load(interpreter: Path, directory: Path) -> dict[str, Any]:
    done = subprocess.run(
        [interpreter, PROGRAMS / "load_dataset.py", directory],
        env={"PATH": os.environ["PATH"], "HF_HUB_OFFLINE": "1", "HF_HOME": str(directory.parent / "home")},
        capture_output=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


async def test_both_forms_load_alike(interpreter: Path, tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as short:
        async with (
            EmbeddedServer(Path(short), ballast_bytes=0) as server,
            an_archive(tmp_path, server.url) as archive,
        ):
            for subject in ("ana", "bea"):
                await archive.choose(subject, Choice.GIVEN, days_ago=40)
                await archive.keep_all(subject, [said(f"{subject} {n}") for n in range(30)], days_ago=10)
            text = Part(PartKind.TEXT, Origin.TYPED, {"text": "call f"})
            called = Transcript((Message("user", (text,)),), (Message("assistant", (CALL,)),))
            await archive.keep("ana", called, days_ago=9)
            first = await archive.export("jsonl")
            at = first.manifest.at
            await archive.export("parquet", form=Form.PARQUET, at=at)
    lines = await asyncio.to_thread(load, interpreter, tmp_path / "jsonl")
    parquet = await asyncio.to_thread(load, interpreter, tmp_path / "parquet")
    assert lines == parquet
    assert (len(lines["rows"]), lines["arrow"]) == (61, 61)
    [row] = [row for row in lines["rows"] if row["messages"][0]["content"] == "call f"]
    assert row["messages"][1]["tool_calls"] == [
        {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    ]
