"""A request that is sent again after an attempt that did not complete is the same turn, and loses and gains nothing."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from chatproxy.clock import wall_clock
from chatproxy.consent.events import Choice, FactKind, Scope
from chatproxy.model import StreamEnd
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.workflows.transcripts import KeptTurn
from integration.proxy_fixtures import (
    ANA,
    DAY,
    JSON_TYPE,
    LAST_CHUNK,
    OPENAI,
    STREAM_HEAD,
    World,
    a_world,
    all_keys,
    chunk,
    openai_events,
    openai_reply,
    post,
    raw_client,
    response,
)
from simulators.backend import Peer, Script

ERROR_EVENT = b'data: {"error": {"message": "overloaded", "code": 529}}\n\n'
HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture
def store(server: EmbeddedServer, connections: Connections) -> str:
    return server.url


def streamed(*words: str, finish: bool = False) -> bytes:
    return STREAM_HEAD + b"".join(map(chunk, openai_events(*words, finish=finish)))


def whole(text: str) -> bytes:
    return response(openai_reply(text), JSON_TYPE)


def busy() -> bytes:
    return response(b'{"error": {"message": "busy"}}', JSON_TYPE, status=b"529 Busy")


def in_turn(*answers: bytes) -> Script:
    """A backend that gives *answers* one after the other; one that is not whole is cut by the connection's end."""
    rest: Iterable[bytes] = iter(answers)

    async def script(peer: Peer) -> None:
        while True:
            await peer.read_request()
            answer = next(iter(rest))
            await peer.send(answer)
            if answer.startswith(STREAM_HEAD) and not answer.endswith(LAST_CHUNK):
                if answer.endswith(chunk(b": cut by the backend\n\n")):
                    peer.close()
                    return
                await peer.until_gone()

    return script


BACKEND_CUTS = chunk(b": cut by the backend\n\n")


async def left(
    world: World, messages: list[dict[str, Any]], *, pieces: int, who: dict[str, str] = ANA
) -> str:
    """Send a chat and leave after *pieces* of the answer; return the handle that was told, once it is kept."""
    body = json.dumps({"model": "m", "stream": True, "messages": messages}).encode()
    lines = [f"{name}: {value}".encode() for name, value in who.items()]
    async with raw_client(world.running.url) as client:
        await client.send(post(OPENAI, body, *lines))
        head = await client.head()
        for _ in range(pieces):
            await client.chunk()
    await world.kept()
    return (head.header(b"x-chat-turn") or b"").decode()


def answer_of(message: str) -> dict[str, Any]:
    return {"role": "assistant", "content": message}


def typed(message: str) -> dict[str, Any]:
    return {"role": "user", "content": message}


async def known_as(world: World, handle: str) -> str | None:
    """Return the handle of the turn that *handle* leads to."""
    vault = world.running.vault
    found = await vault.store.turn(*vault.pseudonyms.read_turn_handle(handle))
    return vault.pseudonyms.turn_handle(found.subject, found.turn) if found else None


@pytest.mark.parametrize(
    "first, end, waits",
    [
        pytest.param(streamed("some", "thing"), "client_aborted", 1, id="the client leaves"),
        pytest.param(streamed("some") + BACKEND_CUTS, "upstream_aborted", None, id="the backend breaks off"),
        pytest.param(busy(), "error", None, id="an error status"),
        pytest.param(
            streamed("some") + chunk(ERROR_EVENT) + LAST_CHUNK, "error", None, id="an error inside the stream"
        ),
        pytest.param(streamed("some") + LAST_CHUNK, "upstream_aborted", None, id="a stream without its end"),
    ],
)
async def test_a_retry_of_an_attempt_that_did_not_complete_is_the_same_turn(
    first: bytes, end: str, waits: int | None, tmp_path: Path, store: str
) -> None:
    async with a_world(in_turn(first, whole("done"), whole("more")), tmp_path, store) as world:
        if waits is None:
            body = json.dumps({"model": "m", "stream": True, "messages": HELLO}).encode()
            lines = [f"{name}: {value}".encode() for name, value in ANA.items()]
            async with raw_client(world.running.url) as client:
                await client.send(post(OPENAI, body, *lines))
                head = await client.answer()
            told = [(head.header(b"x-chat-turn") or b"").decode()]
        else:
            told = [await left(world, HELLO, pieces=waits)]
        [before] = await world.kept()
        assert before["end"] == end

        answer = await world.chat(HELLO)
        [row] = await world.kept()

        assert (row["end"], row["turn"], row["received_at"]) == (
            "complete",
            before["turn"],
            before["received_at"],
        )
        assert row["conversation"] == before["conversation"]
        assert await world.said(row["conversation"]) == ["user: hello", "assistant: done"]
        # What is not known of the person in time is not told.
        for handle in filter(None, (*told, answer.headers.get("x-chat-turn"))):
            assert await known_as(world, handle) == row["turn"]
        await world.chat([*HELLO, answer_of("done"), typed("on")])
        rows = await world.kept()
        assert [row["conversation"] for row in rows] == [before["conversation"]] * 2
        world.assert_outcomes_add_up()


async def test_a_retry_inside_a_conversation_keeps_its_place_there(tmp_path: Path, store: str) -> None:
    script = in_turn(whole("one"), busy(), busy(), whole("two"))
    async with a_world(script, tmp_path, store) as world:
        await world.chat(HELLO)
        messages = [*HELLO, answer_of("one"), typed("again")]
        for _ in range(3):
            await world.chat(messages)
        rows = await world.kept()
        assert [row["end"] for row in rows] == ["complete"] * 2
        [conversation] = {row["conversation"] for row in rows}
        assert await world.said(conversation) == [
            "user: hello", "assistant: one", "user: again", "assistant: two",
        ]  # fmt: skip
        turns = {turn.turn: turn for turn in await world.turns() if isinstance(turn, KeptTurn)}
        [second] = [turn for turn in turns.values() if turn.facts.after]
        assert bytes.fromhex(second.facts.after or "") in turns


async def test_two_complete_answers_to_one_request_are_branches(tmp_path: Path, store: str) -> None:
    async with a_world(in_turn(whole("one"), whole("two"), whole("three")), tmp_path, store) as world:
        await world.chat(HELLO)
        for _ in range(2):
            await world.chat([*HELLO, answer_of("one"), typed("on")])
        rows = await world.kept()
        assert len(rows) == 3
        assert len({row["conversation"] for row in rows}) == 1


async def test_an_edited_question_is_no_retry(tmp_path: Path, store: str) -> None:
    async with a_world(in_turn(busy(), whole("one")), tmp_path, store) as world:
        await world.chat("hello")
        await world.chat("hello!")
        assert [row["end"] for row in await world.kept()] == ["error", "complete"]


async def test_of_nobody_a_second_attempt_is_a_turn_of_its_own(tmp_path: Path, store: str) -> None:
    async with a_world(in_turn(busy(), whole("one")), tmp_path, store) as world:
        for _ in range(2):
            await world.chat("hello", who={})
        assert [row["end"] for row in await world.kept()] == ["error", "complete"]


async def test_another_persons_same_question_is_no_retry(tmp_path: Path, store: str) -> None:
    async with a_world(in_turn(busy(), whole("one")), tmp_path, store) as world:
        await world.chat("hello")
        await world.chat("hello", who=ANA | {"x-chat-subject": "ben"})
        assert [row["end"] for row in await world.kept()] == ["error", "complete"]


async def test_the_same_question_in_another_conversation_is_no_retry(tmp_path: Path, store: str) -> None:
    async with a_world(in_turn(busy(), whole("one"), whole("two")), tmp_path, store) as world:
        for name in ("1", "2", "1"):
            await world.chat("hello", who=ANA | {"x-chat-conversation": name})
        rows = await world.kept()
        assert [row["end"] for row in rows] == ["complete", "complete"]
        assert await world.said(rows[0]["conversation"]) == ["user: hello", "assistant: two"]


async def test_the_attempt_of_a_retry_under_another_key_is_the_same_turn_too(
    tmp_path: Path, store: str
) -> None:
    async with a_world(in_turn(busy(), busy(), whole("one")), tmp_path, store) as world:
        answers = [await world.chat("hello", who=ANA | {"idempotency-key": key}) for key in ("a", "b", "b")]
        [row] = await world.kept()
        assert row["end"] == "complete"
        for handle in filter(None, (answer.headers.get("x-chat-turn") for answer in answers)):
            assert await known_as(world, handle) == row["turn"]


@pytest.mark.parametrize("lengths", [(1, 2), (2, 1)], ids=["the second", "the first"])
async def test_of_two_cut_answers_the_richer_is_kept(
    lengths: tuple[int, int], tmp_path: Path, store: str
) -> None:
    words = ("some", "thing")
    script = in_turn(*(streamed(*words[:length]) for length in lengths))
    async with a_world(script, tmp_path, store) as world:
        for length in lengths:
            await left(world, HELLO, pieces=length)
        [row] = await world.kept()
        assert row["end"] == "client_aborted"
        assert await world.said(row["conversation"]) == ["user: hello", "assistant: something"]
        assert world.outcomes() == ({"stored": 2} if lengths == (1, 2) else {"stored": 1, "replayed": 1})


async def test_after_a_stop_before_the_first_word_the_next_message_goes_on(
    tmp_path: Path, store: str
) -> None:
    script = in_turn(STREAM_HEAD, whole("one"), whole("two"))
    async with a_world(script, tmp_path, store) as world:
        await left(world, HELLO, pieces=0)
        await world.chat([*HELLO, typed("are you there?")])
        await world.chat([*HELLO, typed("are you there?"), answer_of("one"), typed("good")])
        rows = await world.kept()
        assert [row["end"] for row in rows] == ["client_aborted", "complete", "complete"]
        [conversation] = {row["conversation"] for row in rows}
        assert await world.said(conversation) == [
            "user: hello", "user: are you there?", "assistant: one", "user: good", "assistant: two",
        ]  # fmt: skip
        assert world.counted("chatproxy_history_messages_unmatched_total") == 0


async def test_an_answer_that_is_continued_is_another_turn_and_stays_when_its_question_is_tried_again(
    tmp_path: Path, store: str
) -> None:
    script = in_turn(streamed("some"), whole("thing"), whole("instead"))
    async with a_world(script, tmp_path, store) as world:
        await left(world, HELLO, pieces=1)
        await world.chat([*HELLO, answer_of("some")])
        rows = await world.kept()
        assert [row["end"] for row in rows] == ["client_aborted", "complete"]
        [conversation] = {row["conversation"] for row in rows}
        said = ["user: hello", "assistant: some", "assistant: thing"]
        assert await world.said(conversation) == said

        await world.chat(HELLO)
        rows = await world.kept()
        assert [row["end"] for row in rows] == ["client_aborted", "complete", "complete"]
        assert await world.said(conversation) == said


async def test_the_retry_of_an_attempt_that_the_person_went_on_from_is_a_branch(
    tmp_path: Path, store: str
) -> None:
    script = in_turn(streamed("some", "thing"), whole("right"), whole("instead"))
    async with a_world(script, tmp_path, store) as world:
        await left(world, HELLO, pieces=2)
        await world.chat([*HELLO, answer_of("some"), typed("enough")])
        await world.chat(HELLO)
        rows = await world.kept()
        assert [row["end"] for row in rows] == ["client_aborted", "complete", "complete"]
        assert await world.said(rows[0]["conversation"]) == [
            "user: hello", "assistant: something", "user: enough", "assistant: right",
        ]  # fmt: skip


async def test_of_retries_on_two_nodes_at_once_one_takes_the_place_and_one_is_a_branch(
    tmp_path: Path, store: str
) -> None:
    first = a_world(in_turn(busy(), whole("one")), tmp_path, store, data_dir=str(tmp_path / "a"))
    async with (
        first as here,
        a_world(in_turn(whole("two")), tmp_path, store, data_dir=str(tmp_path / "b")) as there,
    ):
        await here.chat(HELLO)
        [attempt] = await here.kept()
        await asyncio.gather(here.chat(HELLO), there.chat(HELLO))
        assert await there.running.all_kept(within=20)
        rows = await here.kept()
        assert [row["end"] for row in rows] == ["complete"] * 2
        assert attempt["turn"] in {row["turn"] for row in rows}


async def test_retries_that_all_fail_on_two_nodes_are_one_turn(tmp_path: Path, store: str) -> None:
    first = a_world(in_turn(*[busy()] * 5), tmp_path, store, data_dir=str(tmp_path / "a"))
    async with (
        first as here,
        a_world(in_turn(*[busy()] * 5), tmp_path, store, data_dir=str(tmp_path / "b")) as there,
    ):
        await asyncio.gather(*(world.chat(HELLO) for world in (here, there) for _ in range(5)))
        assert await there.running.all_kept(within=20)
        [row] = await here.kept()
        assert row["end"] == "error"
        here.assert_outcomes_add_up()
        there.assert_outcomes_add_up()


async def test_a_yes_between_attempt_and_retry_does_not_reach_back(tmp_path: Path, store: str) -> None:
    async with a_world(in_turn(busy(), whole("one")), tmp_path, store) as world:
        await world.choose(Choice.REFUSED)
        await world.chat(HELLO)
        [before] = await world.kept()
        await world.choose(Choice.GIVEN)
        await world.chat(HELLO)
        [row] = await world.kept()
        assert (row["end"], row["received_at"]) == ("complete", before["received_at"])
        assert row["eligible"]["capability"] is False
        assert "TRAIN" not in row["grounds"]
        assert row["expires_at"] == before["expires_at"]


@pytest.mark.parametrize("policy", ["shrink", "keep_quarantined"])
async def test_after_a_no_between_attempt_and_retry_nothing_is_kept_for_longer_than_after_a_no(
    policy: str, tmp_path: Path, store: str
) -> None:
    script = in_turn(busy(), whole("one"))
    async with a_world(script, tmp_path, store, policy_on_withdraw=policy) as world:
        await world.choose(Choice.GIVEN)
        await world.chat(HELLO)
        await world.choose(Choice.WITHDRAWN)
        await world.chat(HELLO)
        [turn] = await world.turns()
        assert isinstance(turn, KeptTurn)
        assert turn.note.end is StreamEnd.COMPLETE
        assert turn.groups[0].eligible.capability is False
        assert turn.note.expires_at <= wall_clock() + 30 * DAY


async def test_a_retry_under_other_signals_is_decided_by_itself(tmp_path: Path, store: str) -> None:
    async with a_world(in_turn(busy(), whole("one")), tmp_path, store) as world:
        await world.choose(Choice.GIVEN)
        await world.chat(HELLO)
        await world.chat(HELLO, who=ANA | {"content-usage": "train-ai=n"})
        rows = await world.kept()
        assert [(row["end"], row["reason"]) for row in rows] == [
            ("error", "ELIGIBLE_CONSENT"),
            ("complete", "SIGNAL_OPT_OUT"),
        ]


async def test_the_retry_of_a_later_turn_that_was_gone_on_from_is_a_branch(
    tmp_path: Path, store: str
) -> None:
    script = in_turn(whole("one"), streamed("some", "thing"), whole("right"), whole("instead"))
    async with a_world(script, tmp_path, store) as world:
        await world.chat(HELLO)
        messages = [*HELLO, answer_of("one"), typed("two")]
        await left(world, messages, pieces=2)
        await world.chat([*messages, answer_of("some"), typed("enough")])
        await world.chat(messages)
        rows = await world.kept()
        assert [row["end"] for row in rows] == ["complete", "client_aborted", "complete", "complete"]
        assert len({row["conversation"] for row in rows}) == 1
        assert "assistant: something" in await world.said(rows[0]["conversation"])


async def test_a_mark_that_points_to_a_complete_answer_is_not_believed(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_world(in_turn(whole("one"), whole("two")), tmp_path, store) as world:
        await world.chat(HELLO)
        await world.kept()
        [mark] = [key for key in await all_keys(connections) if b":p:" in key]
        [value] = await connections.ask([["GET", mark]])
        await connections.ask([["SET", mark, value[:16] + b"o0", "KEEPTTL"]])
        await world.chat(HELLO)
        assert [row["end"] for row in await world.kept()] == ["complete"] * 2


async def test_where_the_backend_remembers_a_retry_follows_what_its_attempt_followed(
    tmp_path: Path, store: str
) -> None:
    description = tmp_path / "chats.toml"
    description.write_text(
        '[bot]\npath = "/bot"\nrequest_text = "text"\nreply_text = "text"\nrequest_conversation = "id"\n'
    )
    reply = response(b'{"text": "ok"}', JSON_TYPE)
    script = in_turn(reply, busy(), reply, reply)
    async with a_world(script, tmp_path, store, json_chats=str(description)) as world:
        for text in ("hello", "yes", "yes", "on"):
            await world.client.post("/bot", json={"text": text, "id": "1"}, headers=ANA)
            await world.kept()
        turns = [turn for turn in await world.turns() if isinstance(turn, KeptTurn)]
        turns.sort(key=lambda turn: turn.facts.received_at)
        assert [turn.note.end for turn in turns] == [StreamEnd.COMPLETE] * 3
        assert [turn.facts.after for turn in turns] == [None, turns[0].turn.hex(), turns[1].turn.hex()]


async def test_where_no_history_is_sent_a_word_that_is_said_again_later_is_no_retry(
    tmp_path: Path, store: str
) -> None:
    description = tmp_path / "chats.toml"
    description.write_text('[bot]\npath = "/bot"\nrequest_text = "text"\nreply_text = "text"\n')
    answers = [busy(), *(response(b'{"text": "%d"}' % number, JSON_TYPE) for number in range(3))]
    async with a_world(in_turn(*answers), tmp_path, store, json_chats=str(description)) as world:
        who = ANA | {"x-chat-conversation": "1"}
        for text in ("yes", "yes", "no", "yes"):
            await world.client.post("/bot", json={"text": text}, headers=who)
            await world.kept()
        rows = await world.kept()
        assert await world.said(rows[0]["conversation"]) == [
            "user: yes", "assistant: 0", "user: no", "assistant: 1", "user: yes", "assistant: 2",
        ]  # fmt: skip


async def test_an_attempt_that_was_left_behind_is_not_taken_up_by_the_same_word_later(
    tmp_path: Path, store: str
) -> None:
    description = tmp_path / "chats.toml"
    description.write_text('[bot]\npath = "/bot"\nrequest_text = "text"\nreply_text = "text"\n')
    answers = [busy(), *(response(b'{"text": "%d"}' % number, JSON_TYPE) for number in range(2))]
    async with a_world(in_turn(*answers), tmp_path, store, json_chats=str(description)) as world:
        who = ANA | {"x-chat-conversation": "1"}
        for text in ("yes", "no", "yes"):
            await world.client.post("/bot", json={"text": text}, headers=who)
            await world.kept()
        rows = await world.kept()
        assert [row["end"] for row in rows] == ["error", "complete", "complete"]


async def test_an_attempt_whose_annotation_is_not_authentic_lends_nothing(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_world(in_turn(busy(), whole("one")), tmp_path, store) as world:
        await world.chat(HELLO)
        [attempt] = await world.kept()
        [name] = [key for key in await all_keys(connections) if b":a:" in key]
        await connections.ask([["HSET", name, "seq", "2"]])
        await world.chat(HELLO)
        turns = [turn for turn in await world.turns() if isinstance(turn, KeptTurn)]
        assert world.outcomes() == {"stored": 2}
        handle = world.running.vault.pseudonyms.turn_handle(turns[0].subject, turns[0].turn)
        assert (len(turns), handle != attempt["turn"]) == (1, True)


async def test_after_its_conversation_was_deleted_a_retry_is_a_turn_of_another(
    tmp_path: Path, store: str
) -> None:
    async with a_world(in_turn(busy(), whole("one")), tmp_path, store) as world:
        await world.chat(HELLO)
        [before] = await world.kept()
        _, conversation = world.running.vault.pseudonyms.read_conversation_handle(before["conversation"])
        await world.running.vault.ledger.note(
            world.tag(),
            FactKind.CONVERSATION_DELETED,
            at=wall_clock(),
            by="test",
            method="test",
            scope=Scope(conversation),
        )
        await world.decided_again()
        await world.chat(HELLO)
        rows = [row for row in await world.kept() if row["conversation"] != before["conversation"]]
        assert [row["end"] for row in rows] == ["complete"]


async def test_what_a_later_no_shortens_is_shortened_in_the_heads_too(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_world(in_turn(whole("one")), tmp_path, store) as world:
        await world.choose(Choice.GIVEN)
        await world.chat(HELLO)
        await world.kept()
        await world.choose(Choice.WITHDRAWN)
        await world.decided_again()
        ends = [end for key, end in (await all_keys(connections)).items() if b"}:h:" in key]
        assert len(ends) == 2
        assert max(ends) <= wall_clock() + 30 * DAY


async def test_after_an_erasure_a_retry_is_a_turn_of_its_own(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_world(in_turn(busy(), whole("one")), tmp_path, store) as world:
        await world.chat(HELLO)
        await world.kept()
        [name] = [key for key in await all_keys(connections) if key.endswith(b":s")]
        erased_at = wall_clock()
        await connections.ask([["HSET", name, "erased_at", str(erased_at)]])
        while wall_clock() <= erased_at:
            await asyncio.sleep(0.001)
        await world.chat(HELLO)
        # What was received before the fence is not read any more; the retry does not take its name, nor its time.
        assert [row["end"] for row in await world.kept()] == ["complete"]


async def test_a_request_that_was_still_arriving_is_named_by_its_key_and_by_what_was_told(
    tmp_path: Path, store: str
) -> None:
    async def script(peer: Peer) -> None:
        while True:
            await peer.read_head()
            await peer.send(STREAM_HEAD)
            await peer.read(len(body))
            await peer.send(b"".join(map(chunk, openai_events("done"))) + LAST_CHUNK)

    body = json.dumps({"model": "m", "stream": True, "messages": HELLO}).encode()
    lines = [f"{name}: {value}".encode() for name, value in (ANA | {"idempotency-key": "k"}).items()]
    async with a_world(script, tmp_path, store) as world:
        told = []
        rows: list[dict[str, Any]] = []
        for _ in range(2):
            async with raw_client(world.running.url) as client:
                request = post(OPENAI, body, *lines)
                await client.send(request[: -len(body)] + body[:10])
                told.append((await client.head()).header(b"x-chat-turn") or b"")
                await client.send(body[10:])
                while await client.chunk():
                    pass
            rows = await world.kept()
        assert len(rows) == 1
        assert told[0] != told[1]
        for handle in filter(None, told):
            assert await known_as(world, handle.decode()) == rows[0]["turn"]
        assert world.outcomes() == {"stored": 1, "replayed": 1}


async def test_a_header_of_the_client_names_the_conversation_and_is_passed_on_and_never_kept(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    seen = []

    async def script(peer: Peer) -> None:
        while True:
            seen.append(await peer.read_request())
            await peer.send(whole("one"))

    canary = "11f0-canary"
    async with a_world(script, tmp_path, store) as world:
        who = ANA | {"X-Claude-Code-Session-Id": canary}
        for text in ("one", "two"):
            await world.chat(text, who=who)
        await world.chat("three")
        for text in ("four", "five"):
            await world.chat(text, who=who | {"X-Claude-Code-Session-Id": canary * 30})
        rows = await world.kept()
        conversations = Counter(row["conversation"] for row in rows)
        assert sorted(conversations.values()) == [1, 1, 1, 2]
        assert b"x-claude-code-session-id: 11f0-canary\r\n" in seen[0].lower()
        for key in await all_keys(connections):
            [value] = await connections.ask([["DUMP", key]])
            assert canary.encode() not in key + value


async def test_a_header_that_is_not_a_source_names_nothing(tmp_path: Path, store: str) -> None:
    script = in_turn(whole("one"), whole("two"))
    sources = "identity,dialect,history"
    async with a_world(script, tmp_path, store, conversation_sources=sources) as world:
        for text in ("one", "two"):
            await world.chat(text, who=ANA | {"x-session-id": "1"})
        assert len({row["conversation"] for row in await world.kept()}) == 2


async def test_of_the_headers_that_name_a_conversation_an_empty_one_names_nothing(
    tmp_path: Path, store: str
) -> None:
    async with a_world(in_turn(whole("one"), whole("two")), tmp_path, store) as world:
        for text, more in (("one", {}), ("two", {"session-id": ""})):
            await world.chat(text, who=ANA | more | {"x-session-id": "1"})
        assert len({row["conversation"] for row in await world.kept()}) == 1
