"""Who speaks is told by trusted sources only, and never told to the upstream; anyone may tighten."""

from pathlib import Path
from typing import Any

import pytest

from chatproxy.consent.events import Choice
from chatproxy.policy.instants import parse_instant
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.workflows.transcripts import KeptTurn
from integration.proxy_fixtures import ANA, ANTHROPIC, OPENAI, a_world, chat_bytes, chatting, exchange, post
from simulators.backend import answering

SECRET, NEXT_SECRET = "s" * 16, "t" * 20


@pytest.fixture
def store(server: EmbeddedServer, connections: Connections) -> str:
    return server.url


async def test_identity_and_secret_never_reach_the_upstream_however_they_are_spelt(
    tmp_path: Path, store: str
) -> None:
    lines = (
        b"X-Chat-Subject: CANARY1", b"X-CHAT-PLAN: CANARY2", b"x-chat-conversation: CANARY3",
        b"X-Chat-Tenant: CANARY4", b"X-Chat-Surface: CANARY5", b"X-Chat-Age: CANARY6", b"X-Chat-ZDR: ?0;CANARY7",
        b"X-Chat-Auth: CANARY8", b"X_Chat_Subject: CANARY9", b"x-chat_auth: CANARY10", b"X-Chat-Incognito: ?1",
        b"X-Chat-Other: kept",
    )  # fmt: skip
    async with a_world(chatting(), tmp_path, store) as world:
        for trusted in ("127.0.0.1", "10.0.0.1"):
            async with a_world(chatting(), tmp_path, store, trusted_proxies=trusted) as other:
                await exchange(other.running.url, post(OPENAI, chat_bytes(), *lines))
                received = bytes(other.backend.connections[0].received).lower()
                assert b"canary" not in received
                assert b"x-chat-incognito" not in received
                assert b"x-chat-other: kept" in received
        assert world.counted("chatproxy_identity_rejected_total") == 0


async def test_an_untrusted_peer_is_nobody_and_is_counted(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store, trusted_proxies="10.0.0.0/8") as world:
        await world.chat("hello")
        [row] = await world.kept()
        assert (row["plan"], row["reason"]) == (None, "PLAN_UNKNOWN")
        assert row["subject"] != world.tag().hex()
        assert world.counted("chatproxy_identity_rejected_total", reason="untrusted_peer") == 1


async def test_an_untrusted_minor_or_exempt_claim_does_not_count_either(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store, trusted_proxies="") as world:
        await world.chat("hello", who={"x-chat-plan": "team"})
        await world.chat("hello", who={"x-chat-zdr": "?1"})
        assert len(await world.kept()) == 2


@pytest.mark.parametrize(
    "secret, is_believed",
    [(SECRET, True), (NEXT_SECRET, True), (SECRET[:-1], False), ("", False), (None, False)],
    ids=["the secret", "the next secret", "a part of it", "an empty one", "none"],
)
async def test_with_a_shared_secret_only_who_has_it_is_believed(
    secret: str | None, is_believed: bool, tmp_path: Path, store: str
) -> None:
    who = ANA if secret is None else ANA | {"x-chat-auth": secret}
    async with a_world(
        chatting(), tmp_path, store, trusted_proxies="", identity_secret=f"{SECRET},{NEXT_SECRET}"
    ) as world:
        await world.chat("hello", who=who)
        [row] = await world.kept()
        assert (row["subject"] == world.tag().hex()) is is_believed
        assert world.counted("chatproxy_identity_rejected_total", reason="bad_secret") == (not is_believed)


async def test_where_both_are_set_both_must_hold(tmp_path: Path, store: str) -> None:
    async with a_world(
        chatting(), tmp_path, store, trusted_proxies="10.0.0.1", identity_secret=SECRET
    ) as world:
        await world.chat("hello", who=ANA | {"x-chat-auth": SECRET})
        [row] = await world.kept()
        assert row["plan"] is None


@pytest.mark.parametrize(
    "path, mark", [(OPENAI, '"param"'), (ANTHROPIC, '"type":"error"')], ids=["openai", "anthropic"]
)
@pytest.mark.parametrize(
    "lines",
    [
        (b"X-Chat-Subject: a", b"X-Chat-Subject: b"),
        (b"X-Chat-Plan: pro", b"x-chat-plan: pro"),
        (b"X-Chat-Subject: " + b"x" * 257,),
        (b"X-Chat-Subject: \xff\xfe",),
        (b"X-Chat-Subject: a\xe2\x80\xaeb",),
    ],
    ids=["twice", "twice the same", "too long", "not UTF-8", "bidirectional"],
)
async def test_ambiguous_identity_of_a_trusted_peer_is_refused_in_the_clients_dialect(
    path: str, mark: str, lines: tuple[bytes, ...], tmp_path: Path, store: str
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        answer = await exchange(world.running.url, post(path, chat_bytes(), *lines, b"X-Request-Id: req-7"))
        assert (answer.status, answer.header(b"x-request-id")) == (400, b"req-7")
        assert mark in answer.body.decode().replace(": ", ":")
        assert b"xxx" not in answer.body
        assert world.backend.connections == []
        assert await world.kept() == []


async def test_ambiguous_identity_of_an_untrusted_peer_is_dropped(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store, trusted_proxies="") as world:
        lines = (b"X-Chat-Subject: a", b"X-Chat-Subject: b")
        answer = await exchange(world.running.url, post(OPENAI, chat_bytes(), *lines))
        assert answer.status == 200


@pytest.mark.parametrize("trusted", ["127.0.0.1", "10.0.0.1"])
@pytest.mark.parametrize("name", [b"x-chat-subject", b"X-Chat-Auth", b"x_chat_subject", b"X-Chat-Incognito"])
async def test_connection_cannot_take_identity_away(
    name: bytes, trusted: str, tmp_path: Path, store: str
) -> None:
    async with a_world(chatting(), tmp_path, store, trusted_proxies=trusted) as world:
        answer = await exchange(
            world.running.url, post(OPENAI, chat_bytes(), b"X-Chat-Subject: a", b"Connection: " + name)
        )
        assert answer.status == 400
        assert world.backend.connections == []


async def test_a_misspelt_header_is_counted_and_means_nothing(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        await world.chat("hello", who={"x-chat-plan": "pro", "x_chat_subject": "ana"})
        [row] = await world.kept()
        assert row["subject"] != world.tag().hex()
        assert world.counted("chatproxy_identity_rejected_total", reason="misspelt") == 1


@pytest.mark.parametrize(
    "headers, field",
    [
        ({"x-chat-incognito": "?1"}, "incognito"),
        ({"x-chat-incognito": "yes"}, "incognito"),
        ({"content-usage": "train-ai=n"}, "train_ai_no"),
        ({"content-usage": "search=y, train-ai = N;x"}, "train_ai_no"),
        ({"sec-gpc": "1"}, "gpc"),
    ],
    ids=["incognito", "incognito in other words", "no training", "no training among others", "gpc"],
)
async def test_anyone_may_tighten(headers: dict[str, str], field: str, tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store, trusted_proxies="") as world:
        await world.chat("hello", who=headers)
        [turn] = await world.turns()
        assert isinstance(turn, KeptTurn)
        assert getattr(turn.note.caller, field) is True
        assert world.counted("chatproxy_identity_rejected_total", reason="untrusted_peer") == 0


LOOSENING_HEADERS = {
    "store": "always",
    "no-redact": "true",
    "x-consent": "given",
    "x-chat-consent": "given",
    "x-chat-retention": "5y",
    "x-training-eligible": "?1",
    "x-retention-expires": "2099-01-01T00:00:00Z",
    "content-usage": "train-ai=y",
    "cookie": "chatproxy_session=given",
}
LOOSENING_MEMBERS: dict[str, Any] = {
    "store": True,
    "metadata": {"consent": "given", "training": True},
    "retention": "5y",
    "incognito": False,
}


@pytest.mark.parametrize("choices", [[Choice.REFUSED], []], ids=["a no", "no choice"])
async def test_no_header_and_no_member_of_a_body_loosens_anything(
    tmp_path: Path, store: str, choices: list[Choice]
) -> None:
    """P38: it is as if it were not there."""
    async with a_world(chatting(), tmp_path, store) as world:
        await world.choose(*choices)
        await world.chat("hello")
        await world.chat("hello", who=ANA | LOOSENING_HEADERS, **LOOSENING_MEMBERS)
        plain, loosening = await world.kept()
        assert loosening["eligible"]["capability"] is False
        assert set(loosening["grounds"]) == {"SERVICE"}
        said = ("reason", "eligible", "plan", "subject")
        assert {name: plain[name] for name in said} == {name: loosening[name] for name in said}
        ends = [
            parse_instant(row["expires_at"]) - parse_instant(row["received_at"]) for row in (plain, loosening)
        ]
        assert ends[0] == ends[1]
        assert len(await world.running.vault.ledger.history(world.tag())) == len(choices)


async def test_what_tightens_is_not_undone_by_what_loosens(tmp_path: Path, store: str) -> None:
    """P38."""
    async with a_world(chatting(), tmp_path, store) as world:
        await world.choose(Choice.GIVEN)
        await world.chat(
            "hello", who=ANA | LOOSENING_HEADERS | {"x-chat-incognito": "?1"}, **LOOSENING_MEMBERS
        )
        [row] = await world.kept()
        assert (row["reason"], row["eligible"]["capability"]) == ("INCOGNITO", False)


async def test_the_upstream_cannot_set_the_headers_of_the_decision(tmp_path: Path, store: str) -> None:
    forged = (
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Training-Eligible: ?1\r\nX-Decision-Reason: FORGED\r\n"
        b"X-Chat-Turn: t_x\r\nX-Retention-Expires: never\r\n\r\n{}"
    )
    async with a_world(answering(forged, forged), tmp_path, store) as world:
        captured = await exchange(world.running.url, post(OPENAI, chat_bytes()))
        passed = await exchange(world.running.url, b"GET /x HTTP/1.1\r\nHost: chat\r\n\r\n")
        assert captured.header(b"x-decision-reason") == b"PLAN_UNKNOWN"
        assert captured.header(b"x-training-eligible") == b"?0"
        assert not [name for name, _ in passed.headers if name.startswith(b"x-")]
