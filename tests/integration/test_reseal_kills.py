"""Everything is sealed anew under traffic on three nodes, the process that does it killed on the way."""

from pathlib import Path

import pytest

from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from integration.rotation_under_load import examine, loaded, reseal, three_nodes


@pytest.mark.timeout(120)
async def test_sealing_anew_that_is_killed_under_traffic_costs_nothing(
    tmp_path: Path, server: EmbeddedServer, connections: Connections
) -> None:
    async with three_nodes(tmp_path, server.url) as nodes:
        async with loaded(nodes, rate=60, people=50) as load:
            await nodes.have_stored(100)
            killed = await reseal(nodes, kill_after=12, kills=5)
        outcomes = await nodes.outcomes()
        found = await examine(nodes, connections)

    assert killed == 5
    assert load.failures == []
    assert set(load.statuses) == {200}
    assert outcomes == {"stored": load.sent}
    assert found.turns == load.sent
    assert found.unreadable == found.wraps_that_do_not_open == found.moved_ttls == 0
    assert found.series_in_use == {1}
