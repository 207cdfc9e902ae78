"""What every consent record says alike comes from a file that is checked."""

from pathlib import Path

import pytest

from chatproxy.consent.controller import iso_period, load_controller, record_terms
from chatproxy.errors import ConfigurationError
from chatproxy.policy.periods import Period, parse_duration
from chatproxy.policy.profile import Periods

SHIPPED = Path(__file__).parents[3] / "config" / "choice" / "controller.toml"


def test_the_shipped_file_is_accepted() -> None:
    found = load_controller(SHIPPED)
    assert (found.name, found.authority, found.recipients, found.transfers) == ("Example Ltd", "CNIL", (), ())


def test_a_record_says_how_long_to_whom_and_how_to_withdraw() -> None:
    controller = load_controller(SHIPPED)
    terms = record_terms(controller, periods=Periods(), withdrawal_url="/_chatproxy/", steps_to_withdraw=1)
    assert (terms["retention_if_yes"], terms["retention_if_no"]) == ("P5Y", "P30D")
    assert terms["withdrawal"] == {"url": "/_chatproxy/", "steps": 1}
    assert terms["controller"]["contact"] == "privacy@example.com"
    assert (terms["recipients"], terms["transfers"], terms["storage_location"]) == ([], [], "eu-west")


def test_without_a_controller_a_record_names_none() -> None:
    terms = record_terms(None, periods=Periods(), withdrawal_url="/", steps_to_withdraw=1)
    assert set(terms) == {"retention_if_yes", "retention_if_no", "withdrawal"}


@pytest.mark.parametrize(
    "text, written", [("5y", "P5Y"), ("30d", "P30D"), ("12h", "PT43200S"), ("2w", "P14D")]
)
def test_a_period_is_written_as_iso_8601_does(text: str, written: str) -> None:
    assert iso_period(parse_duration(text)) == written


def test_no_period_is_no_days() -> None:
    assert iso_period(Period()) == "P0D"


@pytest.mark.parametrize(
    "change, named",
    [
        (('name = "Example Ltd"', ""), "name is missing"),
        (('name = "Example Ltd"', 'name = ""'), "name must be a text"),
        (('authority = "CNIL"', "authority = 3"), "authority must be a text"),
        (('dpo = "dpo@example.com"', 'dpo = ""'), "dpo must be a text"),
        (('authority = "CNIL"', 'authority = "CNIL"\nrecipients = "x"'), "recipients must be a list"),
        (('authority = "CNIL"', 'authority = "CNIL"\nother = "x"'), "other is not known here"),
        (('authority = "CNIL"', "authority"), "is not TOML"),
    ],
    ids=["missing", "empty", "a number", "no officer", "a text", "unknown", "no TOML"],
)
def test_what_is_wrong_with_the_file_is_said(change: tuple[str, str], named: str, tmp_path: Path) -> None:
    path = tmp_path / "controller.toml"
    path.write_text(SHIPPED.read_text().replace(*change))
    with pytest.raises(ConfigurationError) as failure:
        load_controller(path)
    assert named in str(failure.value)
    assert str(path) in str(failure.value)


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_controller(tmp_path / "controller.toml")
