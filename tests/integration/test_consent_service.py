"""The company's own consent service: down, slow, wrong or lying, the chat goes on and nothing is permitted by it (P23)."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from chatproxy.clock import Clock, wall_clock
from chatproxy.consent.events import FactKind, Scope
from chatproxy.consent.service import ConsentService
from chatproxy.errors import ConsentSourceError
from chatproxy.policy.instants import parse_instant
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.workflows.transcripts import KeptTurn
from integration.proxy_fixtures import (
    ANA,
    ANA_LINES,
    DAY,
    OPENAI,
    World,
    a_world,
    answer_to,
    chat_bytes,
    chatting,
    post,
    raw_client,
)
from integration.test_two_nodes import held
from simulators.backend import Peer, Script, backend
from simulators.consent_service import FAULTS, SECRET, Desk, Fault, a_choice, hang, redirect, refuse_service
from unit.consent import choice_files

WITHDRAWN = a_choice("c-2", "withdrawn", "2026-02-01T00:00:00Z")


@pytest.fixture
def store(server: EmbeddedServer, connections: Connections) -> str:
    return server.url


@asynccontextmanager
async def a_company(
    directory: Path,
    store: str,
    desk: Desk,
    script: Script | None = None,
    *,
    clock: Clock = wall_clock,
    **overrides: str,
) -> AsyncIterator[World]:
    """A proxy whose people choose at *desk*."""
    async with backend(desk.script) as service:
        values = {
            "consent_source": f"{service.url}/choices",
            "consent_service_secret": SECRET,
            "consent_service_timeout": "1s",
        }
        async with a_world(
            script or chatting(), directory, store, clock=clock, **(values | overrides)
        ) as world:
            yield world


async def ledger(world: World) -> list[str]:
    events = await world.running.vault.ledger.history(world.tag())
    return [str(getattr(event, "choice", None) or getattr(event, "kind", None)) for event in events]


def later(**after: float) -> str:
    return (datetime.now(UTC) + timedelta(**after)).isoformat()


async def test_a_yes_that_was_given_there_counts_and_is_in_the_ledger(tmp_path: Path, store: str) -> None:
    desk = Desk([a_choice(receipt="r-1")])
    async with a_company(tmp_path, store, desk) as world:
        await world.chat("hello")
        [row] = await world.kept()
        assert row["reason"] == "ELIGIBLE_CONSENT"
        [asked] = desk.asked
        assert (asked["tenant"], asked["subject"], len(asked["nonce"])) == ("default", "ana", 32)
        [event] = await world.running.vault.ledger.history(world.tag())
        assert event.by == "consent-service"
        assert event.at == parse_instant("2026-01-02T03:04:05Z")
        assert world.counted("chatproxy_consent_service_answers_total", result="good") == 1


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
async def test_a_service_that_fails_permits_nothing_and_the_chat_goes_on(
    tmp_path: Path, store: str, fault: Fault
) -> None:
    """P23, with what was never read before; and the recovery of R31."""
    desk = Desk([a_choice()], fault)
    async with a_company(tmp_path, store, desk) as world:
        answer = await world.chat("hello")
        assert (answer.status_code, answer.json()["choices"][0]["message"]["content"]) == (200, "reply 0")
        assert answer.headers["x-decision-reason"] in {"PENDING", "CONSENT_LOOKUP_FAILED"}
        [row] = await world.kept()
        assert (row["reason"], row["eligible"]["capability"]) == ("CONSENT_LOOKUP_FAILED", False)
        assert parse_instant(row["expires_at"]) == parse_instant(row["received_at"]) + 30 * DAY
        assert await ledger(world) == ["choices_unread"]

        desk.fault = None
        await world.chat("hello again")
        await world.kept()
        await world.decided_again()
        rows = await world.kept()
        assert [row["reason"] for row in rows] == ["ELIGIBLE_CONSENT", "ELIGIBLE_CONSENT"]
        assert await ledger(world) == ["choices_unread", "given", "choices_read"]
        assert await world.said(rows[0]["conversation"]) == ["user: hello", "assistant: reply 0"]


async def test_a_service_that_is_not_there_permits_nothing(tmp_path: Path, store: str) -> None:
    async with backend(Desk().script) as gone:
        pass
    async with a_company(tmp_path, store, Desk(), consent_source=gone.url + "/") as world:
        assert (await world.chat("hello")).status_code == 200
        [row] = await world.kept()
        assert row["reason"] == "CONSENT_LOOKUP_FAILED"
        assert world.counted("chatproxy_consent_service_answers_total", result="unreachable") >= 1


@pytest.mark.parametrize(
    "choices, while_away, recovered",
    [
        ([a_choice()], "CONSENT_CACHE_STALE", "ELIGIBLE_CONSENT"),
        ([a_choice(state="refused")], "CONSENT_REFUSED", "CONSENT_REFUSED"),
        ([a_choice(), WITHDRAWN], "CONSENT_WITHDRAWN", "CONSENT_WITHDRAWN"),
        ([], "CONSENT_LOOKUP_FAILED", "CONSENT_UNKNOWN"),
    ],
    ids=["a yes", "a no", "a withdrawal", "no choice"],
)
async def test_without_an_answer_a_yes_that_was_read_before_is_stale_and_a_no_is_a_no(
    tmp_path: Path, store: str, choices: list[dict[str, Any]], while_away: str, recovered: str
) -> None:
    """R30, R31: every turn needs an answer of its own here, since none counts for any time."""
    desk = Desk(choices)
    async with a_company(tmp_path, store, desk, consent_max_staleness="0") as world:
        await world.chat("one")
        [first] = await world.kept()
        assert first["reason"] == recovered

        desk.fault = refuse_service
        answer = await world.chat("two")
        assert answer.headers["x-decision-reason"] in {"PENDING", while_away}
        rows = await world.kept()
        assert [row["reason"] for row in rows] == [recovered, while_away]

        # Something else happens to the person: what is kept is decided on again, and nothing is granted by that.
        turn = next(t for t in await world.turns() if isinstance(t, KeptTurn))
        await world.running.vault.ledger.note(
            world.tag(),
            FactKind.FLAG_LIFTED,
            at=wall_clock(),
            by="t",
            method="t",
            scope=Scope(turn=turn.turn),
        )
        await world.decided_again()
        assert [row["reason"] for row in await world.kept()] == [recovered, while_away]

        desk.fault = None
        await world.chat("three")
        await world.kept()
        await world.decided_again()
        assert [row["reason"] for row in await world.kept()] == [recovered] * 3


async def test_a_conversation_that_is_taken_up_during_an_outage_brings_nothing_in_before_it_ends(
    tmp_path: Path, store: str
) -> None:
    """R12 waits for an answer too (R31)."""
    desk = Desk()
    first, other = (ANA | {"x-chat-conversation": name} for name in ("first", "other"))
    async with a_company(tmp_path, store, desk, consent_max_staleness="0") as world:

        async def reasons() -> list[str]:
            await world.kept()
            await world.decided_again()
            return [row["reason"] for row in await world.kept()]

        await world.chat("one", who=first)
        assert await reasons() == ["CONSENT_UNKNOWN"]
        desk.choices = [a_choice(at=later())]
        await world.chat("two", who=other)
        assert await reasons() == ["NOT_RESUMED", "ELIGIBLE_CONSENT"]
        desk.fault = refuse_service
        await world.chat("three", who=first)
        await world.kept()
        await world.running.vault.ledger.note(
            world.tag(), FactKind.HOLD_RELEASED, at=wall_clock(), by="t", method="t", details={"case": "none"}
        )
        assert await reasons() == ["CONSENT_CACHE_STALE", "ELIGIBLE_CONSENT", "CONSENT_CACHE_STALE"]
        assert ["TRAIN" in row["grounds"] for row in await world.kept()] == [False, True, False]
        desk.fault = None
        await world.chat("four", who=other)
        assert await reasons() == ["ELIGIBLE_RESUMED"] + ["ELIGIBLE_CONSENT"] * 3


async def test_an_answer_counts_for_its_time_while_the_service_is_away(tmp_path: Path, store: str) -> None:
    desk = Desk([a_choice()])
    now = wall_clock()
    offset = 0
    async with a_company(
        tmp_path, store, desk, clock=lambda: wall_clock() + offset, consent_max_staleness="30s"
    ) as world:
        await world.chat("one")
        await world.kept()
        desk.fault = refuse_service
        offset = 10_000
        await world.chat("two")
        await world.kept()
        offset = 31_000 + wall_clock() - now
        await world.chat("three")
        rows = await world.kept()
        assert [row["reason"] for row in rows] == ["ELIGIBLE_CONSENT"] * 2 + ["CONSENT_CACHE_STALE"]


async def test_the_head_of_an_answer_says_that_a_yes_is_stale(tmp_path: Path, store: str) -> None:
    desk = Desk([a_choice()])
    offset = 0
    may_answer = asyncio.Event()
    may_answer.set()

    async def patient(peer: Peer) -> None:
        while True:
            request = await peer.read_request()
            await may_answer.wait()
            await peer.send(answer_to(request, "reply"))

    async with a_company(
        tmp_path, store, desk, patient, clock=lambda: wall_clock() + offset, consent_max_staleness="30s"
    ) as world:
        await world.chat("one")
        await world.kept()
        desk.fault = refuse_service
        offset = 31_000
        may_answer.clear()
        reads = world.counted("chatproxy_consent_lookups_total", result="read")
        asking = asyncio.ensure_future(world.chat("two"))
        while (
            not world.counted("chatproxy_consent_service_answers_total", result="status")
            or world.counted("chatproxy_consent_lookups_total", result="read") == reads
        ):
            await asyncio.sleep(0.01)
        may_answer.set()
        answer = await asking
        assert answer.headers["x-decision-reason"] == "CONSENT_CACHE_STALE"
        assert answer.headers["x-training-eligible"] == "?0"


async def test_a_withdrawal_there_during_a_stream_counts_for_it(tmp_path: Path, store: str) -> None:
    desk = Desk([a_choice()])
    may_end = asyncio.Event()
    async with a_company(tmp_path, store, desk, held(may_end), consent_max_staleness="0") as world:
        async with raw_client(world.running.url) as client:
            await client.send(post(OPENAI, chat_bytes(stream=True), *ANA_LINES))
            await client.head()
            await client.chunk()
            while not world.counted("chatproxy_consent_service_answers_total", result="good"):
                await asyncio.sleep(0.01)
            desk.choices.append(WITHDRAWN)
            may_end.set()
            while await client.chunk():
                pass
        [row] = await world.kept()
        assert row["reason"] == "CONSENT_WITHDRAWN"


async def test_a_yes_that_is_given_there_during_a_stream_does_not_cover_it(
    tmp_path: Path, store: str
) -> None:
    desk = Desk()
    may_end = asyncio.Event()
    async with a_company(tmp_path, store, desk, held(may_end), consent_max_staleness="0") as world:
        async with raw_client(world.running.url) as client:
            await client.send(post(OPENAI, chat_bytes(stream=True), *ANA_LINES))
            await client.head()
            await client.chunk()
            while not world.counted("chatproxy_consent_service_answers_total", result="good"):
                await asyncio.sleep(0.01)
            desk.choices.append(a_choice(at=later(milliseconds=1)))
            may_end.set()
            while await client.chunk():
                pass
        [row] = await world.kept()
        assert row["reason"] in {"NOT_RESUMED", "CONSENT_UNKNOWN"}
        assert not row["eligible"]["capability"]


async def test_a_service_that_forgets_a_yes_ends_it_and_what_was_kept_by_it(
    tmp_path: Path, store: str
) -> None:
    desk = Desk([a_choice()])
    async with a_company(tmp_path, store, desk, consent_max_staleness="0") as world:
        await world.chat("one")
        await world.kept()
        desk.choices = []
        await world.chat("two")
        await world.kept()
        await world.decided_again()
        assert {row["reason"] for row in await world.kept()} == {"CONSENT_INVALIDATED"}
        desk.choices = [a_choice()]
        await world.chat("three")
        assert {row["reason"] for row in await world.kept()} == {"CONSENT_INVALIDATED"}
        desk.choices.append(a_choice("c-9", at=later()))
        await world.chat("four")
        await world.kept()
        await world.chat("five")
        rows = await world.kept()
        assert rows[-1]["reason"] == "ELIGIBLE_CONSENT"


async def test_a_yes_that_is_dated_back_does_not_reach_what_was_kept_under_a_good_answer(
    tmp_path: Path, store: str
) -> None:
    desk = Desk()
    async with a_company(tmp_path, store, desk, consent_max_staleness="0") as world:
        await world.chat("one")
        [row] = await world.kept()
        assert row["reason"] == "CONSENT_UNKNOWN"
        desk.choices = [a_choice()]
        await world.chat("two")
        await world.kept()
        await world.decided_again()
        rows = await world.kept()
        assert [row["eligible"]["capability"] for row in rows] == [False, True]


async def test_nobody_in_particular_and_nobody_who_is_exempt_is_asked_about(
    tmp_path: Path, store: str
) -> None:
    desk = Desk([a_choice()])
    async with a_company(tmp_path, store, desk) as world:
        await world.chat("hello", who={})
        await world.chat("hello", who=ANA | {"x-chat-plan": "work"})
        [row] = await world.kept()
        assert row["reason"] == "PLAN_UNKNOWN"
        assert desk.asked == []


async def test_one_person_s_requests_at_once_are_one_question(tmp_path: Path, store: str) -> None:
    desk = Desk([a_choice()])
    async with a_company(tmp_path, store, desk) as world:
        await asyncio.gather(*(world.chat(f"hello {number}") for number in range(30)))
        rows = await world.kept()
        assert {row["reason"] for row in rows} == {"ELIGIBLE_CONSENT"}
        assert len(desk.asked) <= 2
        assert await ledger(world) == ["given"]


async def test_no_id_and_no_secret_is_stored_or_logged(
    tmp_path: Path, store: str, connections: Connections, capfd: pytest.CaptureFixture[str]
) -> None:
    canary = "canary-7f3a"
    desk = Desk([a_choice(f"{canary}/1", receipt=f"r-{canary}")])
    who = {"x-chat-subject": canary, "x-chat-plan": "pro"}
    async with a_company(tmp_path, store, desk, consent_service_token="t0ken-canary") as world:
        await world.chat("hello", who=who)
        [row] = await world.kept()
        assert row["reason"] == "ELIGIBLE_CONSENT"
        desk.fault = refuse_service
        await world.chat("hello", who=who)
        await world.kept()
        assert b"authorization: bearer t0ken-canary" in desk.heads[0].lower()
        metrics = world.running.metrics.render()
        [names, values] = await connections.ask(
            [["KEYS", "*"], ["LRANGE", b"cp:{%s}:c" % world.tag(canary).hex().encode(), 0, -1]]
        )
        dumps = await connections.ask([["DUMP", name] for name in names])
        everything = b"".join(
            [*names, *filter(None, dumps), *values, metrics, *map(str.encode, capfd.readouterr())]
        )
        assert canary.encode() not in everything
        assert SECRET.encode() not in everything


@pytest.mark.parametrize(
    "header",
    [
        {"store": "always"},
        {"X-Training-Eligible": "?1"},
        {"X-Decision-Reason": "ELIGIBLE_CONSENT"},
        {"X-Retention-Expires": "2099-01-01T00:00:00Z"},
        {"X-Chat-Consent": "given"},
        {"X-Consent-Signature": "sha256=" + "0" * 64},
        {"Content-Usage": "train-ai=y"},
    ],
    ids=lambda header: next(iter(header)),
)
async def test_what_a_client_claims_of_itself_loosens_nothing(
    tmp_path: Path, store: str, header: dict[str, str]
) -> None:
    """P38."""
    async with a_company(tmp_path, store, Desk([a_choice(state="refused")])) as world:
        answer = await world.chat("hello", who=ANA | header)
        assert answer.status_code == 200
        assert answer.headers["x-decision-reason"] in {"PENDING", "CONSENT_REFUSED"}
        [row] = await world.kept()
        assert (row["reason"], row["eligible"]["capability"]) == ("CONSENT_REFUSED", False)
        assert set(row["grounds"]) == {"SERVICE"}


@pytest.mark.parametrize(
    "choices, fault, status, reason",
    [
        ([a_choice()], None, 200, "ELIGIBLE_CONSENT"),
        ([a_choice(state="refused")], None, 200, "CONSENT_REFUSED"),
        ([], None, 403, None),
        ([a_choice(state="deferred")], None, 403, None),
        ([], refuse_service, 200, "CONSENT_LOOKUP_FAILED"),
        ([], hang, 200, "CONSENT_LOOKUP_FAILED"),
    ],
    ids=["a yes", "a no", "no choice", "not now", "no good answer", "no answer"],
)
async def test_the_gate_holds_up_only_whom_the_service_knows_not_to_have_chosen(
    tmp_path: Path,
    store: str,
    choices: list[dict[str, Any]],
    fault: Fault | None,
    status: int,
    reason: str | None,
) -> None:
    async with a_company(
        tmp_path,
        store,
        Desk(choices, fault),
        choice_notices=str(choice_files.a_choice(tmp_path / "choice")),
        choice_missing="gate",
        choice_deadline="2025-10-08T00:00:00Z",
    ) as world:
        assert (await world.chat("hello")).status_code == status
        rows = await world.kept()
        assert [row["reason"] for row in rows] == ([reason] if reason else [])


# The client alone.


def a_service(url: str, *, deadline: float = 1.0, trusting: ssl.SSLContext | None = None) -> ConsentService:
    return ConsentService(
        url, shared_secrets=["the-next-secret-of-all", SECRET], token=None, clock=wall_clock, connect_timeout=1.0,
        deadline=deadline, ssl_context=trusting or ssl.create_default_context(),
    )  # fmt: skip


async def reason(service: ConsentService) -> str:
    with pytest.raises(ConsentSourceError) as caught:
        await service.choices(tenant="default", subject="ana")
    return caught.value.reason


async def test_a_service_that_keeps_failing_is_left_alone() -> None:
    desk = Desk(fault=refuse_service)
    async with backend(desk.script) as server:
        service = a_service(server.url)
        assert [await reason(service) for _ in range(8)] == ["status"] * 5 + ["left_alone"] * 3
        assert len(desk.asked) == 5
        await service.aclose()


async def test_a_redirect_is_not_followed() -> None:
    desk = Desk(fault=redirect)
    async with backend(desk.script) as server:
        service = a_service(server.url)
        assert await reason(service) == "status"
        assert len(desk.asked) == 1
        await service.aclose()


async def test_questions_beyond_a_thousand_are_not_asked() -> None:
    desk = Desk(fault=hang)
    async with backend(desk.script) as server:
        service = a_service(server.url, deadline=0.5)
        reasons = await asyncio.gather(*(reason(service) for _ in range(1_030)))
        assert reasons.count("busy") == 6
        assert reasons.count("timeout") == 1_024
        assert len(server.connections) < 100
        await service.aclose()


@pytest.mark.parametrize("drips", [1, 0], ids=["drips", "says nothing"])
async def test_a_question_takes_no_longer_than_its_deadline(drips: int) -> None:
    async def drip(_: Desk, peer: Any, asked: dict[str, Any]) -> None:
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while True:
            await peer.send(b" " * drips)
            await asyncio.sleep(0.05)

    async with backend(Desk(fault=drip).script) as server:
        service = a_service(server.url, deadline=0.3)
        assert await reason(service) == "timeout"
        await service.aclose()


async def test_the_environment_does_not_lead_questions_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    desk = Desk([a_choice()])
    async with backend(desk.script) as server:
        service = a_service(server.url + "/who?v=1")
        [choice] = await service.choices(tenant="default", subject="ana")
        assert choice.state == "given"
        assert desk.heads[0].startswith(b"POST /who?v=1 HTTP/1.1\r\n")
        await service.aclose()


@pytest.mark.parametrize("is_trusted", [True, False], ids=["trusted", "authority not trusted"])
async def test_the_certificate_is_verified(is_trusted: bool) -> None:
    authority = trustme.CA()
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(serving)
    trusting = ssl.create_default_context()
    if is_trusted:
        authority.configure_trust(trusting)
    async with backend(Desk().script, tls=serving) as server:
        service = a_service(server.url, trusting=trusting)
        if is_trusted:
            assert await service.choices(tenant="default", subject="ana") == ()
        else:
            assert await reason(service) == "unreachable"
        await service.aclose()


async def test_what_is_left_on_a_connection_is_nobody_s_answer() -> None:
    """A second answer is sent with the first: it was signed for no question that was asked."""

    async def answer_twice(desk: Desk, peer: Any, asked: dict[str, Any]) -> None:
        await peer.send(desk.answer(asked) + desk.answer(asked, choices=[a_choice("c-9")]))

    desk = Desk(fault=answer_twice)
    async with backend(desk.script) as server:
        service = a_service(server.url)
        for _ in range(4):
            with contextlib.suppress(ConsentSourceError):
                assert await service.choices(tenant="default", subject="ana") == ()
        await service.aclose()
