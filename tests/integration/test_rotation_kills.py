"""A rotation under traffic on three nodes, its process killed on the way (P27, P33). `make bench` has the long form."""

from pathlib import Path

import pytest

from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from integration.rotation_under_load import examine, loaded, rotate, three_nodes


@pytest.mark.timeout(120)
async def test_a_rotation_that_is_killed_under_traffic_costs_nothing(
    tmp_path: Path, server: EmbeddedServer, connections: Connections
) -> None:
    async with three_nodes(tmp_path, server.url) as nodes:
        async with loaded(nodes, rate=60, people=50) as load:
            await nodes.have_stored(100)
            killed = await rotate(nodes, kill_after=4, kills=3)
        outcomes = await nodes.outcomes()
        found = await examine(nodes, connections)

    assert killed == 3
    assert load.failures == []
    assert set(load.statuses) == {200}
    assert outcomes == {"stored": load.sent}
    assert found.turns == load.sent
    assert found.unreadable == found.wraps_that_do_not_open == found.moved_ttls == 0
    assert found.versions_in_use == {found.primary}
    assert found.statuses_of_others == {"DESTROYED"}
