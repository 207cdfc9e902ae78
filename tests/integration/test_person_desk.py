"""A person sees what is kept of them and acts on it: all of it about themselves alone (R8 to R24, P31, P39)."""

import json
from pathlib import Path
from typing import Any

import pytest

from chatproxy.clock import wall_clock
from chatproxy.consent.events import DATA_SUBJECT, Choice, FactKind, Scope
from chatproxy.errors import AuditUnavailableError, ConfirmationNeededError, ConflictError, NotFoundError
from chatproxy.model import Age, ConversationTag, Surface
from chatproxy.policy.facts import Override
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.workflows.happenings import Actor, FeedbackKind
from chatproxy.workflows.person import PersonDesk
from chatproxy.workflows.transcripts import KeptTurn
from integration.proxy_fixtures import ANA, DAY, AheadClock, World, a_world, all_keys, chatting

BEN = {"x-chat-subject": "ben", "x-chat-plan": "pro"}
YEAR = 365 * DAY


@pytest.fixture
def store(server: EmbeddedServer, connections: Connections) -> str:
    return server.url


def desk_of(world: World) -> PersonDesk:
    return world.running.vault.person_desk


async def say_yes(world: World, **details: object) -> None:
    await desk_of(world).choose(world.tag(), Choice.GIVEN, by=DATA_SUBJECT, method="test", **details)  # type: ignore[arg-type]


async def say_no(world: World) -> None:
    await desk_of(world).choose(world.tag(), Choice.REFUSED, by=DATA_SUBJECT, method="test")


async def one_handle(world: World, subject: str = "ana") -> str:
    await world.kept()
    [view] = await desk_of(world).conversations(world.tag(subject))
    return view.handle


# --- what stands ---


async def test_without_a_choice_nothing_stands(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        standing = await desk_of(world).standing(world.tag())
        assert (standing.choice, standing.since, standing.receipt_id) == (None, None, None)


async def test_a_yes_a_no_and_a_yes_again_are_recorded_as_what_they_are(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        for say in (say_no, say_yes, say_yes, say_no, say_no):
            await say(world)
        history = await desk_of(world).history(world.tag())
        assert [entry.choice for entry in history] == [
            Choice.REFUSED,
            Choice.WITHDRAWN,
            Choice.RENEWED,
            Choice.GIVEN,
            Choice.REFUSED,
        ]
        standing = await desk_of(world).standing(world.tag())
        assert (standing.choice, standing.receipt_id) == (Choice.REFUSED, history[0].receipt_id)


async def test_a_choice_that_was_made_cannot_be_put_off(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        desk = desk_of(world)
        await desk.choose(world.tag(), Choice.DEFERRED, by=DATA_SUBJECT, method="test")
        assert (await desk.standing(world.tag())).choice is Choice.DEFERRED
        await say_no(world)
        with pytest.raises(ConflictError, match="cannot be put off"):
            await desk.choose(world.tag(), Choice.DEFERRED, by=DATA_SUBJECT, method="test")


async def test_a_narrower_yes_leaves_no_wider_one_in_force(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        coding = ANA | {"x-chat-surface": "code"}
        await say_yes(world)
        await world.chat("code", who=coding)
        await world.kept()
        await say_yes(world, surfaces=(Surface.CHAT,))
        await world.chat("chat")
        await world.chat("more code", who=coding)
        rows = {row["reason"] for row in await world.kept()}
        assert rows == {"CONSENT_WITHDRAWN", "ELIGIBLE_CONSENT"}
        views = await desk_of(world).conversations(world.tag())
        assert [view.eligible for view in views] == [False, True, False]


# --- conversations ---


async def test_a_conversation_is_shown_with_its_expiry_and_its_reason(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        await say_yes(world)
        asked_at = wall_clock()
        await world.chat("hello")
        await world.kept()
        [view] = await desk_of(world).conversations(world.tag())
        assert (view.turns, view.eligible, view.reason) == (1, True, "ELIGIBLE_CONSENT")
        assert (view.override, view.is_deleted, view.model) == (Override.INHERIT, False, "m-1")
        assert asked_at <= view.started_at == view.last_at <= wall_clock()
        assert 5 * YEAR <= view.expires_at - view.started_at <= 5 * YEAR + 2 * DAY


async def test_the_newest_conversation_comes_first(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        for name in ("one", "two", "three"):
            await world.chat(name, who=ANA | {"x-chat-conversation": name})
            await world.kept()
        views = await desk_of(world).conversations(world.tag())
        assert [view.started_at for view in views] == sorted(
            (view.started_at for view in views), reverse=True
        )
        assert len(views) == 3


async def test_what_tells_about_the_age_is_not_shown(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store, policy_unknown_age="ineligible") as world:
        await world.chat("hello", who=ANA | {"x-chat-age": "unknown"})
        await world.kept()
        [view] = await desk_of(world).conversations(world.tag())
        assert view.reason == "NOT_ELIGIBLE"


async def test_one_conversation_is_shared_excluded_and_left_to_the_account_again(
    tmp_path: Path, store: str
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        desk = desk_of(world)
        await world.chat("hello")
        handle = await one_handle(world)
        await desk.set_override(world.tag(), handle, Override.SHARE, method="test")
        await world.decided_again()
        shared = await desk.conversation(world.tag(), handle)
        assert (shared.override, shared.eligible, shared.reason) == (
            Override.SHARE,
            True,
            "ELIGIBLE_CONV_SHARE",
        )
        await desk.set_override(world.tag(), handle, Override.SHARE, method="test")
        excluded = await desk.set_override(world.tag(), handle, Override.EXCLUDE, method="test")
        assert (excluded.override, excluded.eligible, excluded.reason) == (
            Override.EXCLUDE,
            False,
            "CONV_EXCLUDED",
        )
        followed = await desk.set_override(world.tag(), handle, Override.INHERIT, method="test")
        assert (followed.override, followed.eligible) == (Override.INHERIT, False)
        await desk.set_override(world.tag(), handle, Override.INHERIT, method="test")
        history = await desk.history(world.tag())
        assert [(entry.choice, entry.conversation) for entry in history] == [
            (Choice.WITHDRAWN, handle),
            (Choice.REFUSED, handle),
            (Choice.GIVEN, handle),
        ]


async def test_what_was_said_is_read_by_its_person_and_audited(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        await world.chat("hello")
        handle = await one_handle(world)
        [turn] = await desk_of(world).read_conversation(world.tag(), handle)
        assert turn.transcript.input[0].parts[0].body["text"] == "hello"
        [line] = (tmp_path / "data" / "audit" / "audit.jsonl").read_text().splitlines()
        entry = json.loads(line)
        assert (entry["action"], entry["by"], entry["purpose"]) == (
            "transcripts.read",
            "data_subject",
            "service",
        )
        assert "ana" not in line


@pytest.mark.parametrize(
    "act, details",
    [
        pytest.param("read_conversation", {}, id="read"),
        *(
            pytest.param("set_override", {"override": override, "method": "test"}, id=override)
            for override in Override
        ),
        pytest.param("delete_conversation", {"method": "test"}, id="delete"),
        pytest.param("withdraw_feedback", {"method": "test"}, id="withdraw_feedback"),
    ],
)
async def test_a_handle_of_somebody_elses_finds_nothing(
    tmp_path: Path, store: str, connections: Connections, act: str, details: dict[str, Any]
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        await world.chat("hello")
        await world.chat("mine too", who=BEN)
        handle = await one_handle(world)
        unknown = world.running.vault.pseudonyms.conversation_handle(world.tag("ben"), b"?" * 16)  # type: ignore[arg-type]
        before = await all_keys(connections)
        said = set()
        for name in (handle, unknown):
            with pytest.raises(NotFoundError) as failure:
                await getattr(desk_of(world), act)(world.tag("ben"), name, **details)
            said.add(str(failure.value))
        assert len(said) == 1
        assert await all_keys(connections) == before


async def test_a_handle_whose_owner_was_exchanged_finds_nothing(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        await world.chat("hello")
        handle = await one_handle(world)
        _, tag = world.running.vault.pseudonyms.read_conversation_handle(handle)
        mixed = world.running.vault.pseudonyms.conversation_handle(world.tag("ben"), tag)
        for subject in ("ana", "ben"):
            with pytest.raises(NotFoundError):
                await desk_of(world).conversation(world.tag(subject), mixed)


@pytest.mark.parametrize(
    "subject", ["*", "an*", "ana/../ben", "ana:ben", "ana}", "{ana", "\u0430na", "\uff21\uff2e\uff21", "ana "]
)
async def test_no_spelling_of_a_person_reaches_another(tmp_path: Path, store: str, subject: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        await world.chat("hello")
        await world.kept()
        desk, tag = desk_of(world), world.tag(subject)
        assert await desk.conversations(tag) == []
        assert await desk.history(tag) == []
        deleted = await desk.delete_account(tag, method="test")
        assert deleted.stays == ()
        [view] = await desk.conversations(world.tag())
        assert not view.is_deleted


# --- deletion ---


async def test_a_deleted_conversation_is_out_of_use_at_once_and_soon_gone(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        desk = desk_of(world)
        await say_yes(world)
        await world.chat("hello")
        handle = await one_handle(world)
        deletion = await desk.delete_conversation(world.tag(), handle, method="test")
        assert deletion.stays == ()
        assert deletion.deleted_at < deletion.erased_by <= deletion.deleted_at + 30 * DAY
        [view] = await desk.conversations(world.tag())
        assert (view.is_deleted, view.eligible, view.reason) == (True, False, "DELETED")
        assert view.expires_at == deletion.erased_by
        for act in (desk.read_conversation, desk.conversation):
            with pytest.raises(NotFoundError):
                await act(world.tag(), handle)
        with pytest.raises(NotFoundError):
            await desk.set_override(world.tag(), handle, Override.SHARE, method="test")


async def test_the_first_deletion_counts(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        desk = desk_of(world)
        await world.chat("hello")
        handle = await one_handle(world)
        first = await desk.delete_conversation(world.tag(), handle, method="test")
        assert await desk.delete_conversation(world.tag(), handle, method="test") == first
        assert [entry.kind for entry in await desk.history(world.tag())] == ["conversation_deleted"]


async def test_a_deletion_of_what_is_gone_still_is_one(tmp_path: Path, store: str) -> None:
    ahead = 0

    def clock() -> int:
        return wall_clock() + ahead

    async with a_world(chatting(), tmp_path, store, clock=clock) as world:
        desk = desk_of(world)
        await world.chat("hello")
        handle = await one_handle(world)
        first = await desk.delete_conversation(world.tag(), handle, method="test")
        ahead = 31 * DAY
        assert await desk.conversations(world.tag()) == []
        again = await desk.delete_conversation(world.tag(), handle, method="test")
        assert (again.deleted_at, again.stays) == (first.deleted_at, ())


async def test_the_deletion_of_one_conversation_is_none_of_another(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        desk = desk_of(world)
        await world.chat("hello")
        handle = await one_handle(world)
        await desk.delete_conversation(world.tag(), handle, method="test")
        unknown = world.running.vault.pseudonyms.conversation_handle(world.tag(), ConversationTag(b"?" * 16))
        with pytest.raises(NotFoundError):
            await desk.delete_conversation(world.tag(), unknown, method="test")


async def test_of_what_is_over_nothing_can_be_said_to_have_happened(tmp_path: Path, store: str) -> None:
    clock = AheadClock()
    async with a_world(chatting(), tmp_path, store, clock=clock) as world:
        await world.chat("hello")
        [turn] = await world.turns()
        clock.ahead = 31 * DAY
        with pytest.raises(NotFoundError):
            await world.running.vault.happenings.flag(
                world.tag(), turn.turn, actor=Actor(by="test", method="test")
            )


async def test_a_conversation_that_goes_on_after_its_deletion_is_deleted_again(
    tmp_path: Path, store: str
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        desk = desk_of(world)
        named = ANA | {"x-chat-conversation": "c"}
        await world.chat("hello", who=named)
        handle = await one_handle(world)
        first = await desk.delete_conversation(world.tag(), handle, method="test")
        await world.chat("and on", who=named)
        await world.kept()
        [view] = await desk.conversations(world.tag())
        assert (view.is_deleted, view.turns) == (False, 1)
        again = await desk.delete_conversation(world.tag(), handle, method="test")
        assert again.deleted_at > first.deleted_at
        [view] = await desk.conversations(world.tag())
        assert (view.is_deleted, view.turns) == (True, 2)


async def test_the_person_is_told_which_copy_stays_and_until_when(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        desk = desk_of(world)
        await world.chat("hello")
        handle = await one_handle(world)
        [turn] = await world.turns()
        assert isinstance(turn, KeptTurn)
        given = await desk.give_feedback(world.tag(), handle, FeedbackKind.THUMBS, method="test")
        assert given.feedback == "thumbs"
        await world.running.vault.ledger.note(
            world.tag(),
            FactKind.FLAGGED,
            at=wall_clock(),
            by="test",
            method="test",
            scope=Scope(turn=turn.turn),
        )
        await world.decided_again()
        deletion = await desk.delete_conversation(world.tag(), handle, method="test")
        stays = {copy.ground: copy.until for copy in deletion.stays}
        assert set(stays) == {"FEEDBACK", "SAFETY_IO"}
        assert stays["FEEDBACK"] - deletion.deleted_at > 4 * YEAR
        assert 2 * YEAR <= stays["SAFETY_IO"] - turn.facts.received_at <= 2 * YEAR + DAY
        [view] = await desk.conversations(world.tag())
        assert (view.is_deleted, view.stays) == (True, deletion.stays)
        assert [entry.kind for entry in await desk.history(world.tag())] == [
            "conversation_deleted",
            "feedback_given",
        ]


async def test_a_deleted_account_has_withdrawn_and_lost_everything(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        desk = desk_of(world)
        await say_yes(world)
        await world.chat("hello")
        await world.kept()
        deletion = await desk.delete_account(world.tag(), method="test")
        assert await desk.delete_account(world.tag(), method="test") == deletion
        assert [entry.kind for entry in await desk.history(world.tag())] == [
            "account_deleted",
            "choice",
            "choice",
        ]
        assert (await desk.standing(world.tag())).choice is Choice.WITHDRAWN
        [view] = await desk.conversations(world.tag())
        assert (view.is_deleted, view.reason) == (True, "ACCOUNT_DELETED")


# --- feedback ---


async def test_feedback_keeps_a_conversation_until_it_is_taken_back(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        desk = desk_of(world)
        await world.chat("hello")
        handle = await one_handle(world)
        await desk.give_feedback(world.tag(), handle, FeedbackKind.FEEDBACK, method="test")
        await world.decided_again()
        kept = await desk.conversation(world.tag(), handle)
        assert (kept.feedback, kept.also) == ("feedback", ("FEEDBACK_EXPLICIT",))
        assert kept.expires_at - kept.started_at > 4 * YEAR
        after = await desk.withdraw_feedback(world.tag(), handle, method="test")
        assert after is not None
        assert after.feedback is None
        assert after.expires_at - after.started_at <= 30 * DAY
        await desk.withdraw_feedback(world.tag(), handle, method="test")
        assert [entry.kind for entry in await desk.history(world.tag())] == [
            "feedback_withdrawn",
            "feedback_given",
        ]


async def test_feedback_on_an_incognito_conversation_is_confirmed_first(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        desk = desk_of(world)
        await world.chat("hello", who=ANA | {"x-chat-incognito": "?1"})
        handle = await one_handle(world)
        with pytest.raises(ConfirmationNeededError, match="incognito"):
            await desk.give_feedback(world.tag(), handle, FeedbackKind.BUG, method="test")
        given = await desk.give_feedback(
            world.tag(), handle, FeedbackKind.BUG, method="test", is_confirmed=True
        )
        assert given.feedback == "bug"


# --- preview ---


async def test_a_preview_says_what_a_choice_would_do_and_writes_nothing(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        await world.chat("hello")
        await world.kept()
        before = await all_keys(connections)
        previews = await desk_of(world).preview(world.tag(), plan="pro", age=Age.ADULT)
        [preview] = previews.conversations
        month = preview.started_at + 30 * DAY
        assert preview.now_expires_at == preview.if_yes_expires_at == preview.if_no_expires_at == month
        assert not preview.now_eligible
        assert not preview.if_yes_eligible
        assert preview.if_continued_eligible
        assert preview.if_continued_expires_at is not None
        assert preview.if_continued_expires_at - preview.started_at >= 5 * YEAR
        assert previews.next_turn.if_yes_eligible
        assert (previews.eligible_now, previews.eligible_if_yes, previews.eligible_if_continued) == (0, 0, 1)
        assert await all_keys(connections) == before


async def test_a_preview_is_not_about_what_was_deleted(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        await world.chat("hello")
        handle = await one_handle(world)
        await desk_of(world).delete_conversation(world.tag(), handle, method="test")
        assert (await desk_of(world).preview(world.tag())).conversations == ()


async def test_what_a_preview_says_of_a_no_is_what_a_no_does(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        desk = desk_of(world)
        await say_yes(world)
        await world.chat("hello")
        await world.kept()
        previews = await desk.preview(world.tag(), plan="pro", age=Age.ADULT)
        [preview] = previews.conversations
        assert (previews.shorter_if_no, previews.gone_if_no) == (1, 0)
        assert preview.now_eligible
        assert preview.if_yes_expires_at == preview.now_expires_at
        await say_no(world)
        await world.decided_again()
        [view] = await desk.conversations(world.tag())
        assert not view.eligible
        assert preview.if_no_expires_at is not None
        assert 0 <= view.expires_at - preview.if_no_expires_at < 60_000


async def test_an_exempt_plan_has_nothing_to_gain_or_lose(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        previews = await desk_of(world).preview(world.tag(), plan="enterprise", age=Age.ADULT)
        assert (previews.next_turn.if_yes_expires_at, previews.next_turn.if_yes_eligible) == (None, False)


# --- the audit log ---


def audited(directory: Path) -> list[tuple[str, str]]:
    lines = (directory / "data" / "audit" / "audit.jsonl").read_text().splitlines()
    return [(entry["action"], entry["for"]) for entry in map(json.loads, lines) if "for" in entry]


async def test_what_a_person_does_is_in_the_audit_log(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        desk = desk_of(world)
        await world.chat("hello")
        handle = await one_handle(world)
        await desk.set_override(world.tag(), handle, Override.SHARE, method="test")
        await desk.give_feedback(world.tag(), handle, FeedbackKind.BUG, method="test")
        await desk.withdraw_feedback(world.tag(), handle, method="test")
        await desk.delete_conversation(world.tag(), handle, method="test")
        await desk.delete_account(world.tag(), method="test")
        assert audited(tmp_path) == [
            ("conversation.given", DATA_SUBJECT),
            ("feedback.given", DATA_SUBJECT),
            ("feedback.withdrawn", DATA_SUBJECT),
            ("conversation.deleted", DATA_SUBJECT),
            ("subject.account_deleted", DATA_SUBJECT),
        ]


async def test_a_choice_about_the_account_is_in_the_audit_log_without_what_it_was_asked_with(
    tmp_path: Path, store: str
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        desk, tag = desk_of(world), world.tag()
        for choice in (Choice.DEFERRED, Choice.GIVEN, Choice.GIVEN, Choice.REFUSED):
            await desk.choose(tag, choice, by=DATA_SUBJECT, method="test", plan="pro", language="en")
        await desk.audited_as("admin:signup(privacy)").choose(tag, Choice.GIVEN, by="company", method="test")
        lines = (tmp_path / "data" / "audit" / "audit.jsonl").read_text().splitlines()
        entries = [entry for entry in map(json.loads, lines) if entry["action"].startswith("choice.")]
        assert [(entry["action"], entry["for"]) for entry in entries] == [
            ("choice.deferred", DATA_SUBJECT),
            ("choice.given", DATA_SUBJECT),
            ("choice.renewed", DATA_SUBJECT),
            ("choice.withdrawn", DATA_SUBJECT),
            ("choice.given", "company"),
        ]
        assert entries[-1]["by"] == "admin:signup(privacy)"
        assert {frozenset(entry) for entry in entries} == {
            frozenset({"v", "at", "by", "action", "for", "method", "subject"})
        }
        assert {entry["subject"] for entry in entries} == {tag.hex()}


async def test_a_person_chooses_also_while_the_audit_log_cannot_be_written(
    tmp_path: Path, store: str
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        desk, tag = desk_of(world), world.tag()
        log = tmp_path / "data" / "audit"
        log.parent.mkdir(exist_ok=True)
        log.write_text("no directory")
        with pytest.raises(AuditUnavailableError):
            await desk.choose(tag, Choice.GIVEN, by="company", method="test")
        assert await desk.history(tag) == []
        await desk.choose(tag, Choice.REFUSED, by=DATA_SUBJECT, method="test")
        assert [entry.choice for entry in await desk.history(tag)] == [Choice.REFUSED]


async def test_a_person_deletes_also_while_the_audit_log_cannot_be_written(
    tmp_path: Path, store: str
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        desk = desk_of(world)
        await world.chat("hello")
        handle = await one_handle(world)
        log = tmp_path / "data" / "audit"
        log.parent.mkdir(exist_ok=True)
        log.write_text("no directory")
        with pytest.raises(AuditUnavailableError):
            await desk.delete_conversation(world.tag(), handle, by="company", method="test")
        assert await desk.history(world.tag()) == []
        await desk.delete_conversation(world.tag(), handle, method="test")
        assert [entry.kind for entry in await desk.history(world.tag())] == ["conversation_deleted"]


async def test_a_rating_alone_is_no_event(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        desk = desk_of(world)
        await world.chat("hello", who=ANA | {"x-chat-incognito": "?1"})
        handle = await one_handle(world)
        rated = await desk.give_feedback(world.tag(), handle, FeedbackKind.RATING_ONLY, method="test")
        assert rated.feedback is None
        assert await world.running.vault.ledger.history(world.tag()) == ()
