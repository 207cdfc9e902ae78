"""What a block holds has the origin that settings give its type (R25), in each dialect that has types of blocks."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from chatproxy.model import Origin, Part, PartKind
from chatproxy.wire.base import BlockOrigin, OriginRules
from chatproxy.wire.origins import Origins
from unit.wire.bodies import RULES, SPOKEN

RULED = OriginRules(
    connector_tools=(),
    block_origins=(
        BlockOrigin("att*", Origin.UPLOAD),
        BlockOrigin("*paste", Origin.CONNECTOR_PASTED),
        BlockOrigin("drive_*", Origin.CONNECTOR_RAW),
        BlockOrigin("attPaste", Origin.CONNECTOR_PASTED),
    ),
)
USER, TOOL, MODEL = "user", "tool", "assistant"


def origins(dialect: str, body: Mapping[str, Any], rules: OriginRules = RULED) -> list[str]:
    spoken = SPOKEN.named(dialect)
    assert spoken is not None
    read = spoken.read_request(json.dumps(body).encode(), rules)
    return [part.origin.value for message in read.messages for part in message.parts]


def anthropic(block: Mapping[str, Any], role: str = USER) -> list[str]:
    return origins("anthropic_messages", {"messages": [{"role": role, "content": [block]}]})


def openai_chat(block: Mapping[str, Any], role: str = USER) -> list[str]:
    return origins("openai_chat", {"messages": [{"role": role, "content": [block]}]})


def responses(block: Mapping[str, Any], role: str = USER) -> list[str]:
    return origins("openai_responses", {"input": [{"role": role, "content": [block]}]})


TYPED = [anthropic, openai_chat, responses]


@pytest.mark.parametrize("read", TYPED, ids=lambda read: read.__name__)
@pytest.mark.parametrize(
    "kind, origin",
    [
        ("drive_file", "connector_raw"),
        ("attachment", "upload"),
        ("my_paste", "connector_pasted"),
        ("attPaste", "upload"),
        ("drive_paste", "connector_raw"),
        ("Drive_file", "typed"),
        ("note", "typed"),
    ],
)
def test_what_a_person_sends_has_the_origin_of_its_block(read: Any, kind: str, origin: str) -> None:
    assert read({"type": kind, "words": "w"}) == [origin]


@pytest.mark.parametrize("read", TYPED, ids=lambda read: read.__name__)
def test_what_the_model_said_is_no_persons_upload_or_paste(read: Any) -> None:
    assert read({"type": "my_paste"}, MODEL) == ["assistant"]
    assert read({"type": "attachment"}, MODEL) == ["assistant"]


@pytest.mark.parametrize("read", [anthropic, responses], ids=lambda read: read.__name__)
def test_raw_data_is_a_connectors_wherever_it_stands(read: Any) -> None:
    assert read({"type": "drive_file"}, MODEL) == ["connector_raw"]
    assert read({"type": "drive_file"}, "system") == ["connector_raw"]


def test_what_is_media_to_the_dialect_can_be_a_connectors() -> None:
    rules = OriginRules(block_origins=(BlockOrigin("image*", Origin.CONNECTOR_RAW),))
    image = {"type": "image_url", "image_url": {"url": "https://drive.internal/1"}}
    body = {"messages": [{"role": USER, "content": ["look", image]}]}

    assert origins("openai_chat", body, rules) == ["typed", "connector_raw"]


@pytest.mark.parametrize(
    "part, origin",
    [
        ({"fileData": {"fileUri": "gs://a"}}, "connector_raw"),
        ({"file_data": {"file_uri": "gs://a"}}, "connector_raw"),
        ({"inlineData": {"data": "AA=="}}, "connector_pasted"),
        ({"text": "t"}, "typed"),
        ({"functionResponse": {"name": "f", "response": {}}}, "tool_result"),
        ({"functionResponse": {"name": "f", "parts": [{"file_data": {}}]}}, "connector_raw"),
        ("t", "typed"),
    ],
)
def test_the_type_of_a_part_of_gemini_is_the_name_of_its_member(part: object, origin: str) -> None:
    rules = OriginRules(
        (), (BlockOrigin("fileData", Origin.CONNECTOR_RAW), BlockOrigin("inline*", Origin.CONNECTOR_PASTED))
    )

    assert origins("gemini", {"contents": [{"parts": [part]}]}, rules) == [origin]


RESULTS: list[tuple[str, dict[str, Any]]] = [
    (
        "anthropic_messages",
        {"messages": [{"role": USER, "content": [{"type": "tool_result", "content": [{"type": "KIND"}]}]}]},
    ),
    ("openai_chat", {"messages": [{"role": TOOL, "content": [{"type": "KIND"}]}]}),
    ("openai_responses", {"input": [{"type": "function_call_output", "output": [{"type": "KIND"}]}]}),
]


@pytest.mark.parametrize("dialect, body", RESULTS, ids=[name for name, _ in RESULTS])
@pytest.mark.parametrize(
    "kind, origin",
    [("drive_file", "connector_raw"), ("attachment", "tool_result"), ("text", "tool_result")],
)
def test_a_result_that_holds_raw_data_is_a_connectors(
    dialect: str, body: dict[str, Any], kind: str, origin: str
) -> None:
    sent = json.loads(json.dumps(body).replace("KIND", kind))

    assert origins(dialect, sent) == [origin]


def test_what_a_person_says_beside_raw_data_stays_the_persons() -> None:
    blocks = [{"type": "text", "text": "Sum this up."}, {"type": "drive_file", "words": "w"}]
    body = {"messages": [{"role": USER, "content": blocks}]}

    assert origins("anthropic_messages", body) == ["typed", "connector_raw"]


@pytest.mark.parametrize(
    "item, expected",
    [
        (
            {"type": "file_search_call", "id": "f", "queries": ["q"], "results": [{"text": "t"}]},
            [("tool_call", "assistant"), ("tool_result", "connector_raw")],
        ),
        (
            {"type": "mcp_call", "id": "m", "name": "n", "output": "o"},
            [("tool_call", "assistant"), ("tool_result", "connector_raw")],
        ),
        (
            {"type": "code_interpreter_call", "id": "c", "code": "1", "outputs": []},
            [("tool_call", "assistant"), ("tool_result", "tool_result")],
        ),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else "",
)
def test_as_built_in_what_was_found_in_files_is_a_connectors(
    item: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    spoken = SPOKEN.named("openai_responses")
    assert spoken is not None
    body = {"status": "completed", "output": [item]}
    read = spoken.read_reply(200, "application/json", json.dumps(body).encode(), RULES)

    assert [(part.kind, part.origin) for part in read.output[0].parts] == expected


@pytest.mark.parametrize("origin", [Origin.UPLOAD, Origin.CONNECTOR_PASTED])
def test_no_rule_makes_anything_else_of_raw_data(origin: Origin) -> None:
    rules = OriginRules((), (BlockOrigin("*", origin),))
    mcp = {"type": "mcp_tool_result", "tool_use_id": "1", "content": "raw"}

    assert origins("anthropic_messages", {"messages": [{"role": USER, "content": [mcp]}]}, rules) == [
        "connector_raw"
    ]


def test_a_type_that_is_no_text_is_no_type() -> None:
    part = Part(PartKind.TEXT, Origin.TYPED, {"text": "t"})
    rules = OriginRules((), (BlockOrigin("*", Origin.CONNECTOR_RAW),))

    assert Origins(rules).of_block([None, 5, ["drive_x"]], [part]) == [part]
