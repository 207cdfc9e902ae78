"""An answer is recognised when it comes back, in whatever shape; and nothing else is."""

import hashlib
import hmac
from collections.abc import Sequence
from typing import Any

import pytest

from chatproxy.history import Path, message_bytes, name_head
from chatproxy.model import Message, Origin, Part, PartKind
from unit.wire.bodies import (
    ANTHROPIC,
    OPENAI,
    RULES,
    anthropic_reply,
    anthropic_request,
    openai_reply,
    openai_request,
    recorded,
)


def keyed(digest: bytes) -> bytes:
    return hmac.digest(b"key", digest, "sha256")


def user(text: str) -> Message:
    return Message("user", (Part(PartKind.TEXT, Origin.TYPED, {"text": text}),))


def answer(text: str) -> Message:
    return Message("assistant", (Part(PartKind.TEXT, Origin.ASSISTANT, {"text": text}),))


def system(text: str) -> Message:
    return Message("system", (Part(PartKind.TEXT, Origin.SYSTEM, {"text": text}),))


def head(sent: Sequence[Message], reply: Message) -> bytes:
    (only,) = Path(sent).heads([reply], keyed)
    return only


def known(sent: Sequence[Message]) -> list[tuple[int, bytes]]:
    return [(position.length, position.head) for position in Path(sent).positions(keyed)]


def openai_stream_answer(name: str) -> Message:
    return OPENAI.read_reply(200, "text/event-stream", recorded(name), RULES).output[0]


def anthropic_stream_answer(name: str) -> Message:
    return ANTHROPIC.read_reply(200, "text/event-stream", recorded(name), RULES).output[0]


def sent_to_openai(**message: object) -> Message:
    return openai_request({"role": "assistant", **message}).messages[0]


def sent_to_anthropic(*blocks: object) -> Message:
    return anthropic_request({"role": "assistant", "content": blocks}).messages[0]


CALLS: list[dict[str, Any]] = [
    {"id": "call_a", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Nîmes"}'}},
    {
        "id": "call_b",
        "type": "function",
        "function": {"name": "mcp__drive__search", "arguments": '{"q": "été"}'},
    },
]
RENAMED: list[dict[str, Any]] = [
    {"id": "x1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"N\\u00eemes"}'}},
    {"id": "x2", "type": "function", "function": {"name": "mcp__drive__search", "arguments": '{"q":"été"}'}},
]
THOUGHT = {"type": "thinking", "thinking": "I should look.", "signature": "EqQB"}
LOOK = {"type": "text", "text": "I look it up."}
WEATHER = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"days": 1, "city": "Nîmes"}}
NOW = {"type": "tool_use", "id": "toolu_2", "name": "now", "input": {}}
TEXT = 'Bonjour 👋, ça va\u00a0? {"a":1}\ndata: [DONE]'


@pytest.mark.parametrize(
    "made, sent_back",
    [
        pytest.param(
            openai_stream_answer("openai_text.sse"), sent_to_openai(content=TEXT + "\n\n"), id="as text"
        ),
        pytest.param(openai_stream_answer("openai_text.sse"), sent_to_openai(content=TEXT), id="stripped"),
        pytest.param(
            openai_stream_answer("openai_text.sse"),
            sent_to_openai(content=[{"type": "text", "text": TEXT[:9]}, {"type": "text", "text": TEXT[9:]}]),
            id="as parts",
        ),
        pytest.param(
            openai_stream_answer("openai_reasoning.sse"), sent_to_openai(content="42"), id="reasoning dropped"
        ),
        pytest.param(
            openai_stream_answer("openai_reasoning.sse"),
            sent_to_openai(content="42", reasoning_content="Let me think."),
            id="reasoning kept",
        ),
        pytest.param(
            openai_stream_answer("openai_tools.sse"),
            sent_to_openai(content=None, tool_calls=CALLS),
            id="calls",
        ),
        pytest.param(
            openai_stream_answer("openai_tools.sse"),
            sent_to_openai(content="", tool_calls=RENAMED),
            id="calls renamed",
        ),
        pytest.param(
            openai_reply({"content": None, "refusal": "I can't."}).output[0],
            sent_to_openai(content="I can't."),
            id="a refusal as text",
        ),
        pytest.param(
            openai_reply(
                {"content": None, "audio": {"id": "audio_1", "data": "AAAA", "transcript": "Hi."}}
            ).output[0],
            sent_to_openai(audio={"id": "audio_1"}),
            id="audio by its id",
        ),
        pytest.param(
            anthropic_stream_answer("anthropic_tools.sse"),
            sent_to_anthropic(THOUGHT, {"type": "redacted_thinking", "data": "EmwK"}, LOOK, WEATHER, NOW),
            id="blocks",
        ),
        pytest.param(
            anthropic_stream_answer("anthropic_tools.sse"),
            sent_to_anthropic(LOOK, WEATHER, NOW),
            id="thinking stripped",
        ),
        pytest.param(
            anthropic_stream_answer("anthropic_tools.sse"),
            sent_to_anthropic(
                {"type": "text", "text": "I look "}, {"type": "text", "text": "it up."}, WEATHER, NOW
            ),
            id="text in several blocks",
        ),
        pytest.param(
            anthropic_reply(LOOK).output[0],
            anthropic_request({"role": "assistant", "content": "I look it up."}).messages[0],
            id="a block as text",
        ),
        pytest.param(
            anthropic_reply({"type": "hologram", "depth": 1.0}).output[0],
            sent_to_anthropic(
                {"type": "hologram", "depth": 1, "caption": None, "cache_control": {"type": "ephemeral"}}
            ),
            id="an unknown block",
        ),
    ],
)
def test_an_answer_is_known_when_a_client_sends_it_back(made: Message, sent_back: Message) -> None:
    assert message_bytes(sent_back) == message_bytes(made)
    assert known([user("q"), sent_back, user("next")])[0] == (2, head([user("q")], made))


@pytest.mark.parametrize(
    "one, other",
    [
        pytest.param(answer("a"), answer("b"), id="text"),
        pytest.param(answer("a b"), answer("ab"), id="space inside"),
        pytest.param(answer("a"), user("a"), id="role"),
        pytest.param(sent_to_openai(tool_calls=CALLS[:1]), sent_to_openai(tool_calls=CALLS[1:]), id="calls"),
        pytest.param(
            sent_to_openai(tool_calls=CALLS), sent_to_openai(tool_calls=CALLS[::-1]), id="order of calls"
        ),
        pytest.param(sent_to_openai(audio={"id": "1"}), sent_to_openai(audio={"id": "2"}), id="audio"),
        pytest.param(
            sent_to_anthropic({"type": "x", "a": 1}), sent_to_anthropic({"type": "x", "a": 2}), id="blocks"
        ),
    ],
)
def test_messages_that_differ_have_other_bytes(one: Message, other: Message) -> None:
    assert message_bytes(one) != message_bytes(other)


@pytest.mark.parametrize(
    "one, other, same",
    [
        pytest.param("", "{}", True, id="no arguments"),
        pytest.param('{"a": 1, "b": 2}', '{"b":2,"a":1}', True, id="order and spaces"),
        pytest.param('{"a": 1.0}', '{"a": 1}', True, id="whole numbers"),
        pytest.param('{"a": 1.5}', '{"a": 1}', False, id="numbers"),
        pytest.param('{"a": [1, 2]}', '{"a": [2, 1]}', False, id="order of a list"),
        pytest.param('{"a": ', ' {"a":', True, id="broken, up to space at the ends"),
        pytest.param('{"a": ', '{"b": ', False, id="broken otherwise"),
        pytest.param("[" * 100_000, "[" * 100_000, True, id="nested without end"),
    ],
)
def test_arguments_are_compared_as_what_they_say(one: str, other: str, same: bool) -> None:
    calls = [
        Message(
            "assistant",
            (Part(PartKind.TOOL_CALL, Origin.ASSISTANT, {"id": "", "name": "f", "arguments": text}),),
        )
        for text in (one, other)
    ]

    assert (message_bytes(calls[0]) == message_bytes(calls[1])) is same


@pytest.mark.parametrize(
    "content, same",
    [
        ("31 °C", True),
        (" 31 °C\n", True),
        ([{"type": "text", "text": "31 °C"}], True),
        ([{"type": "text", "text": "31 "}, {"type": "text", "text": "°C"}], True),
        ("32 °C", False),
        ([{"type": "text", "text": "31 °C"}, {"type": "x"}], False),
        ([{"type": "x"}], False),
    ],
)
def test_results_are_compared_by_content(content: object, same: bool) -> None:
    result = openai_request({"role": "tool", "tool_call_id": "a", "content": "31 °C"}).messages[0]
    other = openai_request({"role": "tool", "tool_call_id": "b", "content": content}).messages[0]

    assert (message_bytes(result) == message_bytes(other)) is same


@pytest.mark.parametrize(
    "one, other, same",
    [
        ("data:image/png;base64,AAAA", "data:image/png,%00%00%00", True),
        ("data:image/png;base64,AAAA", "data:image/png;base64,AAAB", False),
        ("https://example.org/a", "https://example.org/a", True),
        ("https://example.org/a", "https://example.org/b", False),
    ],
)
def test_media_are_compared_by_digest(one: str, other: str, same: bool) -> None:
    messages = [
        openai_request(
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}
        ).messages[0]
        for url in (one, other)
    ]

    assert (message_bytes(messages[0]) == message_bytes(messages[1])) is same


def test_every_answer_of_the_history_is_a_position_the_deepest_first() -> None:
    sent = [system("s"), user("a"), answer("A"), user("b"), answer("B"), user("c")]

    assert known(sent) == [(5, head(sent[:4], answer("B"))), (3, head(sent[:2], answer("A")))]


def test_what_was_kept_by_earlier_versions_is_found_again() -> None:
    silent = Message("assistant", (Part(PartKind.REASONING, Origin.ASSISTANT, {"text": "Hm."}),))
    sent = [
        system("s"), answer("Hello!"), user("a"), user("b"), answer("B"), system("t"), answer(" more"), user("c"),
        silent, user("d"), user("e"), answer("E"), system("u"), user("f"), user("g"), answer("pre"),
    ]  # fmt: skip

    assert [(length, found.hex()[:16]) for length, found in by_question(sent)] == [
        (16, "3c9dce9768b6b6fa"),
        (14, "ba698fafbcd9b036"),
        (12, "c930ec095176acf5"),
        (12, "0dd45b25272e710f"),
        (10, "7f8db75e54e24af7"),
        (9, "8330b091410fd878"),
        (7, "e927679e78959c04"),
        (7, "cba533f8592441ad"),
        (3, "dffe1c8426feff62"),
        (2, "0d653d2163fe26ca"),
    ]


def test_two_may_go_back_along_one_path_at_a_time() -> None:
    path = Path([user("a"), answer("A"), user("b"), answer("B"), user("c")])

    both = list(zip(path.positions(keyed), path.positions(keyed), strict=True))

    assert len(both) == 2
    assert all(one == other for one, other in both)


def test_a_first_request_has_no_position() -> None:
    assert known([system("s"), user("a")]) == []


def test_an_earlier_word_changes_every_later_head() -> None:
    assert head([user("a"), answer("A"), user("b")], answer("B")) != head(
        [user("x"), answer("A"), user("b")], answer("B")
    )


def test_instructions_do_not_matter() -> None:
    assert head([system("s"), user("a")], answer("A")) == head([user("a"), system("other")], answer("A"))


def test_each_choice_has_its_head() -> None:
    heads = Path([user("a")]).heads([answer("A"), answer("B"), answer(" A ")], keyed)

    assert heads == (head([user("a")], answer("A")), head([user("a")], answer("B")))


def test_an_answer_that_says_nothing_has_no_head_and_no_position() -> None:
    silent = Message("assistant", (Part(PartKind.REASONING, Origin.ASSISTANT, {"text": "Hm."}),))

    assert Path([user("a")]).heads([silent, Message("assistant", ())], keyed) == ()
    assert known([user("a"), silent, user("b")]) == []
    assert known([user("a"), silent]) == []


def test_a_reply_to_a_prefill_continues_it() -> None:
    prefilled = head([user("a"), answer("{")], answer('"b": 1}'))

    assert prefilled == head([user("a")], answer('{"b": 1}'))
    assert known([user("a"), answer("{"), answer('"b": 1}'), user("c")])[0] == (3, prefilled)


def test_a_trailing_answer_is_a_position_too() -> None:
    assert known([user("a"), answer("A")]) == [(2, head([user("a")], answer("A")))]


def by_question(sent: Sequence[Message]) -> list[tuple[int, bytes]]:
    return [(position.length, position.head) for position in Path(sent).positions(keyed, by_question=True)]


def question(sent: Sequence[Message]) -> bytes:
    found = Path(sent).question(keyed)
    assert found is not None
    return found


def test_an_answer_is_looked_for_by_what_it_says_and_then_by_its_question() -> None:
    sent = [system("s"), user("a"), answer("A"), user("b"), answer("B"), user("c")]

    assert by_question(sent) == [
        (5, head(sent[:4], answer("B"))),
        (5, question(sent[:4])),
        (3, head(sent[:2], answer("A"))),
        (3, question(sent[:2])),
    ]


def test_a_question_does_not_depend_on_its_answer() -> None:
    assert (
        by_question([user("a"), answer("A"), user("b")])[1]
        == by_question([user("a"), answer("other"), user("b")])[1]
    )
    assert by_question([user("a"), answer(""), user("b")]) == [(2, question([user("a")]))]
    assert question([user("a"), answer("prefill")]) == question([user("a")])
    assert question([user("a")]) != question([user("b")])
    assert question([user("a"), answer("A"), user("b")]) != question([user("a"), answer("B"), user("b")])


def test_a_question_is_no_head_of_an_answer() -> None:
    digest = hashlib.sha256(b"chatproxy/history/v1" + message_bytes(user("a"))).digest()

    assert question([user("a")]) == keyed(b"chatproxy/question/v1" + digest) != keyed(digest)


def test_where_nothing_was_asked_there_is_no_question() -> None:
    assert Path([system("s"), answer("Hello!")]).question(keyed) is None
    assert by_question([answer("Hello!"), user("a")]) == [(1, head([], answer("Hello!")))]


def test_an_answer_at_the_end_is_not_looked_for_by_its_question() -> None:
    assert by_question([user("a"), answer("A")]) == [(2, head([user("a")], answer("A")))]


def test_an_edited_question_leaves_the_path_at_the_answer_before_it() -> None:
    first = [user("a"), answer("A")]
    stored = {head(first[:1], first[1]), head([*first, user("b")], answer("B"))}

    edited = [*first, user("edited"), answer("C"), user("d")]

    assert [length for length, found in known(edited) if found in stored] == [2]


def test_positions_are_keyed_only_as_far_as_they_are_looked_at() -> None:
    asked: list[bytes] = []

    def counting(digest: bytes) -> bytes:
        asked.append(digest)
        return keyed(digest)

    sent = [message for text in "abcdef" for message in (user(text), answer(text))]
    next(Path([*sent, user("z")]).positions(counting))

    assert len(asked) == 1
    assert len(asked[0]) == 32


def test_the_head_of_a_name_is_of_the_name_alone_and_no_head_of_words() -> None:
    assert name_head("resp_1", keyed) == name_head("resp_1", keyed)
    assert name_head("resp_1", keyed) != name_head("resp_2", keyed)
    assert name_head("resp_1", keyed) != keyed(hashlib.sha256(b"resp_1").digest())


def test_between_two_messages_of_a_person_there_is_a_place_known_by_its_question() -> None:
    sent = [user("a"), user("b"), answer("c"), user("d"), user("e")]
    tool = Message("tool", (Part(PartKind.TEXT, Origin.TOOL_RESULT, {"text": "t"}),))

    assert by_question(sent) == [
        (4, question(sent[:4])),
        *known(sent[:4]),
        (3, question(sent[:2])),
        (1, question(sent[:1])),
    ]
    assert known(sent) == known(sent[:4])
    assert by_question([tool, tool, user("a"), tool, user("b")]) == []
    assert by_question([user("a"), system("s"), user("b")]) == [(1, question(sent[:1]))]


def test_attempts_at_one_request_have_all_that_was_said_in_common_and_their_context() -> None:
    def asked(*sent: Message, context: tuple[bytes, ...] = ()) -> bytes | None:
        return Path(sent).asked(keyed, *context)

    one = asked(user("a"), answer("b"), user("c"))
    assert one == asked(system("s"), user("a"), answer(" b"), user("c"))
    others = {
        one,
        asked(user("a"), answer("B"), user("c")),
        asked(user("a"), answer("b"), user("c"), answer("prefill")),
        asked(user("a"), answer("b"), user("c"), context=(b"x",)),
        asked(user("a"), answer("b"), user("c"), context=(b"x", b"")),
    }
    assert len(others) == 5
    assert asked(user("a")) != question([user("a")])
    assert asked() is asked(system("s")) is None
