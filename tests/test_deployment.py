"""The examples for systemd and Kubernetes give a stop the time that it takes."""

import re
from pathlib import Path

from chatproxy.settings import load_settings

CONFIG = Path(__file__).parent.parent / "config"


def test_the_examples_wait_longer_than_a_stop_takes() -> None:
    drain = load_settings({}, overrides={}).settings.drain_time
    unit = (CONFIG / "systemd" / "chatproxy.service").read_text()
    pod = (CONFIG / "kubernetes" / "chatproxy.yaml").read_text()

    [stop] = re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    [grace] = re.findall(r"terminationGracePeriodSeconds: (\d+)", pod)
    assert int(stop) == drain + 20
    assert int(grace) == drain + 30


def test_the_examples_use_settings_and_addresses_that_there_are() -> None:
    text = "".join(path.read_text() for path in CONFIG.glob("*/chatproxy.*"))
    known = (CONFIG.parent / "docs" / "settings.md").read_text()

    for name in set(re.findall(r"CHATPROXY_[A-Z_]+", text)):
        assert name == "CHATPROXY_CONFIG" or f"`{name}`" in known
    assert set(re.findall(r"path: (/[a-z]+z)", text)) == {"/readyz", "/healthz"}
