"""What does the company's consent service say of a person? Its answer, read strictly: all of it is understood, or none.

An answer is believed if it is signed for this very question, is about the person asked about, and is a history that
can be true. Whatever is not so raises ConsentSourceError, and then it is as if there had been no answer: a word that is
not known may mean anything, so it neither permits nor ends anything.
"""

import json
import re
from collections.abc import Sequence
from typing import Annotated

import msgspec

from chatproxy.consent.events import Choice
from chatproxy.crypto.primitives import are_equal, hmac_sha256
from chatproxy.errors import ConsentSourceError
from chatproxy.policy.instants import parse_instant
from chatproxy.ports import StatedChoice
from chatproxy.unshown import Unshown

SIGNATURE_HEADER = "X-Consent-Signature"
_PREFIX = "sha256="
_MOST_CHOICES = 200
_LEEWAY_MS = 60_000
"""How far the service's clock may be ahead."""
_WORDS = frozenset(Choice)
_RECEIPT = re.compile(r"[A-Za-z0-9_-]{1,64}")

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]


class _Choice(msgspec.Struct):
    id: _Name
    state: str
    at: str
    purposes: list[str] = []
    surfaces: list[str] = []
    policy_version: _Name | None = None
    receipt: str | None = None


class _Answer(Unshown, frozen=True):
    tenant: str
    subject: str
    choices: list[_Choice]


_decode = msgspec.json.Decoder(_Answer).decode


def question(*, tenant: str, subject: str, nonce: str) -> bytes:
    """Return the body of the request. ``nonce``: never used before, so that no older answer fits."""
    return json.dumps({"tenant": tenant, "subject": subject, "nonce": nonce}).encode()


def sign(body: bytes, *, nonce: str, secret: str) -> str:
    """Return the signature of an answer: HMAC-SHA256 over the nonce, which has a fixed length, and the body."""
    return _PREFIX + hmac_sha256(secret.encode(), nonce.encode() + body).hex()


def require_signature(body: bytes, signature: str | None, *, nonce: str, secrets: Sequence[str]) -> None:
    """Raise ConsentSourceError unless *signature* is of one of *secrets*."""
    given = (signature or "").encode()
    if not any(are_equal(sign(body, nonce=nonce, secret=secret).encode(), given) for secret in secrets):
        raise ConsentSourceError("signature")


def read_answer(body: bytes, *, tenant: str, subject: str, now: int) -> tuple[StatedChoice, ...]:
    """Return every choice, oldest first. ``now`` in ms. Raises ConsentSourceError."""
    try:
        answer = _decode(body)
        choices = tuple(_stated(choice, subject) for choice in answer.choices)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise ConsentSourceError("malformed") from None
    if (answer.tenant, answer.subject) != (tenant, subject):
        raise ConsentSourceError("another_person")
    if len(choices) > _MOST_CHOICES or len({choice.ident for choice in choices}) != len(choices):
        raise ConsentSourceError("malformed")
    if any(choice.state not in _WORDS for choice in choices):
        raise ConsentSourceError("unknown_state")
    times = [choice.at for choice in choices]
    if times != sorted(times):
        raise ConsentSourceError("out_of_order")
    if times and times[-1] > now + _LEEWAY_MS:
        raise ConsentSourceError("future")
    return choices


def _stated(choice: _Choice, subject: str) -> StatedChoice:
    receipt = choice.receipt
    if receipt is not None and not _RECEIPT.fullmatch(receipt):
        raise ValueError("not the form of a receipt")
    if receipt is not None and subject.casefold() in receipt.casefold():
        receipt = None  # it would be stored as it is, and ids of people never are
    return StatedChoice(
        ident=choice.id,
        state=choice.state,
        at=parse_instant(choice.at),
        purposes=tuple(choice.purposes),
        surfaces=tuple(choice.surfaces),
        policy_version=choice.policy_version,
        receipt=receipt,
    )
