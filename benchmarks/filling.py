"""A store that holds much, without the hours in which chats would bring it.

``python filling.py KEYSET DATA_DIR turns COUNT`` puts turns of one person, ana, by the store's own script into the store of a
``chatproxy serve`` that runs. One turn is sealed; the others are that one under other names of turn, conversation, history and
request, which is all that a store sees of them; nobody could open them.

``python filling.py KEYSET DATA_DIR people FIRST COUNT`` gives each of so many people a ledger with a yes, a key of their own, and a
turn that is a copy of one as above: they can be looked up, and can chat.
"""

import asyncio
import secrets
import sys
from contextlib import asynccontextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from msgspec.structs import replace

from chatproxy.consent.events import PURPOSES, SURFACES, Choice, write_choice
from chatproxy.crypto.annotation import Annotation, authenticate
from chatproxy.model import Caller, ConversationTag, Message, Origin, Part, PartKind, Transcript, TurnId
from chatproxy.ports import Attempt, PutStatus
from chatproxy.settings import load_settings
from chatproxy.store import keys as names
from chatproxy.vault import open_vault
from chatproxy.workflows.seal import FirstKeys
from integration.keeping import Keeper

BATCH = 500
LEDGER_MS = 8 * 366 * 86_400_000
SAID = Transcript(
    input=(Message("user", (Part(PartKind.TEXT, Origin.TYPED, {"text": "z" * 950}),)),),
    output=(Message("assistant", (Part(PartKind.TEXT, Origin.ASSISTANT, {"text": "x" * 1140}),)),),
    model="m",
)


def name_of(number):
    return f"person-{number:07d}"


def renamed(sealed, keys, **changes):
    """Return a turn as the archive would put it, of another conversation: its annotation is authentic, its record is not."""
    sealed = replace(sealed, **changes)
    turn, conversation = TurnId(secrets.token_bytes(16)), ConversationTag(secrets.token_bytes(16))
    heads = (secrets.token_bytes(16), secrets.token_bytes(16))
    [old_head] = sealed.heads
    metadata, body = sealed.annotation[b"meta"], sealed.annotation[b"body"]
    if sealed.conversation.hex().encode() not in metadata or old_head.hex().encode() not in body:
        raise SystemExit("an annotation is not as this script knows it")
    annotation = Annotation(
        seq=1,
        expires_at=sealed.expires_at,
        metadata=metadata.replace(sealed.conversation.hex().encode(), conversation.hex().encode()),
        body=body.replace(old_head.hex().encode(), b'","'.join(head.hex().encode() for head in heads)),
    )
    return replace(
        sealed,
        turn=turn,
        conversation=conversation,
        heads=heads,
        attempt=Attempt(asked=secrets.token_bytes(16), completes=True, richness=1_151, announced=turn),
        annotation=authenticate(annotation, keys=keys, subject=sealed.subject, turn=turn),
    )


async def sealed_of(vault, tag, subject, first):
    keeper = Keeper(vault, tag)
    caller = Caller(subject=subject, plan="pro")
    conversation = ConversationTag(secrets.token_bytes(16))
    return await keeper.sealed(
        await keeper.person(), conversation, first=first, caller=caller, transcript=SAID
    )


async def put(vault, turns):
    if set(await vault.store.put(turns)) != {PutStatus.STORED}:
        raise SystemExit("not all turns were kept")


@asynccontextmanager
async def in_haste(vault):
    """Have the store sync once a second, and rewrite its file only in the end: what fills it could be made again."""

    async def configure(sync, growth):
        settings = [["appendfsync", sync], ["auto-aof-rewrite-percentage", growth]]
        await vault.store.connections.ask([["CONFIG", "SET", *setting] for setting in settings])

    await configure("everysec", 0)
    try:
        yield
    finally:
        await configure("always", 50)


async def fill_turns(vault, count):
    tag = vault.pseudonyms.subject_tag(tenant="default", subject="ana")
    sealed = await sealed_of(vault, tag, "ana", FirstKeys(vault.record_keys))
    async with in_haste(vault):
        for start in range(0, count, BATCH):
            await put(
                vault, [renamed(sealed, vault.annotation_keys) for _ in range(min(BATCH, count - start))]
            )


async def fill_people(vault, first, count):
    sealed = None
    async with in_haste(vault):
        for start in range(first, first + count, BATCH):
            tags = [
                vault.pseudonyms.subject_tag(tenant="default", subject=name_of(number))
                for number in range(start, min(start + BATCH, first + count))
            ]
            ledgers = (ledger_of(tag, vault.annotation_keys, at=vault.clock()) for tag in tags)
            await vault.store.connections.ask([command for ledger in ledgers for command in ledger])
            if sealed is None:
                sealed = await sealed_of(vault, tags[0], name_of(first), FirstKeys(vault.record_keys))
            turns = []
            for tag in tags:
                _, wrap = vault.record_keys.new_subject_key(tag, generation=sealed.generation)
                turns.append(renamed(sealed, vault.annotation_keys, subject=tag, new_wrap=wrap))
            await put(vault, turns)


def ledger_of(tag, keys, *, at):
    """Return the commands that write a ledger with one yes."""
    event = write_choice(
        subject=tag, choice=Choice.GIVEN, at=at, by="bench", method="bench", purposes=PURPOSES, surfaces=SURFACES,
        record_id=tag.hex(), previous=None, keys=keys,
    )  # fmt: skip
    return [["RPUSH", names.ledger(tag), event], ["PEXPIREAT", names.ledger(tag), at + LEDGER_MS]]


async def main():
    keyset, data_dir, what, *counts = sys.argv[1:]
    overrides = {"keyset": keyset, "data_dir": data_dir, "store_timeout": "60s"}
    async with open_vault(load_settings({}, overrides=overrides).settings) as vault:
        await (fill_turns if what == "turns" else fill_people)(vault, *map(int, counts))


if __name__ == "__main__":
    asyncio.run(main())
