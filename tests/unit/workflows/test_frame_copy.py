"""Turns of a chat over WebSocket: where one begins, where it ends, and what is in it."""

import pytest

from chatproxy.capture import understand
from chatproxy.model import Caller, StreamEnd
from chatproxy.policy.reasons import Reason
from chatproxy.wire import Dialects
from chatproxy.wire.base import OriginRules
from chatproxy.workflows.frame_copy import LONGEST_ANSWER, LONGEST_REQUEST, TURN_SILENCE_MS, FrameCopy
from integration.websocket_fixtures import NOBODY, ToyChat, Turns, a_capture, said
from unit.wire.test_frames import BINARY, CLOSE, CONTINUATION, MASK, PING, deflated, frame

HELLO, MORE = b'{"say": "hello"}', b'{"say": "more"}'
ONE, TWO, DONE = b'{"answer": "one"}', b'{"answer": "two"}', b'{"done": true}'


def up(*payloads: bytes) -> bytes:
    return b"".join(frame(payload, mask=MASK) for payload in payloads)


def down(*payloads: bytes) -> bytes:
    return b"".join(frame(payload) for payload in payloads)


class Clock:
    now = 1000

    def __call__(self) -> int:
        return self.now


def begin(turns: Turns, caller: Caller = NOBODY, *extensions: bytes) -> FrameCopy:
    copy = turns.capture.begin(caller, "/ws", extensions)
    assert copy is not None
    return copy


async def test_a_turn_is_a_message_and_its_answers_up_to_the_end() -> None:
    _, turns = a_capture(ToyChat())
    copy = begin(turns)
    copy.from_client(up(HELLO))
    copy.from_upstream(down(ONE, TWO, DONE))

    [turn] = await turns.ended(1)

    assert said(turn) == (HELLO, ONE + b"\n" + TWO + b"\n" + DONE + b"\n")
    assert (turn.dialect, turn.status, turn.content_type) == ("json:toy", 200, "application/x-ndjson")
    assert (turn.end, turn.truncated) == (StreamEnd.COMPLETE, False)


async def test_a_turn_without_marked_end_goes_up_to_the_next_message() -> None:
    _, turns = a_capture(ToyChat(marks_ends=False))
    copy = begin(turns)
    copy.from_client(up(HELLO))
    copy.from_upstream(down(ONE, DONE))
    copy.from_client(up(MORE))
    copy.from_upstream(down(TWO))
    copy.finish(StreamEnd.INTERRUPTED)

    first, second = await turns.ended(2)

    assert (said(first), first.end) == ((HELLO, ONE + b"\n"), StreamEnd.COMPLETE)
    assert (said(second), second.end) == ((MORE, TWO + b"\n"), StreamEnd.INTERRUPTED)


async def test_messages_that_are_no_part_of_the_chat_are_not_in_it() -> None:
    _, turns = a_capture(ToyChat())
    copy = begin(turns)
    copy.from_client(up(b'{"typing": true}', b"ping", HELLO, b'{"typing": false}'))
    copy.from_upstream(down(b"pong", DONE))
    copy.from_upstream(down(b'{"status": "online"}', DONE))

    [turn] = await turns.ended(1)

    assert said(turn) == (HELLO, DONE + b"\n")
    assert turns.counted("chatproxy_turns_seen_total") == 1


async def test_what_the_backend_says_by_itself_is_a_turn_without_request() -> None:
    _, turns = a_capture(ToyChat())
    copy = begin(turns)
    copy.from_upstream(down(ONE, DONE))

    [turn] = await turns.ended(1)

    assert said(turn) == (b"", ONE + b"\n" + DONE + b"\n")


async def test_an_answer_that_is_silent_is_closed_so_that_a_crash_costs_less_than_fifteen_seconds() -> None:
    clock = Clock()
    _, turns = a_capture(ToyChat(), clock=clock)
    copy = begin(turns)
    copy.from_client(up(HELLO))
    clock.now += 10 * TURN_SILENCE_MS
    copy.tick()
    copy.from_upstream(down(ONE))
    clock.now += TURN_SILENCE_MS - 1
    copy.tick()
    copy.from_upstream(down(TWO))
    clock.now += TURN_SILENCE_MS - 1
    copy.tick()
    assert turns.counted("chatproxy_turns_pending") == 1
    assert not turns.journal._ended
    clock.now += 1
    copy.tick()

    [turn] = await turns.ended(1)

    assert said(turn) == (HELLO, ONE + b"\n" + TWO + b"\n")
    assert TURN_SILENCE_MS < 15_000


async def test_what_comes_after_the_silence_is_not_lost() -> None:
    clock = Clock()
    _, turns = a_capture(ToyChat(), clock=clock)
    copy = begin(turns)
    copy.from_client(up(HELLO))
    copy.from_upstream(down(ONE))
    clock.now += TURN_SILENCE_MS
    copy.tick()
    copy.from_upstream(down(TWO, DONE))

    first, second = await turns.ended(2)

    assert said(first) == (HELLO, ONE + b"\n")
    assert said(second) == (b"", TWO + b"\n" + DONE + b"\n")


async def test_each_turn_has_the_time_at_which_it_began() -> None:
    clock = Clock()
    _, turns = a_capture(ToyChat(), clock=clock)
    copy = begin(turns)
    copy.from_client(up(HELLO))
    clock.now += 500
    copy.from_client(up(MORE))
    copy.finish(StreamEnd.CLIENT_ABORTED)

    assert [turn.received_at for turn in await turns.ended(2)] == [1000, 1500]


@pytest.mark.parametrize(
    "side, marks_ends, answered, end",
    [
        ("client", True, True, StreamEnd.CLIENT_ABORTED),
        ("client", False, True, StreamEnd.COMPLETE),
        ("client", False, False, StreamEnd.CLIENT_ABORTED),
        ("upstream", False, True, StreamEnd.COMPLETE),
        ("upstream", True, True, StreamEnd.COMPLETE),
        ("upstream", False, False, StreamEnd.UPSTREAM_ABORTED),
    ],
)
async def test_a_close_frame_ends_the_turn(
    side: str, marks_ends: bool, answered: bool, end: StreamEnd
) -> None:
    _, turns = a_capture(ToyChat(marks_ends=marks_ends))
    copy = begin(turns)
    copy.from_client(up(HELLO))
    if answered:
        copy.from_upstream(down(ONE))
    if side == "client":
        copy.from_client(frame(b"\x03\xe8", CLOSE, mask=MASK))
    else:
        copy.from_upstream(frame(b"\x03\xe8", CLOSE))

    [turn] = await turns.ended(1)
    copy.finish(StreamEnd.INTERRUPTED)

    assert turn.end is end
    assert turns.counted("chatproxy_turns_seen_total") == 1


async def test_a_turn_in_pieces_compressed_and_binary_is_the_same_turn() -> None:
    _, turns = a_capture(ToyChat())
    copy = begin(turns, NOBODY, b"permessage-deflate; server_no_context_takeover")
    sent = frame(deflated(HELLO), BINARY, flags=0x40, mask=MASK) + frame(b"", PING, mask=MASK)
    answers = frame(deflated(ONE), flags=0x40) + frame(deflated(TWO)[:3], flags=0x40, fin=False)
    answers += frame(deflated(TWO)[3:], CONTINUATION) + down(DONE)
    for at in range(len(sent)):
        copy.from_client(sent[at : at + 1])
    for at in range(len(answers)):
        copy.from_upstream(answers[at : at + 1])

    [turn] = await turns.ended(1)

    assert said(turn) == (HELLO, ONE + b"\n" + TWO + b"\n" + DONE + b"\n")


async def test_line_ends_in_an_answer_do_not_make_it_two() -> None:
    _, turns = a_capture(ToyChat())
    copy = begin(turns)
    copy.from_client(up(HELLO))
    copy.from_upstream(down(b'{\r\n"answer":\n"a\\nb"}', DONE))

    [turn] = await turns.ended(1)

    assert said(turn)[1] == b'{  "answer": "a\\nb"}\n' + DONE + b"\n"


async def test_a_connection_of_which_nothing_names_the_conversation_is_one() -> None:
    _, turns = a_capture(ToyChat())
    for copy in (begin(turns), begin(turns)):
        copy.from_client(up(HELLO, MORE))
        copy.finish(StreamEnd.COMPLETE)

    names = [turn.caller.conversation for turn in await turns.ended(4)]

    assert names[0] == names[1] != names[2] == names[3]
    assert all(name and name.startswith("\0") for name in names)


@pytest.mark.parametrize("named_by", ["the caller", "the messages"])
async def test_a_conversation_that_is_named_keeps_its_name(named_by: str) -> None:
    _, turns = a_capture(ToyChat(names_conversations=named_by == "the messages"))
    caller = Caller(subject="ana", conversation="c" if named_by == "the caller" else None)
    begin(turns, caller).from_client(up(HELLO, MORE))

    [turn] = await turns.ended(1)

    assert turn.caller == caller


async def test_a_connection_that_nothing_describes_is_counted_and_not_copied() -> None:
    _, turns = a_capture(ToyChat())
    assert turns.capture.begin(NOBODY, "/other", ()) is None
    assert turns.counted("chatproxy_websockets_total", capture="passed") == 1
    begin(turns)
    assert turns.counted("chatproxy_websockets_total", capture="captured") == 1


@pytest.mark.parametrize(
    "side, data, reason",
    [
        ("client", b"GET / HTTP/1.1\r\n", "not_frames"),
        ("upstream", frame(b"\xff\xff\xff", flags=0x40), "not_deflate"),
        ("upstream", frame(deflated(bytes(LONGEST_ANSWER + 1)), flags=0x40), "too_large"),
        ("client", frame(bytes(101), fin=False), "no_memory"),
    ],
)
async def test_what_cannot_be_read_is_given_up_once_and_closes_the_turn(
    side: str, data: bytes, reason: str
) -> None:
    _, turns = a_capture(ToyChat(), memory=100)
    copy = begin(turns, NOBODY, b"permessage-deflate")
    copy.from_client(up(HELLO))
    (copy.from_client if side == "client" else copy.from_upstream)(data)
    copy.from_client(up(MORE))
    copy.from_upstream(down(ONE))
    copy.finish(StreamEnd.COMPLETE)

    [turn] = await turns.ended(1)

    assert (said(turn), turn.end) == ((HELLO, b""), StreamEnd.INTERRUPTED)
    assert turns.counted("chatproxy_websocket_faults_total", reason=reason) == 1
    assert turns.counted("chatproxy_turns_seen_total") == 1
    assert copy.is_unkept
    # What it held is free again.
    assert turns.capture.hold(100)


async def test_what_came_before_what_cannot_be_read_is_kept() -> None:
    _, turns = a_capture(ToyChat())
    begin(turns).from_client(up(HELLO) + b"\xff" * 20)

    [turn] = await turns.ended(1)

    assert said(turn) == (HELLO, b"")


async def test_an_extension_that_is_not_known_is_given_up_at_once() -> None:
    _, turns = a_capture(ToyChat())
    copy = begin(turns, NOBODY, b"x-secret")
    copy.from_client(up(HELLO))
    assert turns.counted("chatproxy_websocket_faults_total", reason="extension") == 1
    assert turns.counted("chatproxy_turns_seen_total") == 0
    assert copy.is_unkept


async def test_memory_for_unfinished_messages_is_shared_and_given_back() -> None:
    _, turns = a_capture(ToyChat(), memory=100)
    one, two = begin(turns), begin(turns)
    one.from_client(frame(bytes(60), fin=False))
    one.from_client(frame(bytes(30), CONTINUATION))
    two.from_upstream(frame(bytes(60), fin=False))
    assert turns.counted("chatproxy_websocket_faults_total", reason="no_memory") == 0
    one.from_client(frame(bytes(41), fin=False))
    assert turns.counted("chatproxy_websocket_faults_total", reason="no_memory") == 1
    two.finish(StreamEnd.COMPLETE)
    two.finish(StreamEnd.COMPLETE)
    assert turns.capture.hold(100)
    assert not turns.capture.hold(1)


@pytest.mark.parametrize("side", ["client", "upstream"])
async def test_a_message_that_is_too_long_is_a_turn_kept_as_it_came(side: str) -> None:
    _, turns = a_capture(ToyChat(), memory=1 << 26)
    copy = begin(turns)
    if side == "client":
        copy.from_client(up(b"x" * (LONGEST_REQUEST + 1)))
    else:
        copy.from_client(up(HELLO))
        copy.from_upstream(down(b"x" * (LONGEST_ANSWER + 1), DONE))
    copy.finish(StreamEnd.COMPLETE)

    [turn] = await turns.ended(1)

    assert turn.truncated
    assert not understand(turn, Dialects(()), OriginRules(), 1 << 26).transcript.parsed


async def test_of_whom_nothing_may_be_kept_nothing_is_kept_and_each_turn_is_counted_once() -> None:
    _, turns = a_capture(ToyChat(), never_kept=Reason.ZDR_NO_STORE)
    copy = begin(turns)
    copy.from_client(up(HELLO))
    copy.from_upstream(down(ONE, TWO, DONE))
    copy.finish(StreamEnd.COMPLETE)
    assert turns.journal.is_idle
    assert turns.counted("chatproxy_turns_total", outcome="not_stored") == 1
    assert not copy.is_unkept


async def test_a_turn_without_room_is_lost_and_counted_and_the_next_may_be_kept() -> None:
    _, turns = a_capture(ToyChat(), queue=100)
    copy = begin(turns)
    copy.from_client(up(HELLO))
    copy.from_upstream(down(ONE))
    assert turns.counted("chatproxy_turns_total", outcome="lost") == 1
    assert copy.is_unkept


@pytest.mark.parametrize("caller", [Caller(subject="ana"), NOBODY], ids=["ana", "nobody"])
async def test_a_header_of_the_handshake_names_the_conversation_of_a_known_person_alone(
    caller: Caller,
) -> None:
    _, turns = a_capture(ToyChat())
    copy = turns.capture.begin(caller, "/ws", (), conversation="x-session-id\x001")
    assert copy is not None
    copy.from_client(up(HELLO))
    copy.finish(StreamEnd.INTERRUPTED)

    [turn] = await turns.ended(1)

    assert turn.conversation == "x-session-id\x001"
    assert (turn.caller.conversation is None) == (caller.subject is not None)
