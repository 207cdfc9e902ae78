"""Whatever the consent service says, and however often, the ledger ends up permitting no more than that."""

from collections.abc import Sequence
from itertools import permutations, product

import pytest

from chatproxy.consent.copying import Copier, are_unread
from chatproxy.consent.events import (
    ACCOUNT,
    PURPOSES,
    Choice,
    ConsentEvent,
    FactKind,
    read_ledger,
    write_choice,
    write_fact,
)
from chatproxy.consent.person import PersonFacts
from chatproxy.crypto.keyset import make_keyset
from chatproxy.errors import ConsentSourceError
from chatproxy.model import ConversationTag, SubjectTag, Surface
from chatproxy.policy.versions import PolicyVersion
from chatproxy.ports import StatedChoice

ANA = SubjectTag(b"A" * 16)
KEYS = make_keyset(created_at=0).annotation_keys()
NOW = 1_000_000
SURFACES = (Surface.CHAT, Surface.CODE)


def stated(ident: str, state: str, at: int, *, receipt: str | None = None, **more: object) -> StatedChoice:
    values: dict[str, object] = {"purposes": PURPOSES, "surfaces": ("chat", "code")} | more
    return StatedChoice(ident, state, at, receipt=receipt, **values)  # type: ignore[arg-type]


class Book:
    """A ledger outside any store."""

    def __init__(self) -> None:
        self.stored: list[bytes] = []

    @property
    def events(self) -> Sequence[object]:
        return read_ledger(self.stored, subject=ANA, keys=KEYS)

    @property
    def words(self) -> list[str]:
        return [
            str(event.choice) if isinstance(event, ConsentEvent) else str(event.kind)
            for event in read_ledger(self.stored, subject=ANA, keys=KEYS)
        ]

    @property
    def state(self) -> str:
        choices = PersonFacts(read_ledger(self.stored, subject=ANA, keys=KEYS)).choices(Surface.CHAT)
        return choices[-1][1] if choices else "unknown"

    def choose(self, choice: Choice, at: int, conversation: ConversationTag | None = None) -> None:
        """A choice that is made here."""
        self.stored.append(
            write_choice(
                subject=ANA, choice=choice, at=self._after(at), by="test", method="test", purposes=PURPOSES,
                surfaces=SURFACES, record_id="r", previous=self._last, keys=KEYS, conversation=conversation,
            )
        )  # fmt: skip

    def note(self, kind: FactKind, at: int) -> None:
        self.stored.append(
            write_fact(
                subject=ANA, kind=kind, at=self._after(at), by="test", method="test", scope=ACCOUNT, details={},
                record_id="r", previous=self._last, keys=KEYS,
            )
        )  # fmt: skip

    def copy(self, *said: StatedChoice, at: int = NOW, versions: Sequence[PolicyVersion] = ()) -> int:
        """Copy an answer, as a ledger in a store does; return how much was appended."""
        copier = Copier(said, asked_at=at, pseudonym=lambda choice: choice.hex(), versions=versions)
        for appended in range(100):
            step = copier.next_step(read_ledger(self.stored, subject=ANA, keys=KEYS))
            if step is None:
                return appended
            if isinstance(step.what, FactKind):
                self.note(step.what, step.at)
                continue
            self.stored.append(
                write_choice(
                    subject=ANA, choice=step.what, at=step.at, by="s", method="s",
                    purposes=step.purposes, surfaces=step.surfaces, record_id="r", previous=self._last, keys=KEYS,
                    circumstances=step.circumstances,
                )
            )  # fmt: skip
        raise AssertionError("it never ends")

    @property
    def _last(self) -> bytes | None:
        return self.stored[-1] if self.stored else None

    def _after(self, at: int) -> int:
        return max([at, *(event.at + 1 for event in read_ledger(self.stored, subject=ANA, keys=KEYS))])


YES, NO = stated("1", "given", 100), stated("2", "withdrawn", 200)
AGAIN = stated("3", "given", 300)


def test_a_history_is_copied_once_in_its_order_with_its_times() -> None:
    book = Book()
    assert book.copy(YES, NO, AGAIN) == 3
    assert book.copy(YES, NO, AGAIN) == 0
    assert book.words == ["given", "withdrawn", "given"]
    assert [event.at for event in read_ledger(book.stored, subject=ANA, keys=KEYS)] == [100, 200, 300]


def test_of_the_choice_only_a_pseudonym_and_its_receipt_are_kept() -> None:
    book = Book()
    book.copy(stated("ana@example.com/1", "given", 100, receipt="r-1"))
    [event] = read_ledger(book.stored, subject=ANA, keys=KEYS)
    assert isinstance(event, ConsentEvent)
    assert event.record["source"] == {"id": event.source_id, "receipt": "r-1"}
    assert b"ana@example.com" not in book.stored[0]


def test_a_choice_that_is_made_there_later_follows() -> None:
    book = Book()
    book.copy(YES)
    assert book.copy(YES, NO) == 1
    assert book.state == "withdrawn"


@pytest.mark.parametrize(
    "before, after, state",
    [
        pytest.param([YES], [], "invalidated", id="all is forgotten"),
        pytest.param([YES, NO, AGAIN], [YES, NO], "invalidated", id="the last yes is forgotten"),
        pytest.param([YES], [stated("2", "refused", 50)], "refused", id="another history"),
        pytest.param([YES], [stated("1", "refused", 100)], "refused", id="the yes has become a no"),
        pytest.param(
            [YES], [stated("1", "given", 100, purposes=())], "invalidated", id="the yes is for nothing now"
        ),
        pytest.param([YES], [stated("1", "given", 99)], "invalidated", id="the yes is older now"),
        pytest.param([YES], [stated("9", "given", 100)], "invalidated", id="the yes has another name"),
        pytest.param([YES, NO], [YES], "withdrawn", id="the no is forgotten"),
        pytest.param(
            [YES, NO], [NO, stated("1", "given", 200)], "withdrawn", id="the no is put before the yes"
        ),
        pytest.param([YES, AGAIN], [AGAIN], "invalidated", id="the first of two yeses is forgotten"),
        pytest.param([YES], [stated("0", "refused", 50), YES], "given", id="something older is added"),
        pytest.param([YES], [YES, stated("2", "deferred", 200)], "deferred", id="not now, after a yes"),
        pytest.param([YES], [YES, stated("2", "expired", 200)], "expired", id="the yes has ended"),
        pytest.param([YES], [YES, stated("2", "renewed", 200)], "renewed", id="the yes is renewed"),
        pytest.param(
            [stated("0", "refused", 50), YES], [YES, stated("0", "refused", 50)], "invalidated", id="turned"
        ),
        pytest.param([], [], "unknown", id="nothing at all"),
    ],
)
def test_what_the_service_says_next_counts_as_far_as_it_is_stricter(
    before: list[StatedChoice], after: list[StatedChoice], state: str
) -> None:
    book = Book()
    book.copy(*before)
    book.copy(*after, at=NOW + 1)
    assert book.state == state
    assert book.copy(*after, at=NOW + 2) == 0


def test_not_now_after_a_yes_leaves_the_yes() -> None:
    book = Book()
    book.copy(YES, stated("2", "deferred", 200))
    assert PersonFacts(read_ledger(book.stored, subject=ANA, keys=KEYS)).open_grant_since(Surface.CHAT) == 100


def test_a_yes_that_disappeared_is_not_believed_when_it_comes_back() -> None:
    book = Book()
    book.copy(YES)
    book.copy()
    assert book.copy(YES) == 0
    assert book.state == "invalidated"


def test_a_new_yes_in_place_of_one_that_disappeared_begins_anew() -> None:
    book = Book()
    book.copy(YES)
    book.copy(AGAIN)
    assert book.words == ["given", "invalidated", "given"]
    assert (
        PersonFacts(read_ledger(book.stored, subject=ANA, keys=KEYS)).open_grant_since(Surface.CHAT)
        == NOW + 1
    )


def test_a_yes_that_was_recorded_here_does_not_stand_beside_the_service() -> None:
    book = Book()
    book.choose(Choice.GIVEN, 100)
    book.copy()
    assert book.state == "invalidated"


def test_a_no_that_was_recorded_here_stands_against_an_older_yes() -> None:
    book = Book()
    book.choose(Choice.WITHDRAWN, 150)
    assert book.copy(YES) == 0
    assert book.copy(YES, AGAIN) == 1
    assert book.state == "given"


def test_a_yes_of_the_very_instant_of_a_no_is_none() -> None:
    book = Book()
    assert book.copy(stated("1", "refused", 100), stated("2", "given", 100)) == 1
    assert book.state == "refused"


def test_a_no_is_copied_however_old_it_is() -> None:
    book = Book()
    book.choose(Choice.REQUESTED, 500)
    book.copy(stated("1", "refused", 100))
    assert book.state == "refused"


def test_what_else_has_happened_does_not_move_a_choice() -> None:
    book = Book()
    book.note(FactKind.CHOICES_UNREAD, 500)
    book.note(FactKind.MINOR_FOUND, 600)
    book.copy(YES, NO)
    assert [event.at for event in read_ledger(book.stored, subject=ANA, keys=KEYS)][2:4] == [100, 200]


def test_of_two_choices_the_later_stays_the_later() -> None:
    book = Book()
    book.copy(YES, AGAIN)
    book.copy(YES, AGAIN, stated("4", "withdrawn", 300))
    book.note(FactKind.ACCOUNT_DELETED, 700)
    book.copy(YES, AGAIN, stated("4", "withdrawn", 300), stated("5", "refused", 400))
    assert [event.at for event in read_ledger(book.stored, subject=ANA, keys=KEYS)] == [
        100,
        300,
        301,
        700,
        701,
    ]


def test_an_account_that_was_deleted_is_not_opened_by_an_older_yes() -> None:
    book = Book()
    book.note(FactKind.ACCOUNT_DELETED, 150)
    assert book.copy(YES) == 0
    assert book.copy(YES, AGAIN) == 1


def test_what_is_shared_here_is_not_the_service_s_to_end() -> None:
    book = Book()
    book.choose(Choice.GIVEN, 100, ConversationTag(b"C" * 16))
    assert book.copy() == 0


def test_a_no_from_a_clock_that_is_ahead_counts_at_once_and_a_yes_then() -> None:
    for state, at in (("refused", NOW), ("given", NOW + 50)):
        book = Book()
        book.copy(stated("1", state, NOW + 50))
        [event] = read_ledger(book.stored, subject=ANA, keys=KEYS)
        assert event.at == at


def test_unknown_purposes_and_surfaces_are_not_agreed_to() -> None:
    book = Book()
    book.copy(
        stated("1", "given", 100, purposes=("train.capability", "everything"), surfaces=("chat", "sea"))
    )
    [event] = read_ledger(book.stored, subject=ANA, keys=KEYS)
    assert isinstance(event, ConsentEvent)
    assert event.purposes == {"train.capability": True, "train.safety": False}
    assert event.surfaces == ("chat",)


def test_that_the_service_answers_again_is_said_last_and_once() -> None:
    book = Book()
    book.copy(YES)
    book.note(FactKind.CHOICES_UNREAD, 150)
    assert are_unread(read_ledger(book.stored, subject=ANA, keys=KEYS))
    book.copy(YES, NO)
    assert book.words == ["given", "choices_unread", "withdrawn", "choices_read"]
    assert not are_unread(read_ledger(book.stored, subject=ANA, keys=KEYS))


VERSION = PolicyVersion(version="v2", published_at=1, effective_at=2, sha256="00")


def test_a_choice_names_the_version_that_it_is_about() -> None:
    book = Book()
    book.copy(stated("1", "given", 100, policy_version="v2"), versions=[VERSION])
    [event] = read_ledger(book.stored, subject=ANA, keys=KEYS)
    assert isinstance(event, ConsentEvent)
    assert (event.policy_version, event.policy_effective_at) == ("v2", 2)


def test_a_choice_about_a_version_that_is_not_known_is_not_understood() -> None:
    with pytest.raises(ConsentSourceError, match="policy_version"):
        Book().copy(stated("1", "given", 100, policy_version="v3"), versions=[VERSION])
    Book().copy(stated("1", "given", 100, policy_version="v3"))


def test_no_two_answers_in_a_row_permit_what_the_second_does_not() -> None:
    histories = [
        [stated(str(number), word, 100 * number) for number, word in enumerate(words)]
        for length in range(4)
        for words in product(("given", "refused", "withdrawn"), repeat=length)
    ]
    for first, second in permutations(histories, 2):
        book = Book()
        book.copy(*first)
        book.copy(*second)
        permits = bool(second) and second[-1].state == "given"
        assert permits or book.state != "given"
        assert book.copy(*second) == 0
