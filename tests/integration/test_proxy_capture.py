"""What is kept of a chat: annotated, under its own expiry, once, and readable for a purpose that has a ground."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from chatproxy.clock import wall_clock
from chatproxy.consent.events import Choice
from chatproxy.errors import (
    AccessRefusedError,
    AuditUnavailableError,
    NotFoundError,
    UndecryptableError,
)
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.workflows.announce import DECISION_HEADERS
from chatproxy.workflows.transcripts import KeptTurn, Spurious, Transcripts
from integration.proxy_fixtures import (
    ANA,
    ANA_LINES,
    ANTHROPIC,
    DAY,
    JSON_TYPE,
    OPENAI,
    STREAM_HEAD,
    World,
    a_world,
    all_keys,
    chat_bytes,
    chatting,
    chunk,
    exchange,
    openai_events,
    openai_reply,
    post,
    response,
)
from simulators.backend import Peer, answering

FIELDS = {
    "turn", "conversation", "subject", "plan", "received_at", "expires_at", "grounds", "eligible", "reason",
    "end", "dialect", "parsed", "key_version", "bytes",
}  # fmt: skip


@pytest.fixture
def store(server: EmbeddedServer, connections: Connections) -> str:
    return server.url


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("path", [OPENAI, ANTHROPIC], ids=["openai", "anthropic"])
async def test_a_chat_is_kept_with_every_field_of_the_contract(
    path: str, stream: bool, tmp_path: Path, store: str
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        before = wall_clock()
        answer = await world.chat("hello", path=path, stream=stream)
        after = wall_clock()
        [row] = await world.kept()
        [turn] = await world.turns()

        assert isinstance(turn, KeptTurn)
        assert before <= turn.facts.received_at <= after
        assert row.keys() >= FIELDS
        assert {name: row[name] for name in ("plan", "reason", "end", "parsed", "key_version")} == {
            "plan": "pro", "reason": "CONSENT_UNKNOWN", "end": "complete", "parsed": True, "key_version": 1,
        }  # fmt: skip
        assert row["dialect"] == ("openai_chat" if path == OPENAI else "anthropic_messages")
        assert row["eligible"] == {"capability": False, "safety": False, "feedback": False}
        assert list(row["grounds"]) == ["SERVICE"]
        assert row["subject"] == world.tag().hex()
        assert await world.said(row["conversation"]) == ["user: hello", f"assistant: reply 0{' ' * stream}"]
        # The first look at a person may still be under way when the head is sent.
        if answer.headers["x-decision-reason"] != "PENDING":
            assert answer.headers["x-chat-turn"] == row["turn"]


@pytest.mark.parametrize(
    "choices, reason, period_days, eligible",
    [
        ((), "CONSENT_UNKNOWN", 30, False),
        ((Choice.GIVEN,), "ELIGIBLE_CONSENT", 365 * 5, True),
        ((Choice.REFUSED,), "CONSENT_REFUSED", 30, False),
        ((Choice.DEFERRED,), "CONSENT_DEFERRED", 30, False),
        ((Choice.GIVEN, Choice.WITHDRAWN), "CONSENT_WITHDRAWN", 30, False),
        ((Choice.GIVEN, Choice.WITHDRAWN, Choice.GIVEN), "ELIGIBLE_CONSENT", 365 * 5, True),
    ],
    ids=["none", "given", "refused", "deferred", "withdrawn", "given again"],
)
async def test_the_ttl_of_record_and_annotation_is_the_one_decided_on(
    choices: tuple[Choice, ...],
    reason: str,
    period_days: int,
    eligible: bool,
    tmp_path: Path,
    store: str,
    connections: Connections,
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        at = wall_clock() - 1000
        await world.choose(*choices, at=at)
        answer = await world.chat("hello")
        [row] = await world.kept()
        [turn] = await world.turns()
        assert isinstance(turn, KeptTurn)
        found = await all_keys(connections)

    assert (row["reason"], row["eligible"]["capability"]) == (reason, eligible)
    expiry = turn.note.expires_at
    assert abs(expiry - turn.facts.received_at - period_days * DAY) <= 2 * DAY
    if period_days == 30:
        assert expiry == turn.facts.received_at + 30 * DAY
    kinds = {
        name.split(b"}")[1].split(b":")[1]
        for name in found
        if name.startswith(b"cp:{%b}" % row["subject"].encode())
    }
    assert kinds >= {b"r", b"a", b"ix", b"v", b"s", b"h"}
    for name, ttl in found.items():
        kind = name.split(b":")[2] if name.count(b":") > 1 else b""
        if kind in {b"r", b"a"}:
            assert ttl == expiry
        elif kind in {b"ix", b"v", b"s", b"h"}:
            assert ttl >= expiry
        elif kind == b"c":
            assert ttl > expiry + 3 * 365 * DAY
    assert answer.headers["x-decision-reason"] in {reason, "PENDING"}


async def test_the_second_answer_announces_the_decision(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        await world.choose(Choice.GIVEN, at=wall_clock() - 1000)
        await world.chat("hello")
        await world.kept()
        answer = await world.chat("again")
        rows = await world.kept()

    row = next(row for row in rows if row["turn"] == answer.headers["x-chat-turn"])
    assert answer.headers["x-training-eligible"] == "?1"
    assert answer.headers["x-decision-reason"] == "ELIGIBLE_CONSENT"
    assert answer.headers["x-retention-expires"] == str(row["expires_at"])[:19] + "Z"


async def test_the_headers_can_be_turned_off(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store, response_headers="false") as world:
        answer = await world.chat("hello")
        assert not [
            name for name in answer.headers if name.startswith(("x-chat", "x-training", "x-ret", "x-dec"))
        ]
        assert len(await world.kept()) == 1


NOT_KEPT: dict[str, tuple[dict[str, str], str]] = {
    "an exempt plan": ({"x-chat-plan": "team"}, "PLAN_EXEMPT"),
    "zero data retention": ({"x-chat-zdr": "?1"}, "ZDR_NO_STORE"),
    "a minor": ({"x-chat-age": "minor"}, "NOT_ELIGIBLE"),
    "a minor in capitals": ({"x-chat-age": "MINOR"}, "NOT_ELIGIBLE"),
}


@pytest.mark.parametrize("headers, reason", NOT_KEPT.values(), ids=NOT_KEPT)
async def test_nothing_is_kept_of(
    headers: dict[str, str], reason: str, tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        await world.choose(Choice.GIVEN, at=wall_clock() - 1000)
        answer = await world.chat("hello", who=ANA | headers)
        assert await world.kept() == []
        assert answer.headers["x-decision-reason"] == reason
        assert world.outcomes() == {"not_stored": 1}
        world.assert_outcomes_add_up()
        assert not [name for name in await all_keys(connections) if b":r:" in name or b":a:" in name]


SIGNALS: dict[str, tuple[dict[str, str], str]] = {
    "incognito": ({"x-chat-incognito": "?1"}, "INCOGNITO"),
    "no training": ({"content-usage": "train-ai=n"}, "SIGNAL_OPT_OUT"),
    "an unknown plan": ({"x-chat-plan": "gold"}, "PLAN_UNKNOWN"),
    "an unknown surface": ({"x-chat-surface": "toaster"}, "CONSENT_UNKNOWN"),
}


@pytest.mark.parametrize("headers, reason", SIGNALS.values(), ids=SIGNALS)
async def test_a_yes_does_not_reach(headers: dict[str, str], reason: str, tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        await world.choose(Choice.GIVEN, at=wall_clock() - 1000)
        await world.chat("hello", who=ANA | headers)
        [row] = await world.kept()
        assert (row["reason"], row["eligible"]["capability"], list(row["grounds"])) == (
            reason,
            False,
            ["SERVICE"],
        )


async def test_what_was_said_before_a_yes_is_not_eligible(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        await world.chat("before")
        await world.kept()
        await world.choose(Choice.GIVEN)
        await world.chat("after")
        rows = await world.kept()
    assert [row["eligible"]["capability"] for row in rows] == [False, True]


# Conversations.


async def converse(
    world: World, turns: int, *, who: dict[str, str] | None = None, **request: Any
) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    for number in range(turns):
        messages.append({"role": "user", "content": f"question {number}"})
        answer = await world.chat(messages, who=who, **request)
        messages.append(answer.json()["choices"][0]["message"])
    return messages


async def test_a_conversation_of_50_turns_is_stored_once_and_reads_back_whole_and_in_order(
    tmp_path: Path, store: str
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        messages = await converse(world, 50)
        rows = await world.kept()
        assert len(rows) == 50
        assert {row["conversation"] for row in rows} == {rows[0]["conversation"]}
        said = await world.said(rows[0]["conversation"])
        assert said == [f"{message['role']}: {message['content']}" for message in messages]
        assert max(row["bytes"] for row in rows) <= min(row["bytes"] for row in rows) + 64
        assert world.counted("chatproxy_history_messages_unmatched_total") == 0


async def test_what_was_said_within_a_millisecond_reads_back_in_order(tmp_path: Path, store: str) -> None:
    instant = wall_clock()
    async with a_world(chatting(), tmp_path, store, clock=lambda: instant) as world:
        conversation = await converse(world, turns=5)
        [handle] = {row["conversation"] for row in await world.kept()}

        assert await world.said(handle) == [f"{said['role']}: {said['content']}" for said in conversation]


async def test_a_conversation_goes_on_after_a_restart(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        messages = await converse(world, 2)
        await world.kept()
    async with a_world(chatting(lambda _: "later"), tmp_path, store) as world:
        await world.chat([*messages, {"role": "user", "content": "and now"}])
        rows = await world.kept()
        assert len({row["conversation"] for row in rows}) == 1
        assert (await world.said(rows[0]["conversation"]))[-2:] == ["user: and now", "assistant: later"]
        assert len(await world.said(rows[0]["conversation"])) == 6


async def test_a_conversation_of_nobody_goes_on_under_one_pseudonym(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        messages = await converse(world, 3, who={})
        rows = await world.kept()
        assert len({(row["subject"], row["conversation"]) for row in rows}) == 1
        assert {(row["reason"], row["plan"]) for row in rows} == {("PLAN_UNKNOWN", None)}
    async with a_world(chatting(), tmp_path, store) as world:
        await world.chat([*messages, {"role": "user", "content": "and now"}], who={})
        rows = await world.kept()
        assert len(rows) == 4
        assert len({(row["subject"], row["conversation"]) for row in rows}) == 1


async def test_conversations_of_nobody_that_differ_have_pseudonyms_of_their_own(
    tmp_path: Path, store: str
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        await world.chat("one", who={})
        await world.chat("two", who={})
        assert len({row["subject"] for row in await world.kept()}) == 2


async def test_two_people_who_say_the_same_do_not_mix(tmp_path: Path, store: str) -> None:
    bea = {"x-chat-subject": "bea", "x-chat-plan": "pro"}
    async with a_world(chatting(lambda _: "the same"), tmp_path, store) as world:
        for who in (ANA, bea, {}, ANA | {"x-chat-tenant": "other"}):
            await converse(world, 2, who=who)
        rows = await world.kept()
        assert len(rows) == 8
        assert len({row["subject"] for row in rows}) == 4
        assert len({row["conversation"] for row in rows}) == 4
        for row in rows:
            assert len(await world.said(row["conversation"])) == 4


async def test_the_conversation_that_the_front_names_is_found_by_its_own_name(
    tmp_path: Path, store: str
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        named = ANA | {"x-chat-conversation": "family matters"}
        await world.chat("one", who=named)
        await world.chat("two", who=named)
        await world.chat("three")
        await world.kept()
        vault = world.running.vault
        tag = vault.pseudonyms.conversation_tag(
            tenant="default", subject="ana", conversation="family matters"
        )
        opened = await vault.transcripts.show(world.tag(), tag, purpose="service")
        assert len(opened) == 2
        with pytest.raises(NotFoundError):
            await vault.transcripts.show(world.tag("bea"), tag, purpose="service")


async def test_a_regenerated_answer_is_a_branch_and_nothing_is_stored_twice(
    tmp_path: Path, store: str
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        first = await converse(world, 1)
        await world.chat([*first, {"role": "user", "content": "second"}])
        await world.chat([*first, {"role": "user", "content": "second"}])
        rows = await world.kept()
        turns = [turn for turn in await world.turns() if isinstance(turn, KeptTurn)]
        assert len({row["conversation"] for row in rows}) == 1
        said = await world.said(rows[0]["conversation"])
        assert said == [
            "user: question 0", "assistant: reply 0",
            "user: second", "assistant: reply 1", "user: second", "assistant: reply 2",
        ]  # fmt: skip
        after = sorted(turn.facts.after or "" for turn in turns)
        assert after[0] == ""
        assert after[1] == after[2] != ""


@pytest.mark.parametrize("media, kept", [("digest", "media"), ("sealed", "AAAA")])
async def test_a_picture_is_kept_as_the_setting_says_and_never_in_clear(
    media: str, kept: str, tmp_path: Path, store: str
) -> None:
    async with a_world(chatting(), tmp_path, store, media=media) as world:
        picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
        messages: list[dict[str, Any]] = [{"role": "user", "content": [picture]}]
        answer = await world.chat(messages)
        messages += [answer.json()["choices"][0]["message"], {"role": "user", "content": "next"}]
        await world.chat(messages)
        rows = await world.kept()
        assert {row["conversation"] for row in rows} == {rows[0]["conversation"]}
        said = await world.said(rows[0]["conversation"])
        assert said == [f"user: {kept}", "assistant: reply 0", "user: next", "assistant: reply 1"]


async def test_a_retry_under_its_key_is_one_turn_and_without_it_a_branch(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        keyed = ANA | {"idempotency-key": "retry-1"}
        answers = [await world.chat("hello", who=keyed), await world.chat("hello", who=keyed)]
        [row] = await world.kept()
        assert await world.said(row["conversation"]) == ["user: hello", "assistant: reply 0"]
        # An answer that is faster than the first look-up says PENDING alone.
        assert {answer.headers.get("x-chat-turn", row["turn"]) for answer in answers} == {row["turn"]}
        assert world.outcomes() == {"stored": 1, "replayed": 1}
        await world.chat("other", who=keyed)
        await world.chat("hello", who=keyed | {"x-chat-subject": "ben"})
        assert len(await world.kept()) == 3


async def test_a_retry_under_its_key_replaces_an_attempt_that_did_not_complete(
    tmp_path: Path, store: str
) -> None:
    async def script(peer: Peer) -> None:
        while b"question" in await peer.read_request():
            await peer.send(next(answers))

    answers = iter(
        (response(b'{"error": {"message": "busy"}}', status=b"529 Busy"), response(openai_reply("done")))
    )
    async with a_world(script, tmp_path, store) as world:
        keyed = ANA | {"idempotency-key": "retry-1"}
        assert (await world.chat("question", who=keyed)).status_code == 529
        [row] = await world.kept()
        assert row["end"] == "error"
        await world.chat("question", who=keyed)
        [again] = await world.kept()
        assert (again["end"], again["turn"]) == ("complete", row["turn"])
        assert await world.said(again["conversation"]) == ["user: question", "assistant: done"]
        world.assert_outcomes_add_up()


async def test_an_edited_question_branches_off_where_the_history_still_holds(
    tmp_path: Path, store: str
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        messages = await converse(world, 3)
        edited = [*messages[:2], {"role": "user", "content": "edited"}]
        await world.chat(edited)
        rows = await world.kept()
        assert len(rows) == 4
        assert len({row["conversation"] for row in rows}) == 1


async def test_history_that_is_not_stored_is_counted_and_not_stored(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        await world.chat(
            [
                {"role": "user", "content": "from elsewhere"},
                {"role": "assistant", "content": "long gone"},
                {"role": "user", "content": "new"},
            ]
        )
        [row] = await world.kept()
        [turn] = await world.turns()
        assert isinstance(turn, KeptTurn)
        assert turn.note.unmatched == 2
        assert world.counted("chatproxy_history_messages_unmatched_total") == 2
        assert await world.said(row["conversation"]) == ["user: new", "assistant: reply 0"]


# Parts.


async def test_results_of_connector_tools_are_sealed_apart_under_their_own_expiry(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "look it up"},
        {"role": "assistant", "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "mcp__drive__read", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "raw from the drive"},
    ]  # fmt: skip
    async with a_world(chatting(), tmp_path, store) as world:
        await world.choose(Choice.GIVEN, at=wall_clock() - 1000)
        await world.chat(messages)
        [row] = await world.kept()
        [turn] = await world.turns()
        assert isinstance(turn, KeptTurn)
        typed, raw = turn.note.groups
        assert typed.eligible.capability
        assert not raw.eligible.capability
        assert (str(raw.part), raw.reason) == ("connector_raw", "PART_CONNECTOR_RAW")
        assert raw.expires_at == turn.facts.received_at + 30 * DAY
        assert typed.expires_at > raw.expires_at + 4 * 365 * DAY
        records = {name: ttl for name, ttl in (await all_keys(connections)).items() if b":r:" in name}
        assert sorted(records.values()) == [raw.expires_at, typed.expires_at]
        assert row["eligible"]["capability"]
        service = await world.said(row["conversation"])
        training = await world.said(row["conversation"], purpose="capability")
        assert "tool: raw from the drive" in service
        assert not any("raw from the drive" in said for said in training)


async def test_what_a_person_pasted_from_a_connector_trains_and_what_the_connector_sent_does_not(
    tmp_path: Path, store: str
) -> None:
    blocks = [
        {"type": "text", "text": "sum this up"},
        {"type": "pasted", "words": "pasted from the drive"},
        {"type": "drive_file", "words": "raw from the drive"},
    ]
    rules = "pasted=connector_pasted,drive_*=connector_raw"
    async with a_world(chatting(), tmp_path, store, block_origins=rules) as world:
        await world.choose(Choice.GIVEN, at=wall_clock() - 1000)
        await world.chat([{"role": "user", "content": blocks}])
        await world.kept()
        [turn] = await world.turns()
        assert isinstance(turn, KeptTurn)
        assert [(str(group.part), group.eligible.capability) for group in turn.note.groups] == [
            ("typed", True),
            ("connector_raw", False),
        ]


UNPARSED: dict[str, tuple[bytes, bytes]] = {
    "a request that is no JSON": (b'{"messages": [', openai_reply("x")),
    "a request that is no chat": (b"[1, 2]", openai_reply("x")),
    "a reply that is no JSON": (chat_bytes(), b"<html>"),
    "a request of NUL bytes": (b"\0" * 100, openai_reply("x")),
    "a nested request": (b"[" * 100_000, openai_reply("x")),
}


@pytest.mark.parametrize("request_body, reply_body", UNPARSED.values(), ids=UNPARSED)
async def test_what_cannot_be_read_is_relayed_and_kept_raw_and_is_never_eligible(
    request_body: bytes, reply_body: bytes, tmp_path: Path, store: str
) -> None:
    async with a_world(answering(response(reply_body, JSON_TYPE)), tmp_path, store) as world:
        await world.choose(Choice.GIVEN, at=wall_clock() - 1000)
        answer = await exchange(world.running.url, post(OPENAI, request_body, *ANA_LINES))
        assert answer.body == reply_body
        [row] = await world.kept()
        assert (row["parsed"], row["eligible"]["capability"], row["reason"]) == (False, False, "UNPARSED")
        assert list(row["grounds"]) == ["SERVICE"]
        assert world.outcomes() == {"unparsed": 1}
        assert len(await world.said(row["conversation"])) == 2
        with pytest.raises(AccessRefusedError):
            await world.said(row["conversation"], purpose="capability")


async def test_a_stream_that_cannot_be_read_is_kept_raw(tmp_path: Path, store: str) -> None:
    garbage = b"data: {not json\n\n"
    async with a_world(answering(STREAM_HEAD + chunk(garbage) + b"0\r\n\r\n"), tmp_path, store) as world:
        answer = await exchange(world.running.url, post(OPENAI, chat_bytes(stream=True), *ANA_LINES))
        assert answer.body == garbage
        [row] = await world.kept()
        assert row["parsed"] is False


async def test_an_error_of_the_upstream_is_kept_as_such(tmp_path: Path, store: str) -> None:
    body = b'{"error": {"code": "rate_limited", "message": "slow down"}}'
    async with a_world(
        answering(response(body, JSON_TYPE, status=b"429 Slow Down")), tmp_path, store
    ) as world:
        assert (await world.chat("hello")).content == body
        [row] = await world.kept()
        assert (row["end"], row["parsed"]) == ("error", True)


# Changes while a chat runs.


async def test_a_withdrawal_while_the_answer_streams_is_in_force_when_the_turn_is_kept(
    tmp_path: Path, store: str
) -> None:
    may_end = asyncio.Event()

    async def script(peer: Peer) -> None:
        while True:
            await peer.read_request()
            events = openai_events("a", "b")
            await peer.send(STREAM_HEAD + chunk(events[0]))
            await may_end.wait()
            await peer.send(b"".join(map(chunk, events[1:])) + b"0\r\n\r\n")

    async with a_world(script, tmp_path, store) as world:
        await world.choose(Choice.GIVEN, at=wall_clock() - 1000)
        may_end.set()
        await world.chat("warm", stream=True)
        await world.kept()
        may_end.clear()
        async with world.client.stream(
            "POST", OPENAI, content=chat_bytes("late", stream=True), headers=ANA
        ) as answer:
            assert answer.headers["x-training-eligible"] == "?1"
            await world.choose(Choice.WITHDRAWN)
            may_end.set()
            await answer.aread()
        rows = await world.kept()
        late = next(row for row in rows if row["turn"] == answer.headers["x-chat-turn"])
        assert (late["reason"], late["eligible"]["capability"]) == ("CONSENT_WITHDRAWN", False)


async def test_a_yes_while_the_answer_streams_does_not_reach_back(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        await world.choose(Choice.GIVEN, at=wall_clock() + 5000)
        await world.chat("hello")
        [row] = await world.kept()
        assert row["eligible"]["capability"] is False


# What was tampered with.


async def test_a_tampered_ledger_counts_as_no(tmp_path: Path, store: str, connections: Connections) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        await world.choose(Choice.GIVEN, at=wall_clock() - 1000)
        ledger = b"cp:{%b}:c" % world.tag().hex().encode()
        [event] = await connections.ask([["LINDEX", ledger, 0]])
        await connections.ask([["LSET", ledger, 0, event[:-1] + bytes([event[-1] ^ 1])]])
        await world.chat("hello")
        [row] = await world.kept()
        assert (row["reason"], row["eligible"]["capability"]) == ("CONSENT_LOOKUP_FAILED", False)
        world.assert_outcomes_add_up()


async def test_an_event_of_another_persons_ledger_counts_as_no(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        await world.choose(Choice.GIVEN, subject="bea", at=wall_clock() - 1000)
        [event] = await connections.ask([["LINDEX", b"cp:{%b}:c" % world.tag("bea").hex().encode(), 0]])
        await connections.ask([["RPUSH", b"cp:{%b}:c" % world.tag().hex().encode(), event]])
        await world.chat("hello")
        [row] = await world.kept()
        assert row["reason"] == "CONSENT_LOOKUP_FAILED"


def annotation_of(turn: KeptTurn | Spurious) -> bytes:
    return b"cp:{%b}:a:%b" % (turn.subject.hex().encode(), turn.turn.hex().encode())


def record_of(turn: KeptTurn | Spurious) -> bytes:
    return b"cp:{%b}:r:%b" % (turn.subject.hex().encode(), turn.turn.hex().encode())


async def test_a_tampered_annotation_is_found_and_its_conversation_is_not_read(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        await converse(world, 2)
        rows = await world.kept()
        turn = (await world.turns())[0]
        name = annotation_of(turn)
        [body] = await connections.ask([["HGET", name, "body"]])
        changed = body.replace(b'"eligible":{}', b'"eligible":{"capability":true}')
        assert changed != body
        await connections.ask([["HSET", name, "body", changed]])
        faults = [turn for turn in await world.turns() if isinstance(turn, Spurious)]
        assert [fault.reason for fault in faults] == ["annotation_mac"]
        subject, conversation = world.running.vault.pseudonyms.read_conversation_handle(
            rows[0]["conversation"]
        )
        listed = [
            turn
            async for turn in world.running.vault.transcripts.walk(subject=subject, conversation=conversation)
        ]
        assert [type(turn) for turn in listed].count(Spurious) == 1
        with pytest.raises(UndecryptableError, match="annotation_mac"):
            await world.said(rows[0]["conversation"])


async def test_records_swapped_between_turns_are_not_read(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        await converse(world, 2)
        [row, _] = await world.kept()
        one, two = map(record_of, await world.turns())
        [first, second] = await connections.ask([["GET", one], ["GET", two]])
        await connections.ask([["SET", one, second, "KEEPTTL"], ["SET", two, first, "KEEPTTL"]])
        with pytest.raises(UndecryptableError):
            await world.said(row["conversation"])


async def test_a_turn_moved_into_another_conversation_is_found(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        await world.chat("one")
        await world.chat("two")
        rows = await world.kept()
        one, two = await world.turns()
        assert isinstance(one, KeptTurn)
        index = b"cp:{%b}:v:%b" % (one.subject.hex().encode(), one.facts.conversation.encode())
        await connections.ask([["ZADD", index, 1, two.turn]])
        handle = world.running.vault.pseudonyms.conversation_handle(one.subject, one.facts.conversation_tag)
        assert handle in {row["conversation"] for row in rows}
        with pytest.raises(UndecryptableError):
            await world.said(handle)


async def test_a_conversation_reads_in_the_order_received_whatever_the_index_says(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        await converse(world, 3)
        [row, *_] = await world.kept()
        before = await world.said(row["conversation"])
        for turn in await world.turns():
            assert isinstance(turn, KeptTurn)
            index = b"cp:{%b}:v:%b" % (turn.subject.hex().encode(), turn.facts.conversation.encode())
            await connections.ask([["ZADD", index, -turn.facts.received_at, turn.turn]])
        assert await world.said(row["conversation"]) == before


async def test_a_lengthened_life_is_found(tmp_path: Path, store: str, connections: Connections) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        await world.chat("hello")
        [turn] = await world.turns()
        await connections.ask([["PERSIST", annotation_of(turn)]])
        [fault] = await world.turns()
        assert isinstance(fault, Spurious)
        assert fault.reason == "annotation_ttl"


async def test_what_has_expired_is_hidden_even_where_the_store_still_holds_it(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        await world.chat("hello")
        [row] = await world.kept()
        [turn] = await world.turns()
        assert isinstance(turn, KeptTurn)
        await connections.ask([["PERSIST", annotation_of(turn)], ["PERSIST", record_of(turn)]])
        vault = world.running.vault
        expires_at = turn.note.expires_at
        later = Transcripts(
            vault.store,
            vault.record_keys,
            vault.annotation_keys,
            vault.pseudonyms,
            vault.policies,
            audit=FakeAudit(),
            clock=lambda: expires_at,
        )
        assert [turn async for turn in later.walk()] == []
        subject, conversation = vault.pseudonyms.read_conversation_handle(row["conversation"])
        with pytest.raises(NotFoundError):
            await later.show(subject, conversation, purpose="service")


class FakeAudit:
    def __init__(self) -> None:
        self.entries: list[tuple[str, dict[str, Any]]] = []

    def append(self, action: str, details: Any, *, by: str | None = None) -> None:
        self.entries.append((action, dict(details)))


async def test_eligibility_is_not_announced_for_a_body_that_cannot_be_read(
    tmp_path: Path, store: str
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        await world.choose(Choice.GIVEN)
        await world.chat("so that the choice is known")
        await world.kept()

        answer = await world.client.post(OPENAI, content=b'{"messages":', headers=ANA)

        announced = {name for name in answer.headers if name.encode() in DECISION_HEADERS}
        assert announced == {"x-decision-reason"}
        assert answer.headers["x-decision-reason"] == "PENDING"


async def test_a_purpose_without_a_live_ground_is_refused_and_each_reading_is_audited(
    tmp_path: Path, store: str
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        await world.chat("hello")
        [row] = await world.kept()
        for purpose in ("capability", "safety", "feedback"):
            with pytest.raises(AccessRefusedError):
                await world.said(row["conversation"], purpose=purpose)
        await world.said(row["conversation"])
        log = tmp_path / "data" / "audit" / "audit.jsonl"
        entries = [json.loads(line) for line in log.read_text().splitlines()]
        assert [entry["action"] for entry in entries] == ["transcripts.refused"] * 3 + ["transcripts.read"]
        assert {entry["conversation"] for entry in entries} == {row["conversation"]}
        assert log.stat().st_mode & 0o777 == 0o600


async def test_without_an_audit_log_nothing_is_read(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        await world.chat("hello")
        [row] = await world.kept()
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / "audit").write_text("in the way")
        with pytest.raises(AuditUnavailableError):
            await world.said(row["conversation"])


async def test_what_follows_a_turn_that_was_not_kept_does_not_continue_it(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        state = b"cp:{%b}:s" % world.tag().hex().encode()
        await connections.ask([["HSET", state, "erased_at", wall_clock() + 60_000]])
        messages = await converse(world, 1)
        assert await world.kept() == []
        await connections.ask([["HDEL", state, "erased_at"]])
        await world.chat([*messages, {"role": "user", "content": "and now"}])
        [turn] = await world.turns()
        assert isinstance(turn, KeptTurn)
        assert (turn.facts.after, turn.note.unmatched) == (None, 2)


async def test_an_erased_person_gets_nothing_stored_that_came_before(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        state = b"cp:{%b}:s" % world.tag().hex().encode()
        await connections.ask([["HSET", state, "erased_at", wall_clock() + 60_000]])
        await world.chat("hello")
        assert await world.kept() == []
        assert world.outcomes() == {"erased": 1}
        await connections.ask([["HSET", state, "erased_at", wall_clock() - 60_000]])
        await world.chat("hello")
        assert len(await world.kept()) == 1
