"""What an address of a dataset may be, and that nothing of it is repeated that may be a secret."""

from pathlib import Path

import pytest

from chatproxy.errors import ConfigurationError
from chatproxy.workflows.dataset_address import dataset_files
from chatproxy.workflows.dataset_bucket import SCHEMES
from chatproxy.workflows.dataset_directory import DatasetDirectory


@pytest.mark.parametrize(
    "address, path",
    [("out/set", "out/set"), ("/srv/set", "/srv/set"), ("file:///srv/may%20set", "/srv/may set")],
    ids=["relative", "absolute", "URL"],
)
def test_a_directory_is_named_by_path_or_file_address(address: str, path: str) -> None:
    files = dataset_files(address)
    assert isinstance(files, DatasetDirectory)
    assert files.path == Path(path)
    assert (files.shown(), files.shown("data/x")) == (path, f"{path}/data/x")


@pytest.mark.parametrize(
    "address",
    [
        "s3://AKIAIOSFODNN7EXAMPLE:hunter2@bucket/set",
        "s3://hunter2@bucket/set",
        "s3://bucket:hunter2/set",
        "gs://bucket/set?X-Goog-Signature=hunter2",
        "s3://bucket/set#hunter2",
        "s3://bucket/key:x@hunter2/set",
        "https://bob:hunter2@example.org/set",
        "s3+https://hunter2@example.org/set",
        "hunter2://x",
        "file://bob:hunter2@host/set",
        "s3://bucket/set/*hunter2",
        "s3://hunter2bucket",
        "s3:///hunter2",
        "s3://bucket/.hunter2",
        "s3://bucket/set/../hunter2",
        "s3://bucket//hunter2",
        "s3://bucket/set\nhunter2",
        "S3://hunter2/x",
    ],
    ids=[
        "user and password", "user", "port", "query", "fragment", "at in the prefix", "https", "two schemes", "unknown scheme",
        "file with a host", "pattern", "no prefix", "no bucket", "hidden", "dots", "empty segment", "line end", "capitals",
    ],
)  # fmt: skip
def test_what_is_no_plain_address_is_refused_without_being_repeated(address: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        dataset_files(address)
    assert any(why in str(refused.value) for why in ("a bucket and a prefix", "begins with", "three slashes"))
    assert "hunter2" not in str(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_store_whose_library_is_not_installed_says_what_to_install(scheme: str) -> None:
    with pytest.raises(ConfigurationError, match=r"pip install 'chatproxy\[export\]' (s3fs|gcsfs)"):
        dataset_files(f"{scheme}://bucket/may-set/2026")
