"""A material version ends what an earlier yes covers, for what comes after it, and nothing else does (R33)."""

import pytest

from chatproxy.policy.versions import DatedChoice, PolicyVersion, with_superseded


def version(effective_at: int, *, material: bool = True) -> PolicyVersion:
    return PolicyVersion(
        version=str(effective_at), published_at=0, effective_at=effective_at, sha256="0" * 64, material=material
    )  # fmt: skip


FIRST, SECOND = version(100), version(200)

CASES = [
    pytest.param([(150, "given", 100)], "150 given, 200 superseded", id="a yes to the first ends with the second"),
    pytest.param([(150, "given", 200)], "150 given", id="a yes to the second, before it holds, stands"),
    pytest.param([(200, "given", 200)], "200 given", id="so does one as it takes effect"),
    pytest.param([(150, "refused", 100)], "150 refused", id="a no is remembered"),
    pytest.param([(150, "given", 100), (160, "withdrawn", 100)], "150 given, 160 withdrawn", id="so is a withdrawal"),
    pytest.param(
        [(150, "given", 100), (160, "deferred", 200)],
        "150 given, 160 deferred, 200 superseded",
        id="not now, on being asked about the second, does not keep the first yes alive",
    ),
    pytest.param(
        [(150, "given", 100), (160, "requested", 200)],
        "150 given, 160 requested, 200 superseded",
        id="being asked does not either",
    ),
    pytest.param([(150, "given", 100), (160, "given", 200)], "150 given, 160 given", id="a second yes carries on"),
    pytest.param([(150, "given", 200), (160, "given", 100)], "150 given, 160 given", id="an old screen takes nothing"),
    pytest.param([(250, "given", 100)], "250 superseded", id="a yes to what holds no longer is none"),
    pytest.param(
        [(150, "given", 100), (250, "renewed", 100)],
        "150 given, 200 superseded, 250 superseded",
        id="an ended yes cannot be renewed as it was",
    ),
    pytest.param(
        [(150, "given", 100), (250, "given", 200)], "150 given, 200 superseded, 250 given", id="a new yes begins anew"
    ),
    pytest.param(
        [(210, "given", 200), (250, "given", 100)], "210 given, 250 given", id="an old screen ends no newer yes"
    ),
    pytest.param(
        [(210, "given", 200), (220, "withdrawn", 200), (250, "given", 100)],
        "210 given, 220 withdrawn, 250 superseded",
        id="nor revives it",
    ),
    pytest.param([(50, "given", 50)], "50 given, 100 superseded", id="a yes from before there were versions"),
]  # fmt: skip


@pytest.mark.parametrize("choices, expected", CASES)
def test_a_material_version_supersedes(choices: list[tuple[int, str, int]], expected: str) -> None:
    dated = [DatedChoice(at, word, about) for at, word, about in choices]

    found = with_superseded(dated, [SECOND, FIRST])

    assert ", ".join(f"{at} {word}" for at, word in found) == expected


@pytest.mark.parametrize("choices, _expected", CASES)
def test_a_version_that_is_not_material_changes_nothing(
    choices: list[tuple[int, str, int]], _expected: str
) -> None:
    dated = [DatedChoice(at, word, about) for at, word, about in choices]

    found = with_superseded(dated, [version(100, material=False), version(200, material=False)])

    assert found == tuple((at, word) for at, word, _ in choices)
