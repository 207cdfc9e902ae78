"""Fuzz one target, or look how its time grows: ``python drive.py TARGET CORPUS [libFuzzer's options]``.

Runs in the environment of ``make fuzz``, where atheris is. With ``--growth`` instead of options, the inputs
found last are stretched up to 128 KiB: time may not grow by more than three when the size doubles.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "src")]

import atheris

SIZES = (1 << 15, 1 << 16, 1 << 17)
MOST_GROWTH = 3.0
"""Twice the size may take twice the time, and something for noise."""
UNNOTICED_SECONDS = 0.03
MOST_SECONDS = 2.0
"""Of processor time, instrumented, for an input of up to 64 KiB."""


def main() -> None:
    name, corpus, *options = sys.argv[1:]
    if options == ["--growth"]:
        grow(name, Path(corpus))
        return
    with atheris.instrument_imports(include=["chatproxy", "json", "tomllib"]):
        from fuzz.targets import TARGETS

    run = TARGETS[name].run

    def one(data: bytes) -> None:
        started = time.process_time()
        run(data)
        assert time.process_time() - started < MOST_SECONDS, "it takes too long"

    atheris.Setup([sys.argv[0], *options, corpus], one)
    atheris.Fuzz()


def grow(name: str, corpus: Path) -> None:
    from fuzz.targets import TARGETS

    target = TARGETS[name]
    if not target.is_bounded:
        return
    found = sorted(corpus.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)[:100]
    worst = 0.0
    for path in found:
        data = path.read_bytes()
        head, body = data[: target.head], data[target.head :]
        for way in ("whole", "middle", "beginning", "end") if body else ():
            took = seconds(target.run, head + stretched(body, way, SIZES[-1]))
            worst = max(worst, took)
            if took <= UNNOTICED_SECONDS:
                continue
            if took <= MOST_GROWTH * seconds(target.run, head + stretched(body, way, SIZES[-2])):
                continue
            small, large, larger = (
                min(seconds(target.run, head + stretched(body, way, size)) for _ in range(3))
                for size in SIZES
            )
            if large > MOST_GROWTH * small and larger > MOST_GROWTH * large:
                print(
                    f"{name}: {path.name}, its {way} repeated: {small:.3f} s, {large:.3f} s, {larger:.3f} s"
                )
                sys.exit(1)
    print(f"{name}: {len(found)} inputs stretched to 128 KiB took at most {worst:.3f} s")


def stretched(body: bytes, way: str, size: int) -> bytes:
    """Return *body* with all of it or a piece of it repeated up to *size*."""
    if way == "whole":
        return (body * (size // len(body) + 1))[:size]
    at = {"middle": len(body) // 2, "beginning": 0, "end": max(0, len(body) - 8)}[way]
    piece = body[at : at + 8]
    return body[:at] + piece * max(1, (size - len(body)) // len(piece)) + body[at + len(piece) :]


def seconds(run: Callable[[bytes], None], data: bytes) -> float:
    """Return the processor time of one run."""
    started = time.process_time()
    run(data)
    return time.process_time() - started


if __name__ == "__main__":
    main()
