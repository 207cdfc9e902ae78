"""What of a turn becomes an item."""

import msgspec
import pytest

from chatproxy.datasets.redaction import Redactor
from chatproxy.datasets.rows import Answer, Row, answers
from chatproxy.datasets.tables import Form, content_hash, read_rows, write_rows
from chatproxy.model import Message, Origin, Part, PartKind, Transcript


def redactor() -> Redactor:
    return Redactor()


def text(words: str, origin: Origin = Origin.TYPED, kind: PartKind = PartKind.TEXT) -> Part:
    return Part(kind, origin, {"text": words})


def of(*asked: Part, said: tuple[Part, ...] = (text("ok", Origin.ASSISTANT),)) -> list[Answer]:
    return answers(
        Transcript((Message("user", asked),), (Message("assistant", said),), model="m a@b.fr"), redactor()
    )


def test_each_answer_is_an_item_of_its_own() -> None:
    said = tuple(Message("assistant", (text(word),), choice=number) for number, word in enumerate(("a", "b")))
    found = answers(Transcript((Message("user", (text("q"),)),), said), redactor())
    assert [(each.choice, [message.content for message in each.messages]) for each in found] == [
        (0, ["q", "a"]),
        (1, ["q", "b"]),
    ]


@pytest.mark.parametrize(
    "part, why",
    [
        (text("drive", Origin.CONNECTOR_RAW), "connector"),
        (text("before", Origin.HISTORY), "history"),
        (Part(PartKind.MEDIA, Origin.UPLOAD, {"base64": "AAAA", "sha256": "x"}), "media"),
        (Part(PartKind.OTHER, Origin.TYPED, {"type": "odd"}), "other"),
        (Part(PartKind.RAW_REQUEST, Origin.RAW, {"base64": "AAAA"}), "raw"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_may_not_be_learned_from_is_left_out_and_named(part: Part, why: str) -> None:
    [found] = of(text("q"), part)
    assert found.left_out == [why]
    assert [message.content for message in found.messages] == ["q", "ok"]


def test_tools_are_as_chat_templates_have_them() -> None:
    call = Part(
        PartKind.TOOL_CALL, Origin.ASSISTANT, {"id": "1", "name": "mail", "arguments": '{"to":"a@b.fr"}'}
    )
    result = Part(
        PartKind.TOOL_RESULT, Origin.TOOL_RESULT, {"id": "1", "content": [{"type": "text", "text": "a@b.fr"}]}
    )
    thought = text("hm a@b.fr", Origin.ASSISTANT, PartKind.REASONING)
    [found] = of(result, text("q"), said=(thought, call))
    tool, user, assistant = found.messages
    assert (tool.role, tool.tool_call_id, tool.content) == (
        "tool",
        "1",
        '[{"type": "text", "text": "[EMAIL]"}]',
    )
    assert (user.role, user.content) == ("user", "q")
    assert assistant.reasoning_content == "hm [EMAIL]"
    assert assistant.tool_calls is not None
    assert assistant.tool_calls[0].function.arguments == '{"to":"[EMAIL]"}'
    assert found.model == "m [EMAIL]"
    assert found.redacted == {"EMAIL": 4}


@pytest.mark.parametrize(
    "asked, said",
    [((), (text("ok"),)), ((text(""),), (text("ok"),)), ((text("q"),), ()), ((text("q"),), (text(""),))],
    ids=["nothing asked", "empty question", "no answer", "empty answer"],
)
def test_where_nothing_is_left_there_is_no_item(asked: tuple[Part, ...], said: tuple[Part, ...]) -> None:
    assert of(*asked, said=said) == []


@pytest.mark.parametrize("form", [Form.JSONL, Form.PARQUET])
def test_rows_come_back_as_they_were_written(form: Form) -> None:
    rows = [
        Row(
            id=f"i_{number}", person="p", conversation="v", after=None, choice=0, day=20260101, surface="chat", model=None,
            end="complete", messages=of(text("é\u2028q"))[0].messages, left_out=["media"] * number,
        )
        for number in range(3)
    ]  # fmt: skip
    file = write_rows(rows, form)
    assert read_rows(file, form) == rows
    assert write_rows(read_rows(file, form), form) == file
    assert len({content_hash(row) for row in rows}) == 3
    with pytest.raises((ValueError, msgspec.DecodeError)):
        read_rows(b"{", form)
