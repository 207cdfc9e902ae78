"""What makes a person, or an old key of theirs, unreadable for good, over the Redis protocol.

Keys go in one step, and with them all that lies under them. What is left behind then is removed by its names: first
as the index lists it, then by a walk over all keys of the store, which also finds what no index knows.
"""

import asyncio
from collections.abc import Sequence

from redis.exceptions import ResponseError

from chatproxy.errors import StoreUnavailableError, UndecryptableError
from chatproxy.model import SubjectTag, TurnId
from chatproxy.ports import (
    Chore,
    Doomed,
    Due,
    Erased,
    EraseRefusal,
    ErasureStore,
    NewKey,
    RedecideStatus,
    Removed,
    ResealedTurn,
    Unfinished,
)
from chatproxy.store import erasure_scripts, keys, scripts
from chatproxy.store.calling import run_calls
from chatproxy.store.connections import Command, Reply, Servers
from chatproxy.store.redis import TOKENS_A_MS, due_token, is_damage
from chatproxy.store.scanning import scan

CLOCKS_APART_MS = 60_000
"""How far a node's clock may be from the store's: beyond that the store is refused (``chatproxy.store.preflight``)."""
_AFTER_THE_HORIZON_MS = 30 * 86_400_000
_MEMBERS = 200
_ID = 16
_DONE = b"0"
_REWRITING = (b"aof_rewrite_in_progress:1", b"aof_rewrite_scheduled:1")
_POLL_SECONDS = 0.05
_UNFINISHED = ("erased_at", "gone", "swept_turns", "swept_records", "swept_names")


class RedisErasure:
    """Implements the ErasureStore port. Every method raises StoreUnavailableError."""

    def __init__(self, connections: Servers, *, horizon_ms: int) -> None:
        """``horizon_ms``: after that no backup can be read; a fence and a floor stand for 30 days more."""
        self._connections = connections
        self.fence_ms = horizon_ms + _AFTER_THE_HORIZON_MS

    async def erase(
        self,
        subject: SubjectTag,
        *,
        at: int,
        ledger_length: int,
        stays: int | None,
        events: Sequence[bytes],
        ledger_keep_until: int,
    ) -> Erased | EraseRefusal:
        """Destroy a person's keys and ledger, but for generation *stays* and with it the ledger; tell every node."""
        status, *found = await self._run_one(
            erasure_scripts.erase(
                subject,
                at=at,
                apart=CLOCKS_APART_MS,
                stands=self.fence_ms,
                ledger_length=ledger_length,
                stays=stays,
                events=events,
                ledger_keep_until=ledger_keep_until,
            )
        )
        if not found:
            return EraseRefusal(status)
        erased_at, turns, number, generations = found
        return Erased(erased_at, tuple(sorted(generations)), turns, number)

    async def renew_key(
        self, subject: SubjectTag, *, before: int, key: NewKey, at: int, erasing: bool
    ) -> bool:
        """Have *key* take the place of generation *before*; ``erasing``: and set the fence."""
        call = erasure_scripts.renew(
            subject, before=before, key=key, erasing=erasing, at=at, apart=CLOCKS_APART_MS
        )
        return bool(await self._run_one(call))

    async def reseal(self, turns: Sequence[ResealedTurn]) -> list[RedecideStatus | None]:
        """Replace the records of each turn atomically; None where the server answered with an error."""
        replies = await run_calls(self._connections, [erasure_scripts.reseal(turn) for turn in turns])
        return [None if isinstance(reply, ResponseError) else RedecideStatus(reply) for reply in replies]

    async def retire_keys(self, subject: SubjectTag, *, stays: int) -> tuple[int, ...]:
        """Destroy a person's keys before generation *stays*; return which there were."""
        gone = await self._run_one(erasure_scripts.retire(subject, stays=stays, stands=self.fence_ms))
        return tuple(sorted(gone))

    async def is_erasing(self, subject: SubjectTag) -> bool:
        """Whether an erasure has begun and its keys are not destroyed yet."""
        [flag] = await self._ask(["HGET", keys.subject(subject), "erasing"])
        return flag is not None

    async def rolled_at(self, subject: SubjectTag) -> int | None:
        """Return when keys of the person were last retired, ms."""
        [at] = await self._ask(["HGET", keys.subject(subject), "rolled_at"])
        return None if at is None else int(at)

    async def unfinished(self, subject: SubjectTag) -> Unfinished | None:
        """Return what an erasure has done so far whose certificate is not made yet."""
        [[at, gone, *removed]] = await self._ask(["HMGET", keys.subject(subject), *_UNFINISHED])
        if at is None or gone is None:
            return None
        turns, events, *noted = gone.split(b" ")
        pairs = [pair.split(b":") for pair in b"".join(noted).split(b",") if pair]
        return Unfinished(
            Erased(
                int(at), tuple(sorted(int(generation) for generation, _ in pairs)), int(turns), int(events)
            ),
            tuple(sorted({int(kek) for _, kek in pairs})),
            Removed(*(int(number or 0) for number in removed)),
        )

    async def conclude(self, subject: SubjectTag, *, erased_at: int, certificate: bytes) -> bool:
        """Keep the certificate of an erasure that is finished; False if it is not the one that was seen."""
        call = erasure_scripts.conclude(subject, erased_at=erased_at, certificate=certificate)
        return bool(await self._run_one(call))

    async def certificate(self, subject: SubjectTag) -> bytes | None:
        """Return the certificate of an erasure that was not handed over yet."""
        certificate: bytes | None
        [certificate] = await self._ask(["HGET", keys.subject(subject), "certificate"])
        return certificate

    async def forget_certificate(self, subject: SubjectTag, certificate: bytes) -> None:
        """The certificate was handed over."""
        await self._run_one(erasure_scripts.forget_certificate(subject, certificate))

    async def sweep(self, subject: SubjectTag, turns: Sequence[Doomed]) -> Removed:
        """Remove those of *turns* whose keys are gone."""
        removed = Removed()
        calls = [erasure_scripts.sweep_turn(subject, turn) for turn in turns]
        for reply in await run_calls(self._connections, calls):
            if isinstance(reply, ResponseError):
                raise self._connections.refused(reply)
            removed = removed.and_more(*reply)
        return removed

    async def sweep_rest(self, subject: SubjectTag) -> Removed:
        """Walk over all keys of the store and remove those of the person that lead to nothing."""
        removed = Removed()
        async for found in scan(self._connections, keys.any_of(subject)):
            for key in found:
                removed = removed.and_more(*await self._sweep_key(subject, key))
        return removed

    async def rewrite_log(self) -> None:
        """Have the append-only file written anew, and wait until it is; one under way may hold what has gone since."""
        await self._until_written()
        [reply] = await self._connections.ask([["BGREWRITEAOF"]])
        if isinstance(reply, ResponseError):
            raise self._connections.refused(reply)
        await self._until_written()

    async def _until_written(self) -> None:
        while True:
            [info] = await self._ask(["INFO", "persistence"])
            if not any(flag in info for flag in _REWRITING):
                return
            await asyncio.sleep(_POLL_SECONDS)

    async def mark_chore(self, chore: Chore, subject: SubjectTag, at: int) -> Due:
        """Have a chore done from *at* (ms) on; until then it is the caller's."""
        token = due_token(at)
        await self._ask(["ZADD", keys.chore(chore), token, subject])
        return Due(subject, token)

    async def claim_chores(self, chore: Chore, *, now: int, until: int, most: int) -> list[Due]:
        """Take up to *most* people whose chore is due at *now*; it is again at *until* unless settled before."""
        first = due_token(until)
        call = scripts.claim_due(keys.chore(chore), now=now * TOKENS_A_MS, until=first, most=most)
        found = await self._run_one(call)
        return [Due(SubjectTag(subject), first + number) for number, subject in enumerate(found)]

    async def put_off_chore(self, chore: Chore, due: Due, *, until: int) -> Due | None:
        """Have a chore that was claimed due again at *until*; None if it was marked again meanwhile."""
        token = due_token(until)
        is_done = await self._run_one(scripts.settle_due(keys.chore(chore), due, next_token=token))
        return Due(due.subject, token) if is_done else None

    async def settle_chore(self, chore: Chore, due: Due) -> bool:
        """Take a chore that was claimed off the list; False if it was marked again meanwhile."""
        return bool(await self._run_one(scripts.settle_due(keys.chore(chore), due, next_token=None)))

    async def _sweep_key(self, subject: SubjectTag, key: bytes) -> Removed:
        """Remove one key if the turn that it is about is not kept."""
        kind, rest = keys.parse_own(subject, key)
        match kind:
            case b"r" | b"a":
                turn = read_turn(rest)
                return Removed() if turn is None else await self.sweep(subject, [Doomed(turn)])
            case b"p" | b"n":
                return await self._sweep_pointer(subject, key, at=0)
            case b"h":
                return await self._sweep_pointer(subject, key, at=_ID)
            case b"v" | b"ix":
                return await self._sweep_members(subject, key)
            case _:
                return Removed()

    async def _sweep_pointer(self, subject: SubjectTag, key: bytes, *, at: int) -> Removed:
        try:
            [value] = await self._ask(["GET", key])
        except UndecryptableError:
            return Removed()
        if value is None:
            return Removed()
        turn = TurnId(value[at : at + _ID])
        gone = await self._run_one(erasure_scripts.sweep_pointer(subject, key, turn, seen=value))
        return Removed(names=int(gone))

    async def trim_index(self, subject: SubjectTag, name: bytes) -> int:
        """Take turns that are not kept out of an index; return how many."""
        return (await self._sweep_members(subject, name)).names

    async def _sweep_members(self, subject: SubjectTag, key: bytes) -> Removed:
        removed = Removed()
        cursor = b"0"
        while True:
            try:
                [[cursor, found]] = await self._ask(["ZSCAN", key, cursor, "COUNT", _MEMBERS])
            except UndecryptableError:
                return removed
            turns = [TurnId(member) for member in found[::2]]
            if turns:
                gone = await self._run_one(erasure_scripts.sweep_members(subject, key, turns))
                removed = removed.and_more(0, 0, int(gone))
            if cursor == _DONE:
                return removed

    async def _ask(self, *commands: Command) -> list[Reply]:
        replies = await self._connections.ask(commands)
        for reply in replies:
            if isinstance(reply, ResponseError):
                raise self._error(reply) from reply
        return replies

    async def _run_one(self, call: scripts.Call) -> Reply:
        [reply] = await run_calls(self._connections, [call])
        if isinstance(reply, ResponseError):
            raise self._error(reply) from reply
        return reply

    def _error(self, reply: ResponseError) -> UndecryptableError | StoreUnavailableError:
        return UndecryptableError("store_damaged") if is_damage(reply) else self._connections.refused(reply)


def read_turn(rest: bytes) -> TurnId | None:
    """Read the turn in the name of a record or an annotation, after its kind; None where there is none."""
    try:
        turn = bytes.fromhex(rest.partition(b".")[0].decode("ascii"))
    except ValueError:
        return None
    return TurnId(turn) if len(turn) == _ID else None


_: type[ErasureStore] = RedisErasure
