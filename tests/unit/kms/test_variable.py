"""The keyset in an environment variable: read, and never changed."""

import base64
from collections.abc import Callable
from pathlib import Path

import pytest

from chatproxy.crypto.keyset import make_keyset, write_keyset
from chatproxy.errors import KeysetError
from chatproxy.kms.file import FileRoot, KeysetFile
from chatproxy.kms.variable import KeysetVariable, keyset_place

AT = 1_790_000_000_000
NO_DATA = Path("/nowhere/data")


def a_variable(data: bytes) -> KeysetVariable:
    return KeysetVariable("CHAT_KEYSET", base64.b64encode(data).decode())


def test_the_keyset_file_in_base64_is_that_keyset() -> None:
    keyset = make_keyset(created_at=AT)

    assert write_keyset(a_variable(write_keyset(keyset)).load()) == write_keyset(keyset)


@pytest.mark.parametrize(
    "text, said",
    [
        (None, "is not set"),
        ("", "is not set"),
        ("{}", "is not base64"),
        ("AAAA\n", "is not base64"),
        ("AAAA", "not a whole keyset file"),
    ],
    ids=["not set", "empty", "the file itself", "with a line end", "not a keyset"],
)
def test_what_is_no_keyset_is_refused_without_being_shown(text: str | None, said: str) -> None:
    with pytest.raises(KeysetError, match=said) as refusal:
        KeysetVariable("CHAT_KEYSET", text).load()

    assert str(refusal.value).startswith("env:CHAT_KEYSET: ")
    assert not text or text not in str(refusal.value)


async def test_a_rotation_says_what_to_do_instead() -> None:
    root = FileRoot(a_variable(write_keyset(make_keyset(created_at=AT))))

    with pytest.raises(KeysetError, match="CHATPROXY_KEYSET=file:PATH"):
        await root.add_version(now=AT)

    [version] = await root.versions()
    [wrapped] = await root.wrap("ring", [(b"mac", bytes(range(32)))])
    assert await root.unwrap("ring", [(b"mac", wrapped)]) == [bytes(range(32))]
    assert version.check


@pytest.mark.parametrize(
    "url, kind",
    [("file:/keys/keyset", KeysetFile), ("env:CHAT_KEYSET", KeysetVariable)],
    ids=["file", "variable"],
)
def test_the_setting_names_the_place(url: str, kind: Callable[..., object]) -> None:
    assert isinstance(keyset_place(url, data_dir=NO_DATA, variable=lambda _: None), kind)  # type: ignore[arg-type]
