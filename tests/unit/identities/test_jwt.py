"""A token that verifies names its caller; any other names nobody, is counted by its reason, and raises nothing."""

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given, strategies as st

from chatproxy.identities.claims import ClaimNames
from chatproxy.identities.token import LONGEST
from chatproxy.identity import Identified, Rejected
from chatproxy.model import Age, Caller, Surface
from unit.identities.tokens import (
    ALGORITHMS,
    NOW,
    SECOND,
    PrivateKey,
    Published,
    Time,
    b64,
    claims,
    ec_key,
    ed_key,
    identify,
    identity,
    jwk,
    other_rsa_key,
    rsa_key,
    token,
    why,
)

NOBODY = Caller()
ALICE = Caller(tenant="acme", subject="alice", plan="pro")


@pytest.mark.parametrize("key", [rsa_key(), ec_key(), ed_key()], ids=["RS256", "ES256", "EdDSA"])
def test_a_token_that_verifies_names_its_caller(key: PrivateKey) -> None:
    assert identify(token(key=key), by=identity(Published(jwk(key)))) == Identified(ALICE)


def public_pem() -> bytes:
    return (
        rsa_key()
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def tampered() -> bytes:
    head, _, sign = token().split(b".")
    return b".".join((head, b64(json.dumps(claims(sub="bob")).encode()).encode(), sign))


def unsigned(alg: str) -> bytes:
    return token(alg=alg).rpartition(b".")[0] + b"."


def attackers_key(header: str) -> bytes:
    """A token signed with a key that it brings along, under the name of the issuer's."""
    bought = {"jwk": jwk(ed_key(1)), "jku": "https://evil.example/jwks", "x5u": "https://evil.example/x5u"}
    return token(key=ed_key(1), header={header: bought[header]})


def twice(name: str, *values: object) -> bytes:
    rest = json.dumps({key: value for key, value in claims().items() if key != name})[1:-1]
    return ("{" + "".join(f'"{name}": {json.dumps(value)}, ' for value in values) + rest + "}").encode()


SECONDS = NOW // 1000
BAD_TOKENS: dict[str, tuple[bytes, Rejected]] = {
    "no dots": (b"sk-live-0123456789abcdef", Rejected.MALFORMED),
    "two parts": (token().rpartition(b".")[0], Rejected.MALFORMED),
    "an encrypted token": (b"a.b.c.d.e", Rejected.MALFORMED),
    "dots alone": (b"..", Rejected.MALFORMED),
    "padding": (token() + b"==", Rejected.MALFORMED),
    "plain base64": (token().replace(b"-", b"+").replace(b"_", b"/") + b"/", Rejected.MALFORMED),
    "bits that are left over": (
        b64(b'{"alg":"EdDSA","kid":"k1"}x').encode()[:-1] + b"5.e30.",
        Rejected.MALFORMED,
    ),
    "not ASCII": (token().replace(b".", "é.".encode(), 1), Rejected.MALFORMED),
    "spare bits that are set": (token()[:-1] + bytes([token()[-1] + 1]), Rejected.MALFORMED),
    "white space inside": (token().replace(b".", b". "), Rejected.MALFORMED),
    "a header that is no object": (token(header=b"[]"), Rejected.MALFORMED),
    "a header in UTF-16": (token(header='{"alg":"EdDSA","kid":"k1"}'.encode("utf-16")), Rejected.MALFORMED),
    "a header with a byte order mark": (
        token(header=b'\xef\xbb\xbf{"alg":"EdDSA","kid":"k1"}'),
        Rejected.MALFORMED,
    ),
    "alg twice": (token(header=b'{"alg":"none","kid":"k1","alg":"EdDSA"}'), Rejected.MALFORMED),
    "alg that is no text": (token(alg=["EdDSA"]), Rejected.MALFORMED),
    "no alg": (token(alg=None), Rejected.MALFORMED),
    "kid that is no text": (token(kid=1), Rejected.MALFORMED),
    "crit": (token(crit=["exp"], exp=1), Rejected.MALFORMED),
    "an unencoded payload": (token(b64=False), Rejected.MALFORMED),
    "another kind of token": (token(typ="logout+jwt"), Rejected.MALFORMED),
    "a bottomless header": (b64(b"[" * 9000).encode() + b".e30.", Rejected.MALFORMED),
    "a huge token": (token(claims(padding="x" * LONGEST)), Rejected.MALFORMED),
    "alg none": (unsigned("none"), Rejected.ALGORITHM),
    "alg None": (unsigned("None"), Rejected.ALGORITHM),
    "alg empty": (unsigned(""), Rejected.ALGORITHM),
    "alg none with a signature": (token(alg="none"), Rejected.ALGORITHM),
    "HMAC with the public key": (token(key=public_pem(), alg="HS256", kid="rsa"), Rejected.ALGORITHM),
    "an algorithm that is not allowed": (token(alg="RS512"), Rejected.ALGORITHM),
    "no kid": (token(kid=None), Rejected.UNKNOWN_KEY),
    "an unknown kid": (token(kid="k2"), Rejected.UNKNOWN_KEY),
    "a kid that is a path": (token(kid="../../../../dev/null"), Rejected.UNKNOWN_KEY),
    "a kid that is a query": (token(kid="k1' OR '1'='1"), Rejected.UNKNOWN_KEY),
    "a kid of another algorithm": (token(kid="rsa"), Rejected.UNKNOWN_KEY),
    "another key": (token(key=ed_key(1)), Rejected.SIGNATURE),
    "another RSA key": (token(key=other_rsa_key(), kid="rsa"), Rejected.SIGNATURE),
    "a key in the header": (attackers_key("jwk"), Rejected.SIGNATURE),
    "a key's address in the header": (attackers_key("jku"), Rejected.SIGNATURE),
    "a certificate's address in the header": (attackers_key("x5u"), Rejected.SIGNATURE),
    "other claims": (tampered(), Rejected.SIGNATURE),
    "no signature": (unsigned("EdDSA"), Rejected.SIGNATURE),
    "an empty RSA signature": (
        token(key=rsa_key(), kid="rsa").rpartition(b".")[0] + b".",
        Rejected.SIGNATURE,
    ),
    "an ECDSA signature of zeros": (
        token(key=ec_key(), kid="ec").rpartition(b".")[0] + b"." + b64(bytes(64)).encode(),
        Rejected.SIGNATURE,
    ),
    "claims that are no object": (token(b"[1]"), Rejected.MALFORMED),
    "claims that are no JSON": (token(b"{"), Rejected.MALFORMED),
    "claims that are not UTF-8": (token(b'{"sub":"\xff"}'), Rejected.MALFORMED),
    "a claim twice": (token(twice("sub", "bob", "alice")), Rejected.MALFORMED),
    "a nested claim twice": (token(b'{"org":{"id":"a","id":"b"}}'), Rejected.MALFORMED),
    "NaN": (token(b'{"exp": NaN}'), Rejected.MALFORMED),
    "a number of 5000 digits": (token(b'{"exp": ' + b"9" * 5000 + b"}"), Rejected.MALFORMED),
    "bottomless claims": (token(b"[" * 9000), Rejected.MALFORMED),
    "no iss": (token(claims(iss=None)), Rejected.FOREIGN),
    "another iss": (token(claims(iss="https://login.example.com")), Rejected.FOREIGN),
    "iss as a list": (token(claims(iss=["https://login.example.com/"])), Rejected.FOREIGN),
    "no aud": (token(claims(aud=None)), Rejected.FOREIGN),
    "another aud": (token(claims(aud="chats")), Rejected.FOREIGN),
    "only other auds": (token(claims(aud=["a", "b"])), Rejected.FOREIGN),
    "no auds": (token(claims(aud=[])), Rejected.FOREIGN),
    "aud as an object": (token(claims(aud={"chat": True})), Rejected.FOREIGN),
    "aud inside lists": (token(claims(aud=[["chat"]])), Rejected.FOREIGN),
    "no exp": (token(claims(exp=None)), Rejected.CLAIMS),
    "exp as text": (token(claims(exp=str(SECONDS + 300))), Rejected.CLAIMS),
    "exp true": (token(claims(exp=True)), Rejected.CLAIMS),
    "exp null": (token(json.dumps({**claims(), "exp": None}).encode()), Rejected.CLAIMS),
    "exp infinite": (token(twice("exp").replace(b"{", b'{"exp": 1e999, ', 1)), Rejected.CLAIMS),
    "exp in milliseconds": (token(claims(exp=NOW + 300_000)), Rejected.CLAIMS),
    "exp negative": (token(claims(exp=-1)), Rejected.CLAIMS),
    "exp past": (token(claims(exp=SECONDS - 60)), Rejected.EXPIRED),
    "exp zero": (token(claims(exp=0)), Rejected.EXPIRED),
    "nbf ahead": (token(claims(nbf=SECONDS + 61)), Rejected.EARLY),
    "nbf as text": (token(claims(nbf="0")), Rejected.CLAIMS),
    "iat ahead": (token(claims(iat=SECONDS + 61)), Rejected.EARLY),
    "iat as a list": (token(claims(iat=[])), Rejected.CLAIMS),
    "no subject": (token(claims(sub=None)), Rejected.CLAIMS),
    "an empty subject": (token(claims(sub="")), Rejected.CLAIMS),
    "a subject that is a number": (token(claims(sub=7)), Rejected.CLAIMS),
    "a subject that is a list": (token(claims(sub=["alice"])), Rejected.CLAIMS),
    "a subject with a control character": (token(claims(sub="ali\nce")), Rejected.CLAIMS),
    "a subject with half a character": (token(claims(sub="\ud83d")), Rejected.CLAIMS),
    "a subject that reverses the text": (token(claims(sub="\u202eecila")), Rejected.CLAIMS),
    "a long subject": (token(claims(sub="é" * 129)), Rejected.CLAIMS),
    "no tenant": (token(claims(org=None)), Rejected.CLAIMS),
    "a tenant where no object is": (token(claims(org="acme")), Rejected.CLAIMS),
    "a tenant that is an object": (token(claims(org={"id": {"id": "acme"}})), Rejected.CLAIMS),
    "a plan that is a list": (token(claims(**{"https://example.com/plan": ["pro"]})), Rejected.CLAIMS),
    "a surface that is a number": (token(claims(surface=1)), Rejected.CLAIMS),
    "a conversation that is a number": (token(claims(thread=1)), Rejected.CLAIMS),
}


@pytest.mark.parametrize("text, reason", BAD_TOKENS.values(), ids=BAD_TOKENS.keys())
def test_a_token_that_does_not_verify_names_nobody(text: bytes, reason: str) -> None:
    keys = Published(jwk(ed_key()), jwk(rsa_key(), "rsa"), jwk(ec_key(), "ec"))

    identified = identify(text, by=identity(keys))

    assert (identified.caller, identified.rejected) == (NOBODY, reason)


GOOD_TOKENS: dict[str, tuple[bytes, Caller]] = {
    "typ of an access token": (token(typ="at+JWT"), ALICE),
    "no typ": (token(typ=None), ALICE),
    "a header it brings along that is not used": (token(jku="https://evil.example/"), ALICE),
    "several audiences": (token(claims(aud=["a", "chat"])), ALICE),
    "the second audience": (token(claims(aud="other")), ALICE),
    "exp just past, within the leeway": (token(claims(exp=SECONDS - 59)), ALICE),
    "exp with a fraction": (token(claims(exp=SECONDS + 0.5)), ALICE),
    "nbf just ahead, within the leeway": (token(claims(nbf=SECONDS + 60)), ALICE),
    "iat just ahead, within the leeway": (token(claims(iat=SECONDS + 60)), ALICE),
    "no iat": (token(claims(iat=None)), ALICE),
    "no plan": (
        token(claims(**{"https://example.com/plan": None})),
        Caller(tenant="acme", subject="alice"),
    ),
    "a subject of many scripts": (
        token(claims(sub="Ñandú 李")),
        Caller(tenant="acme", subject="Ñandú 李", plan="pro"),
    ),
    "everything": (
        token(claims(thread="t-1", surface="code", age="minor", org={"id": "acme", "zdr": True})),
        Caller(
            tenant="acme",
            subject="alice",
            plan="pro",
            conversation="t-1",
            surface=Surface.CODE,
            age=Age.MINOR,
            zdr=True,
        ),
    ),
    "words that are not known": (
        token(claims(surface="car", age="old")),
        Caller(tenant="acme", subject="alice", plan="pro", surface=Surface.UNKNOWN),
    ),
    "zdr as text": (
        token(claims(org={"id": "acme", "zdr": "no"})),
        Caller(tenant="acme", subject="alice", plan="pro", zdr=True),
    ),
    "zdr denied": (token(claims(org={"id": "acme", "zdr": False})), ALICE),
    "an age that is a list": (token(claims(age=["minor"])), ALICE),
}


@pytest.mark.parametrize("text, caller", GOOD_TOKENS.values(), ids=GOOD_TOKENS.keys())
def test_claims_are_mapped(text: bytes, caller: Caller) -> None:
    assert identify(text) == Identified(caller)


def test_a_claim_whose_name_has_dots_comes_before_a_path() -> None:
    by = identity(names=ClaimNames(tenant="a.b"))

    identified = identify(token(claims(**{"a.b": "whole", "a": {"b": "path"}})), by=by)

    assert identified.caller.tenant == "whole"


def test_a_tenant_that_is_not_mapped_is_the_default_one() -> None:
    identified = identify(token(), by=identity(names=ClaimNames()))

    assert identified == Identified(Caller(subject="alice"))


@pytest.mark.parametrize("change", [{"sub": None}, {"sub": 7}, {"thread": []}], ids=str)
def test_what_a_nameless_token_tightens_still_counts(change: dict[str, Any]) -> None:
    text = token(claims(org={"id": "acme", "zdr": True}, age="minor", **change))

    identified = identify(text)

    assert identified.caller == Caller(zdr=True, age=Age.MINOR)
    assert identified.rejected == Rejected.CLAIMS


HEADERS: dict[str, tuple[list[tuple[bytes, bytes]], Caller, str | None]] = {
    "nothing": ([], NOBODY, None),
    "an empty header": ([(b"authorization", b" ")], NOBODY, None),
    "another scheme": ([(b"authorization", b"Basic YTpi")], NOBODY, None),
    "a scheme without a token": ([(b"authorization", b"Bearer ")], NOBODY, None),
    "a token without a scheme": ([(b"authorization", token())], NOBODY, None),
    "a scheme in capitals": ([(b"authorization", b"BEARER  " + token() + b" ")], ALICE, None),
    "two tokens": (
        [(b"authorization", b"Bearer " + token()), (b"authorization", b"Bearer " + token(kid="k2"))],
        NOBODY,
        Rejected.REPEATED,
    ),
    "the token in another header": ([(b"x-token", token())], NOBODY, None),
}


@pytest.mark.parametrize("headers, caller, reason", HEADERS.values(), ids=HEADERS.keys())
def test_the_token_is_read_from_authorization(
    headers: list[tuple[bytes, bytes]], caller: Caller, reason: str | None
) -> None:
    identified = identity()(headers, None)

    assert (identified.caller, identified.rejected) == (caller, reason)


@pytest.mark.parametrize("scheme", [b"", b"Bearer ", b"bearer "])
def test_a_header_of_its_own_has_the_token_alone_or_after_bearer(scheme: bytes) -> None:
    by = identity(header=b"cf-access-jwt-assertion")
    headers = [(b"authorization", b"Bearer sk-upstream"), (b"cf-access-jwt-assertion", scheme + token())]

    assert by(headers, None) == Identified(ALICE)


def test_identity_headers_name_nobody_and_are_counted() -> None:
    headers = [(b"x-chat-subject", b"bob"), (b"x-chat-tenant", b"other"), (b"x-chat-auth", b"secret")]

    assert identity()(headers, "127.0.0.1") == Identified(NOBODY, Rejected.UNTRUSTED_PEER)
    assert identify(token(), *headers) == Identified(ALICE, Rejected.UNTRUSTED_PEER)
    assert identify(token(), (b"x_chat_subject", b"bob")) == Identified(ALICE, Rejected.MISSPELT)


SIGNALS = [(b"x-chat-incognito", b"?1"), (b"content-usage", b"train-ai=n"), (b"sec-gpc", b"1")]
TIGHTENED: dict[str, Any] = {"incognito": True, "train_ai_no": True, "gpc": True}


@pytest.mark.parametrize(
    "text, caller",
    [
        (token(), Caller(tenant="acme", subject="alice", plan="pro", **TIGHTENED)),
        (token(key=ed_key(1)), Caller(**TIGHTENED)),
        (token(claims(sub=None)), Caller(**TIGHTENED)),
    ],
    ids=["a good token", "a forged one", "a nameless one"],
)
def test_signals_that_tighten_count_whatever_the_token_is(text: bytes, caller: Caller) -> None:
    assert identify(text, *SIGNALS).caller == caller


def test_a_token_counts_until_its_end_and_no_longer() -> None:
    clock = Time()
    by = identity(clock=clock)
    text = token(claims(exp=SECONDS + 300))

    clock.now = NOW + 360 * SECOND - 1
    assert why(text, by=by) is None
    clock.now += 1
    assert why(text, by=by) == Rejected.EXPIRED
    clock.now -= 1
    assert why(text, by=by) is None


def test_a_token_does_not_count_before_its_start_though_it_was_verified() -> None:
    clock = Time()
    by = identity(clock=clock)
    text = token(claims(nbf=SECONDS))
    identify(text, by=by)

    clock.now = NOW - 61 * SECOND

    assert why(text, by=by) == Rejected.EARLY


def test_without_leeway_the_instant_of_expiry_is_too_late() -> None:
    assert why(token(claims(exp=SECONDS)), by=identity(leeway_ms=0)) == Rejected.EXPIRED
    assert why(token(claims(nbf=SECONDS)), by=identity(leeway_ms=0)) is None


def test_a_key_that_is_rolled_over_verifies_its_tokens_until_it_is_gone() -> None:
    old, new = ed_key(0), ed_key(1)
    keys = Published(jwk(old, "old"))
    by = identity(keys)
    of_old, of_new = token(key=old, kid="old"), token(key=new, kid="new")
    assert [why(text, by=by) for text in (of_old, of_new)] == [None, Rejected.UNKNOWN_KEY]

    keys.publish(jwk(old, "old"), jwk(new, "new"))
    assert [why(text, by=by) for text in (of_old, of_new)] == [None, None]

    keys.publish(jwk(new, "new"))
    assert [why(text, by=by) for text in (of_old, of_new)] == [Rejected.UNKNOWN_KEY, None]


def test_a_token_that_was_verified_stops_counting_when_another_key_takes_its_keys_name() -> None:
    keys = Published(jwk(ed_key(0)))
    by = identity(keys)
    assert why(token(), by=by) is None

    keys.publish(jwk(ed_key(1)))

    assert why(token(), by=by) == Rejected.SIGNATURE


def test_without_current_keys_no_token_counts_though_it_was_verified() -> None:
    keys = Published()
    by = identity(keys)
    assert identify(token(), by=by) == Identified(ALICE)

    keys.are_current = False

    assert why(token(), by=by) == Rejected.KEYS_UNAVAILABLE
    assert identify(token(claims(sub="bob")), by=by).caller == NOBODY


def test_an_algorithm_that_is_not_allowed_does_not_even_ask_for_its_key() -> None:
    keys = Published()

    identify(token(alg="HS256"), by=identity(keys, algorithms=ALGORITHMS))

    assert keys.asked == []


def test_how_many_verified_tokens_are_remembered_is_bounded() -> None:
    by = identity(remember=3)

    for number in range(10):
        assert identify(token(claims(sub=f"s{number}")), by=by).caller.subject == f"s{number}"

    assert len(by._verified) == 3


def test_tokens_that_are_over_are_forgotten() -> None:
    clock = Time()
    by = identity(clock=clock)
    identify(token(), by=by)

    clock.now += 361 * SECOND
    identify(token(claims(sub="bob", exp=SECONDS + 900)), by=by)

    assert [known.caller.subject for known in by._verified.values()] == ["bob"]


def test_two_tokens_are_never_taken_for_each_other() -> None:
    by = identity()

    for _ in range(2):
        for subject in ("alice", "bob"):
            assert identify(token(claims(sub=subject)), by=by).caller.subject == subject


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.binary(max_size=300) | st.text("abc.-_e30=", max_size=60).map(str.encode))
def test_garbage_names_nobody_and_raises_nothing(text: bytes) -> None:
    assert identify(text).caller == NOBODY


@given(st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk"]), json_values))
def test_no_header_raises(header: dict[str, Any]) -> None:
    identify(b64(json.dumps(header).encode()).encode() + b".e30.AAAA")


@given(
    st.dictionaries(
        st.sampled_from(["iss", "aud", "sub", "exp", "nbf", "iat", "org", "age", "surface", "thread"]),
        json_values,
    )
)
def test_no_claims_raise_though_they_are_signed(changes: dict[str, Any]) -> None:
    identified = identify(token(json.dumps({**claims(), **changes}).encode()))

    assert (identified.caller.subject is None) == (identified.rejected is not None)


@given(st.data())
def test_no_change_of_a_byte_keeps_a_token_good(data: st.DataObject) -> None:
    text = bytearray(token())
    place = data.draw(st.integers(0, len(text) - 1))
    text[place] = data.draw(st.integers(0, 255).filter(lambda byte: byte != text[place]))

    # White space at the ends is not of the token.
    assert identify(bytes(text)).caller == NOBODY or bytes(text).strip() != bytes(text)
