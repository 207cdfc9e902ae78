"""A prefix of a bucket holds the files of a dataset as a directory does; what fails says so without repeating anything."""

from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from chatproxy.errors import ConfigurationError
from chatproxy.workflows.dataset_bucket import DatasetBucket


def bucket(filesystem: Any = None) -> DatasetBucket:
    if filesystem is None:
        filesystem = MemoryFileSystem(skip_instance_cache=True)
        filesystem.store, filesystem.pseudo_dirs = {}, [""]
    return DatasetBucket(filesystem, "/bucket/set", "s3://bucket/set")


def test_what_is_written_is_read_listed_and_removed() -> None:
    files = bucket()
    files.make()
    assert (files.read("README.md"), list(files.names())) == (None, [])
    files.write("data/b.jsonl", b"old")
    files.write("data/b.jsonl", b"new")
    files.write("README.md", b"card")
    files.write(".state-0001-of-0001.json", b"state")
    assert files.read("data/b.jsonl") == b"new"
    assert list(files.names()) == ["README.md", "data/b.jsonl"]
    files.remove("data/b.jsonl")
    files.remove("data/b.jsonl")
    assert files.read("data/b.jsonl") is None


def test_what_lies_beside_the_prefix_is_not_of_the_dataset() -> None:
    files = bucket()
    files.write("README.md", b"card")
    files._filesystem.pipe_file("/bucket/set-two/README.md", b"other")
    files._filesystem.pipe_file("/bucket/README.md", b"other")
    assert list(files.names()) == ["README.md"]


def test_an_object_of_the_name_of_the_prefix_is_not_of_the_dataset() -> None:
    files = bucket()
    files._filesystem.pipe_file("/bucket/set", b"other")
    assert list(files.names()) == []


def test_of_a_shard_only_what_is_named_is_kept() -> None:
    files = bucket()
    names = [f"{folder}/part-000{shard}-of-0002-0000{n}.jsonl" for folder in ("data", "items") for shard in (1, 2) for n in (1, 2)]  # fmt: skip
    for name in (*names, "files-0001-of-0002.jsonl"):
        files.write(name, b"")
    files.keep_only({"data/part-0001-of-0002-00001.jsonl"}, of="0001-of-0002")
    assert list(files.names()) == [
        "data/part-0001-of-0002-00001.jsonl",
        "data/part-0002-of-0002-00001.jsonl",
        "data/part-0002-of-0002-00002.jsonl",
        "files-0001-of-0002.jsonl",
        "items/part-0002-of-0002-00001.jsonl",
        "items/part-0002-of-0002-00002.jsonl",
    ]


class Refusing:
    """A store that quotes the request in what it raises."""

    def __getattr__(self, name: str) -> Any:
        def refuse(*_: object) -> None:
            raise PermissionError("signed with AKIAIOSFODNN7EXAMPLE")

        return refuse


@pytest.mark.parametrize(
    "ask",
    [
        lambda files: files.write("data/x", b""),
        lambda files: files.read("data/x"),
        lambda files: files.remove("data/x"),
        lambda files: list(files.names()),
        lambda files: files.keep_only(set(), of="0001-of-0001"),
    ],
    ids=["write", "read", "remove", "names", "keep only"],
)
def test_a_refusal_names_the_place_and_nothing_of_the_request(ask: Any) -> None:
    with pytest.raises(ConfigurationError, match="PermissionError") as refused:
        ask(bucket(Refusing()))
    assert "s3://bucket/set" in str(refused.value)
    assert "AKIA" not in str(refused.value)
    assert refused.value.__suppress_context__
