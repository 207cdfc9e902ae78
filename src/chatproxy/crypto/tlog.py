"""A log that cannot be rewritten unseen: a Merkle tree over its entries, and signed statements of its root.

1. The tree is that of RFC 6962 (2.1): a leaf is SHA-256 of a zero byte and the entry, a node that of a one byte and
   its two children. It is kept as its *frontier*: the roots of the full subtrees, the largest first, as many as the
   number of entries has bits that are 1. Adding an entry costs a handful of hashes, at any size.
2. A *checkpoint* states size and root in the form of C2SP tlog-checkpoint, signed as a C2SP signed note, so that
   tools that know these can check it without us.
3. What was rewritten, cut off or rolled back does not fit a checkpoint that somebody else has kept.
"""

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from chatproxy.crypto.keys import SigningSeed
from chatproxy.crypto.primitives import ed25519_public, ed25519_sign, ed25519_verify, sha256
from chatproxy.errors import UndecryptableError

_LEAF, _NODE = b"\0", b"\1"
_ED25519 = b"\1"
"""The signature type of the note format."""
_KEY_HASH_SIZE = 4
_SIGNATURE_SIZE = 64
_CHECKPOINT = re.compile(r"([^\n+ ]+)\n(0|[1-9][0-9]{0,18})\n([A-Za-z0-9+/]{43}=)\n")
_SIGNATURE = re.compile("— ([^\\n+ ]+) ([A-Za-z0-9+/=]+)\n")


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of one entry."""
    return sha256(_LEAF + entry)


@dataclass(frozen=True, slots=True)
class Tree:
    """The tree over *size* entries, as its frontier."""

    size: int = 0
    frontier: tuple[bytes, ...] = ()

    def with_entry(self, entry: bytes) -> "Tree":
        """Return the tree with one more entry."""
        frontier, node, size = list(self.frontier), leaf_hash(entry), self.size
        while size & 1:
            node = sha256(_NODE + frontier.pop() + node)
            size >>= 1
        return Tree(self.size + 1, (*frontier, node))

    def with_entries(self, entries: Iterable[bytes]) -> "Tree":
        """Return the tree with more entries, in order."""
        tree = self
        for entry in entries:
            tree = tree.with_entry(entry)
        return tree

    @property
    def root(self) -> bytes:
        """Return the root; that of no entry is the hash of nothing."""
        if not self.frontier:
            return sha256(b"")
        *others, root = self.frontier
        for node in reversed(others):
            root = sha256(_NODE + node + root)
        return root


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a signed statement says: the log *origin* had *size* entries, with this root."""

    origin: str
    size: int
    root: bytes = field(repr=False)

    @classmethod
    def of(cls, origin: str, tree: Tree) -> "Checkpoint":
        """State what *tree* is."""
        return cls(origin, tree.size, tree.root)

    def text(self) -> str:
        """Return the body of the note."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


@dataclass(frozen=True, slots=True)
class NoteSigner:
    """Signs notes as *name*. A name has neither spaces nor plus signs."""

    name: str
    seed: SigningSeed = field(repr=False)

    def sign(self, checkpoint: Checkpoint) -> str:
        """Return the signed note."""
        text = checkpoint.text()
        public = ed25519_public(self.seed.reveal())
        signature = ed25519_sign(self.seed.reveal(), text.encode())
        return (
            f"{text}\n— {self.name} {base64.b64encode(_key_hash(self.name, public) + signature).decode()}\n"
        )


def verifier_key(name: str, public: bytes) -> str:
    """Return the public half as tools for notes take it: name, hash and key."""
    key = base64.b64encode(_ED25519 + public).decode()
    return f"{name}+{_key_hash(name, public).hex()}+{key}"


def read_checkpoint(note: str, *, keys: Mapping[str, Sequence[bytes]]) -> Checkpoint:
    """Return what a signed note states. *keys*: the public keys of each name, one of which must have signed.

    Raises UndecryptableError: checkpoint_format, checkpoint_signature.
    """
    text, gap, signatures = note.partition("\n\n")
    match = _CHECKPOINT.fullmatch(text + "\n")
    if match is None or not gap:
        raise UndecryptableError("checkpoint_format")
    for line in signatures.splitlines(keepends=True):
        signed = _SIGNATURE.fullmatch(line)
        if signed is None:
            raise UndecryptableError("checkpoint_format")
        for public in keys.get(signed[1], ()):
            if _is_signed(text + "\n", signed[1], signed[2], public):
                return Checkpoint(match[1], int(match[2]), base64.b64decode(match[3]))
    raise UndecryptableError("checkpoint_signature")


def _is_signed(text: str, name: str, encoded: str, public: bytes) -> bool:
    try:
        blob = base64.b64decode(encoded, validate=True)
    except ValueError:
        return False
    key_hash, signature = blob[:_KEY_HASH_SIZE], blob[_KEY_HASH_SIZE:]
    if key_hash != _key_hash(name, public) or len(signature) != _SIGNATURE_SIZE:
        return False
    try:
        ed25519_verify(public, signature, text.encode(), reason="checkpoint_signature")
    except UndecryptableError:
        return False
    return True


def _key_hash(name: str, public: bytes) -> bytes:
    """Return the first bytes of a hash that tell keys of one name apart (C2SP signed-note)."""
    return sha256(name.encode() + b"\n" + _ED25519 + public)[:_KEY_HASH_SIZE]
