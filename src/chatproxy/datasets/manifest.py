"""What does a dataset say about itself, so that anybody can check it and every item can be taken back (R43)?

Beside each file of items lies a file with a line an item: its name, the hash of its content, the receipt that permits
it (by a name that leads nowhere else), the digest of the policy, until when it may be used, what was taken out. The hashes of
all files are in one list, and the hash of that list is in the manifest, which is signed
(``chatproxy.crypto.signed_document``): so it is short, however large the dataset.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from chatproxy.crypto.keys import SigningSeed
from chatproxy.crypto.signed_document import sign_document, verify_document
from chatproxy.datasets.tables import Form
from chatproxy.policy.instants import format_instant

FORMAT = "chatproxy/dataset/v1"
CARD = "README.md"
_MANIFEST = re.compile(r"manifest-(\d{4})-of-(\d{4})\.json")


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """What the manifest says of one item."""

    item: str
    sha256: str
    receipt: str | None
    policy: str
    """The digest of the policy that it was decided under."""
    reason: str
    until: str
    """When the ground ends; the item must not be used from then on."""
    redaction: str
    redacted: dict[str, int]


class File(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a dataset."""

    name: str
    bytes: int
    sha256: str
    items: int


@dataclass(frozen=True, slots=True)
class Shard:
    """One of several equal parts that a dataset is made in; numbers from 1."""

    number: int = 1
    of: int = 1

    @property
    def suffix(self) -> str:
        """Return how names of its files end."""
        return f"{self.number:04d}-of-{self.of:04d}"

    @property
    def manifest(self) -> str:
        """Return the name of its manifest."""
        return f"manifest-{self.suffix}.json"

    @property
    def files(self) -> str:
        """Return the name of the list of its files."""
        return f"files-{self.suffix}.jsonl"

    def data_file(self, part: int, form: Form, *, again: int = 0) -> str:
        """Return the name of a file with items; ``again``: how often it was written without some of them."""
        return f"data/part-{self.suffix}-{_numbered(part, again)}.{form}"

    def items_file(self, part: int, *, again: int = 0) -> str:
        """Return the name of the file about the items of a part."""
        return f"items/part-{self.suffix}-{_numbered(part, again)}.jsonl"


def _numbered(part: int, again: int) -> str:
    return f"{part:05d}-{again}" if again else f"{part:05d}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What was exported, for whom and how."""

    dataset: str
    purpose: str
    consumer: str
    at: int
    """The instant of the export, ms."""
    form: Form
    shard: Shard
    redaction: str
    min_age_ms: int
    software: str
    items: int
    turns: int
    """Turns that were looked at."""
    left_out: Mapping[str, int]
    redacted: Mapping[str, int]
    policies: Mapping[str, int]
    files: File

    @property
    def run(self) -> str:
        """Return the name of the run that made it."""
        return f"{self.dataset}-{self.shard.suffix}"

    def sign(self, seed: SigningSeed) -> bytes:
        """Return the manifest as a file, signed."""
        document: dict[str, Any] = {
            "format": FORMAT,
            "dataset": self.dataset,
            "run": self.run,
            "purpose": self.purpose,
            "consumer": self.consumer,
            "exported_at": format_instant(self.at),
            "exported_at_ms": self.at,
            "form": str(self.form),
            "shard": {"number": self.shard.number, "of": self.shard.of},
            "redaction": {"profile": self.redaction, "counts": dict(sorted(self.redacted.items()))},
            "min_age_ms": self.min_age_ms,
            "software": self.software,
            "items": self.items,
            "turns": self.turns,
            "left_out": dict(sorted(self.left_out.items())),
            "policies": dict(sorted(self.policies.items())),
            "files": msgspec.to_builtins(self.files),
        }
        return sign_document(document, seed=seed)


def read_manifest(file: bytes, *, publics: Iterable[bytes]) -> Manifest:
    """Undo ``Manifest.sign``.

    Raises UndecryptableError (manifest_format, manifest_unknown_key, manifest_signature), and ValueError for a document of
    another shape.
    """
    document = verify_document(file, form=FORMAT, kind="manifest", publics=publics)
    try:
        return Manifest(
            dataset=document["dataset"],
            purpose=document["purpose"],
            consumer=document["consumer"],
            at=document["exported_at_ms"],
            form=Form(document["form"]),
            shard=Shard(document["shard"]["number"], document["shard"]["of"]),
            redaction=document["redaction"]["profile"],
            min_age_ms=document["min_age_ms"],
            software=document["software"],
            items=document["items"],
            turns=document["turns"],
            left_out=document["left_out"],
            redacted=document["redaction"]["counts"],
            policies=document["policies"],
            files=msgspec.convert(document["files"], File),
        )
    except (KeyError, TypeError, msgspec.ValidationError):
        raise ValueError("is no manifest") from None


def is_manifest(name: str) -> bool:
    """Whether a file of that name is a manifest."""
    return _MANIFEST.fullmatch(name) is not None


def about(name: str, data: bytes, *, items: int) -> File:
    """Return the line of the list of files about one of them."""
    return File(name=name, bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), items=items)


def is_as_listed(file: File, data: bytes) -> bool:
    """Whether *data* is what was in a file when it was listed."""
    return about(file.name, data, items=file.items) == file


def lines(each: Iterable[msgspec.Struct]) -> bytes:
    """Return JSON lines."""
    return b"".join(msgspec.json.encode(line) + b"\n" for line in each)


def card(*, dataset: str, purpose: str, consumer: str, at: int, form: Form, redaction: str) -> bytes:
    """Return the dataset card: what ``datasets`` reads to load it, and what a person should know.

    It says nothing that differs between shards, so each writes the same.
    """
    return _CARD.format(
        dataset=dataset,
        purpose=purpose,
        consumer=" ".join(consumer.split()),
        at=format_instant(at),
        form=form,
        redaction=redaction,
    ).encode()


_CARD = """---
pretty_name: {dataset}
license: other
language: [en, fr]
task_categories: [text-generation]
configs:
- config_name: default
  data_files:
  - split: train
    path: data/*.{form}
dataset_info:
  config_name: default
  features:
  - {{name: id, dtype: string}}
  - {{name: person, dtype: string}}
  - {{name: conversation, dtype: string}}
  - {{name: after, dtype: string}}
  - {{name: choice, dtype: int64}}
  - {{name: day, dtype: int64}}
  - {{name: surface, dtype: string}}
  - {{name: model, dtype: string}}
  - {{name: end, dtype: string}}
  - name: messages
    list:
    - {{name: role, dtype: string}}
    - {{name: content, dtype: string}}
    - {{name: reasoning_content, dtype: string}}
    - name: tool_calls
      list:
      - {{name: id, dtype: string}}
      - {{name: type, dtype: string}}
      - name: function
        struct:
        - {{name: name, dtype: string}}
        - {{name: arguments, dtype: string}}
    - {{name: tool_call_id, dtype: string}}
  - {{name: left_out, list: string}}
---

# Dataset {dataset}

Conversations whose people allow this use, exported by chatproxy.

- purpose: `{purpose}`, and no other
- consumer: {consumer}
- as of: {at}
- redaction: {redaction}. Names of people are not taken out by it, and not every address

One line is one answer of one turn. `messages` goes into a chat template as it is. `person` and `conversation` are names
in this dataset alone: do not try to find out who they are. `after` is the item before in the conversation.

Before each use: `chatproxy dataset recall DIR` says which items are to be taken out, and `chatproxy dataset acknowledge`
says that they are. Each item has an end in `items/`, after which it must not be used. `chatproxy dataset verify DIR` shows that
nothing was changed.
"""
