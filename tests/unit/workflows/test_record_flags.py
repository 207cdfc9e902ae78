"""What the header of a record says of its payload and of how the exchange ended."""

import pytest

from chatproxy.codec import Payload
from chatproxy.crypto.record import RecordFlags
from chatproxy.model import StreamEnd
from chatproxy.workflows.seal import _flags


@pytest.mark.parametrize(
    "end, compressed, flags",
    [
        pytest.param(StreamEnd.COMPLETE, True, RecordFlags.PADDED | RecordFlags.ZSTD, id="compressed"),
        pytest.param(StreamEnd.CLIENT_ABORTED, False, RecordFlags.PADDED, id="as it is"),
        pytest.param(
            StreamEnd.INTERRUPTED,
            True,
            RecordFlags.PADDED | RecordFlags.ZSTD | RecordFlags.INTERRUPTED,
            id="interrupted",
        ),
        pytest.param(
            StreamEnd.INTERRUPTED,
            False,
            RecordFlags.PADDED | RecordFlags.INTERRUPTED,
            id="interrupted and as it is",
        ),
    ],
)
def test_a_record_says_how_its_payload_lies_and_that_it_was_interrupted(
    end: StreamEnd, compressed: bool, flags: RecordFlags
) -> None:
    assert _flags(end, Payload(b"", compressed=compressed)) == flags
