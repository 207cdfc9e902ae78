"""What must hold after every fault (docs/reliability.md, The fault matrix)."""

import base64
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from chatproxy.audit.verify import verify_log
from chatproxy.vault import Vault
from chatproxy.workflows.verdict import Kept
from integration.proxy_fixtures import World

CANARY = "canary-7f3a9"
"""Put it into whatever is said."""


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


def assert_nothing_readable(*directories: Path) -> None:
    """I3, of every file below *directories*."""
    forms = [form for text in (CANARY, CANARY.upper()) for form in _forms(text)]
    for path in _files(directories):
        data = path.read_bytes()
        assert not any(form in data for form in forms), path


def _files(directories: Iterable[Path]) -> Iterable[Path]:
    return (
        path for top in directories for path in top.rglob("*") if path.is_file() and not path.is_symlink()
    )


def _forms(text: str) -> list[bytes]:
    raw = text.encode()
    # In base64 a text looks in one of three ways, by where it begins; its ends depend on its neighbours.
    in_base64 = [base64.b64encode(b"x" * ahead + raw)[ahead * 4 // 3 + 2 : -4] for ahead in range(3)]
    return [raw, raw.hex().encode(), raw.hex().upper().encode(), *in_base64]
