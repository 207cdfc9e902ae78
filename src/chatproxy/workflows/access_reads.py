"""Who has read what is kept of a person, as the audit log tells it (R42, R45)?

Staff are told as staff: whom of them it was is for the company to know. What a log says of holds, flags and keys is no
reading, and is not told here.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chatproxy.audit.search import lines_naming
from chatproxy.consent.events import DATA_SUBJECT
from chatproxy.model import SubjectTag

READING = frozenset({"transcripts.read", "transcripts.refused", "policy.explained", "subject.access"})
"""The actions of the log that are readings of one person's data, or the refusal of one."""


@dataclass(frozen=True, slots=True)
class Read:
    """One reading. ``at`` in ms; handles name conversation and turn."""

    at: int
    action: str
    by: str
    """``data_subject`` or ``staff``."""
    purpose: str | None = None
    ground: str | None = None
    conversation: str | None = None
    turn: str | None = None
    turns: int | None = None


class AccessReads:
    """The audit logs as they are now: what is written later is not told, so that it can be read more than once."""

    def __init__(self, logs: Sequence[Path]) -> None:
        """Raises OSError where a log cannot be read."""
        self._logs = [(log, log.stat().st_size) for log in logs]

    def of(self, subject: SubjectTag) -> Iterator[Read]:
        """Yield each reading, log by log, in the order of the log. Raises OSError."""
        name = subject.hex().encode()
        for log, length in self._logs:
            for line in lines_naming(log, name, length=length):
                if (entry := _entry(line)) is not None:
                    yield from _read(entry, subject)


def _entry(line: bytes) -> dict[str, Any] | None:
    """Return the entry of a line; None for half of one, which a crash leaves."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def _read(entry: dict[str, Any], subject: SubjectTag) -> Iterator[Read]:
    if entry.get("subject") == subject.hex() and entry.get("action") in READING:
        yield Read(
            at=entry["at"],
            action=entry["action"],
            by=DATA_SUBJECT if entry.get("by") == DATA_SUBJECT else "staff",
            purpose=entry.get("purpose"),
            ground=entry.get("ground"),
            conversation=entry.get("conversation"),
            turn=entry.get("turn"),
            turns=entry.get("turns"),
        )
