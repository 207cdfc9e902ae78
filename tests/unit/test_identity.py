"""Who a request is from, header by header."""

import ipaddress

import pytest

from chatproxy.errors import AmbiguousIdentityError
from chatproxy.identity import HeaderIdentity, Rejected
from chatproxy.model import Age, Caller, Surface

TRUSTED = HeaderIdentity(
    trusted_proxies=(ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8"))
)
PEER = "10.1.2.3"
ANA = (b"x-chat-subject", b"ana")


def test_a_trusted_peer_is_believed_in_every_field() -> None:
    headers = [
        ANA, (b"x-chat-plan", b"Pro"), (b"x-chat-conversation", b" c 1 "), (b"x-chat-tenant", b"acme"),
        (b"x-chat-surface", b"code"), (b"x-chat-age", b"adult"), (b"x-chat-zdr", b"?1"),
        (b"x-chat-incognito", b"?1"),
    ]  # fmt: skip
    found = TRUSTED(headers, PEER)
    assert found.rejected is None
    assert found.caller == Caller(
        tenant="acme", subject="ana", plan="pro", conversation="c 1", surface=Surface.CODE, age=Age.ADULT,
        zdr=True, incognito=True,
    )  # fmt: skip


def test_what_is_not_said_has_its_default() -> None:
    assert TRUSTED([ANA], PEER).caller == Caller(subject="ana")


@pytest.mark.parametrize(
    "peer",
    ["11.0.0.1", None, "", "unix", "10.0.0.1.example", "::1", "::ffff:11.0.0.1"],
    ids=repr,
)
def test_any_other_peer_is_nobody(peer: str | None) -> None:
    found = TRUSTED([ANA, (b"x-chat-plan", b"pro")], peer)
    assert found.caller == Caller()
    assert found.rejected is Rejected.UNTRUSTED_PEER


@pytest.mark.parametrize("peer", ["10.0.0.0", "10.255.255.255", "::ffff:10.0.0.1", "fd00::1"])
def test_a_listed_peer_is_believed_however_its_address_is_written(peer: str) -> None:
    assert TRUSTED([ANA], peer).caller.subject == "ana"


def test_without_any_trust_nobody_is_believed() -> None:
    assert HeaderIdentity()([ANA], "127.0.0.1").rejected is Rejected.UNTRUSTED_PEER


def test_nothing_is_rejected_where_nothing_was_claimed() -> None:
    assert HeaderIdentity()([(b"accept", b"*/*"), (b"x-chat-incognito", b"?1")], None).rejected is None


@pytest.mark.parametrize(
    "sent, is_believed",
    [
        ([b"one"], True),
        ([b"two"], True),
        ([b"on"], False),
        ([b"one "], False),
        ([b"one,two"], False),
        ([], False),
    ],
    ids=["one", "two", "a part", "with white space", "both", "none"],
)
def test_the_secret_is_one_of_the_known_ones_exactly(sent: list[bytes], is_believed: bool) -> None:
    identify = HeaderIdentity(secrets=("one", "two"))
    found = identify([ANA, *((b"x-chat-auth", value) for value in sent)], None)
    assert (found.caller.subject == "ana") is is_believed
    assert (found.rejected is Rejected.BAD_SECRET) is not is_believed


def test_a_secret_may_be_longer_than_what_is_said_of_a_person() -> None:
    found = HeaderIdentity(secrets=("s" * 300,))([ANA, (b"x-chat-auth", b"s" * 300)], None)
    assert found.caller.subject == "ana"


def test_a_secret_sent_twice_by_who_has_it_is_ambiguous() -> None:
    identify = HeaderIdentity(secrets=("one",))
    with pytest.raises(AmbiguousIdentityError):
        identify([ANA, (b"x-chat-auth", b"one"), (b"x-chat-auth", b"two")], None)


@pytest.mark.parametrize(
    "name, value",
    [
        (b"x-chat-subject", b"x" * 257),
        (b"x-chat-subject", b"\xff"),
        (b"x-chat-tenant", b"a\xc2\x85b"),
        (b"x-chat-conversation", "a\u202eb".encode()),
        (b"x-chat-plan", b"a\tb"),
        (b"x-chat-age", b"\xff"),
    ],
    ids=["long", "not UTF-8", "control", "bidirectional", "tab", "in any field"],
)
def test_what_a_trusted_peer_says_unclearly_is_refused_without_repeating_it(
    name: bytes, value: bytes
) -> None:
    with pytest.raises(AmbiguousIdentityError) as refused:
        TRUSTED([(name, value)], PEER)
    assert name.decode() in str(refused.value)
    assert "xxx" not in str(refused.value)


@pytest.mark.parametrize(
    "value, age",
    [
        (b"minor", Age.MINOR),
        (b"MINOR", Age.MINOR),
        (b" Minor ", Age.MINOR),
        (b"child", Age.UNKNOWN),
        (b"", Age.UNKNOWN),
    ],
)
def test_a_minor_is_a_minor_however_it_is_written(value: bytes, age: Age) -> None:
    assert TRUSTED([ANA, (b"x-chat-age", value)], PEER).caller.age is age


@pytest.mark.parametrize("value", [b"?1", b"?1;x", b"true", b"", b"?2", b"1"])
def test_zero_data_retention_holds_unless_it_is_plainly_denied(value: bytes) -> None:
    assert TRUSTED([ANA, (b"x-chat-zdr", value)], PEER).caller.zdr
    assert not TRUSTED([ANA, (b"x-chat-zdr", b"?0")], PEER).caller.zdr


def test_incognito_said_twice_holds_if_either_says_so() -> None:
    headers = [(b"x-chat-incognito", b"?1"), (b"x-chat-incognito", b"?0")]
    assert HeaderIdentity()(headers, None).caller.incognito
    assert HeaderIdentity()(headers[::-1], None).caller.incognito
    assert not HeaderIdentity()(headers[1:], None).caller.incognito


@pytest.mark.parametrize(
    "value, denies",
    [
        (b"train-ai=n", True), (b"TRAIN-AI=N", True), (b"train-ai", True), (b"train-ai=?0", True),
        (b"train-ai=y", False), (b"search=n", False), (b"search=y, train-ai=n", True), (b"train-ai=y, train-ai=n", True),
        (b"train-ai=n;x=1", True), (b"train-ai = n", True), (b"", False), (b"train-ai-x=n", False),
    ],
)  # fmt: skip
def test_content_usage_denies_training_by_anything_but_a_plain_yes(value: bytes, denies: bool) -> None:
    assert HeaderIdentity()([(b"content-usage", value)], None).caller.train_ai_no is denies


@pytest.mark.parametrize("value, is_set", [(b"1", True), (b" 1 ", True), (b"0", False), (b"", False)])
def test_gpc_is_set_by_1_alone(value: bytes, is_set: bool) -> None:
    assert HeaderIdentity()([(b"sec-gpc", value)], None).caller.gpc is is_set


def test_underscores_are_no_hyphens() -> None:
    found = TRUSTED([(b"x_chat_subject", b"ana"), (b"x-chat_plan", b"pro")], PEER)
    assert found.caller == Caller()
    assert found.rejected is Rejected.MISSPELT


def test_no_id_is_in_the_repr_of_a_caller() -> None:
    headers = [
        (b"x-chat-subject", b"canary"),
        (b"x-chat-conversation", b"canary"),
        (b"x-chat-tenant", b"canary"),
    ]
    assert "canary" not in repr(TRUSTED(headers, PEER))


def test_many_peers_do_not_fill_the_memory() -> None:
    identify = HeaderIdentity(trusted_proxies=(ipaddress.ip_network("10.0.0.1"),))
    for number in range(10_050):
        identify([ANA], str(ipaddress.ip_address(number)))
    assert len(identify._trust_by_peer) <= 10_000
    assert identify([ANA], "10.0.0.1").caller.subject == "ana"
