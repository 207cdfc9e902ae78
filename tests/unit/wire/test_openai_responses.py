"""OpenAI responses, as bytes in and messages out."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from chatproxy.errors import UnreadableError
from chatproxy.history import Path
from chatproxy.wire.base import ChatReply, ChatRequest, OriginRules
from chatproxy.wire.openai_responses import OpenAIResponses
from unit.wire.bodies import PNG, RULES, recorded, said, streamed, text_of

RESPONSES = OpenAIResponses()
PNG_URL = "data:image/png;base64,iVBORw0KGgo="
TEXT = 'Bonjour 👋, ça va\u00a0? {"a":1}\ndata: [DONE]'


def request(*items: object, rules: OriginRules = RULES, **more: object) -> ChatRequest:
    return RESPONSES.read_request(json.dumps({"input": items, **more}).encode(), rules)


def read(body: Mapping[str, Any], rules: OriginRules = RULES) -> ChatReply:
    return RESPONSES.read_reply(200, "application/json", json.dumps(body).encode(), rules)


def reply(*items: object, rules: OriginRules = RULES, **more: object) -> ChatReply:
    return read({"id": "resp_1", "object": "response", "status": "completed", "output": items, **more}, rules)


def read_stream(name: str) -> ChatReply:
    return RESPONSES.read_reply(200, "text/event-stream", recorded(name), RULES)


def parts_of(item: object, rules: OriginRules = RULES) -> list[tuple[str, str, dict[str, Any]]]:
    output = reply(item, rules=rules).output
    return said(output[0].parts) if output else []


# --- requests ---


def test_a_request_gives_its_items_as_messages_with_the_origin_of_each_part() -> None:
    read = RESPONSES.read_request(recorded("responses_request.json"), RULES)

    assert read.model == "gpt-test"
    assert (read.conversation, read.continues, read.new_from) == (None, None, 5)
    assert [(message.role, said(message.parts)) for message in read.messages] == [
        ("system", [("text", "system", {"text": "Be brief."})]),
        ("user", [("text", "typed", {"text": "Weather in Nîmes, and my notes on summer?"})]),
        ("assistant", [("reasoning", "assistant", {"text": "Look."})]),
        (
            "assistant",
            [
                (
                    "tool_call",
                    "assistant",
                    {"id": "call_a", "name": "weather", "arguments": '{"city": "Nîmes"}'},
                )
            ],
        ),
        (
            "assistant",
            [
                (
                    "tool_call",
                    "assistant",
                    {"id": "call_b", "name": "mcp__drive__search", "arguments": '{"q": "été"}'},
                )
            ],
        ),
        ("tool", [("tool_result", "tool_result", {"id": "call_a", "text": "31 °C"})]),
        ("tool", [("tool_result", "connector_raw", {"id": "call_b", "text": "notes.txt: buy ice"})]),
        ("user", [("text", "typed", {"text": "And this?"}), ("media", "upload", PNG)]),
    ]


def test_input_may_be_text() -> None:
    read = RESPONSES.read_request(b'{"input": "hi"}', RULES)

    assert [(message.role, text_of(message)) for message in read.messages] == [("user", "hi")]


@pytest.mark.parametrize(
    "block, expected",
    [
        pytest.param({"type": "input_text", "text": "t"}, ("text", "typed", {"text": "t"}), id="text"),
        pytest.param("t", ("text", "typed", {"text": "t"}), id="text as it is"),
        pytest.param({"type": "input_image", "image_url": PNG_URL}, ("media", "upload", PNG), id="image"),
        pytest.param(
            {"type": "input_image", "file_id": "file-1"},
            ("media", "upload", {"mime": "image/*", "file_id": "file-1"}),
            id="image by id",
        ),
        pytest.param(
            {"type": "input_file", "filename": "a.png", "file_data": PNG_URL},
            ("media", "upload", PNG),
            id="file",
        ),
        pytest.param(
            {"type": "input_file", "file_data": "iVBORw0KGgo="},
            ("media", "upload", PNG | {"mime": "application/octet-stream"}),
            id="file in bare base64",
        ),
        pytest.param(
            {"type": "input_file", "file_id": "file-1"},
            ("media", "upload", {"mime": "", "file_id": "file-1"}),
            id="file by id",
        ),
        pytest.param(
            {"type": "input_file", "file_url": "data:image/png,%89PNG%0D%0A%1A%0A"},
            ("media", "upload", PNG),
            id="file by address",
        ),
        pytest.param(
            {"type": "input_audio", "input_audio": {"data": "iVBORw0KGgo=", "format": "wav"}},
            ("media", "upload", PNG | {"mime": "audio/wav"}),
            id="audio",
        ),
        pytest.param({"type": "hologram"}, ("other", "typed", {"type": "hologram"}), id="unknown"),
        pytest.param(7, ("other", "typed", {"value": 7}), id="no object"),
    ],
)
def test_a_block_of_a_message_is_read(block: object, expected: tuple[str, str, dict[str, Any]]) -> None:
    assert said(request({"role": "user", "content": [block]}).messages[0].parts) == [expected]


def test_instructions_and_a_stored_prompt_stand_before_the_input() -> None:
    read = request(
        {"role": "user", "content": "hi"},
        instructions="Be brief.",
        prompt={"id": "pmpt_1", "variables": {"name": "Ana"}},
    )

    assert [(message.role, said(message.parts)[0][:2]) for message in read.messages] == [
        ("system", ("text", "system")),
        ("developer", ("other", "typed")),
        ("user", ("text", "typed")),
    ]
    assert read.messages[1].parts[0].body["variables"] == {"name": "Ana"}


def test_a_stored_prompt_needs_no_input() -> None:
    assert len(RESPONSES.read_request(b'{"prompt": {"id": "pmpt_1"}}', RULES).messages) == 1


@pytest.mark.parametrize("conversation", ["conv_1", {"id": "conv_1"}])
def test_the_conversation_is_named_by_its_id(conversation: object) -> None:
    assert request({"role": "user", "content": "hi"}, conversation=conversation).conversation == "conv_1"


def test_a_request_that_continues_a_response_names_it_and_does_not_repeat_instructions() -> None:
    read = request({"role": "user", "content": "hi"}, previous_response_id="resp_1", instructions="Be brief.")

    assert (read.continues, read.new_from) == ("resp_1", 1)


def test_what_a_client_has_tools_answer_is_new() -> None:
    read = request(
        {"type": "function_call_output", "call_id": "c", "output": "31"}, previous_response_id="resp_1"
    )

    assert [message.role for message in read.messages[read.new_from :]] == ["tool"]


@pytest.mark.parametrize(
    "reference",
    [{"type": "item_reference", "id": "msg_2"}, {"id": "msg_2"}, {"type": None, "id": "msg_2"}],
)
def test_a_reference_to_an_item_is_an_answer_that_is_continued(reference: dict[str, Any]) -> None:
    read = request(
        {"role": "user", "content": "a"}, {"id": "msg_1"}, reference, {"role": "user", "content": "b"}
    )

    assert (read.continues, read.new_from) == ("msg_2", 3)
    assert [message.role for message in read.messages] == ["user", "assistant", "assistant", "user"]


def test_definitions_of_tools_are_no_messages() -> None:
    items = [
        {"type": "mcp_list_tools", "tools": [{"name": "secret"}]},
        {"type": "additional_tools", "role": "developer"},
    ]

    assert request(*items).messages == ()
    assert reply(*items).output == ()


def test_an_approval_is_the_persons() -> None:
    read = request({"type": "mcp_approval_response", "approval_request_id": "a", "approve": True})

    assert (read.messages[0].role, read.messages[0].parts[0].origin) == ("user", "typed")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"input": {}}',
        b'{"input": ["hi"]}',
        b'{"input": [{"content": "no role"}]}',
        b'{"input": [{"type": "message"}]}',
        b'{"input": [{"role": 1}]}',
        b'{"input": [{"type": "x", "a": ' + b"[" * 100 + b"]" * 100 + b"}]}",
    ],
)
def test_what_is_no_request_is_unreadable(body: bytes) -> None:
    with pytest.raises(UnreadableError):
        RESPONSES.read_request(body, RULES)


# --- items ---


@pytest.mark.parametrize(
    "item, expected",
    [
        pytest.param(
            {"type": "reasoning", "summary": [{"text": "A"}, {"text": "B"}], "content": [{"text": "C"}]},
            [("reasoning", "assistant", {"text": text}) for text in "ABC"],
            id="reasoning",
        ),
        pytest.param(
            {"type": "reasoning", "summary": [], "encrypted_content": "gAAA"},
            [("reasoning", "assistant", {"text": "", "redacted": True})],
            id="encrypted reasoning",
        ),
        pytest.param({"type": "reasoning", "id": "rs_1", "summary": []}, [], id="no reasoning"),
        pytest.param(
            {"type": "custom_tool_call", "call_id": "c", "name": "sh", "input": "ls"},
            [("tool_call", "assistant", {"id": "c", "name": "sh", "arguments": "ls"})],
            id="custom tool",
        ),
        pytest.param(
            {
                "type": "mcp_call",
                "id": "m",
                "name": "f",
                "server_label": "s",
                "arguments": "{}",
                "error": "no",
            },
            [
                ("tool_call", "assistant", {"id": "m", "name": "f", "arguments": "{}", "server": "s"}),
                ("tool_result", "connector_raw", {"id": "m", "text": "no", "is_error": True}),
            ],
            id="MCP call that failed",
        ),
        pytest.param(
            {"type": "web_search_call", "id": "w", "action": {"type": "search", "query": "é"}},
            [
                (
                    "tool_call",
                    "assistant",
                    {"id": "w", "name": "web_search", "arguments": '{"type":"search","query":"é"}'},
                )
            ],
            id="web search",
        ),
        pytest.param(
            {"type": "file_search_call", "id": "f", "queries": ["q"], "results": [{"text": "found"}]},
            [
                ("tool_call", "assistant", {"id": "f", "name": "file_search", "arguments": '["q"]'}),
                ("tool_result", "connector_raw", {"id": "f", "content": [{"text": "found"}]}),
            ],
            id="file search",
        ),
        pytest.param(
            {
                "type": "code_interpreter_call",
                "id": "c",
                "code": "1+1",
                "outputs": [{"type": "logs", "logs": "2"}],
            },
            [
                ("tool_call", "assistant", {"id": "c", "name": "code_interpreter", "arguments": "1+1"}),
                ("tool_result", "tool_result", {"id": "c", "content": [{"type": "logs", "logs": "2"}]}),
            ],
            id="code interpreter",
        ),
        pytest.param(
            {"type": "computer_call", "call_id": "c", "actions": [{"type": "wait"}]},
            [("tool_call", "assistant", {"id": "c", "name": "computer", "arguments": '[{"type":"wait"}]'})],
            id="computer",
        ),
        pytest.param(
            {"type": "image_generation_call", "id": "i", "result": "iVBORw0KGgo=", "output_format": "png"},
            [
                ("tool_call", "assistant", {"id": "i", "name": "image_generation", "arguments": ""}),
                ("media", "assistant", PNG),
            ],
            id="image",
        ),
        pytest.param(
            {"type": "shell_call_output", "id": "s", "call_id": "c", "output": [{"stdout": "x"}]},
            [("tool_result", "tool_result", {"id": "c", "content": [{"stdout": "x"}]})],
            id="what the backend's shell said",
        ),
        pytest.param(
            {"type": "compaction", "encrypted_content": "gAAA"},
            [("other", "assistant", {"type": "compaction"})],
            id="compaction",
        ),
        pytest.param(
            {"type": "mcp_approval_request", "id": "a", "name": "f", "status": "x"},
            [("other", "assistant", {"type": "mcp_approval_request", "name": "f"})],
            id="another item",
        ),
        pytest.param(
            {
                "type": "message",
                "role": "assistant",
                "content": [
                    {
                        "type": "output_text",
                        "text": "t",
                        "annotations": [{"type": "url_citation", "title": "T"}],
                    },
                    {"type": "refusal", "refusal": "no"},
                    {"type": "output_audio", "data": "iVBORw0KGgo=", "transcript": "Hi."},
                ],
            },
            [
                ("text", "assistant", {"text": "t", "citations": [{"type": "url_citation", "title": "T"}]}),
                ("refusal", "assistant", {"text": "no"}),
                ("media", "assistant", PNG | {"mime": "audio/*"}),
                ("text", "assistant", {"text": "Hi."}),
            ],
            id="message",
        ),
    ],
)
def test_an_item_of_the_output_is_read(item: dict[str, Any], expected: list[Any]) -> None:
    assert parts_of(item) == expected


def test_rules_for_connectors_hold_for_tools_of_the_backend() -> None:
    item = {"type": "file_search_call", "id": "f", "results": []}

    assert parts_of(item, OriginRules(("file_*",), block_origins=()))[1][1] == "connector_raw"
    assert parts_of(item, OriginRules(("mcp__*",), block_origins=()))[1][1] == "tool_result"


@pytest.mark.parametrize(
    "output, expected",
    [
        ("text", {"text": "text"}),
        (None, {"text": ""}),
        ([{"type": "input_text", "text": "t"}], {"text": "t"}),
        (
            [{"type": "input_text", "text": "t"}, {"type": "input_image", "image_url": PNG_URL}],
            {"content": [{"type": "text", "text": "t"}, {"type": "media", **PNG}]},
        ),
        (
            {"type": "computer_screenshot", "image_url": PNG_URL},
            {"content": {"type": "media", **PNG}},
        ),
        ({"a": 1}, {"content": {"a": 1}}),
    ],
)
def test_a_result_is_text_or_content_without_media(output: object, expected: dict[str, Any]) -> None:
    read = request({"type": "computer_call_output", "call_id": "c", "output": output})

    assert said(read.messages[0].parts) == [("tool_result", "tool_result", {"id": "c", **expected})]


@pytest.mark.parametrize(
    "item, origin",
    [
        ({"type": "function_call_output", "call_id": "c"}, "connector_raw"),
        ({"type": "custom_tool_call_output", "call_id": "c"}, "connector_raw"),
        ({"type": "function_call_output", "call_id": "c", "name": "weather"}, "tool_result"),
        ({"type": "local_shell_call_output", "id": "c"}, "tool_result"),
    ],
)
def test_a_result_whose_call_is_nowhere_goes_by_the_name_of_its_tool_or_is_a_connectors(
    item: dict[str, Any], origin: str
) -> None:
    assert request(item).messages[0].parts[0].origin == origin


# --- whole replies ---


def test_a_reply_gives_its_names_model_usage_and_finish() -> None:
    whole = reply(
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Hi."}],
        },
        model="gpt-test",
        usage={"total_tokens": 16, "output_tokens_details": {"reasoning_tokens": 2}},
        conversation={"id": "conv_1"},
    )

    assert (text_of(whole.output[0]), whole.output[0].choice, whole.model) == ("Hi.", 0, "gpt-test")
    assert whole.usage == {"total_tokens": 16, "output_tokens_details.reasoning_tokens": 2}
    assert (whole.finish, whole.finished, whole.failed, whole.streamed) == (
        ("completed",),
        True,
        False,
        False,
    )
    assert (whole.reply_ids, whole.conversation) == (("resp_1", "msg_1"), "conv_1")


@pytest.mark.parametrize(
    "more, finish, failed",
    [
        (
            {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}},
            ("content_filter",),
            False,
        ),
        ({"status": "incomplete"}, ("incomplete",), False),
        ({"status": "cancelled"}, ("cancelled",), False),
        ({"status": "queued"}, (), False),
        ({"status": "failed", "error": {"code": "server_error", "message": "m"}}, ("server_error",), True),
        ({"status": "failed"}, ("failed",), True),
    ],
)
def test_how_a_response_ended(more: dict[str, Any], finish: tuple[str, ...], failed: bool) -> None:
    whole = reply(**more)

    assert (whole.finish, whole.failed, whole.finished) == (finish, failed, not failed)


@pytest.mark.parametrize(
    "status, body, code",
    [
        (429, b'{"error": {"message": "m", "code": "rate_limit_exceeded"}}', "rate_limit_exceeded"),
        (500, b"<html>", "http_500"),
        (200, b'{"error": {"message": "m", "type": "quota"}}', "quota"),
    ],
)
def test_an_error_is_a_failed_reply_and_keeps_only_its_code(status: int, body: bytes, code: str) -> None:
    whole = RESPONSES.read_reply(status, "application/json", body, RULES)

    assert (whole.failed, whole.output, whole.finish) == (True, (), (code,))


def test_an_empty_body_is_an_answer_that_never_came() -> None:
    whole = RESPONSES.read_reply(200, "application/json", b"", RULES)

    assert (whole.output, whole.finished, whole.failed) == ((), False, False)


@pytest.mark.parametrize(
    "content_type, body",
    [
        ("application/json", b"not json"),
        ("application/json", b'{"id": "x"}'),
        ("application/json", b'{"output": [{"typ'),
        ("text/event-stream", b"<html>\n\n"),
        ("text/event-stream", b'data: {"type": "chat"}\n\n'),
        ("text/event-stream", b'data: {"type": "response.x", "output_index": "0"}\n\n'),
    ],
)
def test_what_is_no_reply_is_unreadable(content_type: str, body: bytes) -> None:
    with pytest.raises(UnreadableError):
        RESPONSES.read_reply(200, content_type, body, RULES)


# --- streams ---


def test_a_stream_gives_the_answer_whole() -> None:
    streamed = read_stream("responses_text.sse")

    assert said(streamed.output[0].parts) == [("text", "assistant", {"text": TEXT})]
    assert (streamed.model, streamed.finish) == ("gpt-test", ("completed",))
    assert streamed.usage["total_tokens"] == 16
    assert (streamed.streamed, streamed.finished, streamed.failed) == (True, True, False)
    assert streamed.reply_ids == ("resp_1", "msg_1")


@pytest.mark.parametrize("name", ["responses_text.sse", "responses_tools.sse", "responses_hosted.sse"])
def test_a_stream_says_the_same_without_its_last_event(name: str) -> None:
    *events, _ = recorded(name).removesuffix(b"\n\n").split(b"\n\n")
    deltas = [event for event in events if b"output_item.done" not in event]
    cut = RESPONSES.read_reply(200, "text/event-stream", b"\n\n".join(events) + b"\n\n", RULES)
    pieces = RESPONSES.read_reply(200, "text/event-stream", b"\n\n".join(deltas) + b"\n\n", RULES)

    assert cut.output == read_stream(name).output
    assert (cut.finished, cut.finish) == (False, ())
    if name != "responses_hosted.sse":  # what a tool found comes with its item only
        assert pieces.output == cut.output


def test_reasoning_text_and_calls_of_tools_are_apart() -> None:
    streamed = read_stream("responses_tools.sse")

    assert said(streamed.output[0].parts) == [
        ("reasoning", "assistant", {"text": "I should look."}),
        ("text", "assistant", {"text": "I look it up."}),
        ("tool_call", "assistant", {"id": "call_a", "name": "weather", "arguments": '{"city": "Nîmes"}'}),
        (
            "tool_call",
            "assistant",
            {"id": "call_b", "name": "mcp__drive__search", "arguments": '{"q": "été"}'},
        ),
    ]


def test_what_a_backend_does_itself_is_in_the_answer() -> None:
    streamed = read_stream("responses_hosted.sse")

    assert [(kind, origin) for kind, origin, _ in said(streamed.output[0].parts)] == [
        ("tool_call", "assistant"),
        ("tool_call", "assistant"),
        ("tool_result", "connector_raw"),
        ("tool_call", "assistant"),
        ("media", "assistant"),
        ("refusal", "assistant"),
    ]
    assert (streamed.finish, streamed.finished) == (("max_output_tokens",), True)


def test_an_error_ends_a_stream_and_keeps_what_came_before() -> None:
    streamed = read_stream("responses_error.sse")

    assert text_of(streamed.output[0]) == "Half"
    assert (streamed.finish, streamed.failed, streamed.finished) == (("server_error",), True, False)


def delta(kind: str, text: str, **more: object) -> dict[str, Any]:
    return {"type": f"response.{kind}.delta", "delta": text, **more}


def of(*events: Mapping[str, Any] | str) -> ChatReply:
    return RESPONSES.read_reply(200, "text/event-stream", streamed(*events), RULES)


@pytest.mark.parametrize(
    "error",
    [
        {"type": "error", "code": "x"},
        {"type": "error", "error": {"type": "x"}},
        {"error": {"code": "x"}},
        {"type": "response.failed", "response": {"status": "failed", "error": {"code": "x"}}},
    ],
)
def test_an_error_has_one_of_several_shapes(error: dict[str, Any]) -> None:
    streamed = of(delta("output_text", "Half"), error, delta("output_text", "more"))

    assert (text_of(streamed.output[0]), streamed.finish, streamed.failed) == ("Half", ("x",), True)


def test_an_empty_last_event_does_not_undo_what_was_said() -> None:
    streamed = of(
        delta("output_text", "Hi."),
        {"type": "response.completed", "response": {"status": "completed", "output": []}},
    )

    assert (text_of(streamed.output[0]), streamed.finished) == ("Hi.", True)


def test_items_and_their_pieces_are_ordered_by_index() -> None:
    streamed = of(
        delta("output_text", "d", output_index=1, content_index=1),
        delta("output_text", "c", output_index=1),
        delta("reasoning_summary_text", "b", summary_index=1),
        delta("reasoning_summary_text", "a"),
        delta("reasoning_text", "e", output_index=2),
        "[DONE]",
    )

    assert [text for _, _, body in said(streamed.output[0].parts) for text in body.values()] == list("abcde")


@pytest.mark.parametrize(
    "event, expected",
    [
        ({"type": "response.output_text.done", "text": "t"}, ("text", {"text": "t"})),
        ({"type": "response.refusal.done", "refusal": "no"}, ("refusal", {"text": "no"})),
        (
            {"type": "response.function_call_arguments.done", "arguments": "{}"},
            ("tool_call", {"id": "", "name": "", "arguments": "{}"}),
        ),
        (
            {"type": "response.custom_tool_call_input.done", "input": "ls"},
            ("tool_call", {"id": "", "name": "", "arguments": "ls"}),
        ),
        (
            {"type": "response.code_interpreter_call_code.done", "code": "1"},
            ("tool_call", {"id": "", "name": "code_interpreter", "arguments": "1"}),
        ),
    ],
)
def test_what_came_without_deltas_is_read_when_it_is_done(
    event: dict[str, Any], expected: tuple[str, dict[str, Any]]
) -> None:
    ((kind, _, body),) = said(of(event).output[0].parts)

    assert (kind, body) == expected


def test_citations_that_come_apart_are_with_their_text() -> None:
    note = {"type": "response.output_text.annotation.added", "annotation": {"title": "T"}}

    assert of(delta("output_text", "t"), note).output[0].parts[0].body == {
        "text": "t",
        "citations": [{"title": "T"}],
    }


# --- conversations ---


def keyed(digest: bytes) -> bytes:
    return digest


@pytest.mark.parametrize("name", ["responses_text.sse", "responses_tools.sse", "responses_hosted.sse"])
def test_an_answer_is_known_when_its_items_are_sent_back(name: str) -> None:
    events = [line for line in recorded(name).split(b"\n") if line.startswith(b"data: ")]
    items = json.loads(events[-1].removeprefix(b"data: "))["response"]["output"]
    question = {"role": "user", "content": "q"}
    made = read_stream(name).output
    whole = reply(*items).output
    back = request(question, *items, {"role": "user", "content": "next"})
    first = request(question).messages

    assert made == whole
    assert back.new_from == 1 + len(items)
    (position,) = Path(back.messages).positions(keyed)
    assert (position.length, position.head) == (1 + len(items), Path(first).heads(made, keyed)[0])


def test_an_answer_is_known_when_it_comes_back_as_plain_messages_without_ids_and_reasoning() -> None:
    back = request(
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "I look it up."},
        {"type": "function_call", "call_id": "x", "name": "weather", "arguments": '{"city":"N\\u00eemes"}'},
        {"type": "function_call", "call_id": "y", "name": "mcp__drive__search", "arguments": '{"q":"été"}'},
        {"type": "function_call_output", "call_id": "x", "output": "31"},
    )
    (position,) = Path(back.messages).positions(keyed)

    assert (
        position.head
        == Path(request({"role": "user", "content": "q"}).messages).heads(
            read_stream("responses_tools.sse").output, keyed
        )[0]
    )


def test_nothing_that_names_a_conversation_is_in_a_repr() -> None:
    read = request({"role": "user", "content": "x"}, previous_response_id="resp_1", conversation="conv_1")

    assert "resp_1" not in repr(read)
    assert "conv_1" not in repr(read)
    assert "resp_1" not in repr(reply())


def test_a_reference_that_nothing_follows_is_not_continued() -> None:
    assert request({"role": "user", "content": "a"}, {"id": "msg_1"}).continues is None


@pytest.mark.parametrize("ident, role", [("s", "assistant"), (None, "tool")])
def test_what_a_shell_said_is_the_backends_if_it_has_an_id(ident: str | None, role: str) -> None:
    read = request({"type": "shell_call_output", "id": ident, "call_id": "c", "output": []})

    assert read.messages[0].role == role
