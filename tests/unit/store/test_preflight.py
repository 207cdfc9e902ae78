import dataclasses

import pytest

from chatproxy.errors import StoreRefusedError
from chatproxy.store.preflight import Demands, Finding, Severity, StoreFacts, judge, require_safe

GOOD = StoreFacts(
    engine="valkey",
    version=(9, 1, 2),
    replica=False,
    cluster=False,
    maxmemory_policy="noeviction",
    append_only=True,
    append_fsync="always",
    save_points="",
    clock_offset_ms=0,
)


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({}, id="as the embedded one"),
        pytest.param({"engine": "redis", "version": (7, 0, 0)}, id="the oldest Redis"),
        pytest.param({"version": (7, 2, 4)}, id="the oldest Valkey"),
        pytest.param({"append_fsync": "everysec"}, id="one second at risk"),
        pytest.param({"clock_offset_ms": -2000}, id="a clock near enough"),
    ],
)
def test_a_safe_store_has_no_findings(changed: dict[str, object]) -> None:
    assert judge(dataclasses.replace(GOOD, **changed)) == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changed, severity, said",
    [
        pytest.param(
            {"maxmemory_policy": "volatile-lru"}, "fatal", "volatile-lru", id="evicts what has a TTL"
        ),
        pytest.param({"maxmemory_policy": "allkeys-lfu"}, "fatal", "allkeys-lfu", id="evicts anything"),
        pytest.param({"maxmemory_policy": None}, "warning", "maxmemory-policy", id="policy unknown"),
        pytest.param({"append_only": False}, "fatal", "nothing on disk", id="keeps nothing"),
        pytest.param(
            {"append_only": False, "save_points": "3600 1"}, "fatal", "last snapshot", id="snapshots only"
        ),
        pytest.param(
            {"append_only": False, "save_points": None}, "fatal", "last snapshot", id="snapshots unknown"
        ),
        pytest.param({"append_only": None}, "warning", "writes to disk", id="persistence unknown"),
        pytest.param({"append_fsync": "no"}, "fatal", "appendfsync is no", id="never syncs"),
        pytest.param({"engine": "redis", "version": (6, 2, 14)}, "fatal", "redis 6.2.14", id="old Redis"),
        pytest.param({"version": (7, 0)}, "fatal", "valkey 7.0", id="old Valkey"),
        pytest.param({"version": None}, "warning", "version", id="version unknown"),
        pytest.param({"replica": True}, "fatal", "replica", id="a replica"),
        pytest.param({"cluster": True}, "fatal", "cluster", id="a cluster"),
        pytest.param({"replicas": 1}, "warning", "nothing waits for them", id="replicas nobody waits for"),
        pytest.param({"clock_offset_ms": 2001}, "warning", "ahead of", id="clock a little ahead"),
        pytest.param({"clock_offset_ms": -60_001}, "fatal", "60 s behind", id="clock far behind"),
    ],
)
def test_each_fault_is_found_alone_with_its_severity(
    changed: dict[str, object], severity: str, said: str
) -> None:
    [finding] = judge(dataclasses.replace(GOOD, **changed))  # type: ignore[arg-type]

    assert finding.severity == severity
    assert said in finding.what
    assert finding.fix


@pytest.mark.parametrize(
    "changed, demands, said",
    [
        pytest.param({"cluster": True, "full_coverage": False}, Demands(in_cluster=True), [], id="a cluster"),
        pytest.param({}, Demands(in_cluster=True), ["fatal: the server is no part"], id="no cluster"),
        pytest.param(
            {"cluster": True, "full_coverage": True},
            Demands(in_cluster=True),
            ["warning: cluster-require-full-coverage is yes"],
            id="a cluster that stops as a whole",
        ),
        pytest.param({"replicas": 1}, Demands(replicas=1), [], id="as many replicas as asked for"),
        pytest.param(
            {"replicas": 1}, Demands(replicas=2), ["warning: the store has 1 replicas"], id="too few"
        ),
    ],
)
def test_a_server_is_judged_by_what_is_asked_of_it(
    changed: dict[str, object], demands: Demands, said: list[str]
) -> None:
    findings = judge(dataclasses.replace(GOOD, **changed), demands)  # type: ignore[arg-type]

    assert len(findings) == len(said)
    for finding, beginning in zip(findings, said, strict=True):
        assert f"{finding.severity}: {finding.what}".startswith(beginning)


def test_no_persistence_is_a_warning_where_that_is_wanted() -> None:
    [finding] = judge(dataclasses.replace(GOOD, append_only=False), Demands(allow_volatile=True))

    assert finding.severity is Severity.WARNING


def test_a_refusal_lists_every_fatal_finding_with_its_fix_and_no_warning() -> None:
    findings = [
        Finding(Severity.FATAL, "first", "mend it"),
        Finding(Severity.WARNING, "second", "consider it"),
        Finding(Severity.FATAL, "third", "replace it"),
    ]

    with pytest.raises(StoreRefusedError) as caught:
        require_safe(findings)

    assert str(caught.value).splitlines()[1:] == ["- first: mend it", "- third: replace it"]


def test_warnings_alone_refuse_nothing() -> None:
    require_safe([Finding(Severity.WARNING, "second", "consider it")])
