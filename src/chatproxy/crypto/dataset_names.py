"""Under which names do people, conversations and items stand in a dataset? Names that lead nowhere else (R27).

1. Each dataset has a key of its own, derived from the pseudonym key: who has two datasets cannot tell that a person is
   in both.
2. Names of a person's things depend on a secret of that person too, the *link*, which lies in the store with the
   lineage. It goes when the person is erased: then not even who has every key can say whose an item was.
3. The order in which people come depends on the dataset's key too, so that two datasets have nothing in common.
"""

from chatproxy.crypto.encoding import lps
from chatproxy.crypto.primitives import hkdf_sha256, hmac_sha256
from chatproxy.model import ConversationTag, SubjectTag, TurnId

_SIZE = 16
NAME_SIZE = _SIZE
"""Of a dataset and an item, bytes."""


class DatasetNames:
    """Makes the names of one dataset."""

    __slots__ = ("_key", "dataset")

    def __init__(self, key: bytes) -> None:
        self.dataset = hmac_sha256(key, b"dataset")[:_SIZE]
        """The name of the dataset itself."""
        self._key = hkdf_sha256(key, salt=b"", info=b"chatproxy/dataset/v1/names", size=32)

    def place(self, subject: SubjectTag) -> bytes:
        """Return by what a person's place in the dataset goes: 16 bytes."""
        return hmac_sha256(self._key, lps(b"place", subject))[:_SIZE]

    def of_person(self, subject: SubjectTag, link: bytes) -> "PersonNames":
        """Return what makes the names of a person's things."""
        return PersonNames(hmac_sha256(self._key, lps(b"person", subject, link)))

    def receipt(self, receipt_id: str) -> str:
        """Return the name of a receipt, by which an item says what permits it."""
        return "r_" + hmac_sha256(self._key, lps(b"receipt", receipt_id.encode()))[:_SIZE].hex()


class PersonNames:
    """Makes the names of one person's things in one dataset."""

    __slots__ = ("_key", "person")

    def __init__(self, key: bytes) -> None:
        self._key = key
        self.person = "p_" + hmac_sha256(key, b"person")[:_SIZE].hex()

    def conversation(self, conversation: ConversationTag) -> str:
        """Return the name of a conversation."""
        return "v_" + hmac_sha256(self._key, lps(b"conversation", conversation))[:_SIZE].hex()

    def item(self, turn: TurnId, choice: int) -> bytes:
        """Return the name of an item: one answer of a turn, 16 bytes."""
        return hmac_sha256(self._key, lps(b"item", turn, b"%d" % choice))[:_SIZE]


def show_item(item: bytes) -> str:
    """Return the name of an item as files have it."""
    return "i_" + item.hex()


def read_item(name: str) -> bytes:
    """Undo ``show_item``. Raises ValueError."""
    item = bytes.fromhex(name.removeprefix("i_"))
    if len(item) != _SIZE or name != show_item(item):
        raise ValueError("is no name of an item")
    return item


def show_dataset(dataset: bytes) -> str:
    """Return the name of a dataset as people see it."""
    return "d_" + dataset.hex()


def read_dataset(name: str) -> bytes:
    """Undo ``show_dataset``. Raises ValueError."""
    dataset = bytes.fromhex(name.removeprefix("d_"))
    if len(dataset) != _SIZE or name != show_dataset(dataset):
        raise ValueError("is no name of a dataset")
    return dataset
