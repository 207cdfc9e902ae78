"""What the audit log says of the last annotation of each turn."""

import json
from collections.abc import Mapping
from pathlib import Path

from chatproxy.errors import AuditUnavailableError
from chatproxy.model import SubjectTag, TurnId
from chatproxy.workflows.annotation_log import AnnotationLog, LastChange, read_last_changes

ANA = SubjectTag(b"A" * 16)
ONE, TWO = TurnId(b"1" * 16), TurnId(b"2" * 16)


class Written:
    """As much of an audit log as is read back."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.at = 0
        self.is_full = False

    def append(self, action: str, details: Mapping[str, str | int | bool], *, by: str | None = None) -> None:
        if self.is_full:
            raise AuditUnavailableError("full")
        self.at += 10
        with self.path.open("a") as file:
            file.write(json.dumps({**details, "action": action, "at": self.at}) + "\n")


async def test_the_highest_number_of_each_turn_counts(tmp_path: Path) -> None:
    here, there = Written(tmp_path / "here"), Written(tmp_path / "there")
    await AnnotationLog(here).note(ANA, {ONE: 3, TWO: 2})
    await AnnotationLog(there).note(ANA, {ONE: 2, TWO: 4})

    assert read_last_changes([here.path, there.path]) == {
        (ANA, ONE): LastChange(3, 10),
        (ANA, TWO): LastChange(4, 10),
    }


async def test_what_a_restore_has_undone_does_not_count(tmp_path: Path) -> None:
    here, there = Written(tmp_path / "here"), Written(tmp_path / "there")
    await AnnotationLog(here).note(ANA, {ONE: 2})
    await AnnotationLog(here).note(ANA, {ONE: 3})
    await AnnotationLog(there).note(ANA, {TWO: 5})
    there.at = 40
    there.append("store.restore", {"since": 15, "entries": 0})
    await AnnotationLog(there).note(ANA, {TWO: 4})

    assert read_last_changes([here.path, there.path]) == {
        (ANA, ONE): LastChange(2, 10),
        (ANA, TWO): LastChange(5, 10),
    }


async def test_many_turns_are_several_entries_and_none_is_no_entry(tmp_path: Path) -> None:
    log = Written(tmp_path / "log")
    many = {TurnId(number.to_bytes(16, "big")): 2 for number in range(1_001)}
    await AnnotationLog(log).note(ANA, {})
    assert not log.path.exists()
    await AnnotationLog(log).note(ANA, many)

    assert len(log.path.read_text().splitlines()) == 3
    assert len(read_last_changes([log.path])) == 1_001


async def test_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    log = Written(tmp_path / "log")
    log.is_full = True
    await AnnotationLog(log).note(ANA, {ONE: 2})


def test_entries_about_something_else_and_half_lines_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(
        '{"action":"transcripts.read","at":1}\n["annotations.changed"]\n{"action":"annotations.changed","at":1,"subj'
    )
    assert read_last_changes([tmp_path / "log"]) == {}
