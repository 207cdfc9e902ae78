"""What is audited is on disk before it is done, says who did it, and cannot be talked out of it."""

import json
from pathlib import Path

import pytest

from chatproxy.audit import FileAuditLog, operating_user
from chatproxy.errors import AuditUnavailableError


def a_log(path: Path) -> FileAuditLog:
    return FileAuditLog(path, clock=lambda: 1_000, actor=lambda: "ana")


def test_an_entry_is_one_line_with_who_what_and_when(tmp_path: Path) -> None:
    path = tmp_path / "audit" / "audit.jsonl"
    log = a_log(path)
    log.append("read", {"conversation": "c_1\n", "turns": 2})
    log.append("read", {})
    first, second = map(json.loads, path.read_text().splitlines())
    assert first == {"v": 1, "at": 1000, "by": "ana", "action": "read", "conversation": "c_1\n", "turns": 2}
    assert second["action"] == "read"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_details_cannot_speak_for_who_did_it(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    a_log(path).append("read", {"by": "bea", "action": "nothing", "at": 1, "v": 9})
    assert json.loads(path.read_text()) == {"v": 1, "at": 1000, "by": "ana", "action": "read"}


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
        a_log(path).append("read", {})
    assert not (tmp_path / "elsewhere").exists()
