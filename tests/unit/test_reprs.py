"""Nothing of what people say, of who they are or of a key is in a `repr`, and so in a traceback or a log that shows one."""

import dataclasses
import importlib
import pkgutil
import re
from collections.abc import Callable, Iterator
from typing import Any, get_args, get_origin, get_type_hints

import msgspec
import pytest

import chatproxy
from chatproxy.leaks.canaries import make_canaries

WORD = make_canaries(["field"], random=bytes)["field"]
SENSITIVE = re.compile(
    r"arguments|authority|blob|body|case|content|content_block|delta|details|error|images|input|item|message|messages|"
    r"output|parts|partial_json|password|payload|plain|plaintext|prompt|prompt_feedback|refusal|response|said|says|"
    r"secret|secrets|seed|signed|subject|tenant|text|thinking|token|tokens|tool_calls|url|wrapped"
)
"""Names of fields that have something of a person's, or what opens it."""
SHOWN = {
    "consent.controller.Controller.authority": "the supervisory authority",
    "crypto.keyring.RingKey.wrapped": "sealed",
    "crypto.sealed_keyset._Pseudonyms.wrapped": "sealed",
    "crypto.sealed_keyset._Version.wrapped": "sealed",
    "datasets.manifest.Item.item": "a name that only this dataset has",
    "forwarding.UpstreamAddress.authority": "host and port",
    "identities.claims.ClaimNames.subject": "the name of a claim",
    "identities.claims.ClaimNames.tenant": "the name of a claim",
    "leaks.drive._Serving.url": "a port of this machine",
    "web.api.admin.Pseudonym.subject": "a pseudonym",
    "web.person_session._Ticket.subject": "a pseudonym",
    "wire.base.Failure.message": "our own words",
    "workflows.recall.Recall.item": "a name that only its dataset has",
    "workflows.replace_keys.Scope.text": "an argument of a command",
}
"""What has such a name and is nothing of the kind."""


def classes() -> Iterator[type]:
    """Yield every class of ours that shows its fields."""
    for module in pkgutil.walk_packages(chatproxy.__path__, "chatproxy."):
        if module.name.endswith((".__main__", ".launch")) or ".demo." in module.name:
            continue
        for found in vars(importlib.import_module(module.name)).values():
            if isinstance(found, type) and found.__module__ == module.name:
                is_struct = issubclass(found, msgspec.Struct) and "__repr__" not in vars(found)
                if is_struct or dataclasses.is_dataclass(found):
                    yield found


def fields(found: type) -> Iterator[tuple[str, Any]]:
    try:
        hints = get_type_hints(found, include_extras=False)
    except TypeError:  # of a type that only a checker can subscript
        hints = {}
    names = (
        [field.name for field in dataclasses.fields(found)]
        if dataclasses.is_dataclass(found)
        else list(found.__struct_fields__)  # type: ignore[attr-defined]
    )
    yield from ((name, hints.get(name, Any)) for name in names)


def is_plain(hint: Any) -> bool:
    """Whether a field has text or bytes themselves, and not one of our classes or pseudonyms."""
    inner = get_args(hint) if get_origin(hint) is not Callable else ()
    return any(hint is plain for plain in (str, bytes, Any)) or any(map(is_plain, inner))


def shown(found: type) -> str:
    """Return the repr of one whose every field has the word."""
    if issubclass(found, msgspec.Struct):
        return repr(found(**{name: f"{WORD}-{name}-" for name, _ in fields(found)}))
    made = object.__new__(found)
    for name, _ in fields(found):
        object.__setattr__(made, name, f"{WORD}-{name}-")
    return repr(made)


CLASSES = sorted(classes(), key=lambda found: (found.__module__, found.__name__))


def test_there_are_classes_to_look_at() -> None:
    assert len(CLASSES) > 200


@pytest.mark.parametrize("found", CLASSES, ids=lambda found: f"{found.__module__[10:]}.{found.__name__}")
def test_a_repr_shows_nothing_of_a_person_and_no_secret(found: type) -> None:
    text = shown(found)
    told = {name for name, hint in fields(found) if f"{WORD}-{name}-" in text and is_plain(hint)}
    own = f"{found.__module__}.{found.__name__}"
    harmless = {name for name in told if f"{own}.{name}".removeprefix("chatproxy.") in SHOWN}
    assert {name for name in told if SENSITIVE.fullmatch(name)} == harmless
