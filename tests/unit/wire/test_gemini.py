"""Gemini, as bytes in and messages out."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from chatproxy.errors import UnreadableError
from chatproxy.history import Path
from chatproxy.wire.base import ChatReply, ChatRequest, OriginRules
from chatproxy.wire.gemini import Gemini
from unit.wire.bodies import PNG, RULES, recorded, said, streamed, text_of

GEMINI = Gemini()
TEXT = 'Bonjour 👋, ça va\u00a0? {"a":1}\ndata: [DONE]'


def request(*contents: object, rules: OriginRules = RULES, **more: object) -> ChatRequest:
    return GEMINI.read_request(json.dumps({"contents": contents, **more}).encode(), rules)


def reply(*parts: object) -> ChatReply:
    body = {"candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": "STOP"}]}
    return GEMINI.read_reply(200, "application/json", json.dumps(body).encode(), RULES)


def piece(*parts: object, finish: str | None = None, index: int = 0) -> dict[str, Any]:
    candidate: dict[str, Any] = {"index": index, "content": {"parts": parts}}
    return {"candidates": [candidate | ({"finishReason": finish} if finish else {})]}


def stream(*pieces: Mapping[str, Any]) -> ChatReply:
    return GEMINI.read_reply(200, "text/event-stream", streamed(*pieces), RULES)


def read_stream(name: str, content_type: str = "text/event-stream") -> ChatReply:
    return GEMINI.read_reply(200, content_type, recorded(name), RULES)


# --- requests ---


def test_a_request_gives_its_contents_with_the_origin_of_each_part() -> None:
    read = GEMINI.read_request(recorded("gemini_request.json"), RULES)

    assert (read.model, read.conversation, read.continues, read.new_from) == (None, None, None, 3)
    assert [(message.role, said(message.parts)) for message in read.messages] == [
        ("system", [("text", "system", {"text": "Be brief."})]),
        ("user", [("text", "typed", {"text": "Weather in Nîmes, and my notes on summer?"})]),
        (
            "assistant",
            [
                ("tool_call", "assistant", {"id": "", "name": "weather", "arguments": '{"city":"Nîmes"}'}),
                (
                    "tool_call",
                    "assistant",
                    {"id": "b", "name": "mcp__drive__search", "arguments": '{"q":"été"}'},
                ),
            ],
        ),
        (
            "user",
            [
                ("tool_result", "tool_result", {"id": "", "content": {"result": "31 °C"}}),
                ("tool_result", "connector_raw", {"id": "b", "content": {"result": "notes.txt: buy ice"}}),
            ],
        ),
        ("user", [("text", "typed", {"text": "And this?"}), ("media", "upload", PNG)]),
    ]


@pytest.mark.parametrize(
    "part, expected",
    [
        pytest.param({"text": "t"}, [("text", "typed", {"text": "t"})], id="text"),
        pytest.param("t", [("text", "typed", {"text": "t"})], id="text as it is"),
        pytest.param({"text": ""}, [], id="no text"),
        pytest.param({"thoughtSignature": "EqQB"}, [], id="only a signature"),
        pytest.param({"thought": True, "text": "t"}, [("reasoning", "typed", {"text": "t"})], id="thought"),
        pytest.param(
            {"inline_data": {"mime_type": "image/png", "data": "iVBORw0KGgo="}},
            [("media", "upload", PNG)],
            id="media in the other spelling",
        ),
        pytest.param(
            {"fileData": {"mimeType": "image/png", "fileUri": "data:image/png;base64,iVBORw0KGgo="}},
            [("media", "upload", PNG)],
            id="file",
        ),
        pytest.param(
            {
                "functionResponse": {
                    "id": "x",
                    "name": "weather",
                    "response": {"a": 1},
                    "parts": [{"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}}],
                }
            },
            [("tool_result", "tool_result", {"id": "x", "content": [{"a": 1}, {"type": "media", **PNG}]})],
            id="result with media",
        ),
        pytest.param(
            {"functionResponse": {"response": {}}},
            [("tool_result", "connector_raw", {"id": "", "content": {}})],
            id="result of nothing",
        ),
        pytest.param(
            {"codeExecutionResult": {"outcome": "OUTCOME_FAILED", "output": "boom"}},
            [("tool_result", "tool_result", {"id": "", "text": "boom", "is_error": True})],
            id="failed code",
        ),
        pytest.param(
            {"hologram": 3, "thoughtSignature": "EqQB"}, [("other", "typed", {"hologram": 3})], id="unknown"
        ),
        pytest.param({"text": 5}, [("other", "typed", {"text": 5})], id="misused"),
        pytest.param(7, [("other", "typed", {"value": 7})], id="no object"),
    ],
)
def test_a_part_is_read(part: object, expected: list[Any]) -> None:
    assert said(request({"role": "user", "parts": [part]}).messages[0].parts) == expected


def test_who_says_nothing_of_their_role_is_the_person() -> None:
    read = request({"parts": {"text": "hi"}})

    assert [(message.role, text_of(message)) for message in read.messages] == [("user", "hi")]


def test_contents_and_instructions_may_be_written_short() -> None:
    body = {"contents": {"parts": [{"text": "hi"}]}, "system_instruction": "Be brief."}
    read = GEMINI.read_request(json.dumps(body).encode(), RULES)

    assert [(message.role, text_of(message)) for message in read.messages] == [
        ("system", "Be brief."),
        ("user", "hi"),
    ]


def test_rules_for_connectors_hold_for_code() -> None:
    read = request({"parts": [{"codeExecutionResult": {"output": "1"}}]}, rules=OriginRules(("code_*",)))

    assert read.messages[0].parts[0].origin == "connector_raw"


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"contents": "hi"}', b'{"contents": ["hi"]}', b'{"contents": [{"role": 1}]}'],
)
def test_what_is_no_request_is_unreadable(body: bytes) -> None:
    with pytest.raises(UnreadableError):
        GEMINI.read_request(body, RULES)


# --- replies ---


def test_a_reply_gives_its_candidates_in_order_with_model_usage_and_finish() -> None:
    candidates = [
        {"index": 1, "content": {"parts": [{"text": "b"}]}, "finishReason": "MAX_TOKENS"},
        {"content": {"parts": [{"text": "a"}]}, "index": 0, "finishReason": "STOP"},
        {"index": 2, "finishReason": "SAFETY"},
    ]
    body = {"candidates": candidates, "modelVersion": "g", "usageMetadata": {"totalTokenCount": 3}}
    read = GEMINI.read_reply(200, "application/json", json.dumps(body).encode(), RULES)

    assert [(message.choice, message.role, text_of(message)) for message in read.output] == [
        (0, "assistant", "a"),
        (1, "assistant", "b"),
    ]
    assert (read.model, read.usage, read.finish) == (
        "g",
        {"totalTokenCount": 3},
        ("STOP", "MAX_TOKENS", "SAFETY"),
    )
    assert (read.finished, read.failed, read.streamed) == (True, False, False)


def test_a_prompt_that_was_blocked_has_no_answer() -> None:
    read = GEMINI.read_reply(200, "application/json", b'{"promptFeedback": {"blockReason": "SAFETY"}}', RULES)

    assert (read.output, read.finish, read.finished, read.failed) == ((), ("SAFETY",), True, False)
    assert stream({"promptFeedback": {"blockReason": "SAFETY"}}).finished


@pytest.mark.parametrize(
    "status, body, code",
    [
        (
            429,
            b'{"error": {"code": 429, "message": "m", "status": "RESOURCE_EXHAUSTED"}}',
            "RESOURCE_EXHAUSTED",
        ),
        (
            429,
            b'[{"error": {"code": 429, "message": "m", "status": "RESOURCE_EXHAUSTED"}}\n]',
            "RESOURCE_EXHAUSTED",
        ),
        (500, b"<html>", "http_500"),
        (200, b'{"error": {"code": 500}}', "error"),
        (200, b'[{"error": {"status": "INTERNAL"}}]', "INTERNAL"),
    ],
)
def test_an_error_is_a_failed_reply_and_keeps_only_its_code(status: int, body: bytes, code: str) -> None:
    read = GEMINI.read_reply(status, "application/json", body, RULES)

    assert (read.failed, read.finished, read.output, read.finish) == (True, False, (), (code,))


def test_an_empty_body_is_an_answer_that_never_came() -> None:
    read = GEMINI.read_reply(200, "application/json", b"", RULES)

    assert (read.output, read.finished, read.failed) == ((), False, False)


@pytest.mark.parametrize(
    "content_type, body",
    [
        ("application/json", b"not json"),
        ("application/json", b'{"candidates": [{"conte'),
        ("application/json", b'{"id": "x"}'),
        ("application/json", b'[{"id": "x"}]'),
        ("application/json", b'[{"candidates": 1}]'),
        ("text/event-stream", b"<html>\n\n"),
        ("text/event-stream", b'data: {"a": 1}\n\n'),
    ],
)
def test_what_is_no_reply_is_unreadable(content_type: str, body: bytes) -> None:
    with pytest.raises(UnreadableError):
        GEMINI.read_reply(200, content_type, body, RULES)


# --- streams ---


def test_a_stream_gives_the_answer_whole_whether_of_events_or_an_array() -> None:
    events = read_stream("gemini_text.sse")

    assert said(events.output[0].parts) == [
        ("reasoning", "assistant", {"text": "Let me think."}),
        ("text", "assistant", {"text": TEXT}),
    ]
    assert (events.model, events.finish, events.usage["totalTokenCount"]) == ("gemini-test", ("STOP",), 16)
    assert (events.streamed, events.finished, events.failed) == (True, True, False)
    assert read_stream("gemini_text.array", "application/json") == events


def test_calls_code_and_images_are_apart_from_text() -> None:
    assert said(read_stream("gemini_tools.sse").output[0].parts) == [
        ("text", "assistant", {"text": "I look it up."}),
        ("tool_call", "assistant", {"id": "", "name": "weather", "arguments": '{"city":"Nîmes"}'}),
        ("tool_call", "assistant", {"id": "b", "name": "mcp__drive__search", "arguments": '{"q":"été"}'}),
        (
            "tool_call",
            "assistant",
            {"id": "", "name": "code_execution", "arguments": '{"language":"PYTHON","code":"print(1)"}'},
        ),
        ("tool_result", "tool_result", {"id": "", "text": "1\n"}),
        ("media", "assistant", PNG),
    ]


def test_text_after_something_else_is_another_part() -> None:
    read = stream(piece({"text": "a"}), piece({"functionCall": {"name": "f"}}), piece({"text": "b"}))

    assert [kind for kind, _, _ in said(read.output[0].parts)] == ["text", "tool_call", "text"]


def test_candidates_of_a_stream_are_apart_and_all_must_finish() -> None:
    first = [
        piece({"text": "a"}, index=1),
        piece({"text": "b"}),
        piece({"text": "c"}, index=1, finish="STOP"),
    ]

    assert [text_of(message) for message in stream(*first).output] == ["b", "ac"]
    assert not stream(*first).finished
    assert stream(*first, piece(finish="STOP")).finished


def test_an_error_ends_a_stream_and_keeps_what_came_before() -> None:
    read = read_stream("gemini_error.sse")

    assert (text_of(read.output[0]), read.finish, read.failed, read.finished) == (
        "Half",
        ("UNAVAILABLE",),
        True,
        False,
    )


@pytest.mark.parametrize("name", ["gemini_text.sse", "gemini_tools.sse"])
def test_an_answer_is_known_when_it_is_sent_back(name: str) -> None:
    made = read_stream(name).output
    events = [json.loads(event.removeprefix(b"data: ")) for event in recorded(name).split(b"\n\n") if event]
    parts = [part for event in events for part in event["candidates"][0]["content"]["parts"]]
    question = {"role": "user", "parts": [{"text": "q"}]}
    back = request(question, {"role": "model", "parts": parts}, {"parts": [{"text": "next"}]})
    (position,) = Path(back.messages).positions(bytes)

    assert position.head == Path(request(question).messages).heads(made, bytes)[0]
    assert Path(request(question).messages).heads(reply(*parts).output, bytes)[0] == position.head


def test_a_result_with_an_id_goes_by_its_call_whatever_it_says_of_its_tool() -> None:
    read = request(
        {"role": "model", "parts": [{"functionCall": {"id": "b", "name": "mcp__x"}}]},
        {"parts": [{"functionResponse": {"id": "b", "name": "weather", "response": {}}}]},
    )

    assert read.messages[1].parts[0].origin == "connector_raw"
