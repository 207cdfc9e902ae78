"""What is every key in the store called (security B6)?

All keys of a subject carry the hash tag ``{T}``, T being the subject tag in hex, so that they share one cluster
slot and change together. Ids in key names are hex; ids inside values and as members of sets are raw bytes.

==========================  ======  =====================================  =================================
key                         type    expires                                content
==========================  ======  =====================================  =================================
``cp:{T}:s``                hash    with the last of its records; after    ``gen``, ``gen_at``, ``w<gen>``,
                                    an erasure or a roll not before the    ``erased_at``, ``gen_floor``,
                                    erasure horizon and 30 days            ``erasing``, ``rolled_at``, ``gone``,
                                                                           ``swept_…``, ``certificate``
``cp:{T}:r:<turn>[.n]``     string  with its group                         sealed record of group 0 [n]
``cp:{T}:a:<turn>``         hash    with the last of the turn's groups     annotation
``cp:{T}:p:<asked>``        string  with its turn, in a day at most        last attempt at a request: turn id,
                                                                           then ``o`` and how rich it is, or
                                                                           ``d`` and ``received_at`` if done
``cp:{T}:n:<turn>``         string  with its turn                          turn id under which the attempt of
                                                                           this name is kept
``cp:{T}:ix``               zset    with the last of its records           turn by ``expires_at``
``cp:{T}:v:<conversation>`` zset    with the last of its turns             turn by ``received_at``
``cp:{T}:h:<head>``         string  with the last turn that has this head  conversation tag, turn id; of an
                                                                           attempt that waits, asked
``cp:{T}:c``                list    years after the last record (R38)      consent events
``cp:{T}:u``                hash    years after the last export (R43)      ``link``; by dataset and turn, what of
                                                                           the turn is in the dataset
``cp:{epoch}:k``            hash    never                                  wrapped epoch key by its number
``cp:{ctl}:<name>``         string  never                                  control value
``cp:{ctl}:nodes``          hash    never; who stops takes its own out     what each node said last
``cp:{ctl}:datasets``       hash    never                                  what each dataset is, by its name
``cp:{set:<dataset>}:r``    hash    never                                  what is recalled of a dataset, by item
``cp:{stray:<head>}``       string  with its conversation                  subject tag of nobody
``cp:{due:<n>}``            zset    never; members go when settled         subject tags by when they are due
``cp:{chore:<name>}``       zset    never; members go when settled         subject tags by when they are due
==========================  ======  =====================================  =================================
"""

import re
from binascii import hexlify
from collections.abc import Iterable
from functools import lru_cache

from chatproxy.model import ConversationTag, SubjectTag, TurnId

EPOCH_WRAPS = b"cp:{epoch}:k"
NODES = b"cp:{ctl}:nodes"
ANY_KEY = b"cp:*"
DATASETS = b"cp:{ctl}:datasets"
ANY_USES = b"cp:{????????????????????????????????}:u"
"""A pattern for SCAN; what it finds goes through :func:`parse_person`."""
ANY_ANNOTATION = b"cp:{*}:a:*"
"""A pattern for SCAN; what it finds goes through :func:`parse_annotation`."""

ANY_SUBJECT = b"cp:{*}:s"
"""A pattern for SCAN; what it finds goes through :func:`parse_subject`."""
CHANGED = b"cp:changed"
"""The channel on which each node says whose ledger has grown."""
CONTROL_CHANGED = b"cp:control"
"""The channel on which the name of each control value is told that is replaced."""
DUE_SHARDS = 16

ANY_PERSON = b"cp:{????????????????????????????????}:*"
"""A pattern for SCAN; what it finds goes through :func:`parse_person`."""

_OF_PERSON = re.compile(rb"cp:\{([0-9a-f]{32})\}:")
_SUBJECT = re.compile(rb"cp:\{([0-9a-f]{32})\}:s")
_ANNOTATION = re.compile(rb"cp:\{([0-9a-f]{32})\}:a:([0-9a-f]{32})")


@lru_cache(maxsize=64)
def _own(tag: SubjectTag) -> bytes:
    """Return what the names of all keys of a person begin with: a put names some fifteen."""
    return b"cp:{%s}:" % hexlify(tag)


def subject(tag: SubjectTag) -> bytes:
    """Name the hash with the subject's wrapped keys and its erase fence."""
    return _own(tag) + b"s"


def record(tag: SubjectTag, turn: TurnId, group: int) -> bytes:
    """Name the sealed record of an expiry group of a turn; most turns have group 0 alone."""
    [name] = records(tag, turn, [group])
    return name


def records(tag: SubjectTag, turn: TurnId, groups: Iterable[int]) -> list[bytes]:
    """Name the sealed records of several groups of a turn."""
    first = _own(tag) + b"r:" + hexlify(turn)
    return [first + b".%d" % group if group else first for group in groups]


def annotation(tag: SubjectTag, turn: TurnId) -> bytes:
    """Name the annotation of a turn. Its existence is what makes a put a replay."""
    return _own(tag) + b"a:" + hexlify(turn)


def attempt(tag: SubjectTag, asked: bytes) -> bytes:
    """Name the mark that the last attempt at a request leaves, by what its attempts have in common."""
    return _own(tag) + b"p:" + hexlify(asked)


def other_name(tag: SubjectTag, turn: TurnId) -> bytes:
    """Name the pointer from the id that a client was told to the turn that its attempt is kept as."""
    return _own(tag) + b"n:" + hexlify(turn)


def parse_annotation(key: bytes) -> tuple[SubjectTag, TurnId] | None:
    """Take an annotation's name apart; None for a key that only looks like one."""
    if (match := _ANNOTATION.fullmatch(key)) is None:
        return None
    return SubjectTag(bytes.fromhex(match[1].decode())), TurnId(bytes.fromhex(match[2].decode()))


def parse_subject(key: bytes) -> SubjectTag | None:
    """Take the name of a subject's hash apart; None for a key that only looks like one."""
    match = _SUBJECT.fullmatch(key)
    return SubjectTag(bytes.fromhex(match[1].decode())) if match else None


def due(shard: int) -> bytes:
    """Name one of the lists of people whose turns are to be decided again."""
    return b"cp:{due:%d}" % shard


def due_shard(tag: SubjectTag) -> int:
    """Return the list that a person is on."""
    return tag[0] % DUE_SHARDS


def chore(name: str) -> bytes:
    """Name the list of people on whom a chore is to be done."""
    return b"cp:{chore:%s}" % name.encode()


def any_of(tag: SubjectTag) -> bytes:
    """Return a pattern for SCAN: every key of one person."""
    return _own(tag) + b"*"


def parse_person(key: bytes) -> SubjectTag | None:
    """Return whose a key is; None for a key of nobody."""
    match = _OF_PERSON.match(key)
    return SubjectTag(bytes.fromhex(match[1].decode())) if match else None


def parse_own(tag: SubjectTag, key: bytes) -> tuple[bytes, bytes]:
    """Take the name of a person's key apart into its kind and the rest."""
    kind, _, rest = key.removeprefix(_own(tag)).partition(b":")
    return kind, rest


def index(tag: SubjectTag) -> bytes:
    """Name the index of a subject's turns by expiry."""
    return _own(tag) + b"ix"


def conversation(tag: SubjectTag, conversation_tag: ConversationTag) -> bytes:
    """Name the index of a conversation's turns by time received."""
    return _own(tag) + b"v:" + hexlify(conversation_tag)


def head(tag: SubjectTag, digest: bytes) -> bytes:
    """Name the pointer from a history hash to the turn that ended with it."""
    return _own(tag) + b"h:" + hexlify(digest)


def ledger(tag: SubjectTag) -> bytes:
    """Name the list of a subject's consent events."""
    return _own(tag) + b"c"


def control(name: str) -> bytes:
    """Name a value of the whole deployment."""
    return b"cp:{ctl}:%s" % name.encode()


def stray(digest: bytes) -> bytes:
    """Name the pointer from a history hash to the pseudonym of a conversation without known identity."""
    return b"cp:{stray:%s}" % hexlify(digest)


def uses(tag: SubjectTag) -> bytes:
    """Name what says which of a person's turns are in which datasets."""
    return _own(tag) + b"u"


def recalls(dataset: bytes) -> bytes:
    """Name what is recalled of a dataset."""
    return b"cp:{set:%s}:r" % hexlify(dataset)
