"""Of a header that comes twice the first counts for the copy, however it is spelt."""

from chatproxy.web.proxy import _by_name


def test_the_first_of_two_headers_counts_and_case_does_not() -> None:
    said = _by_name([(b"Content-Type", b"text/plain"), (b"content-type", b"text/html"), (b"X-A", b"1")])

    assert said == {b"content-type": b"text/plain", b"x-a": b"1"}
