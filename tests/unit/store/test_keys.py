from chatproxy.model import ConversationTag, SubjectTag, TurnId
from chatproxy.store import keys

ALICE = SubjectTag(bytes(range(16)))
TURN = TurnId(b"\xff" * 16)
TAG = b"{000102030405060708090a0b0c0d0e0f}"


def test_all_keys_of_a_subject_share_its_hash_tag() -> None:
    named = [
        keys.subject(ALICE),
        keys.record(ALICE, TURN, 0),
        keys.record(ALICE, TURN, 3),
        keys.annotation(ALICE, TURN),
        keys.index(ALICE),
        keys.conversation(ALICE, ConversationTag(b"c" * 16)),
        keys.head(ALICE, b"h" * 32),
        keys.ledger(ALICE),
    ]

    assert {name[: name.index(b"}") + 1] for name in named} == {b"cp:" + TAG}
    assert len(set(named)) == len(named)


def test_the_names_are_those_of_the_contract() -> None:
    assert keys.subject(ALICE) == b"cp:" + TAG + b":s"
    assert keys.record(ALICE, TURN, 0) == b"cp:" + TAG + b":r:" + b"ff" * 16
    assert keys.record(ALICE, TURN, 2) == b"cp:" + TAG + b":r:" + b"ff" * 16 + b".2"
    assert keys.EPOCH_WRAPS == b"cp:{epoch}:k"
    assert keys.control("ring") == b"cp:{ctl}:ring"
    assert keys.stray(b"\x01\x02") == b"cp:{stray:0102}"


def test_an_annotations_name_can_be_taken_apart() -> None:
    assert keys.parse_annotation(keys.annotation(ALICE, TURN)) == (ALICE, TURN)
    assert keys.parse_annotation(keys.record(ALICE, TURN, 0)) is None
    assert keys.parse_annotation(keys.annotation(ALICE, TURN) + b"\n") is None
    assert keys.parse_annotation(b"cp:{zz}:a:zz") is None
