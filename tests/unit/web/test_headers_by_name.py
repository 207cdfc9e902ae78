"""Of a header that comes twice the first counts for the copy."""

from chatproxy.web.proxy import _by_name


def test_the_first_of_two_headers_counts() -> None:
    said = _by_name([(b"content-type", b"text/plain"), (b"content-type", b"text/html"), (b"x-a", b"1")])

    assert said == {b"content-type": b"text/plain", b"x-a": b"1"}
