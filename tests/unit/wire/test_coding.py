"""Content codings are undone for the copy, and bounded."""

import gzip
import random
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from functools import partial

import brotli
import pytest

from chatproxy.errors import UnreadableError
from chatproxy.wire.coding import decode

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PLAIN = '{"text": "Bonjour 👋"}'.encode() * 200
LIMIT = 1 << 20


def raw_deflate(body: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(body) + compressor.flush()


CODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": partial(brotli.compress, quality=5),
    "zstd": zstd.compress,
}


@pytest.mark.parametrize(
    "encoding, body",
    [
        pytest.param("", PLAIN, id="none"),
        pytest.param("identity", PLAIN, id="identity"),
        pytest.param("gzip", gzip.compress(PLAIN), id="gzip"),
        pytest.param("X-GZip", gzip.compress(PLAIN), id="x-gzip in any case"),
        pytest.param("gzip", gzip.compress(PLAIN[:900]) + gzip.compress(PLAIN[900:]), id="two gzip members"),
        pytest.param("gzip", gzip.compress(PLAIN) + b"\0" * 9, id="padding after gzip"),
        pytest.param("deflate", zlib.compress(PLAIN), id="deflate"),
        pytest.param("deflate", raw_deflate(PLAIN), id="deflate without its wrapper"),
        pytest.param("br", brotli.compress(PLAIN), id="br"),
        pytest.param("zstd", zstd.compress(PLAIN), id="zstd"),
        pytest.param("zstd", zstd.compress(PLAIN[:900]) + zstd.compress(PLAIN[900:]), id="two zstd frames"),
        pytest.param("gzip, br", brotli.compress(gzip.compress(PLAIN)), id="a chain"),
        pytest.param(
            " deflate ,, identity,gzip", gzip.compress(zlib.compress(PLAIN)), id="a chain with empty steps"
        ),
    ],
)
def test_a_coding_is_undone(encoding: str, body: bytes) -> None:
    assert decode(body, encoding, LIMIT) == PLAIN


@pytest.mark.parametrize("encoding", CODERS)
def test_of_a_cut_body_what_can_be_decoded_is(encoding: str) -> None:
    noise = random.Random(1).randbytes(20_000)  # noqa: S311 - test input
    whole = CODERS[encoding](noise)

    assert decode(whole, encoding, LIMIT) == noise
    for length in (0, 1, len(whole) // 2, len(whole) - 1):
        assert noise.startswith(decode(whole[:length], encoding, LIMIT))


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd"])
def test_most_of_a_cut_body_is_decoded(encoding: str) -> None:
    noise = random.Random(1).randbytes(600_000)  # noqa: S311 - test input
    whole = CODERS[encoding](noise)

    assert len(decode(whole[: len(whole) * 2 // 3], encoding, LIMIT)) > 100_000


@pytest.mark.parametrize("encoding", [*CODERS, "compress", "aws-chunked", "gzip, gzip, gzip", "br, gzip"])
def test_what_is_not_in_its_coding_is_unreadable(encoding: str) -> None:
    with pytest.raises(UnreadableError) as refused:
        decode(PLAIN, encoding, LIMIT)
    assert "Bonjour" not in str(refused.value)


def test_more_than_two_codings_are_not_undone() -> None:
    with pytest.raises(UnreadableError):
        decode(gzip.compress(gzip.compress(gzip.compress(PLAIN))), "gzip, gzip, gzip", LIMIT)


@pytest.mark.parametrize("encoding", CODERS)
def test_exactly_the_limit_is_decoded_and_one_byte_more_is_not(encoding: str) -> None:
    body = CODERS[encoding](PLAIN)

    assert decode(body, encoding, len(PLAIN)) == PLAIN
    with pytest.raises(UnreadableError):
        decode(body, encoding, len(PLAIN) - 1)


def test_the_limit_holds_without_a_coding_and_over_several_members() -> None:
    with pytest.raises(UnreadableError):
        decode(PLAIN, "", len(PLAIN) - 1)
    for encoding in ("gzip", "zstd"):
        with pytest.raises(UnreadableError):
            decode(CODERS[encoding](PLAIN) * 3, encoding, len(PLAIN) * 3 - 1)


@pytest.mark.parametrize("encoding", CODERS)
def test_a_bomb_is_not_inflated_beyond_the_limit(encoding: str) -> None:
    bomb = CODERS[encoding](bytes(64 << 20))

    assert peak_of_refusing(bomb, encoding) < 8 * LIMIT


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_bomb_of_many_members_is_not_inflated_beyond_the_limit(encoding: str) -> None:
    bomb = CODERS[encoding](bytes(LIMIT)) * 14

    assert peak_of_refusing(bomb, encoding) < 8 * LIMIT


@pytest.mark.parametrize("outer", CODERS)
@pytest.mark.parametrize("inner", CODERS)
def test_a_bomb_in_a_chain_is_not_inflated_beyond_the_limit(inner: str, outer: str) -> None:
    bomb = CODERS[outer](CODERS[inner](bytes(16 << 20)))

    assert peak_of_refusing(bomb, f"{inner}, {outer}") < 8 * LIMIT


def peak_of_refusing(body: bytes, encoding: str) -> int:
    """Return the most memory held, in bytes, while *body* is decoded and refused."""
    tracemalloc.start()
    with pytest.raises(UnreadableError):
        decode(body, encoding, LIMIT)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def test_a_zstd_window_beyond_8_mib_is_refused() -> None:
    options: dict[int, int] = {
        zstd.CompressionParameter.window_log: 27,
        zstd.CompressionParameter.checksum_flag: 0,
    }
    compressor = zstd.ZstdCompressor(options=options)
    body = compressor.compress(PLAIN) + compressor.flush()

    with pytest.raises(UnreadableError):
        decode(body, "zstd", LIMIT)


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_body_of_countless_members_is_refused(encoding: str) -> None:
    with pytest.raises(UnreadableError):
        decode(CODERS[encoding](b"x") * 100, encoding, LIMIT)
