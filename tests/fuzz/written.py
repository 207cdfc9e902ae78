"""What operators write: descriptions of JSON chats and paths in them. Wrong ones are ConfigurationError and ValueError."""

from contextlib import suppress

from chatproxy.errors import ConfigurationError, UnreadableError
from chatproxy.wire.base import OriginRules
from chatproxy.wire.json_chat import JSONChat
from chatproxy.wire.json_chat_description import read_descriptions
from chatproxy.wire.json_path import JSONPath
from fuzz.target import Target

BODY = b'{"q": "hi", "a": {"b": [{"c": "A"}, 1]}, "h": [{"role": "user", "content": "x"}], "error": null}'


def describe(data: bytes) -> None:
    """Read *data* as a file of descriptions, and what they describe as they say."""
    with suppress(UnicodeDecodeError, ConfigurationError):
        for description in read_descriptions(data.decode()):
            chat = JSONChat(description)
            with suppress(UnreadableError):
                chat.read_request(BODY, OriginRules())
            with suppress(UnreadableError):
                chat.read_reply(200, "text/event-stream", b"data: " + BODY + b"\n\n", OriginRules())
            chat.is_user_message(BODY), chat.is_answer(BODY), chat.ends_turn(BODY)


def path(data: bytes) -> None:
    """Read *data* as a path in JSON."""
    with suppress(UnicodeDecodeError, ValueError):
        JSONPath.parse(data.decode()).find({"a": [{"b": 1}]})


TARGETS = {
    "descriptions": Target(
        describe,
        (
            b'[bot]\npath = "/t/*"\nrequest_text = "q"\nreply_text = "a.b[*].c"\nstream_end = "done=true"\n',
            b'[ws]\ntransport = "websocket"\npath = "/c"\nrequest_text = "q"\nreply_text = "a"\nrequest_pasted = "h"\n',
            b'[h]\npath = "/"\nhistory = "h[*]"\nuser_role = "u"\nreply_text = "[*]"\nmethod = "PUT"\n',
        ),
        is_bounded=False,  # Python's TOML reader takes its time over long dotted keys; it is the operator's own file
    ),
    "paths": Target(path, (b"a[*].b", b"[*][*].a.b")),
}
