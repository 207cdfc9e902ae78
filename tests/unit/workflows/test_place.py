"""Where a turn belongs: by identity, by the dialect's own names, by history, within the person."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from chatproxy.capture import Understood
from chatproxy.crypto.keys import PseudonymKey
from chatproxy.crypto.pseudonyms import Pseudonymizer
from chatproxy.model import (
    Caller,
    ConversationSource,
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
from chatproxy.ports import KnownTurn, TranscriptStore
from chatproxy.workflows.place import Place, Places

ANA = Caller(subject="ana")
BEN = Caller(subject="ben")
NOBODY = Caller()


@dataclass
class Heads:
    """As much of a store as finds turns."""

    heads: dict[tuple[bytes, bytes], KnownTurn] = field(default_factory=dict)
    strays: dict[bytes, SubjectTag] = field(default_factory=dict)
    fence: int | None = None

    async def erased_at(self, subject: SubjectTag) -> int | None:
        return self.fence

    async def find_head(self, subject: SubjectTag, head: bytes) -> KnownTurn | None:
        return self.heads.get((subject, head))

    async def adopt_stray(self, head: bytes) -> SubjectTag | None:
        return self.strays.get(head)

    def keep(self, turn: TurnId, place: Place) -> None:
        for head in place.heads:
            self.heads[place.subject, head] = KnownTurn(place.conversation, turn, place.asked)
            if place.is_stray:
                self.strays[head] = place.subject


class Bench:
    """Places turns one after the other, each as if chatproxy had just been started."""

    def __init__(self, *sources: ConversationSource) -> None:
        self.store = Heads()
        self._number = 0
        self._sources = {"sources": sources} if sources else {}

    def _random(self, size: int) -> bytes:
        self._number += 1
        return self._number.to_bytes(size, "big")

    async def place(
        self,
        caller: Caller,
        *,
        sent: Sequence[str] = "q",
        answer: str | None = None,
        dialect: str = "openai_responses",
        header: str | None = None,
        **facts: Any,
    ) -> tuple[TurnId, Place]:
        """Place a turn in which *sent* is said, a letter a message, in turns, and then answered."""
        messages = tuple(
            spoken("assistant" if index % 2 else "user", text) for index, text in enumerate(sent)
        )
        return await self._put(caller, sent, messages, answer, dialect, header, **facts)

    async def follow_up(self, caller: Caller, *said: str) -> tuple[TurnId, Place]:
        """Place a turn in which a person says several things, of which none was answered."""
        messages = tuple(spoken("user", text) for text in said)
        return await self._put(caller, said, messages, None, "openai_chat", None, resent=0)

    async def _put(
        self,
        caller: Caller,
        sent: Sequence[str],
        messages: tuple[Message, ...],
        answer: str | None,
        dialect: str,
        header: str | None,
        *,
        resent: int | None = None,
        **facts: Any,
    ) -> tuple[TurnId, Place]:
        history = len(messages) - len(messages) % 2 if resent is None else resent
        reply = spoken("assistant", "".join(sent).upper() if answer is None else answer)
        said = Transcript(input=messages[history:], output=(reply,))
        understood = Understood(said, StreamEnd.COMPLETE, history=messages[:history], **facts)
        turn = TurnId(self._random(16))
        exchange = Exchange(turn, 0, caller, dialect, conversation=header)
        pseudonyms = Pseudonymizer(PseudonymKey(bytes(32)))
        places = Places(
            cast("TranscriptStore", self.store),
            pseudonyms,
            random=self._random,
            erased_at=self.store.erased_at,
            **cast("Any", self._sources),
        )
        place = await places.find(exchange, understood)
        self.store.keep(turn, place)
        return turn, place


def places_of(store: Heads) -> Places:
    return Places(
        cast("TranscriptStore", store),
        Pseudonymizer(PseudonymKey(bytes(32))),
        random=bytes,
        erased_at=store.erased_at,
    )


def spoken(role: str, text: str) -> Message:
    return Message(role, (Part(PartKind.TEXT, Origin.TYPED, {"text": text}),))


@pytest.mark.parametrize("caller", [ANA, NOBODY], ids=["ana", "nobody"])
async def test_a_request_that_names_an_answer_continues_it(caller: Caller) -> None:
    bench = Bench()
    first, parent = await bench.place(caller, reply_ids=("resp_1", "msg_1"))
    _, by_reply = await bench.place(caller, sent="a", continues="resp_1", reply_ids=("resp_2",))
    _, by_item = await bench.place(caller, sent="b", continues="msg_1")
    _, next_one = await bench.place(caller, sent="c", continues="resp_2")

    assert (by_reply.after, by_item.after) == (first, first)
    assert {place.conversation for place in (by_reply, by_item, next_one)} == {parent.conversation}
    assert {place.subject for place in (by_reply, by_item, next_one)} == {parent.subject}


async def test_an_answer_is_named_within_its_person() -> None:
    bench = Bench()
    _, of_ana = await bench.place(ANA, reply_ids=("resp_1",), conversation="conv_1")
    _, of_ben = await bench.place(BEN, continues="resp_1", conversation="conv_1")

    assert of_ben.after is None
    assert of_ben.conversation != of_ana.conversation
    assert not set(of_ben.heads) & set(of_ana.heads)


async def test_an_answer_that_is_not_known_begins_a_conversation() -> None:
    _, place = await Bench().place(ANA, continues="resp_1")

    assert (place.after, place.unmatched, place.repeated) == (None, 0, 0)


async def test_what_is_referred_to_is_not_counted_as_unmatched() -> None:
    bench = Bench()
    await bench.place(ANA, reply_ids=("msg_1",))
    _, place = await bench.place(ANA, sent="q?r", continues="msg_1")

    assert (place.unmatched, place.repeated) == (0, 0)


async def test_words_after_an_answer_that_is_only_named_do_not_lead_to_them() -> None:
    bench = Bench()
    _, parent = await bench.place(ANA, reply_ids=("resp_1",), sent="x")
    await bench.place(ANA, sent="q", continues="resp_1")
    _, other = await bench.place(ANA, sent="qQr")

    assert (other.after, other.unmatched) == (None, 2)
    assert other.conversation != parent.conversation


async def test_words_still_lead_to_what_is_sent_again_beside_a_name() -> None:
    bench = Bench()
    first, _ = await bench.place(ANA, sent="q", continues="unknown", reply_ids=("msg_1",))
    second, _ = await bench.place(ANA, sent="qQr", continues="msg_1")
    _, third = await bench.place(ANA, sent="qQr" + "qQr".upper()[:1] + "s", continues="unknown")

    assert first != second
    assert third.after == second


@pytest.mark.parametrize("came_back", ["Q", "", "!"], ids=["cut short", "without words", "edited"])
async def test_an_answer_that_is_not_sent_back_as_it_was_is_known_by_its_question(came_back: str) -> None:
    bench = Bench()
    _, before = await bench.place(ANA, sent="aAb")
    first, parent = await bench.place(ANA, sent="q")
    second, place = await bench.place(ANA, sent=["q", came_back, "r"])
    _, third = await bench.place(ANA, sent=["q", came_back, "r", "R", "s"])

    assert (place.after, third.after) == (first, second)
    assert {place.conversation, third.conversation} == {parent.conversation} != {before.conversation}
    assert [(each.unmatched, each.repeated) for each in (place, third)] == [(0, 0), (0, 0)]


async def test_an_answer_that_is_known_counts_before_its_question() -> None:
    bench = Bench()
    first, _ = await bench.place(ANA, sent="q")
    again, _ = await bench.place(ANA, sent=["q"], answer="other")
    _, after_first = await bench.place(ANA, sent="qQr")
    _, after_again = await bench.place(ANA, sent=["q", "other", "r"])
    _, after_neither = await bench.place(ANA, sent=["q", "oth", "r"])

    assert [place.after for place in (after_first, after_again, after_neither)] == [first, again, again]


async def test_the_question_of_a_late_answer_counts_before_an_earlier_answer() -> None:
    bench = Bench()
    await bench.place(ANA, sent="q")
    second, _ = await bench.place(ANA, sent="qQr")
    _, place = await bench.place(ANA, sent="qQr!s")

    assert (place.after, place.unmatched) == (second, 0)


async def test_a_question_is_its_persons_own_and_never_nobodys() -> None:
    bench = Bench()
    _, of_ana = await bench.place(ANA, sent="q")
    _, of_nobody = await bench.place(NOBODY, sent="q")
    _, by_ben = await bench.place(BEN, sent="q!r")
    _, by_nobody = await bench.place(NOBODY, sent="q!r")

    assert (by_ben.after, by_nobody.after) == (None, None)
    assert by_nobody.subject != of_nobody.subject
    assert (len(of_ana.heads), len(of_nobody.heads)) == (2, 1)


async def test_a_prefill_is_new_though_its_question_is_known() -> None:
    bench = Bench()
    await bench.place(ANA, sent="q")
    _, place = await bench.place(ANA, sent="q!")

    assert (place.after, place.repeated) == (None, 0)


async def test_the_same_question_again_begins_another_conversation() -> None:
    bench = Bench()
    _, one = await bench.place(ANA, sent="q")
    _, two = await bench.place(ANA, sent="q")

    assert two.after is None
    assert two.conversation != one.conversation


async def test_what_was_asked_after_an_answer_that_is_only_named_is_no_question() -> None:
    bench = Bench()
    await bench.place(ANA, sent="q", continues="resp_1")
    _, place = await bench.place(ANA, sent="q!r")

    assert place.after is None


@pytest.mark.parametrize("answers, is_found", [(32, True), (33, False)])
async def test_a_branch_is_looked_for_32_answers_back(answers: int, *, is_found: bool) -> None:
    bench = Bench()
    first, _ = await bench.place(ANA, sent="q")
    _, place = await bench.place(ANA, sent="q!" + "r!" * (answers - 1) + "s")

    assert place.after == (first if is_found else None)


async def test_the_id_of_the_dialect_names_the_conversation_and_the_last_turn_is_followed() -> None:
    bench = Bench()
    _, first = await bench.place(ANA, conversation="conv_1")
    second, _ = await bench.place(ANA, sent="r", conversation="conv_1")
    _, third = await bench.place(ANA, sent="s", conversation="conv_1")
    _, other = await bench.place(ANA, sent="s", conversation="conv_2")

    assert (third.conversation, third.after) == (first.conversation, second)
    assert other.conversation != first.conversation


async def test_the_same_id_in_two_dialects_or_from_identity_is_another_conversation() -> None:
    bench = Bench()
    _, one = await bench.place(ANA, conversation="1", dialect="json:a")
    _, two = await bench.place(ANA, conversation="1", dialect="json:b")
    _, identity = await bench.place(Caller(subject="ana", conversation="1"), sent="z")

    assert len({one.conversation, two.conversation, identity.conversation}) == 3


async def test_an_id_of_a_dialect_does_not_join_what_is_nobodys() -> None:
    bench = Bench()
    _, one = await bench.place(NOBODY, sent="a", conversation="1")
    _, two = await bench.place(NOBODY, sent="b", conversation="1")

    assert one.subject != two.subject
    assert one.conversation != two.conversation


IDENTITY, DIALECT, HEADER, HISTORY = ConversationSource


@pytest.mark.parametrize(
    "sources, strongest",
    [
        (tuple(ConversationSource), IDENTITY),
        ((DIALECT, HEADER, IDENTITY, HISTORY), DIALECT),
        ((HEADER, DIALECT, IDENTITY, HISTORY), HEADER),
        ((HISTORY, DIALECT, IDENTITY), HISTORY),
        ((DIALECT,), DIALECT),
        ((HEADER,), HEADER),
        ((HISTORY,), HISTORY),
    ],
)
async def test_the_strongest_source_names_the_conversation(
    sources: tuple[ConversationSource, ...], strongest: ConversationSource
) -> None:
    named = Caller(subject="ana", conversation="i")
    bench = Bench(*sources)
    _, by_identity = await Bench().place(named)
    _, by_dialect = await Bench().place(ANA, conversation="d")
    _, by_header = await Bench().place(ANA, header="h\0h")
    _, by_history = await bench.place(ANA, reply_ids=("resp_1",))
    _, place = await bench.place(named, sent="r", conversation="d", header="h\0h", continues="resp_1")

    names = {IDENTITY: by_identity, DIALECT: by_dialect, HEADER: by_header, HISTORY: by_history}
    assert place.conversation == names[strongest].conversation


async def test_a_source_that_is_left_out_names_nothing() -> None:
    bench = Bench(HISTORY)
    _, one = await bench.place(ANA, sent="a", conversation="1")
    _, two = await bench.place(ANA, sent="b", conversation="1")

    assert one.conversation != two.conversation


async def test_requests_that_continue_two_answers_with_one_word_are_no_attempts_at_one() -> None:
    bench = Bench()
    await bench.place(ANA, sent="q", reply_ids=("resp_1", "resp_2"))
    _, one = await bench.place(ANA, sent=["yes"], continues="resp_1")
    _, again = await bench.place(ANA, sent=["yes"], continues="resp_1")
    _, other = await bench.place(ANA, sent=["yes"], continues="resp_2")

    assert one.asked == again.asked != other.asked


@pytest.mark.parametrize("caller", [NOBODY, Caller(conversation="c")], ids=["nobody", "a conversation"])
async def test_of_nobody_there_is_no_other_attempt(caller: Caller) -> None:
    _, place = await Bench().place(caller)

    assert place.asked is None


async def test_a_request_that_asks_nothing_is_an_attempt_only_under_its_name() -> None:
    async def asked(named: TurnId | None) -> bytes | None:
        places = places_of(Heads())
        exchange = Exchange(TurnId(bytes(16)), 0, ANA, "openai_chat", named=named)
        return (await places.find(exchange, Understood(Transcript((), ()), StreamEnd.ERROR))).asked

    one, two = (TurnId(bytes([number]) * 16) for number in (1, 2))
    assert await asked(None) is None
    assert await asked(one) == await asked(one) != await asked(two)


async def test_a_header_names_the_conversation_within_its_person_and_never_nobodys() -> None:
    bench = Bench()
    _, one = await bench.place(ANA, sent="a", header="x-session-id\x001")
    _, two = await bench.place(ANA, sent="b", header="x-session-id\x001")
    _, other_header = await bench.place(ANA, sent="c", header="session-id\x001")
    _, dialect = await bench.place(ANA, sent="d", conversation="1", dialect="header:x-session-id")
    _, of_ben = await bench.place(BEN, sent="a", header="x-session-id\x001")
    _, of_nobody = await bench.place(NOBODY, sent="a", header="x-session-id\x001")
    _, again = await bench.place(NOBODY, sent="b", header="x-session-id\x001")

    assert one.conversation == two.conversation
    assert (two.after, two.unmatched) == (None, 0)
    places = (one, other_header, of_ben, of_nobody, again)
    assert len({place.conversation for place in places}) == len(places)
    assert dialect.conversation != other_header.conversation


async def test_a_history_within_a_named_conversation_tells_what_a_turn_follows() -> None:
    bench = Bench()
    first, _ = await bench.place(ANA, sent="q", header="h\x001")
    await bench.place(ANA, sent="aside", header="h\x001")
    _, place = await bench.place(ANA, sent="qQr", header="h\x001")

    assert place.after == first


async def test_a_question_that_was_answered_with_no_word_is_followed_by_the_next() -> None:
    bench = Bench()
    first, parent = await bench.place(ANA, sent=["q"], answer="")
    second, place = await bench.follow_up(ANA, "q", "r")
    _, third = await bench.follow_up(ANA, "q", "r", "s", "t")

    assert (place.after, place.conversation, place.repeated) == (first, parent.conversation, 1)
    assert (third.after, third.conversation, third.repeated) == (second, parent.conversation, 2)


async def test_of_nobody_a_question_without_an_answer_leads_nowhere() -> None:
    bench = Bench()
    await bench.place(NOBODY, sent=["q"], answer="")
    _, place = await bench.follow_up(NOBODY, "q", "r")

    assert (place.after, place.repeated) == (None, 0)


async def test_nothing_leads_to_what_could_not_be_read() -> None:
    store = Heads()
    places = places_of(store)
    raw = Understood(
        Transcript((), (), parsed=False), StreamEnd.COMPLETE, reply_ids=("resp_1",), conversation="c"
    )

    assert (await places.find(Exchange(TurnId(bytes(16)), 0, ANA, "openai_responses"), raw)).heads == ()


async def test_what_was_received_before_an_erasure_is_not_gone_on_with_from_memory() -> None:
    store = Heads()
    places = places_of(store)

    async def placed(number: int, caller: Caller, at: int, *said: str) -> Place:
        spoke = [spoken("assistant" if index % 2 else "user", text) for index, text in enumerate(said)]
        answer = spoken("assistant", f"answer {number}")
        understood = Understood(
            Transcript((spoke[-1],), (answer,)), StreamEnd.COMPLETE, history=tuple(spoke[:-1])
        )
        exchange = Exchange(TurnId(bytes([number]) * 16), at, caller, "openai_chat")
        return await places.find(exchange, understood)

    first = await placed(1, ANA, 10, "q")
    of_ben = await placed(2, BEN, 10, "q")
    assert (await placed(3, ANA, 11, "q", "answer 1", "r")).after == first.turn
    of_nobody = await placed(9, NOBODY, 12, "n")
    assert (await placed(10, NOBODY, 13, "n", "answer 9", "o")).after == of_nobody.turn
    store.fence = 20
    assert (await placed(11, NOBODY, 21, "n", "answer 9", "p")).after is None
    under_way = await placed(4, ANA, 20, "s")
    anew = await placed(5, ANA, 21, "q", "answer 1", "r")
    assert (anew.after, anew.unmatched) == (None, 2)
    assert anew.conversation != first.conversation
    assert (await placed(6, ANA, 22, "s", "answer 4", "t")).after is None
    assert (await placed(7, ANA, 23, "q", "answer 1", "r", "answer 5", "u")).after == anew.turn
    assert under_way.after is None
    store.fence = None
    assert (await placed(8, BEN, 24, "q", "answer 2", "v")).after == of_ben.turn
