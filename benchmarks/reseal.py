"""How fast is everything sealed anew after a leak, and what does going on cost? Against an embedded store.

Run: python benchmarks/reseal.py [PEOPLE] [TURNS A PERSON]. Prints one JSON object.
"""

import asyncio
import json
import secrets
import sys
import tempfile
import time
from pathlib import Path

from erase import fill

from chatproxy.clock import wall_clock
from chatproxy.crypto.keyset import make_keyset
from chatproxy.kms.file import KeysetFile
from chatproxy.model import SubjectTag
from chatproxy.settings import load_settings
from chatproxy.vault import Vault, open_vault
from chatproxy.workflows.replace_keys import Pace, ReplacementState, Scope, Stage


async def until(vault: Vault, scope: Scope, stage: Stage) -> tuple[ReplacementState, float, float]:
    """Go on until *stage*; return where it is then, and how long that took, by the wall and of this processor."""
    work = vault.replacement(by="benchmark", pace=Pace())
    begun, worked = time.perf_counter(), time.process_time()
    state = await work.begin(scope)
    while state.step is not stage:
        state = await work.advance()
    return state, time.perf_counter() - begun, time.process_time() - worked


async def measure(directory: Path, people: int, turns: int) -> dict[str, float]:
    """Fill the store; seal everything anew, whole, and once more over people who are done already."""
    path = directory / "keys" / "keyset"
    KeysetFile(path, data_dir=directory / "data").create(make_keyset(created_at=wall_clock()))
    overrides = {
        "data_dir": str(directory / "data"),
        "keyset": f"file:{path}",
        "store_timeout": "30s",
        "key_soak": "0s",
    }
    async with open_vault(load_settings({}, overrides=overrides).settings) as vault:
        for _ in range(people):
            await fill(vault, SubjectTag(secrets.token_bytes(16)), turns)
        begun = time.perf_counter()
        survey = await vault.replacement(by="benchmark", pace=Pace()).survey(Scope.parse("all"))
        surveyed = time.perf_counter() - begun
        await until(vault, Scope.parse("all"), Stage.HANDED_OUT)
        before = await vault.store.read_control("reseal")
        state, resealed, worked = await until(vault, Scope.parse("all"), Stage.RESEALED)
        # As if the process had died just before it could say that it was done.
        await vault.store.swap_control("reseal", await vault.store.read_control("reseal"), before or b"")
        _, passed_over, _ = await until(vault, Scope.parse("all"), Stage.RESEALED)
        _, destroyed, _ = await until(vault, Scope.parse("all"), Stage.DESTROYED)
        assert state.records == survey.records == people * turns
        return {
            "people": people,
            "records": state.records,
            "counted_per_second": round(survey.records / surveyed),
            "resealed_per_second": round(state.records / resealed),
            "resealed_per_second_of_the_processor": round(state.records / worked),
            "people_passed_over_per_second": round(people / passed_over),
            "destroyed_seconds": round(destroyed, 2),
        }


def main() -> None:
    """Measure with as many people and turns as the command line says."""
    people, turns = (int(each) for each in (sys.argv[1:] + ["2000", "10"][len(sys.argv) - 1 :]))
    with tempfile.TemporaryDirectory(prefix="chatproxy-reseal-") as directory:
        print(json.dumps(asyncio.run(measure(Path(directory), people, turns))))


if __name__ == "__main__":
    main()
