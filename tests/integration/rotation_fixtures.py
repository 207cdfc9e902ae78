"""Rotations that break off, and what must hold after them. Builders, not fixtures."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from chatproxy.crypto.wrap import wrapped_under
from chatproxy.vault import Vault
from chatproxy.workflows.rotate import NotYetError, Rotation, Step
from integration.proxy_fixtures import PATIENCE, World, a_world, chatting

T = TypeVar("T")
STORE_WRITES = ("swap_control", "swap_subject_wraps", "swap_epoch_wraps")
ROOT_WRITES = ("add_version", "set_status")


QUICK: dict[str, Any] = {"key_soak": "0s", "key_grace": "0s"}
"""Settings with which no step of a rotation waits for time to pass."""


@asynccontextmanager
async def a_quick_world(directory: Path, store: str) -> AsyncIterator[World]:
    """A proxy whose keys change without a wait: it looks at them all the time, and not every five seconds."""

    async def look_often(world: World) -> None:
        while True:
            world.running.vault.record_keys.news.set()
            await asyncio.sleep(0.05)

    async with a_world(chatting(), directory, store, **QUICK) as world:
        looking = asyncio.create_task(look_often(world))
        try:
            yield world
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)


class Killed(Exception):  # noqa: N818 - not an error of ours
    """The process has gone, as far as the rotation can tell."""


@dataclass
class Writes:
    """Counts what a rotation writes, and ends it before or after one of them."""

    kill_at: int = 0
    """The number of the write, from 1; 0: never."""
    is_done_first: bool = False
    kill_on: str = ""
    """The name of the write, instead of its number."""
    seen: list[str] = field(default_factory=list)

    async def of(self, name: str, write: Callable[[], Awaitable[T]]) -> T:
        self.seen.append(name)
        is_last = len(self.seen) == self.kill_at or name == self.kill_on
        if is_last and not self.is_done_first:
            raise Killed
        found = await write()
        if is_last:
            raise Killed
        return found


class Watched:
    """Something real, whose writes are told to *writes*."""

    def __init__(self, behind: Any, writes: Writes, names: tuple[str, ...]) -> None:
        self._behind = behind
        self._writes = writes
        self._names = names

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._behind, name)
        if name not in self._names:
            return found

        async def write(*arguments: Any, **named: Any) -> Any:
            if name.endswith("_wraps") and not arguments[0]:
                return []  # nothing is written
            full_name = f"{name} {arguments[0]}" if name == "swap_control" else name
            return await self._writes.of(full_name, lambda: found(*arguments, **named))

        return write


def a_rotation(vault: Vault, writes: Writes | None = None, *, by: str = "test", soak_ms: int = 0) -> Rotation:
    """A rotation of the keys of *vault*, whose writes are told to *writes*."""
    writes = writes or Writes()
    return Rotation(
        Watched(vault.store, writes, STORE_WRITES),
        Watched(vault.root, writes, ROOT_WRITES),
        audit=vault.audit,
        clock=vault.clock,
        by=by,
        soak_ms=soak_ms,
        grace_ms=0,
        follow_root=vault.follow_root,
    )


async def advance(rotation: Rotation, target: Step) -> None:
    """Take steps until *target*, waiting for the nodes."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                state = await rotation.advance()
            except NotYetError:
                await asyncio.sleep(0.01)
                continue
            if state.step is target:
                return
            assert not state.is_over


async def versions_in_use(vault: Vault) -> set[int]:
    """Return the KEK versions that wraps in the store lie under."""
    subjects = [subject async for subject in vault.store.subjects()]
    wraps = [wrap for found in await vault.store.subject_wraps(subjects) for wrap in (found or {}).values()]
    return {wrapped_under(wrap) for wrap in [*wraps, *(await vault.store.all_epoch_wraps()).values()]}
