"""The transcript store over the Redis protocol: Redis >= 7.0, Valkey >= 7.2.

It does as it is told: keys, expiries and bytes come from the workflows, and what is read is not yet authenticated.
"""

import random
import re
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager

from redis.exceptions import ResponseError

from chatproxy.crypto.keyring import CHECK_NAME
from chatproxy.crypto.sealed_keyset import SEALED_NAME
from chatproxy.errors import ChatproxyError, UndecryptableError
from chatproxy.model import ConversationTag, SubjectTag, TurnId
from chatproxy.ports import (
    Due,
    KnownTurn,
    PutStatus,
    RedecidedTurn,
    RedecideStatus,
    SealedTurn,
    StoredTurn,
    SubjectState,
    TranscriptStore,
)
from chatproxy.store import keys, scripts
from chatproxy.store.calling import run_calls
from chatproxy.store.connections import Command, Reply, Servers
from chatproxy.store.listening import listen
from chatproxy.store.scanning import scan
from chatproxy.store.together import Together

_BATCH = 50
"""How many annotations are read in one round trip: about a millisecond of this process."""
_TRIMMED = 20
"""How many conversations' indexes are trimmed in one round trip."""
_NO_TTL = -1
_WRAP_FIELD = re.compile(rb"w[0-9]{1,5}")
TOKENS_A_MS = 1000
"""Marks of one millisecond are told apart by chance, so that none is taken for another that was set later."""


class RedisStore:
    """Implements the TranscriptStore port. None tries twice.

    Every method raises StoreUnavailableError, and UndecryptableError("store_damaged") for a key of the wrong type.
    """

    def __init__(self, connections: Servers) -> None:
        self.connections = connections
        self._together = Together(connections)

    async def ping(self) -> None:
        """Ask whether the store answers."""
        await self._ask(["PING"])

    async def now(self) -> int:
        """Return the store's own clock, ms."""
        [[seconds, micros]] = await self._ask(["TIME"])
        return int(seconds) * 1000 + int(micros) // 1000

    async def subject_state(self, subject: SubjectTag) -> SubjectState:
        """Read what a decision and a seal need, in one round trip; the put checks that it still holds."""
        pairs, ledger = self._good(await self._together.ask(_read_state(subject)))
        return _state(pairs, ledger)

    async def subject_states(self, subjects: Sequence[SubjectTag]) -> list[SubjectState]:
        """Read the same of several, in one round trip."""
        replies = await self._ask(*[command for subject in subjects for command in _read_state(subject)])
        return [_state(pairs, ledger) for pairs, ledger in zip(replies[::2], replies[1::2], strict=True)]

    async def put(self, turns: Sequence[SealedTurn]) -> list[PutStatus | None]:
        """Put each turn atomically, in one pipeline; None where the server answered with an error."""
        replies = await self._run([scripts.put_turn(turn) for turn in turns])
        return [_put_status(reply) for reply in replies]

    async def epoch_wraps(self, days: Sequence[int]) -> dict[int, bytes]:
        """Return the wrapped epoch keys of those *days* that have one."""
        if not days:
            return {}
        [wraps] = await self._ask(["HMGET", keys.EPOCH_WRAPS, *days])
        return {day: wrap for day, wrap in zip(days, wraps, strict=True) if wrap is not None}

    async def add_epoch_wrap(self, day: int, wrap: bytes) -> bytes:
        """Keep *wrap* as the key of *day* unless there is one; return the one that is kept."""
        kept: bytes = await self._run_one(scripts.add_epoch_wrap(day, wrap))
        return kept

    async def find_head(self, subject: SubjectTag, head: bytes) -> KnownTurn | None:
        """Find a live turn of *subject* that ended with the history hash *head*."""
        [value] = await self._ask(["GET", keys.head(subject, head)])
        if value is None:
            return None
        known = KnownTurn(ConversationTag(value[:16]), TurnId(value[16:32]), value[32:] or None)
        # A turn may have gone before its pointer: a retry that took its place has other heads, and only those go with it.
        is_kept, received_at, erased_at = await self._ask(
            ["EXISTS", keys.annotation(subject, known.turn)],
            ["ZSCORE", keys.conversation(subject, known.conversation), known.turn],
            ["HGET", keys.subject(subject), "erased_at"],
        )
        # Nor does anything lead to what an erasure has left for its sweep.
        is_fenced = erased_at is not None and (received_at is None or float(received_at) <= int(erased_at))
        return known if is_kept and not is_fenced else None

    async def find_attempt(self, subject: SubjectTag, asked: bytes) -> TurnId | None:
        """Find the attempt at a request that did not complete and waits to be tried again."""
        [mark] = await self._ask(["GET", keys.attempt(subject, asked)])
        return TurnId(mark[:16]) if mark is not None and mark[16:17] == b"o" else None

    async def adopt_stray(self, head: bytes) -> SubjectTag | None:
        """Return the pseudonym of the nobody's conversation that ended with *head*, if it is only one."""
        [value] = await self._ask(["GET", keys.stray(head)])
        return SubjectTag(value) if value else None

    async def remember_stray(self, heads: Sequence[bytes], subject: SubjectTag, expires_at: int) -> None:
        """Let a nobody's conversation be continued until *expires_at* by who sends its history.

        Two that said the same cannot be told apart, so neither is continued: nobody gets another's pseudonym.
        """
        for head in heads:
            key = keys.stray(head)
            taken, value = await self._ask(["SET", key, subject, "NX", "PXAT", expires_at], ["GET", key])
            if taken is None and value != subject:
                await self._ask(["SET", key, b"", "XX", "KEEPTTL"])

    async def annotations(self, subject: SubjectTag | None = None) -> AsyncIterator[StoredTurn]:
        """Walk the live turns, of one subject or of all, in bounded batches.

        A turn put meanwhile may be missing. One may come twice while the store grows or shrinks.
        """
        if subject is None:
            async for found in scan(self.connections, keys.ANY_ANNOTATION):
                names = [name for name in map(keys.parse_annotation, found) if name is not None]
                for turn in await self._stored(names):
                    yield turn
        else:
            cursor = b"0"
            while True:
                [[cursor, members]] = await self._ask(["ZSCAN", keys.index(subject), cursor, "COUNT", _BATCH])
                for turn in await self._stored([(subject, TurnId(member)) for member in members[::2]]):
                    yield turn
                if cursor == b"0":
                    return

    async def conversation(self, subject: SubjectTag, conversation: ConversationTag) -> list[StoredTurn]:
        """Return the live turns of a conversation by time received."""
        [members] = await self._ask(["ZRANGE", keys.conversation(subject, conversation), 0, -1])
        return await self._stored([(subject, TurnId(member)) for member in members])

    async def turn(self, subject: SubjectTag, turn: TurnId) -> StoredTurn | None:
        """Return one turn, or None if it is not held; also by the id of an attempt that it took in."""
        [other] = await self._ask(["GET", keys.other_name(subject, turn)])
        return next(iter(await self._stored([(subject, turn if other is None else TurnId(other))])), None)

    async def turns(self, subject: SubjectTag, turns: Sequence[TurnId]) -> list[StoredTurn]:
        """Return those of *turns* that are kept under these very ids, in one round trip."""
        return await self._stored([(subject, turn) for turn in turns])

    async def records(self, subject: SubjectTag, turn: TurnId, groups: Sequence[int]) -> list[bytes | None]:
        """Return the sealed records of *groups*, None for each that is not held."""
        return await self.records_of_turns(subject, [(turn, group) for group in groups])

    async def records_of_turns(
        self, subject: SubjectTag, wanted: Sequence[tuple[TurnId, int]]
    ) -> list[bytes | None]:
        """Return the sealed records of many turns, by turn and group number, None for each that is not held."""
        if not wanted:
            return []
        [blobs] = await self._ask(["MGET", *(keys.record(subject, turn, group) for turn, group in wanted)])
        return list(blobs)

    async def append_event(
        self, subject: SubjectTag, event: bytes, *, expected_length: int, expires_at: int
    ) -> bool:
        """Append to the ledger if it has *expected_length* events; it lives at least to *expires_at*.

        After a StoreUnavailableError the event may be there: read the ledger before trying again.
        """
        call = scripts.append_event(subject, event, expected_length=expected_length, expires_at=expires_at)
        return bool(await self._run_one(call))

    async def redecide(self, turns: Sequence[RedecidedTurn]) -> list[RedecideStatus | None]:
        """Change each turn atomically, in one pipeline; None where the server answered with an error."""
        replies = await self._run([scripts.redecide(turn) for turn in turns])
        return [_redecide_status(reply) for reply in replies]

    async def trim(self, subject: SubjectTag, conversations: Sequence[ConversationTag]) -> None:
        """Let a person's key and indexes go with the last of what they are for.

        The index of a conversation of more than 5,000 turns stays as long as it was to.
        """
        for start in range(0, len(conversations), _TRIMMED):
            calls = [
                scripts.trim(subject, conversation)
                for conversation in conversations[start : start + _TRIMMED]
            ]
            for reply in await self._run(calls):
                if isinstance(reply, ResponseError):
                    raise self._error(reply)

    async def mark_due(self, subject: SubjectTag, at: int) -> None:
        """Have a person's turns decided again from *at* (ms) on."""
        await self.mark_all_due([subject], at)

    async def mark_all_due(self, subjects: Sequence[SubjectTag], at: int) -> None:
        """Have people's turns decided again from *at* (ms) on."""
        marks: list[Command] = [
            ["ZADD", keys.due(keys.due_shard(subject)), due_token(at), subject] for subject in subjects
        ]
        await self._ask(*marks)

    async def claim_due(self, *, now: int, until: int, most: int) -> list[Due]:
        """Take up to *most* people who are due at *now*; they are due again at *until* unless settled before."""
        first = due_token(until)
        shards = random.sample(range(keys.DUE_SHARDS), min(most, keys.DUE_SHARDS))
        calls = [
            scripts.claim_due(keys.due(shard), now=now * TOKENS_A_MS, until=first, most=most // len(shards))
            for shard in shards
        ]
        claimed: list[Due] = []
        for reply in await self._run(calls):
            if isinstance(reply, ResponseError):
                raise self._error(reply)
            claimed += [Due(SubjectTag(subject), first + number) for number, subject in enumerate(reply)]
        return claimed

    async def put_off_due(self, due: Due, *, until: int) -> Due | None:
        """Have a person who was claimed due again at *until*; None if they were marked again meanwhile."""
        token = due_token(until)
        is_done = await self._run_one(scripts.settle_due(_due_list(due), due, next_token=token))
        return Due(due.subject, token) if is_done else None

    async def settle_due(self, due: Due) -> bool:
        """Take a person who was claimed off the list; False if they were marked again meanwhile."""
        return bool(await self._run_one(scripts.settle_due(_due_list(due), due, next_token=None)))

    async def people_due(self, now: int) -> int:
        """Return how many people are due at *now*."""
        counts: list[Command] = [
            ["ZCOUNT", keys.due(shard), "-inf", now * TOKENS_A_MS] for shard in range(keys.DUE_SHARDS)
        ]
        return sum(await self._ask(*counts))

    def changes(self) -> AbstractAsyncContextManager[AsyncIterator[SubjectTag]]:
        """Hear of each person whose ledger grows; see ``chatproxy.store.listening``."""
        return listen(self.connections, keys.CHANGED, SubjectTag)

    def control_changes(self) -> AbstractAsyncContextManager[AsyncIterator[str]]:
        """Hear of each control value that is replaced; see ``chatproxy.store.listening``."""
        return listen(self.connections, keys.CONTROL_CHANGED, lambda name: name.decode("utf-8", "replace"))

    async def subjects(self) -> AsyncIterator[SubjectTag]:
        """Walk the people of whom something is kept; one may come twice while the store grows or shrinks."""
        async for found in scan(self.connections, keys.ANY_SUBJECT):
            for name in found:
                if (subject := keys.parse_subject(name)) is not None:
                    yield subject

    async def swap_subject_wraps(self, swaps: Sequence[tuple[SubjectTag, int, bytes, bytes]]) -> list[bool]:
        """Replace each (subject, generation, old, new) that is still *old*, in one round trip."""
        calls = [
            scripts.swap_subject_wrap(subject, generation, old=old, new=new)
            for subject, generation, old, new in swaps
        ]
        return [self._is_done(reply) for reply in await self._run(calls)]

    async def subject_wraps(self, subjects: Sequence[SubjectTag]) -> list[dict[int, bytes] | None]:
        """Return the wrapped keys of each of *subjects*, by generation, in one round trip; None: damaged."""
        if not subjects:
            return []
        replies = await self.connections.ask([["HGETALL", keys.subject(subject)] for subject in subjects])
        found: list[dict[int, bytes] | None] = []
        for reply in replies:
            if isinstance(reply, ResponseError):
                if not is_damage(reply):
                    raise self._error(reply) from reply
                found.append(None)
            else:
                found.append(_wraps(_mapping(reply)))
        return found

    async def all_epoch_wraps(self) -> dict[int, bytes]:
        """Return every wrapped epoch key, by day."""
        [pairs] = await self._ask(["HGETALL", keys.EPOCH_WRAPS])
        return {int(day): wrap for day, wrap in _mapping(pairs).items()}

    async def swap_epoch_wraps(self, swaps: Sequence[tuple[int, bytes, bytes]]) -> list[bool]:
        """Replace each (day, old, new) that is still *old*, in one round trip."""
        calls = [scripts.swap_epoch_wrap(day, old=old, new=new) for day, old, new in swaps]
        return [self._is_done(reply) for reply in await self._run(calls)]

    async def beat(self, node: str, state: bytes) -> None:
        """Keep what a node says of itself."""
        await self._ask(["HSET", keys.NODES, node, state])

    async def nodes(self) -> dict[str, bytes]:
        """Return what each node said last."""
        [pairs] = await self._ask(["HGETALL", keys.NODES])
        return {name.decode("utf-8", "replace"): state for name, state in _mapping(pairs).items()}

    async def forget_node(self, node: str) -> None:
        """Forget what a node has said."""
        await self._ask(["HDEL", keys.NODES, node])

    async def read_control(self, name: str) -> bytes | None:
        """Return a control value, or None."""
        value: bytes | None
        [value] = await self._ask(["GET", keys.control(name)])
        return value

    async def swap_control(self, name: str, old: bytes | None, new: bytes) -> bool:
        """Replace a control value if it is still *old*, where None stands for none."""
        return bool(await self._run_one(scripts.swap_control(name, old=old, new=new)))

    async def is_empty(self) -> bool:
        """Whether no key of chatproxy exists but those that say which keyset it is to be used with.

        Walks the keys of others on a shared server.
        """
        of_keyset = {keys.control(SEALED_NAME), keys.control(CHECK_NAME)}
        async for found in scan(self.connections, keys.ANY_KEY):
            if not of_keyset.issuperset(found):
                return False
        return True

    async def aclose(self) -> None:
        """Close the connections that are not in use."""
        await self.connections.aclose()

    async def _stored(self, turns: Sequence[tuple[SubjectTag, TurnId]]) -> list[StoredTurn]:
        """Read annotations with their expiry, leaving out those that have gone."""
        found: list[StoredTurn] = []
        for start in range(0, len(turns), _BATCH):
            batch = turns[start : start + _BATCH]
            commands: list[Command] = []
            for subject, turn in batch:
                name = keys.annotation(subject, turn)
                commands += [["HGETALL", name], ["PEXPIRETIME", name]]
            replies = await self._ask(*commands)
            found += [
                StoredTurn(subject=subject, turn=turn, annotation=_mapping(pairs), ttl_expires_at=expires_at)
                for (subject, turn), pairs, expires_at in zip(
                    batch, replies[0::2], replies[1::2], strict=True
                )
                if pairs and expires_at >= _NO_TTL
            ]
        return found

    async def _ask(self, *commands: Command) -> list[Reply]:
        if not commands:
            return []
        return self._good(await self.connections.ask(commands))

    def _good(self, replies: list[Reply]) -> list[Reply]:
        for reply in replies:
            if isinstance(reply, ResponseError):
                raise self._error(reply) from reply
        return replies

    def _error(self, reply: ResponseError) -> ChatproxyError:
        if is_damage(reply):
            return UndecryptableError("store_damaged")
        return self.connections.refused(reply)

    async def _run(self, calls: Sequence[scripts.Call]) -> list[Reply]:
        return await run_calls(self.connections, calls)

    def _is_done(self, reply: Reply) -> bool:
        if isinstance(reply, ResponseError):
            raise self._error(reply) from reply
        return bool(reply)

    async def _run_one(self, call: scripts.Call) -> Reply:
        [reply] = await self._run([call])
        if isinstance(reply, ResponseError):
            raise self._error(reply) from reply
        return reply


def _due_list(due: Due) -> bytes:
    return keys.due(keys.due_shard(due.subject))


def due_token(at: int) -> int:
    """Return a mark for the instant *at* (ms)."""
    return at * TOKENS_A_MS + secrets.randbelow(TOKENS_A_MS)


def is_damage(reply: ResponseError) -> bool:
    """Whether a key is of another type than it must be: somebody else wrote it, and waiting does not mend it."""
    return str(reply).startswith("WRONGTYPE")


def _put_status(reply: Reply) -> PutStatus | None:
    if isinstance(reply, ResponseError):
        return PutStatus.DAMAGED if is_damage(reply) else None
    return PutStatus(reply)


def _wraps(fields: Mapping[bytes, bytes]) -> dict[int, bytes]:
    return {int(name[1:]): value for name, value in fields.items() if _WRAP_FIELD.fullmatch(name)}


def _redecide_status(reply: Reply) -> RedecideStatus | None:
    if isinstance(reply, ResponseError):
        return RedecideStatus.DAMAGED if is_damage(reply) else None
    return RedecideStatus(reply)


def _read_state(subject: SubjectTag) -> list[Command]:
    """Return what asks for what ``_state`` reads."""
    return [["HGETALL", keys.subject(subject)], ["LRANGE", keys.ledger(subject), 0, -1]]


def _state(pairs: Reply, ledger: Reply) -> SubjectState:
    fields = _mapping(pairs)
    generation, erased_at = fields.get(b"gen"), fields.get(b"erased_at")
    return SubjectState(
        generation=None if generation is None else int(generation),
        wraps=_wraps(fields),
        erased_at=None if erased_at is None else int(erased_at),
        ledger=tuple(ledger),
        generation_floor=int(fields.get(b"gen_floor", 0)),
        is_erasing=b"erasing" in fields,
        generation_at=int(fields[b"gen_at"]) if b"gen_at" in fields else None,
    )


def _mapping(pairs: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(pairs[0::2], pairs[1::2], strict=True))


_: type[TranscriptStore] = RedisStore
