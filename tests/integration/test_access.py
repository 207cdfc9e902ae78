"""What `chatproxy subject access` hands out is what is kept, compared by a reader of its own. Against a real store.

The reader knows docs/access.md alone: what was said it knows, since the test has said it.
"""

import base64
import dataclasses
import hashlib
import io
import json
import re
import secrets
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from chatproxy.consent.events import Choice
from chatproxy.model import ConversationTag, SubjectTag
from chatproxy.policy.instants import parse_instant
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.vault import Vault
from chatproxy.web.access_archive import AccessArchive, record_schema
from chatproxy.web.pages.access_page import AccessPage, reason_in_words
from chatproxy.web.pages.words import Language, load_words
from chatproxy.workflows.access import AccessDesk
from chatproxy.workflows.access_reads import AccessReads
from chatproxy.workflows.recall import TakenBack, WasUsed
from integration.dataset_fixtures import an_archive, said
from integration.proxy_fixtures import ANA, DAY, AheadClock, World, a_world, all_keys, chatting
from integration.serve_process import Finished, call, environment

ODD = "caf\u00e9 \u2028 <b>&amp;</b> \r\n\ttab\u0000zero \U0001f600 e\u0301 \u202eright to left"
BOB = {"x-chat-subject": "bob", "x-chat-plan": "pro"}
LANGUAGES = ("en", "fr")


@pytest.fixture
def store(server: EmbeddedServer, connections: Connections) -> str:
    return server.url


class Page(HTMLParser):
    """What a page loads, runs and says."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.said = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.said += data


class Archive:
    """An archive, read by the documents alone."""

    def __init__(self, data: bytes) -> None:
        self.zip = zipfile.ZipFile(io.BytesIO(data))
        assert self.zip.testzip() is None
        self.lines = [json.loads(line) for line in self.zip.read("record.jsonl").splitlines()]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["kind"] == kind]

    def page(self, language: str) -> Page:
        return Page(self.zip.read(f"index.{language}.html").decode())

    def texts(self) -> list[str]:
        return [
            part["body"]["text"]
            for turn in self.of("turn")
            for message in turn["messages"]
            for part in message["parts"]
        ]


@asynccontextmanager
async def people(tmp_path: Path, store: str) -> AsyncIterator[World]:
    """Ana and Bob have chatted, and Ana has agreed."""
    async with a_world(chatting(), tmp_path, store) as world:
        await world.choose(Choice.GIVEN)
        await world.chat(ODD)
        await world.chat("another conversation", who=ANA | {"x-chat-conversation": "second"})
        await world.chat("bob's own", who=BOB)
        await world.kept()
        yield world


async def packed(env: dict[str, str], tmp_path: Path, *words: str, subject: str = "ana") -> Archive:
    path = tmp_path / f"archive-{len(list(tmp_path.glob('archive-*')))}.zip"
    done = await call(env, "subject", "access", "-", "--out", str(path), *words, stdin=f"{subject}\n")
    assert done.status == 0, done.err
    assert path.stat().st_mode & 0o777 == 0o600
    return Archive(path.read_bytes())


async def record(env: dict[str, str], *words: str, subject: str = "ana") -> list[dict[str, Any]]:
    done = await call(env, "subject", "access", "-", "--json", *words, stdin=f"{subject}\n")
    assert done.status == 0, done.err
    return done.rows()


def entries(tmp_path: Path) -> list[dict[str, Any]]:
    log = tmp_path / "data" / "audit" / "audit.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


async def test_the_archive_holds_what_is_kept_to_the_byte_and_of_nobody_else(
    tmp_path: Path, store: str
) -> None:
    env = environment(tmp_path, store=store)
    async with people(tmp_path, store) as world:
        rows = {row["turn"]: row for row in await world.kept() if row["subject"] == world.tag().hex()}
        archive = await packed(env, tmp_path)

        texts = archive.texts()
        assert (texts[0], texts[2]) == (ODD, "another conversation")
        assert "bob's own" not in texts
        assert {turn["turn"] for turn in archive.of("turn")} == set(rows)
        for turn in archive.of("turn"):
            row, [decision] = rows[turn["turn"]], turn["decisions"]
            assert turn["conversation"] == row["conversation"]
            assert (turn["received_at"], turn["plan"], turn["dialect"], turn["end"]) == tuple(
                row[name] for name in ("received_at", "plan", "dialect", "end")
            )
            assert (decision["kept_until"], decision["grounds"], decision["eligible"]) == (
                row["expires_at"], row["grounds"], row["eligible"],
            )  # fmt: skip
            assert (decision["reason"], decision["withheld"]) == ("ELIGIBLE_CONSENT", None)
            assert decision["why"]["en"] == "It was written while your yes to training stood."
            assert set(decision["why"]) == set(LANGUAGES)
            said = [
                f"{message['role']}: {part['body']['text']}"
                for message in turn["messages"]
                for part in message["parts"]
            ]
            assert said == await world.said(turn["conversation"])
    about = archive.of("about")[0]
    assert (about["subject"], about["format"]) == (world.tag().hex(), "chatproxy/access/v1")
    assert archive.of("end")[0]["counts"] == {"about": 1, "choice": 1, "conversation": 2, "turn": 2}
    assert [line["kind"] for line in archive.lines] == [
        "about", "choice", "conversation", "turn", "conversation", "turn", "end",
    ]  # fmt: skip


async def test_every_line_is_what_its_schema_says(tmp_path: Path, store: str) -> None:
    env = environment(tmp_path, store=store)
    async with people(tmp_path, store) as world:
        await eventful(world, env)
        archive = await packed(env, tmp_path)

    schema = json.loads(archive.zip.read("record.schema.json"))
    validator = jsonschema.Draft202012Validator(schema)
    for line in archive.lines:
        validator.validate(line)
        assert not validator.is_valid(line | {"another": 1})
        for name in line.keys() - {"kind"}:
            other = {key: value for key, value in line.items() if key != name}
            optional = {
                "controller",
                "jurisdiction",
                "authority",
                "storage_location",
                "recipients",
                "transfers",
            }
            assert name in optional or not validator.is_valid(other), name
    assert {line["kind"] for line in archive.lines} == {
        "about", "choice", "event", "hold", "conversation", "turn", "read", "end",
    }  # fmt: skip


async def eventful(world: World, env: dict[str, str]) -> None:
    """Give Ana a history: feedback, a hold, a deletion, and somebody who reads."""
    first, second = dict.fromkeys(
        row["conversation"] for row in await world.kept() if row["subject"] == world.tag().hex()
    )
    for words in (
        ("transcripts", "show", first, "--purpose", "service"),
        ("feedback", "give", first, "--kind", "bug"),
        ("hold", "place", "--case", "secret case", "--authority", "secret court", "--review", "2099-01-31",
         "--conversation", first),
        ("conversation", "delete", second),
    ):  # fmt: skip
        done = await call(env, *words)
        assert done.status == 0, (words, done.err)
    await world.decided_again()


async def test_what_was_chosen_and_done_is_there_with_receipts_that_verify(
    tmp_path: Path, store: str
) -> None:
    env = environment(tmp_path, store=store)
    async with people(tmp_path, store) as world:
        await eventful(world, env)
        archive = await packed(env, tmp_path)

    [choice] = archive.of("choice")
    assert (choice["event"], choice["purposes"]["train.capability"]) == ("given", True)
    assert [event["event"] for event in archive.of("event")] == ["feedback_given", "conversation_deleted"]
    assert {event["by"] for event in archive.of("event")} == {"staff"}
    name = f"receipts/{choice['receipt']['receipt_id']}.json"
    assert json.loads(archive.zip.read(name)) == choice["receipt"]
    for file in (name, "receipts/keys.json"):
        (tmp_path / Path(file).name).write_bytes(archive.zip.read(file))
    valid = await call(
        env, "consent", "verify", str(tmp_path / Path(name).name), "--key", str(tmp_path / "keys.json")
    )
    assert valid.status == 0
    [read] = archive.of("read")
    assert (read["action"], read["by"], read["purpose"], read["turns"]) == (
        "transcripts.read", "staff", "service", 1,
    )  # fmt: skip


def timeless(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out the instant, and that somebody has asked before."""
    return [
        {name: value for name, value in line.items() if (line["kind"], name) != ("about", "at")}
        for line in lines
        if line["kind"] not in {"read", "end"}
    ]


async def test_a_hold_is_told_without_its_case(tmp_path: Path, store: str) -> None:
    env = environment(tmp_path, store=store)
    async with people(tmp_path, store) as world:
        await eventful(world, env)
        told = await packed(env, tmp_path)

    [hold] = told.of("hold")
    assert (hold["review_at"], hold["conversation"]) == (
        "2099-01-31T00:00:00Z", told.of("conversation")[0]["conversation"],
    )  # fmt: skip
    assert "LEGAL_HOLD" in str(told.of("turn"))
    assert "secret" not in "".join(told.zip.read(name).decode() for name in told.zip.namelist())
    assert "legal hold" in told.page("en").said.lower()
    assert "obligation légale" in told.page("fr").said.lower()


async def test_where_holds_may_not_be_told_the_record_is_the_one_without_them(
    tmp_path: Path, store: str
) -> None:
    env = environment(tmp_path, store=store)
    async with people(tmp_path, store) as world:
        await world.choose(Choice.WITHDRAWN)
        await world.decided_again()
        before = await record(env)
        for case in ("one", "two"):
            await call(
                env, "hold", "place", "--case", case, "--authority", "a", "--review", "2099-01-31",
                "--subject", "ana",
            )  # fmt: skip
        await world.decided_again()
        told, untold = await record(env), await record(env, "--without-holds")
        archive = await packed(env, tmp_path, "--without-holds")

    assert len([line for line in told if line["kind"] == "hold"]) == 2
    assert timeless(untold) == timeless(archive.lines) == timeless(before)
    assert "legal hold" not in archive.page("en").said.lower()


async def test_what_is_deleted_is_named_and_not_opened_but_for_what_feedback_keeps(
    tmp_path: Path, store: str
) -> None:
    env = environment(tmp_path, store=store)
    async with people(tmp_path, store) as world:
        await eventful(world, env)
        first = await packed(env, tmp_path)
        [kept] = [turn for turn in first.of("turn") if not turn["deleted"]]
        await call(env, "conversation", "delete", kept["conversation"])
        await world.decided_again()
        second = await packed(env, tmp_path)

    [deleted] = [turn for turn in first.of("turn") if turn["deleted"]]
    assert deleted["messages"] == []
    assert [decision["withheld"] for decision in deleted["decisions"]] == ["deleted"]
    assert "another conversation" not in first.texts()
    [stays] = [turn for turn in second.of("turn") if turn["turn"] == kept["turn"]]
    assert stays["deleted"]
    assert ODD in second.texts()


async def test_the_page_says_what_the_record_says_and_needs_nothing_else(tmp_path: Path, store: str) -> None:
    env = environment(tmp_path, store=store)
    async with people(tmp_path, store) as world:
        await eventful(world, env)
        archive = await packed(env, tmp_path)

    for language in LANGUAGES:
        page = archive.page(language)
        assert dict(page.tags)["html"]["lang"] == language
        assert "caf\u00e9 \u2028 <b>&amp;</b>" in page.said
        assert "another conversation" not in page.said
        for turn in archive.of("turn"):
            for decision in turn["decisions"]:
                assert decision["why"][language] in page.said
            assert ("article", turn["turn"]) in {(tag, attrs.get("id")) for tag, attrs in page.tags}
        assert not {"script", "link", "img", "iframe", "form", "b"} & {tag for tag, _ in page.tags}
        assert not [attrs for _, attrs in page.tags if {"src", "href", "style", "onclick"} & attrs.keys()]
        source = archive.zip.read(f"index.{language}.html").decode()
        [style] = re.findall(r"<style>(.*?)</style>", source, re.DOTALL)
        assert "url(" not in style
        assert "@import" not in style
        policy = next(
            attrs["content"] for _, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy"
        )
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        assert policy is not None
        assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}'")
    assert "obligation légale" in archive.page("fr").said
    assert "You have deleted this" in archive.page("en").said


async def test_the_plain_record_is_the_one_in_the_archive(tmp_path: Path, store: str) -> None:
    env = environment(tmp_path, store=store)
    async with people(tmp_path, store):
        archive = await packed(env, tmp_path)
        lines = await record(env)

    assert timeless(lines) == timeless(archive.lines)
    assert [line["action"] for line in lines if line["kind"] == "read"] == ["subject.access"]


async def test_each_access_is_in_the_audit_log_before_and_after(tmp_path: Path, store: str) -> None:
    env = environment(tmp_path, store=store)
    async with people(tmp_path, store) as world:
        await packed(env, tmp_path)

    before, after = entries(tmp_path)
    assert before["action"] == "subject.access"
    assert (before["subject"], before["purpose"], before["turns"]) == (world.tag().hex(), "access", 2)
    assert after["action"] == "subject.accessed"
    assert (after["conversations"], after["turns"], after["choices"]) == (2, 2, 1)
    assert "ana" not in json.dumps([before, after]).replace("by", "")
    assert (await call(env, "audit", "verify")).status == 0


async def nothing(env: dict[str, str], tmp_path: Path, subject: str) -> tuple[Finished, Finished]:
    path = tmp_path / "nothing.zip"
    done = await call(env, "subject", "access", "-", "--out", str(path), stdin=subject)
    assert not path.exists()
    return done, await call(env, "subject", "access", "-", "--json", stdin=subject)


async def test_who_was_erased_and_who_never_was_look_alike(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    env = environment(tmp_path, store=store)
    async with people(tmp_path, store):
        assert (await call(env, "subject", "erase", "ana", "--yes")).status == 0
    before, keys = entries(tmp_path), await all_keys(connections)
    erased = await nothing(env, tmp_path, "ana")
    unknown = await nothing(env, tmp_path, "nobody")

    assert erased == unknown
    assert (erased[0].status, erased[0].out, erased[0].err) == (0, "Nothing is held.\n", "")
    assert erased[1].rows() == [{"kind": "end", "counts": {}}]
    assert entries(tmp_path) == before
    assert await all_keys(connections) == keys


async def test_an_erased_person_under_a_hold_is_nobody_where_holds_may_not_be_told(
    tmp_path: Path, store: str
) -> None:
    env = environment(tmp_path, store=store)
    async with people(tmp_path, store) as world:
        await eventful(world, env)
        assert (await call(env, "subject", "erase", "ana", "--yes")).status == 0
        untold = await call(env, "subject", "access", "ana", "--json", "--without-holds")
        told = await record(env)

    assert untold.rows() == [{"kind": "end", "counts": {}}]
    assert [line["kind"] for line in told if line["kind"] == "hold"] == ["hold"]
    assert [line for line in told if line["kind"] == "turn"] == []


async def test_a_damaged_turn_is_named_and_the_rest_is_handed_out(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    env = environment(tmp_path, store=store)
    path = tmp_path / "damaged.zip"
    async with people(tmp_path, store) as world:
        first, second = [row["turn"] for row in await world.kept() if row["subject"] == world.tag().hex()]
        subject, turn = world.running.vault.pseudonyms.read_turn_handle(first)
        [blob] = await connections.ask([["GET", f"cp:{{{subject.hex()}}}:r:{turn.hex()}"]])
        assert isinstance(blob, bytes)
        changed = blob[:-1] + bytes([blob[-1] ^ 1])
        await connections.ask([["SET", f"cp:{{{subject.hex()}}}:r:{turn.hex()}", changed, "KEEPTTL"]])
        _, turn = world.running.vault.pseudonyms.read_turn_handle(second)
        await connections.ask([["HSET", f"cp:{{{subject.hex()}}}:a:{turn.hex()}", "exp", "1"]])
        done = await call(env, "subject", "access", "ana", "--out", str(path))

    assert done.status == 3
    assert "2 turns are not as they were kept" in done.err
    archive = Archive(path.read_bytes())
    assert {fault["turn"] for fault in archive.of("fault")} == {first, second}
    [left] = archive.of("turn")
    assert (left["messages"], left["decisions"][0]["withheld"]) == ([], "damaged")
    assert "not as it was kept" in archive.page("en").said


def desk_of(vault: Vault, *used: ConversationTag, recall: TakenBack | None = None) -> AccessDesk:
    """The desk of *vault*, where these conversations of anybody who asks are in a dataset."""

    async def used_of(_: SubjectTag) -> list[WasUsed]:
        return [
            WasUsed(
                conversation=tag, began_at=1_600_000_000_000, dataset="d_1", purpose="capability", consumer="team <a>",
                at=1_700_000_000_000, turns=2, recall=recall,
            )
            for tag in used
        ]  # fmt: skip

    return AccessDesk(
        vault.store, vault.ledger, vault.transcripts, vault.pseudonyms,
        used_of=used_of, audit=vault.audit, clock=vault.clock, signing_key=vault.keyset.signing_key,
        terms={"periods": {}, "retention_if_yes": "P5Y", "retention_if_no": "P30D", "withdrawal": {}},
        explain=lambda code: reason_in_words(code, list(load_words().values())),
    )  # fmt: skip


async def test_where_a_person_was_used_is_told(tmp_path: Path, store: str) -> None:
    async with people(tmp_path, store) as world:
        vault = world.running.vault
        gone = ConversationTag(b"g" * 16)
        desk = desk_of(vault, gone)
        used = await desk.open(world.tag(), AccessReads([]), tells_holds=True)
        only = await desk.open(world.tag("somebody"), AccessReads([]), tells_holds=True)
        assert used is not None
        assert only is not None
        lines = [line async for line in used.lines()]
        pieces = [piece async for piece in AccessPage().pieces(used.lines(), load_words()[Language.ENGLISH])]
        kinds = [line["kind"] async for line in only.lines()]

    [line] = [line for line in lines if line["kind"] == "dataset"]
    assert line == {
        "kind": "dataset",
        "dataset": "d_1",
        "conversation": vault.pseudonyms.conversation_handle(world.tag(), gone),
        "turns": 2,
        "purpose": "capability",
        "consumer": "team <a>",
        "at": "2023-11-14T22:13:20Z",
        "recall": None,
    }
    jsonschema.Draft202012Validator(json.loads(record_schema())).validate(line)
    assert (
        "into the dataset d_1 on 14 November 2023, for training of models, to team <a>."
        in Page("".join(pieces)).said
    )
    assert kinds == ["about", "dataset", "end"]


@pytest.mark.parametrize(
    "acknowledged_at, in_record, in_words",
    [
        (None, None, "It has not been confirmed yet that"),
        (1_700_200_000_000, "2023-11-17T05:46:40Z", "On 17 November 2023 it was confirmed that"),
    ],
    ids=["open", "acknowledged"],
)
async def test_what_was_recalled_of_it_is_told(
    tmp_path: Path, store: str, acknowledged_at: int | None, in_record: str | None, in_words: str
) -> None:
    recall = TakenBack(turns=1, at=1_700_100_000_000, acknowledged_at=acknowledged_at)
    async with people(tmp_path, store) as world:
        desk = desk_of(world.running.vault, ConversationTag(b"g" * 16), recall=recall)
        used = await desk.open(world.tag(), AccessReads([]), tells_holds=True)
        assert used is not None
        lines = [line async for line in used.lines()]
        pieces = [piece async for piece in AccessPage().pieces(used.lines(), load_words()[Language.ENGLISH])]

    [line] = [line for line in lines if line["kind"] == "dataset"]
    assert line["recall"] == {"turns": 1, "at": "2023-11-16T02:00:00Z", "acknowledged_at": in_record}
    jsonschema.Draft202012Validator(json.loads(record_schema())).validate(line)
    said = Page("".join(pieces)).said
    assert "1 message was recalled on 16 November 2023: it may not be used any more." in said
    assert in_words in said


async def test_what_nothing_but_a_hold_keeps_is_told_and_not_opened_or_not_told_at_all(
    tmp_path: Path, store: str
) -> None:
    env = environment(tmp_path, store=store)
    clock = AheadClock()
    async with a_world(chatting(), tmp_path, store) as world:
        await world.choose(Choice.GIVEN)
        await world.chat(
            [
                {"role": "user", "content": "look in my drive"},
                {"role": "assistant", "content": None, "tool_calls": [
                    {"id": "1", "type": "function", "function": {"name": "mcp__drive__read", "arguments": "{}"}}]},
                {"role": "tool", "tool_call_id": "1", "content": "out of a connector"},
                {"role": "user", "content": "typed by ana"},
            ]
        )  # fmt: skip
        await world.chat("said by eve", who={"x-chat-subject": "eve", "x-chat-plan": "pro"})
        await world.kept()
        for name in ("ana", "eve"):
            placed = await call(
                env,
                "hold",
                "place",
                "--subject",
                name,
                "--case",
                "c",
                "--authority",
                "a",
                "--review",
                "2099-01-31",
            )
            assert placed.status == 0, placed.err
        await world.decided_again()
        vault = dataclasses.replace(world.running.vault, clock=clock)
        clock.ahead = 60 * DAY
        told: dict[str, list[dict[str, Any]] | None] = {}
        untold: dict[str, list[dict[str, Any]] | None] = {}
        for name in ("ana", "eve"):
            for tells, into in ((True, told), (False, untold)):
                access = await desk_of(vault).open(world.tag(name), AccessReads([]), tells_holds=tells)
                into[name] = None if access is None else [dict(line) async for line in access.lines()]

    assert untold["eve"] is None
    [turn] = [line for line in told["eve"] or [] if line["kind"] == "turn"]
    assert (turn["messages"], turn["decisions"][0]["withheld"]) == ([], "held")
    assert turn["decisions"][0]["also"] == ["LEGAL_HOLD"]
    assert turn["decisions"][0]["reason"] == "LEGAL_HOLD_ONLY"
    [turn] = [line for line in told["ana"] or [] if line["kind"] == "turn"]
    assert {each["part"]: each["withheld"] for each in turn["decisions"]} == {
        "typed": None, "connector_raw": "held",
    }  # fmt: skip
    assert "SERVICE" in turn["decisions"][0]["grounds"]
    assert "out of a connector" not in str(turn)
    [turn] = [line for line in untold["ana"] or [] if line["kind"] == "turn"]
    [decision] = turn["decisions"]
    assert (decision["part"], set(decision["grounds"]), decision["also"]) == ("typed", {"TRAIN"}, [])
    assert decision["kept_until"] == decision["grounds"]["TRAIN"]


async def test_a_turn_that_is_altered_while_the_record_is_made_is_named(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with people(tmp_path, store) as world:
        vault = world.running.vault
        access = await desk_of(vault).open(world.tag(), AccessReads([]), tells_holds=True)
        assert access is not None
        [first, *_] = [row["turn"] for row in await world.kept() if row["subject"] == world.tag().hex()]
        subject, turn = vault.pseudonyms.read_turn_handle(first)
        await connections.ask([["HSET", f"cp:{{{subject.hex()}}}:a:{turn.hex()}", "exp", "1"]])
        lines = [line async for line in access.lines()]

    assert [line["turn"] for line in lines if line["kind"] == "fault"] == [first]
    assert first not in [line["turn"] for line in lines if line["kind"] == "turn"]


async def test_a_turn_whose_annotation_was_put_back_is_named_and_not_opened(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with people(tmp_path, store) as world:
        vault = world.running.vault
        first, second = [row["turn"] for row in await world.kept() if row["subject"] == world.tag().hex()]
        subject, turn = vault.pseudonyms.read_turn_handle(first)
        name = f"cp:{{{subject.hex()}}}:a:{turn.hex()}"
        [before] = await connections.ask([["DUMP", name]])
        await world.choose(Choice.WITHDRAWN)
        await world.decided_again()
        [ends_at] = await connections.ask([["PEXPIRETIME", name]])
        await connections.ask([["RESTORE", name, 0, before, "REPLACE"]])
        exp = json.loads((await connections.ask([["HGET", name, "exp"]]))[0] or b"0")
        await connections.ask([["PEXPIREAT", name, exp]])
        access = await desk_of(vault).open(world.tag(), AccessReads([]), tells_holds=True)
        assert access is not None
        lines = [line async for line in access.lines()]

    assert isinstance(ends_at, int)
    assert exp > ends_at
    assert [(line["turn"], line["reason"]) for line in lines if line["kind"] == "fault"] == [
        (first, "annotation_put_back")
    ]
    assert [line["turn"] for line in lines if line["kind"] == "turn"] == [second]


async def test_who_is_erased_while_the_record_is_made_is_not_read_on(tmp_path: Path, store: str) -> None:
    async with people(tmp_path, store) as world:
        vault = world.running.vault
        access = await desk_of(vault).open(world.tag(), AccessReads([]), tells_holds=True)
        assert access is not None
        assert [line["kind"] async for line in access.lines()].count("turn") == 2
        await vault.eraser.erase(world.tag(), by="test")

        assert [line["kind"] async for line in access.lines()].count("turn") == 0


async def test_the_same_store_at_the_same_instant_gives_the_same_bytes(tmp_path: Path, store: str) -> None:
    async with people(tmp_path, store) as world:
        words = list(load_words().values())
        desk = world.running.vault.access_desk(lambda code: reason_in_words(code, words))
        access = await desk.open(world.tag(), AccessReads([]), tells_holds=True)
        assert access is not None
        made = []
        for _ in range(2):
            archive = AccessArchive(access, AccessPage(), words, public_keys="{}")
            made.append(b"".join([piece async for piece in archive.pieces()]))

    assert made[0] == made[1]


async def test_an_archive_sealed_to_a_passphrase_opens_with_it_alone(tmp_path: Path, store: str) -> None:
    env = environment(tmp_path, store=store)
    right, wrong, short = (tmp_path / name for name in ("right", "wrong", "short"))
    right.write_text("a long enough passphrase\n")
    wrong.write_text("another long passphrase\n")
    short.write_text("too short\n")
    path = tmp_path / "ana.zip.sealed"
    async with people(tmp_path, store):
        refused = await call(env, "subject", "access", "ana", "--passphrase-file", str(short))
        assert (refused.status, "fewer than 12" in refused.err) == (2, True)
        done = await call(
            env, "subject", "access", "ana", "--out", str(path), "--passphrase-file", str(right)
        )
        assert done.status == 0, done.err
    assert not zipfile.is_zipfile(path)
    alone = {"CHATPROXY_DATA_DIR": str(tmp_path / "elsewhere")}
    failed = await call(alone, "subject", "open-archive", str(path), "--passphrase-file", str(wrong))
    assert (failed.status, "sealed_file" in failed.err, (tmp_path / "ana.zip").exists()) == (1, True, False)
    opened = await call(alone, "subject", "open-archive", str(path), "--passphrase-file", str(right))
    assert opened.status == 0, opened.err
    assert Archive((tmp_path / "ana.zip").read_bytes()).texts()[0] == ODD
    assert (tmp_path / "ana.zip").stat().st_mode & 0o777 == 0o600
    again = await call(alone, "subject", "open-archive", str(path), "--passphrase-file", str(right))
    assert (again.status, "is there already" in again.err) == (2, True)


async def test_an_archive_never_overwrites_and_json_takes_no_file(tmp_path: Path, store: str) -> None:
    env = environment(tmp_path, store=store)
    there = tmp_path / "there.zip"
    there.write_text("kept")
    assert (await call(env, "subject", "access", "ana", "--out", str(there))).status == 2
    assert there.read_text() == "kept"
    assert (await call(env, "subject", "access", "ana", "--json", "--out", str(tmp_path / "new"))).status == 2
    async with people(tmp_path, store):
        nowhere = await call(env, "subject", "access", "ana", "--out", str(tmp_path / "no" / "new"))
    assert (nowhere.status, "cannot be written" in nowhere.err) == (1, True)


async def test_what_cannot_be_recorded_is_not_handed_out(tmp_path: Path, store: str) -> None:
    env = environment(tmp_path, store=store)
    path = tmp_path / "archive.zip"
    async with people(tmp_path, store):
        (tmp_path / "data" / "audit").write_text("in the way")
        done = await call(env, "subject", "access", "ana", "--out", str(path))

    assert (done.status, path.exists()) == (1, False)
    assert "audit log" in done.err


async def test_a_conversation_of_many_and_large_turns_is_told_whole_and_in_order(
    tmp_path: Path, store: str
) -> None:
    texts = [f"{number} {secrets.token_hex(500_000 if number % 40 == 7 else 1)}" for number in range(150)]
    async with an_archive(tmp_path, store) as archive:
        for start in range(0, len(texts), 25):
            some = [said(text) for text in texts[start : start + 25]]
            await archive.keep_all("ana", some, days_ago=9 - start / 100)
        access = await desk_of(archive.vault).open(archive.tag("ana"), AccessReads([]), tells_holds=True)
        assert access is not None
        turns = [line async for line in access.lines() if line["kind"] == "turn"]

    told = [turn["messages"][0]["parts"][0]["body"]["text"] for turn in turns]
    assert sorted(told) == sorted(texts)
    received = [parse_instant(turn["received_at"]) for turn in turns]
    assert received == sorted(received)
