"""All that is held of a person, downloaded from their page: the same as the command makes, and never in anybody's way."""

import asyncio
import re
import secrets
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from starlette.responses import Response
from starlette.types import Message

from chatproxy.consent.events import DATA_SUBJECT, Choice
from chatproxy.crypto.sealed_file import Opening
from chatproxy.rates import Buckets, Rate, TooOftenError
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.telemetry import Metrics
from chatproxy.web.access_downloads import AccessDownloads
from chatproxy.web.client_call import CALL
from chatproxy.web.pages.access_page import reason_in_words
from chatproxy.web.pages.words import load_words
from chatproxy.web.person_session import PREFIX
from integration.proxy_fixtures import ANA, PATIENCE, World
from integration.serve_process import environment
from integration.test_access import ODD, Archive, Page, entries, packed, timeless
from integration.test_pages import BEN, FRENCH, Visitor, from_another_page, visiting
from integration.test_person_api import TOKEN, a_link

PASSPHRASE = "un mot de passe tr\u00e8s long"


@pytest.fixture
def store(server: EmbeddedServer, connections: Connections) -> str:
    return server.url


async def token_of(visitor: Visitor) -> str:
    """Open the page, and return the token of its form."""
    await visitor.open("copy")
    [token] = re.findall(r'name="token" value="([^"]+)"', visitor.text)
    return str(token)


async def asked(visitor: Visitor, **fields: str) -> httpx.Response:
    """Send the form as a browser does."""
    token = await token_of(visitor)
    return await visitor.client.post(PREFIX + "copy", data={"token": token, "passphrase": ""} | fields)


async def with_something(world: World) -> None:
    await world.choose(Choice.GIVEN)
    await world.chat(ODD)
    await world.chat("another conversation", who=ANA | {"x-chat-conversation": "second"})
    await world.chat("ben's own", who=BEN)
    await world.kept()


async def with_much(world: World) -> None:
    """Have so much kept that an archive of it takes many pieces."""
    await with_something(world)
    for number in range(30):
        await world.chat("\U0001f600".join(map(str, range(number * 9_000, number * 9_000 + 9_000))))
    await world.kept()


async def test_the_file_is_what_the_command_makes(tmp_path: Path, store: str) -> None:
    async with visiting(tmp_path, store) as (world, ana):
        await with_something(world)
        answer = await asked(ana)
        by_command = await packed(environment(tmp_path, store=store), tmp_path)

        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/zip"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        name = f"access-{world.tag().hex()[:8]}-"
        assert answer.headers["content-disposition"].startswith(f'attachment; filename="{name}')
        archive = Archive(answer.content)
        assert archive.zip.namelist() == by_command.zip.namelist()
        assert timeless(archive.lines) == timeless(by_command.lines)
        assert ODD in archive.texts()
        assert "ben's own" not in archive.texts()
        assert {language: archive.page(language).said[:40] for language in ("en", "fr")} == {
            language: by_command.page(language).said[:40] for language in ("en", "fr")
        }


async def test_it_is_in_the_audit_log_as_the_persons_own(tmp_path: Path, store: str) -> None:
    async with visiting(tmp_path, store) as (world, ana):
        await with_something(world)
        await asked(ana)
        second = Archive((await asked(ana)).content)

    logged = [entry for entry in entries(tmp_path) if entry["action"].startswith("subject.")]
    assert [entry["action"] for entry in logged] == ["subject.access", "subject.accessed"] * 2
    assert {entry["by"] for entry in logged} == {"data_subject"}
    assert (logged[0]["subject"], logged[0]["turns"], logged[1]["turns"]) == (world.tag().hex(), 2, 2)
    [read] = second.of("read")
    assert (read["action"], read["by"]) == ("subject.access", "data_subject")
    assert "you yourself" in Page(second.zip.read("index.en.html").decode()).said


async def test_it_is_sealed_to_a_passphrase_on_request(tmp_path: Path, store: str) -> None:
    async with visiting(tmp_path, store, language=FRENCH) as (world, ana):
        await with_something(world)
        answer = await asked(ana, passphrase=PASSPHRASE)

        assert answer.headers["content-disposition"].endswith('.zip.sealed"')
        assert answer.content.startswith(b"chatproxy/sealed/v1\n")
        opening = Opening(PASSPHRASE)
        data = b"".join([*opening.add(answer.content), opening.end()])
        assert ODD in Archive(data).texts()


async def test_a_passphrase_that_is_too_short_makes_nothing(tmp_path: Path, store: str) -> None:
    async with visiting(tmp_path, store, access_rate="1/1d") as (world, ana):
        await with_something(world)
        answer = await asked(ana, passphrase="too short")

        assert answer.status_code == 422
        assert "at least 12 characters" in answer.text
        assert 'aria-invalid="true"' in answer.text
        assert "too short" not in answer.text.replace("is too short", "")
        assert entries(tmp_path) == []
        assert (await asked(ana)).status_code == 200


@from_another_page
async def test_another_page_cannot_have_it_made(
    tmp_path: Path, store: str, headers: dict[str, str], fields: dict[str, str] | None
) -> None:
    async with visiting(tmp_path, store) as (world, ana):
        await with_something(world)
        token = await token_of(ana)
        answer = await ana.client.post(
            PREFIX + "copy", data={"token": token} if fields is None else fields, headers=headers
        )
        linked = await ana.client.get(PREFIX + "copy?passphrase=")

        assert answer.status_code == 403
        assert linked.headers["content-type"].startswith("text/html")
        assert entries(tmp_path) == []


async def test_of_whom_nothing_is_held_there_is_no_file_and_no_trace(tmp_path: Path, store: str) -> None:
    async with visiting(tmp_path, store) as (world, ana):
        await with_something(world)
        await world.running.vault.eraser.erase(world.tag(), by="test")
        before = entries(tmp_path)
        said = []
        for who in ({}, {"x-chat-subject": "nobody"}):
            ana.client.headers.update(who)
            await ana.open("copy")
            said.append(await ana.submit("copy"))

        assert said[0] == said[1]
        assert "Nothing is held about you, so there is no file." in said[0]
        assert entries(tmp_path) == before


async def test_nobody_asks_for_it_often(tmp_path: Path, store: str) -> None:
    async with visiting(tmp_path, store, access_rate="2/1d") as (world, ana):
        await with_something(world)
        for _ in range(2):
            assert (await asked(ana)).status_code == 200
        refused = await asked(ana)

        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) > 40_000
        assert "That was too often. Nothing was done" in refused.text
        assert world.counted("chatproxy_rate_limited_total", by="access") == 1
        ana.client.headers.update(BEN)
        assert (await asked(ana)).status_code == 200
        assert (await world.chat("hello")).status_code == 200


async def test_nobody_has_two_on_the_way_and_who_leaves_makes_room(tmp_path: Path, store: str) -> None:
    async with visiting(tmp_path, store) as (world, ana):
        await with_much(world)
        token = await token_of(ana)
        async with ana.client.stream("POST", PREFIX + "copy", data={"token": token}) as answer:
            assert answer.status_code == 200
            second = await asked(ana)
            assert second.status_code == 429
            assert int(second.headers["retry-after"]) <= 60
        async with asyncio.timeout(PATIENCE):
            while (again := await asked(ana)).status_code == 429:
                await asyncio.sleep(0.05)

        assert Archive(again.content).texts()[0] == ODD
        actions = [entry["action"] for entry in entries(tmp_path)]
        assert actions.count("subject.accessed") == 1
        assert actions.count("subject.access") == 2


class Taker:
    """Somebody who is sent an archive, and takes a piece of it when they are allowed to."""

    def __init__(self) -> None:
        self.may_take = asyncio.Semaphore(0)
        self.taken = b""
        self.is_whole = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.body":
            await self.may_take.acquire()
            self.taken += message["body"]
            self.is_whole = not message.get("more_body", False)

    async def take(self, answer: Response) -> None:
        await answer({CALL: SimpleNamespace(tell_when_gone=lambda _: None)}, unasked, self.send)


async def unasked() -> Message:
    raise AssertionError("what is sent needs no question")


async def test_who_takes_theirs_slowly_gives_way_to_who_asks(tmp_path: Path, store: str) -> None:
    """Eight who take it by the byte keep nobody from theirs. The slowest goes, and nobody else."""
    async with visiting(tmp_path, store) as (world, _):
        await with_something(world)
        vault, metrics, words = world.running.vault, Metrics(), list(load_words().values())
        takers = {f"p{number}": Taker() for number in range(8)}
        for subject in takers:
            who = {"x-chat-subject": subject, "x-chat-plan": "pro"}
            await world.chat(secrets.token_hex(1 << 18), who=who)
        await world.kept()
        downloads = AccessDownloads(
            vault.access_desk(lambda code: reason_in_words(code, words), by=lambda: DATA_SUBJECT), words,
            logs=list, public_keys=lambda: "{}", rate=Buckets(Rate.parse("1/1d")), take_timeout=0.5,
            clock=vault.clock, metrics=metrics,
        )  # fmt: skip
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as taking:
            tasks = {}
            for subject, taker in takers.items():
                answer = await downloads.begin(world.tag(subject), None)
                assert answer is not None
                tasks[subject] = taking.create_task(taker.take(answer))
                if subject != "p3":
                    taker.may_take.release()
            with pytest.raises(TooOftenError):
                await downloads.begin(world.tag(), None)
            loop = asyncio.get_running_loop()
            while min(each.waited(loop.time()) for each in downloads._running.values()) < 0.5:
                await asyncio.sleep(0.05)
            answer = await downloads.begin(world.tag(), None)
            assert answer is not None
            ana = Taker()
            tasks["ana"] = taking.create_task(ana.take(answer))
            await tasks["p3"]
            assert not any(task.done() for subject, task in tasks.items() if subject != "p3")
            for taker in (ana, *takers.values()):
                for _ in range(1 << 10):
                    taker.may_take.release()

        assert {subject for subject, taker in takers.items() if not taker.is_whole} == {"p3"}
        assert Archive(ana.taken).texts()[0] == ODD
        assert metrics.client_cuts.labels("slow_reader")._value.get() == 1


async def test_what_cannot_be_recorded_is_not_handed_out(tmp_path: Path, store: str) -> None:
    async with visiting(tmp_path, store) as (world, ana):
        await with_something(world)
        (tmp_path / "data" / "audit").write_text("in the way")
        answer = await asked(ana)

        assert answer.status_code == 503
        assert "cannot be read just now" in answer.text


async def test_what_was_not_begun_does_not_count_as_a_download(tmp_path: Path, store: str) -> None:
    async with visiting(tmp_path, store, access_rate="1/1d") as (world, ana):
        await with_something(world)
        audit = tmp_path / "data" / "audit"
        audit.write_text("in the way")
        assert [(await asked(ana)).status_code for _ in range(2)] == [503, 503]
        audit.unlink()
        assert [(await asked(ana)).status_code for _ in range(2)] == [200, 429]


async def test_an_archive_that_cannot_be_finished_has_no_end(tmp_path: Path, store: str) -> None:
    async with visiting(tmp_path, store) as (world, ana):
        await with_much(world)
        token = await token_of(ana)
        audit = tmp_path / "data" / "audit"
        async with ana.client.stream("POST", PREFIX + "copy", data={"token": token}) as answer:
            assert answer.status_code == 200
            audit.rename(tmp_path / "elsewhere")
            audit.write_text("in the way")
            with pytest.raises(httpx.RemoteProtocolError):
                await answer.aread()

        assert (await ana.client.get(PREFIX + "copy")).status_code == 200


async def test_a_damaged_turn_is_named_in_the_file(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with visiting(tmp_path, store) as (world, ana):
        await with_something(world)
        [first, *_] = [row["turn"] for row in await world.kept() if row["subject"] == world.tag().hex()]
        subject, turn = world.running.vault.pseudonyms.read_turn_handle(first)
        await connections.ask([["HSET", f"cp:{{{subject.hex()}}}:a:{turn.hex()}", "exp", "1"]])
        archive = Archive((await asked(ana)).content)

        assert [fault["turn"] for fault in archive.of("fault")] == [first]


async def test_who_came_by_a_link_downloads_it_in_their_session(tmp_path: Path, store: str) -> None:
    async with visiting(tmp_path, store, who={}, admin_token=TOKEN) as (world, visitor):
        await with_something(world)
        await visitor.client.get(await a_link(world))
        visitor.client.headers["sec-fetch-site"] = "same-origin"
        answer = await asked(visitor)

        assert answer.status_code == 200
        assert Archive(answer.content).of("about")[0]["subject"] == world.tag().hex()
