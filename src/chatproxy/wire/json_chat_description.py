"""How does this home-grown chatbot speak? Described by settings, in TOML, a table for each chatbot.

All that is wrong is said at once, a line a problem, each naming its table and key.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

from chatproxy.errors import ConfigurationError
from chatproxy.wire.json_path import JSONPath

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_METHODS = ("POST", "PUT", "PATCH")
_TRANSPORTS = ("http", "websocket")
_ROLE = JSONPath(("role",))
_CONTENT = JSONPath(("content",))


@dataclass(frozen=True, slots=True, kw_only=True)
class JSONChatDescription:
    """One chatbot that takes and gives JSON. Paths are those of ``chatproxy.wire.json_path``."""

    name: str
    """What its turns are named after: ``json:`` and this."""
    path: str
    """Of the URL, undecoded; ``*`` stands for one whole segment."""
    transport: str = "http"
    """``http``, or ``websocket``: then ``method`` does not count, and each message is as an event of a stream."""
    method: str = "POST"
    request_text: JSONPath | None = None
    """The new text in the request."""
    history: JSONPath | None = None
    """The messages of the conversation, where the client sends it again, oldest first."""
    history_role: JSONPath = _ROLE
    """Who says a message, within it."""
    history_text: JSONPath = _CONTENT
    """What a message says, within it."""
    user_role: str = "user"
    """The word for the person."""
    assistant_role: str = "assistant"
    """The word for the chatbot."""
    reply_text: JSONPath
    """The answer in a reply that is no stream."""
    stream_text: JSONPath | None = None
    """The piece of the answer in each event or line of a stream; as ``reply_text`` if it is not given."""
    stream_end: str | None = None
    """How a stream says that it is whole: the data of its last event, or ``path=value`` of a member of it.

    None: it does not say; whoever closed the connection ended it.
    """
    request_upload: JSONPath | None = None
    """The text of files that the person sends with the new text; likewise the next two."""
    request_pasted: JSONPath | None = None
    """What the person pasted from a connector, which is the person's own text (R25)."""
    request_connector: JSONPath | None = None
    """What a connector found for the request: raw data, which never trains (R25)."""
    request_conversation: JSONPath | None = None
    """The conversation's id in the request."""
    reply_conversation: JSONPath | None = None
    """The conversation's id in the reply, or in an event of a stream."""


_FIELDS = {field.name: field for field in fields(JSONChatDescription) if field.name != "name"}
_SENT_ALONG = ("request_upload", "request_pasted", "request_connector")
_PATHS = frozenset(name for name, field in _FIELDS.items() if "JSONPath" in str(field.type))


def read_descriptions(text: str) -> tuple[JSONChatDescription, ...]:
    """Read the TOML file *text*. Raises ConfigurationError that lists all that is wrong with it."""
    try:
        tables = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigurationError(f"the descriptions of JSON chats are not TOML: {error}") from None
    problems: list[str] = []
    read = [_read_table(name, table, problems) for name, table in tables.items()]
    if problems:
        raise ConfigurationError("\n".join(problems))
    return tuple(description for description in read if description is not None)


def _read_table(name: str, table: Any, problems: list[str]) -> JSONChatDescription | None:
    """Read one table; None where that added to *problems*."""
    if not _NAME.fullmatch(name):
        problems.append(f"[{name}]: a JSON chat is named by up to 64 letters, digits, - and _")
        return None
    if not isinstance(table, dict):
        problems.append(f"{name}: a JSON chat is described by a table, [{name}]")
        return None
    values: dict[str, Any] = {}
    before = len(problems)
    for key, value in table.items():
        if key not in _FIELDS:
            problems.append(f"{name}.{key} is not a key; there are {', '.join(_FIELDS)}")
            continue
        try:
            values[key] = _read_value(key, value)
        except ValueError as error:
            problems.append(f"{name}.{key} = {value!r} {error}")
    missing = [key for key, field in _FIELDS.items() if field.default is MISSING and key not in table]
    problems += [f"{name}.{key} is missing" for key in missing]
    if not {"request_text", "history"} & table.keys():
        problems.append(f"{name} needs request_text, history or both: where the request says something")
    problems += _contradictions(name, values)
    return None if len(problems) > before else JSONChatDescription(name=name, **values)


def _contradictions(name: str, values: Mapping[str, Any]) -> list[str]:
    sent_along = [key for key in _SENT_ALONG if key in values]
    if sent_along and "history" in values:
        # A history does not bring it again, so the next request would match nothing that is stored.
        return [f"{name}.{sent_along[0]} needs request_text, and no history"]
    if values.get("user_role", "user") == values.get("assistant_role", "assistant"):
        return [f"{name}.user_role and {name}.assistant_role are the same word"]
    if values.get("transport") == "websocket":
        if "request_text" not in values:
            return [f"{name}.request_text is missing: over WebSocket it tells which message the person says"]
        if "=" not in values.get("stream_end", "="):
            return [f"{name}.stream_end must be path=value over WebSocket, where every message is JSON"]
    return []


def _read_value(key: str, value: object) -> str | JSONPath:
    """Return *value* as the field *key* holds it. Raises ValueError."""
    if not isinstance(value, str) or not value:
        raise ValueError("must be a text in quotes, and not empty")
    if key in _PATHS:
        return JSONPath.parse(value)
    if key == "path" and not re.fullmatch(r"(/(\*|[^/*?#\s]*))+", value):
        raise ValueError("must be the path of a URL, with * for one whole segment: /bots/*/ask")
    if key == "method" and value not in _METHODS:
        raise ValueError(f"must be one of {', '.join(_METHODS)}")
    if key == "transport" and value not in _TRANSPORTS:
        raise ValueError(f"must be one of {', '.join(_TRANSPORTS)}")
    if key == "stream_end" and "=" in value:
        JSONPath.parse(value.partition("=")[0])
    return value
