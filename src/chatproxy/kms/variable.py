"""The keyset as an environment variable: what platforms that have no files give. It can be read and never changed.

1. The value is the keyset file in base64. It is read once, at the start: another value needs another process.
2. It is in ``/proc/PID/environ`` for whoever has this account, and child processes inherit it: ``doctor`` warns.
"""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from chatproxy.crypto.keyset import MAX_KEYSET_BYTES, Keyset, parse_keyset
from chatproxy.errors import KeysetError
from chatproxy.kms.file import KeysetFile

SCHEME = "env:"


class KeysetVariable:
    """A keyset in the variable *name*, whose value is *text*; None: it is not set."""

    __slots__ = ("_name", "_text")

    def __init__(self, name: str, text: str | None) -> None:
        self._name = name
        self._text = text

    def load(self) -> Keyset:
        """Read the value. Raises KeysetError."""
        source = SCHEME + self._name
        if not self._text:
            raise KeysetError(
                f"{source}: the variable is not set. Give it the keyset file in base64, as `base64 -w0 KEYSET` prints it"
            )
        try:
            data = base64.b64decode(self._text[: 2 * MAX_KEYSET_BYTES], validate=True)
        except ValueError:
            raise KeysetError(
                f"{source}: this is not base64. Give it the keyset file as `base64 -w0 KEYSET` prints it"
            ) from None
        return parse_keyset(data, source=source)

    def take(self, keyset: Keyset, *, now: int) -> NoReturn:
        """Refuse. Raises KeysetError."""
        del keyset, now
        raise KeysetError(
            f"{SCHEME}{self._name}: a keyset cannot be written into a variable. Move it to a file, with "
            "`chatproxy keys move --to file:PATH`, and give that in base64 as the variable (docs/keys.md)"
        )

    def change(self, step: Callable[[Keyset], Keyset]) -> NoReturn:  # noqa: ARG002 - as every place has it
        """Refuse. Raises KeysetError."""
        raise KeysetError(
            f"{SCHEME}{self._name}: a keyset in a variable cannot be changed from here. Take the keyset file that it was "
            "made of, run `chatproxy keys rotate` with CHATPROXY_KEYSET=file:PATH, and each time that it waits for nodes "
            "give them the file anew as the variable and start them again (docs/keys.md)"
        )


def keyset_place(
    url: str, *, data_dir: Path, variable: Callable[[str], str | None]
) -> KeysetFile | KeysetVariable:
    """Return the place that the setting names: ``file:PATH`` or ``env:NAME``. Raises KeysetError."""
    if url.startswith(SCHEME):
        name = url.removeprefix(SCHEME)
        return KeysetVariable(name, variable(name))
    return KeysetFile.from_url(url, data_dir=data_dir)
