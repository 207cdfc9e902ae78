"""OpenAI chat completions, as bytes in and messages out."""

import base64
import hashlib
import json
from typing import Any

import pytest

from chatproxy.errors import UnreadableError
from chatproxy.model import Message
from chatproxy.wire.base import OriginRules
from unit.wire.bodies import (
    OPENAI,
    PNG,
    RULES,
    chunk,
    openai_reply,
    openai_request,
    openai_stream,
    recorded,
    said,
    streamed,
    text_of,
)

PNG_URL = "data:image/png;base64,iVBORw0KGgo="


def read_stream(name: str) -> Any:
    return OPENAI.read_reply(200, "text/event-stream", recorded(name), RULES)


# --- requests ---


def test_a_request_gives_its_messages_with_the_origin_of_each_part() -> None:
    request = OPENAI.read_request(recorded("openai_request.json"), RULES)

    assert request.model == "gpt-test"
    assert request.conversation is None
    assert request.new_from == 3
    assert [(message.role, said(message.parts)) for message in request.messages] == [
        ("system", [("text", "system", {"text": "Be brief."})]),
        ("user", [("text", "typed", {"text": "Weather in Nîmes, and my notes on summer?"})]),
        (
            "assistant",
            [
                (
                    "tool_call",
                    "assistant",
                    {"id": "call_a", "name": "weather", "arguments": '{"city": "Nîmes"}'},
                ),
                (
                    "tool_call",
                    "assistant",
                    {"id": "call_b", "name": "mcp__drive__search", "arguments": '{"q": "été"}'},
                ),
            ],
        ),
        ("tool", [("tool_result", "tool_result", {"id": "call_a", "text": "31 °C"})]),
        ("tool", [("tool_result", "connector_raw", {"id": "call_b", "text": "notes.txt: buy ice"})]),
        ("user", [("text", "typed", {"text": "And this?"}), ("media", "upload", PNG)]),
    ]


@pytest.mark.parametrize(
    "part, expected",
    [
        pytest.param("plain", ("text", "typed", {"text": "plain"}), id="text as it is"),
        pytest.param({"type": "text", "text": "t"}, ("text", "typed", {"text": "t"}), id="text"),
        pytest.param(
            {"type": "image_url", "image_url": PNG_URL}, ("media", "upload", PNG), id="image as text"
        ),
        pytest.param(
            {"type": "image_url", "image_url": {"url": PNG_URL}}, ("media", "upload", PNG), id="image"
        ),
        pytest.param(
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
            (
                "media",
                "upload",
                {"mime": "audio/wav", "bytes": 3, "sha256": hashlib.sha256(bytes(3)).hexdigest()},
            ),
            id="audio",
        ),
        pytest.param(
            {"type": "file", "file": {"filename": "a.png", "file_data": PNG_URL}},
            ("media", "upload", PNG),
            id="file",
        ),
        pytest.param(
            {"type": "file", "file": {"file_data": "iVBORw0KGgo="}},
            ("media", "upload", PNG | {"mime": "application/octet-stream"}),
            id="file in bare base64",
        ),
        pytest.param(
            {"type": "file", "file": {"file_id": "file-1"}},
            ("media", "upload", {"mime": "", "file_id": "file-1"}),
            id="file by id",
        ),
        pytest.param(
            {"type": "hologram", "depth": 3},
            ("other", "typed", {"type": "hologram", "depth": 3}),
            id="unknown",
        ),
        pytest.param(
            {"type": "text", "text": 5}, ("other", "typed", {"type": "text", "text": 5}), id="misused"
        ),
        pytest.param(
            {"type": "caption", "text": "x"},
            ("other", "typed", {"type": "caption", "text": "x"}),
            id="other text",
        ),
        pytest.param(7, ("other", "typed", {"value": 7}), id="no object"),
    ],
)
def test_a_part_of_content_is_read(part: object, expected: tuple[str, str, dict[str, Any]]) -> None:
    request = openai_request({"role": "user", "content": [part]})

    assert said(request.messages[0].parts) == [expected]


def test_the_content_of_an_image_is_nowhere_in_what_is_read() -> None:
    request = OPENAI.read_request(recorded("openai_request.json"), RULES)

    assert "iVBORw0KGgo" not in str([said(message.parts) for message in request.messages])


@pytest.mark.parametrize("content", [None, "", []])
def test_a_message_without_content_has_no_parts(content: object) -> None:
    assert openai_request({"role": "user", "content": content}).messages == (Message("user", ()),)


def test_a_refusal_sent_back_as_a_part_is_one() -> None:
    message = {"role": "assistant", "content": [{"type": "refusal", "refusal": "I can't."}]}

    assert said(openai_request(message).messages[0].parts) == [("refusal", "assistant", {"text": "I can't."})]


def test_content_of_an_odd_type_is_kept() -> None:
    assert said(openai_request({"role": "user", "content": {"a": 1}}).messages[0].parts) == [
        ("other", "typed", {"a": 1})
    ]


def test_developer_messages_are_instructions() -> None:
    assert said(openai_request({"role": "developer", "content": "d"}).messages[0].parts) == [
        ("text", "system", {"text": "d"})
    ]


def test_a_legacy_function_call_and_its_result_are_a_tool_call_and_its_result() -> None:
    request = openai_request(
        {"role": "assistant", "content": None, "function_call": {"name": "drive", "arguments": "{}"}},
        {"role": "function", "name": "drive", "content": "found"},
        rules=OriginRules(connector_tools=("drive",)),
    )

    assert said(request.messages[0].parts) == [
        ("tool_call", "assistant", {"id": "", "name": "drive", "arguments": "{}"})
    ]
    assert said(request.messages[1].parts) == [("tool_result", "connector_raw", {"id": "", "text": "found"})]


def test_calls_of_custom_tools_and_arguments_as_objects_are_text() -> None:
    request = openai_request(
        {
            "role": "assistant",
            "tool_calls": [
                {"id": "1", "type": "custom", "custom": {"name": "sh", "input": "ls -l"}},
                {"id": "2", "function": {"name": "f", "arguments": {"a": "é"}}},
                {"id": "3"},
            ],
        }
    )

    assert [part.body["arguments"] for part in request.messages[0].parts] == ["ls -l", '{"a":"é"}', ""]


def test_results_of_several_blocks_keep_them_without_media_content() -> None:
    content = [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": PNG_URL}}]
    request = openai_request({"role": "tool", "tool_call_id": "x", "content": content})

    assert request.messages[0].parts[0].body == {
        "id": "x",
        "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": PNG}}],
    }


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": "42", "reasoning_content": "Hm."},
        {"role": "assistant", "content": "42", "reasoning": "Hm."},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
                {"type": "text", "text": "42"},
            ],
        },
    ],
)
def test_reasoning_is_apart_from_the_answer(message: dict[str, Any]) -> None:
    expected = [("reasoning", "assistant", {"text": "Hm."}), ("text", "assistant", {"text": "42"})]

    assert said(openai_request(message).messages[0].parts) == expected
    assert said(openai_reply(message).output[0].parts) == expected


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"messages": {}}',
        b'{"messages": ["hi"]}',
        b'{"messages": [{"content": "no role"}]}',
        b'{"messages": [{"role": 1}]}',
        b'\xef\xbb\xbf{"messages": []}',
        '{"messages": []}'.encode("utf-16"),
        b'{"messages": [{"role": "user", "content": "\xff"}]}',
        b'{"messages": [{"role": "user", "content": [' + b'{"a":' * 100 + b"1" + b"}" * 100 + b"]}]}",
    ],
)
def test_what_is_no_chat_request_is_unreadable(body: bytes) -> None:
    with pytest.raises(UnreadableError):
        OPENAI.read_request(body, RULES)


# --- whole replies ---


def test_a_reply_gives_answer_model_usage_and_finish() -> None:
    reply = OPENAI.read_reply(200, "application/json", recorded("openai_reply.json"), RULES)

    assert said(reply.output[0].parts) == [("text", "assistant", {"text": "Bonjour 👋"})]
    assert reply.output[0].choice == 0
    assert reply.model == "gpt-test"
    assert reply.usage == {"prompt_tokens": 9, "completion_tokens": 7, "total_tokens": 16}
    assert reply.finish == ("stop",)
    assert (reply.finished, reply.failed, reply.streamed) == (True, False, False)


def test_choices_of_a_reply_are_apart_and_in_order() -> None:
    choices = [
        {"index": 1, "message": {"content": "b"}, "finish_reason": "length"},
        {"index": 0, "message": {"content": "a"}, "finish_reason": "stop"},
        {"index": 2, "message": {"content": None}, "finish_reason": "stop"},
    ]
    reply = OPENAI.read_reply(200, "application/json", json.dumps({"choices": choices}).encode(), RULES)

    assert [(message.choice, text_of(message)) for message in reply.output] == [(0, "a"), (1, "b")]


@pytest.mark.parametrize("index", [None, "1", True, 1.5], ids=repr)
def test_a_choice_without_a_number_has_that_of_its_place(index: object) -> None:
    choices = [{"index": index, "message": {"content": "a"}}]
    reply = OPENAI.read_reply(200, "application/json", json.dumps({"choices": choices}).encode(), RULES)

    assert reply.output[0].choice == 0


@pytest.mark.parametrize("nothing", [None, "", [], 1, "?"], ids=repr)
@pytest.mark.parametrize("member", ["audio", "function_call", "images", "tool_calls"])
def test_a_member_of_an_answer_that_is_nothing_of_its_kind_says_nothing(member: str, nothing: object) -> None:
    reply = openai_reply({"content": "a", member: nothing})

    assert said(reply.output[0].parts) == [("text", "assistant", {"text": "a"})]


@pytest.mark.parametrize("member", ["reasoning", "reasoning_content", "refusal"])
def test_a_text_of_an_answer_that_is_no_text_says_nothing(member: str) -> None:
    reply = openai_reply({"content": "a", member: None})

    assert said(reply.output[0].parts) == [("text", "assistant", {"text": "a"})]


def test_a_refusal_audio_and_images_of_a_reply_are_kept_apart() -> None:
    reply = openai_reply(
        {
            "content": None,
            "refusal": "I can't.",
            "images": [{"type": "image_url", "image_url": {"url": PNG_URL}}],
            "audio": {"id": "audio_1", "data": "AAAA", "transcript": "Hello."},
        }
    )

    assert said(reply.output[0].parts) == [
        ("refusal", "assistant", {"text": "I can't."}),
        ("media", "assistant", PNG),
        (
            "media",
            "assistant",
            {"mime": "audio/*", "bytes": 3, "sha256": hashlib.sha256(bytes(3)).hexdigest()},
        ),
        ("text", "assistant", {"text": "Hello.", "audio_id": "audio_1"}),
    ]


@pytest.mark.parametrize(
    "status, body, code",
    [
        (
            429,
            b'{"error": {"message": "m", "type": "requests", "code": "rate_limit_exceeded"}}',
            "rate_limit_exceeded",
        ),
        (
            400,
            b'{"error": {"message": "m", "type": "invalid_request_error", "code": null}}',
            "invalid_request_error",
        ),
        (
            400,
            b'{"object": "error", "message": "m", "type": "BadRequestError", "code": 400}',
            "BadRequestError",
        ),
        (422, b'{"detail": []}', "http_422"),
        (500, b'{"error": "overloaded"}', "http_500"),
        (502, b"<html>Bad Gateway</html>", "http_502"),
        (503, b"", "http_503"),
        (200, b'{"error": {"message": "m", "code": "quota"}}', "quota"),
        (200, b'{"error": "out of memory"}', "error"),
    ],
)
def test_an_error_is_a_failed_reply_and_keeps_only_its_code(status: int, body: bytes, code: str) -> None:
    reply = OPENAI.read_reply(status, "application/json", body, RULES)

    assert (reply.failed, reply.finished, reply.output, reply.finish) == (True, False, (), (code,))


def test_an_empty_body_is_an_answer_that_never_came() -> None:
    reply = OPENAI.read_reply(200, "application/json", b"", RULES)

    assert (reply.output, reply.finished, reply.failed) == ((), False, False)


@pytest.mark.parametrize(
    "content_type, body",
    [
        ("application/json", b"not json"),
        ("application/json", b'{"choices": [{"mess'),
        ("application/json", b'{"id": "x"}'),
        ("application/json", b"[]"),
        ("text/event-stream", b"<html>\n\n"),
        ("text/event-stream", b"data: <html>\n\n"),
        ("text/event-stream", b'data: {"a": 1}\n\n'),
        ("text/event-stream", b'data: {"choices": 1}\n\n'),
        ("text/event-stream", b'data: {"choices": [{"index": "0"}]}\n\n'),
    ],
)
def test_what_is_no_chat_reply_is_unreadable(content_type: str, body: bytes) -> None:
    with pytest.raises(UnreadableError):
        OPENAI.read_reply(200, content_type, body, RULES)


# --- streams ---


def test_a_stream_gives_the_answer_whole() -> None:
    reply = read_stream("openai_text.sse")

    assert [text_of(message) for message in reply.output] == [
        'Bonjour 👋, ça va\u00a0? {"a":1}\ndata: [DONE]\n\n',
    ]
    assert reply.model == "gpt-test"
    assert reply.usage["prompt_tokens_details.cached_tokens"] == 3
    assert reply.finish == ("stop",)
    assert (reply.streamed, reply.finished, reply.failed) == (True, True, False)


def test_choices_of_a_stream_are_apart() -> None:
    reply = read_stream("openai_two_choices.sse")

    assert [(message.choice, text_of(message)) for message in reply.output] == [(0, "Yes!"), (1, "Nope")]
    assert reply.finish == ("stop", "length")


def test_parallel_calls_are_assembled_by_index() -> None:
    reply = read_stream("openai_tools.sse")

    assert said(reply.output[0].parts) == [
        ("tool_call", "assistant", {"id": "call_a", "name": "weather", "arguments": '{"city": "Nîmes"}'}),
        (
            "tool_call",
            "assistant",
            {"id": "call_b", "name": "mcp__drive__search", "arguments": '{"q": "été"}'},
        ),
    ]


def test_calls_without_an_index_begin_with_their_id() -> None:
    reply = openai_stream(
        chunk({"tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{"}}]}),
        chunk({"tool_calls": [{"function": {"arguments": "}"}}]}),
        chunk({"tool_calls": [{"id": "2", "index": None, "function": {"name": "g", "arguments": {"a": 1}}}]}),
        chunk({"tool_calls": [{"id": "3", "custom": {"name": "h", "input": "free"}}]}, "tool_calls"),
    )

    assert [tuple(part.body.values()) for part in reply.output[0].parts] == [
        ("1", "f", "{}"),
        ("2", "g", '{"a":1}'),
        ("3", "h", "free"),
    ]


def test_calls_are_in_the_order_of_their_indexes() -> None:
    reply = openai_stream(
        chunk({"tool_calls": [{"index": 7, "id": "b"}, {"index": 2, "id": "a"}]}),
        chunk({"tool_calls": [{"id": "c"}]}),
    )

    assert [part.body["id"] for part in reply.output[0].parts] == ["a", "b", "c"]


def test_broken_arguments_are_kept_as_text() -> None:
    reply = openai_stream(
        chunk({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": '{"a": '}}]})
    )

    assert reply.output[0].parts[0].body["arguments"] == '{"a": '


def test_a_legacy_function_call_is_assembled() -> None:
    reply = openai_stream(
        chunk({"function_call": {"name": "f", "arguments": '{"a"'}}),
        chunk({"function_call": {"arguments": ": 1}"}}, "function_call"),
    )

    assert said(reply.output[0].parts) == [
        ("tool_call", "assistant", {"id": "", "name": "f", "arguments": '{"a": 1}'})
    ]


def test_reasoning_deltas_are_apart_and_no_done_is_needed() -> None:
    reply = read_stream("openai_reasoning.sse")

    assert said(reply.output[0].parts) == [
        ("reasoning", "assistant", {"text": "Let me think."}),
        ("text", "assistant", {"text": "42"}),
    ]
    assert reply.finished


def test_reasoning_under_both_names_is_kept_once() -> None:
    reply = openai_stream(
        chunk({"reasoning_content": "Hm.", "reasoning": "Hm."}), chunk({"reasoning": " So."})
    )

    assert said(reply.output[0].parts) == [("reasoning", "assistant", {"text": "Hm. So."})]


def test_content_in_parts_is_joined_to_the_answer() -> None:
    reply = openai_stream(
        chunk({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}]}),
        chunk({"content": [{"type": "text", "text": "4"}]}),
        chunk({"content": "2"}),
        chunk({"content": [{"type": "reference", "ids": [1]}]}),
    )

    assert said(reply.output[0].parts) == [
        ("reasoning", "assistant", {"text": "Hm."}),
        ("text", "assistant", {"text": "42"}),
        ("other", "assistant", {"type": "reference", "ids": [1]}),
    ]


def test_refusal_audio_and_image_deltas_are_kept_apart() -> None:
    sound = [base64.b64encode(piece).decode() for piece in (b"ab", b"c")]
    reply = openai_stream(
        chunk({"refusal": "I "}),
        chunk({"refusal": "can't."}),
        chunk({"audio": {"id": "audio_1", "transcript": "Hel"}}),
        chunk({"audio": {"data": sound[0], "transcript": "lo."}}),
        chunk({"audio": {"data": sound[1], "expires_at": 1}}),
        chunk({"images": [{"type": "image_url", "image_url": {"url": PNG_URL}}]}),
        chunk({"audio": "misused", "tool_calls": "misused", "images": "misused"}, "stop"),
    )

    assert said(reply.output[0].parts) == [
        ("refusal", "assistant", {"text": "I can't."}),
        ("media", "assistant", PNG),
        ("media", "assistant", {"mime": "audio/*", "bytes": 3, "sha256": hashlib.sha256(b"abc").hexdigest()}),
        ("text", "assistant", {"text": "Hello.", "audio_id": "audio_1"}),
    ]


def test_a_stream_equals_the_reply_it_is_the_stream_of() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    whole = openai_reply(
        {"content": "text", "reasoning_content": "why", "refusal": "no", "tool_calls": [call]}
    )
    reply = openai_stream(
        chunk({"reasoning_content": "why"}),
        chunk({"content": "te"}),
        chunk({"tool_calls": [{**call, "index": 0}]}),
        chunk({"content": "xt", "refusal": "no"}, "stop"),
    )

    assert reply.output == whole.output


def test_what_follows_done_is_not_read() -> None:
    reply = openai_stream(chunk({"content": "a"}), "[DONE]", "[DONE]", chunk({"content": "b"}), "no json")

    assert text_of(reply.output[0]) == "a"
    assert reply.finished


@pytest.mark.parametrize(
    "events, finished",
    [
        pytest.param([chunk({"content": "a"})], False, id="nothing said of an end"),
        pytest.param([chunk({"content": "a"}, "stop")], True, id="finish reason"),
        pytest.param([chunk({"content": "a"}), "[DONE]"], True, id="DONE alone"),
        pytest.param(
            [chunk({"content": "a"}, "stop"), chunk({"content": "b"}, index=1)], False, id="one choice of two"
        ),
        pytest.param(["[DONE]"], True, id="nothing but DONE"),
        pytest.param([], False, id="nothing at all"),
    ],
)
def test_a_stream_is_finished_by_its_own_end(events: list[Any], finished: bool) -> None:
    assert openai_stream(*events).finished is finished


def test_an_error_event_ends_the_stream_and_keeps_what_came_before() -> None:
    reply = read_stream("openai_error.sse")

    assert text_of(reply.output[0]) == "Half an ans"
    assert (reply.failed, reply.finished, reply.finish) == (True, False, ("overloaded",))


@pytest.mark.parametrize(
    "event, code",
    [
        (
            {"error": {"message": "m", "code": 502}, "choices": [{"index": 0, "delta": {"content": ""}}]},
            "error",
        ),
        (
            {"object": "error", "message": "m", "type": "InternalServerError", "code": 500},
            "InternalServerError",
        ),
        ({"error": "text"}, "error"),
    ],
)
def test_an_error_event_is_known_in_each_shape(event: dict[str, Any], code: str) -> None:
    reply = openai_stream(chunk({"content": "a"}), event, chunk({"content": "b"}))

    assert (reply.failed, reply.finish, text_of(reply.output[0])) == (True, (code,), "a")


def test_empty_events_comments_and_unknown_events_do_no_harm() -> None:
    body = b": ping\n\ndata:\n\n" + streamed(
        {"object": "x.y"},
        {"choices": []},
        {"choices": [{"content_filter_results": {}}]},
        chunk({"content": "a"}, "stop"),
    )
    reply = OPENAI.read_reply(200, "text/event-stream", body, RULES)

    assert text_of(reply.output[0]) == "a"


def test_a_stream_is_read_under_a_missing_type() -> None:
    reply = OPENAI.read_reply(200, "", recorded("openai_text.sse"), RULES)

    assert reply.streamed


def test_json_is_read_under_the_type_of_a_stream() -> None:
    reply = OPENAI.read_reply(200, "text/event-stream", recorded("openai_reply.json"), RULES)

    assert text_of(reply.output[0]) == "Bonjour 👋"


def test_usage_alone_is_part_of_a_stream() -> None:
    assert openai_stream({"usage": {"total_tokens": 3, "cost": 0.1, "free": True, "minus": -1}}).usage == {
        "total_tokens": 3
    }
