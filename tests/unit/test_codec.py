"""Transcripts as bytes: groups merge, what expired is missing, and nothing unknown is guessed at."""

import json
import sys
import tracemalloc

import pytest
from msgspec.structs import replace

from chatproxy.codec import Encoder, Payload, decode_groups
from chatproxy.errors import UndecryptableError
from chatproxy.model import Message, Origin, Part, PartKind, Transcript

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

TRANSCRIPT = Transcript(
    input=(
        Message("system", (Part(PartKind.TEXT, Origin.SYSTEM, {"text": "Be brief."}),)),
        Message("assistant", ()),
        Message(
            "user",
            (
                Part(PartKind.TOOL_RESULT, Origin.CONNECTOR_RAW, {"id": "1", "content": [{"a": None}, 2.5]}),
                Part(PartKind.TEXT, Origin.TYPED, {"text": "Bonjour 👋" * 40}),
            ),
        ),
    ),
    output=(
        Message("assistant", (Part(PartKind.TEXT, Origin.ASSISTANT, {"text": "a"}),), choice=0),
        Message("assistant", (Part(PartKind.TEXT, Origin.ASSISTANT, {"text": "b"}),), choice=1),
    ),
    model="gpt-test",
    usage={"total_tokens": 3},
    finish=("stop", "length"),
)


EVERY = frozenset(Origin)
NOT_A_CONNECTORS = EVERY - {Origin.CONNECTOR_RAW}


def group(**fields: object) -> Payload:
    return Payload(json.dumps(fields).encode(), compressed=False)


def in_order(*members: object) -> Payload:
    return Payload(json.dumps(members).encode(), compressed=False)


def test_a_transcript_comes_back_as_it_was() -> None:
    assert decode_groups([Encoder().encode_group(TRANSCRIPT, EVERY)]) == TRANSCRIPT


@pytest.mark.parametrize("first, size", [(100, 0), (100, 100), (100, 20_000), (20_000, 100), (3_000, 17_000)])
def test_one_encoder_writes_one_payload_after_the_other(first: int, size: int) -> None:
    encoder = Encoder()
    for words in (first, size, first):
        said = Transcript(
            (Message("user", (Part(PartKind.TEXT, Origin.TYPED, {"text": "wörter " * words}),)),), ()
        )
        payload = encoder.encode_group(said, EVERY)

        assert payload == Encoder().encode_group(said, EVERY)
        assert decode_groups([payload]) == said


def test_groups_merge_in_any_order() -> None:
    groups = [
        Encoder().encode_group(TRANSCRIPT, NOT_A_CONNECTORS),
        Encoder().encode_group(TRANSCRIPT, {Origin.CONNECTOR_RAW}),
    ]

    assert decode_groups(groups) == decode_groups(groups[::-1]) == TRANSCRIPT


def test_what_is_left_of_a_turn_is_in_order_and_names_what_it_was() -> None:
    left = decode_groups([Encoder().encode_group(TRANSCRIPT, NOT_A_CONNECTORS)])

    assert left.input[2] == Message("user", TRANSCRIPT.input[2].parts[1:])
    assert replace(left, input=TRANSCRIPT.input) == TRANSCRIPT


def test_of_a_message_whose_parts_are_all_elsewhere_nothing_is_kept() -> None:
    assert decode_groups([Encoder().encode_group(TRANSCRIPT, {Origin.CONNECTOR_RAW})]).output == ()


def test_an_unparsed_transcript_stays_unparsed() -> None:
    raw = Transcript(
        (Message("user", (Part(PartKind.RAW_REQUEST, Origin.RAW, {"base64": "AA=="}),)),), (), parsed=False
    )

    assert decode_groups([Encoder().encode_group(raw, EVERY)]) == raw


def test_a_payload_is_compressed_where_that_makes_it_smaller() -> None:
    large = Encoder().encode_group(TRANSCRIPT, EVERY)
    small = Encoder().encode_group(Transcript((), ()), EVERY)

    assert (large.compressed, large.data[:4]) == (True, b"\x28\xb5\x2f\xfd")
    assert (small.compressed, json.loads(small.data)) == (False, [2, [], [], None, {}, [], True])


PART_OF_IT = Transcript(
    TRANSCRIPT.input[:1],
    TRANSCRIPT.output[1:],
    TRANSCRIPT.model,
    TRANSCRIPT.usage,
    TRANSCRIPT.finish,
    parsed=False,
)


def test_the_places_of_version_2_are_fixed() -> None:
    payload = Encoder().encode_group(PART_OF_IT, EVERY)
    plain = zstd.decompress(payload.data) if payload.compressed else payload.data

    assert json.loads(plain) == [
        2,
        [[0, "system", [[0, "text", "system", {"text": "Be brief."}]], None]],
        [[0, "assistant", [[0, "text", "assistant", {"text": "b"}]], 1]],
        "gpt-test",
        {"total_tokens": 3},
        ["stop", "length"],
        False,
    ]


def test_version_1_is_read() -> None:
    """It was written before version 2, and what is kept for years is not written anew."""
    payload = group(
        v=1,
        input=[
            {
                "at": 0,
                "role": "system",
                "parts": [{"at": 0, "kind": "text", "origin": "system", "body": {"text": "Be brief."}}],
            }
        ],
        output=[
            {
                "at": 0,
                "role": "assistant",
                "parts": [{"at": 0, "kind": "text", "origin": "assistant", "body": {"text": "b"}}],
                "choice": 1,
            }
        ],
        model="gpt-test",
        usage={"total_tokens": 3},
        finish=["stop", "length"],
        parsed=False,
    )

    assert decode_groups([payload]) == PART_OF_IT
    assert decode_groups([group(v=1)]) == Transcript((), ())


def test_groups_of_both_versions_merge() -> None:
    """A part that is decided on again is sealed anew, and the other parts of its turn are not."""
    connector = group(
        v=1,
        input=[
            {
                "at": 2,
                "role": "user",
                "parts": [
                    {
                        "at": 0,
                        "kind": "tool_result",
                        "origin": "connector_raw",
                        "body": dict(TRANSCRIPT.input[2].parts[0].body),
                    }
                ],
            }
        ],
    )
    rest = Encoder().encode_group(TRANSCRIPT, NOT_A_CONNECTORS)

    assert decode_groups([rest, connector]) == TRANSCRIPT


@pytest.mark.parametrize(
    "payloads, reason",
    [
        pytest.param([], "payload_missing", id="none"),
        pytest.param([in_order(3)], "payload_version_unknown", id="a later version"),
        pytest.param([in_order(3, "other")], "payload_version_unknown", id="a later one of another shape"),
        pytest.param([in_order(1)], "payload_version_unknown", id="version 1 in order"),
        pytest.param([in_order("2")], "payload_malformed", id="a version in text, in order"),
        pytest.param([in_order()], "payload_malformed", id="no version, in order"),
        pytest.param([in_order(2, 5)], "payload_malformed", id="another shape, in order"),
        pytest.param([group(v=2)], "payload_version_unknown", id="version 2 by name"),
        pytest.param(
            [group(v=2, input="other")], "payload_version_unknown", id="version 2 by name, of another shape"
        ),
        pytest.param([group(v=0)], "payload_version_unknown", id="version 0"),
        pytest.param([group(v=1), group(v=2)], "payload_version_unknown", id="one of two"),
        pytest.param([group()], "payload_malformed", id="no version"),
        pytest.param([group(v="1")], "payload_malformed", id="a version in text"),
        pytest.param([group(v=1, input=5)], "payload_malformed", id="another shape"),
        pytest.param(
            [
                group(
                    v=1,
                    input=[
                        {
                            "at": 0,
                            "role": "u",
                            "parts": [{"at": 0, "kind": "new", "origin": "raw", "body": {}}],
                        }
                    ],
                )
            ],
            "payload_malformed",
            id="an unknown kind",
        ),
        pytest.param([Payload(b"", compressed=False)], "payload_malformed", id="nothing"),
        pytest.param([Payload(b"\xff", compressed=False)], "payload_malformed", id="not UTF-8"),
        pytest.param([Payload(b'{"v":1}', compressed=True)], "payload_malformed", id="not compressed"),
        pytest.param(
            [Payload(zstd.compress(b'{"v":1}')[:-1], compressed=True)], "payload_malformed", id="cut"
        ),
        pytest.param(
            [Payload(zstd.compress(b'{"v":1}') + b"x", compressed=True)], "payload_malformed", id="more"
        ),
        pytest.param([Payload(zstd.compress(bytes(1001)), compressed=True)], "payload_too_large", id="large"),
        pytest.param(
            [Payload(bytes(1001), compressed=False)], "payload_too_large", id="large, not compressed"
        ),
        pytest.param(
            [Payload(b'{"v":1}' + b" " * 600, compressed=False)] * 2, "payload_too_large", id="large together"
        ),
    ],
)
def test_what_cannot_be_a_payload_is_refused(payloads: list[Payload], reason: str) -> None:
    with pytest.raises(UndecryptableError) as refused:
        decode_groups(payloads, max_output=1000)
    assert refused.value.reason == reason


def test_a_frame_without_its_end_is_refused_even_if_all_of_it_is_there() -> None:
    compressor = zstd.ZstdCompressor()
    unended = compressor.compress(b'{"v":1}', mode=zstd.ZstdCompressor.FLUSH_BLOCK)

    with pytest.raises(UndecryptableError, match="payload_malformed"):
        decode_groups([Payload(unended, compressed=True)])


def test_a_bomb_is_not_inflated_beyond_the_bound() -> None:
    bomb = Payload(zstd.compress(bytes(64 << 20)), compressed=True)
    tracemalloc.start()
    with pytest.raises(UndecryptableError, match="payload_too_large"):
        decode_groups([bomb], max_output=1 << 20)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 8 << 20


def test_nesting_without_end_is_refused() -> None:
    with pytest.raises(UndecryptableError, match="payload_malformed"):
        decode_groups([Payload(b'{"v":1,"input":' + b"[" * 200_000, compressed=False)])


def test_a_payload_of_exactly_the_bound_is_read() -> None:
    plain = b'{"v":1}' + b" " * 993

    assert decode_groups([Payload(plain, compressed=False)], max_output=1000) == Transcript((), ())
    assert decode_groups([Payload(zstd.compress(plain), compressed=True)], max_output=1000) == Transcript(
        (), ()
    )


def test_a_payload_has_no_content_in_its_repr() -> None:
    assert "Bonjour" not in repr(Encoder().encode_group(TRANSCRIPT, EVERY))
