"""The admin listener: guessing is slow and told, a right token is not kept out by it, and what is read is written down."""

import shutil
from pathlib import Path

import httpx
import pytest

from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from integration.proxy_fixtures import World
from integration.test_admin_rights import TOKENS_SET, YES, an_admin, audited, bearer
from integration.test_person_api import assert_problem

CLOSED = TOKENS_SET | {"admin_open": "false"}
WRONG = {"authorization": "Bearer the-token-of-nobody-at-all"}
HERE, ELSEWHERE = {"x-forwarded-for": "198.51.100.1"}, {"x-forwarded-for": "198.51.100.2"}


@pytest.fixture
def store(server: EmbeddedServer, connections: Connections) -> str:
    return server.url


async def ask(client: httpx.AsyncClient, path: str, *headers: dict[str, str]) -> httpx.Response:
    together = {name: value for each in headers for name, value in each.items()}
    return await client.get(path, headers=together)


async def guess(client: httpx.AsyncClient, *, times: int, where: dict[str, str]) -> None:
    for _ in range(times):
        assert (await ask(client, "/api/v1/holds", WRONG, where)).status_code == 401


def refused(world: World) -> tuple[float, float]:
    return (
        world.counted("chatproxy_admin_tokens_refused_total"),
        world.counted("chatproxy_rate_limited_total", by="admin"),
    )


async def test_an_address_with_many_wrong_tokens_has_none_looked_at_for_a_while(
    tmp_path: Path, store: str
) -> None:
    async with an_admin(tmp_path, store, CLOSED) as (world, client):
        await guess(client, times=10, where=HERE)
        for token in (WRONG, bearer("security")):
            answer = await ask(client, "/api/v1/holds", token, HERE)
            assert_problem(answer, 429, "too_many_requests")
            assert 1 <= int(answer.headers["retry-after"]) <= 6
        assert refused(world) == (10, 2)
        assert (await ask(client, "/api/v1/holds", bearer("security"), ELSEWHERE)).status_code == 200


@pytest.mark.parametrize("path", ["/metrics", "/console"])
async def test_nor_is_it_told_otherwise_whether_one_was_right(tmp_path: Path, store: str, path: str) -> None:
    async with an_admin(tmp_path, store, CLOSED) as (_, client):
        for _ in range(10):
            assert (await ask(client, path, WRONG, HERE)).status_code == 401
        answers = [await ask(client, path, token, HERE) for token in (WRONG, bearer("ops"))]
        assert [answer.status_code for answer in answers] == [429, 429]
        assert answers[0].text == answers[1].text
        assert answers[1].headers["retry-after"]
        assert (await ask(client, "/readyz", bearer("ops"), HERE)).json() == {"ready": True}
        assert (await ask(client, "/readyz", bearer("ops"), ELSEWHERE)).json() == {
            "ready": True,
            "reasons": [],
        }


async def test_who_has_come_from_there_before_goes_on_while_others_guess(tmp_path: Path, store: str) -> None:
    async with an_admin(tmp_path, store, CLOSED) as (_, client):
        assert (await ask(client, "/api/v1/holds", bearer("security"), HERE)).status_code == 200
        await guess(client, times=10, where=HERE)
        assert (await ask(client, "/api/v1/holds", WRONG, HERE)).status_code == 429
        assert (await ask(client, "/api/v1/holds", bearer("security"), HERE)).status_code == 200
        # Another one's token could be what is guessed.
        assert (await ask(client, "/metrics", bearer("ops"), HERE)).status_code == 429


async def test_who_says_nothing_guesses_nothing(tmp_path: Path, store: str) -> None:
    async with an_admin(tmp_path, store, CLOSED) as (world, client):
        for _ in range(30):
            assert (await ask(client, "/api/v1/holds", HERE)).status_code == 401
            assert (await ask(client, "/readyz", HERE)).status_code == 200
        assert refused(world) == (0, 0)
        assert (await ask(client, "/api/v1/holds", bearer("security"), HERE)).status_code == 200


# --- what is read ---

PERSON = "/api/v1/subjects/" + 32 * "a"


@pytest.mark.parametrize(
    "path, what, role, of_whom",
    [
        (f"{PERSON}/choice", "getChoice", "data", {"subject": 32 * "a"}),
        (f"{PERSON}/history", "getHistory", "privacy", {"subject": 32 * "a"}),
        (f"{PERSON}/receipts/{32 * '0'}", "getReceipt", "data", {"subject": 32 * "a"}),
        (f"{PERSON}/holds", "getHolds", "privacy", {"subject": 32 * "a"}),
        ("/api/v1/holds", "getAllHolds", "security", {}),
    ],
    ids=lambda value: value if isinstance(value, str) and value.startswith("get") else "",
)
async def test_whatever_is_read_of_people_is_written_down_before(
    tmp_path: Path, store: str, path: str, what: str, role: str, of_whom: dict[str, str]
) -> None:
    async with an_admin(tmp_path, store, TOKENS_SET) as (_, client):
        answer = await client.get(path, headers=bearer(role))
        assert answer.status_code in {200, 404}, answer.text
        [entry] = audited(tmp_path)
        told = {name: entry[name] for name in ("action", "by", "what", "subject") if name in entry}
        assert (
            told
            == {
                "action": "admin.read",
                "by": f"admin:{role}-desk({role})",
                "what": what,
            }
            | of_whom
        )


async def test_what_cannot_be_written_down_is_not_read(tmp_path: Path, store: str) -> None:
    async with an_admin(tmp_path, store, TOKENS_SET) as (world, client):
        person = f"/api/v1/subjects/{world.tag().hex()}"
        assert (await client.put(f"{person}/choice", json=YES, headers=bearer("privacy"))).status_code == 200
        shutil.rmtree(tmp_path / "data" / "audit")
        (tmp_path / "data" / "audit").write_text("in the way")
        for path in ("choice", "history", "holds"):
            answer = await client.get(f"{person}/{path}", headers=bearer("privacy"))
            assert_problem(answer, 503, "audit_unavailable")
            assert "given" not in answer.text
