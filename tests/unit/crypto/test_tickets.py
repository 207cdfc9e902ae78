"""Only who issued a ticket can read it, and only for its use."""

import pytest

from chatproxy.crypto.keys import PseudonymKey
from chatproxy.crypto.tickets import Tickets
from chatproxy.errors import UndecryptableError

KEY = PseudonymKey(bytes(range(32)))
TICKETS = Tickets(KEY, use=b"link", random=lambda size: b"n" * size)


def test_a_ticket_says_what_it_was_issued_for() -> None:
    assert TICKETS.open(TICKETS.issue(b"ana")) == b"ana"
    assert TICKETS.open(TICKETS.issue(b"")) == b""


def test_a_ticket_does_not_show_what_it_says() -> None:
    assert "ana" not in TICKETS.issue(b"ana")
    assert Tickets(KEY, use=b"link").issue(b"ana") != Tickets(KEY, use=b"link").issue(b"ana")


@pytest.mark.parametrize(
    "ticket",
    [
        "",
        "x",
        "AAAA",
        "*" * 64,
        TICKETS.issue(b"ana") + "A",
        TICKETS.issue(b"ana") + "=",
        TICKETS.issue(b"ana")[:-4],
        TICKETS.issue(b"x" * 4000),
        Tickets(KEY, use=b"session").issue(b"ana"),
        Tickets(PseudonymKey(bytes(range(1, 33))), use=b"link").issue(b"ana"),
    ],
    ids=[
        "nothing",
        "no base64",
        "too short",
        "other letters",
        "longer",
        "padded",
        "cut",
        "endless",
        "another use",
        "another key",
    ],
)
def test_what_was_not_issued_for_this_use_is_refused(ticket: str) -> None:
    with pytest.raises(UndecryptableError, match="ticket"):
        TICKETS.open(ticket)


@pytest.mark.parametrize("place", range(0, len(TICKETS.issue(b"ana")), 5))
def test_a_ticket_cannot_be_changed(place: int) -> None:
    ticket = TICKETS.issue(b"ana")
    changed = ticket[:place] + ("A" if ticket[place] != "A" else "B") + ticket[place + 1 :]
    with pytest.raises(UndecryptableError):
        TICKETS.open(changed)


def test_a_countersignature_is_about_its_values_alone() -> None:
    sign = TICKETS.countersign
    assert sign(b"a", b"b") == sign(b"a", b"b")
    assert len({sign(b"a", b"b"), sign(b"ab"), sign(b"b", b"a"), sign(b"a")}) == 4
    assert Tickets(KEY, use=b"session").countersign(b"a") != sign(b"a")
