"""The commands that say what happened: to a turn, a conversation, a person. Each acts on what is kept."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from chatproxy.clock import wall_clock
from chatproxy.consent.events import Choice, ConsentEvent, FactKind
from chatproxy.consent.receipts import receipt_of
from chatproxy.policy.instants import format_instant, parse_instant
from chatproxy.store import keys
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from integration.proxy_fixtures import ANA, DAY, World, a_world, all_keys, chatting
from integration.serve_process import Finished, call, environment

MINE = ("mine", "--subject", "ana")


@pytest.fixture
def store(server: EmbeddedServer, connections: Connections) -> str:
    return server.url


@dataclass
class Desk:
    """A proxy with one conversation of Ana's kept, and the commands beside it."""

    world: World
    env: dict[str, str]
    directory: Path

    async def call(self, *words: str, stdin: str = "") -> Finished:
        return await call(self.env, *words, stdin=stdin)

    async def does(self, *words: str, stdin: str = "") -> dict[str, Any]:
        """Run a command that succeeds, wait until what is kept has followed, return its row."""
        done = await self.call(*words, "--json", stdin=stdin)
        assert done.status == 0, done.err
        await self.world.decided_again()
        [row] = done.rows()
        return row

    async def row(self) -> dict[str, Any]:
        [row] = await self.world.kept()
        return row

    def audited(self) -> list[str]:
        log = self.directory / "data" / "audit" / "audit.jsonl"
        actions = (
            [json.loads(line)["action"] for line in log.read_text().splitlines()] if log.exists() else []
        )
        return [action for action in actions if action not in {"ledger.tightened", "annotations.changed"}]


@pytest.fixture
async def desk(tmp_path: Path, store: str) -> AsyncIterator[Desk]:
    async with a_world(chatting(), tmp_path, store) as world:
        await world.chat("hello", who=ANA | {"x-chat-conversation": "mine"})
        await world.kept()
        yield Desk(world, environment(tmp_path, store=store), tmp_path)


async def test_a_flag_keeps_a_turn_for_safety_and_training_waits(desk: Desk) -> None:
    await desk.world.choose(Choice.GIVEN)
    await desk.world.chat("again", who=ANA | {"x-chat-conversation": "mine"})
    turn = (await desk.world.kept())[-1]["turn"]
    done = await desk.does("turn", "flag", turn)
    assert done["recorded"]
    flagged = (await desk.world.kept())[-1]
    assert (flagged["reason"], flagged["eligible"]["safety"]) == ("SAFETY_REVIEW_HOLD", True)
    again = await desk.does("turn", "flag", "-", stdin=f"{turn}\n")
    assert (again["recorded"], again["event"]) == (False, None)
    assert (await desk.does("turn", "unflag", turn))["recorded"]
    assert (await desk.world.kept())[-1]["reason"] == "ELIGIBLE_CONSENT"
    assert not (await desk.does("turn", "unflag", turn))["recorded"]
    assert desk.audited() == ["turn.flagged", "turn.flag_lifted"]


async def test_unknown_and_foreign_and_malformed_turns_look_alike(desk: Desk, tmp_path: Path) -> None:
    handle = (await desk.row())["turn"]
    tampered = handle[:-4] + ("AAAA" if not handle.endswith("AAAA") else "BBBB")
    answers = [await desk.call("turn", "flag", name) for name in (tampered, "t_nothing", handle.upper(), "*")]
    assert {(answer.status, answer.err) for answer in answers} == {
        (1, "chatproxy: nothing is held of a turn of that name\n")
    }
    assert (await desk.call("turn", "flag", "-", stdin="\n")).status == 2
    assert desk.audited() == []


async def test_a_conversation_is_shared_excluded_and_follows_again(desk: Desk) -> None:
    assert (await desk.does("conversation", "share", *MINE))["receipt_id"]
    assert (await desk.row())["reason"] == "ELIGIBLE_CONV_SHARE"
    await desk.does("conversation", "exclude", *MINE)
    assert (await desk.row())["reason"] == "CONV_EXCLUDED"
    await desk.does("conversation", "follow", *MINE)
    assert (await desk.row())["reason"] == "CONSENT_UNKNOWN"
    assert desk.audited() == ["conversation.given", "conversation.refused", "conversation.withdrawn"]


async def test_what_is_chosen_by_command_has_a_whole_receipt(desk: Desk) -> None:
    await desk.does("consent", "give", "ana")
    await desk.does("conversation", "exclude", *MINE)
    await desk.does("subject", "delete-account", "ana", "--yes")
    events = await desk.world.running.vault.ledger.history(desk.world.tag())
    choices = [event for event in events if isinstance(event, ConsentEvent)]
    assert [event.choice for event in choices] == [Choice.GIVEN, Choice.REFUSED, Choice.WITHDRAWN]
    for event in choices:
        receipt = receipt_of(event, conversation=None)
        assert event.policy_version == receipt["pii_processing"]["policy"]["version"] == "2025-08-28"
        assert receipt["party_identification"]["party_name"] == "Example Ltd"
        assert receipt["pii_processing"]["retention_period"] == {"if_yes": "P5Y", "if_no": "P30D"}
        assert receipt["event"]["collection_method"] == "cli"
        assert receipt["pii_processing"]["privacy_notice"] is None


async def test_only_a_person_who_is_named_can_share(desk: Desk) -> None:
    handle = (await desk.row())["conversation"]
    refused = await desk.call("conversation", "share", handle)
    assert (refused.status, "--subject" in refused.err) == (2, True)
    assert (await desk.call("conversation", "share", handle, "--subject", "bea")).status == 1
    assert (await desk.does("conversation", "share", handle, "--subject", "-", stdin="ana\n"))["recorded"]
    assert (await desk.does("conversation", "exclude", handle))["recorded"]


@pytest.mark.parametrize("name", ["yours", "*", "mine*", "mìne", "mine/", "{mine}"])
@pytest.mark.parametrize("verb", ["share", "exclude", "follow", "delete"])
async def test_a_conversation_that_is_not_held_is_not_found(name: str, verb: str, desk: Desk) -> None:
    missing = await desk.call("conversation", verb, name, "--subject", "ana")
    assert (missing.status, missing.err) == (
        1,
        "chatproxy: nothing is held of a conversation of that name\n",
    )
    foreign = await desk.call("conversation", verb, "mine", "--subject", "bea")
    assert (foreign.status, foreign.err) == (1, missing.err)
    assert await desk.world.running.vault.ledger.history(desk.world.tag("ana")) == ()
    assert await desk.world.running.vault.ledger.history(desk.world.tag("bea")) == ()


async def test_a_turn_that_somebody_listed_under_another_conversation_makes_none(
    desk: Desk, connections: Connections
) -> None:
    pseudonyms = desk.world.running.vault.pseudonyms
    invented = pseudonyms.conversation_tag(tenant="default", subject="ana", conversation="invented")
    _, turn = pseudonyms.read_turn_handle((await desk.row())["turn"])
    index = keys.conversation(desk.world.tag(), invented)
    await connections.ask([["ZADD", index, 1, turn], ["EXPIRE", index, 60]])
    assert (await desk.call("conversation", "exclude", "invented", "--subject", "ana")).status == 1
    assert await desk.world.running.vault.ledger.history(desk.world.tag()) == ()


async def test_a_deleted_conversation_is_not_read_and_what_stays_is_named(desk: Desk) -> None:
    row = await desk.row()
    await desk.does("turn", "flag", row["turn"])
    before = wall_clock()
    deleted = await desk.does("conversation", "delete", *MINE)
    assert (deleted["turns"], set(deleted["kept"])) == (1, {"SERVICE", "SAFETY_IO"})
    assert parse_instant(deleted["kept"]["SERVICE"]) <= before + 30 * DAY
    assert (await desk.row())["reason"] == "DELETED"
    assert (await desk.call("transcripts", "show", *MINE, "--purpose", "service")).status == 1
    assert (await desk.call("transcripts", "show", *MINE, "--purpose", "safety")).status == 0
    shown = await desk.call("conversation", "delete", *MINE)
    assert "SAFETY_IO: gone by 20" in shown.out


async def test_the_first_deletion_counts(desk: Desk) -> None:
    await desk.does("conversation", "delete", *MINE)
    first = await desk.row()
    await desk.does("conversation", "delete", *MINE)
    assert await desk.row() == first


@pytest.mark.parametrize(
    "kind, ground, days",
    [("thumbs", "FEEDBACK", 1825), ("share", "FEEDBACK", 1825), ("session_share", "SESSION_SHARE", 180)],
)
async def test_feedback_keeps_and_taken_back_does_not(kind: str, ground: str, days: int, desk: Desk) -> None:
    await desk.does("feedback", "give", *MINE, "--kind", kind)
    kept = await desk.row()
    assert parse_instant(kept["grounds"][ground]) >= wall_clock() + days * DAY - DAY
    assert kept["eligible"]["feedback"] is (ground == "FEEDBACK")
    assert not kept["eligible"]["capability"]
    await desk.does("feedback", "withdraw", *MINE)
    assert set((await desk.row())["grounds"]) == {"SERVICE"}
    assert desk.audited() == ["feedback.given", "feedback.withdrawn"]


async def test_a_rating_alone_keeps_nothing_and_is_no_event(desk: Desk) -> None:
    done = await desk.does("feedback", "give", *MINE, "--kind", "rating_only")
    assert not done["recorded"]
    assert await desk.world.running.vault.ledger.history(desk.world.tag()) == ()
    assert (
        await desk.call("feedback", "give", "yours", "--subject", "ana", "--kind", "rating_only")
    ).status == 1
    assert (await desk.call("feedback", "give", *MINE, "--kind", "stars")).status == 2


async def test_feedback_on_an_incognito_conversation_must_be_confirmed(desk: Desk) -> None:
    who = ANA | {"x-chat-conversation": "secret", "x-chat-incognito": "?1"}
    await desk.world.chat("hush", who=who)
    await desk.world.kept()
    words = ("feedback", "give", "secret", "--subject", "ana", "--kind", "bug")
    refused = await desk.call(*words)
    assert (refused.status, "incognito" in refused.err) == (1, True)
    assert (await desk.does(*words, "--even-incognito"))["recorded"]


async def test_a_hold_is_placed_listed_and_released(desk: Desk) -> None:
    review = format_instant(wall_clock() + 100 * DAY)[:10]
    scope = ("--case", "case-1", "--conversation", "mine", "--subject", "ana")
    placed = await desk.does("hold", "place", *scope, "--authority", "Court", "--review", review)
    assert placed["review_at"] == f"{review}T00:00:00Z"
    held = await desk.row()
    assert "LEGAL_HOLD" in held["also"]
    assert held["expires_at"] == placed["review_at"]
    [listed] = (await desk.call("hold", "list", "--json")).rows()
    assert (listed["case"], listed["authority"], listed["overdue"]) == ("case-1", "Court", False)
    assert listed["conversation"] == held["conversation"]
    assert (await desk.call("hold", "list", "--subject", "ana", "--json")).rows() == [listed]
    assert (await desk.call("hold", "list", "--subject", "bea", "--json")).rows() == []
    assert (await desk.call("hold", "list")).out.startswith("CASE")
    for other in (("--case", "case-2", *scope[2:]), ("--case", "case-1", "--subject", "ana")):
        assert (await desk.call("hold", "release", *other)).status == 1
    await desk.does("hold", "release", *scope)
    assert (await desk.row())["also"] == []
    assert "No legal hold stands" in (await desk.call("hold", "list")).out
    assert desk.audited() == ["hold.placed", "hold.released"]
    assert "case-1" not in (desk.directory / "data" / "audit" / "audit.jsonl").read_text()


FULL = {"--case": "c", "--authority": "a", "--review": "2999-01-01", "--subject": "ana"}


@pytest.mark.parametrize(
    "changed",
    [{name: None} for name in FULL]
    + [
        {"--case": " "},
        {"--authority": ""},
        {"--case": "x" * 201},
        {"--case": "a\x1bb"},
        {"--review": "2020-01-01"},
        {"--review": "soon"},
    ],
    ids=str,
)
async def test_a_hold_needs_case_authority_scope_and_a_review_to_come(
    changed: dict[str, str | None], desk: Desk
) -> None:
    words = [word for name, value in (FULL | changed).items() if value is not None for word in (name, value)]
    refused = await desk.call("hold", "place", *words)
    assert (refused.status, refused.out) == (2, "")
    assert await desk.world.running.vault.ledger.history(desk.world.tag()) == ()


async def test_a_hold_on_nobody_is_not_placed(desk: Desk) -> None:
    words = [word for pair in (FULL | {"--subject": "nobody"}).items() for word in pair]
    assert (await desk.call("hold", "place", *words)).status == 1


async def test_a_ledger_that_is_not_authentic_does_not_hide_the_holds_of_others(
    desk: Desk, connections: Connections
) -> None:
    await desk.world.chat("hi", who={"x-chat-subject": "bea", "x-chat-plan": "free"})
    await desk.world.kept()
    for subject in ("ana", "bea"):
        words = [word for pair in (FULL | {"--subject": subject}).items() for word in pair]
        await desk.does("hold", "place", *words)
    ledger = f"cp:{{{desk.world.tag('bea').hex()}}}:c"
    await connections.ask([["LSET", ledger, 0, b"CE\x01" + bytes(60)]])
    listed = await desk.call("hold", "list", "--json")
    assert (listed.status, len(listed.rows())) == (3, 1)


async def test_a_deleted_account_ends_the_consent_and_every_conversation(desk: Desk) -> None:
    await desk.world.choose(Choice.GIVEN)
    assert (await desk.call("subject", "delete-account", "ana")).status == 2
    assert len(await desk.world.running.vault.ledger.history(desk.world.tag())) == 1
    await desk.does("subject", "delete-account", "-", "--yes", stdin="ana\n")
    assert (await desk.row())["reason"] == "ACCOUNT_DELETED"
    await desk.world.chat("anybody there?", who=ANA | {"x-chat-conversation": "later"})
    later = (await desk.world.kept())[-1]
    assert (later["reason"], later["eligible"]["capability"]) == ("CONSENT_TERMINATED", False)
    await desk.world.choose(Choice.GIVEN)
    await desk.world.chat("back again", who=ANA | {"x-chat-conversation": "new"})
    assert (await desk.world.kept())[-1]["reason"] == "ELIGIBLE_CONSENT"
    assert desk.audited() == ["subject.account_deleted"]


async def test_an_account_that_is_deleted_while_nothing_is_held_is_on_record(desk: Desk) -> None:
    assert (await desk.does("subject", "delete-account", "nobody", "--yes"))["recorded"]


async def test_of_a_minor_nothing_is_left_and_nothing_more_is_kept(
    desk: Desk, connections: Connections
) -> None:
    await desk.does("subject", "minor", "ana", "--yes")
    await desk.world.chat("again")
    assert await desk.world.kept() == []
    assert not [key for key in await all_keys(connections) if b"}:r:" in key or b"}:a:" in key]
    assert not (await desk.does("subject", "minor", "ana", "--yes"))["recorded"]
    assert desk.audited() == ["subject.minor"]


async def test_what_cannot_be_audited_does_not_happen(desk: Desk) -> None:
    audit = desk.directory / "data" / "audit"
    audit.mkdir(parents=True, exist_ok=True)
    (audit / "audit.jsonl").mkdir()
    row = await desk.row()
    for words in (
        ("turn", "flag", row["turn"]),
        ("conversation", "delete", *MINE),
        ("conversation", "exclude", *MINE),
        ("feedback", "give", *MINE, "--kind", "bug"),
        ("subject", "minor", "ana", "--yes"),
    ):
        refused = await desk.call(*words)
        assert (refused.status, "audit log" in refused.err) == (1, True)
    assert await desk.world.running.vault.ledger.history(desk.world.tag()) == ()


async def test_the_ledger_says_who_did_it_and_how(desk: Desk) -> None:
    await desk.does("conversation", "delete", *MINE)
    [event] = await desk.world.running.vault.ledger.history(desk.world.tag())
    assert event.by.startswith("operator:")
    assert event.method == "cli"
    assert getattr(event, "kind", None) is FactKind.CONVERSATION_DELETED
