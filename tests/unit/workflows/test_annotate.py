"""Until when a group of parts is kept: by its grounds, whatever it is sealed to; under a hold by the seal."""

import msgspec
import pytest

from chatproxy.model import Origin, StreamEnd
from chatproxy.workflows.annotate import Eligible, GroupNote, TurnFacts, TurnNote, record_metadata


@pytest.mark.parametrize(
    "grounds, also, until",
    [
        pytest.param({"SERVICE": 30, "TRAIN": 90}, (), 90, id="as it is sealed"),
        pytest.param({"SERVICE": 30, "TRAIN_RESIDUE": 40}, (), 40, id="sealed for longer still"),
        pytest.param({"SERVICE": 95}, (), 90, id="never for longer than it is sealed"),
        pytest.param({"SERVICE": 30}, ("SAFETY_FLAG", "LEGAL_HOLD"), 90, id="held"),
        pytest.param({}, (), 90, id="no ground is known"),
    ],
)
def test_until_when_it_is_kept(grounds: dict[str, int], also: tuple[str, ...], until: int) -> None:
    note = GroupNote(
        n=0,
        part=Origin.TYPED,
        grounds=grounds,
        expires_at=90,
        eligible=Eligible(),
        reason="R",
        also=also,
        bytes=1,
    )

    assert note.kept_until == until


def test_a_turn_is_kept_as_long_as_the_last_of_its_groups() -> None:
    groups = [
        GroupNote(n=n, part=Origin.TYPED, grounds={}, expires_at=at, eligible=Eligible(), reason="R", bytes=1)
        for n, at in enumerate((80, 90, 70))
    ]
    note = TurnNote(v=1, end=StreamEnd.COMPLETE, policy="p", decided_at=1, groups=tuple(groups))

    assert note.expires_at == 90


def test_what_a_record_is_bound_to_has_the_same_bytes_for_ever() -> None:
    """Another spelling of the same JSON would open no record that is kept."""
    facts = TurnFacts(v=1, conversation="c" * 32, dialect="openai_chat", received_at=2, node="n", model='m"')

    assert record_metadata(facts.metadata(), 1) == (
        b'{"group":1,"turn":{"conversation":"cccccccccccccccccccccccccccccccc","dialect":"openai_chat",'
        b'"model":"m\\"","node":"n","received_at":2,"v":1}}'
    )


@pytest.mark.parametrize(
    "eligible, short, long",
    [
        pytest.param(
            Eligible(), b"{}", b'{"capability":false,"feedback":false,"safety":false}', id="for nothing"
        ),
        pytest.param(
            Eligible(safety=True),
            b'{"safety":true}',
            b'{"capability":false,"feedback":false,"safety":true}',
            id="for one purpose",
        ),
    ],
)
def test_what_may_not_use_a_group_is_not_spelled_and_reads_the_same_where_it_is(
    eligible: Eligible, short: bytes, long: bytes
) -> None:
    """Annotations were written with every purpose once."""
    assert msgspec.json.encode(eligible, order="sorted") == short
    assert msgspec.json.decode(short, type=Eligible) == msgspec.json.decode(long, type=Eligible) == eligible
