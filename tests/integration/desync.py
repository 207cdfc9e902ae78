"""The corpora of hostile requests and answers, as bytes."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CORPUS = Path(__file__).parent.parent / "corpus"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: chat\r\n\r\n"


@dataclass(frozen=True)
class HostileRequest:
    """One case of ``requests.toml``."""

    name: str
    severity: str
    raw: bytes
    answer: int
    then: int | None
    forwarded: tuple[str, ...]
    informational: bool


def _bytes(text: str) -> bytes:
    return text.encode("latin-1").replace(b"{second}", SMUGGLED)


def _request(case: dict[str, Any]) -> HostileRequest:
    if "raw" in case:
        raw = case["raw"]
    else:
        lines = [case.get("start", "POST /first HTTP/1.1"), "Host: chat", *case["fields"], "", ""]
        raw = "\r\n".join(lines) + case.get("body", "")
    return HostileRequest(
        case["name"],
        case["severity"],
        _bytes(raw),
        case.get("answer", 400),
        case.get("then"),
        tuple(case.get("forwarded", ())),
        case.get("informational", False),
    )


def hostile_requests() -> list[HostileRequest]:
    """Read the corpus of requests."""
    cases = tomllib.loads((CORPUS / "requests.toml").read_text(encoding="utf-8"))["case"]
    return [_request(case) for case in cases]


@dataclass(frozen=True)
class HostileAnswer:
    """One case of ``answers.toml``."""

    name: str
    severity: str
    raw: bytes
    asked: str
    status: int
    body: bytes
    is_whole: bool
    closes: bool


def hostile_answers() -> list[HostileAnswer]:
    """Read the corpus of answers."""
    cases = tomllib.loads((CORPUS / "answers.toml").read_text(encoding="utf-8"))["case"]
    return [
        HostileAnswer(
            case["name"],
            case["severity"],
            case["raw"].encode("latin-1"),
            case.get("asked", "GET"),
            case.get("status", 502),
            case.get("body", "").encode("latin-1"),
            case.get("whole", True),
            case.get("closes", False),
        )
        for case in cases
    ]
