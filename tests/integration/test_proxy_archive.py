"""What keeps turns never ends by itself, whatever goes wrong with one of them."""

import asyncio
import json
import logging
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from chatproxy.clock import wall_clock
from chatproxy.journal.memory import MemoryJournal
from chatproxy.model import Caller, StreamEnd, TurnId
from chatproxy.policy.periods import DAY_MS
from chatproxy.ports import PutStatus, SealedTurn
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.tasks import Background
from chatproxy.telemetry import Metrics
from chatproxy.vault import Vault, open_vault
from chatproxy.wire import DIALECTS, Dialects
from chatproxy.wire.base import OriginRules
from chatproxy.workflows.archive import Archive
from chatproxy.workflows.place import Places
from chatproxy.workflows.record import Capture, Recorder
from chatproxy.workflows.retry import Retries
from chatproxy.workflows.seal import Sealer
from chatproxy.workflows.subjects import Subjects
from chatproxy.workflows.transcripts import KeptTurn
from integration.proxy_fixtures import PATIENCE, a_proxy, chat_bytes, openai_reply


class FaultyStore:
    """The real store, but for what its puts do first."""

    def __init__(self, store: Any, *faults: Exception) -> None:
        self._store = store
        self._faults = list(faults)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def put(self, turns: Sequence[SealedTurn]) -> list[PutStatus | None]:
        if self._faults:
            raise self._faults.pop()
        found: list[PutStatus | None] = await self._store.put(turns)
        return found


def an_archive(
    vault: Vault, store: Any, journal: MemoryJournal, metrics: Metrics, background: Background
) -> Archive:
    subjects = Subjects(
        store, vault.annotation_keys, clock=wall_clock, metrics=metrics,
        background=background, max_staleness_ms=60_000,
    )  # fmt: skip
    places = Places(store, vault.pseudonyms, random=secrets.token_bytes, erased_at=subjects.erased_at)
    return Archive(
        journal=journal,
        store=store,
        places=places,
        retries=Retries(store, places, vault.annotation_keys),
        subjects=subjects,
        keys=vault.record_keys,
        sealer=Sealer(
            policy=vault.policy, keys=vault.record_keys, annotation_keys=vault.annotation_keys, metrics=metrics,
            node="n",
        ),
        dialects=Dialects(DIALECTS),
        rules=OriginRules(),
        clock=wall_clock,
        metrics=metrics,
        capture_limit=1 << 20,
        may_put=lambda: True,
        decide_again=vault.redecider(metrics).mark,
    )  # fmt: skip


async def test_what_follows_a_turn_that_is_over_in_the_same_batch_keeps_all_of_its_words(
    tmp_path: Path, server: EmbeddedServer, connections: Connections
) -> None:
    """It is placed after the one that is not kept after all, which would have held what was sent again (R13)."""
    settings = a_proxy(tmp_path, upstream="http://127.0.0.1:9", store=server.url)
    background = Background(logging.getLogger("test"))
    metrics, journal = Metrics(), MemoryJournal(1 << 20)
    # The client goes on from the answer that it has: a prefill by its looks, and said before by that turn.
    first = [{"role": "user", "content": "hello"}]
    second = [*first, {"role": "assistant", "content": "hi"}]
    async with asyncio.timeout(PATIENCE), open_vault(settings) as vault:
        archive = an_archive(vault, vault.store, journal, metrics, background)
        capture = Capture(
            journal,
            metrics,
            limit=1 << 20,
            never_kept=lambda _: None,
            new_turn_id=lambda: TurnId(secrets.token_bytes(16)),
        )
        for messages, at in ((first, wall_clock() - 31 * DAY_MS), (second, wall_clock())):
            recorder = capture.begin(
                Caller(subject="ana", plan="pro"),
                dialect="openai_chat",
                request_encoding="",
                received_at=at,
            )
            assert isinstance(recorder, Recorder)
            recorder.request(json.dumps({"model": "m", "messages": messages}).encode())
            recorder.head(200, "application/json", "")
            recorder.reply(openai_reply("hi"))
            recorder.finish(StreamEnd.COMPLETE)
        background.spawn(archive.run(), name="archive")
        while not journal.is_idle:
            await asyncio.sleep(0.01)
        await background.aclose()

        [kept] = [turn async for turn in vault.transcripts.walk()]
        assert isinstance(kept, KeptTurn)
        assert kept.facts.after is None
        [shown] = await vault.transcripts.show(kept.subject, kept.facts.conversation_tag, purpose="service")
        assert [message.role for message in shown.transcript.input] == ["user", "assistant"]


async def test_an_unforeseen_error_is_survived_and_the_turn_is_kept(
    tmp_path: Path, server: EmbeddedServer, connections: Connections
) -> None:
    settings = a_proxy(tmp_path, upstream="http://127.0.0.1:9", store=server.url)
    background = Background(logging.getLogger("test"))
    metrics, journal = Metrics(), MemoryJournal(1 << 20)
    async with asyncio.timeout(PATIENCE), open_vault(settings) as vault:
        store = FaultyStore(vault.store, RuntimeError("canary"))
        archive = an_archive(vault, store, journal, metrics, background)
        capture = Capture(
            journal,
            metrics,
            limit=1 << 20,
            never_kept=lambda _: None,
            new_turn_id=lambda: TurnId(b"t" * 16),
        )
        recorder = capture.begin(
            Caller(subject="ana", plan="pro"),
            dialect="openai_chat",
            request_encoding="",
            received_at=wall_clock(),
        )
        assert isinstance(recorder, Recorder)
        recorder.request(chat_bytes())
        recorder.head(200, "application/json", "")
        recorder.reply(openai_reply("hi"))
        recorder.finish(StreamEnd.COMPLETE)
        background.spawn(archive.run(), name="archive")
        while not journal.is_idle:
            await asyncio.sleep(0.01)
        await background.aclose()
        assert len([turn async for turn in vault.transcripts.walk()]) == 1
        assert not archive.is_failing
