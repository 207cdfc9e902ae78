"""A dataset holds what may be used for its purpose, and nothing else; what may not be used any more is recalled."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from chatproxy.clock import wall_clock
from chatproxy.consent.events import Choice, FactKind
from chatproxy.datasets.manifest import Shard
from chatproxy.datasets.tables import Form, read_rows
from chatproxy.errors import ConfigurationError, ConflictError
from chatproxy.model import Age, Caller, Origin, Part, PartKind, SubjectTag, TurnId
from chatproxy.ports import Chore
from chatproxy.store.connections import Connections, Servers
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.store.lineage import RedisLineage
from chatproxy.store.redis import RedisStore
from chatproxy.telemetry import Metrics
from chatproxy.vault import Vault
from chatproxy.workflows.dataset_bucket import DatasetBucket
from chatproxy.workflows.dataset_directory import DatasetDirectory
from chatproxy.workflows.export import Exporter, Wish
from chatproxy.workflows.export_gate import FAULTS
from chatproxy.workflows.export_run import Limits, Progress
from chatproxy.workflows.export_state import state_name
from chatproxy.workflows.tombstones import Tombstone, read_tombstones
from chatproxy.workflows.verdict import Kept
from chatproxy.workflows.verify_dataset import FilesVerifier
from integration.dataset_fixtures import PLAIN, Archive, Exported, an_archive, said
from integration.proxy_fixtures import DAY


@pytest.fixture
def store(server: EmbeddedServer, connections: Connections) -> str:
    return server.url


async def agreeing(archive: Archive, *subjects: str) -> None:
    for subject in subjects:
        await archive.choose(subject, Choice.GIVEN, days_ago=40)


async def test_what_is_exported_is_what_may_be_used(tmp_path: Path, store: str) -> None:
    async with an_archive(tmp_path, store) as archive:
        await agreeing(
            archive, "ana", "withdrew", "young", "shared", "deleted", "held", "flagged", "minor", "unread"
        )
        await archive.keep("ana", said("yes"), days_ago=10)
        await archive.keep("ana", said("too young"), days_ago=6)
        await archive.keep("nobody", said("never asked"), days_ago=10)
        await archive.keep("withdrew", said("withdrawn"), days_ago=10)
        await archive.choose("withdrew", Choice.WITHDRAWN, days_ago=1)
        await archive.choose("excluded", Choice.GIVEN, days_ago=40)
        await archive.keep("excluded", said("excluded"), days_ago=10, conversation="x")
        await archive.choose("excluded", Choice.REFUSED, about="excluded/x")
        await archive.keep("deleted", said("deleted"), days_ago=10, conversation="d")
        await archive.note("deleted", FactKind.CONVERSATION_DELETED, about="deleted/d")
        await archive.keep("deleted", said("not deleted"), days_ago=10, conversation="e")
        await archive.keep("flagged", said("flagged"), days_ago=10, name="f")
        await archive.note("flagged", FactKind.FLAGGED, turn="f")
        await archive.keep("minor", said("minor"), days_ago=10)
        await archive.note("minor", FactKind.MINOR_FOUND)
        await archive.keep("unread", said("unread"), days_ago=10)
        await archive.note("unread", FactKind.CHOICES_UNREAD)
        await archive.keep(
            "ana",
            said("incognito"),
            days_ago=10,
            caller=Caller(subject="s", plan="pro", age=Age.ADULT, incognito=True),
        )
        await archive.keep("ana", said("unanswered", []), days_ago=10)

        exported = await archive.export()

        assert exported.questions() == {"yes", "not deleted"}
        assert dict(exported.manifest.left_out) == {
            "cooling_off": 1,
            "CONSENT_UNKNOWN": 1,
            "CONSENT_WITHDRAWN": 1,
            "CONV_EXCLUDED": 1,
            "DELETED": 1,
            "SAFETY_REVIEW_HOLD": 1,
            "AGE_INELIGIBLE": 1,
            "choices_unread": 1,
            "INCOGNITO": 1,
            "no_answer": 1,
        }
        assert (exported.manifest.turns, exported.manifest.items) == (12, 2)
        assert all(item.receipt is not None for item in exported.items())


@pytest.mark.parametrize("form", [Form.JSONL, Form.PARQUET])
async def test_the_same_instant_gives_the_same_bytes_however_it_is_cut(
    form: Form, tmp_path: Path, store: str
) -> None:
    async with an_archive(tmp_path, store) as archive:
        for subject in ("ana", "bea", "cy", "dan"):
            await agreeing(archive, subject)
            await archive.keep_all(
                subject, [said(f"{subject} {n}", ["a", "b"]) for n in range(70)], days_ago=10
            )
        first = await archive.export("first", form=form, limits=Limits(items=100))
        await archive.keep("ana", said("since"), days_ago=0)
        again = await archive.export("again", form=form, limits=Limits(items=100), at=first.manifest.at)
        assert first.files() == again.files()
        assert len([name for name in first.files() if name.startswith("data/")]) == 5
        assert first.manifest.items == 560
        for name, file in first.files().items():
            if name.startswith("data/"):
                ids = [row.id for row in read_rows(file, form)]
                assert ids == sorted(ids)
        shards = [
            await archive.export(f"shard{n}", form=form, shard=Shard(n, 3), at=first.manifest.at)
            for n in (1, 2, 3)
        ]
        rows = [row for shard in shards for row in shard.rows()]
        assert sorted(row.id for row in rows) == sorted(row.id for row in first.rows())
        assert {shard.manifest.dataset for shard in shards} == {first.manifest.dataset}


async def test_two_datasets_name_a_person_otherwise(tmp_path: Path, store: str) -> None:
    async with an_archive(tmp_path, store) as archive:
        await agreeing(archive, "ana")
        await archive.keep_all("ana", [said("one"), said("two")], days_ago=10)
        one, other = await archive.export("one"), await archive.export("other", consumer="others")
        for of in ("id", "person", "conversation"):
            assert {getattr(row, of) for row in one.rows()}.isdisjoint(
                {getattr(row, of) for row in other.rows()}
            )
        assert len({row.person for row in one.rows()}) == 1
        everything = b"".join(one.files().values())
        state = await archive.vault.store.subject_state(archive.tag("ana"))
        assert archive.tag("ana").hex().encode() not in everything
        assert b"receipt-" in state.ledger[0]
        assert b"receipt-" not in everything


async def test_a_withdrawal_after_the_export_is_recalled(tmp_path: Path, store: str) -> None:
    async with an_archive(tmp_path, store) as archive:
        await agreeing(archive, "ana", "bea")
        await archive.keep("ana", said("ana"), days_ago=10)
        await archive.keep("bea", said("bea"), days_ago=10)
        exported = await archive.export()
        assert await archive.recalled(exported) == {}
        await archive.choose("ana", Choice.WITHDRAWN)
        [item] = [row.id for row in exported.rows() if row.messages[0].content == "ana"]
        assert await archive.recalled(exported) == {item: "CONSENT_WITHDRAWN"}
        await archive.choose("ana", Choice.GIVEN)
        assert await archive.recalled(exported) == {item: "CONSENT_WITHDRAWN"}


async def test_who_is_erased_is_recalled_and_nothing_says_whose_the_items_were(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with an_archive(tmp_path, store) as archive:
        await agreeing(archive, "ana", "bea")
        await archive.keep("ana", said("ana", ["a", "b"]), days_ago=10)
        await archive.keep("bea", said("bea"), days_ago=10)
        exported = await archive.export()
        await archive.vault.eraser.erase(archive.tag("ana"), by="test")
        items = {row.id for row in exported.rows() if row.messages[0].content == "ana"}
        assert await archive.recalled(exported) == dict.fromkeys(items, "erased")
        [names] = await connections.ask([["KEYS", f"*{archive.tag('ana').hex()}*"]])
        assert [name for name in names if name.endswith(b":u")] == []


async def test_tools_are_messages_and_what_a_connector_brought_is_not_there(
    tmp_path: Path, store: str
) -> None:
    raw = Part(PartKind.TOOL_RESULT, Origin.CONNECTOR_RAW, {"id": "1", "text": "from the drive"})
    async with an_archive(tmp_path, store) as archive:
        await agreeing(archive, "ana")
        await archive.keep("ana", said("mail me at ana@example.org", parts=[raw]), days_ago=10, caller=PLAIN)
        exported = await archive.export()
        [row] = exported.rows()
        assert row.messages[0].content == "mail me at [EMAIL]"
        assert b"from the drive" not in b"".join(exported.files().values())
        assert dict(exported.manifest.redacted) == {"EMAIL": 1}


async def test_each_purpose_has_its_own_grounds(tmp_path: Path, store: str) -> None:
    async with an_archive(tmp_path, store) as archive:
        await agreeing(archive, "ana")
        await archive.keep("ana", said("flagged"), days_ago=10, name="f")
        await archive.keep("bea", said("thumbs"), days_ago=10, conversation="t")
        await archive.keep("ana", said("plain"), days_ago=10)
        await archive.note("ana", FactKind.FLAGGED, turn="f")
        await archive.note("bea", FactKind.FEEDBACK_GIVEN, about="bea/t", kind="thumbs")
        await archive.decided_again("ana", "bea")
        for purpose, words in (("capability", "plain"), ("safety", "flagged"), ("feedback", "thumbs")):
            exported = await archive.export(purpose, purpose=purpose)
            assert exported.questions() == {words}
            assert {item.receipt is None for item in exported.items()} == {purpose != "capability"}


async def test_what_the_note_does_not_permit_yet_waits(tmp_path: Path, store: str) -> None:
    async with an_archive(tmp_path, store) as archive:
        await archive.keep("bea", said("thumbs"), days_ago=10, conversation="t")
        await archive.note("bea", FactKind.FEEDBACK_GIVEN, about="bea/t", kind="thumbs")
        exported = await archive.export(purpose="feedback")
        assert dict(exported.manifest.left_out) == {"annotation_behind": 1}


async def test_what_only_a_hold_keeps_is_for_no_purpose(tmp_path: Path, store: str) -> None:
    async with an_archive(tmp_path, store) as archive:
        await archive.choose("ana", Choice.GIVEN, days_ago=80)
        await archive.keep("ana", said("held"), days_ago=70)
        await archive.note(
            "ana",
            FactKind.HOLD_PLACED,
            days_ago=60,
            case="1",
            authority="a",
            review_at="2030-01-01T00:00:00Z",
        )
        await archive.choose("ana", Choice.WITHDRAWN, days_ago=50)
        exported = await archive.export()
        assert dict(exported.manifest.left_out) == {"LEGAL_HOLD_ONLY": 1}


@pytest.mark.parametrize("late, items", [(-1, 0), (0, 1)], ids=["a moment too young", "just old enough"])
async def test_a_turn_cools_off_to_the_millisecond(late: int, items: int, tmp_path: Path, store: str) -> None:
    async with an_archive(tmp_path, store) as archive:
        await agreeing(archive, "ana")
        await archive.keep("ana", said("hello"), days_ago=20)
        [stored] = [turn async for turn in archive.vault.store.annotations()]
        received_at = Kept.of(stored, archive.vault.annotation_keys).facts.received_at
        exported = await archive.export(at=received_at + 7 * DAY + late)
        assert exported.manifest.items == items


async def tamper(connections: Connections, kind: str, *command: str | int) -> None:
    [names] = await connections.ask([["KEYS", f"cp:*}}:{kind}*"]])
    for name in names:
        await connections.ask([[command[0], name, *command[1:]]])


@pytest.mark.parametrize(
    "kind, command, reason",
    [
        ("a:", ("HSET", "exp", "1999999999999"), "annotation"),
        ("a:", ("PEXPIRE", 10**11), "annotation_ttl"),
        ("r:", ("DEL",), "record"),
        ("r:", ("SETRANGE", 200, "x"), "record"),
        ("c", ("LSET", 0, "x"), "ledger"),
        ("c", ("LTRIM", 0, 0), "ledger_against_log"),
    ],
    ids=["edited", "longer", "missing", "damaged", "forged ledger", "cut ledger"],
)
async def test_what_is_not_as_it_was_kept_is_left_out_and_named(
    kind: str,
    command: tuple[str | int, ...],
    reason: str,
    tmp_path: Path,
    store: str,
    connections: Connections,
) -> None:
    async with an_archive(tmp_path, store) as archive:
        await agreeing(archive, "ana")
        await archive.keep("ana", said("hello"), days_ago=10)
        if reason == "ledger_against_log":
            await archive.choose("ana", Choice.WITHDRAWN)
        await tamper(connections, kind, *command)
        stones = read_tombstones([archive.directory / "data" / "audit" / "audit.jsonl"], since=0) if kind == "c" and command[0] == "LTRIM" else []  # fmt: skip
        exported = await archive.export(stones=stones)
        assert dict(exported.manifest.left_out) == {reason: 1}
        assert reason in FAULTS


async def test_who_was_erased_by_the_log_is_left_out_though_an_old_store_has_them(
    tmp_path: Path, store: str
) -> None:
    async with an_archive(tmp_path, store) as archive:
        await agreeing(archive, "ana")
        await archive.keep("ana", said("hello"), days_ago=10)
        stone = Tombstone(wall_clock() - DAY, archive.tag("ana"), "erased")
        exported = await archive.export(stones=[stone])
        assert dict(exported.manifest.left_out) == {"erased": 1}


class Interfering(RedisLineage):
    """Has something happen just before turns are noted as used."""

    def __init__(self, connections: Servers, happens: Callable[[], Awaitable[object]], *, at: int) -> None:
        super().__init__(connections)
        self._happens = happens
        self._at = at

    async def use(self, subject: SubjectTag, entries: Mapping[bytes, bytes], **facts: Any) -> bytes | None:
        if entries:
            self._at -= 1
            if self._at == 0:
                await self._happens()
        return await super().use(subject, entries, **facts)


async def interrupted(archive: Archive, happens: Callable[[], Awaitable[object]], *, at: int) -> Exported:
    exporter = archive.vault.exporter("capability", [])
    means = replace(
        exporter._means,
        lineage=Interfering(archive.vault.store.connections, happens, at=at),
        limits=Limits(items=1),
    )
    wish = Wish(purpose="capability", consumer="ml", form=Form.JSONL, shard=Shard(), at=None)
    directory = DatasetDirectory(archive.directory / "out")
    return Exported(await Exporter(means).export(wish, directory), directory)


@pytest.mark.parametrize("at", [1, 2, 3, 4], ids=["first", "second", "third", "last"])
@pytest.mark.parametrize("how", ["withdrawn", "erased", "deleted"])
async def test_what_happens_during_the_export_takes_effect(
    how: str, at: int, tmp_path: Path, store: str
) -> None:
    async with an_archive(tmp_path, store) as archive:
        await agreeing(archive, "ana", "bea", "cy", "dan")
        for subject in ("ana", "bea", "cy", "dan"):
            await archive.keep(subject, said(subject), days_ago=10)

        async def happens() -> None:
            if how == "withdrawn":
                await archive.choose("ana", Choice.WITHDRAWN)
            elif how == "erased":
                await archive.vault.eraser.erase(archive.tag("ana"), by="test")
            else:
                await archive.note("ana", FactKind.CONVERSATION_DELETED, about="ana/c")

        exported = await interrupted(archive, happens, at=at)
        assert exported.questions() == {"bea", "cy", "dan"}
        assert exported.manifest.items == len(exported.items()) == 3
        assert sum(exported.manifest.left_out.values()) == 1 or how == "erased"
        assert await archive.recalled(exported) == {}
        assert await archive.vault.lineage.uses(archive.tag("ana")) is None or how != "erased"


class Dying(DatasetDirectory):
    """As if the process died at the change of a file that is as many changes away."""

    def __init__(self, path: Path, left: int) -> None:
        super().__init__(path)
        self.left = left

    def write(self, name: str, data: bytes) -> None:
        self._change()
        super().write(name, data)

    def remove(self, name: str) -> None:
        self._change()
        super().remove(name)

    def _change(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise StoppedError


class Withdrawing(RedisLineage):
    """Of three people, has the first that is noted withdraw when the last is about to be."""

    def __init__(self, archive: Archive, names: Sequence[str]) -> None:
        super().__init__(archive.vault.store.connections)
        self._archive = archive
        self._names = {archive.tag(name): name for name in names}
        self._seen: list[SubjectTag] = []
        self.withdrawn: str | None = None

    async def use(self, subject: SubjectTag, entries: Mapping[bytes, bytes], **facts: Any) -> bytes | None:
        if entries and subject not in self._seen:
            self._seen.append(subject)
            if len(self._seen) == 3:
                self.withdrawn = self._names[self._seen[0]]
                await self._archive.choose(self.withdrawn, Choice.WITHDRAWN)
        return await super().use(subject, entries, **facts)


@pytest.mark.parametrize("form", list(Form))
async def test_what_was_forbidden_stays_out_wherever_an_export_is_killed(
    form: Form, tmp_path: Path, store: str
) -> None:
    async with an_archive(tmp_path, store) as archive:
        publics = archive.vault.keyset.signing_publics()
        wish = Wish(purpose="capability", consumer="ml", form=form, shard=Shard(), at=None)
        deaths = 0
        while True:
            people = [f"{name}{deaths}" for name in ("ana", "bea", "cy")]
            await agreeing(archive, *people)
            for subject in people:
                await archive.keep_all(subject, [said(subject), said(subject)], days_ago=10)
            directory = Dying(tmp_path / f"out{deaths}", deaths + 1)
            exporter = archive.vault.exporter("capability", [], limits=Limits(items=3))
            lineage = Withdrawing(archive, people)
            try:
                manifest = await Exporter(replace(exporter._means, lineage=lineage)).export(wish, directory)
            except StoppedError:
                manifest = await exporter.export(wish, directory)
                was_killed = True
            else:
                was_killed = False
            made = Exported(manifest, directory)
            assert made.questions() == {*people} - {lineage.withdrawn}
            assert list(FilesVerifier(directory, publics).faults()) == []
            assert await archive.recalled(made) == {}
            assert not list(directory.path.rglob(".*"))
            for subject in people:
                await archive.choose(subject, Choice.WITHDRAWN)
            if not was_killed:
                break
            deaths += 1
        assert deaths > 10


async def test_an_event_that_forbids_nothing_costs_nothing(tmp_path: Path, store: str) -> None:
    async with an_archive(tmp_path, store) as archive:
        await agreeing(archive, "ana", "bea")
        for subject in ("ana", "bea"):
            await archive.keep(subject, said(subject), days_ago=10)

        async def happens() -> None:
            for subject in ("ana", "bea"):
                await archive.note(subject, FactKind.FEEDBACK_GIVEN, about="x", kind="thumbs")

        exported = await interrupted(archive, happens, at=2)
        assert exported.questions() == {"ana", "bea"}


class StoppedError(Exception):
    """As if the process had died."""


@pytest.mark.parametrize("form", [Form.JSONL, Form.PARQUET])
async def test_an_export_that_was_broken_off_goes_on_to_the_same_bytes(
    form: Form, tmp_path: Path, store: str
) -> None:
    async with an_archive(tmp_path, store) as archive:
        for subject in ("ana", "bea", "cy"):
            await agreeing(archive, subject)
            await archive.keep_all(subject, [said(f"{subject} {n}") for n in range(120)], days_ago=10)
        whole = await archive.export("whole", form=form, limits=Limits(items=40))
        wish = Wish(purpose="capability", consumer="ml", form=form, shard=Shard(), at=whole.manifest.at)
        directory = DatasetDirectory(tmp_path / "again")
        for part in range(1, 9):

            def stop(progress: Progress, part: int = part) -> None:
                if progress.parts == part:
                    raise StoppedError

            exporter = archive.vault.exporter("capability", [], limits=Limits(items=40))
            try:
                await exporter.export(replace(wish, at=None if part > 1 else wish.at), directory, told=stop)
            except StoppedError:
                (tmp_path / "again" / "data" / ".part-0001-of-0001-00002.jsonl.draft").write_bytes(b"x")
                (tmp_path / "again" / "data" / "part-0001-of-0001-00099.jsonl").write_bytes(b"x")
                continue
            break
        else:
            raise AssertionError("never came to an end")
        assert part == 8
        assert Exported(whole.manifest, directory).files() == whole.files()
        assert not list((tmp_path / "again").glob(".state*"))
        assert not list((tmp_path / "again").glob("data/.*"))
        modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "whole").rglob("*") if path.is_file()}
        assert modes == {0o600}


async def with_one_turn(archive: Archive) -> tuple[Exporter, Wish]:
    """Keep a turn that may be used; return what is to make a dataset of it."""
    await agreeing(archive, "ana")
    await archive.keep("ana", said("hello"), days_ago=10)
    wish = Wish(purpose="capability", consumer="ml", form=Form.JSONL, shard=Shard(), at=None)
    return archive.vault.exporter("capability", []), wish


async def test_where_nothing_can_be_written_nothing_is_noted(tmp_path: Path, store: str) -> None:
    async with an_archive(tmp_path, store) as archive:
        exporter, wish = await with_one_turn(archive)
        with pytest.raises(StoppedError):
            await exporter.export(wish, Dying(tmp_path / "out", 1))
        assert await archive.vault.lineage.datasets() == {}
        assert await archive.vault.lineage.uses(archive.tag("ana")) is None
        assert not (tmp_path / "data" / "audit" / "audit.jsonl").exists()


async def test_who_is_killed_before_the_first_part_keeps_the_instant(tmp_path: Path, store: str) -> None:
    async with an_archive(tmp_path, store) as archive:
        exporter, wish = await with_one_turn(archive)
        with pytest.raises(StoppedError):
            await exporter.export(wish, Dying(tmp_path / "out", 2))
        [begun] = (await archive.vault.recalls().datasets()).values()
        archive.clock.ahead = DAY
        manifest = await exporter.export(wish, DatasetDirectory(tmp_path / "out"))
        assert manifest.at == begun.at


async def test_who_is_killed_behind_the_manifest_ends_that_export_and_no_other(
    tmp_path: Path, store: str
) -> None:
    async with an_archive(tmp_path, store) as archive:
        exporter, wish = await with_one_turn(archive)
        directory = Dying(tmp_path / "out", 8)
        with pytest.raises(StoppedError):
            await exporter.export(wish, directory)
        assert directory.read(Shard().manifest) is not None
        assert directory.read(state_name(Shard())) is not None
        # From its signature on, what is withdrawn is recalled.
        await archive.choose("ana", Choice.WITHDRAWN)
        for other in (
            replace(wish, consumer="others"),
            replace(wish, form=Form.PARQUET),
            replace(wish, at=1),
        ):
            with pytest.raises(ConflictError, match="already"):
                await exporter.export(other, directory)
        made = Exported(await exporter.export(wish, directory), directory)
        assert made.questions() == {"hello"}
        assert set((await archive.recalled(made)).values()) == {"CONSENT_WITHDRAWN"}
        with pytest.raises(ConflictError, match="already"):
            await exporter.export(wish, directory)


@pytest.mark.parametrize("what", ["state", "signature", "items", "rows"])
async def test_what_somebody_else_put_there_is_not_gone_on_with(
    what: str, tmp_path: Path, store: str
) -> None:
    async with an_archive(tmp_path, store) as archive:
        await agreeing(archive, "ana", "bea")
        await archive.keep_all("ana", [said("one"), said("two")], days_ago=10)
        await archive.keep_all("bea", [said("one"), said("two")], days_ago=10)

        def stop(_: Progress) -> None:
            raise StoppedError

        exporter = archive.vault.exporter("capability", [], limits=Limits(items=2))
        wish = Wish(purpose="capability", consumer="ml", form=Form.JSONL, shard=Shard(), at=None)
        directory = DatasetDirectory(tmp_path / "out")
        with pytest.raises(StoppedError):
            await exporter.export(wish, directory, told=stop)
        name = {
            "items": Shard().items_file(1), "rows": Shard().data_file(1, Form.JSONL)
        }.get(what, state_name(Shard()))  # fmt: skip
        was = directory.read(name) or b""
        head, _, body = was.partition(b"\n")
        directory.write(
            name,
            head.replace(b'"value":"', b'"value":"A') + b"\n" + body if what == "signature" else was + b" ",
        )
        if what in {"items", "rows"}:
            # What was delivered is looked at again, since something has happened.
            for subject in ("ana", "bea"):
                await archive.choose(subject, Choice.WITHDRAWN)
        with pytest.raises(ConflictError, match="not as it was written"):
            await exporter.export(wish, directory)
        assert not (directory.path / Shard().manifest).exists()


@pytest.mark.parametrize("form", list(Form))
async def test_a_bucket_holds_the_same_bytes_as_a_directory(form: Form, tmp_path: Path, store: str) -> None:
    async with an_archive(tmp_path, store) as archive:
        await agreeing(archive, "ana", "bea")
        for subject in ("ana", "bea"):
            await archive.keep_all(subject, [said(f"{subject} {n}") for n in range(50)], days_ago=10)
        filesystem = MemoryFileSystem(skip_instance_cache=True)
        filesystem.store, filesystem.pseudo_dirs = {}, [""]
        bucket = DatasetBucket(filesystem, "/bucket/set", "s3://bucket/set")
        exporter = archive.vault.exporter("capability", [], limits=Limits(items=20))
        wish = Wish(purpose="capability", consumer="ml", form=form, shard=Shard(), at=None)

        def stop(progress: Progress) -> None:
            assert Shard().manifest not in bucket.names()
            if progress.parts == 2:
                raise StoppedError

        with pytest.raises(StoppedError):
            await exporter.export(wish, bucket, told=stop)
        manifest = await exporter.export(wish, bucket)
        whole = await archive.export("whole", form=form, at=manifest.at, limits=Limits(items=20))
        assert {name: bucket.read(name) for name in bucket.names()} == whole.files()
        assert sorted(filesystem.store) == [f"/bucket/set/{name}" for name in bucket.names()]
        with pytest.raises(ConflictError, match="s3://bucket/set holds this shard already"):
            await exporter.export(wish, bucket)
        assert list(FilesVerifier(bucket, archive.vault.keyset.signing_publics()).faults()) == []


async def test_a_directory_holds_one_export(tmp_path: Path, store: str) -> None:
    async with an_archive(tmp_path, store) as archive:
        await agreeing(archive, "ana")
        await archive.keep("ana", said("hello"), days_ago=10)
        await archive.export()
        with pytest.raises(ConflictError, match="already"):
            await archive.export()

        def stop(_: Progress) -> None:
            raise StoppedError

        exporter = archive.vault.exporter("capability", [])
        wish = Wish(purpose="capability", consumer="ml", form=Form.JSONL, shard=Shard(), at=None)
        with pytest.raises(StoppedError):
            await exporter.export(wish, DatasetDirectory(tmp_path / "other"), told=stop)
        with pytest.raises(ConflictError, match="otherwise"):
            await archive.export("other", consumer="others")
        with pytest.raises(ConfigurationError, match="future"):
            await archive.export("third", at=wall_clock() + DAY)


async def test_an_item_that_nothing_is_known_of_is_recalled(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with an_archive(tmp_path, store) as archive:
        await agreeing(archive, "ana")
        await archive.keep("ana", said("hello"), days_ago=10)
        exported = await archive.export()
        await tamper(connections, "u", "DEL")
        assert await archive.recalled(exported) == {exported.rows()[0].id: "untracked"}


async def test_a_turn_that_went_is_recalled_and_another_person_is_not(tmp_path: Path, store: str) -> None:
    async with an_archive(tmp_path, store) as archive:
        await agreeing(archive, "ana", "bea")
        for subject in ("ana", "bea"):
            await archive.keep(subject, said(subject), days_ago=10)
        exported = await archive.export()
        await archive.note("ana", FactKind.MINOR_FOUND)
        await archive.decided_again("ana")
        [item] = [row.id for row in exported.rows() if row.messages[0].content == "ana"]
        assert await archive.recalled(exported) == {item: "gone"}


async def test_a_person_can_be_told_what_was_used(tmp_path: Path, store: str) -> None:
    async with an_archive(tmp_path, store) as archive:
        await agreeing(archive, "ana")
        await archive.keep_all("ana", [said("one"), said("two")], days_ago=10)
        await archive.keep("ana", said("three"), days_ago=10, conversation="d")
        exported = await archive.export()
        found = await archive.vault.recalls().used_of(archive.tag("ana"))
        assert {(used.conversation, used.turns) for used in found} == {
            (archive.conversation("ana/c"), 2),
            (archive.conversation("ana/d"), 1),
        }
        assert {(used.dataset, used.consumer, used.purpose, used.at) for used in found} == {
            (exported.manifest.dataset, "ml", "capability", exported.manifest.at)
        }
        assert {used.recall for used in found} == {None}
        assert {abs(used.began_at - (wall_clock() - 10 * DAY)) < 60_000 for used in found} == {True}
        assert await archive.vault.recalls().used_of(archive.tag("bea")) == []


async def test_a_person_can_be_told_what_was_recalled_and_whether_it_is_out(
    tmp_path: Path, store: str
) -> None:
    async with an_archive(tmp_path, store) as archive:
        await agreeing(archive, "ana", "bea")
        await archive.keep("ana", said("one", ["a", "b"]), days_ago=10)
        await archive.keep("ana", said("two"), days_ago=10)
        await archive.keep("ana", said("three"), days_ago=10, conversation="d")
        await archive.keep("bea", said("bea"), days_ago=10)
        exported = await archive.export()
        dataset = bytes.fromhex(exported.manifest.dataset[2:])
        recalls = archive.vault.recalls()
        await archive.choose("ana", Choice.REFUSED, about="ana/c")
        await recalls.look_at_everybody()

        by_conversation = {used.conversation: used for used in await recalls.used_of(archive.tag("ana"))}
        c, d = (by_conversation[archive.conversation(name)] for name in ("ana/c", "ana/d"))
        assert d.recall is None
        assert c.recall is not None
        assert (c.turns, c.recall.turns, c.recall.acknowledged_at) == (2, 2, None)
        assert abs(c.recall.at - wall_clock()) < 60_000
        assert [used.recall for used in await recalls.used_of(archive.tag("bea"))] == [None]

        items = [bytes.fromhex(row.id[2:]) for row in exported.rows() if row.messages[0].content == "one"]
        assert len(items) == 2
        archive.clock.ahead = 1000
        await recalls.acknowledge(dataset, items)
        [some] = [
            used.recall for used in await recalls.used_of(archive.tag("ana")) if used.recall is not None
        ]
        assert (some.turns, some.acknowledged_at) == (2, None)
        archive.clock.ahead = 2000
        await recalls.acknowledge(dataset, None)
        [whole] = [
            used.recall for used in await recalls.used_of(archive.tag("ana")) if used.recall is not None
        ]
        assert whole.acknowledged_at is not None
        assert whole.acknowledged_at - c.recall.at >= 2000
        assert whole.at == c.recall.at


async def test_recalls_are_counted_until_they_are_acknowledged(tmp_path: Path, store: str) -> None:
    async with an_archive(tmp_path, store) as archive:
        await agreeing(archive, "ana")
        await archive.keep_all("ana", [said("one"), said("two")], days_ago=10)
        exported = await archive.export()
        await archive.choose("ana", Choice.WITHDRAWN)
        metrics = Metrics()
        watch = archive.vault.recall_watch(metrics)
        assert await watch.take_up()
        assert not await watch.take_up()

        async def counted() -> tuple[float | None, float | None]:
            archive.clock.ahead += 600_000
            await watch.take_up()
            values = metrics.registry.get_sample_value
            return values("chatproxy_recalls_open"), values("chatproxy_recalls_overdue")

        assert await counted() == (2, 0)
        archive.clock.ahead = 31 * DAY
        assert await counted() == (2, 2)
        dataset = bytes.fromhex(exported.manifest.dataset[2:])
        first = bytes.fromhex(exported.rows()[0].id[2:])
        assert await archive.vault.recalls().acknowledge(dataset, [first]) == 1
        assert await counted() == (1, 1)
        assert await archive.vault.recalls().acknowledge(dataset, None) == 1
        assert await archive.vault.recalls().acknowledge(dataset, None) == 0
        assert await counted() == (0, 0)


async def test_a_flag_that_was_lifted_counts_once_the_note_says_so(tmp_path: Path, store: str) -> None:
    async with an_archive(tmp_path, store) as archive:
        await agreeing(archive, "ana")
        await archive.keep("ana", said("lifted"), days_ago=10, name="f")
        await archive.note("ana", FactKind.FLAGGED, turn="f")
        await archive.decided_again("ana")
        await archive.note("ana", FactKind.FLAG_LIFTED, turn="f")
        before = await archive.export("before")
        assert dict(before.manifest.left_out) == {"annotation_behind": 1}
        await archive.decided_again("ana")
        assert (await archive.export("after")).questions() == {"lifted"}


async def test_what_lies_behind_a_fence_is_left_out_before_it_is_swept(tmp_path: Path, store: str) -> None:
    async with an_archive(tmp_path, store) as archive:
        await agreeing(archive, "ana")
        await archive.keep("ana", said("hello"), days_ago=10)
        await archive.vault.erasure.erase(
            archive.tag("ana"), at=wall_clock(), ledger_length=1, stays=None, events=(), ledger_keep_until=0
        )
        exported = await archive.export()
        assert dict(exported.manifest.left_out) == {"erased": 1}


async def test_an_erasure_that_broke_off_is_recalled_by_who_finishes_it(tmp_path: Path, store: str) -> None:
    async with an_archive(tmp_path, store) as archive:
        vault, ana = archive.vault, archive.tag("ana")
        await agreeing(archive, "ana")
        await archive.keep("ana", said("hello"), days_ago=10)
        exported = await archive.export()
        await vault.erasure.mark_chore(Chore.ERASE, ana, 0)
        await vault.erasure.erase(
            ana, at=wall_clock(), ledger_length=1, stays=None, events=(), ledger_keep_until=0
        )
        while await vault.eraser.take_up():
            pass
        assert await vault.lineage.uses(ana) is None
        assert await archive.recalled(exported) == {exported.rows()[0].id: "erased"}


async def test_an_earlier_record_that_was_put_back_is_not_taken(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with an_archive(tmp_path, store) as archive:
        await agreeing(archive, "ana")
        await archive.keep("ana", said("hello"), days_ago=10, conversation="t")
        [[name]] = await connections.ask([["KEYS", "cp:*}:r:*"]])
        [before] = await connections.ask([["GET", name]])
        await archive.note("ana", FactKind.FEEDBACK_GIVEN, about="ana/t", kind="thumbs")
        await archive.decided_again("ana")
        assert (await archive.export("sound")).manifest.items == 1
        [after] = await connections.ask([["GET", name]])
        assert before != after
        await connections.ask([["SET", name, before, "KEEPTTL"]])
        assert dict((await archive.export("put back")).manifest.left_out) == {"record": 1}


class Moving(RedisStore):
    """Has everything of a person sealed anew under another key between reading the person and their records."""

    def __init__(self, vault: Vault) -> None:
        super().__init__(vault.store.connections)
        self._vault: Vault | None = vault

    async def records_of_turns(
        self, subject: SubjectTag, wanted: Sequence[tuple[TurnId, int]]
    ) -> list[bytes | None]:
        vault, self._vault = self._vault, None
        if vault is not None:
            stays = await vault.roller.renew(subject, await self.subject_state(subject), erasing=False)
            assert stays is not None
            await vault.roller.move(subject, stays, wanted=lambda *_: True)
            await vault.erasure.retire_keys(subject, stays=stays)
        return await super().records_of_turns(subject, wanted)


async def test_what_is_sealed_anew_while_it_is_read_is_no_fault(tmp_path: Path, store: str) -> None:
    async with an_archive(tmp_path, store) as archive:
        await agreeing(archive, "ana")
        await archive.keep_all("ana", [said("one"), said("two")], days_ago=10)
        means = replace(archive.vault.exporter("capability", [])._means, store=Moving(archive.vault))
        wish = Wish(purpose="capability", consumer="ml", form=Form.JSONL, shard=Shard(), at=None)
        directory = DatasetDirectory(tmp_path / "out")
        exported = Exported(await Exporter(means).export(wish, directory), directory)
        assert (exported.questions(), dict(exported.manifest.left_out)) == ({"one", "two"}, {})


async def test_who_may_not_be_used_takes_no_room_and_no_file(tmp_path: Path, store: str) -> None:
    async with an_archive(tmp_path, store) as archive:
        for number in range(6):
            await archive.keep_all(f"no{number}", [said("no")] * 20, days_ago=10)
        await agreeing(archive, "ana")
        await archive.keep("ana", said("yes"), days_ago=10)
        told: list[int] = []
        exporter = archive.vault.exporter("capability", [], limits=Limits(turns=20))
        wish = Wish(purpose="capability", consumer="ml", form=Form.JSONL, shard=Shard(), at=None)
        directory = DatasetDirectory(tmp_path / "out")
        manifest = await exporter.export(wish, directory, told=lambda progress: told.append(progress.parts))
        exported = Exported(manifest, directory)
        assert exported.questions() == {"yes"}
        assert dict(manifest.left_out) == {"CONSENT_UNKNOWN": 120}
        assert max(told) >= 6
        assert len([name for name in directory.names() if name.startswith("data/")]) == 1
