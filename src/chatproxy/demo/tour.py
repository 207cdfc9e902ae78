"""The demonstration: people chat through a real proxy, and what was kept of them is shown."""

import itertools
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from chatproxy.clock import wall_clock
from chatproxy.consent.events import DATA_SUBJECT
from chatproxy.crypto.keyset import make_keyset
from chatproxy.demo.backend import demo_backend
from chatproxy.demo.people import CANARY, PEOPLE, Person
from chatproxy.kms.file import KeysetFile
from chatproxy.settings import Address, load_settings
from chatproxy.web.client_call import asgi
from chatproxy.web.server import Listener
from chatproxy.wiring import RunningProxy, running_proxy
from chatproxy.workflows.transcripts import KeptTurn, summary

_PATHS = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}
_KEEPING_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class KeptRow:
    """What was kept of one turn; None for ``row`` where nothing was."""

    who: str
    row: dict[str, Any] | None
    reason: str


@dataclass(frozen=True, slots=True)
class Search:
    """A search for words of the conversations in everything on disk."""

    files: int
    size: int
    found: int
    sample: bytes
    """The first bytes of one sealed record."""


@asynccontextmanager
async def demonstration(
    directory: Path, *, listen: Address, admin_listen: Address, admin_token: str
) -> AsyncIterator[RunningProxy]:
    """Run demo backend, embedded store and proxy, with data and keyset apart below *directory*.

    ``admin_token``: what whoever asks the admin API must show, 16 characters at least.
    """
    data_dir, keyset = directory / "data", directory / "keys" / "keyset"
    if not keyset.exists():
        KeysetFile(keyset, data_dir=data_dir).create(make_keyset(created_at=wall_clock()))
    backend = Listener(
        asgi(demo_backend), host="127.0.0.1", port=0, setting="the demo backend", drain_seconds=0
    )
    await backend.start()
    try:
        settings = load_settings(
            # Neither the environment's nor a file's settings: the demonstration brings all that it needs.
            {"CHATPROXY_CONFIG": os.devnull},
            overrides={
                "upstream": backend.url,
                "listen": str(listen),
                "admin_listen": str(admin_listen),
                "admin_token": admin_token,
                "link_lifetime": "12h",
                "data_dir": str(data_dir),
                "keyset": f"file:{keyset}",
                "trusted_proxies": "127.0.0.1,::1",
            },
        ).settings
        async with running_proxy(settings) as running:
            yield running
    finally:
        await backend.stop()


async def let_people_chat(running: RunningProxy) -> list[KeptRow]:
    """Record everyone's choices, send everyone's conversations, and return what was kept of each turn."""
    vault = running.vault
    kept: list[KeptRow] = []
    seen: set[object] = set()
    async with httpx.AsyncClient(base_url=running.url, trust_env=False) as client:
        for person in PEOPLE:
            for choice in person.choices:
                subject = vault.pseudonyms.subject_tag(tenant="default", subject=person.subject or "")
                await vault.ledger.record(subject, choice, at=vault.clock(), by=DATA_SUBJECT, method="demo")
            async for announced in _chat(client, person):
                await running.all_kept(within=_KEEPING_SECONDS)
                rows = [
                    dict(summary(turn, vault.pseudonyms))
                    async for turn in vault.transcripts.walk()
                    if isinstance(turn, KeptTurn)
                ]
                row = next((row for row in rows if row["turn"] not in seen), None)
                seen.update(row["turn"] for row in rows)
                kept.append(KeptRow(person.who, row, str(row["reason"]) if row else announced))
    return kept


async def _chat(client: httpx.AsyncClient, person: Person) -> AsyncIterator[str]:
    """Send a person's conversation, each request with all that came before; yield the reasons that are announced."""
    headers = {"content-type": "application/json"}
    if person.subject:
        headers |= {"x-chat-subject": person.subject, "x-chat-plan": person.plan or ""}
    if person.incognito:
        headers["x-chat-incognito"] = "?1"
    messages: list[dict[str, str]] = []
    for said in person.says:
        messages.append({"role": "user", "content": said})
        body = {"model": "demo", "max_tokens": 100, "messages": messages, "stream": person.streamed}
        answer = await client.post(_PATHS[person.dialect], json=body, headers=headers)
        answer.raise_for_status()
        messages.append({"role": "assistant", "content": _said(answer.text, streamed=person.streamed)})
        yield answer.headers.get("x-decision-reason", "")


def _said(answer: str, *, streamed: bool) -> str:
    """Return the text of an answer, as a client would show it."""
    if not streamed:
        document = json.loads(answer)
        if "choices" in document:
            return str(document["choices"][0]["message"]["content"])
        return str(document["content"][0]["text"])
    said: list[str] = []
    for line in answer.splitlines():
        if line.startswith("data: {"):
            event = json.loads(line.removeprefix("data: "))
            deltas = [choice["delta"] for choice in event.get("choices", ())] or [event.get("delta", {})]
            said += [delta.get("content") or delta.get("text") or "" for delta in deltas]
    return "".join(said)


async def link_to_pages(running: RunningProxy, *, admin_token: str, subject: str, plan: str) -> str:
    """Return a link to a person's own pages, as a company's server gets it from the admin API."""
    async with httpx.AsyncClient(base_url=running.admin_url, trust_env=False) as client:
        answer = await client.post(
            "/api/v1/links",
            json={"subject": subject, "plan": plan},
            headers={"authorization": f"Bearer {admin_token}"},
        )
        answer.raise_for_status()
        return running.url + str(answer.json()["url"])


def search_plaintext(directory: Path) -> Search:
    """Look for what people said in every file below *directory*."""
    contents = [path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()]
    words = CANARY.encode()
    record = next(
        (content[start:] for content in contents if (start := content.find(b"CP\x01\x01")) >= 0), b""
    )
    return Search(
        files=len(contents),
        size=sum(map(len, contents)),
        found=sum(content.count(words) for content in contents),
        sample=bytes(itertools.islice(record, 24)),
    )
