"""What keeps turns never ends by itself, whatever goes wrong with one of them."""

import asyncio
import json
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from chatproxy.clock import wall_clock
from chatproxy.consent.events import Choice, FactKind
from chatproxy.journal.memory import MemoryJournal
from chatproxy.model import Caller, StreamEnd, TurnId
from chatproxy.policy.instants import format_instant
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
from chatproxy.workflows.ledger import LEDGER_OUTLIVES_MS
from chatproxy.workflows.place import Places
from chatproxy.workflows.record import Capture, Recorder
from chatproxy.workflows.retry import Retries
from chatproxy.workflows.seal import Sealer
from chatproxy.workflows.subjects import Subjects
from chatproxy.workflows.transcripts import KeptTurn, Spurious
from integration.proxy_fixtures import PATIENCE, a_proxy, openai_reply


class FaultyStore:
    """The real store, but for what its puts do first."""

    def __init__(self, store: Any, *faults: Exception) -> None:
        self._store = store
        self._faults = list(faults)
        self.turns: list[SealedTurn] = []
        self.before_put: Callable[[], object] = lambda: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def put(self, turns: Sequence[SealedTurn]) -> list[PutStatus | None]:
        self.before_put()
        self.turns += turns
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


class Keeping:
    """An archive and what it keeps from."""

    def __init__(self, vault: Vault, *faults: Exception) -> None:
        self.vault = vault
        self._background = Background(logging.getLogger("test"))
        self._metrics, self._journal = Metrics(), MemoryJournal(16 << 20)
        self.store = FaultyStore(vault.store, *faults)
        self.archive = an_archive(vault, self.store, self._journal, self._metrics, self._background)

    def chat(self, *messages: Mapping[str, str], at: int) -> None:
        """Capture a chat of Ana's that was received then (ms), and answered with "hi"."""
        capture = Capture(
            self._journal,
            self._metrics,
            limit=1 << 20,
            never_kept=lambda _: None,
            new_turn_id=lambda: TurnId(secrets.token_bytes(16)),
        )
        recorder = capture.begin(
            Caller(subject="ana", plan="pro"), dialect="openai_chat", request_encoding="", received_at=at
        )
        assert isinstance(recorder, Recorder)
        recorder.request(json.dumps({"model": "m", "messages": messages}).encode())
        recorder.head(200, "application/json", "")
        recorder.reply((openai_reply("hi"),), len(openai_reply("hi")))
        recorder.finish(StreamEnd.COMPLETE)

    async def kept(self) -> list[KeptTurn | Spurious]:
        """Keep what was captured, and return what is kept."""
        self._background.spawn(self.archive.run(), name="archive")
        while not self._journal.is_idle:
            await asyncio.sleep(0.01)
        await self._background.aclose()
        return [turn async for turn in self.vault.transcripts.walk()]


QUESTION = {"role": "user", "content": "hello"}
ANSWER = {"role": "assistant", "content": "hi"}


@pytest.fixture
async def vault(tmp_path: Path, server: EmbeddedServer, connections: Connections) -> AsyncIterator[Vault]:
    settings = a_proxy(tmp_path, upstream="http://127.0.0.1:9", store=server.url)
    async with asyncio.timeout(PATIENCE), open_vault(settings) as opened:
        yield opened


async def test_what_follows_a_turn_that_is_over_in_the_same_batch_keeps_all_of_its_words(
    vault: Vault,
) -> None:
    """It is placed after the one that is not kept after all, which would have held what was sent again (R13)."""
    keeping = Keeping(vault)
    keeping.chat(QUESTION, at=wall_clock() - 31 * DAY_MS)
    # The client goes on from the answer that it has: a prefill by its looks, and said before by that turn.
    keeping.chat(QUESTION, ANSWER, at=wall_clock())

    [kept] = await keeping.kept()

    assert isinstance(kept, KeptTurn)
    assert kept.facts.after is None
    [shown] = await vault.transcripts.show(kept.subject, kept.facts.conversation_tag, purpose="service")
    assert [message.role for message in shown.transcript.input] == ["user", "assistant"]


@pytest.mark.parametrize("is_held", [True, False])
async def test_who_is_held_when_a_turn_is_kept_is_decided_on_again(vault: Vault, *, is_held: bool) -> None:
    """It is sealed to the review of the hold, which may have ended by then (R24)."""
    ana = vault.pseudonyms.subject_tag(tenant="default", subject="ana")
    received_at = wall_clock()
    if is_held:
        hold = {"case": "c", "authority": "a", "review_at": format_instant(received_at + 60 * DAY_MS)}
        kind = FactKind.HOLD_PLACED
        await vault.ledger.note(ana, kind, at=received_at, by="test", method="test", details=hold)
        soon = wall_clock() + DAY_MS
        while await vault.store.people_due(soon):
            for due in await vault.store.claim_due(now=soon, until=soon + DAY_MS, most=16):
                assert await vault.store.settle_due(due)
    keeping = Keeping(vault)
    keeping.chat(QUESTION, at=received_at - 1)

    assert len(await keeping.kept()) == 1
    assert await vault.store.people_due(wall_clock() + DAY_MS) == is_held


@pytest.mark.parametrize(
    "choices, since",
    [
        pytest.param((), 0, id="nothing was chosen"),
        pytest.param((Choice.GIVEN,), 1, id="a yes"),
        pytest.param((Choice.GIVEN, Choice.RENEWED), 1, id="a yes that was renewed"),
        pytest.param((Choice.GIVEN, Choice.WITHDRAWN), 0, id="withdrawn"),
        pytest.param((Choice.GIVEN, Choice.WITHDRAWN, Choice.GIVEN), 3, id="another yes after a no"),
    ],
)
async def test_a_turn_says_since_when_a_yes_may_bring_older_ones_under_it(
    vault: Vault, choices: Sequence[Choice], since: int
) -> None:
    """And the ledger outlives it by the period for proof (R12, R38)."""
    ana = vault.pseudonyms.subject_tag(tenant="default", subject="ana")
    before = wall_clock() - 60_000
    for number, choice in enumerate(choices, 1):
        await vault.ledger.record(ana, choice, at=before + number, by="test", method="test")
    keeping = Keeping(vault)
    keeping.chat(QUESTION, at=wall_clock())
    await keeping.kept()

    [turn] = keeping.store.turns
    assert turn.grant_since == (before + since if since else 0)
    assert turn.ledger_keep_until == turn.expires_at + LEDGER_OUTLIVES_MS


async def test_an_unforeseen_error_is_survived_and_the_turn_is_kept(vault: Vault) -> None:
    keeping = Keeping(vault, RuntimeError("canary"))
    keeping.chat(QUESTION, at=wall_clock())

    assert len(await keeping.kept()) == 1
    assert not keeping.archive.is_failing


async def test_chats_go_on_while_many_turns_are_kept(vault: Vault) -> None:
    keeping = Keeping(vault)
    keeping.chat(QUESTION, at=wall_clock())
    await keeping.kept()
    # Keys and person are known from here on, so only the put waits for the store.
    loop, rounds = asyncio.get_running_loop(), 0
    has_put = asyncio.Event()

    def count() -> None:
        nonlocal rounds
        rounds += 1
        if not has_put.is_set():
            loop.call_soon(count)

    keeping.store.before_put = has_put.set
    for number in range(100):
        keeping.chat({"role": "user", "content": f"{number} " * 100}, at=wall_clock())
    loop.call_soon(count)

    assert len(await keeping.kept()) == 101
    assert rounds > 10
