"""What was described gets its content back from the same bytes, and nothing else does."""

import json
from base64 import b64encode
from collections.abc import Sequence

import pytest

from chatproxy.history import message_bytes
from chatproxy.model import Message, Origin, Part, PartKind
from chatproxy.wire import media
from chatproxy.wire.media_content import with_content

PICTURE = bytes(range(256))
BASE64 = b64encode(PICTURE).decode()
ROOM = 1 << 20


def shown(content: bytes = PICTURE) -> Message:
    return Message(
        "user",
        (
            Part(PartKind.TEXT, Origin.TYPED, {"text": BASE64}),
            Part(PartKind.MEDIA, Origin.UPLOAD, media.from_bytes(content, "image/png")),
        ),
    )


def contents(messages: Sequence[Message]) -> list[str | None]:
    return [part.body.get("base64") for message in messages for part in message.parts if part.kind == "media"]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(json.dumps({"data": BASE64}), id="base64"),
        pytest.param(json.dumps([{"a": [1, {"url": f"data:image/png;base64,{BASE64}"}]}]), id="data URL"),
        pytest.param(f'event: x\ndata: {{"data": "{BASE64}"}}\n\ndata: [DONE]\n\n', id="events"),
        pytest.param(f'{{"a": 1}}\n{{"data": "{BASE64}"}}\n', id="lines"),
    ],
)
def test_a_description_gets_the_content_that_the_body_holds(body: str) -> None:
    [filled], room = with_content([shown()], body.encode(), room=ROOM)

    assert contents([filled]) == [BASE64]
    assert room == ROOM - len(PICTURE)
    assert (filled.parts[0], filled.role) == (shown().parts[0], "user")
    assert filled.parts[1].body.keys() == {"mime", "bytes", "sha256", "base64"}
    assert message_bytes(filled) == message_bytes(shown())


def test_a_document_of_text_and_an_unencoded_data_url_are_content_too() -> None:
    body = json.dumps(["grün, und so", "data:text/plain,a%20b"]).encode()
    messages = [shown("grün, und so".encode()), shown(b"a b")]

    filled, _ = with_content(messages, body, room=ROOM)

    assert contents(filled) == [b64encode("grün, und so".encode()).decode(), b64encode(b"a b").decode()]


@pytest.mark.parametrize(
    "body",
    [b"", b"\xff\x00", b'"', b'{"data": 1}', json.dumps({"data": BASE64[:-4]}).encode(), b"[" * 100_000],
    ids=["nothing", "garbage", "broken", "no text", "another picture", "nested without end"],
)
def test_without_the_content_a_description_stays_as_it_is(body: bytes) -> None:
    assert with_content([shown()], body, room=ROOM) == ((shown(),), ROOM)


def test_what_does_not_fit_stays_a_description() -> None:
    other = b"x" * 200
    body = json.dumps([BASE64, b64encode(other).decode()]).encode()

    filled, room = with_content([shown(), shown(), shown(other)], body, room=460)

    assert contents(filled) == [BASE64, None, b64encode(other).decode()]
    assert room == 4
    assert contents(with_content([shown()], body, room=255)[0]) == [None]
    assert contents(with_content([shown()], body, room=256)[0]) == [BASE64]


def test_what_is_only_referred_to_has_no_content() -> None:
    part = Part(PartKind.MEDIA, Origin.UPLOAD, media.from_url("https://example.org/a.png", "image/*"))
    message = Message("user", (part,))

    assert with_content([message], b'["https://example.org/a.png"]', room=ROOM) == ((message,), ROOM)
