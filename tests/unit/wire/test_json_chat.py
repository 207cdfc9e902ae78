"""A home-grown chatbot, as settings describe it: what is read of it, and what is said of a wrong description."""

import json
from typing import Any

import pytest

from chatproxy.errors import ConfigurationError, UnreadableError
from chatproxy.history import Path
from chatproxy.wire.base import ChatReply, ChatRequest, Failure
from chatproxy.wire.json_chat import JSONChat
from chatproxy.wire.json_chat_description import read_descriptions
from chatproxy.wire.json_path import JSONPath
from unit.wire.bodies import RULES, said, streamed, text_of

PLAIN = """
[helpdesk]
path = "/bots/*/ask"
request_text = "message"
reply_text = "reply.text"
request_conversation = "session.id"
reply_conversation = "session"
"""
RESENDING = """
[bot]
path = "/talk"
method = "PUT"
history = "turns[*]"
history_role = "who"
history_text = "said.text"
user_role = "human"
assistant_role = "bot"
request_text = "question"
reply_text = "answer"
stream_text = "delta"
stream_end = "type=end"
"""


def chat(toml: str = PLAIN) -> JSONChat:
    (description,) = read_descriptions(toml)
    return JSONChat(description)


def request(toml: str = PLAIN, **body: object) -> ChatRequest:
    return chat(toml).read_request(json.dumps(body).encode(), RULES)


def reply(toml: str, body: object, content_type: str = "application/json") -> ChatReply:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return chat(toml).read_reply(200, content_type, data, RULES)


EXAMPLES = " reply.text, messages[*].text"

# --- paths in JSON ---


@pytest.mark.parametrize(
    "path, value, expected",
    [
        ("a", {"a": 1}, [1]),
        ("a.b", {"a": {"b": None}}, [None]),
        ("a.b", {"a": 1}, []),
        ("a[*].b", {"a": [{"b": 1}, {"c": 2}, 3, {"b": 4}]}, [1, 4]),
        ("a[*]", {"a": {"b": 1}}, []),
        ("[*].a", [{"a": 1}, {"a": 2}], [1, 2]),
        ("a[*][*]", {"a": [[1], [2, 3]]}, [1, 2, 3]),
        ("größe.$x-1", {"größe": {"$x-1": 5}}, [5]),
    ],
)
def test_a_path_leads_to_what_is_there(path: str, value: object, expected: list[object]) -> None:
    assert JSONPath.parse(path).find(value) == expected


@pytest.mark.parametrize(
    "path", ["", ".", "a.", ".a", "a..b", "a b", "a[0]", "a[", "a]", "[*]a", "a[*]b", "a.[*]"]
)
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match=r"messages\[\*\]\.text"):
        JSONPath.parse(path)


# --- descriptions ---


def test_a_description_says_only_what_differs() -> None:
    (described,) = read_descriptions(PLAIN)

    assert (described.name, described.method, described.user_role) == ("helpdesk", "POST", "user")
    assert described.history_text == JSONPath(("content",))
    assert described.stream_end is None


def test_no_description_is_no_dialect() -> None:
    assert read_descriptions("") == ()


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_descriptions(
            """
            loose = "x"
            [one]
            path = "talk"
            reply_text = "a..b"
            reply_txt = "a"
            method = "GET"
            [two]
            path = "/talk"
            reply_text = 5
            history = "h[*]"
            user_role = "assistant"
            stream_end = "=x"
            ["three four"]
            """
        )

    assert [line.partition(";")[0] for line in str(caught.value).splitlines()] == [
        "loose: a JSON chat is described by a table, [loose]",
        "one.path = 'talk' must be the path of a URL, with * for one whole segment: /bots/*/ask",
        "one.reply_text = 'a..b' must be names with dots between, [*] for each element of a list:" + EXAMPLES,
        "one.reply_txt is not a key",
        "one.method = 'GET' must be one of POST, PUT, PATCH",
        "one needs request_text, history or both: where the request says something",
        "two.reply_text = 5 must be a text in quotes, and not empty",
        "two.stream_end = '=x' must be names with dots between, [*] for each element of a list:" + EXAMPLES,
        "two.user_role and two.assistant_role are the same word",
        "[three four]: a JSON chat is named by up to 64 letters, digits, - and _",
    ]


def test_what_is_missing_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"bot\.path is missing\nbot\.reply_text is missing"):
        read_descriptions('[bot]\nrequest_text = "q"')


@pytest.mark.parametrize("key", ["request_upload", "request_pasted", "request_connector"])
@pytest.mark.parametrize("beside", ['history = "h[*]"', 'history = "h[*]"\nrequest_text = "q"'])
def test_what_is_sent_along_needs_a_new_text_and_no_history(key: str, beside: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"bot\.{key} needs request_text, and no history"):
        read_descriptions(f'[bot]\npath = "/t"\nreply_text = "a"\n{beside}\n{key} = "x"')


@pytest.mark.parametrize("text", ["[bot", "x = " + "[" * 100_000], ids=["cut", "nested"])
def test_a_file_that_is_no_toml_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="not TOML"):
        read_descriptions(text)


@pytest.mark.parametrize("path", ["talk", "/a*b", "/a?b", "/a b", "/a#b"])
def test_what_is_no_path_of_a_url_is_refused(path: str) -> None:
    with pytest.raises(ConfigurationError, match=r"bot\.path"):
        read_descriptions(f'[bot]\npath = "{path}"\nrequest_text = "q"\nreply_text = "a"')


# --- where it is spoken ---


@pytest.mark.parametrize(
    "method, path, expected",
    [
        ("POST", "/bots/7/ask", True),
        ("POST", "/bots/7/ask/", True),
        ("POST", "/bots//ask", False),
        ("POST", "/bots/7/8/ask", False),
        ("POST", "/bots/7", False),
        ("POST", "/x/bots/7/ask", False),
        ("GET", "/bots/7/ask", False),
    ],
)
def test_it_is_spoken_at_the_path_that_is_described(method: str, path: str, expected: bool) -> None:
    assert chat().claims(method, path) is expected


def test_it_is_named_after_its_description() -> None:
    assert chat().name == "json:helpdesk"


def test_an_error_is_an_object() -> None:
    assert json.loads(chat().render_failure(Failure(502, "c", "m", "r"))) == {
        "error": {"code": "c", "message": "m", "request_id": "r"}
    }


# --- requests ---


def test_the_new_text_is_the_persons() -> None:
    read = request(message="hi", session={"id": 7}, secret="x")

    assert [(message.role, said(message.parts)) for message in read.messages] == [
        ("user", [("text", "typed", {"text": "hi"})])
    ]
    assert (read.conversation, read.new_from) == ("7", 0)


def test_a_history_is_read_by_the_words_for_its_roles() -> None:
    turns = [
        {"who": "system", "said": {"text": "s"}},
        {"who": "human", "said": {"text": "a"}},
        {"who": "bot", "said": {"text": "A"}},
    ]
    read = request(RESENDING, turns=turns, question="b")

    assert [(message.role, text_of(message)) for message in read.messages] == [
        ("system", "s"),
        ("user", "a"),
        ("assistant", "A"),
        ("user", "b"),
    ]
    assert [part.origin for message in read.messages for part in message.parts] == [
        "system",
        "typed",
        "assistant",
        "typed",
    ]
    assert read.new_from == 3


def test_a_history_may_hold_the_new_text_itself() -> None:
    toml = '[bot]\npath = "/t"\nhistory = "[*]"\nhistory_text = "text"\nreply_text = "a"'
    body = [{"role": "user", "text": "a"}, {"role": "assistant", "text": "A"}, {"role": "user", "text": "b"}]
    read = chat(toml).read_request(json.dumps(body).encode(), RULES)

    assert read.new_from == 2


def test_several_texts_are_several_parts_and_what_is_no_text_is_kept() -> None:
    toml = '[bot]\npath = "/t"\nrequest_text = "m[*]"\nreply_text = "a"'

    assert said(request(toml, m=["a", None, "", {"x": 1}]).messages[0].parts) == [
        ("text", "typed", {"text": "a"}),
        ("other", "typed", {"value": {"x": 1}}),
    ]


def test_what_is_sent_along_has_its_own_origin() -> None:
    toml = PLAIN + (
        'request_upload = "files[*].text"\nrequest_pasted = "clip"\nrequest_connector = "found[*]"\n'
    )
    read = request(toml, message="Sum up.", files=[{"text": "f"}], clip="p", found=["a", {"b": 1}])

    assert [said(message.parts) for message in read.messages] == [
        [
            ("text", "typed", {"text": "Sum up."}),
            ("text", "upload", {"text": "f"}),
            ("text", "connector_pasted", {"text": "p"}),
            ("text", "connector_raw", {"text": "a"}),
            ("other", "connector_raw", {"value": {"b": 1}}),
        ]
    ]


@pytest.mark.parametrize("conversation", [None, True, "", [], {}])
def test_an_odd_id_names_no_conversation(conversation: object) -> None:
    assert request(message="hi", session={"id": conversation}).conversation is None


@pytest.mark.parametrize(
    "toml, body",
    [
        (PLAIN, b""),
        (PLAIN, b"{}"),
        (PLAIN, b'{"message": ""}'),
        (PLAIN, b'{"text": "hi"}'),
        (RESENDING, b'{"turns": [{"said": {"text": "who?"}}]}'),
        (RESENDING, b'{"turns": ["hi"]}'),
        (PLAIN, b'{"message": ' + b"[" * 100 + b"]" * 100 + b"}"),
    ],
)
def test_a_request_that_says_nothing_where_it_should_is_unreadable(toml: str, body: bytes) -> None:
    with pytest.raises(UnreadableError):
        chat(toml).read_request(body, RULES)


# --- replies ---


def test_a_reply_says_what_is_at_its_path() -> None:
    read = reply(PLAIN, {"reply": {"text": "Hi."}, "session": "s1"})

    assert said(read.output[0].parts) == [("text", "assistant", {"text": "Hi."})]
    assert (read.conversation, read.finished, read.streamed, read.output[0].choice) == ("s1", True, False, 0)


@pytest.mark.parametrize(
    "status, body, code",
    [
        (500, b"<html>", "http_500"),
        (200, b'{"error": {"code": "x"}}', "x"),
        (200, b'{"error": "about Ana"}', "error"),
    ],
)
def test_an_error_is_a_failed_reply_and_keeps_only_its_code(status: int, body: bytes, code: str) -> None:
    read = chat().read_reply(status, "application/json", body, RULES)

    assert (read.failed, read.output, read.finish) == (True, (), (code,))


def test_an_empty_body_is_an_answer_that_never_came() -> None:
    read = reply(PLAIN, b"")

    assert (read.output, read.finished) == ((), False)


@pytest.mark.parametrize(
    "content_type, body",
    [
        ("application/json", b"no"),
        ("application/json", b"{}"),
        ("text/event-stream", b"<html>\n\n"),
        ("text/event-stream", b"data: hello\n\n"),
        ("application/x-ndjson", b"<html>\n"),
    ],
)
def test_what_is_no_reply_is_unreadable(content_type: str, body: bytes) -> None:
    with pytest.raises(UnreadableError):
        reply(PLAIN, body, content_type)


EVENTS: list[dict[str, Any]] = [
    {"type": "start", "id": 1},
    {"type": "piece", "delta": "Bon"},
    {"type": "piece", "delta": "jour"},
]


@pytest.mark.parametrize("end", [[], [{"type": "end"}]])
@pytest.mark.parametrize("content_type", ["text/event-stream", "application/x-ndjson"])
def test_a_stream_is_whole_when_its_end_came(content_type: str, end: list[dict[str, Any]]) -> None:
    events = [*EVENTS, *end]
    lines = "".join(json.dumps(event) + "\n" for event in events).encode()
    read = reply(RESENDING, streamed(*events) if content_type == "text/event-stream" else lines, content_type)

    assert text_of(read.output[0]) == "Bonjour"
    assert (read.streamed, read.finished, read.failed) == (True, bool(end), False)


def test_nothing_is_read_after_the_end() -> None:
    read = reply(RESENDING, streamed(EVENTS[1], {"type": "end"}, EVENTS[2]), "text/event-stream")

    assert text_of(read.output[0]) == "Bon"


@pytest.mark.parametrize(
    "end, event, expected",
    [
        ("done=true", {"done": True}, True),
        ("done=true", {"done": "true"}, True),
        ("done=true", {"done": 1}, False),
        ("n=3", {"n": 3}, True),
        ('type="end"', {"type": "end"}, True),
        ("type=end", {"type": "ending"}, False),
        ("a[*].b=x", {"a": [{"b": "y"}, {"b": "x"}]}, True),
        ("[END]", "[END]", True),
        ("[END]", {"delta": "[END]"}, False),
    ],
)
def test_an_end_is_a_value_or_the_data_of_an_event(end: str, event: Any, expected: bool) -> None:
    toml = RESENDING.replace('"type=end"', json.dumps(end))

    assert reply(toml, streamed(EVENTS[1], event), "text/event-stream").finished is expected


def test_a_stream_without_an_end_of_its_own_ends_as_its_connection_did() -> None:
    read = reply(
        PLAIN, streamed({"reply": {"text": "a"}}, {"reply": {"text": "b"}, "session": 5}), "text/event-stream"
    )

    assert (text_of(read.output[0]), read.streamed, read.finished, read.conversation) == (
        "ab",
        False,
        False,
        "5",
    )


def test_an_error_ends_a_stream_and_keeps_what_came_before() -> None:
    read = reply(RESENDING, streamed(EVENTS[1], {"error": {"type": "x"}}, EVENTS[2]), "text/event-stream")

    assert (text_of(read.output[0]), read.finish, read.failed, read.finished) == ("Bon", ("x",), True, False)


def test_what_is_no_text_in_a_stream_is_behind_the_text() -> None:
    read = reply(RESENDING, streamed({"delta": {"card": 1}}, EVENTS[1], EVENTS[2]), "text/event-stream")

    assert said(read.output[0].parts) == [
        ("text", "assistant", {"text": "Bonjour"}),
        ("other", "assistant", {"value": {"card": 1}}),
    ]


def test_an_answer_is_known_when_it_is_sent_back() -> None:
    made = reply(RESENDING, streamed(*EVENTS, {"type": "end"}), "text/event-stream").output
    turns = [{"who": "human", "said": {"text": "q"}}, {"who": "bot", "said": {"text": "Bonjour"}}]
    (position,) = Path(request(RESENDING, turns=turns, question="next").messages).positions(bytes)

    assert position.head == Path(request(RESENDING, question="q").messages).heads(made, bytes)[0]
    assert made == reply(RESENDING, {"answer": "Bonjour"}).output


SOCKET = """
[socket]
transport = "websocket"
path = "/chat"
request_text = "say"
reply_text = "answer"
stream_end = "done=true"
request_conversation = "room"
"""


def test_a_chat_over_websocket_is_no_chat_over_http_and_the_other_way() -> None:
    assert chat(SOCKET).claims_socket("/chat")
    assert not chat(SOCKET).claims("POST", "/chat")
    assert chat().claims("POST", "/bots/a/ask")
    assert not chat().claims_socket("/bots/a/ask")


@pytest.mark.parametrize(
    "payload, is_said, is_answer, is_end",
    [
        pytest.param(b'{"say": "hi"}', True, False, False, id="the person speaks"),
        pytest.param(b'{"answer": "a"}', False, True, False, id="a piece of the answer"),
        pytest.param(b'{"done": true}', False, False, True, id="the end"),
        pytest.param(b'{"answer": "a", "done": true}', False, True, True, id="the last piece"),
        pytest.param(b'{"error": {"code": "busy"}}', False, True, False, id="an error"),
        pytest.param(b'{"typing": true}', False, False, False, id="something else"),
        pytest.param(b"\xff{", False, False, False, id="no JSON"),
    ],
)
def test_a_message_of_a_socket_is(payload: bytes, is_said: bool, is_answer: bool, is_end: bool) -> None:
    described = chat(SOCKET)

    assert (
        described.is_user_message(payload),
        described.is_answer(payload),
        described.ends_turn(payload),
    ) == (is_said, is_answer, is_end)
    assert described.names_conversations
    assert described.marks_ends


def test_what_a_backend_says_unasked_is_a_turn_without_input() -> None:
    assert chat(SOCKET).read_request(b"", RULES).messages == ()


@pytest.mark.parametrize(
    "change, said_of_it",
    [
        (('request_text = "say"', 'history = "say"'), "request_text is missing"),
        (('"done=true"', '"[DONE]"'), "path=value"),
        (('"websocket"', '"carrier pigeon"'), "http, websocket"),
    ],
    ids=["no text", "an end that is no JSON", "another transport"],
)
def test_a_socket_that_cannot_be_read_is_refused(change: tuple[str, str], said_of_it: str) -> None:
    with pytest.raises(ConfigurationError, match=said_of_it):
        chat(SOCKET.replace(*change))
