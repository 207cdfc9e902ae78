"""What is in config/ for those who run chatproxy fits what it does: timeouts, settings, metrics."""

import json
import re
from pathlib import Path

from chatproxy.settings import load_settings
from chatproxy.telemetry import Metrics

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


def test_the_board_shows_metrics_and_labels_that_there_are() -> None:
    board = json.loads((CONFIG / "grafana" / "chatproxy.json").read_text())
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    families = {family.name: family for family in Metrics().registry.collect()}
    labels = {
        family.name: {label for sample in family.samples for label in sample.labels}
        for family in families.values()
    }

    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    assert len(queries) > 15
    for query in queries:
        [name] = set(re.findall(r"chatproxy_[a-z_]+", query))
        family = re.sub(r"_(total|bucket)$", "", name)
        assert family in families, query
        assert name.endswith("_total") == (families[family].type == "counter"), query
        for label in re.findall(r"by \((\w+)\)", query):
            assert label == "le" or label in labels[family] or not labels[family], query
    assert "chatproxy_workers" in board["templating"]["list"][1]["query"]
