"""The tree is that of RFC 6962, and its signed statements are what tools for notes take."""

import base64
from collections.abc import Callable

import pytest

from chatproxy.crypto.keys import SigningSeed
from chatproxy.crypto.primitives import ed25519_public, ed25519_sign, sha256
from chatproxy.crypto.tlog import Checkpoint, NoteSigner, Tree, leaf_hash, read_checkpoint, verifier_key
from chatproxy.errors import UndecryptableError

SEED = bytes(range(32))
PUBLIC = ed25519_public(SEED)
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = {
    0: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}
"""The published test vectors of RFC 6962 implementations."""


@pytest.mark.parametrize("size", ROOTS)
def test_the_root_is_that_of_the_published_vectors(size: int) -> None:
    assert Tree().with_entries(LEAVES[:size]).root.hex() == ROOTS[size]


def recursive_root(entries: list[bytes]) -> bytes:
    """Return the root as RFC 6962 2.1 defines it."""
    if not entries:
        return sha256(b"")
    if len(entries) == 1:
        return leaf_hash(entries[0])
    split = 1
    while split * 2 < len(entries):
        split *= 2
    return sha256(b"\1" + recursive_root(entries[:split]) + recursive_root(entries[split:]))


@pytest.mark.parametrize("size", range(70))
def test_a_tree_that_grows_is_the_tree_of_the_definition(size: int) -> None:
    entries = [b"%d" % number for number in range(size)]
    assert Tree().with_entries(entries).root == recursive_root(entries)


def a_note(size: int = 3) -> str:
    return NoteSigner("log.example/1", SigningSeed(SEED)).sign(
        Checkpoint.of("log.example/1", Tree().with_entries(LEAVES[:size]))
    )


CHECKPOINT = a_note().partition("\n\n")[0] + "\n"


def test_a_checkpoint_has_the_form_of_the_standard() -> None:
    origin, size, root, gap, signature, end = a_note().split("\n")
    assert (origin, size, gap, end) == ("log.example/1", "3", "", "")
    assert len(base64.b64decode(root)) == 32
    assert signature.startswith("— log.example/1 ")
    blob = base64.b64decode(signature.rpartition(" ")[2])
    assert blob[:4] == sha256(b"log.example/1\n\1" + PUBLIC)[:4]
    assert verifier_key("log.example/1", PUBLIC).split("+")[1] == blob[:4].hex()


def test_a_checkpoint_is_read_back() -> None:
    assert read_checkpoint(a_note(), keys={"log.example/1": [b"x" * 32, PUBLIC]}) == Checkpoint.of(
        "log.example/1", Tree().with_entries(LEAVES[:3])
    )


def test_every_altered_character_is_found() -> None:
    note = a_note()
    for place, character in enumerate(note):
        other = "A" if character != "A" else "B"
        with pytest.raises(UndecryptableError):
            read_checkpoint(note[:place] + other + note[place + 1 :], keys={"log.example/1": [PUBLIC]})


@pytest.mark.parametrize("keys", [{}, {"log.example/1": [ed25519_public(b"1" * 32)]}, {"other": [PUBLIC]}])
def test_a_checkpoint_of_somebody_else_is_refused(keys: dict[str, list[bytes]]) -> None:
    with pytest.raises(UndecryptableError, match="checkpoint_signature"):
        read_checkpoint(a_note(), keys=keys)


def signed_as_it_is(text: str, spelled: Callable[[str], str] = str) -> str:
    """A note that we have signed, whatever it says, with its signature spelled otherwise."""
    signer = NoteSigner("log.example/1", SigningSeed(SEED))
    blob = base64.b64decode(signer.sign(Checkpoint("log.example/1", 0, bytes(32))).split()[-1])[:4]
    signature = base64.b64encode(blob + ed25519_sign(SEED, text.encode())).decode()
    return f"{text}\n— log.example/1 {spelled(signature)}\n"


@pytest.mark.parametrize(
    "note, reason",
    [
        pytest.param(a_note().partition("\n\n")[0] + "\n", "checkpoint_format", id="without a signature"),
        pytest.param(
            signed_as_it_is("log.example/1\n3\n"), "checkpoint_format", id="signed, but no checkpoint"
        ),
        pytest.param(
            signed_as_it_is(CHECKPOINT, lambda text: "=" + text), "checkpoint_signature", id="padded before"
        ),
        pytest.param(
            signed_as_it_is(CHECKPOINT, lambda text: text[:-1]), "checkpoint_signature", id="padding cut off"
        ),
        pytest.param(signed_as_it_is(CHECKPOINT, lambda _: "A"), "checkpoint_signature", id="not base64"),
        pytest.param(
            signed_as_it_is(CHECKPOINT, lambda text: text[:-4]), "checkpoint_signature", id="cut short"
        ),
    ],
)
def test_what_is_no_signed_checkpoint_is_refused(note: str, reason: str) -> None:
    with pytest.raises(UndecryptableError, match=reason):
        read_checkpoint(note, keys={"log.example/1": [PUBLIC]})


def test_a_note_that_was_signed_elsewhere_is_read() -> None:
    assert read_checkpoint(signed_as_it_is(CHECKPOINT), keys={"log.example/1": [PUBLIC]}).size == 3
