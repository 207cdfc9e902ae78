"""What a client program is told and what it tells: one JSON object on standard input, one on standard output.

The base URL and a key stand in the environment, where each client looks for them by itself.
"""

import json
import os
import sys
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

WORDS = 3
"""Pieces of a streamed answer after which a client hangs up."""

Message = dict[str, str]


@dataclass(frozen=True)
class Job:
    """``leave_in``: the turn, counted from 0, in which the client hangs up after a few words; None: it stays."""

    says: list[str]
    streamed: bool
    system: str | None
    leave_in: int | None
    base_url: str

    def leaves(self, said: str, pieces: int) -> bool:
        return self.leave_in is not None and said == self.says[self.leave_in] and pieces == WORDS


def read_job() -> Job:
    return Job(**json.load(sys.stdin), base_url=os.environ["E2E_BASE_URL"])


def report(package: str, messages: list[Message], **more: Any) -> None:
    """Tell what the client saw: every message of the conversation as its user would read it."""
    json.dump({"version": version(package), "messages": messages, **more}, sys.stdout)


def opening(job: Job) -> list[Message]:
    return [{"role": "system", "content": job.system}] if job.system else []
