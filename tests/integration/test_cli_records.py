"""`chatproxy records` as an operator runs it: from the files of the company, as JSON and to be read."""

from pathlib import Path

import pytest

from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from integration.serve_process import call, environment

TOP = Path(__file__).parents[2]


@pytest.fixture
def store(server: EmbeddedServer, connections: Connections) -> str:
    return server.url


@pytest.mark.parametrize("name", ["processing", "ai-act", "california"])
async def test_a_record_is_one_object_or_a_page(tmp_path: Path, store: str, name: str) -> None:
    env = environment(tmp_path, store=store, choice_notices=str(TOP / "config" / "choice"))
    as_json = await call(env, "records", name, "--json")
    assert as_json.status == 0, as_json.err
    [record] = as_json.rows()
    page = await call(env, "records", name)

    assert record["format"].startswith("chatproxy/")
    assert "Example Ltd" in str(record)
    assert page.status == 0
    assert page.out.startswith("# ")
    assert "Example Ltd" in page.out
    assert "to be stated" in page.out


async def test_the_record_of_processing_has_the_settings_of_this_deployment(
    tmp_path: Path, store: str
) -> None:
    env = environment(
        tmp_path, store=store, choice_notices=str(TOP / "config" / "choice"), retention_service="12d"
    )
    [record] = (await call(env, "records", "processing", "--json")).rows()

    assert record["activities"][0]["kept_at_most"] == "P12D"
    assert record["controller"]["contact"] == "privacy@example.com"
    assert record["policy_version"] == "2025-08-28"
    assert record["security_measures"][-1] == "the root key is kept by: file"
