"""People whose turns are kept at any time, to be exported."""

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from chatproxy.clock import wall_clock
from chatproxy.consent.events import Choice, FactKind, Scope
from chatproxy.datasets.manifest import Item, Manifest, Shard
from chatproxy.datasets.rows import Row
from chatproxy.datasets.tables import Form, read_rows
from chatproxy.model import (
    Age,
    Caller,
    ConversationTag,
    Message,
    Origin,
    Part,
    PartKind,
    SubjectTag,
    Transcript,
    TurnId,
)
from chatproxy.ports import PutStatus
from chatproxy.settings import load_settings
from chatproxy.telemetry import Metrics
from chatproxy.vault import Vault, open_vault
from chatproxy.workflows.dataset_directory import DatasetDirectory
from chatproxy.workflows.export import Wish
from chatproxy.workflows.export_run import Limits
from chatproxy.workflows.recall import Recall
from chatproxy.workflows.tombstones import Tombstone
from integration.keeping import Keeper
from integration.proxy_fixtures import DAY, make_keys
from integration.serve_process import environment

PLAIN = Caller(subject="s", plan="pro", age=Age.ADULT)


class Clock:
    """The wall clock, moved by ``ahead`` ms, or standing still ``at`` an instant."""

    def __init__(self) -> None:
        self.ahead = 0

    def __call__(self) -> int:
        return wall_clock() + self.ahead


def said(text: str, answer: str | Sequence[str] = "an answer", *, parts: Sequence[Part] = ()) -> Transcript:
    """A turn of one question and an answer, or several."""
    given = [answer] if isinstance(answer, str) else answer
    return Transcript(
        input=(Message("user", (Part(PartKind.TEXT, Origin.TYPED, {"text": text}), *parts)),),
        output=tuple(
            Message(
                "assistant",
                (Part(PartKind.TEXT, Origin.ASSISTANT, {"text": each}),),
                choice=number if len(given) > 1 else None,
            )
            for number, each in enumerate(given)
        ),
        model="m",
    )


@dataclass
class Archive:
    """A vault with what is kept in it."""

    vault: Vault
    clock: Clock
    directory: Path
    turns: dict[str, TurnId] = field(default_factory=dict)
    conversations: dict[str, ConversationTag] = field(default_factory=dict)

    def tag(self, subject: str) -> SubjectTag:
        return self.vault.pseudonyms.subject_tag(tenant="default", subject=subject)

    def conversation(self, name: str) -> ConversationTag:
        return self.conversations.setdefault(name, ConversationTag(secrets.token_bytes(16)))

    async def choose(
        self, subject: str, choice: Choice, *, days_ago: float = 0, about: str | None = None
    ) -> None:
        await self.vault.ledger.record(
            self.tag(subject), choice, at=wall_clock() - int(days_ago * DAY), by="test", method="test",
            conversation=None if about is None else self.conversation(about),
        )  # fmt: skip

    async def note(
        self, subject: str, fact: FactKind, *, days_ago: float = 0, about: str | None = None, turn: str | None = None,
        **details: str,
    ) -> None:  # fmt: skip
        scope = Scope(
            conversation=None if about is None else self.conversation(about),
            turn=None if turn is None else self.turns[turn],
        )
        await self.vault.ledger.note(
            self.tag(subject), fact, at=wall_clock() - int(days_ago * DAY), by="test", method="test", scope=scope,
            details=details,
        )  # fmt: skip

    async def keep(
        self,
        subject: str,
        transcript: Transcript,
        *,
        days_ago: float,
        conversation: str = "c",
        name: str | None = None,
        caller: Caller = PLAIN,
    ) -> None:
        """Keep a turn as if it had been received some days ago."""
        await self.keep_all(
            subject, [transcript], days_ago=days_ago, conversation=conversation, names=[name], caller=caller
        )

    async def keep_all(
        self,
        subject: str,
        transcripts: Sequence[Transcript],
        *,
        days_ago: float,
        conversation: str = "c",
        names: Sequence[str | None] = (),
        caller: Caller = PLAIN,
    ) -> None:
        from chatproxy.workflows.seal import FirstKeys  # noqa: PLC0415 - beside what it is for

        self.clock.ahead = -int(days_ago * DAY)
        try:
            keeper = Keeper(self.vault, self.tag(subject))
            person, first = await keeper.person(), FirstKeys(self.vault.record_keys)
            sealed = []
            for number, transcript in enumerate(transcripts):
                turn = TurnId(secrets.token_bytes(16))
                if number < len(names) and (name := names[number]) is not None:
                    self.turns[name] = turn
                sealed.append(
                    await keeper.sealed(
                        person, self.conversation(f"{subject}/{conversation}"), first=first, turn=turn,
                        caller=caller, transcript=transcript,
                    )
                )  # fmt: skip
            statuses = await self.vault.store.put(sealed)
            assert set(statuses) <= {PutStatus.STORED, PutStatus.RESUMED}
        finally:
            self.clock.ahead = 0

    async def decided_again(self, *subjects: str) -> None:
        for subject in subjects:
            tally = await self.vault.redecider(Metrics()).person(self.tag(subject))
            assert tally.is_settled

    async def export(
        self,
        name: str = "out",
        *,
        purpose: str = "capability",
        consumer: str = "ml",
        form: Form = Form.JSONL,
        shard: Shard | None = None,
        at: int | None = None,
        limits: Limits | None = None,
        stones: Sequence[Tombstone] = (),
    ) -> "Exported":
        wish = Wish(purpose=purpose, consumer=consumer, form=form, shard=shard or Shard(), at=at)
        directory = DatasetDirectory(self.directory / name)
        manifest = await self.vault.exporter(purpose, stones, limits=limits or Limits()).export(
            wish, directory
        )
        return Exported(manifest, directory)

    async def recalled(self, exported: "Exported") -> dict[str, str]:
        """Return what is recalled of a dataset: the reason by item."""
        dataset = bytes.fromhex(exported.manifest.dataset[2:])
        held = [bytes.fromhex(row.id[2:]) for row in exported.rows()]
        found: list[Recall] = [each async for each in self.vault.recalls().of_dataset(dataset, held)]
        return {"i_" + each.item.hex(): each.what.reason for each in found}


@dataclass
class Exported:
    """A dataset that was made."""

    manifest: Manifest
    directory: DatasetDirectory

    @property
    def path(self) -> Path:
        return self.directory.path

    def rows(self) -> list[Row]:
        names = [name for name in self.directory.names() if name.startswith("data/")]
        return [
            row for name in names for row in read_rows(self.directory.read(name) or b"", self.manifest.form)
        ]

    def items(self) -> list[Item]:
        names = [name for name in self.directory.names() if name.startswith("items/")]
        return [
            msgspec.json.decode(line, type=Item)
            for name in names
            for line in (self.directory.read(name) or b"").splitlines()
        ]

    def questions(self) -> set[str]:
        return {row.messages[0].content for row in self.rows()}

    def files(self) -> dict[str, bytes]:
        return {name: self.directory.read(name) or b"" for name in self.directory.names()}


@asynccontextmanager
async def an_archive(directory: Path, store: str, **settings: str) -> AsyncIterator[Archive]:
    if not (directory / "keys" / "keyset").exists():
        make_keys(directory)
    values = {
        name.removeprefix("CHATPROXY_").lower(): value
        for name, value in environment(directory, store=store, **settings).items()
    }
    clock = Clock()
    async with open_vault(load_settings({}, overrides=values).settings, clock=clock) as vault:
        yield Archive(vault, clock, directory)
