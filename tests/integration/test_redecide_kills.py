"""A process that dies in the middle of deciding again leaves nothing that the next one does not set right.

A real `chatproxy serve` is killed at random moments while it decides on some thousand turns. `make test` does so
twice, `make faults` fifty times.
"""

import asyncio
import random
from pathlib import Path

import pytest

from chatproxy.clock import wall_clock
from chatproxy.consent.events import Choice, FactKind
from chatproxy.model import SubjectTag
from chatproxy.policy.instants import format_instant
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.vault import Vault, open_vault
from chatproxy.workflows.verdict import Kept
from integration.keeping import Keeper
from integration.kept_state import sound
from integration.proxy_fixtures import DAY, a_proxy, http_client
from integration.serve_process import Serving, environment, serving

YEAR = 365 * DAY
CHANGED = 'chatproxy_redecided_turns_total{outcome="changed"} 0.0'


async def states(vault: Vault, subject: SubjectTag) -> set[int]:
    """How often the turns have been changed, each number once."""
    return {
        Kept.of(turn, vault.annotation_keys).annotation.seq async for turn in vault.store.annotations(subject)
    }


async def happen(vault: Vault, subject: SubjectTag, kind: FactKind, **details: str) -> None:
    """Write one event of the one case."""
    await vault.ledger.note(
        subject, kind, at=wall_clock(), by="test", method="test", details={"case": "c"} | details
    )


async def begun(process: Serving) -> None:
    """Wait until the first turns have been changed."""
    async with http_client() as client:
        while CHANGED in (await client.get(f"{process.admin_url}/metrics")).text:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "kills, turns",
    [
        pytest.param(2, 400, id="twice"),
        pytest.param(50, 3_000, id="fifty", marks=[pytest.mark.faults, pytest.mark.timeout(1800)]),
    ],
)
async def test_killed_while_deciding_again_the_end_is_the_policy_s(
    tmp_path: Path, server: EmbeddedServer, connections: Connections, kills: int, turns: int
) -> None:
    chance = random.Random(7)  # noqa: S311 - moments, not secrets
    env = environment(tmp_path, store=server.url, upstream="http://127.0.0.1:9")
    in_the_middle = 0
    chosen = a_proxy(tmp_path, upstream="http://127.0.0.1:9", store=server.url)
    async with open_vault(chosen) as vault:
        subject = vault.pseudonyms.subject_tag(tenant="default", subject="ana")
        await vault.ledger.record(subject, Choice.GIVEN, at=wall_clock(), by="test", method="test")
        await Keeper(vault, subject).fill(turns, conversations=turns // 50)
        for number in range(kills):
            async with serving(env) as process:
                # Each time all of it is to be sealed to another day.
                review = format_instant(wall_clock() + 6 * YEAR + number * DAY)
                await happen(vault, subject, FactKind.HOLD_PLACED, authority="a", review_at=review)
                if chance.random() < 0.7:
                    await begun(process)
                await asyncio.sleep(chance.uniform(0, turns / 3000))
                process.process.kill()
                await process.ended()
            in_the_middle += len(await states(vault, subject)) > 1
        async with serving(env):
            await happen(vault, subject, FactKind.HOLD_RELEASED)
            await vault.ledger.record(subject, Choice.WITHDRAWN, at=wall_clock(), by="test", method="test")
            while await vault.store.people_due(wall_clock() + 60_000):
                await asyncio.sleep(0.05)
        found = await sound(vault, connections, subject)
    assert len(found) == turns
    assert {group.reason for kept in found for group in kept.note.groups} == {"CONSENT_WITHDRAWN"}
    assert max(kept.note.expires_at for kept in found) < wall_clock() + 31 * DAY
    assert in_the_middle >= kills // 4
