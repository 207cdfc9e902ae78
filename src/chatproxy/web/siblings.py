"""The workers of one node answer for each other on the admin listener, whichever of them is asked.

Each tells whoever connects to its socket, in a directory of their own, what it has counted and why it would not keep.
The one that was asked puts that together: counters and histograms add up, and so do gauges of what each holds; of
gauges that say the same thing of store or node, the worst counts.
"""

import asyncio
import contextlib
import math
import os
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from chatproxy.telemetry import Metrics
from chatproxy.web.turn_history import History, Steps, together

_ANSWER_SECONDS = 1.0


def _soonest(one: float, other: float) -> float:
    """Return the lesser number; what is none counts only where both are none."""
    return one if math.isnan(other) else other if math.isnan(one) else min(one, other)


def _furthest(one: float, other: float) -> float:
    """Return what is further from 0."""
    return max(one, other, key=abs)


_SAID_BY_ALL: Mapping[str, Callable[[float, float], float]] = {
    "chatproxy_people_due": max,
    "chatproxy_consent_listening": min,
    "chatproxy_expired_but_readable": max,
    "chatproxy_overdue_epoch_keys": max,
    "chatproxy_backups_reach_seconds": max,
    "chatproxy_key_rotation_overdue": max,
    "chatproxy_store_usable": min,
    "chatproxy_store_keys": max,
    "chatproxy_store_clock_offset_seconds": _furthest,
    "chatproxy_store_used_ratio": max,
    "chatproxy_store_days_until_full": _soonest,
}
"""How gauges are put together that do not add up."""


class Report(msgspec.Struct, frozen=True):
    """What a worker says of itself, or all that answer say together."""

    metrics: str
    """As Prometheus text."""
    reasons: list[str]
    """Why what is captured would not be kept, in words."""
    history: Steps


class Node(Protocol):
    """Whoever answers on the admin listener."""

    async def ask(self) -> Report:
        """Return how it goes."""


class Alone:
    """A node of one process."""

    def __init__(self, metrics: Metrics, history: History, *, unready: Callable[[], list[str]]) -> None:
        self._metrics = metrics
        self._history = history
        self._unready = unready

    def report(self) -> Report:
        """Return how it goes here."""
        return Report(self._metrics.render().decode(), self._unready(), self._history.steps)

    async def ask(self) -> Report:
        """Return how it goes."""
        return self.report()


class Siblings:
    """This worker among the others."""

    def __init__(self, directory: Path, alone: Alone) -> None:
        """*directory* holds a socket of each worker, and is private. ``alone``: what this worker says."""
        self._directory = directory
        self._alone = alone
        self._own = directory / str(os.getpid())

    @contextlib.asynccontextmanager
    async def present(self) -> AsyncIterator[None]:
        """Answer the others as long as the block runs."""
        server = await asyncio.start_unix_server(self._tell, self._own)
        try:
            yield
        finally:
            server.close()
            self._own.unlink(missing_ok=True)

    async def ask(self) -> Report:
        """Ask everybody, oneself included. Who does not answer is left out."""
        found = await asyncio.gather(*(_asked(path) for path in sorted(self._directory.iterdir())))
        reports = [report for report in found if report is not None]
        metrics = add_up([report.metrics for report in reports])
        reasons = dict.fromkeys(reason for report in reports for reason in report.reasons)
        return Report(metrics, list(reasons), together([report.history for report in reports]))

    async def _tell(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(msgspec.json.encode(self._alone.report()))
        with contextlib.suppress(OSError):
            await writer.drain()
        writer.close()


async def _asked(path: Path) -> Report | None:
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                return msgspec.json.decode(await reader.read(), type=Report)
            finally:
                writer.close()
    except (OSError, TimeoutError, msgspec.MsgspecError):
        return None


def add_up(texts: list[str]) -> str:
    """Return one Prometheus text of several, each as ``Metrics.render`` gives it."""
    families: dict[str, list[str]] = {}
    values: dict[str, dict[str, float]] = {}
    for text in texts:
        family, is_new = "", False
        for line in text.splitlines():
            if line.startswith("# HELP "):
                family = line.split(" ", 3)[2]
                is_new = family not in families
                families.setdefault(family, [])
                values.setdefault(family, {})
            if line.startswith("#"):
                if is_new:
                    families[family].append(line)
                continue
            sample, _, value = line.rpartition(" ")
            known = values[family]
            combine = _SAID_BY_ALL.get(family, float.__add__)
            known[sample] = combine(known[sample], float(value)) if sample in known else float(value)
    return "".join(
        "\n".join([*heading, *(f"{sample} {value}" for sample, value in values[family].items())]) + "\n"
        for family, heading in families.items()
    )
