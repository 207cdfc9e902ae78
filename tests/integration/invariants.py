"""What must hold after every fault (docs/reliability.md, The fault matrix)."""

import logging
from collections import Counter
from pathlib import Path
from typing import Any

from chatproxy.audit.verify import verify_log
from chatproxy.vault import Vault
from chatproxy.workflows.verdict import Kept
from integration.left_whole import assert_nothing_readable
from integration.proxy_fixtures import World

_log = logging.getLogger("invariants")


async def assert_invariants(world: World, directory: Path, *, answered: int) -> list[dict[str, Any]]:
    """I1: all that was *answered* is kept, or told to be lost. I2: none twice. I3: nothing readable lies anywhere.

    I6: the audit log is whole. I7: nothing is there past its end. Return the rows of what is kept.
    """
    rows = await world.kept()
    outcomes = Counter(world.outcomes())
    world.assert_outcomes_add_up()
    assert len(rows) + outcomes["lost"] + outcomes["expired"] + outcomes["set_aside"] == answered
    assert len({row["turn"] for row in rows}) == len(rows)
    assert_nothing_readable(directory)
    vault = world.running.vault
    assert world.counted("chatproxy_expired_but_readable") == 0
    vault.audit.append("test.invariants", {})
    assert verify_log(Path(vault.settings.data_dir) / "audit", keys=vault.audit_keys).fault is None
    _log.info("I1 I2 I3 I6 I7")
    return rows


async def questions_kept(vault: Vault) -> Counter[str]:
    """Return what people said in the turns that are kept, and how often each is."""
    said: Counter[str] = Counter()
    turns = [Kept.of(turn, vault.annotation_keys) async for turn in vault.store.annotations()]
    conversations = {(turn.stored.subject, turn.facts.conversation_tag) for turn in turns}
    for subject, conversation in conversations:
        for opened in await vault.transcripts.show(subject, conversation, purpose="service"):
            for message in opened.transcript.input:
                said.update(str(part.body.get("text")) for part in message.parts)
    return said
