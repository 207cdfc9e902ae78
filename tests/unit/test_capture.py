"""From copied bytes to a turn: what is new, how it ended, and what becomes of bytes that cannot be read."""

import gzip
import json
from base64 import b64decode, b64encode
from collections.abc import Callable

import brotli
import pytest

from chatproxy.capture import Understood, keep_raw, understand
from chatproxy.model import Caller, Exchange, Origin, PartKind, StreamEnd, TurnId
from chatproxy.wire.base import OriginRules
from unit.wire.bodies import RULES, SPOKEN, recorded, said, streamed, text_of

LIMIT = 1 << 20


def an_exchange(
    *,
    dialect: str = "openai_chat",
    request: bytes | None = None,
    request_encoding: str = "",
    reply: bytes | None = None,
    status: int = 200,
    content_type: str = "text/event-stream",
    content_encoding: str = "",
    end: StreamEnd | None = StreamEnd.COMPLETE,
    truncated: bool = False,
) -> Exchange:
    family = dialect.split("_", maxsplit=1)[0]
    request = recorded(f"{family}_request.json") if request is None else request
    reply = recorded(f"{family}_text.sse") if reply is None else reply
    return Exchange(
        turn=TurnId(bytes(16)),
        received_at=0,
        caller=Caller(),
        dialect=dialect,
        request_encoding=request_encoding,
        request=[request[:100], request[100:]],
        status=status,
        content_type=content_type,
        content_encoding=content_encoding,
        reply=[reply[:77], reply[77:]],
        end=end,
        truncated=truncated,
    )


def read(exchange: Exchange, rules: OriginRules = RULES) -> Understood:
    return understand(exchange, SPOKEN, rules, LIMIT)


@pytest.mark.parametrize("dialect", ["openai_chat", "anthropic_messages"])
def test_only_what_is_new_is_in_the_turn_and_the_rest_is_history(dialect: str) -> None:
    understood = read(an_exchange(dialect=dialect))

    assert understood.transcript.parsed
    assert understood.history[-1].role == "assistant"
    assert "assistant" not in {message.role for message in understood.transcript.input}
    assert text_of(understood.transcript.output[0]).startswith("Bonjour 👋, ça va")
    assert understood.end is StreamEnd.COMPLETE
    assert understood.conversation is None


def test_model_usage_and_finish_are_in_the_turn() -> None:
    transcript = read(an_exchange()).transcript

    assert (transcript.model, transcript.usage["total_tokens"], transcript.finish) == (
        "gpt-test",
        16,
        ("stop",),
    )


def test_the_model_asked_for_stands_where_the_reply_names_none() -> None:
    assert read(an_exchange(reply=b"", status=503)).transcript.model == "gpt-test"


def test_a_first_request_is_new_with_its_instructions() -> None:
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    understood = read(an_exchange(request=json.dumps({"messages": messages}).encode()))

    assert [message.role for message in understood.transcript.input] == ["system", "user"]
    assert understood.history == ()


def test_rules_for_connectors_reach_request_and_reply() -> None:
    rules = OriginRules(connector_tools=("web_*", "weather"))
    exchange = an_exchange(dialect="anthropic_messages", reply=recorded("anthropic_server_tools.sse"))
    transcript = read(exchange, rules).transcript

    assert transcript.input[0].parts[0].origin is Origin.CONNECTOR_RAW
    assert transcript.output[0].parts[1].origin is Origin.CONNECTOR_RAW


@pytest.mark.parametrize(
    "encoding, code",
    [
        ("gzip", gzip.compress),
        ("br", brotli.compress),
        ("gzip, br", lambda body: brotli.compress(gzip.compress(body))),
    ],
)
def test_compressed_bodies_are_read(encoding: str, code: Callable[[bytes], bytes]) -> None:
    plain = read(an_exchange())
    coded = an_exchange(
        request=code(recorded("openai_request.json")),
        request_encoding=encoding,
        reply=code(recorded("openai_text.sse")),
        content_encoding=encoding,
    )

    assert read(coded) == plain


def test_a_compressed_error_is_read() -> None:
    body = gzip.compress(b'{"error": {"code": "quota"}}')
    understood = read(
        an_exchange(reply=body, content_encoding="gzip", status=429, content_type="application/json")
    )

    assert (understood.end, understood.transcript.finish) == (StreamEnd.ERROR, ("quota",))


STREAM_CUT = streamed({"choices": [{"delta": {"content": "Half"}}]})
STREAM_WHOLE = recorded("openai_text.sse")
REPLY = recorded("openai_reply.json")


@pytest.mark.parametrize(
    "reply, seen, expected",
    [
        pytest.param(STREAM_WHOLE, StreamEnd.COMPLETE, StreamEnd.COMPLETE, id="whole"),
        pytest.param(STREAM_CUT, StreamEnd.COMPLETE, StreamEnd.UPSTREAM_ABORTED, id="closed without its end"),
        pytest.param(b"", StreamEnd.COMPLETE, StreamEnd.UPSTREAM_ABORTED, id="closed before its beginning"),
        pytest.param(STREAM_CUT, StreamEnd.CLIENT_ABORTED, StreamEnd.CLIENT_ABORTED, id="the client left"),
        pytest.param(
            STREAM_WHOLE, StreamEnd.CLIENT_ABORTED, StreamEnd.COMPLETE, id="the client left at its end"
        ),
        pytest.param(
            STREAM_CUT, StreamEnd.UPSTREAM_ABORTED, StreamEnd.UPSTREAM_ABORTED, id="the upstream broke off"
        ),
        pytest.param(STREAM_CUT, StreamEnd.INTERRUPTED, StreamEnd.INTERRUPTED, id="chatproxy stopped"),
        pytest.param(STREAM_CUT, None, StreamEnd.INTERRUPTED, id="nobody saw it end"),
        pytest.param(recorded("openai_error.sse"), StreamEnd.COMPLETE, StreamEnd.ERROR, id="error event"),
        pytest.param(
            recorded("openai_error.sse"), StreamEnd.CLIENT_ABORTED, StreamEnd.ERROR, id="error, client left"
        ),
    ],
)
def test_how_a_stream_ended(reply: bytes, seen: StreamEnd | None, expected: StreamEnd) -> None:
    understood = read(an_exchange(reply=reply, end=seen))

    assert understood.end is expected
    assert understood.transcript.parsed


@pytest.mark.parametrize(
    "reply, status, seen, expected",
    [
        pytest.param(REPLY, 200, StreamEnd.COMPLETE, StreamEnd.COMPLETE, id="whole"),
        pytest.param(
            REPLY, 200, StreamEnd.CLIENT_ABORTED, StreamEnd.CLIENT_ABORTED, id="the client did not wait"
        ),
        pytest.param(
            b"", 0, StreamEnd.CLIENT_ABORTED, StreamEnd.CLIENT_ABORTED, id="the client left before it"
        ),
        pytest.param(b"", 200, StreamEnd.UPSTREAM_ABORTED, StreamEnd.UPSTREAM_ABORTED, id="only a head"),
        pytest.param(b"<html>", 502, StreamEnd.COMPLETE, StreamEnd.ERROR, id="error status"),
        pytest.param(b'{"error": "x"}', 200, StreamEnd.COMPLETE, StreamEnd.ERROR, id="an error under 200"),
    ],
)
def test_how_a_reply_ended(reply: bytes, status: int, seen: StreamEnd, expected: StreamEnd) -> None:
    understood = read(an_exchange(reply=reply, status=status, content_type="application/json", end=seen))

    assert understood.end is expected
    assert understood.transcript.parsed


def test_what_came_before_a_client_left_is_kept() -> None:
    understood = read(an_exchange(reply=STREAM_WHOLE[:700], end=StreamEnd.CLIENT_ABORTED))

    assert text_of(understood.transcript.output[0]) == "Bonjour"
    assert understood.end is StreamEnd.CLIENT_ABORTED


UNREADABLE = {
    "request": an_exchange(request=b"\xff\xfe"),
    "request coding": an_exchange(request_encoding="gzip"),
    "reply": an_exchange(reply=b"data: <html>\n\n"),
    "reply coding": an_exchange(content_encoding="br"),
    "unknown coding": an_exchange(content_encoding="x-secret"),
    "cut copy": an_exchange(truncated=True),
    "unknown dialect": an_exchange(dialect="openai_chat"),
    "larger than the limit": an_exchange(reply=gzip.compress(bytes(LIMIT + 1)), content_encoding="gzip"),
}
UNREADABLE["unknown dialect"].dialect = "raw"


@pytest.mark.parametrize("exchange", UNREADABLE.values(), ids=UNREADABLE)
def test_what_cannot_be_read_is_kept_whole_as_bytes(exchange: Exchange) -> None:
    understood = read(exchange)
    transcript = understood.transcript

    assert not transcript.parsed
    assert understood.history == ()
    (request,) = transcript.input[0].parts
    (reply,) = transcript.output[0].parts
    assert (request.kind, request.origin) == (PartKind.RAW_REQUEST, Origin.RAW)
    assert (reply.kind, reply.origin) == (PartKind.RAW_REPLY, Origin.RAW)
    assert b64decode(request.body["base64"]) == b"".join(exchange.request)
    assert b64decode(reply.body["base64"]) == b"".join(exchange.reply)
    assert understood.end is StreamEnd.COMPLETE


def test_raw_bytes_say_how_they_came() -> None:
    transcript = keep_raw(an_exchange(content_encoding="br", status=206)).transcript

    assert said(transcript.output[0].parts)[0][2] == {
        "base64": transcript.output[0].parts[0].body["base64"],
        "encoding": "br",
        "type": "text/event-stream",
        "status": 206,
    }
    assert transcript.input[0].parts[0].body.keys() == {"base64"}


def test_a_raw_request_without_a_reply_has_no_output() -> None:
    understood = read(an_exchange(request=b"?", reply=b"", status=0, end=StreamEnd.CLIENT_ABORTED))

    assert understood.transcript.output == ()
    assert understood.end is StreamEnd.CLIENT_ABORTED


def test_a_raw_error_is_an_error() -> None:
    assert read(an_exchange(request=b"?", status=400)).end is StreamEnd.ERROR


def test_half_characters_are_made_whole() -> None:
    request = b'{"messages": [{"role": "user", "content": "\\ud83d alone"}]}'
    reply = (
        b'data: {"choices": [{"delta": {"content": "\\ud83d"}}]}\n\n'
        b'data: {"choices": [{"delta": {"content": "\\ude00"}, "finish_reason": "stop"}]}\n\n'
    )
    transcript = read(an_exchange(request=request, reply=reply)).transcript

    assert text_of(transcript.input[0]) == "\ufffd alone"
    assert text_of(transcript.output[0]) == "\U0001f600"


def test_nothing_that_was_said_is_in_a_repr() -> None:
    for exchange in (an_exchange(), an_exchange(request=b"Bonjour")):
        assert "Bonjour" not in repr(read(exchange))
        assert "Qm9uam91" not in repr(read(exchange))


def test_what_names_answers_and_conversations_is_handed_on() -> None:
    request = {"input": "hi", "previous_response_id": "resp_0"}
    understood = read(
        an_exchange(
            dialect="openai_responses",
            request=json.dumps(request).encode(),
            reply=b'{"id": "resp_1", "status": "completed", "output": [], "conversation": {"id": "conv_1"}}',
            content_type="application/json",
        )
    )

    assert (understood.continues, understood.reply_ids, understood.conversation) == (
        "resp_0",
        ("resp_1",),
        "conv_1",
    )
    assert "resp_" not in repr(understood)


PICTURE = b64encode(bytes(range(256))).decode()


@pytest.mark.parametrize(
    "room, kept", [(0, []), (255, []), (256, [PICTURE]), (511, [PICTURE]), (512, [PICTURE] * 2)]
)
def test_media_are_kept_whole_as_far_as_there_is_room(room: int, kept: list[str]) -> None:
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}}
    request = json.dumps({"messages": [
        {"role": "user", "content": [picture]}, {"role": "assistant", "content": "Nice."},
        {"role": "user", "content": [picture]},
    ]}).encode()  # fmt: skip
    reply = json.dumps({"choices": [{"message": {
        "role": "assistant", "content": "", "images": [picture],
    }, "finish_reason": "stop"}]}).encode()  # fmt: skip
    exchange = an_exchange(request=request, reply=reply, content_type="application/json")

    understood = understand(exchange, SPOKEN, RULES, LIMIT, media_room=room)

    said = (*understood.transcript.input, *understood.transcript.output)
    parts = [part for message in said for part in message.parts if part.kind is PartKind.MEDIA]
    assert [part.body["bytes"] for part in parts] == [256, 256]
    assert [part.body["base64"] for part in parts if "base64" in part.body] == kept
    assert not any("base64" in part.body for message in understood.history for part in message.parts)
