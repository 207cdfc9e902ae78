"""Anthropic messages, as bytes in and messages out."""

import hashlib
import json
from typing import Any

import pytest

from chatproxy.errors import UnreadableError
from chatproxy.wire.base import ChatReply, OriginRules
from unit.wire.bodies import (
    ANTHROPIC,
    PNG,
    RULES,
    anthropic_reply,
    anthropic_request,
    anthropic_stream,
    recorded,
    said,
    text_of,
)

IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}


def read_stream(name: str) -> ChatReply:
    return ANTHROPIC.read_reply(200, "text/event-stream", recorded(name), RULES)


def delta(kind: str, index: int = 0, **more: object) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **more}}


def start(block: dict[str, Any], index: int = 0) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


# --- requests ---


def test_a_request_gives_its_messages_with_the_origin_of_each_part() -> None:
    request = ANTHROPIC.read_request(recorded("anthropic_request.json"), RULES)

    assert request.model == "claude-test"
    assert request.new_from == 3
    assert [(message.role, said(message.parts)) for message in request.messages] == [
        ("system", [("text", "system", {"text": "Be brief."})]),
        ("user", [("text", "typed", {"text": "Weather in Nîmes, and my notes?"})]),
        (
            "assistant",
            [
                ("reasoning", "assistant", {"text": "I should look."}),
                ("text", "assistant", {"text": "I look it up."}),
                (
                    "tool_call",
                    "assistant",
                    {"id": "toolu_1", "name": "weather", "arguments": '{"city":"Nîmes"}'},
                ),
                (
                    "tool_call",
                    "assistant",
                    {"id": "toolu_2", "name": "mcp__drive__search", "arguments": '{"q":"notes"}'},
                ),
            ],
        ),
        (
            "user",
            [
                ("tool_result", "tool_result", {"id": "toolu_1", "text": "31 °C"}),
                (
                    "tool_result",
                    "connector_raw",
                    {
                        "id": "toolu_2",
                        "content": [{"type": "text", "text": "notes.txt"}, {"type": "media", **PNG}],
                    },
                ),
                ("text", "typed", {"text": "And this?"}),
                (
                    "media",
                    "upload",
                    {"mime": "text/plain", "bytes": 11, "sha256": hashlib.sha256(b"a long text").hexdigest()},
                ),
            ],
        ),
    ]


@pytest.mark.parametrize(
    "block, expected",
    [
        pytest.param({"type": "text", "text": "t"}, ("text", "typed", {"text": "t"}), id="text"),
        pytest.param("t", ("text", "typed", {"text": "t"}), id="text as it is"),
        pytest.param(IMAGE, ("media", "upload", PNG), id="image"),
        pytest.param(
            {"type": "image", "source": {"type": "url", "url": "https://example.org/"}},
            (
                "media",
                "upload",
                {"mime": "image/*", "url_sha256": hashlib.sha256(b"https://example.org/").hexdigest()},
            ),
            id="image by URL",
        ),
        pytest.param(
            {"type": "document", "source": {"type": "file", "file_id": "file_1"}},
            ("media", "upload", {"mime": "application/octet-stream", "file_id": "file_1"}),
            id="document by id",
        ),
        pytest.param(
            {"type": "document", "source": {"type": "cloud", "path": "x"}},
            (
                "media",
                "upload",
                {"mime": "application/octet-stream", "source": {"type": "cloud", "path": "x"}},
            ),
            id="document from elsewhere",
        ),
        pytest.param(
            {"type": "container_upload", "file_id": "file_1"},
            ("media", "upload", {"mime": "", "file_id": "file_1"}),
            id="upload",
        ),
        pytest.param(
            {"type": "search_result", "source": "s", "title": "t", "content": []},
            ("other", "tool_result", {"type": "search_result", "source": "s", "title": "t", "content": []}),
            id="search result",
        ),
        pytest.param(
            {"type": "hologram", "cache_control": {}, "depth": 1},
            ("other", "typed", {"type": "hologram", "depth": 1}),
            id="unknown",
        ),
        pytest.param({"type": "text"}, ("other", "typed", {"type": "text"}), id="misused"),
        pytest.param(7, ("other", "typed", {"value": 7}), id="no object"),
    ],
)
def test_a_block_is_read(block: object, expected: tuple[str, str, dict[str, Any]]) -> None:
    request = anthropic_request({"role": "user", "content": [block]})

    assert said(request.messages[0].parts) == [expected]


def test_a_document_in_blocks_gives_uploads() -> None:
    blocks = [{"type": "text", "text": "chapter"}, IMAGE, {"type": "x"}]
    document = {"type": "document", "source": {"type": "content", "content": blocks}}
    plain = {"type": "document", "source": {"type": "content", "content": "all of it"}}
    request = anthropic_request({"role": "user", "content": [document, plain]})

    assert said(request.messages[0].parts) == [
        ("text", "upload", {"text": "chapter"}),
        ("media", "upload", PNG),
        ("other", "upload", {"type": "x"}),
        ("text", "upload", {"text": "all of it"}),
    ]


@pytest.mark.parametrize("system", ["Be brief.", [{"type": "text", "text": "Be brief."}]])
def test_system_is_the_first_message(system: object) -> None:
    request = anthropic_request({"role": "user", "content": "hi"}, system=system)

    assert [message.role for message in request.messages] == ["system", "user"]
    assert said(request.messages[0].parts) == [("text", "system", {"text": "Be brief."})]
    assert request.new_from == 0


@pytest.mark.parametrize("system", [None, "", []])
def test_no_system_is_no_message(system: object) -> None:
    assert [message.role for message in anthropic_request({"role": "user"}, system=system).messages] == [
        "user"
    ]


def test_a_prefill_is_new_input() -> None:
    request = anthropic_request(
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
        {"role": "assistant", "content": "{"},
    )

    assert request.new_from == 2


@pytest.mark.parametrize(
    "kind, ident, rules, origin",
    [
        ("mcp_tool_result", "1", OriginRules(connector_tools=()), "connector_raw"),
        ("tool_result", "1", OriginRules(), "tool_result"),
        ("tool_result", "1", OriginRules(connector_tools=("read",)), "connector_raw"),
        ("tool_result", "lost", OriginRules(), "connector_raw"),
        ("web_search_tool_result", "lost", OriginRules(), "tool_result"),
        ("web_search_tool_result", "lost", OriginRules(connector_tools=("web_search",)), "connector_raw"),
    ],
)
def test_a_result_has_the_origin_of_its_tool(kind: str, ident: str, rules: OriginRules, origin: str) -> None:
    request = anthropic_request(
        {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "read", "input": {}}]},
        {"role": "user", "content": [{"type": kind, "tool_use_id": ident, "content": "file"}]},
        rules=rules,
    )

    assert said(request.messages[1].parts) == [("tool_result", origin, {"id": ident, "text": "file"})]


@pytest.mark.parametrize(
    "content, expected",
    [
        ("text", {"text": "text"}),
        (None, {"text": ""}),
        ([], {"text": ""}),
        ([{"type": "text", "text": "t", "cache_control": {}}], {"text": "t"}),
        (
            [
                {"type": "text", "text": "t", "cache_control": {}},
                {"type": "tool_reference", "tool_name": "x"},
            ],
            {"content": [{"type": "text", "text": "t"}, {"type": "tool_reference", "tool_name": "x"}]},
        ),
        ({"type": "web_search_tool_result_error"}, {"content": {"type": "web_search_tool_result_error"}}),
        (5, {"content": 5}),
    ],
)
def test_the_content_of_a_result_is_read(content: object, expected: dict[str, Any]) -> None:
    block = {"type": "tool_result", "tool_use_id": "1", "is_error": True, "content": content}
    request = anthropic_request({"role": "user", "content": [block]})

    assert request.messages[0].parts[0].body == {"id": "1", "is_error": True, **expected}


def test_only_a_true_error_is_one() -> None:
    block = {"type": "tool_result", "tool_use_id": "1", "is_error": 1, "content": "t"}
    request = anthropic_request({"role": "user", "content": [block]})

    assert request.messages[0].parts[0].body == {"id": "1", "text": "t"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"messages": "hi"}',
        b'{"messages": [null]}',
        b'{"messages": [{"content": "no role"}]}',
        b'{"messages": [{"role": "user", "content": [' + b"[" * 100 + b"]" * 100 + b"]}]}",
        b'{"messages": [{"role": "assistant", "content": [{"type": "tool_use", "input": '
        + b"[" * 100
        + b"]" * 100
        + b"}]}]}",
    ],
)
def test_what_is_no_chat_request_is_unreadable(body: bytes) -> None:
    with pytest.raises(UnreadableError):
        ANTHROPIC.read_request(body, RULES)


# --- whole replies ---


def test_a_reply_gives_answer_model_usage_and_finish() -> None:
    reply = ANTHROPIC.read_reply(200, "application/json", recorded("anthropic_reply.json"), RULES)

    assert said(reply.output[0].parts) == [
        ("reasoning", "assistant", {"text": "Hm."}),
        ("text", "assistant", {"text": "Bonjour 👋"}),
    ]
    assert reply.output[0].choice == 0
    assert reply.model == "claude-test"
    assert reply.usage == {
        "input_tokens": 12,
        "output_tokens": 33,
        "cache_creation.ephemeral_5m_input_tokens": 0,
    }
    assert reply.finish == ("end_turn",)
    assert (reply.finished, reply.failed, reply.streamed) == (True, False, False)


@pytest.mark.parametrize(
    "status, body, code",
    [
        (
            529,
            b'{"type": "error", "error": {"type": "overloaded_error", "message": "m"}}',
            "overloaded_error",
        ),
        (200, b'{"type": "error", "error": {"type": "api_error", "message": "m"}}', "api_error"),
        (200, b'{"type": "error"}', "error"),
        (502, b"<html>", "http_502"),
    ],
)
def test_an_error_is_a_failed_reply_and_keeps_only_its_code(status: int, body: bytes, code: str) -> None:
    reply = ANTHROPIC.read_reply(status, "application/json", body, RULES)

    assert (reply.failed, reply.finished, reply.output, reply.finish) == (True, False, (), (code,))


def test_an_empty_body_is_an_answer_that_never_came() -> None:
    assert ANTHROPIC.read_reply(200, "", b"", RULES) == ChatReply(())


@pytest.mark.parametrize(
    "content_type, body",
    [
        ("application/json", b"not json"),
        ("application/json", b'{"content": "text"}'),
        ("application/json", b'{"content": [{"type'),
        ("text/event-stream", b"<html>\n\n"),
        ("text/event-stream", b"data: <html>\n\n"),
        ("text/event-stream", b'data: {"type": "response.created"}\n\n'),
        ("text/event-stream", b'data: {"type": "content_block_delta", "index": "x"}\n\n'),
    ],
)
def test_what_is_no_chat_reply_is_unreadable(content_type: str, body: bytes) -> None:
    with pytest.raises(UnreadableError):
        ANTHROPIC.read_reply(200, content_type, body, RULES)


# --- streams ---


def test_a_stream_gives_the_answer_whole() -> None:
    reply = read_stream("anthropic_text.sse")

    assert [text_of(message) for message in reply.output] == ["Bonjour 👋, ça va ?"]
    assert reply.model == "claude-test"
    assert reply.usage == {"input_tokens": 12, "cache_read_input_tokens": 3, "output_tokens": 33}
    assert reply.finish == ("end_turn",)
    assert (reply.streamed, reply.finished, reply.failed) == (True, True, False)


def test_thinking_text_and_calls_of_a_stream_are_apart() -> None:
    reply = read_stream("anthropic_tools.sse")

    assert said(reply.output[0].parts) == [
        ("reasoning", "assistant", {"text": "I should look."}),
        ("reasoning", "assistant", {"text": "", "redacted": True}),
        ("text", "assistant", {"text": "I look it up."}),
        (
            "tool_call",
            "assistant",
            {"id": "toolu_1", "name": "weather", "arguments": '{"city": "Nîmes", "days": 1.0}'},
        ),
        ("tool_call", "assistant", {"id": "toolu_2", "name": "now", "arguments": "{}"}),
    ]


def test_tools_that_the_backend_runs_are_part_of_the_answer_and_mcp_is_a_connector() -> None:
    reply = read_stream("anthropic_server_tools.sse")

    assert [(kind, origin) for kind, origin, _ in said(reply.output[0].parts)] == [
        ("tool_call", "assistant"),
        ("tool_result", "tool_result"),
        ("text", "assistant"),
        ("tool_call", "assistant"),
        ("tool_result", "connector_raw"),
    ]
    call, found, text, mcp_call, mcp_result = (part.body for part in reply.output[0].parts)
    assert call["arguments"] == '{"query": "Nîmes"}'
    assert found["content"][0]["title"] == "Nîmes"
    assert (text["text"], text["citations"][0]["cited_text"]) == ("It is warm.", "warm")
    assert mcp_call == {"id": "mcptoolu_1", "name": "read", "arguments": "{}", "server": "drive"}
    assert mcp_result == {"id": "mcptoolu_1", "text": "a private file"}


def test_a_tool_of_the_backend_is_a_connector_by_rule() -> None:
    rules = OriginRules(connector_tools=("web_*",))
    reply = ANTHROPIC.read_reply(200, "text/event-stream", recorded("anthropic_server_tools.sse"), rules)

    assert reply.output[0].parts[1].origin == "connector_raw"


def test_a_stream_equals_the_reply_it_is_the_stream_of() -> None:
    blocks = [
        {"type": "thinking", "thinking": "why", "signature": "s"},
        {"type": "text", "text": "because", "citations": None},
        {"type": "tool_use", "id": "1", "name": "f", "input": {"a": [1]}},
        {"type": "hologram", "depth": 3},
    ]
    reply = anthropic_stream(
        start({"type": "thinking", "thinking": "wh"}, 0),
        delta("thinking_delta", 0, thinking="y"),
        delta("signature_delta", 0, signature="s"),
        start({"type": "text", "text": ""}, 1),
        start({"type": "tool_use", "id": "1", "name": "f", "input": {}}, 5),
        delta("text_delta", 1, text="because"),
        delta("input_json_delta", 5, partial_json='{"a":'),
        delta("input_json_delta", 5, partial_json="[1]}"),
        start({"type": "hologram", "depth": 3}, 9),
    )

    assert reply.output == anthropic_reply(*blocks).output


def test_deltas_without_a_start_begin_a_block() -> None:
    reply = anthropic_stream(
        delta("thinking_delta", 3, thinking="Hm."),
        delta("text_delta", 7, text="Yes"),
        delta("input_json_delta", 9, partial_json='{"a'),
    )

    assert said(reply.output[0].parts) == [
        ("reasoning", "assistant", {"text": "Hm."}),
        ("text", "assistant", {"text": "Yes"}),
        ("tool_call", "assistant", {"id": "", "name": "", "arguments": '{"a'}),
    ]


def test_blocks_are_in_the_order_of_their_indexes() -> None:
    reply = anthropic_stream(delta("text_delta", 4, text="b"), delta("text_delta", 1, text="a"))

    assert text_of(reply.output[0]) == "ab"


def test_a_block_that_was_cut_before_its_first_word_says_nothing() -> None:
    assert anthropic_stream(start({"type": "text", "text": ""})).output == ()


def test_unknown_deltas_are_kept_as_they_came_but_for_signatures() -> None:
    reply = anthropic_stream(
        start({"type": "hologram"}),
        delta("light_delta", light=3),
        delta("signature_delta", signature="s"),
        delta("text_delta", text="x"),
    )

    assert said(reply.output[0].parts) == [
        (
            "other",
            "assistant",
            {"type": "hologram", "pieces": "x", "deltas": [{"type": "light_delta", "light": 3}]},
        )
    ]


def test_an_error_event_ends_the_stream_and_keeps_what_came_before() -> None:
    reply = read_stream("anthropic_error.sse")

    assert text_of(reply.output[0]) == "Half an ans"
    assert (reply.failed, reply.finished, reply.finish) == (True, False, ("overloaded_error",))


def test_an_error_event_is_known_without_its_type() -> None:
    reply = anthropic_stream(
        delta("text_delta", text="a"), {"error": "broken"}, delta("text_delta", text="b")
    )

    assert (text_of(reply.output[0]), reply.finish) == ("a", ("error",))


@pytest.mark.parametrize(
    "events, finished",
    [
        pytest.param([{"type": "ping"}] * 1000, False, id="a flood of pings"),
        pytest.param([delta("text_delta", text="a")], False, id="cut"),
        pytest.param(
            [delta("text_delta", text="a"), {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}],
            False,
            id="no message_stop",
        ),
        pytest.param([delta("text_delta", text="a"), {"type": "message_stop"}], True, id="message_stop"),
        pytest.param([{"type": "message_stop"}, "[DONE]"], True, id="DONE of a compatible backend"),
        pytest.param([], False, id="nothing"),
    ],
)
def test_a_stream_is_finished_by_message_stop(events: list[Any], finished: bool) -> None:
    assert anthropic_stream(*events).finished is finished


def test_unknown_events_do_no_harm() -> None:
    reply = anthropic_stream(
        {"type": "new_event", "x": [1]}, delta("text_delta", text="a"), {"type": "message_start"}
    )

    assert text_of(reply.output[0]) == "a"


def test_a_stream_of_a_stop_reason_without_delta_is_read() -> None:
    body = json.dumps({"type": "message_delta", "usage": {"output_tokens": 2}})

    assert anthropic_stream(body).usage == {"output_tokens": 2}
