"""An answer of the consent service is understood as a whole, or it is none."""

import json
from pathlib import Path
from typing import Any

import pytest

from chatproxy.consent.answer import question, read_answer, require_signature, sign
from chatproxy.errors import ConsentSourceError
from chatproxy.policy.instants import parse_instant
from simulators.consent_service import CHOSEN_AT, SECRET, a_choice

AT = parse_instant(CHOSEN_AT)
NONCE = "ab" * 16


def said(*choices: Any, tenant: str = "t", subject: str = "ana", **more: Any) -> bytes:
    return json.dumps({"tenant": tenant, "subject": subject, "choices": choices} | more).encode()


def why(body: bytes, *, now: int = AT) -> str:
    with pytest.raises(ConsentSourceError) as caught:
        read_answer(body, tenant="t", subject="ana", now=now)
    assert "ana" not in str(caught.value)
    return caught.value.reason


def test_a_good_answer_gives_its_choices_in_order() -> None:
    body = said(
        a_choice("c-1", purposes=["train.capability"], surfaces=["chat"], policy_version="v1", receipt="r_1"),
        a_choice("c-2", "withdrawn"),
        more="is passed over",
    )
    first, second = read_answer(body, tenant="t", subject="ana", now=AT)
    assert (first.ident, first.state, first.at) == ("c-1", "given", AT)
    assert (first.purposes, first.surfaces) == (("train.capability",), ("chat",))
    assert (first.policy_version, first.receipt) == ("v1", "r_1")
    assert (second.ident, second.state, second.policy_version, second.receipt) == (
        "c-2",
        "withdrawn",
        None,
        None,
    )


def test_no_choices_are_an_answer() -> None:
    assert read_answer(said(), tenant="t", subject="ana", now=AT) == ()


def test_a_yes_that_names_no_purpose_and_no_surface_is_for_none() -> None:
    [choice] = read_answer(
        said({"id": "c", "state": "given", "at": CHOSEN_AT}), tenant="t", subject="ana", now=AT
    )
    assert (choice.purposes, choice.surfaces) == ((), ())


def test_a_receipt_that_names_the_person_is_left_out() -> None:
    [choice] = read_answer(said(a_choice(receipt="r-Ana-1")), tenant="t", subject="ana", now=AT)
    assert choice.receipt is None


@pytest.mark.parametrize(
    "body, reason",
    [
        pytest.param(b"", "malformed", id="nothing"),
        pytest.param(b"[]", "malformed", id="a list"),
        pytest.param(b'{"tenant":"t","subject":"ana"}', "malformed", id="no choices named"),
        pytest.param(said() + b"x", "malformed", id="something after it"),
        pytest.param(b"[" * 100_000, "malformed", id="deep"),
        pytest.param(said("given"), "malformed", id="a word for a choice"),
        pytest.param(said(a_choice() | {"at": AT}), "malformed", id="a number for an instant"),
        pytest.param(said(a_choice(at="2026-01-02")), "malformed", id="a day"),
        pytest.param(said(a_choice("")), "malformed", id="a choice without a name"),
        pytest.param(said(a_choice("x" * 257)), "malformed", id="a long name"),
        pytest.param(said(a_choice(), a_choice()), "malformed", id="one name twice"),
        pytest.param(said(*(a_choice(str(n)) for n in range(201))), "malformed", id="too many"),
        pytest.param(said(a_choice(receipt="r 1")), "malformed", id="a receipt with a space"),
        pytest.param(said(a_choice(receipt="x" * 65)), "malformed", id="a long receipt"),
        pytest.param(said(a_choice(state="assumed")), "unknown_state", id="an unknown word"),
        pytest.param(said(a_choice(state="Given")), "unknown_state", id="a word in capitals"),
        pytest.param(said(subject="bea"), "another_person", id="another person"),
        pytest.param(said(subject="Ana"), "another_person", id="nearly the same person"),
        pytest.param(said(tenant="u"), "another_person", id="another tenant"),
        pytest.param(
            said(a_choice("a", at="2026-01-02T03:04:05.001Z"), a_choice("b")),
            "out_of_order",
            id="out of order",
        ),
    ],
)
def test_what_cannot_be_true_is_no_answer(body: bytes, reason: str) -> None:
    assert why(body) == reason


def test_a_clock_may_be_a_minute_ahead_and_no_more() -> None:
    assert read_answer(said(a_choice()), tenant="t", subject="ana", now=AT - 60_000)
    assert why(said(a_choice()), now=AT - 60_001) == "future"


def test_a_signature_is_for_one_question_and_one_body() -> None:
    signature = sign(b"body", nonce=NONCE, secret=SECRET)
    require_signature(b"body", signature, nonce=NONCE, secrets=[SECRET])
    require_signature(b"body", signature, nonce=NONCE, secrets=["the-next-secret-of-all", SECRET])
    for body, given, nonce, secret in (
        (b"Body", signature, NONCE, SECRET),
        (b"body", signature, "cd" * 16, SECRET),
        (b"body", signature, NONCE, "another-secret-than-that"),
        (b"body", signature.removeprefix("sha256="), NONCE, SECRET),
        (b"body", "", NONCE, SECRET),
        (b"body", None, NONCE, SECRET),
        (b"body", "sha256=é", NONCE, SECRET),
    ):
        with pytest.raises(ConsentSourceError, match="signature"):
            require_signature(body, given, nonce=nonce, secrets=[secret])


def test_a_signature_is_what_the_docs_say() -> None:
    signature = sign(b'{"a":1}', nonce="0" * 32, secret="s" * 16)
    page = Path(__file__).parents[3] / "docs" / "consent-service.md"
    assert f"`{signature}`" in page.read_text(encoding="utf-8")


def test_a_question_names_person_and_nonce() -> None:
    assert json.loads(question(tenant="t", subject="änä", nonce=NONCE)) == {
        "tenant": "t", "subject": "änä", "nonce": NONCE,
    }  # fmt: skip
