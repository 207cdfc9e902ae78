"""What became of turns in the last day: counted in steps of half an hour, in memory, since this process began."""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Mapping

from chatproxy.clock import Clock
from chatproxy.telemetry import Metrics

STEP_MS = 1_800_000
STEPS = 48
_LOOK_SECONDS = 20.0

Steps = Mapping[int, Mapping[str, float]]
"""Turns by outcome, by the number of the step since 1970."""


class History:
    """The last day of one process."""

    def __init__(self, metrics: Metrics, *, clock: Clock) -> None:
        self._metrics = metrics
        self._clock = clock
        self._steps: OrderedDict[int, Counter[str]] = OrderedDict()
        self._seen: Counter[str] = Counter()

    @property
    def steps(self) -> Steps:
        """What was counted, up to now."""
        self.look()
        return self._steps

    async def run(self) -> None:
        """Look now and then, until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(_LOOK_SECONDS)

    def look(self) -> None:
        """Count what has happened since the last look under the present step."""
        now = Counter(
            {
                sample.labels["outcome"]: sample.value
                for family in self._metrics.turns.collect()
                for sample in family.samples
                if sample.name.endswith("_total")
            }
        )
        step = self._clock() // STEP_MS
        self._steps.setdefault(step, Counter()).update(now - self._seen)
        self._seen = now
        while len(self._steps) > STEPS:
            self._steps.popitem(last=False)


def together(histories: list[Steps]) -> Steps:
    """Return the histories of several processes as one."""
    found: dict[int, Counter[str]] = {}
    for history in histories:
        for step, outcomes in history.items():
            found.setdefault(step, Counter()).update(outcomes)
    return found
