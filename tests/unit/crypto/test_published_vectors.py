"""Vectors that others have published (NIST CAVP, RFC 4231, RFC 5869, the authors of Ed25519), through our own primitives."""

import re
from collections.abc import Callable, Iterator

import cryptography_vectors
import pytest

from chatproxy.crypto.primitives import (
    BlockPermutation,
    KeyedHash,
    aes_gcm_decrypt,
    aes_gcm_encrypt,
    ed25519_public,
    ed25519_sign,
    ed25519_verify,
    hkdf_sha256,
    hmac_sha256,
    sha256,
)
from chatproxy.errors import UndecryptableError

Case = dict[str, str]
hex_ = bytes.fromhex


def lines_of(name: str) -> list[str]:
    with cryptography_vectors.open_vector_file(name, "r") as file:
        return [line.strip() for line in file]


def cases(name: str, **section: str) -> Iterator[Case]:
    """Cases of a file in NIST's form: ``[Name = value]`` holds for all below it; a name that comes again begins another."""
    of_section: Case = {}
    case: Case = {}
    for line in [*lines_of(name), "[END]"]:
        key, is_fact, value = (word.strip() for word in line.partition("="))
        found = re.fullmatch(r"\[(\w+)(?: = (\w+))?\]", line)
        if case and (found or key.upper() in case):
            if section.items() <= of_section.items():
                yield case
            case = {}
        if found:
            of_section[found[1]] = found[2] or ""
        elif line == "FAIL" or (is_fact and not line.startswith("#")):
            case[key.upper()] = value


OURS = {"IVlen": "96", "Taglen": "128"}


def gcm_seals(case: Case) -> None:
    key, nonce, aad, plaintext = (hex_(case[name]) for name in ("KEY", "IV", "AAD", "PT"))
    sealed = aes_gcm_encrypt(key, nonce=nonce, plaintext=plaintext, aad=aad)
    assert sealed == hex_(case["CT"] + case["TAG"])


def gcm_opens(case: Case) -> None:
    key, nonce, aad, sealed = (
        hex_(text) for text in (case["KEY"], case["IV"], case["AAD"], case["CT"] + case["TAG"])
    )
    if "FAIL" in case:
        with pytest.raises(UndecryptableError):
            aes_gcm_decrypt(key, nonce=nonce, ciphertext=sealed, aad=aad, reason="altered")
    else:
        opened = aes_gcm_decrypt(key, nonce=nonce, ciphertext=sealed, aad=aad, reason="never")
        assert opened == hex_(case["PT"])


def a_block_is_permuted(case: Case) -> None:
    permutation = BlockPermutation(hex_(case["KEY"]))
    block, permuted = hex_(case["PLAINTEXT"]), hex_(case["CIPHERTEXT"])
    assert permutation.forward(block) == permuted
    assert permutation.backward(permuted) == block


def hkdf_derives(case: Case) -> None:
    salt, info, size = hex_(case["SALT"]), hex_(case["INFO"]), int(case["L"])
    assert hkdf_sha256(hex_(case["IKM"]), salt=salt, info=info, size=size) == hex_(case["OKM"])


def hmac_authenticates(case: Case) -> None:
    assert hmac_sha256(hex_(case["KEY"]), hex_(case["MSG"])) == hex_(case["MD"])
    keyed = KeyedHash(hex_(case["KEY"]))
    for _ in range(2):
        assert keyed.of(hex_(case["MSG"])) == hex_(case["MD"])


def sha_digests(case: Case) -> None:
    message = hex_(case["MSG"])[: int(case["LEN"]) // 8]  # of an empty one the file has a byte
    assert sha256(message) == hex_(case["MD"])


@pytest.mark.parametrize(
    "name, section, check, number",
    [
        pytest.param("ciphers/AES/GCM/gcmEncryptExtIV256.rsp", OURS, gcm_seals, 375, id="gcm seals"),
        pytest.param("ciphers/AES/GCM/gcmDecrypt256.rsp", OURS, gcm_opens, 375, id="gcm opens"),
        pytest.param("ciphers/AES/ECB/ECBGFSbox256.rsp", {}, a_block_is_permuted, 10, id="block: S box"),
        pytest.param("ciphers/AES/ECB/ECBKeySbox256.rsp", {}, a_block_is_permuted, 32, id="block: key S box"),
        pytest.param("ciphers/AES/ECB/ECBVarKey256.rsp", {}, a_block_is_permuted, 512, id="block: keys"),
        pytest.param("ciphers/AES/ECB/ECBVarTxt256.rsp", {}, a_block_is_permuted, 256, id="block: blocks"),
        pytest.param("KDF/rfc-5869-HKDF-SHA256.txt", {}, hkdf_derives, 3, id="hkdf"),
        pytest.param("HMAC/rfc-4231-sha256.txt", {}, hmac_authenticates, 6, id="hmac"),
        pytest.param("hashes/SHA2/SHA256ShortMsg.rsp", {}, sha_digests, 65, id="sha-256, short"),
        pytest.param("hashes/SHA2/SHA256LongMsg.rsp", {}, sha_digests, 64, id="sha-256, long"),
    ],
)
def test_published_vectors(name: str, section: Case, check: Callable[[Case], None], number: int) -> None:
    found = list(cases(name, **section))
    for case in found:
        check(case)
    assert len(found) == number


def test_ed25519_signs_as_its_authors_did_and_takes_nothing_that_was_altered() -> None:
    found = [line.split(":") for line in lines_of("asymmetric/Ed25519/sign.input") if line]
    for number, (secret, public, message, signed, *_) in enumerate(found):
        seed, said = hex_(secret)[:32], hex_(message)
        signature = hex_(signed)[:64]
        assert ed25519_public(seed) == hex_(public)
        assert ed25519_sign(seed, said) == signature
        ed25519_verify(hex_(public), signature, said, reason="never")
        at = number % 64
        altered = signature[:at] + bytes([signature[at] ^ 1]) + signature[at + 1 :]
        for taken, of in ((altered, said), (signature, said + b"\0")):
            with pytest.raises(UndecryptableError, match="signature"):
                ed25519_verify(hex_(public), taken, of, reason="signature")
    assert len(found) == 1024


# RFC 8032, 5.1.7: S must be below the order of the group, else one signature has two spellings.
ORDER = 2**252 + 27742317777372353535851937790883648493


def test_ed25519_takes_one_spelling_of_a_signature_and_no_point_of_small_order() -> None:
    seed, message = bytes(range(32)), b"message"
    public, signature = ed25519_public(seed), ed25519_sign(seed, message)
    scalar = int.from_bytes(signature[32:], "little")
    again = signature[:32] + (scalar + ORDER).to_bytes(32, "little")
    identity = (1).to_bytes(32, "little")
    for key, taken in ((public, again), (public, bytes(64)), (public, signature[:63])):
        with pytest.raises(UndecryptableError):
            ed25519_verify(key, taken, message, reason="signature")
    with pytest.raises(UndecryptableError):
        ed25519_verify(public, identity + bytes(32), message, reason="signature")
