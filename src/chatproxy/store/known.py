"""Has this node kept something in this store before? Then one that is empty was emptied, and is not a new one.

The file ``known-store`` in the data directory names the store, without credentials, and the keyset that it was used with.
"""

import json
import os
from pathlib import Path

from chatproxy.disk.directory import private_directory

_NAME = "known-store"


class KnownStore:
    """What is known of one store from before this start."""

    def __init__(self, data_dir: Path, store: str) -> None:
        """*store*: where it is, without credentials."""
        self._path = data_dir / _NAME
        self._store = store

    def how_to_begin_anew(self, keyset: str) -> str | None:
        """Say what to do to begin with an empty store, None where the store was never used with that keyset."""
        try:
            known = json.loads(self._path.read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        if known != {"store": self._store, "keyset": keyset}:
            return None
        return f"to begin with nothing, stop chatproxy and remove {self._path}"

    def note(self, keyset: str) -> None:
        """The store has a key ring that is used with this keyset. Raises OSError, ConfigurationError."""
        if self.how_to_begin_anew(keyset) is None:
            private_directory(self._path.parent)
            text = json.dumps({"store": self._store, "keyset": keyset})
            draft = self._path.with_suffix(f".{os.getpid()}")
            draft.write_text(text, encoding="utf-8")
            draft.replace(self._path)
