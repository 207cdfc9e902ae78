"""Where is a dataset? A directory, also as ``file://``, or a prefix of a bucket."""

from pathlib import Path
from urllib.parse import unquote

from chatproxy.errors import ConfigurationError
from chatproxy.ports import DatasetFiles
from chatproxy.workflows.dataset_bucket import open_bucket
from chatproxy.workflows.dataset_directory import DatasetDirectory


def dataset_files(address: str) -> DatasetFiles:
    """Return the files at *address*. Raises ConfigurationError, which does not repeat what may hold credentials."""
    scheme, mark, rest = address.partition("://")
    if not mark:
        return DatasetDirectory(Path(address))
    if scheme != "file":
        return open_bucket(address)
    if not rest.startswith("/"):
        raise ConfigurationError(
            "a file:// address is an absolute path behind three slashes: file:///srv/may-set"
        )
    return DatasetDirectory(Path(unquote(rest)))
