"""Do the parsers take any bytes, in bounded memory and time? ``python run.py [--seconds 60] [TARGET ...]``

Fuzzes one target after the other, each in a process of its own, from recorded bodies and what earlier runs found
(``.fuzz/corpus``). An input that breaks something is left in ``.fuzz/found``. Prints a table of what was run.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent / "src")]

from fuzz.targets import TARGETS

PLACE = TESTS.parent / ".fuzz"
DRIVE = str(Path(__file__).with_name("drive.py"))
LONGEST = 1 << 16
MOST_MEMORY = 1024
"""MiB of a whole process, with its corpus."""


def fuzz(name: str, seconds: int) -> tuple[str, bool]:
    """Fuzz *name*; return a row of the table, and whether nothing was found."""
    corpus, found = PLACE / "corpus" / name, PLACE / "found"
    for directory in (corpus, found):
        directory.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(TARGETS[name].seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    options = [
        f"-max_total_time={seconds}", f"-max_len={LONGEST}", f"-rss_limit_mb={MOST_MEMORY}", "-timeout=20",
        f"-artifact_prefix={found}/{name}-", "-print_final_stats=1", "-verbosity=0",
    ]  # fmt: skip
    fuzzed = subprocess.run(
        [sys.executable, DRIVE, name, str(corpus), *options], check=False, capture_output=True, text=True
    )
    grown = subprocess.run([sys.executable, DRIVE, name, str(corpus), "--growth"], check=False)
    if fuzzed.returncode:
        print(fuzzed.stdout, fuzzed.stderr, sep="\n", file=sys.stderr)
    stats = dict(re.findall(r"stat::(\w+): +(\d+)", fuzzed.stderr + fuzzed.stdout))
    units, peak = int(stats.get("number_of_executed_units", 0)), stats.get("peak_rss_mb", "?")
    row = f"| `{name}` | {units:,} | {len(list(corpus.iterdir()))} | {peak} |"
    print(row, file=sys.stderr, flush=True)
    return row, not (fuzzed.returncode or grown.returncode)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    options = parser.parse_args()
    if unknown := set(options.targets) - set(TARGETS):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    done = {name: fuzz(name, options.seconds) for name in options.targets or TARGETS}
    print("| target | inputs tried | inputs kept | peak RSS MiB |")
    print("|---|--:|--:|--:|")
    print("\n".join(row for row, _ in done.values()))
    if failed := [name for name, (_, passed) in done.items() if not passed]:
        sys.exit(f"something was found in: {', '.join(failed)}")


if __name__ == "__main__":
    main()
