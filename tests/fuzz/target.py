"""What is fuzzed: a reader that must take any bytes, and inputs to begin with."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """``run`` raises where something is wrong. The first ``head`` bytes of an input only choose how the rest is read."""

    run: Callable[[bytes], None]
    seeds: tuple[bytes, ...]
    head: int = 0
    is_bounded: bool = True
    """Whether its time must grow no faster than the input."""
