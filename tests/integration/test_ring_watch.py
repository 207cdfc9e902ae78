"""A node that lags behind the key ring goes on with what it has, says so, and catches up by itself (security B9)."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from chatproxy.clock import wall_clock
from chatproxy.crypto.keyring import RING_NAME, Keyring
from chatproxy.crypto.keyset import Keyset, make_keyset
from chatproxy.errors import KeysetError, RingBehindError, UndecryptableError
from chatproxy.journal.memory import MemoryJournal
from chatproxy.model import SubjectTag
from chatproxy.ports import SubjectState
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.store.redis import RedisStore
from chatproxy.telemetry import Metrics
from chatproxy.vault import Vault, open_keyset, open_vault
from chatproxy.workflows.keys import load_keyring
from chatproxy.workflows.rotate import Step
from chatproxy.workflows.watch_ring import list_nodes
from integration.proxy_fixtures import a_proxy
from integration.rotation_fixtures import a_rotation, advance

ANA, BEN = SubjectTag(b"ana             "), SubjectTag(b"ben             ")


@pytest.fixture
def store(server: EmbeddedServer, connections: Connections) -> str:
    return server.url


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not is_so():
            await asyncio.sleep(0.01)


def state_of(wrap: bytes) -> SubjectState:
    return SubjectState(generation=1, wraps={1: wrap}, erased_at=None, ledger=())


async def test_a_node_with_an_old_keyset_goes_on_makes_no_new_wraps_and_catches_up(
    tmp_path: Path, store: str
) -> None:
    now = wall_clock()
    here = a_proxy(tmp_path / "here", upstream="http://127.0.0.1:9", store=store)
    (tmp_path / "there" / "keys").mkdir(parents=True, mode=0o700)
    shutil.copy2(tmp_path / "here" / "keys" / "keyset", tmp_path / "there" / "keys" / "keyset")
    there = a_proxy(tmp_path / "there", upstream="http://127.0.0.1:9", store=store, node="there")
    async with open_vault(here) as operator, open_vault(there, clock=lambda: now) as lagging:
        keys = lagging.record_keys
        _, wrap = keys.new_subject_key(ANA, generation=1)
        await advance(a_rotation(operator), Step.PROMOTED)
        watch = lagging.ring_watch(Metrics())

        with pytest.raises(UndecryptableError, match="unknown_root_version"):
            await watch.look()

        [node] = await list_nodes(lagging.store)
        assert node.state is not None
        assert (node.state.ring, set(node.state.roots)) == (1, {1})
        _, newer = (await new_keys(operator)).record_keys.new_subject_key(BEN, generation=1)
        task = asyncio.get_running_loop().create_task(watch.run())
        try:
            keys.new_subject_key(BEN, generation=1)
            now += 61_000
            keys.news.set()
            await until(lambda: not keys.may_wrap)
            assert str(watch.problem) == "None"
            with pytest.raises(RingBehindError):
                keys.new_subject_key(BEN, generation=1)
            with pytest.raises(RingBehindError):
                await keys.epoch_key(30_000)
            keys.unwrap_subject_key(ANA, state_of(wrap), 1)
            with pytest.raises(RingBehindError):
                keys.unwrap_subject_key(BEN, state_of(newer), 1)
            now += 600_000
            assert "could not be read for 10 minutes" in str(watch.problem)

            shutil.copy2(tmp_path / "here" / "keys" / "keyset", tmp_path / "there" / "keys" / "keyset")
            keys.news.set()
            await until(lambda: keys.may_wrap)

            assert str(watch.problem) == "None"
            keys.unwrap_subject_key(BEN, state_of(newer), 1)
            keys.unwrap_subject_key(ANA, state_of(wrap), 1)
            keys.new_subject_key(BEN, generation=1)
        finally:
            task.cancel()


async def new_keys(vault: Vault) -> Vault:
    """Have a vault read the ring as it is in the store now."""
    vault.record_keys.use(await a_rotation(vault).ring())
    return vault


async def test_a_version_that_never_was_is_damage_once_the_ring_was_read_again(
    tmp_path: Path, store: str
) -> None:
    async with open_vault(a_proxy(tmp_path, upstream="http://127.0.0.1:9", store=store)) as vault:
        keys = vault.record_keys
        wrap = b"\1\1\xff\xff" + bytes(60)
        for _ in range(2):
            with pytest.raises(RingBehindError):
                keys.unwrap_subject_key(ANA, state_of(wrap), 1)
            assert keys.news.is_set()
            keys.looked()

        with pytest.raises(UndecryptableError, match="unknown_kek_version"):
            keys.unwrap_subject_key(ANA, state_of(wrap), 1)


async def test_two_processes_of_one_name_are_noticed(tmp_path: Path, store: str) -> None:
    async with open_vault(a_proxy(tmp_path, upstream="http://127.0.0.1:9", store=store)) as vault:
        one, two = vault.ring_watch(Metrics()), vault.ring_watch(Metrics())
        await one.look()
        await two.look()
        [first] = await list_nodes(vault.store)
        await one.look()
        [second] = await list_nodes(vault.store)

        assert first.state is not None
        assert second.state is not None
        assert (first.state.is_contested, second.state.is_contested) == (False, True)


async def test_a_node_that_has_left_is_not_heard_of_again(tmp_path: Path, store: str) -> None:
    async with open_vault(a_proxy(tmp_path, upstream="http://127.0.0.1:9", store=store)) as vault:
        watch = vault.ring_watch(Metrics())
        await watch.look()
        await watch.leave()
        await watch.look()

        assert await list_nodes(vault.store) == []


class SealedJournal(MemoryJournal):
    """One that says what it needs of the root."""

    needs: int | None = 1
    is_left_empty = False

    def follow_root(self, primary: int) -> int | None:
        return self.needs

    @property
    def leaves_nothing(self) -> bool:
        return self.is_left_empty


@pytest.mark.parametrize(
    "needs, is_behind",
    [(1, True), (0, True), (2, False), (None, False)],
    ids=["old", "unknown", "new", "none"],
)
async def test_a_node_says_whether_its_journal_needs_an_old_root(
    tmp_path: Path, store: str, needs: int | None, is_behind: bool
) -> None:
    async with open_vault(a_proxy(tmp_path, upstream="http://127.0.0.1:9", store=store)) as vault:
        await advance(a_rotation(vault), Step.PROMOTED)
        journal = SealedJournal(1 << 20)
        journal.needs = needs
        await vault.ring_watch(Metrics(), journal=journal).look()

        [node] = await list_nodes(vault.store)
        assert node.state is not None
        assert node.state.is_journal_behind is is_behind


@pytest.mark.parametrize("is_left_empty", [True, False])
async def test_a_node_that_leaves_turns_in_its_journal_is_missed(
    tmp_path: Path, store: str, is_left_empty: bool
) -> None:
    async with open_vault(a_proxy(tmp_path, upstream="http://127.0.0.1:9", store=store)) as vault:
        journal = SealedJournal(1 << 20)
        journal.is_left_empty = is_left_empty
        watch = vault.ring_watch(Metrics(), journal=journal)
        await watch.look()
        await watch.leave()

        assert len(await list_nodes(vault.store)) == (0 if is_left_empty else 1)


async def test_whoever_meets_a_store_in_which_another_makes_the_first_ring_uses_that_one(
    tmp_path: Path, server: EmbeddedServer, connections: Connections
) -> None:
    settings = a_proxy(tmp_path, upstream="http://127.0.0.1:9", store=server.url)
    source = open_keyset(settings)
    found = source.local()
    assert found is not None
    keyset: Keyset = found
    made: list[Keyring] = []

    async def make(on: RedisStore, by: str) -> Keyring:
        return await load_keyring(on, source.root, keyset, source=by, now=wall_clock())

    class SlowStore(RedisStore):
        """One that sees the store empty of a ring, and then another is quicker."""

        async def is_empty(self) -> bool:
            made.append(await make(RedisStore(connections), "another"))
            return await super().is_empty()

    ring = await make(SlowStore(connections), "this one")

    assert [ring.data] == [each.data for each in made]


async def test_whoever_looked_before_another_made_the_first_ring_uses_that_one(
    tmp_path: Path, server: EmbeddedServer, connections: Connections
) -> None:
    settings = a_proxy(tmp_path, upstream="http://127.0.0.1:9", store=server.url)
    source = open_keyset(settings)
    found = source.local()
    assert found is not None
    keyset: Keyset = found

    class SlowStore(RedisStore):
        """One whose first answer comes, and then another is quicker."""

        reads = 0

        async def read_control(self, name: str) -> bytes | None:
            answer = await super().read_control(name)
            self.reads += 1
            if self.reads == 1:
                await load_keyring(
                    RedisStore(connections), source.root, keyset, source="another", now=wall_clock()
                )
            return answer

    ring = await load_keyring(
        SlowStore(connections), source.root, keyset, source="this one", now=wall_clock()
    )

    assert ring.data == await RedisStore(connections).read_control(RING_NAME)


async def test_who_makes_the_first_ring_and_does_not_live_to_finish_is_followed_by_the_next(
    tmp_path: Path, server: EmbeddedServer, connections: Connections
) -> None:
    settings = a_proxy(tmp_path, upstream="http://127.0.0.1:9", store=server.url)

    class Killed(Exception):  # noqa: N818 - not an error of ours
        pass

    class ShortLived(RedisStore):
        async def swap_control(self, name: str, old: bytes | None, new: bytes) -> bool:
            if name == RING_NAME:
                raise Killed
            return await super().swap_control(name, old, new)

    source = open_keyset(settings)
    keyset = source.local()
    assert keyset is not None
    with pytest.raises(Killed):
        await load_keyring(ShortLived(connections), source.root, keyset, source="first", now=wall_clock())

    other = make_keyset(created_at=wall_clock())
    with pytest.raises(KeysetError):
        await load_keyring(RedisStore(connections), source.root, other, source="other", now=wall_clock())
    assert await RedisStore(connections).read_control(RING_NAME) is None
    async with open_vault(settings) as vault:
        assert vault.record_keys.ring is not None
