"""What is said with the head of an answer is what is known then, also where it was worded before."""

from collections.abc import Callable
from typing import Any

import pytest

from chatproxy.consent.events import PURPOSES, Choice, ConsentEvent
from chatproxy.consent.person import PersonFacts
from chatproxy.crypto.keyset import make_keyset
from chatproxy.crypto.pseudonyms import Pseudonymizer
from chatproxy.journal.memory import MemoryJournal
from chatproxy.model import Caller, SubjectTag, Surface, TurnId
from chatproxy.policy.engine import Decision
from chatproxy.policy.facts import Lookup
from chatproxy.ports import SubjectState
from chatproxy.settings import load_settings
from chatproxy.telemetry import Metrics
from chatproxy.workflows.announce import Announcer
from chatproxy.workflows.decide import Policy
from chatproxy.workflows.record import Capture, Recorder
from chatproxy.workflows.subjects import Person

KEYSET = make_keyset(created_at=0)
SETTINGS = load_settings({}).settings
POLICY = Policy(SETTINGS.profile, SETTINGS.periods)
NOW = 1_760_000_000_000
ANA = Caller(subject="ana", plan="pro")


class Known:
    """What is known of the one person there is, set by hand."""

    def __init__(self, *choices: Choice) -> None:
        self.person: Person | None = None
        self.lookup_is: Lookup | None = Lookup.OK
        self.prefetched: list[SubjectTag] = []
        self.choose(*choices)

    def choose(self, *choices: Choice) -> None:
        facts = PersonFacts(tuple(chosen(choice, at=NOW - 1_000 + at) for at, choice in enumerate(choices)))
        state = SubjectState(generation=None, wraps={}, erased_at=None, ledger=())
        self.person = Person(state, facts, read_at=NOW)

    def prefetch(self, subject: SubjectTag, _: Caller) -> None:
        self.prefetched.append(subject)

    def known(self, _: SubjectTag) -> Person | None:
        return self.person

    def lookup(self, *_: object) -> Lookup | None:
        return self.lookup_is


def chosen(choice: Choice, *, at: int) -> ConsentEvent:
    return ConsentEvent(
        at=at, choice=choice, by="t", method="t", purposes=dict.fromkeys(PURPOSES, choice.permits),
        surfaces=(Surface.CHAT,), receipt_id="", digest=f"{choice}{at}",
    )  # fmt: skip


class Chat:
    """A chat that is announced, at a time that is set by hand."""

    def __init__(
        self, known: Known, *, caller: Caller = ANA, pseudonyms: Pseudonymizer | None = None
    ) -> None:
        self.now = NOW
        self.decisions = 0
        capture = Capture(
            MemoryJournal(1 << 20), Metrics(), limit=1 << 20, never_kept=POLICY.never_kept,
            new_turn_id=lambda: TurnId(b"t" * 16),
        )  # fmt: skip
        opened = capture.begin(caller, dialect="openai_chat", request_encoding="", received_at=NOW)
        assert isinstance(opened, Recorder)
        opened.request(b"{}")
        self.exchange = opened.exchange
        subjects: Any = known
        announcer = Announcer(
            subjects, pseudonyms or Pseudonymizer(KEYSET.pseudonyms.key), self._policy(), clock=lambda: self.now,
            with_headers=True,
        )  # fmt: skip
        self.announcement = announcer.begin(caller, opened, received_at=NOW)

    def _policy(self) -> Any:
        """Return the policy, which counts what is decided."""
        chat = self

        class Counting:
            def decide_part(self, *args: Any, **kwargs: Any) -> Decision:
                chat.decisions += 1
                return POLICY.decide_part(*args, **kwargs)

        return Counting()

    def said(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.announcement.headers()}


def test_what_was_worded_a_moment_ago_is_not_decided_again() -> None:
    chat = Chat(Known(Choice.GIVEN))
    said = chat.said()
    chat.now += 999

    assert said["x-training-eligible"] == "?1"
    assert chat.said() == said
    assert chat.decisions == 1


def test_a_choice_that_was_made_since_is_announced() -> None:
    known = Known(Choice.GIVEN)
    chat = Chat(known)
    before = chat.said()
    known.choose(Choice.GIVEN, Choice.WITHDRAWN)

    assert (before["x-training-eligible"], chat.said()["x-training-eligible"]) == ("?1", "?0")
    assert chat.said()["x-decision-reason"] == "CONSENT_WITHDRAWN"


def forgotten(chat: Chat, known: Known) -> None:
    known.person = None


def asked_again(chat: Chat, known: Known) -> None:
    known.lookup_is = None


@pytest.mark.parametrize("change", [forgotten, asked_again])
def test_what_is_not_known_any_more_is_not_announced(change: Callable[[Chat, Known], None]) -> None:
    known = Known(Choice.GIVEN)
    chat = Chat(known)
    chat.said()
    change(chat, known)

    assert chat.said() == {"x-decision-reason": "PENDING"}


def failed(chat: Chat, known: Known) -> None:
    known.lookup_is = Lookup.FAILED


def later(chat: Chat, known: Known) -> None:
    chat.now += 1000


def earlier(chat: Chat, known: Known) -> None:
    chat.now -= 1


def renamed(chat: Chat, known: Known) -> None:
    chat.exchange.turn = TurnId(b"u" * 16)


@pytest.mark.parametrize("change", [failed, later, earlier, renamed])
def test_what_has_changed_is_decided_again(change: Callable[[Chat, Known], None]) -> None:
    known = Known(Choice.GIVEN)
    chat = Chat(known)
    before = chat.said()
    change(chat, known)
    after = chat.said()

    assert chat.decisions == 2
    assert (after["x-training-eligible"] == "?0") == (change is failed)
    assert (after["x-chat-turn"] != before["x-chat-turn"]) == (change is renamed)


def test_of_nobody_no_handle_is_told_and_nothing_is_looked_up() -> None:
    known = Known()
    chat = Chat(known, caller=Caller(plan="pro"))

    assert chat.said()["x-training-eligible"] == "?0"
    assert "x-chat-turn" not in chat.said()
    assert known.prefetched == []


def test_before_the_keyset_is_known_nothing_is_decided_or_looked_up() -> None:
    """Also where it comes to be known while the backend works: the person was not looked up."""
    known, pseudonyms = Known(Choice.GIVEN), Pseudonymizer()
    chat = Chat(known, pseudonyms=pseudonyms)
    assert chat.said() == {"x-decision-reason": "PENDING"}

    pseudonyms.use(KEYSET.pseudonyms.key)
    assert chat.said() == {"x-decision-reason": "PENDING"}
    assert (known.prefetched, chat.decisions) == ([], 0)
