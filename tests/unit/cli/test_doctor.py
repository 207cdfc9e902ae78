"""What the doctor says of the versions that people choose about, and of the words for them."""

from pathlib import Path

import pytest

from chatproxy.cli.doctor import Finding, examine_admin, examine_rights, examine_swap, examine_terms
from chatproxy.policy.instants import parse_instant
from chatproxy.settings import Address, Settings
from chatproxy.store.rights import Rights
from unit.consent.choice_files import a_choice, a_version, write_notice

TWO = (
    a_version("1"),
    a_version("2", published="2026-01-01", effective="2026-03-01", material=True),
)


def found(directory: Path, now: str) -> list[Finding]:
    return examine_terms(Settings(choice_notices=str(directory)), now=parse_instant(now))


FIRST, SECOND = "2025-09-28T00:00:00Z", "2026-03-01T00:00:00Z"


@pytest.mark.parametrize(
    "now, said",
    [
        (
            "2025-09-01T00:00:00Z",
            [
                "no version of the policy is in force yet",
                f"1 takes effect at {FIRST}",
                f"2 takes effect at {SECOND}",
            ],
        ),
        (
            "2025-10-01T00:00:00Z",
            [
                f"version 1 of the policy is in force since {FIRST}",
                f"2 takes effect at {SECOND} and asks everybody again",
            ],
        ),
        (
            SECOND,
            [f"version 2 of the policy is in force since {SECOND}", "no other one is to come"],
        ),
    ],
    ids=["published", "in force", "the last"],
)
def test_it_is_said_what_is_in_force_and_what_comes(now: str, said: list[str], tmp_path: Path) -> None:
    write_notice(a_choice(tmp_path, *TWO), "2.en")

    choice, notices = found(tmp_path, now)

    assert (choice.state, choice.what) == ("ok", "; ".join(said))
    assert (notices.state, notices.what) == ("ok", "complete in en")


def test_a_notice_that_is_missing_in_a_language_is_named_as_long_as_it_matters(tmp_path: Path) -> None:
    write_notice(a_choice(tmp_path, *TWO), "2.en")
    write_notice(tmp_path, "2.fr")

    before, after = found(tmp_path, "2025-10-01T00:00:00Z")[1], found(tmp_path, "2026-03-01T00:00:00Z")[1]

    assert (before.state, before.what) == ("warning", "missing, so en is shown instead: 1.fr.toml")
    assert (after.state, after.what) == ("ok", "complete in en, fr")


def test_it_is_said_that_nobody_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)

    [finding] = examine_terms(Settings(), now=0)

    assert finding.state == "warning"
    assert finding.what == "no version of the policy is published in config/choice, so nobody is asked"


def test_what_cannot_be_loaded_is_a_fault(tmp_path: Path) -> None:
    (a_choice(tmp_path) / "screens.toml").unlink()

    [finding] = found(tmp_path, "2025-10-01T00:00:00Z")

    assert finding.state == "fatal"
    assert finding.what.startswith(f"CHATPROXY_CHOICE_NOTICES = {tmp_path} cannot be used:\n")


@pytest.mark.parametrize(
    "devices, is_memory_lockable, state",
    [([], False, "ok"), (["/dev/sda2"], True, "ok"), (["/dev/sda2"], False, "warning")],
)
def test_swap_is_a_warning_where_memory_may_not_be_locked(
    devices: list[str], is_memory_lockable: bool, state: str
) -> None:
    finding = examine_swap(devices, is_memory_lockable=is_memory_lockable)
    assert (finding.check, finding.state) == ("swap", state)
    assert ("/dev/sda2" in finding.what) == (state == "warning")
    assert ("LimitMEMLOCK" in (finding.fix or "")) == (state == "warning")


def test_tokens_that_cross_a_network_in_clear_are_a_warning() -> None:
    elsewhere = Address("10.0.0.1", 8081)
    assert examine_admin(Settings()) == []
    assert examine_admin(Settings(admin_listen=elsewhere, admin_tls_certificate="c", admin_tls_key="k")) == []
    [finding] = examine_admin(Settings(admin_listen=elsewhere))
    assert (finding.state, "10.0.0.1:8081" in finding.what) == ("warning", True)


@pytest.mark.parametrize(
    "rights, state, named",
    [
        (Rights("app", (), ()), "ok", ()),
        (Rights(None, (), ()), "ok", ()),
        (Rights("default", ("ACL", "FLUSHALL"), ()), "warning", ("the user default", "ACL, FLUSHALL")),
        (Rights(None, ("EVAL",), ()), "warning", ("the user may more", "EVAL")),
        (Rights("app", ("ACL",), ("zadd", "scan")), "fatal", ("the user app", "zadd, scan")),
    ],
)
def test_the_rights_of_the_stores_user(rights: Rights, state: str, named: tuple[str, ...]) -> None:
    finding = examine_rights(rights)
    assert finding.state == state
    assert all(name in finding.what for name in named)
