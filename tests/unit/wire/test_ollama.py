"""Ollama, as bytes in and messages out."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from chatproxy.errors import UnreadableError
from chatproxy.history import Path
from chatproxy.wire.base import ChatReply, ChatRequest, OriginRules
from chatproxy.wire.ollama import Ollama
from unit.wire.bodies import PNG, RULES, recorded, said, text_of

OLLAMA = Ollama()
TEXT = 'Bonjour 👋, ça va\u00a0? {"a":1}\ndata: [DONE]'
LINES = "application/x-ndjson"


def request(*messages: object, rules: OriginRules = RULES) -> ChatRequest:
    return OLLAMA.read_request(json.dumps({"model": "m", "messages": messages}).encode(), rules)


def generate(**body: object) -> ChatRequest:
    return OLLAMA.read_request(json.dumps({"model": "m", **body}).encode(), RULES)


def reply(**body: object) -> ChatReply:
    return OLLAMA.read_reply(200, "application/json; charset=utf-8", json.dumps(body).encode(), RULES)


def stream(*lines: Mapping[str, Any]) -> ChatReply:
    return OLLAMA.read_reply(200, LINES, "".join(json.dumps(line) + "\n" for line in lines).encode(), RULES)


def read_stream(name: str) -> ChatReply:
    return OLLAMA.read_reply(200, LINES, recorded(name), RULES)


# --- requests ---


def test_a_chat_gives_its_messages_with_the_origin_of_each_part() -> None:
    read = OLLAMA.read_request(recorded("ollama_request.json"), RULES)

    assert (read.model, read.continues, read.new_from) == ("llama-test", None, 3)
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
                    {"id": "", "name": "mcp__drive__search", "arguments": '{"q":"été"}'},
                ),
            ],
        ),
        ("tool", [("tool_result", "tool_result", {"id": "", "text": "31 °C"})]),
        ("tool", [("tool_result", "connector_raw", {"id": "", "text": "notes.txt: buy ice"})]),
        ("user", [("text", "typed", {"text": "And this?"}), ("media", "upload", PNG | {"mime": "image/*"})]),
    ]


def test_a_result_without_a_name_goes_by_the_calls_before_it() -> None:
    calls = [{"function": {"name": "weather"}}, {"function": {"name": "mcp__x"}}]
    strict = request({"role": "assistant", "tool_calls": calls}, {"role": "tool", "content": "x"})
    loose = request({"role": "assistant", "tool_calls": calls[:1]}, {"role": "tool", "content": "x"})

    assert strict.messages[1].parts[0].origin == "connector_raw"
    assert loose.messages[1].parts[0].origin == "tool_result"


def test_a_result_with_an_id_goes_by_its_call() -> None:
    call = {"id": "c", "function": {"name": "mcp__x", "arguments": "{}"}}
    read = request(
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "tool_name": "weather", "content": None},
    )

    assert said(read.messages[1].parts) == [("tool_result", "connector_raw", {"id": "c", "text": ""})]


def test_odd_content_is_kept() -> None:
    read = request({"role": "user", "content": [1]}, {"role": "tool", "tool_name": "weather", "content": [2]})

    assert [said(message.parts)[0] for message in read.messages] == [
        ("other", "typed", {"value": [1]}),
        ("tool_result", "tool_result", {"id": "", "content": [2]}),
    ]


def test_generate_has_a_prompt_and_perhaps_instructions_and_images() -> None:
    read = generate(prompt="hi", system="Be brief.", suffix="end", images=["iVBORw0KGgo=", 5])

    assert [(message.role, said(message.parts)) for message in read.messages] == [
        ("system", [("text", "system", {"text": "Be brief."})]),
        (
            "user",
            [
                ("text", "typed", {"text": "hi"}),
                ("text", "typed", {"text": "end"}),
                ("media", "upload", PNG | {"mime": "image/*"}),
            ],
        ),
    ]


def test_a_request_to_load_a_model_says_nothing() -> None:
    assert generate().messages == ()
    assert reply(model="m", response="", done=True, done_reason="load").output == ()


def test_the_tokens_of_what_was_said_tell_which_answer_is_continued() -> None:
    answered = read_stream("ollama_generate.ndjson")

    assert answered.reply_ids == (generate(prompt="and?", context=[1, 2, 3]).continues,)
    assert generate(prompt="and?", context=[1, 2, 4]).continues not in answered.reply_ids
    assert "1,2,3" not in str(answered.reply_ids)
    assert generate(prompt="and?", context=[]).continues is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"prompt": "no model"}',
        b'{"messages": {}, "model": "m"}',
        b'{"messages": ["hi"]}',
        b'{"messages": [{"content": "x"}]}',
        b'{"model": "m", "context": ' + b"[" * 100 + b"]" * 100 + b"}",
    ],
)
def test_what_is_no_request_is_unreadable(body: bytes) -> None:
    with pytest.raises(UnreadableError):
        OLLAMA.read_request(body, RULES)


# --- replies ---


def test_a_reply_gives_answer_model_usage_and_finish() -> None:
    read = reply(
        model="m",
        message={"role": "assistant", "content": "Hi.", "thinking": "Hm.", "images": ["iVBORw0KGgo="]},
        done=True,
        done_reason="stop",
        prompt_eval_count=9,
        eval_count=7,
        eval_duration=123,
    )

    assert said(read.output[0].parts) == [
        ("reasoning", "assistant", {"text": "Hm."}),
        ("text", "assistant", {"text": "Hi."}),
        ("media", "assistant", PNG | {"mime": "image/*"}),
    ]
    assert (read.model, read.usage, read.finish) == (
        "m",
        {"prompt_eval_count": 9, "eval_count": 7},
        ("stop",),
    )
    assert (read.finished, read.failed, read.streamed, read.output[0].choice) == (True, False, False, 0)


def test_generate_may_answer_with_an_image() -> None:
    assert said(reply(model="m", image="iVBORw0KGgo=", done=True).output[0].parts) == [
        ("media", "assistant", PNG | {"mime": "image/*"})
    ]


@pytest.mark.parametrize(
    "status, body, code",
    [
        (404, b'{"error": "model \'x\' not found"}', "http_404"),
        (500, b"<html>", "http_500"),
        (200, b'{"error": "something about Ana"}', "error"),
    ],
)
def test_an_error_is_a_failed_reply_without_its_message(status: int, body: bytes, code: str) -> None:
    read = OLLAMA.read_reply(status, "application/json", body, RULES)

    assert (read.failed, read.finished, read.output, read.finish) == (True, False, (), (code,))


def test_an_empty_body_is_an_answer_that_never_came() -> None:
    assert not OLLAMA.read_reply(200, "application/json", b"", RULES).finished
    read = OLLAMA.read_reply(200, LINES, b"", RULES)
    assert (read.output, read.streamed, read.finished) == ((), True, False)


@pytest.mark.parametrize(
    "content_type, body",
    [
        ("application/json", b"not json"),
        ("application/json", b'{"mess'),
        ("application/json", b'{"id": "x"}'),
        (LINES, b"<html>"),
        (LINES, b"<html>\n"),
        (LINES, b'{"a": 1}\n'),
        (LINES, b'{"message": 1}\n'),
    ],
)
def test_what_is_no_reply_is_unreadable(content_type: str, body: bytes) -> None:
    with pytest.raises(UnreadableError):
        OLLAMA.read_reply(200, content_type, body, RULES)


# --- streams ---


def test_a_stream_gives_the_answer_whole() -> None:
    read = read_stream("ollama_text.ndjson")

    assert said(read.output[0].parts) == [
        ("reasoning", "assistant", {"text": "Let me think."}),
        ("text", "assistant", {"text": TEXT}),
    ]
    assert (read.model, read.finish, read.usage) == (
        "llama-test",
        ("stop",),
        {"prompt_eval_count": 9, "eval_count": 7},
    )
    assert (read.streamed, read.finished, read.failed) == (True, True, False)


def test_a_stream_is_known_by_its_lines_where_its_type_says_nothing() -> None:
    read = OLLAMA.read_reply(200, "", recorded("ollama_text.ndjson"), RULES)

    assert read == read_stream("ollama_text.ndjson")


def test_calls_of_tools_come_line_by_line() -> None:
    assert said(read_stream("ollama_tools.ndjson").output[0].parts) == [
        ("text", "assistant", {"text": "I look it up."}),
        ("tool_call", "assistant", {"id": "", "name": "weather", "arguments": '{"city":"Nîmes"}'}),
        ("tool_call", "assistant", {"id": "", "name": "mcp__drive__search", "arguments": '{"q":"été"}'}),
    ]


def test_generate_streams_its_response() -> None:
    read = read_stream("ollama_generate.ndjson")

    assert (text_of(read.output[0]), read.finished) == ("Bonjour 👋", True)


def test_an_error_ends_a_stream_and_keeps_what_came_before() -> None:
    read = read_stream("ollama_error.ndjson")

    assert (text_of(read.output[0]), read.finish, read.failed, read.finished) == (
        "Half",
        ("error",),
        True,
        False,
    )


def test_nothing_is_read_after_an_error() -> None:
    read = stream({"message": {"content": "a"}}, {"error": "x"}, {"message": {"content": "b"}, "done": True})

    assert (text_of(read.output[0]), read.failed) == ("a", True)


@pytest.mark.parametrize("name", ["ollama_text.ndjson", "ollama_tools.ndjson"])
def test_an_answer_is_known_when_it_is_sent_back(name: str) -> None:
    lines = [json.loads(line) for line in recorded(name).splitlines()]
    message = {
        "role": "assistant",
        "content": "".join(line["message"]["content"] for line in lines),
        "tool_calls": [call for line in lines for call in line["message"].get("tool_calls", [])],
    }
    question = {"role": "user", "content": "q"}
    (position,) = Path(request(question, message, {"role": "user", "content": "next"}).messages).positions(
        bytes
    )

    assert position.head == Path(request(question).messages).heads(read_stream(name).output, bytes)[0]
    assert position.head == Path(request(question).messages).heads(reply(message=message).output, bytes)[0]
