"""Until when a group of parts is kept: by its grounds, whatever it is sealed to; under a hold by the seal."""

import pytest

from chatproxy.model import Origin
from chatproxy.workflows.annotate import Eligible, GroupNote


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
