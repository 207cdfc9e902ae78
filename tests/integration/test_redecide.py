"""Something about a person changes: what is kept of them follows, on every node, and cannot be undone by what is late."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from chatproxy.clock import wall_clock
from chatproxy.consent.events import Choice, FactKind, Scope
from chatproxy.errors import AccessRefusedError
from chatproxy.model import ConversationTag, TurnId
from chatproxy.policy.instants import format_instant
from chatproxy.policy.periods import Period
from chatproxy.store import keys
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.workflows.transcripts import KeptTurn
from chatproxy.workflows.verdict import Kept
from integration.kept_state import sound
from integration.proxy_fixtures import DAY, World, a_world, all_keys, chatting

FIVE_YEARS = Period(years=5)


class Shifted:
    """A clock that goes as the others do, some time apart."""

    machine = staticmethod(wall_clock)

    def __init__(self) -> None:
        self.by = 0

    def __call__(self) -> int:
        return wall_clock() + self.by


@dataclass
class Scene:
    """A person's conversations over some weeks."""

    world: World
    clock: Shifted
    connections: Connections

    async def chat(self, said: str = "hello", *, conversation: str = "one", days_ago: float = 0) -> None:
        self.clock.by = -int(days_ago * DAY)
        await self.world.chat(
            said, who={"x-chat-subject": "ana", "x-chat-plan": "pro", "x-chat-conversation": conversation}
        )
        assert await self.world.running.all_kept(within=20)

    async def choose(
        self, choice: Choice, *, about: ConversationTag | None = None, days_ago: float = 0
    ) -> int:
        self.clock.by = -int(days_ago * DAY)
        event = await self.world.running.vault.ledger.record(
            self.world.tag(), choice, at=self.clock(), by="test", method="test", conversation=about
        )
        await self.world.decided_again()
        return event.at

    async def note(
        self,
        happened: FactKind,
        /,
        *,
        conversation: ConversationTag | None = None,
        turn: TurnId | None = None,
        days_ago: float = 0,
        **details: Any,
    ) -> int:
        self.clock.by = -int(days_ago * DAY)
        event = await self.world.running.vault.ledger.note(
            self.world.tag(), happened, at=self.clock(), by="test", method="test",
            scope=Scope(conversation, turn), details=details,
        )  # fmt: skip
        await self.world.decided_again()
        return event.at

    async def turns(self) -> list[Kept]:
        """What is kept, by time received; all of it is whole."""
        self.clock.by = 0
        await self.world.decided_again()
        return await sound(self.world.running.vault, self.connections, self.world.tag())

    async def only(self) -> Kept:
        [turn] = await self.turns()
        return turn

    async def again(self, **options: Any) -> None:
        """Decide on the person now, as when they come up without anything having happened."""
        tally = await self.world.running.vault.redecider(self.world.running.metrics).person(
            self.world.tag(), **options
        )
        assert tally.is_settled


def said_of(kept: Kept) -> tuple[str, bool, set[str]]:
    [group] = kept.note.groups
    return group.reason, group.eligible.capability, set(group.grounds)


def days_left(kept: Kept) -> float:
    return round((kept.note.expires_at - wall_clock()) / DAY, 1)


Play = Callable[[Path], Any]


@pytest.fixture
def store(server: EmbeddedServer, connections: Connections) -> str:
    return server.url


@pytest.fixture
async def scene(tmp_path: Path, store: str, connections: Connections) -> AsyncIterator[Scene]:
    async with a_scene(tmp_path, store, connections) as scene:
        yield scene


@asynccontextmanager
async def a_scene(
    directory: Path, store: str, connections: Connections, **settings: str
) -> AsyncIterator[Scene]:
    clock = Shifted()
    async with a_world(chatting(), directory, store, clock=clock, **settings) as world:
        yield Scene(world, clock, connections)


async def rows(connections: Connections) -> list[bytes]:
    return [key for key in await all_keys(connections) if b"}:r:" in key or b"}:a:" in key or b"}:h:" in key]


async def test_a_withdrawal_shortens_what_is_kept(scene: Scene) -> None:
    await scene.choose(Choice.GIVEN, days_ago=20)
    await scene.chat(days_ago=10)
    assert said_of(await scene.only()) == ("ELIGIBLE_CONSENT", True, {"SERVICE", "TRAIN"})
    await scene.choose(Choice.WITHDRAWN)
    turn = await scene.only()
    assert said_of(turn) == ("CONSENT_WITHDRAWN", False, {"SERVICE", "TRAIN_RESIDUE"})
    assert days_left(turn) == 30
    assert turn.annotation.seq == 2
    [row] = await scene.world.kept()
    assert await scene.world.said(row["conversation"]) == ["user: hello", "assistant: reply 0"]


async def test_a_second_yes_does_not_revive_what_the_first_covered(scene: Scene) -> None:
    await scene.choose(Choice.GIVEN, days_ago=20)
    await scene.chat(days_ago=10)
    await scene.choose(Choice.WITHDRAWN, days_ago=5)
    await scene.choose(Choice.GIVEN)
    turn = await scene.only()
    assert said_of(turn) == ("NOT_RESUMED", False, {"SERVICE", "TRAIN_RESIDUE"})
    assert days_left(turn) == 25


async def test_a_renewed_yes_changes_nothing_about_what_is_covered(scene: Scene) -> None:
    await scene.choose(Choice.GIVEN, days_ago=20)
    await scene.chat(days_ago=10)
    before = await scene.only()
    await scene.choose(Choice.RENEWED)
    assert (await scene.only()).stored == before.stored


async def test_a_conversation_that_is_taken_up_under_a_yes_comes_under_it(scene: Scene) -> None:
    await scene.chat("old", days_ago=20)
    await scene.chat("elsewhere", conversation="two", days_ago=19)
    await scene.choose(Choice.GIVEN, days_ago=10)
    assert [said_of(turn)[0] for turn in await scene.turns()] == ["NOT_RESUMED", "NOT_RESUMED"]
    await scene.chat("new", days_ago=5)
    old, elsewhere, new = await scene.turns()
    assert said_of(old) == ("ELIGIBLE_RESUMED", True, {"SERVICE", "TRAIN"})
    assert old.note.expires_at == FIVE_YEARS.after(old.facts.received_at)
    assert old.note.activity == (new.facts.received_at,)
    assert said_of(elsewhere)[0] == "NOT_RESUMED"
    assert said_of(new)[0] == "ELIGIBLE_CONSENT"


async def test_what_took_a_conversation_up_may_go_before_what_it_took_up(
    scene: Scene, connections: Connections
) -> None:
    await scene.chat("old", days_ago=20)
    await scene.choose(Choice.GIVEN, days_ago=10)
    await scene.chat("new", days_ago=5)
    _, new = await scene.turns()
    tag = scene.world.tag()
    await connections.ask(
        [
            ["DEL", keys.annotation(tag, new.stored.turn), keys.record(tag, new.stored.turn, 0),
             *(keys.head(tag, bytes.fromhex(head)) for head in new.note.heads)],
            ["ZREM", keys.index(tag), new.stored.turn],
        ]
    )  # fmt: skip
    await scene.again()
    [old] = [Kept.of(turn, scene.world.running.vault.annotation_keys)
             async for turn in scene.world.running.vault.store.annotations(tag)]  # fmt: skip
    assert said_of(old)[0] == "ELIGIBLE_RESUMED"


async def test_a_turn_from_before_the_yes_that_is_kept_late_comes_under_it_too(scene: Scene) -> None:
    await scene.choose(Choice.GIVEN, days_ago=10)
    await scene.chat("new", days_ago=5)
    # As from a node that was cut off from the store.
    await scene.chat("old", days_ago=20)
    old, _ = await scene.turns()
    assert said_of(old) == ("ELIGIBLE_RESUMED", True, {"SERVICE", "TRAIN"})


async def test_a_share_reaches_the_whole_conversation_and_ends_with_a_later_withdrawal(scene: Scene) -> None:
    await scene.choose(Choice.REFUSED, days_ago=25)
    await scene.chat(days_ago=20)
    await scene.chat("elsewhere", conversation="two", days_ago=20)
    about = (await scene.turns())[0].facts.conversation_tag
    await scene.choose(Choice.GIVEN, about=about, days_ago=10)
    shared, other = await scene.turns()
    assert said_of(shared) == ("ELIGIBLE_CONV_SHARE", True, {"SERVICE", "TRAIN"})
    assert said_of(other) == ("CONSENT_REFUSED", False, {"SERVICE"})
    await scene.chat("and on", days_ago=5)
    assert said_of((await scene.turns())[2])[0] == "ELIGIBLE_CONV_SHARE"
    await scene.choose(Choice.WITHDRAWN)
    shared, other, later = await scene.turns()
    for turn in (shared, later):
        assert said_of(turn) == ("CONSENT_WITHDRAWN", False, {"SERVICE", "TRAIN_RESIDUE"})
        assert days_left(turn) == 30
    assert days_left(other) == 10


async def test_an_excluded_conversation_is_kept_for_service_and_may_be_included_again(scene: Scene) -> None:
    await scene.choose(Choice.GIVEN, days_ago=20)
    await scene.chat(days_ago=10)
    about = (await scene.only()).facts.conversation_tag
    await scene.choose(Choice.REFUSED, about=about, days_ago=5)
    assert said_of(await scene.only()) == ("CONV_EXCLUDED", False, {"SERVICE"})
    await scene.chat("still excluded", days_ago=4)
    excluded = (await scene.turns())[1]
    assert said_of(excluded) == ("CONV_EXCLUDED", False, {"SERVICE"})
    assert excluded.annotation.seq == 1
    await scene.choose(Choice.WITHDRAWN, about=about)
    assert {said_of(turn)[0] for turn in await scene.turns()} == {"ELIGIBLE_CONSENT"}


async def test_a_deletion_counts_from_its_first_time_and_is_not_read_for_service(scene: Scene) -> None:
    await scene.choose(Choice.GIVEN, days_ago=20)
    await scene.chat(days_ago=15)
    about = (await scene.only()).facts.conversation_tag
    first = await scene.note(FactKind.CONVERSATION_DELETED, conversation=about, days_ago=10)
    deleted = await scene.only()
    assert said_of(deleted) == ("DELETED", False, {"SERVICE", "TRAIN"})
    assert deleted.note.expires_at == first + 30 * DAY
    [row] = await scene.world.kept()
    with pytest.raises(AccessRefusedError):
        await scene.world.said(row["conversation"])
    await scene.note(FactKind.CONVERSATION_DELETED, conversation=about)
    assert (await scene.only()).stored.annotation[b"exp"] == deleted.stored.annotation[b"exp"]
    await scene.chat("a new beginning under the old name")
    assert [said_of(turn)[0] for turn in await scene.turns()] == ["DELETED", "ELIGIBLE_CONSENT"]


async def test_safety_and_feedback_survive_a_deletion(scene: Scene) -> None:
    await scene.chat(days_ago=15)
    turn = await scene.only()
    about = turn.facts.conversation_tag
    await scene.note(FactKind.FLAGGED, turn=turn.stored.turn, days_ago=12)
    given = await scene.note(FactKind.FEEDBACK_GIVEN, conversation=about, kind="thumbs", days_ago=11)
    await scene.note(FactKind.CONVERSATION_DELETED, conversation=about)
    deleted = await scene.only()
    assert said_of(deleted) == ("DELETED", False, {"SERVICE", "SAFETY_IO", "FEEDBACK"})
    assert deleted.note.expires_at == FIVE_YEARS.after(given)
    [row] = await scene.world.kept()
    assert await scene.world.said(row["conversation"], purpose="feedback")


async def test_a_turn_that_streams_while_its_conversation_is_deleted_is_deleted_too(scene: Scene) -> None:
    await scene.choose(Choice.GIVEN, days_ago=20)
    await scene.chat(days_ago=15)
    about = (await scene.only()).facts.conversation_tag
    first = await scene.note(FactKind.CONVERSATION_DELETED, conversation=about, days_ago=5)
    # Received before the deletion and kept after it.
    await scene.chat("late", days_ago=6)
    assert [said_of(turn)[0] for turn in await scene.turns()] == ["DELETED", "DELETED"]
    assert {turn.note.expires_at for turn in await scene.turns()} == {first + 30 * DAY}


async def test_a_deleted_account_is_a_withdrawal_for_what_comes_after_it_too(scene: Scene) -> None:
    await scene.choose(Choice.GIVEN, days_ago=20)
    await scene.chat(days_ago=15)
    deleted_at = await scene.note(FactKind.ACCOUNT_DELETED, days_ago=5)
    assert (await scene.only()).note.expires_at == deleted_at + 30 * DAY
    await scene.chat("from a session that is still open", days_ago=1)
    deleted, later = await scene.turns()
    assert said_of(deleted)[:2] == ("ACCOUNT_DELETED", False)
    assert said_of(later) == ("CONSENT_TERMINATED", False, {"SERVICE"})


async def test_a_flag_adds_a_ground_and_holds_training_until_it_is_lifted(scene: Scene) -> None:
    await scene.choose(Choice.GIVEN, days_ago=20)
    await scene.chat(days_ago=15)
    turn = (await scene.only()).stored.turn
    await scene.note(FactKind.FLAGGED, turn=turn, days_ago=10)
    assert said_of(await scene.only()) == ("SAFETY_REVIEW_HOLD", False, {"SERVICE", "TRAIN", "SAFETY_IO"})
    await scene.note(FactKind.FLAG_LIFTED, turn=turn)
    assert said_of(await scene.only()) == ("ELIGIBLE_CONSENT", True, {"SERVICE", "TRAIN"})


async def test_a_flag_keeps_a_refused_turn_for_two_years_and_lifting_it_shortens_it(scene: Scene) -> None:
    await scene.chat(days_ago=15)
    turn = await scene.only()
    await scene.note(FactKind.FLAGGED, turn=turn.stored.turn, days_ago=10)
    flagged = await scene.only()
    assert flagged.note.expires_at == Period(years=2).after(turn.facts.received_at)
    assert flagged.note.groups[0].eligible.safety
    await scene.note(FactKind.FLAG_LIFTED, turn=turn.stored.turn)
    assert days_left(await scene.only()) == 15


async def test_feedback_keeps_a_conversation_until_it_is_taken_back(scene: Scene) -> None:
    await scene.chat(days_ago=15)
    about = (await scene.only()).facts.conversation_tag
    given = await scene.note(FactKind.FEEDBACK_GIVEN, conversation=about, kind="bug", days_ago=10)
    kept = await scene.only()
    assert kept.note.expires_at == FIVE_YEARS.after(given)
    assert (kept.note.groups[0].eligible.feedback, kept.note.groups[0].eligible.capability) == (True, False)
    await scene.note(FactKind.FEEDBACK_WITHDRAWN, conversation=about)
    assert days_left(await scene.only()) == 15


async def test_a_hold_seals_to_its_review_rolls_forward_and_erases_when_it_is_released(
    scene: Scene, connections: Connections
) -> None:
    await scene.chat(days_ago=29)
    about = (await scene.only()).facts.conversation_tag
    review = format_instant(wall_clock() + 90 * DAY)
    await scene.note(FactKind.HOLD_PLACED, conversation=about, case="c-1", authority="a", review_at=review)
    held = await scene.only()
    assert "LEGAL_HOLD" in held.note.groups[0].also
    assert days_left(held) == 90
    # After its own period, shortly before the review, it is sealed for another while.
    scene.clock.by = 85 * DAY
    await scene.again()
    vault = scene.world.running.vault
    [rolled] = await sound(vault, connections, scene.world.tag())
    assert said_of(rolled) == ("LEGAL_HOLD_ONLY", False, {"SERVICE"})
    assert days_left(rolled) == 115
    await vault.ledger.note(
        scene.world.tag(), FactKind.HOLD_RELEASED, at=scene.clock(), by="test", method="test",
        scope=Scope(about), details={"case": "c-1"},
    )  # fmt: skip
    await scene.again()
    assert await rows(connections) == []


async def test_who_is_held_is_due_again_before_the_seal_runs_out(scene: Scene) -> None:
    await scene.chat()
    review = format_instant(wall_clock() + 90 * DAY)
    await scene.note(FactKind.HOLD_PLACED, case="c-1", authority="a", review_at=review)
    store = scene.world.running.vault.store
    assert await store.people_due(wall_clock() + 82 * DAY) == 0
    assert await store.people_due(wall_clock() + 84 * DAY) == 1


async def test_a_turn_that_is_kept_late_is_held_and_due_again_too(scene: Scene) -> None:
    review = format_instant(wall_clock() + 90 * DAY)
    await scene.note(FactKind.HOLD_PLACED, case="c-1", authority="a", review_at=review)
    # Received before the hold was placed, and kept after it.
    await scene.chat(days_ago=3)
    assert days_left(await scene.only()) == 90
    assert await scene.world.running.vault.store.people_due(wall_clock() + 84 * DAY) == 1


async def test_two_holds_are_two(scene: Scene) -> None:
    await scene.chat(days_ago=20)
    for case, days in (("c-1", 60), ("c-2", 90)):
        review = format_instant(wall_clock() + days * DAY)
        await scene.note(FactKind.HOLD_PLACED, case=case, authority="a", review_at=review)
    assert days_left(await scene.only()) == 90
    await scene.note(FactKind.HOLD_RELEASED, case="c-2")
    still = await scene.only()
    assert "LEGAL_HOLD" in still.note.groups[0].also
    await scene.note(FactKind.HOLD_RELEASED, case="c-1")
    assert days_left(await scene.only()) == 10


async def test_a_minor_who_is_found_leaves_nothing(scene: Scene, connections: Connections) -> None:
    await scene.choose(Choice.GIVEN, days_ago=20)
    await scene.chat(days_ago=10)
    scene.clock.by = 0
    await scene.world.running.vault.ledger.note(
        scene.world.tag(), FactKind.MINOR_FOUND, at=wall_clock(), by="test", method="test"
    )
    assert await scene.world.turns() == []
    await scene.world.decided_again()
    assert await rows(connections) == []
    await scene.chat("and on")
    assert await rows(connections) == []


async def test_a_yes_that_is_recorded_with_an_earlier_time_covers_nothing_that_is_kept(scene: Scene) -> None:
    await scene.chat(days_ago=10)
    await scene.choose(Choice.GIVEN, days_ago=20)
    turn = await scene.only()
    assert said_of(turn) == ("CONSENT_UNKNOWN", False, {"SERVICE"})
    await scene.choose(Choice.WITHDRAWN)
    turn = await scene.only()
    assert said_of(turn) == ("CONSENT_WITHDRAWN", False, {"SERVICE"})
    assert days_left(turn) == 20


async def test_a_flag_brings_no_turn_under_a_yes_that_does_not_cover_it(scene: Scene) -> None:
    await scene.chat(days_ago=10)
    await scene.choose(Choice.GIVEN, days_ago=20)
    turn = await scene.only()
    await scene.note(FactKind.FLAGGED, turn=turn.stored.turn, days_ago=5)
    assert said_of(await scene.only()) == ("CONSENT_UNKNOWN", False, {"SERVICE", "SAFETY_IO"})
    await scene.note(FactKind.FLAG_LIFTED, turn=turn.stored.turn)
    assert said_of(await scene.only()) == ("CONSENT_UNKNOWN", False, {"SERVICE"})


async def test_what_only_a_flag_keeps_does_not_come_back_with_its_conversation(scene: Scene) -> None:
    await scene.choose(Choice.GIVEN, days_ago=29)
    await scene.chat(days_ago=28)
    turn = await scene.only()
    about = turn.facts.conversation_tag
    await scene.choose(Choice.REFUSED, about=about, days_ago=20)
    await scene.note(FactKind.FLAGGED, turn=turn.stored.turn)
    assert said_of(await scene.only()) == ("CONV_EXCLUDED", False, {"SERVICE", "SAFETY_IO"})
    # Its service period is over when the conversation is included again.
    scene.clock.by = 10 * DAY
    vault = scene.world.running.vault
    await vault.ledger.record(
        scene.world.tag(), Choice.WITHDRAWN, at=scene.clock(), by="test", method="test", conversation=about
    )
    await scene.again()
    [kept] = await sound(vault, scene.connections, scene.world.tag())
    assert said_of(kept)[1:] == (False, {"SAFETY_IO"})


async def test_a_shorter_policy_is_applied_on_demand_and_a_longer_one_is_not(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_scene(tmp_path, store, connections) as scene:
        await scene.chat(days_ago=5)
        before = await scene.only()
    async with a_scene(tmp_path, store, connections, retention_service="60d") as scene:
        await scene.again(apply=True)
        assert days_left(await scene.only()) == 25
    async with a_scene(tmp_path, store, connections, retention_service="10d") as scene:
        await scene.choose(Choice.REFUSED)
        untouched = await scene.only()
        assert (days_left(untouched), untouched.note.policy) == (25, before.note.policy)
        await scene.again(apply=True)
        assert days_left(await scene.only()) == 5
        await scene.again(apply=True)
        assert (await scene.only()).annotation.seq == untouched.annotation.seq + 1


async def test_listings_say_what_was_decided(scene: Scene) -> None:
    await scene.choose(Choice.GIVEN, days_ago=20)
    await scene.chat(days_ago=10)
    await scene.choose(Choice.WITHDRAWN)
    [listed] = await scene.world.turns()
    assert isinstance(listed, KeptTurn)
    assert listed.note == (await scene.only()).note
