"""What pseudonyms and handles tell, and to whom."""

import itertools

import pytest

from chatproxy.crypto.keys import PseudonymKey
from chatproxy.crypto.pseudonyms import Pseudonymizer, stray_tag
from chatproxy.errors import NotFoundError, StoreUnavailableError
from chatproxy.model import ConversationTag, SubjectTag, TurnId

KEY = PseudonymKey(bytes(range(100, 132)))
OTHER_KEY = PseudonymKey(bytes(range(101, 133)))
ALICE = SubjectTag(b"alice" + bytes(11))
TURN = TurnId(bytes(range(16)))


@pytest.mark.parametrize(
    "one, two",
    [
        pytest.param(("t", "u"), ("t", "v"), id="another subject"),
        pytest.param(("t", "u"), ("s", "u"), id="another tenant"),
        pytest.param(("ab", "c"), ("a", "bc"), id="a letter moved"),
        pytest.param(("a", ""), ("", "a"), id="exchanged"),
        pytest.param(("t", "é"), ("t", "e\u0301"), id="another spelling is another person"),
        pytest.param(("t", "\ud83d\ude42"), ("t", "🙂"), id="lone surrogates"),
        pytest.param(("t", "\ud83d"), ("t", "?"), id="a lone surrogate is not replaced"),
    ],
)
def test_different_people_have_different_tags(one: tuple[str, str], two: tuple[str, str]) -> None:
    pseudonymizer = Pseudonymizer(KEY)
    tags = {pseudonymizer.subject_tag(tenant=tenant, subject=subject) for tenant, subject in (one, two)}

    assert [len(tag) for tag in tags] == [16, 16]


def test_a_turn_is_named_within_its_person_by_key_and_request() -> None:
    def name(
        *,
        tenant: str = "t",
        subject: str = "u",
        key: bytes = b"k",
        request: bytes = b"r",
        by: PseudonymKey = KEY,
    ) -> TurnId:
        return Pseudonymizer(by).turn_id(tenant=tenant, subject=subject, request_key=key, request=request)

    others = (name(tenant="x"), name(subject="x"), name(key=b"x"), name(request=b"x"), name(by=OTHER_KEY))
    assert len({name(), *others}) == 6
    assert name() == name()
    assert len(name()) == 16


def test_tags_hashes_and_handles_depend_on_the_key() -> None:
    def outputs(key: PseudonymKey) -> set[bytes]:
        pseudonymizer = Pseudonymizer(key)
        return {
            pseudonymizer.subject_tag(tenant="t", subject="u"),
            pseudonymizer.conversation_tag(tenant="t", subject="u", conversation="c"),
            pseudonymizer.history_hasher(ALICE)(b"hello"),
            pseudonymizer.turn_handle(ALICE, TURN).encode(),
            pseudonymizer.conversation_handle(ALICE, ConversationTag(TURN)).encode(),
        }

    assert len(outputs(KEY) | outputs(OTHER_KEY)) == 10


def test_equal_conversation_ids_of_two_people_are_two_conversations() -> None:
    pseudonymizer = Pseudonymizer(KEY)
    tags = {
        pseudonymizer.conversation_tag(tenant=tenant, subject=subject, conversation="1")
        for tenant, subject in itertools.product(("t", "s"), ("u", "v"))
    }

    assert len(tags) == 4


def test_a_choice_is_named_within_its_person() -> None:
    pseudonymizer = Pseudonymizer(KEY)
    names = {pseudonymizer.choice_tag(subject, b"given") for subject in (ALICE, SubjectTag(TURN))}

    assert [len(bytes.fromhex(name)) for name in names] == [16, 16]
    assert pseudonymizer.choice_tag(ALICE, b"given") in names
    assert pseudonymizer.choice_tag(ALICE, b"withdrawn") not in names


def test_equal_words_of_two_people_have_different_hashes() -> None:
    pseudonymizer = Pseudonymizer(KEY)
    hashes = {pseudonymizer.history_hasher(subject)(b"hello") for subject in (ALICE, SubjectTag(TURN), None)}

    assert [len(found) for found in hashes] == [16, 16, 16]
    assert pseudonymizer.history_hasher(ALICE)(b"hello") in hashes
    assert pseudonymizer.history_hasher(ALICE)(b"hello ") not in hashes


def test_a_stray_tag_is_drawn() -> None:
    assert stray_tag(lambda size: b"r" * size) == b"r" * 16
    assert stray_tag() != stray_tag()


def test_a_handle_resolves_only_with_the_key() -> None:
    handle = Pseudonymizer(KEY).turn_handle(ALICE, TURN)

    assert Pseudonymizer(KEY).read_turn_handle(handle) == (ALICE, TURN)
    assert Pseudonymizer(OTHER_KEY).read_turn_handle(handle) != (ALICE, TURN)


def test_handles_of_one_person_have_no_part_in_common() -> None:
    pseudonymizer = Pseudonymizer(KEY)
    handles = [pseudonymizer.turn_handle(ALICE, TurnId(bytes([n]) * 16))[2:] for n in range(50)]

    for cut in (slice(0, 21), slice(22, 43)):
        assert len({handle[cut] for handle in handles}) == 50


def test_a_turn_and_a_conversation_of_one_number_have_unlike_handles() -> None:
    pseudonymizer = Pseudonymizer(KEY)
    turn = pseudonymizer.turn_handle(ALICE, TURN)
    conversation = pseudonymizer.conversation_handle(ALICE, ConversationTag(TURN))

    assert turn[2:23] != conversation[2:23]


def test_a_tampered_handle_names_another_person() -> None:
    pseudonymizer = Pseudonymizer(KEY)
    handle = pseudonymizer.turn_handle(ALICE, TURN)
    swapped = "t_" + ("A" if handle[2] != "A" else "B") + handle[3:]

    subject, turn = pseudonymizer.read_turn_handle(swapped)

    assert subject != ALICE
    assert turn == TURN


GOOD = Pseudonymizer(KEY).turn_handle(ALICE, TURN)


@pytest.mark.parametrize(
    "handle",
    [
        "",
        "t_",
        GOOD[2:],
        "c_" + GOOD[2:],
        "T_" + GOOD[2:],
        "t_" + GOOD,
        GOOD[:-1],
        GOOD + "A",
        GOOD + "=",
        GOOD + "\n",
        " " + GOOD,
        GOOD[:20] + " " + GOOD[20:],
        GOOD[:20] + "+" + GOOD[21:],
        GOOD[:20] + "é" + GOOD[21:],
        GOOD[:20] + "\udc80" + GOOD[21:],
        GOOD[:20] + "\0" + GOOD[21:],
        GOOD[:-1] + chr(ord(GOOD[-1]) + 1),
        "t_" + "A" * 100_000,
        "conv-1",
        "*",
    ],
    ids=repr,
)
def test_what_is_not_a_handle_is_not_found(handle: str) -> None:
    with pytest.raises(NotFoundError):
        Pseudonymizer(KEY).read_turn_handle(handle)


def test_a_turns_handle_is_not_a_conversations() -> None:
    with pytest.raises(NotFoundError, match="begins with c_"):
        Pseudonymizer(KEY).read_conversation_handle(GOOD)


def test_a_record_from_elsewhere_has_the_same_name_for_ever() -> None:
    name = Pseudonymizer(PseudonymKey(bytes(range(32)))).record_id(SubjectTag(bytes(16)), "crm-1")

    assert name == "import-ccd64a3c3e854463132b1a6dea1f0fb6"


def test_nothing_is_named_before_the_key_is_known() -> None:
    late = Pseudonymizer()
    assert not Pseudonymizer().is_known
    with pytest.raises(StoreUnavailableError):
        late.subject_tag(tenant="t", subject="u")
    with pytest.raises(StoreUnavailableError):
        late.record_id(ALICE, "crm-1")
    late.use(KEY)

    assert late.is_known
    assert late.subject_tag(tenant="t", subject="u") == Pseudonymizer(KEY).subject_tag(
        tenant="t", subject="u"
    )
