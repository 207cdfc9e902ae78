"""The runbooks of the documentation: blocks of commands that tests walk step by step."""

import asyncio
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from integration.proxy_fixtures import PATIENCE
from integration.serve_process import Finished, call, run

_DOCS = Path(__file__).parents[2] / "docs"
_ASSIGNED = re.compile(r"([A-Z_]+)=(.*)")


def runbooks_of(page: str) -> dict[str, list[str]]:
    """Return the runbooks of a page by name."""
    text = (_DOCS / page).read_text(encoding="utf-8")
    assert not re.findall(r"```sh(?! runbook=)", text), "a block of commands that no test walks"
    return {
        name: block.strip().splitlines()
        for name, block in re.findall(r"```sh runbook=(\w+)\n(.*?)```", text, re.DOTALL)
    }


async def walk(
    env: Mapping[str, str],
    line: str,
    *,
    instead: Mapping[str, str] | None = None,
    in_process: bool = True,
) -> Finished:
    """Do one step, with what the page gives as examples replaced. What has to wait for a node is done again."""
    for example, meant in (instead or {}).items():
        line = line.replace(example, meant)
    *told, command = line.split(" | ")
    stdin = shlex.split(told[0])[1] if told else ""
    words = shlex.split(command)
    assigned = {}
    while (match := _ASSIGNED.fullmatch(words[0])) is not None:
        assigned[match[1]] = match[2]
        words.pop(0)
    assert words[0] == "chatproxy"
    async with asyncio.timeout(PATIENCE):
        while True:
            done = await (call if in_process else run)({**env, **assigned}, *words[1:], stdin=stdin)
            if done.status == 0 or "waiting until" not in done.err:
                break
            await asyncio.sleep(0.1)
    assert done.status == 0, (line, done)
    assert "Traceback" not in done.err
    return done
