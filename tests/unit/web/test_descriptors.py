"""How many clients a process can have is what the system lets it open, two files for each."""

import subprocess
import sys

import pytest

CODE = """
import resource
from chatproxy.web.server import allow_connections
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
print(allow_connections({wanted}), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no such limit")
@pytest.mark.parametrize(
    "soft, hard, wanted, expected",
    [
        (1024, 1024, 100, "100 1024"),
        (300, 1024, 100, "100 456"),
        (300, 600, 1000, "172 600"),
        (600, 600, 1000, "172 600"),
    ],
    ids=["enough", "more is to be had", "not enough is to be had", "nothing more is to be had"],
)
def test_the_limit_is_raised_as_far_as_it_may_be(soft: int, hard: int, wanted: int, expected: str) -> None:
    code = CODE.format(soft=soft, hard=hard, wanted=wanted)
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == expected
