"""What is audited is on disk before it is done, says who did it, and cannot be rewritten unseen."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from chatproxy.audit.log import FileAuditLog, operating_user
from chatproxy.audit.verify import Verified, verify_log
from chatproxy.crypto.keys import SigningSeed
from chatproxy.crypto.primitives import ed25519_public
from chatproxy.crypto.tlog import Checkpoint, NoteSigner, Tree, read_checkpoint
from chatproxy.errors import AuditUnavailableError

SEED = bytes(range(32))
ORIGIN = "chatproxy/test/node-1"
KEYS = {ORIGIN: (ed25519_public(SEED),)}


def a_log(directory: Path) -> FileAuditLog:
    signer = NoteSigner(ORIGIN, SigningSeed(SEED))
    return FileAuditLog(directory, signer=lambda: signer, clock=lambda: 1_000, actor=lambda: "ana")


def written(directory: Path, entries: int = 5) -> Path:
    log = a_log(directory)
    for number in range(entries):
        log.append("read", {"turns": number})
    return directory / "audit.jsonl"


def verified(directory: Path, *kept: str) -> Verified:
    return verify_log(directory, keys=KEYS, kept=kept)


def test_an_entry_is_one_line_with_who_what_and_when(tmp_path: Path) -> None:
    log = a_log(tmp_path / "audit")
    log.append("read", {"conversation": "c_1\n", "turns": 2})
    log.append("read", {})
    path = tmp_path / "audit" / "audit.jsonl"
    first, second = map(json.loads, path.read_text().splitlines())
    assert first == {"v": 1, "at": 1000, "by": "ana", "action": "read", "conversation": "c_1\n", "turns": 2}
    assert second["action"] == "read"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_details_cannot_speak_for_who_did_it(tmp_path: Path) -> None:
    a_log(tmp_path).append("read", {"by": "bea", "action": "nothing", "at": 1, "v": 9})
    entry = json.loads((tmp_path / "audit.jsonl").read_text())
    assert entry == {"v": 1, "at": 1000, "by": "ana", "action": "read"}


def test_who_runs_the_process_is_not_asked_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "forged")
    assert operating_user() != "forged"


@pytest.mark.parametrize("obstacle", ["file", "link", "directory"])
def test_a_log_that_cannot_be_written_is_said(obstacle: str, tmp_path: Path) -> None:
    path = tmp_path / "audit" / "audit.jsonl"
    if obstacle == "file":
        path.parent.write_text("")
    else:
        path.parent.mkdir()
        path.symlink_to(tmp_path / "elsewhere") if obstacle == "link" else path.mkdir()
    with pytest.raises(AuditUnavailableError, match=r"audit\.jsonl"):
        a_log(path.parent).append("read", {})
    assert not (tmp_path / "elsewhere").exists()


def test_a_log_that_nobody_touched_is_whole(tmp_path: Path) -> None:
    assert verified(tmp_path) == Verified(0, 0)
    written(tmp_path)
    a_log(tmp_path).append_all([("read", {"turns": 1}), ("read", {"turns": 2})])
    note = a_log(tmp_path).latest_checkpoint()
    assert note is not None
    assert verified(tmp_path, note) == Verified(7, 7)


def test_two_processes_write_one_log(tmp_path: Path) -> None:
    one, other = a_log(tmp_path), a_log(tmp_path)
    for _ in range(3):
        one.append("read", {})
        other.append("read", {})
    assert verified(tmp_path) == Verified(6, 6)


def _altered(lines: list[bytes]) -> list[bytes]:
    return [*lines[:2], lines[2].replace(b"ana", b"bea"), *lines[3:]]


TAMPERED: dict[str, tuple[Callable[[list[bytes]], list[bytes]], int]] = {
    "altered": (_altered, 2),
    "taken out": (lambda lines: [*lines[:2], *lines[3:]], 2),
    "put in": (lambda lines: [*lines[:2], lines[0], *lines[2:]], 2),
    "two exchanged": (lambda lines: [lines[1], lines[0], *lines[2:]], 0),
    "the end cut off": (lambda lines: lines[:3], 3),
    "emptied": (lambda lines: [], 0),
    "one added": (lambda lines: [*lines, lines[-1]], 5),
}


@pytest.mark.parametrize("case", TAMPERED)
def test_the_first_bad_entry_is_found(case: str, tmp_path: Path) -> None:
    tamper, first_bad = TAMPERED[case]
    path = written(tmp_path)
    path.write_bytes(b"".join(tamper(path.read_bytes().splitlines(keepends=True))))
    found = verified(tmp_path)
    assert found.fault is not None
    assert found.first_bad == first_bad


def test_a_rewritten_log_with_its_checkpoints_taken_away_is_found_by_one_that_was_kept(
    tmp_path: Path,
) -> None:
    path = written(tmp_path)
    kept = a_log(tmp_path).latest_checkpoint()
    assert kept is not None
    lines = path.read_bytes().splitlines(keepends=True)
    for name in ("audit.jsonl", "checkpoints", "tree.json"):
        (tmp_path / name).unlink()
    path.write_bytes(b"".join(lines[:2]))
    a_log(tmp_path).append("read", {})
    assert verified(tmp_path).fault is None
    assert verified(tmp_path, kept).first_bad == 4


def test_a_forged_checkpoint_is_found(tmp_path: Path) -> None:
    written(tmp_path)
    forged = NoteSigner(ORIGIN, SigningSeed(bytes(range(1, 33)))).sign(Checkpoint.of(ORIGIN, Tree()))
    found = verified(tmp_path, forged)
    assert found.fault is not None
    assert "checkpoint_signature" in found.fault


def test_what_a_crash_left_without_a_checkpoint_is_told_by_the_next_entry(tmp_path: Path) -> None:
    path = written(tmp_path, 2)
    with path.open("ab") as file:
        file.write(b'{"action":"read"}\n{"act')
    assert verified(tmp_path).first_bad == 2
    a_log(tmp_path).append("read", {})
    assert verified(tmp_path).fault is None
    *_, uncovered, last = map(json.loads, path.read_bytes().splitlines()[-2:])
    assert (uncovered["action"], uncovered["entries"]) == ("audit.uncovered", 2)
    assert last["action"] == "read"


def test_a_running_process_does_not_forget_where_the_log_stood(tmp_path: Path) -> None:
    log = a_log(tmp_path)
    log.append("read", {"turns": 1})
    path = tmp_path / "audit.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"turns":1', b'"turns":9'))
    (tmp_path / "tree.json").unlink()
    log.append("read", {})
    assert verified(tmp_path).first_bad == 0


def test_a_log_knows_whether_it_continues_a_checkpoint(tmp_path: Path) -> None:
    path = written(tmp_path)
    note = a_log(tmp_path).latest_checkpoint()
    assert note is not None
    checkpoint = read_checkpoint(note, keys=KEYS)
    a_log(tmp_path).append("read", {})
    assert a_log(tmp_path).had(checkpoint)
    path.write_bytes(path.read_bytes().replace(b'"turns":0', b'"turns":7'))
    assert not a_log(tmp_path).had(checkpoint)
