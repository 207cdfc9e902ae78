"""Pseudonyms: under which names are people and conversations known inside? Keyed ones (security B2).

1. Tags are keyed hashes. Whoever has the store but not the key can neither find a known person nor guess one.
2. ``subject_tag`` uses the pseudonym key itself, as the design says. Everything else has a key derived from it
   for that use alone, so no output of one use is an output of another.
3. Hashes of messages have a key per subject: equal words of two people do not look equal.
4. A handle is what is shown in a listing and in ``X-Chat-Turn``. It resolves without a look-up, and only with the
   key: 32 bytes, ``P(tag XOR id) || id``, P a secret permutation (AES on one block). Ids differ, so the inputs of
   P differ, so what two handles have in common tells nothing: two turns of one person look like two strangers'.
   A handle is a name, not a permission. One that was tampered with names a turn that nobody has.
"""

import base64
from collections.abc import Callable

from chatproxy.crypto.dataset_names import DatasetNames
from chatproxy.crypto.encoding import lps
from chatproxy.crypto.keys import PseudonymKey
from chatproxy.crypto.primitives import (
    BLOCK_SIZE,
    KEY_SIZE,
    BlockPermutation,
    KeyedHash,
    RandomSource,
    hkdf_sha256,
    random_bytes,
)
from chatproxy.errors import NotFoundError, StoreUnavailableError
from chatproxy.model import ConversationTag, SubjectTag, TurnId

_TAG_SIZE = 16
_TURN_PREFIX = "t_"
_CONVERSATION_PREFIX = "c_"


def stray_tag(random: RandomSource = random_bytes) -> SubjectTag:
    """Return a fresh pseudonym for a conversation of nobody (unknown identity)."""
    return SubjectTag(random(_TAG_SIZE))


class _Keys:
    """The pseudonym key, and what is derived from it for each use."""

    __slots__ = (
        "choices",
        "conversation_handles",
        "conversations",
        "datasets",
        "history",
        "records",
        "subjects",
        "turn_handles",
        "turns",
    )

    def __init__(self, key: PseudonymKey) -> None:
        self.subjects = KeyedHash(key.reveal(), size=_TAG_SIZE)
        self.conversations = KeyedHash(_derive(key, b"conversation"), size=_TAG_SIZE)
        self.choices = KeyedHash(_derive(key, b"choice"), size=_TAG_SIZE)
        self.datasets = KeyedHash(_derive(key, b"dataset"))
        self.history = KeyedHash(_derive(key, b"history"))
        self.turns = KeyedHash(_derive(key, b"turn"), size=_TAG_SIZE)
        self.records = KeyedHash(_derive(key, b"record"), size=_TAG_SIZE)
        self.turn_handles = BlockPermutation(_derive(key, b"turn handle"))
        self.conversation_handles = BlockPermutation(_derive(key, b"conversation handle"))


class Pseudonymizer:
    """Makes and reads everything that is named under the pseudonym key.

    Before the key is known, as long as a provider does not answer, all of it raises StoreUnavailableError.
    """

    __slots__ = ("_known",)

    def __init__(self, key: PseudonymKey | None = None) -> None:
        """Without a *key*: not known yet, until ``use``."""
        self._known = _Keys(key) if key is not None else None

    def use(self, key: PseudonymKey) -> None:
        """Work with *key* from now on."""
        self._known = _Keys(key)

    @property
    def is_known(self) -> bool:
        """Whether the key is known."""
        return self._known is not None

    @property
    def _keys(self) -> _Keys:
        if self._known is None:
            raise StoreUnavailableError("the pseudonym key is not known yet")
        return self._known

    def subject_tag(self, *, tenant: str, subject: str) -> SubjectTag:
        """Return the pseudonym of the company's id *subject* within *tenant*: the same for ever."""
        message = lps(_text(tenant), _text(subject))
        return SubjectTag(self._keys.subjects.of(message))

    def conversation_tag(self, *, tenant: str, subject: str, conversation: str) -> ConversationTag:
        """Return the pseudonym of a client's conversation id, within its subject."""
        message = lps(_text(tenant), _text(subject), _text(conversation))
        return ConversationTag(self._keys.conversations.of(message))

    def choice_tag(self, subject: SubjectTag, choice: bytes) -> str:
        """Return the pseudonym of a choice at the company's consent service: 32 hexadecimal digits."""
        return self._keys.choices.of(lps(subject, choice)).hex()

    def turn_id(self, *, tenant: str, subject: str, request_key: bytes, request: bytes) -> TurnId:
        """Return the name of the turn that a client names by *request_key*; *request* is a digest of its bytes.

        A key that comes again with other bytes names another turn, so that nothing is lost by a client's mistake.
        """
        message = lps(_text(tenant), _text(subject), request_key, request)
        return TurnId(self._keys.turns.of(message))

    def record_id(self, subject: SubjectTag, source_id: str) -> str:
        """Return the name of a consent record of *subject* that has the id *source_id* elsewhere: the same again."""
        return f"import-{self._keys.records.of(lps(subject, _text(source_id))).hex()}"

    def dataset_names(self, about: bytes) -> DatasetNames:
        """Return what makes the names of one dataset; *about* is what tells it from every other."""
        return DatasetNames(self._keys.datasets.of(about))

    def history_hasher(self, subject: SubjectTag | None) -> Callable[[bytes], bytes]:
        """Return the hash by which messages of *subject* are recognised when they are sent again: 16 bytes.

        None: a conversation of nobody, whose pseudonym is not known before its history is.
        """
        return KeyedHash(self._keys.history.of(subject or b""), size=_TAG_SIZE).of

    def turn_handle(self, subject: SubjectTag, turn: TurnId) -> str:
        """Return the opaque name of a turn: ``t_`` and 43 characters of base64url."""
        return _TURN_PREFIX + _write(self._keys.turn_handles, subject, turn)

    def read_turn_handle(self, handle: str) -> tuple[SubjectTag, TurnId]:
        """Undo ``turn_handle``. Raises NotFoundError; what it returns need not exist."""
        subject, turn = _read(self._keys.turn_handles, _TURN_PREFIX, handle)
        return SubjectTag(subject), TurnId(turn)

    def conversation_handle(self, subject: SubjectTag, conversation: ConversationTag) -> str:
        """Return the opaque name of a conversation: ``c_`` and 43 characters of base64url."""
        return _CONVERSATION_PREFIX + _write(self._keys.conversation_handles, subject, conversation)

    def read_conversation_handle(self, handle: str) -> tuple[SubjectTag, ConversationTag]:
        """Undo ``conversation_handle``. Raises NotFoundError; what it returns need not exist."""
        subject, conversation = _read(self._keys.conversation_handles, _CONVERSATION_PREFIX, handle)
        return SubjectTag(subject), ConversationTag(conversation)


def _derive(key: PseudonymKey, use: bytes) -> bytes:
    return hkdf_sha256(key.reveal(), salt=b"", info=b"chatproxy/pseudonym/v1/" + use, size=KEY_SIZE)


def _text(name: str) -> bytes:
    """Ids are taken as they are. Lone surrogates, which header bytes may decode to, keep their own bytes."""
    return name.encode("utf-8", "surrogatepass")


def _xor(left: bytes, right: bytes) -> bytes:
    return (int.from_bytes(left, "big") ^ int.from_bytes(right, "big")).to_bytes(BLOCK_SIZE, "big")


def _write(permutation: BlockPermutation, subject: bytes, ident: bytes) -> str:
    return base64.urlsafe_b64encode(permutation.forward(_xor(subject, ident)) + ident).rstrip(b"=").decode()


def _read(permutation: BlockPermutation, prefix: str, handle: str) -> tuple[bytes, bytes]:
    try:
        raw = base64.b64decode(handle.removeprefix(prefix) + "=", altchars=b"-_", validate=True)
    except ValueError:
        raw = b""
    block, ident = raw[:BLOCK_SIZE], raw[BLOCK_SIZE:]
    # Written again, so that a handle has one spelling.
    if len(ident) != BLOCK_SIZE or handle != prefix + base64.urlsafe_b64encode(raw).rstrip(b"=").decode():
        raise NotFoundError(f"this is not a handle that begins with {prefix}")
    return _xor(permutation.backward(block), ident), ident
