"""Export a dataset with Ray: a task for each shard, spread over the nodes of a cluster.

    pip install ray
    python examples/export_with_ray.py --shards 8 -- --purpose capability --consumer "base model" --out s3://bucket/may-set

What stands behind the ``--`` goes to ``chatproxy dataset export`` as it is. Each node that runs a task needs what that command
needs: chatproxy, the settings (``CHATPROXY_*``) in its environment, and access to store, keyset and ``--out``. So ``--out``
is a bucket or a shared file system. A shard that dies with its node is begun again elsewhere, and goes on where it was. If the
whole is broken off, call it again with the instant that it says at its start: the same instant, the same bytes.
"""

import argparse
import json
import subprocess
import sys
from datetime import UTC, datetime

import ray

EXPORTED = {0: "", 3: "some turns are not as they were kept; see `chatproxy transcripts verify`"}
"""Exit codes of ``dataset export`` after which the shard is there."""


@ray.remote(num_cpus=1, max_retries=3)
def export(shard: str, command: list[str]) -> dict[str, int | str]:
    """Export one shard; return what it says of itself."""
    done = subprocess.run([*command, "--shard", shard, "--json"], capture_output=True, text=True, check=False)
    if done.returncode not in EXPORTED:
        raise RuntimeError(f"shard {shard}: {done.stderr.strip()}")
    return {**json.loads(done.stdout), "shard": shard, "remark": EXPORTED[done.returncode]}


def main() -> None:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    parser = argparse.ArgumentParser(description="Export a dataset in shards, with Ray.")
    parser.add_argument(
        "--shards", type=int, required=True, help="how many; some for each processor evens them out"
    )
    parser.add_argument(
        "--at", default=now, help="the instant to export as of, the same for all (default: now)"
    )
    parser.add_argument("--chatproxy", default="chatproxy", help="the program on the nodes")
    parser.add_argument("words", nargs="+", metavar="WORD", help="of `chatproxy dataset export`, behind a --")
    options = parser.parse_args()
    print(f"as of {options.at}", file=sys.stderr)
    command = [options.chatproxy, "dataset", "export", "--at", options.at, *options.words]
    waiting = [
        export.remote(f"{number}/{options.shards}", command) for number in range(1, options.shards + 1)
    ]
    items = turns = 0
    while waiting:
        [done], waiting = ray.wait(waiting)
        shard = ray.get(done)
        items, turns = items + shard["items"], turns + shard["turns"]
        print(f"shard {shard['shard']}: {shard['items']} items of {shard['turns']} turns {shard['remark']}")
    print(f"{items} items of {turns} turns")


if __name__ == "__main__":
    main()
