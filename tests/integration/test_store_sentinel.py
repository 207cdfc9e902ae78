"""A primary that sentinels watch: a failover is followed, and nothing that was confirmed is lost with the old primary."""

import asyncio
from pathlib import Path

import pytest

from chatproxy.errors import StoreUnavailableError
from chatproxy.ports import PutStatus
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.store.opening import open_store
from integration.proxy_fixtures import ANA, PATIENCE, World, a_world, chatting
from integration.store_builders import a_turn
from simulators.servers import watched
from simulators.store_front import StoreFront, store_front


async def turns_there(world: World) -> int:
    """Return how many turns are kept, 0 as long as nobody answers."""
    try:
        return len([turn async for turn in world.running.vault.transcripts.walk()])
    except StoreUnavailableError:
        return 0


async def test_a_failover_is_followed_and_what_was_confirmed_is_put_again(tmp_path: Path) -> None:
    async with (
        watched() as servers,
        a_world(chatting(), tmp_path, servers.url, store_replicas="1", store_timeout="1s") as world,
    ):
        for number in range(5):
            await world.chat(f"before {number}")
        bea = ANA | {"x-chat-subject": "bea"}
        await world.chat("erased", who=bea)
        await world.kept()
        assert await world.running.vault.eraser.erase(world.tag("bea"), by="test") is not None
        await world.chat("under way", who=bea)
        await world.kept()
        # As if the replica that takes over had not been the one that confirmed them.
        [names] = await servers.replica.say(["KEYS", "cp:*:a:*"])
        await servers.replica.say(
            ["CONFIG", "SET", "replica-read-only", "no"],
            ["DEL", *names[:3]],
            ["CONFIG", "SET", "replica-read-only", "yes"],
        )
        await servers.primary.kill()
        for number in range(5):
            assert (await world.chat(f"meanwhile {number}")).status_code == 200
        await servers.until_promoted()
        # The sentinels name it, but nothing counts as kept before a replica has it.
        await servers.primary.start()
        async with asyncio.timeout(2 * PATIENCE):
            while await turns_there(world) < 10:
                await asyncio.sleep(0.2)
        assert len(await world.kept()) == 10
        assert "lost" not in world.outcomes()
        world.assert_none_is_unaccounted_for()


async def test_without_a_replica_that_has_it_nothing_counts_as_kept(tmp_path: Path) -> None:
    async with (
        watched() as servers,
        open_store(servers.url, tmp_path, deadline=1.0, replicas=1) as store,
    ):
        turn = a_turn()
        assert await store.put([turn]) == [PutStatus.STORED]
        servers.replica.freeze()
        other = a_turn(subject=turn.subject, new_wrap=None)
        assert await store.put([other]) == [None]
        with pytest.raises(StoreUnavailableError, match="NOREPLICAS: too few replicas"):
            await store.swap_control("name", None, b"value")
        # Also where nothing is written, since it is there already.
        assert await store.put([other]) == [None]
        servers.replica.thaw()
        async with asyncio.timeout(PATIENCE):
            while await store.put([other]) == [None]:
                await asyncio.sleep(0.1)
        assert await store.put([other]) == [PutStatus.REPLAYED]


async def test_a_primary_that_was_cut_off_and_comes_back_is_no_primary(tmp_path: Path) -> None:
    async with (
        watched() as servers,
        a_world(chatting(), tmp_path, servers.url, store_replicas="1", store_timeout="1s") as world,
    ):
        await world.chat("before")
        await world.kept()
        servers.primary.freeze()
        await world.chat("meanwhile")
        await servers.until_promoted()
        servers.primary.thaw()
        assert len(await world.kept()) == 2
        async with asyncio.timeout(PATIENCE):
            while await servers.primary.info("role") != "slave":
                await asyncio.sleep(0.1)
        [names] = await servers.replica.say(["KEYS", "cp:*:a:*"])
        assert len(names) == 2
        world.assert_none_is_unaccounted_for()


async def test_sentinels_that_do_not_know_the_name_are_told_apart(tmp_path: Path) -> None:
    async with watched() as servers:
        url = servers.url.replace("/chats", "/others")
        async with open_store(url, tmp_path, deadline=1.0) as store:
            with pytest.raises(StoreUnavailableError, match="no sentinel that knows 'others'"):
                await store.ping()


def the_primary(front: StoreFront, *, epoch: int) -> bytes:
    """What a sentinel answers that takes *front* for the primary."""
    words = [b"ip", b"127.0.0.1", b"port", b"%d" % front.port, b"config-epoch", b"%d" % epoch]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


@pytest.mark.parametrize("newest", [0, 1])
async def test_of_sentinels_that_contradict_each_other_the_newest_is_believed(
    tmp_path: Path, server: EmbeddedServer, newest: int
) -> None:
    async with store_front(server.url) as one, store_front(server.url) as other:
        fronts = (one, other)
        for number, front in enumerate(fronts):
            front.answers[b"SENTINEL"] = the_primary(front, epoch=9 if number == newest else 8)
        url = f"redis+sentinel://127.0.0.1:{one.port},127.0.0.1:{other.port},127.0.0.1:9/chats"
        async with open_store(url, tmp_path, deadline=5.0) as store:
            await store.ping()
    assert [front.seen[b"PING"] for front in fronts] == [int(number == newest) for number in range(2)]
