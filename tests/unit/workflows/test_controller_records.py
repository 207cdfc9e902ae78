"""The records say what settings and lineage say, leave open what they cannot know, and can be read."""

import dataclasses
import re
from collections.abc import Callable

import pytest

from chatproxy.consent.controller import Controller
from chatproxy.policy.grounds import Ground
from chatproxy.policy.periods import DAY_MS, Period
from chatproxy.policy.profile import STANDARD, ExemptMode, Periods
from chatproxy.workflows.controller_records import (
    Circumstances,
    Record,
    ai_act,
    as_markdown,
    california,
    processing,
)
from chatproxy.workflows.dataset_figures import DatasetFigures

CONTROLLER = Controller(
    name="Example Ltd",
    address="Paris",
    contact="privacy@example.com",
    dpo=None,
    jurisdiction="FR",
    authority="CNIL",
    storage_location="eu-west",
    recipients=("Labels GmbH",),
    transfers=("US: clauses",),
)
TRAINED = DatasetFigures(
    dataset="d_1", purpose="capability", consumer="team-a", at=1_700_000_000_000, redaction="en-fr/1", items=4_321,
    turns=4_000, people=17, conversations=90, first_received_at=1_690_000_000_000,
    last_received_at=1_695_000_000_000, recalled=3,
)  # fmt: skip
LATER = dataclasses.replace(
    TRAINED, dataset="d_2", consumer="team-b", first_received_at=1_680_000_000_000, last_received_at=None,
    redaction="en-fr/2",
)  # fmt: skip
SAFETY = dataclasses.replace(TRAINED, dataset="d_3", purpose="safety", consumer="team-s")


def about(*datasets: DatasetFigures, controller: Controller | None = CONTROLLER) -> Circumstances:
    return Circumstances(
        at=1_700_000_000_000,
        controller=controller,
        periods=Periods(service=Period(ms=10 * DAY_MS)),
        profile=STANDARD,
        policy=None,
        erasure_horizon_days=30,
        keyset="file",
        datasets=datasets,
    )


def test_the_record_of_processing_has_what_the_article_asks_for() -> None:
    record = processing(about(TRAINED, SAFETY))

    assert record["controller"]["name"] == "Example Ltd"
    assert {row["activity"] for row in record["activities"]} == {*map(str, Ground), "PROOF"}
    kept = {row["activity"]: (row["kept_at_most"], row["legal_basis"]) for row in record["activities"]}
    assert kept["SERVICE"] == ("P10D", None)
    assert kept["TRAIN"] == ("P5Y", "GDPR Art. 6(1)(a): consent")
    assert kept["PROOF"] == ("P5Y after the last of it, and P1098D", None)
    assert record["recipients"] == ["Labels GmbH", "team-a", "team-s"]
    assert record["transfers"] == ["US: clauses"]
    assert "claude_code, free, max, pro" in record["data_subjects"][0]
    assert "backups are unreadable 30 days later" in record["erasure"]
    for member in ("categories_of_data", "security_measures", "to_be_stated"):
        assert record[member]


def test_a_controller_that_is_not_named_is_left_open() -> None:
    record = processing(about(controller=None))

    assert (record["controller"], record["storage_location"]) == (None, None)
    assert (record["recipients"], record["transfers"]) == (None, None)
    assert processing(about(TRAINED, controller=None))["recipients"] == ["team-a"]
    assert "**transfers**: —" in as_markdown("A record", record)
    assert (
        processing(dataclasses.replace(about(), controller=dataclasses.replace(CONTROLLER, transfers=())))[
            "transfers"
        ]
        == []
    )
    assert any("controller.toml" in each for each in record["to_be_stated"])
    assert not any("controller.toml" in each for each in processing(about())["to_be_stated"])


def test_exempt_plans_that_are_kept_for_30_days_are_told() -> None:
    kept = dataclasses.replace(
        about(), profile=dataclasses.replace(STANDARD, exempt_mode=ExemptMode.STORE_30D)
    )

    assert processing(kept)["nothing_is_kept_of"][0].endswith("beyond 30 days")
    assert not processing(about())["nothing_is_kept_of"][0].endswith("beyond 30 days")


def test_the_summary_is_of_what_trains_alone() -> None:
    record = ai_act(about(TRAINED, LATER, SAFETY))

    assert record["user_interactions_used"] is True
    assert [row["dataset"] for row in record["datasets"]] == ["d_1", "d_2"]
    assert [row["dataset"] for row in record["datasets_for_other_purposes"]] == ["d_3"]
    assert "whether a dataset for another purpose trained a model too" in record["to_be_stated"]
    assert not any("another purpose" in each for each in ai_act(about(TRAINED))["to_be_stated"])
    assert record["datasets"][0]["recalled"] == 3
    assert (record["collected_from"], record["collected_until"]) == (
        "2023-03-28T10:40:00Z", "2023-09-18T01:20:00Z",
    )  # fmt: skip
    assert any("en-fr/1, en-fr/2" in each for each in record["measures"])
    assert record["people_on_plans"] == ["claude_code", "free", "max", "pro"]


@pytest.mark.parametrize("datasets", [(), (SAFETY,)], ids=["none", "for safety alone"])
def test_where_nothing_trains_the_summary_says_so(datasets: tuple[DatasetFigures, ...]) -> None:
    record = ai_act(about(*datasets))

    # What another purpose trains, only the company knows: then it is left open, and never said that nothing was used.
    assert record["user_interactions_used"] is (None if datasets else False)
    assert len(record["datasets_for_other_purposes"]) == len(datasets)
    assert (record["datasets"], record["modalities"]) == ([], [])
    assert (record["collected_from"], record["legal_basis"], record["description"]) == (None, None, None)
    documented = california(about(*datasets))
    assert [item["answer"] for item in documented["items"]] == [None] * 12
    assert any("another purpose" in each for each in documented["to_be_stated"]) is bool(datasets)


def test_the_documentation_has_every_item_of_the_law_and_leaves_open_what_it_cannot_know() -> None:
    record = california(about(TRAINED, LATER))

    answers = {item["number"]: item["answer"] for item in record["items"]}
    assert list(answers) == list(range(1, 13))
    assert answers[3] == "1,000 to 10,000, each dataset counted by itself"
    assert answers[10] == "2023-03-28T10:40:00Z to 2023-09-18T01:20:00Z; collection goes on"
    assert {number for number, answer in answers.items() if answer is None} == {2, 5, 11}


@pytest.mark.parametrize("made", [processing, ai_act, california])
def test_what_is_read_says_all_that_the_record_says(made: Callable[[Circumstances], Record]) -> None:
    named = dataclasses.replace(TRAINED, consumer="a | b\n# c")
    record = made(about(named))
    text = as_markdown("A record", record)

    assert text.startswith("# A record\n")
    for value in re.findall(r"'([^']+)': '([^'|]+)'", str(record)):
        assert value[1].replace("\\n", " ") in text, value
    assert "\n# c" not in text
    assert "a \\| b" in text
    for table in re.findall(r"(?m)(?:^\|.*\n)+", text):
        widths = {len(re.split(r"(?<!\\)\|", row)) for row in table.splitlines()}
        assert len(widths) == 1
