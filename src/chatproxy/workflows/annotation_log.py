"""Which annotation of a turn is the last? The audit log says, which lies outside the store (security B5).

Each annotation has a number that goes up with every later decision. Who writes to the store can put an earlier one back,
which is authentic. So each change is told to the audit log when it is done, and what lies in the store with a lower
number than that was put back.
"""

import asyncio
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from chatproxy.audit.search import lines_naming
from chatproxy.errors import AuditUnavailableError
from chatproxy.model import SubjectTag, TurnId
from chatproxy.ports import AuditLog
from chatproxy.telemetry import Log
from chatproxy.workflows.verdict import Kept

_log = Log("annotations")
_CHANGED, _RESTORED = "annotations.changed", "store.restore"
_AT_ONCE = 500
"""Turns an entry, some 20 KiB."""

Turn = tuple[SubjectTag, TurnId]


@dataclass(frozen=True, slots=True)
class LastChange:
    """The last change of an annotation that a log knows."""

    seq: int
    at: int
    """ms; the decision is from before."""

    def is_after(self, kept: Kept) -> bool:
        """Whether *kept* is an earlier state, so that somebody has put it back.

        A retry that took the place of a turn begins its numbers anew; it was decided on later.
        """
        return kept.annotation.seq < self.seq and kept.note.decided_at < self.at


class AnnotationLog:
    """Writes down in the audit log which annotations have changed."""

    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit

    async def note(self, subject: SubjectTag, changed: Mapping[TurnId, int]) -> None:
        """Write down the numbers of changed annotations. A log that cannot be written stops no decision."""
        left = iter(changed.items())
        while portion := list(islice(left, _AT_ONCE)):
            turns = ",".join(f"{turn.hex()}:{seq}" for turn, seq in portion)
            try:
                await asyncio.to_thread(
                    self._audit.append, _CHANGED, {"subject": subject.hex(), "turns": turns}
                )
            except AuditUnavailableError:
                _log.error(
                    "the audit log cannot be written: older annotations that are put back would not be found"
                )
                return


def read_last_changes(logs: Iterable[Path], *, subject: SubjectTag | None = None) -> dict[Turn, LastChange]:
    """Return the last change of each turn that audit logs know, but for what a restore has undone.

    ``subject``: of that one only, which is quicker. Raises OSError.
    """
    entries = [entry for log in logs for entry in _entries(log, subject)]
    undone = [(entry.since, entry.at) for entry in entries if isinstance(entry, _Restored)]
    last: dict[Turn, LastChange] = {}
    for entry in entries:
        if isinstance(entry, _Restored) or any(since < entry.at <= until for since, until in undone):
            continue
        for turn, seq in entry.turns.items():
            key = (entry.subject, turn)
            if key not in last or seq > last[key].seq:
                last[key] = LastChange(seq, entry.at)
    return last


@dataclass(frozen=True, slots=True)
class _Restored:
    since: int
    at: int


@dataclass(frozen=True, slots=True)
class _Changed:
    subject: SubjectTag
    turns: Mapping[TurnId, int]
    at: int


def _entries(log: Path, subject: SubjectTag | None) -> Iterator[_Changed | _Restored]:
    name = _CHANGED if subject is None else subject.hex()
    for line in lines_naming(log, name.encode(), _RESTORED.encode()):
        try:
            entry = json.loads(line)
            if entry["action"] == _CHANGED:
                yield _Changed(SubjectTag(bytes.fromhex(entry["subject"])), _turns(entry), entry["at"])
            elif entry["action"] == _RESTORED:
                yield _Restored(entry["since"], entry["at"])
        except (ValueError, KeyError, TypeError):
            continue  # an entry about something else, or half a line


def _turns(entry: Mapping[str, str]) -> dict[TurnId, int]:
    pairs = (each.partition(":") for each in entry["turns"].split(","))
    return {TurnId(bytes.fromhex(turn)): int(seq) for turn, _, seq in pairs}
