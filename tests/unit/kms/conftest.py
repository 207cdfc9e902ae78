import json
from pathlib import Path

import pytest

from chatproxy.crypto.keyset import Keyset, parse_keyset


@pytest.fixture
def testkit_keyset() -> Keyset:
    """Root versions 1 to 5: DESTROYED, RETIRED, DECRYPT, PRIMARY, PENDING."""
    cases = json.loads((Path(__file__).parents[2] / "vectors" / "testkit" / "keysets.json").read_text())
    return parse_keyset(cases[0]["text"].encode(), source="testkit")
