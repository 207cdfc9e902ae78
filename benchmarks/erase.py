"""How long does it take to erase a person with many turns, and how fast is a key rolled? Against an embedded store.

Run: python benchmarks/erase.py [TURNS]. Prints one JSON object.
"""

import asyncio
import json
import secrets
import sys
import tempfile
import time
from pathlib import Path

from chatproxy.clock import wall_clock
from chatproxy.crypto.annotation import Annotation, authenticate
from chatproxy.crypto.keyset import make_keyset
from chatproxy.crypto.record import Grounds, RecordFlags, RecordHeader, epoch_day, seal_record
from chatproxy.kms.file import KeysetFile
from chatproxy.model import Age, Origin, StreamEnd, SubjectTag, Surface, TurnId
from chatproxy.ports import Chore, Erased, SealedGroup, SealedTurn
from chatproxy.settings import load_settings
from chatproxy.vault import Vault, open_vault
from chatproxy.workflows.annotate import VERSION, Eligible, GroupNote, TurnFacts, TurnNote

_BYTES = 2048
_BATCH = 500
_CONVERSATION_TURNS = 20
_DAY_MS = 86_400_000


async def fill(vault: Vault, subject: SubjectTag, turns: int) -> None:
    """Put *turns* turns of one person, as the archive would."""
    key, wrap = vault.record_keys.new_subject_key(subject, generation=1)
    now = wall_clock()
    expires_at = now + 30 * _DAY_MS
    epoch_key = await vault.record_keys.epoch_key(epoch_day(expires_at))
    payload = secrets.token_bytes(_BYTES)
    for first in range(0, turns, _BATCH):
        batch = []
        for number in range(first, min(first + _BATCH, turns)):
            turn = TurnId(number.to_bytes(16, "big"))
            conversation = (number // _CONVERSATION_TURNS).to_bytes(16, "big")
            facts = TurnFacts(
                v=VERSION,
                conversation=conversation.hex(),
                dialect="openai_chat",
                received_at=now,
                node="bench",
            )
            head = secrets.token_bytes(32)
            note = TurnNote(
                v=VERSION,
                end=StreamEnd.COMPLETE,
                plan="pro",
                surface=Surface.CHAT,
                age=Age.ADULT,
                policy=vault.policy.digest,
                decided_at=now,
                heads=(head.hex(),),
                groups=(
                    GroupNote(
                        n=0,
                        part=Origin.TYPED,
                        grounds={"SERVICE": expires_at},
                        expires_at=expires_at,
                        eligible=Eligible(),
                        reason="CONSENT_UNKNOWN",
                        bytes=_BYTES,
                    ),
                ),
            )
            header = RecordHeader(
                flags=RecordFlags.PADDED,
                grounds=Grounds.SERVICE,
                generation=1,
                expires_at=expires_at,
                turn=turn,
                series=epoch_key.series,
            )
            blob = seal_record(
                header,
                subject_key=key,
                epoch_key=epoch_key.key,
                subject=subject,
                metadata=facts.record_metadata(0),
                payload=payload,
            )
            annotation = Annotation(seq=1, expires_at=expires_at, metadata=facts.metadata(), body=note.body())
            batch.append(
                SealedTurn(
                    subject=subject,
                    turn=turn,
                    conversation=facts.conversation_tag,
                    received_at=now,
                    expires_at=expires_at,
                    generation=1,
                    new_wrap=wrap,
                    ledger_length=0,
                    groups=(SealedGroup(0, blob, expires_at),),
                    annotation=authenticate(
                        annotation, keys=vault.annotation_keys, subject=subject, turn=turn
                    ),
                    heads=(head,),
                )
            )
        await vault.store.put(batch)


async def measure(directory: Path, turns: int) -> dict[str, float]:
    """Fill, roll, erase, and take the time of each."""
    path = directory / "keys" / "keyset"
    KeysetFile(path, data_dir=directory / "data").create(make_keyset(created_at=wall_clock()))
    overrides = {"data_dir": str(directory / "data"), "keyset": f"file:{path}", "store_timeout": "30s"}
    async with open_vault(load_settings({}, overrides=overrides).settings) as vault:
        subject = SubjectTag(secrets.token_bytes(16))
        await fill(vault, subject, turns)
        begun = time.perf_counter()
        rolled = await vault.roller.roll(subject)
        roll_seconds = time.perf_counter() - begun
        await vault.erasure.mark_chore(Chore.ERASE, subject, 0)
        begun = time.perf_counter()
        found = await vault.erasure.erase(
            subject, at=wall_clock(), ledger_length=0, stays=None, events=(), ledger_keep_until=0
        )
        unreadable_seconds = time.perf_counter() - begun
        assert isinstance(found, Erased)
        eraser = vault.eraser
        begun = time.perf_counter()
        while await eraser.take_up():
            pass
        gone_seconds = time.perf_counter() - begun
        return {
            "turns": found.turns,
            "resealed_per_second": round(rolled.records / roll_seconds),
            "unreadable_ms": round(unreadable_seconds * 1000, 2),
            "gone_seconds": round(gone_seconds, 2),
        }


def main() -> None:
    """Measure with as many turns as the command line says."""
    turns = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory(prefix="chatproxy-erase-") as directory:
        print(json.dumps(asyncio.run(measure(Path(directory), turns))))


if __name__ == "__main__":
    main()
