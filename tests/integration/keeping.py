"""Turns that are sealed and put as the archive does it, without a chat: many at once, or at any time."""

import secrets

from chatproxy.capture import Understood
from chatproxy.consent.events import read_ledger
from chatproxy.consent.person import PersonFacts
from chatproxy.model import (
    Age,
    Caller,
    ConversationTag,
    Exchange,
    Message,
    Origin,
    Part,
    PartKind,
    StreamEnd,
    SubjectTag,
    Transcript,
    TurnId,
)
from chatproxy.policy.reasons import Reason
from chatproxy.ports import PutStatus, SealedTurn
from chatproxy.telemetry import Metrics
from chatproxy.vault import Vault
from chatproxy.workflows.place import Place
from chatproxy.workflows.seal import FirstKeys, Sealer
from chatproxy.workflows.subjects import Person

_AT_ONCE = 100


class Keeper:
    """Keeps what one person says."""

    def __init__(self, vault: Vault, subject: SubjectTag) -> None:
        self._vault = vault
        self._subject = subject
        self._sealer = Sealer(
            policy=vault.policy, keys=vault.record_keys, annotation_keys=vault.annotation_keys,
            metrics=Metrics(), node="n",
        )  # fmt: skip

    async def person(self) -> Person:
        """Read the person as they are now."""
        state = await self._vault.store.subject_state(self._subject)
        ledger = read_ledger(state.ledger, subject=self._subject, keys=self._vault.annotation_keys)
        return Person(state, PersonFacts(ledger), self._vault.clock())

    async def sealed(
        self,
        person: Person,
        conversation: ConversationTag,
        *,
        first: FirstKeys,
        turn: TurnId | None = None,
        incognito: bool = False,
        caller: Caller | None = None,
        transcript: Transcript | None = None,
    ) -> SealedTurn:
        """Seal a turn that is received now."""
        now = self._vault.clock()
        caller = caller or Caller(subject="s", plan="pro", age=Age.ADULT, incognito=incognito)
        exchange = Exchange(
            turn=turn or TurnId(secrets.token_bytes(16)),
            received_at=now,
            caller=caller,
            dialect="openai_chat",
        )
        text = Part(PartKind.TEXT, Origin.TYPED, {"text": "hello"})
        transcript = transcript or Transcript(input=(Message("user", (text,)),), output=())
        heads = (secrets.token_bytes(16),)
        place = Place(
            self._subject, exchange.turn, conversation, None, heads, unmatched=0, repeated=0, is_stray=False
        )
        understood = Understood(transcript, StreamEnd.COMPLETE)
        groups = self._sealer.decide(exchange, understood, place, person.facts, now=now)
        assert not isinstance(groups, Reason)
        return await self._sealer.seal(
            exchange, understood, place, person, groups=groups, first=first, now=now
        )

    async def keep(
        self, conversation: ConversationTag, *, turn: TurnId, incognito: bool = False
    ) -> PutStatus | None:
        """Keep one turn."""
        first = FirstKeys(self._vault.record_keys)
        sealed = await self.sealed(
            await self.person(), conversation, first=first, turn=turn, incognito=incognito
        )
        [status] = await self._vault.store.put([sealed])
        return status

    async def fill(self, turns: int, *, conversations: int) -> None:
        """Keep many turns."""
        person, first = await self.person(), FirstKeys(self._vault.record_keys)
        tags = [ConversationTag(secrets.token_bytes(16)) for _ in range(conversations)]
        for start in range(0, turns, _AT_ONCE):
            batch = [
                await self.sealed(person, tags[number % conversations], first=first)
                for number in range(start, min(turns, start + _AT_ONCE))
            ]
            assert await self._vault.store.put(batch) == [PutStatus.STORED] * len(batch)
