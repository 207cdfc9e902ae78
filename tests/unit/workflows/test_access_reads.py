"""Of an audit log a person is told the readings of their own data, and nothing else."""

import json
from pathlib import Path

from chatproxy.model import SubjectTag
from chatproxy.workflows.access_reads import READING, AccessReads, Read

ANA, BOB = SubjectTag(b"A" * 16), SubjectTag(b"B" * 16)


def line(action: str, *, subject: SubjectTag = ANA, by: str = "ops", **more: object) -> str:
    return json.dumps({"at": 7, "by": by, "action": action, "subject": subject.hex(), **more}) + "\n"


def reads(path: Path) -> list[Read]:
    return list(AccessReads([path]).of(ANA))


def test_readings_of_the_person_are_told_and_of_staff_no_name(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        line("transcripts.read", purpose="safety", ground="SAFETY_IO", turns=2, conversation="c_1")
        + line("transcripts.read", by="data_subject", purpose="service")
    )

    assert reads(log) == [
        Read(7, "transcripts.read", "staff", "safety", "SAFETY_IO", "c_1", None, 2),
        Read(7, "transcripts.read", "data_subject", "service"),
    ]


def test_what_is_no_reading_of_theirs_is_not_told(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        line("hold.placed")
        + line("turn.flagged")
        + line("subject.minor")
        + line("transcripts.read", subject=BOB)
        + line("transcripts.read", subject=BOB, conversation=ANA.hex())
        + f'["{ANA.hex()}"]\n'
        + line("transcripts.read")[:-20]
        + "\n"
    )

    assert reads(log) == []
    assert not {"hold.placed", "turn.flagged", "subject.minor", "subject.accessed"} & READING


def test_what_is_written_meanwhile_is_not_told(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(line("transcripts.read"))
    before = AccessReads([log])
    with log.open("a") as more:
        more.write(line("transcripts.refused"))

    assert len(list(before.of(ANA))) == len(list(before.of(ANA))) == 1
    assert len(reads(log)) == 2


def test_each_node_has_a_log_of_its_own(tmp_path: Path) -> None:
    logs = [tmp_path / "one", tmp_path / "two"]
    for log in logs:
        log.write_text(line("policy.explained", turn=log.name))

    assert [read.turn for read in AccessReads(logs).of(ANA)] == ["one", "two"]
