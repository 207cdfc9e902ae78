"""Which keys of a JWK Set verify anything, and for which algorithms."""

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given, strategies as st

from chatproxy.identities.jwk import ALGORITHMS, UnreadableKeySetError, read_key_set
from chatproxy.identities.unproved import UnprovedError
from unit.identities.tokens import b64, ec_key, ed_key, jwk, jwks, number, rsa_key, signature

DEFAULT = frozenset(("RS256", "ES256", "EdDSA"))


def test_no_symmetric_algorithm_and_not_none_can_be_allowed() -> None:
    assert not [name for name in ALGORITHMS if name.startswith("HS") or name.lower() == "none"]


def without(key: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in key.items() if name not in names}


USABLE: dict[str, tuple[dict[str, Any], set[str]]] = {
    "RSA": (jwk(rsa_key()), {"RS256"}),
    "EC": (jwk(ec_key()), {"ES256"}),
    "Ed25519": (jwk(ed_key()), {"EdDSA"}),
    "for signatures": (jwk(ec_key(), use="sig"), {"ES256"}),
    "for verifying": (jwk(ec_key(), key_ops=["verify"]), {"ES256"}),
    "for its algorithm": (jwk(rsa_key(), alg="RS256"), {"RS256"}),
    "with a certificate": (jwk(rsa_key(), x5c=[1], x5u="nowhere", x5t="?"), {"RS256"}),
    "with members not known": (jwk(ec_key(), exp=5, issuer=["x"]), {"ES256"}),
}


@pytest.mark.parametrize("key, algorithms", USABLE.values(), ids=USABLE.keys())
def test_a_public_key_serves_its_algorithms(key: dict[str, Any], algorithms: set[str]) -> None:
    found = read_key_set(jwks(key), algorithms=DEFAULT)

    assert set(found.keys) == {("k1", algorithm) for algorithm in algorithms}
    assert found.skipped == 0


def test_a_key_without_an_algorithm_serves_each_that_is_allowed_and_fits() -> None:
    found = read_key_set(jwks(jwk(rsa_key())), algorithms=ALGORITHMS)

    assert {name for _, name in found.keys} == {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}


SKIPPED: dict[str, object] = {
    "no object": "key",
    "null": None,
    "no kty": without(jwk(ec_key()), "kty"),
    "another kty": jwk(ec_key(), kty="AKP"),
    "kty as a list": jwk(ec_key(), kty=["EC"]),
    "no kid": without(jwk(ec_key()), "kid"),
    "kid as a number": jwk(ec_key(), kid=1),
    "a secret": {"kty": "oct", "kid": "k1", "k": b64(b"s" * 32), "alg": "HS256"},
    "a secret that says RS256": {"kty": "oct", "kid": "k1", "k": b64(b"s" * 32), "alg": "RS256"},
    "a private key": jwk(ec_key(), d=b64(b"1" * 32)),
    "for encryption": jwk(rsa_key(), use="enc"),
    "for another use": jwk(rsa_key(), use="tls"),
    "use as a list": jwk(rsa_key(), use=["sig"]),
    "for signing alone": jwk(rsa_key(), key_ops=["sign"]),
    "key_ops as text": jwk(rsa_key(), key_ops="verify"),
    "for another algorithm": jwk(rsa_key(), alg="RS512"),
    "for an algorithm of another type": jwk(rsa_key(), alg="ES256"),
    "for an encryption algorithm": jwk(rsa_key(), alg="RSA-OAEP"),
    "another curve": jwk(ec.derive_private_key(9, ec.SECP384R1())),
    "a curve not known": jwk(ec_key(), crv="P-999"),
    "a point off the curve": jwk(ec_key(), y=number(5, 32)),
    "no point": without(jwk(ec_key()), "x"),
    "an Ed25519 key that is too short": jwk(ed_key(), x=b64(b"short")),
    "an X25519 key": jwk(ed_key(), crv="X25519"),
    "no modulus": without(jwk(rsa_key()), "n"),
    "an even exponent": jwk(rsa_key(), e=number(4)),
    "a huge exponent": jwk(rsa_key(), e=number(2**64 + 1)),
    "a huge modulus": jwk(rsa_key(), n=b64(b"\xff" * 2049)),
    "a modulus with padding": jwk(rsa_key(), n=jwk(rsa_key())["n"] + "=="),
    "a modulus that is no number": jwk(rsa_key(), n="ñ" * 400),
    "RSA of 1024 bits": jwk(rsa.generate_private_key(65537, 1024)),  # noqa: S505 - what is tested
    "RSA of 1024 bits, written longer": jwk(rsa_key(), n=b64(bytes(200) + b"\xff" * 128)),
}


@pytest.mark.parametrize("key", SKIPPED.values(), ids=SKIPPED.keys())
def test_a_key_that_must_not_be_used_is_skipped_and_the_rest_is_not(key: object) -> None:
    found = read_key_set(jwks(key, jwk(ed_key(), "good")), algorithms=DEFAULT)

    assert set(found.keys) == {("good", "EdDSA")}
    assert found.skipped == 1


def test_of_two_keys_of_one_name_the_first_counts() -> None:
    found = read_key_set(jwks(jwk(ed_key(0)), jwk(ed_key(1))), algorithms=DEFAULT)
    first = read_key_set(jwks(jwk(ed_key(0))), algorithms=DEFAULT)

    assert found.keys == first.keys
    assert found.skipped == 1


def test_keys_of_two_types_may_share_a_name() -> None:
    found = read_key_set(jwks(jwk(rsa_key()), jwk(ec_key())), algorithms=DEFAULT)

    assert set(found.keys) == {("k1", "RS256"), ("k1", "ES256")}


def test_the_same_key_read_again_is_equal_and_another_is_not() -> None:
    sets = [
        read_key_set(jwks(jwk(key)), algorithms=DEFAULT).keys for key in (ec_key(0), ec_key(0), ec_key(1))
    ]

    assert sets[0] == sets[1] != sets[2]


UNREADABLE = {
    "nothing": b"",
    "a page": b"<!doctype html><title>Sign in</title>",
    "a list": b"[]",
    "no keys": b"{}",
    "keys as an object": b'{"keys": {}}',
    "keys null": b'{"keys": null}',
    "cut short": jwks(jwk(ec_key()))[:-5],
    "not UTF-8": b'{"keys": ["\xff"]}',
    "bottomless": b'{"keys":' + b"[" * 100_000,
    "two texts": jwks() + jwks(),
}


@pytest.mark.parametrize("text", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_what_is_no_key_set_is_refused_whole(text: bytes) -> None:
    with pytest.raises(UnreadableKeySetError):
        read_key_set(text, algorithms=DEFAULT)


def test_a_set_may_be_empty() -> None:
    assert not read_key_set(jwks(), algorithms=DEFAULT).keys


@pytest.mark.parametrize("which", [rsa_key, ec_key, ed_key], ids=["RS256", "ES256", "EdDSA"])
def test_a_key_verifies_its_own_signatures_alone(which: Any) -> None:
    own = which()
    (key,) = read_key_set(jwks(jwk(own)), algorithms=DEFAULT).keys.values()
    good = signature(own, key.algorithm, b"message")

    key.require_signature(b"message", good)
    for message, wrong in [
        (b"massage", good),
        (b"message", good[:-1]),
        (b"message", good + b"\0"),
        (b"message", b""),
    ]:
        with pytest.raises(UnprovedError):
            key.require_signature(message, wrong)


def test_a_key_shows_no_material() -> None:
    (key,) = read_key_set(jwks(jwk(ec_key())), algorithms=DEFAULT).keys.values()

    assert repr(key) == "VerifyingKey(algorithm='ES256')"


values = (
    st.none()
    | st.integers()
    | st.text()
    | st.sampled_from(["RSA", "EC", "OKP", "P-256", "Ed25519", "sig", "AQAB"])
)


@given(
    st.sampled_from([jwk(rsa_key()), jwk(ec_key()), jwk(ed_key())]),
    st.dictionaries(
        st.sampled_from(["kty", "kid", "use", "key_ops", "alg", "n", "e", "crv", "x", "y"]),
        values | st.lists(values) | st.dictionaries(st.text(), values),
    ),
)
def test_no_key_raises(key: dict[str, Any], changes: dict[str, Any]) -> None:
    found = read_key_set(json.dumps({"keys": [{**key, **changes}]}).encode(), algorithms=ALGORITHMS)

    assert bool(found.keys) != bool(found.skipped)
