"""The files of a dataset in a bucket: what may an object store be asked, and what of its answers may be shown?

1. An object is there whole or not at all: each file is one request, from memory. Stores that cannot do that are not used.
2. Nothing of an address but scheme, bucket and prefix is taken, so no credentials can be in it: the store's own library
   finds them where its users keep them. Of its errors the class alone is shown, since any of them may quote a request.
3. Who may read an object is what the bucket says: nothing is asked beside it.
"""

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from chatproxy.errors import ConfigurationError

_LIBRARIES = {"s3": "s3fs", "gs": "gcsfs"}
"""What each kind of store needs beside fsspec."""
SCHEMES = tuple(_LIBRARIES)
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_PREFIX = re.compile(r"[\w!=+,:~-][\w!=+,:~. -]*(/[\w!=+,:~-][\w!=+,:~. -]*)*")
"""Names that mean the same to every library: no pattern, no query, nothing hidden."""


class DatasetBucket:
    """One prefix of a bucket."""

    def __init__(self, filesystem: Any, root: str, address: str) -> None:
        """``filesystem``: one of fsspec's; ``root``: the prefix as that has it; ``address``: as messages name it."""
        self._filesystem = filesystem
        self._root = root
        self._address = address

    def shown(self, name: str = "") -> str:
        """Return a file, or all of it, as a message names it."""
        return f"{self._address}/{name}" if name else self._address

    def make(self) -> None:
        """Do nothing: a prefix is there with its first object."""

    def write(self, name: str, data: bytes) -> None:
        """Put an object. Raises ConfigurationError."""
        with self._asked("written", name):
            self._filesystem.pipe_file(self._path(name), data)

    def read(self, name: str) -> bytes | None:
        """Return an object; None: there is none of that name. Raises ConfigurationError."""
        with self._asked("read", name):
            try:
                data: bytes = self._filesystem.cat_file(self._path(name))
            except FileNotFoundError:
                return None
            return data

    def remove(self, name: str) -> None:
        """Remove an object that may not be there. Raises ConfigurationError."""
        with self._asked("removed", name):
            try:
                self._filesystem.rm_file(self._path(name))
            except FileNotFoundError:
                return

    def keep_only(self, names: Collection[str], *, of: str) -> None:
        """Remove items that are not in *names*, of the shard that ends in *of*. Raises ConfigurationError."""
        for name in self._listed():
            folder, _, file = name.rpartition("/")
            if folder in {"data", "items"} and f"-{of}-" in file and name not in names:
                self.remove(name)

    def names(self) -> Iterator[str]:
        """Yield the names of all objects but hidden ones, in order. Raises ConfigurationError."""
        for name in self._listed():
            if not name.rpartition("/")[2].startswith("."):
                yield name

    def _listed(self) -> list[str]:
        with self._asked("listed", ""):
            try:
                found: list[str] = self._filesystem.find(self._root)
            except FileNotFoundError:
                return []
        head = f"{self._root}/"
        return sorted(path.removeprefix(head) for path in found if path.startswith(head))

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextmanager
    def _asked(self, what: str, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 - the outer edge of libraries that each raise their own
            raise ConfigurationError(
                f"{self.shown(name)} cannot be {what}: {type(error).__name__}. See that the bucket is there, and that whoever "
                "runs this may list, read, write and remove objects in it; then do it again"
            ) from None


def open_bucket(address: str) -> DatasetBucket:
    """Return the prefix that *address* names, as in ``s3://bucket/prefix``.

    Raises ConfigurationError, which does not repeat what may hold credentials.
    """
    scheme, _, rest = address.partition("://")
    if scheme not in _LIBRARIES:
        raise ConfigurationError(
            "a dataset goes to a directory, or to an address that begins with "
            + ", ".join(f"{each}://" for each in ("file", *SCHEMES))
        )
    bucket, _, prefix = rest.rstrip("/").partition("/")
    if not _BUCKET.fullmatch(bucket) or not _PREFIX.fullmatch(prefix):
        raise ConfigurationError(
            f"an {scheme}:// address is a bucket and a prefix and nothing else, as in {scheme}://bucket/may-set. Credentials "
            f"do not belong there: {_LIBRARIES[scheme]} finds them in its environment and its files"
        )
    return DatasetBucket(_filesystem(scheme), f"{bucket}/{prefix}", f"{scheme}://{bucket}/{prefix}")


def _filesystem(scheme: str) -> Any:
    try:
        import fsspec  # noqa: PLC0415 - an extra

        # Others write beside: what was listed once is not what is there.
        return fsspec.filesystem(scheme, use_listings_cache=False, skip_instance_cache=True)
    except ImportError:
        raise ConfigurationError(
            f"{scheme}:// needs {_LIBRARIES[scheme]}, which is not installed: "
            f"pip install 'chatproxy[export]' {_LIBRARIES[scheme]}, or give a directory"
        ) from None
