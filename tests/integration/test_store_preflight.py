"""What a real server says about itself, with and without being allowed to."""

import dataclasses
from collections.abc import AsyncIterator

import pytest

from chatproxy.errors import StoreRefusedError
from chatproxy.store.address import StoreAddress
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.store.preflight import Severity, judge, read_facts, require_safe
from chatproxy.store.redis import RedisStore


@pytest.fixture
async def restricted(connections: Connections, server: EmbeddedServer) -> AsyncIterator[Connections]:
    """A user who may not see the configuration."""
    await connections.ask(
        [["ACL", "SETUSER", "app", "on", ">app-password", "~*", "+@all", "-@admin", "-@dangerous", "+info"]]
    )
    address = dataclasses.replace(StoreAddress.parse(server.url), username="app", password="app-password")
    restricted = Connections(address, deadline=10.0)
    yield restricted
    await restricted.aclose()
    await connections.ask([["ACL", "DELUSER", "app"]])


async def test_the_embedded_server_is_without_fault(connections: Connections, store: RedisStore) -> None:
    assert judge(await read_facts(connections, now=await store.now())) == []


async def test_an_evicting_policy_is_seen_and_refused(connections: Connections, store: RedisStore) -> None:
    await connections.ask([["CONFIG", "SET", "maxmemory-policy", "volatile-ttl"]])
    try:
        facts = await read_facts(connections, now=await store.now())
    finally:
        await connections.ask([["CONFIG", "SET", "maxmemory-policy", "noeviction"]])

    with pytest.raises(StoreRefusedError, match=r"volatile-ttl.*CONFIG SET maxmemory-policy noeviction"):
        require_safe(judge(facts))


async def test_the_clocks_are_compared(connections: Connections, store: RedisStore) -> None:
    facts = await read_facts(connections, now=await store.now() - 3_600_000)

    assert 3_590_000 < facts.clock_offset_ms < 3_610_000


async def test_what_an_acl_hides_is_said_to_be_unchecked(restricted: Connections) -> None:
    facts = await read_facts(restricted, now=await RedisStore(restricted).now())

    assert (facts.append_fsync, facts.save_points) == (None, None)
    assert facts.maxmemory_policy == "noeviction"
    assert {finding.severity for finding in judge(facts)} <= {Severity.WARNING}
    require_safe(judge(facts))
