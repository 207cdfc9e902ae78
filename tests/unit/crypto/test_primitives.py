"""The primitives are the ones they are called: published test vectors, and the second implementation."""

import pytest

from chatproxy.crypto.primitives import (
    BlockPermutation,
    aes_gcm_decrypt,
    aes_gcm_encrypt,
    are_equal,
    ed25519_public,
    ed25519_sign,
    ed25519_verify,
    hkdf_sha256,
    hmac_sha256,
    random_bytes,
    sha256,
)
from chatproxy.errors import UndecryptableError
from vectors.testkit import independent as second

hex_ = bytes.fromhex


def test_hkdf_gives_rfc_5869_case_1() -> None:
    out = hkdf_sha256(
        b"\x0b" * 22, salt=hex_("000102030405060708090a0b0c"), info=hex_("f0f1f2f3f4f5f6f7f8f9"), size=42
    )

    assert out == hex_("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865")


def test_hkdf_gives_rfc_5869_case_3_without_salt_and_info() -> None:
    assert hkdf_sha256(b"\x0b" * 22, salt=b"", info=b"", size=42) == hex_(
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
    )


def test_hmac_gives_rfc_4231_case_2() -> None:
    assert hmac_sha256(b"Jefe", b"what do ya want for nothing?") == hex_(
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    )


def test_sha256_gives_fips_180() -> None:
    assert sha256(b"abc") == hex_("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")


def test_a_block_is_permuted_as_fips_197_says() -> None:
    permutation = BlockPermutation(bytes(range(32)))
    block = hex_("00112233445566778899aabbccddeeff")

    assert permutation.forward(block) == hex_("8ea2b7ca516745bfeafc49904b496089")
    assert permutation.backward(permutation.forward(block)) == block


@pytest.mark.parametrize("size", [0, 1, 16, 100])
def test_gcm_agrees_with_the_second_implementation(size: int) -> None:
    key, nonce, plaintext, aad = random_bytes(32), random_bytes(12), random_bytes(size), random_bytes(size)

    sealed = aes_gcm_encrypt(key, nonce=nonce, plaintext=plaintext, aad=aad)

    assert sealed == second.gcm(key, nonce, plaintext, aad)
    assert aes_gcm_decrypt(key, nonce=nonce, ciphertext=sealed, aad=aad, reason="never") == plaintext


def test_gcm_names_the_reason_that_its_caller_gave() -> None:
    with pytest.raises(UndecryptableError, match="cannot be opened: some_tag"):
        aes_gcm_decrypt(bytes(32), nonce=bytes(12), ciphertext=bytes(16), aad=b"", reason="some_tag")


def test_ed25519_gives_rfc_8032_test_2() -> None:
    seed = hex_("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    public = hex_("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")

    signature = ed25519_sign(seed, b"\x72")

    assert ed25519_public(seed) == public
    assert signature == hex_(
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    ed25519_verify(public, signature, b"\x72", reason="never")


@pytest.mark.parametrize(
    "public_change, signature_change, message",
    [
        pytest.param(b"", b"", b"other", id="another message"),
        pytest.param(b"", b"\0", b"message", id="longer signature"),
        pytest.param(b"\0", b"", b"message", id="no public key"),
    ],
)
def test_a_signature_that_does_not_fit_is_refused(
    public_change: bytes, signature_change: bytes, message: bytes
) -> None:
    seed = bytes(range(32))
    with pytest.raises(UndecryptableError, match="receipt_signature"):
        ed25519_verify(
            ed25519_public(seed) + public_change,
            ed25519_sign(seed, b"message") + signature_change,
            message,
            reason="receipt_signature",
        )


def test_random_bytes_are_as_many_as_asked_for_and_new() -> None:
    assert len(random_bytes(24)) == 24
    assert random_bytes(32) != random_bytes(32)


def test_equality() -> None:
    assert are_equal(b"abc", b"abc")
    assert not are_equal(b"abc", b"abd")
    assert not are_equal(b"abc", b"ab")
