"""Any transcript, divided in any way into groups, comes back; and any loss of groups leaves the rest in order."""

from random import Random

from hypothesis import given, settings, strategies as st

from chatproxy.codec import Encoder, decode_groups
from chatproxy.model import Message, Origin, Part, PartKind, Transcript

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
LEAVES = st.none() | st.booleans() | NUMBERS | TEXTS
JSON = LEAVES | st.lists(LEAVES, max_size=2) | st.dictionaries(TEXTS, LEAVES, max_size=2)
PARTS = st.builds(
    Part, st.sampled_from(PartKind), st.sampled_from(Origin), st.dictionaries(TEXTS, JSON, max_size=2)
)
MESSAGES = st.builds(Message, TEXTS, st.lists(PARTS, max_size=3).map(tuple), st.none() | st.integers(0, 3))
SEVERAL = st.lists(MESSAGES, max_size=3).map(tuple)
TRANSCRIPTS = st.builds(
    Transcript,
    SEVERAL,
    SEVERAL,
    st.none() | TEXTS,
    st.dictionaries(TEXTS, st.integers(0, 2**63 - 1), max_size=3),
    st.lists(TEXTS, max_size=3).map(tuple),
    st.booleans(),
)


def only(transcript: Transcript, origins: set[Origin]) -> Transcript:
    """Return *transcript* with the parts of *origins* and the messages that have any, or never had."""

    def kept(messages: tuple[Message, ...]) -> tuple[Message, ...]:
        shorter = [
            (
                message,
                Message(
                    message.role,
                    tuple(part for part in message.parts if part.origin in origins),
                    message.choice,
                ),
            )
            for message in messages
        ]
        return tuple(short for message, short in shorter if short.parts or not message.parts)

    return Transcript(
        kept(transcript.input),
        kept(transcript.output),
        transcript.model,
        transcript.usage,
        transcript.finish,
        transcript.parsed,
    )


@settings(max_examples=150, deadline=None)
@given(
    TRANSCRIPTS,
    st.dictionaries(st.sampled_from(Origin), st.integers(0, 2)),
    st.randoms(use_true_random=False),
)
def test_a_transcript_in_groups_comes_back(
    transcript: Transcript, groups: dict[Origin, int], order: Random
) -> None:

    def of_group(number: int) -> set[Origin]:
        return {origin for origin in Origin if groups.get(origin, 0) == number}

    payloads = [Encoder().encode_group(transcript, of_group(number)) for number in range(3)]
    order.shuffle(payloads)

    assert decode_groups(payloads) == transcript


@settings(max_examples=150, deadline=None)
@given(TRANSCRIPTS, st.sets(st.sampled_from(Origin)))
def test_what_is_left_is_in_order(transcript: Transcript, left: set[Origin]) -> None:
    assert decode_groups([Encoder().encode_group(transcript, left)]) == only(transcript, left)
