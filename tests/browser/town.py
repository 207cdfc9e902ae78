"""A proxy with people of every kind behind it, for tests that look at every page in every state."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from chatproxy.consent.events import Choice, FactKind, Scope
from chatproxy.datasets.manifest import Shard
from chatproxy.datasets.tables import Form
from chatproxy.policy.facts import Override
from chatproxy.workflows.dataset_directory import DatasetDirectory
from chatproxy.workflows.export import Wish
from chatproxy.workflows.happenings import FeedbackKind
from integration.proxy_fixtures import ANA, World, a_world, answer_to
from simulators.backend import Peer

XSS = "<script>alert(1)</script><img src=x onerror=alert(2)>"
LONG = "Donaudampfschifffahrtsgesellschaft" * 8
BEN = {"x-chat-subject": "ben", "x-chat-plan": "pro"}
CHLOE = {"x-chat-subject": "chloe", "x-chat-plan": "max"}
DINA = {"x-chat-subject": "dina", "x-chat-plan": "free"}
ELIF = {"x-chat-subject": "elif", "x-chat-plan": "team"}
NOBODY: dict[str, str] = {}
_PAGE = b"""<!doctype html><html lang="%b"><head><meta charset="utf-8"><title>A chat</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="/_chatproxy/icon.svg">
<script src="%b/_chatproxy/choice.js" defer></script></head>
<body><main><h1>A chat</h1><button>Send</button></main></body></html>"""


@dataclass(frozen=True, slots=True)
class Screen:
    """One page in one state."""

    name: str
    path: str
    who: dict[str, str]
    url: str
    status: int = 200


def front(language: str, *, origin: str = "", policy: bytes = b"default-src 'self'") -> bytes:
    """The page of a front end that includes the script, under a content security policy of its own."""
    body = _PAGE % (language.encode(), origin.encode())
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Security-Policy: %b\r\nContent-Length: %d\r\n\r\n"
    return head % (policy, len(body)) + body


async def chats_and_pages(peer: Peer) -> None:
    """A backend that has a page of its own, ``/fr`` in French, and chats. It repeats what it is told."""
    while True:
        request = await peer.read_request()
        if request.startswith(b"GET /"):
            await peer.send(front("fr" if request.startswith(b"GET /fr") else "en"))
        else:
            await peer.send(answer_to(request, f"{XSS} {LONG}"))


OFTEN = "999999/1s"
"""A browser that is driven asks more often than a person."""


@asynccontextmanager
async def a_town(directory: Path, store: str) -> AsyncIterator[list[Screen]]:
    """Let people chat and choose; yield every page in every state."""
    async with AsyncExitStack() as closing:
        world = await closing.enter_async_context(
            a_world(chats_and_pages, directory, store, person_rate=OFTEN, export_min_age="0")
        )
        handles = await _ana(world)
        await world.chat("before any choice", who=BEN)
        await world.choose(Choice.REFUSED, subject="chloe")
        await world.choose(Choice.GIVEN, Choice.WITHDRAWN, subject="dina")
        await world.kept()
        await _used(world, directory)
        late = await closing.enter_async_context(
            a_world(
                chats_and_pages,
                directory,
                store,
                choice_deadline="2025-10-08T00:00:00Z",
                data_dir=str(directory / "late"),
                person_rate=OFTEN,
            )
        )
        url = world.running.url
        yield [
            Screen("choice, yes stands", "", ANA, url),
            Screen("choice, none yet", "", BEN, url),
            Screen("choice, no stands", "", CHLOE, url),
            Screen("choice, withdrawn", "", DINA, url),
            Screen("choice, exempt", "", ELIF, url),
            Screen("choice, overdue", "", BEN, late.running.url),
            Screen("conversations", "conversations", ANA, url),
            Screen("conversations, none", "conversations", DINA, url),
            *(
                Screen(f"conversation, {name}", f"conversations/{handles[name]}", ANA, url)
                for name in handles
            ),
            Screen("deleting", f"conversations/{handles['feedback']}/delete", ANA, url),
            Screen("history", "history", ANA, url),
            Screen("history, none", "history", BEN, url),
            Screen("uses", "uses", ANA, url),
            Screen("uses, none", "uses", BEN, url),
            Screen("download", "copy", ANA, url),
            Screen("who are you", "", NOBODY, url, 401),
            Screen("an old link", "?link=old", NOBODY, url, 401),
            Screen("not there", "conversations/nothing", ANA, url, 404),
        ]


async def _used(world: World, directory: Path) -> None:
    """What may be used goes into two datasets; something of one is recalled, and of the other it is out by now."""
    desk, vault = world.running.vault.person_desk, world.running.vault
    made = []
    for name in ("first", "second"):
        wish = Wish(purpose="capability", consumer=f"{XSS} {LONG}", form=Form.JSONL, shard=Shard(), at=None)
        made.append(await vault.exporter("capability", []).export(wish, DatasetDirectory(directory / name)))
    shared = next(view for view in await desk.conversations(world.tag()) if view.override is Override.SHARE)
    await desk.set_override(world.tag(), shared.handle, Override.EXCLUDE, method="test")
    await vault.recalls().look_at_everybody()
    await vault.recalls().acknowledge(bytes.fromhex(made[0].dataset[2:]), None)
    await desk.set_override(world.tag(), shared.handle, Override.SHARE, method="test")
    await world.decided_again()


async def _ana(world: World) -> dict[str, str]:
    """Ana has a conversation of every kind; return the handles of those that can be read."""
    desk, tag = world.running.vault.person_desk, world.tag()
    handles: dict[str, str] = {}

    async def chats(name: str, **headers: str) -> str:
        await world.chat(
            f"{name} {XSS} {LONG}", who=ANA | {"x-chat-conversation": name} | headers, model=f"{XSS}-1"
        )
        await world.kept()
        known = set(handles.values())
        handles[name] = next(
            view.handle for view in await desk.conversations(tag) if view.handle not in known
        )
        return handles[name]

    await chats("older")
    await desk.set_override(tag, await chats("shared"), Override.SHARE, method="test")
    await world.choose(Choice.GIVEN)
    await chats("eligible")
    await desk.set_override(tag, await chats("excluded"), Override.EXCLUDE, method="test")
    await desk.give_feedback(tag, await chats("feedback"), FeedbackKind.THUMBS, method="test")
    await chats("incognito", **{"x-chat-incognito": "?1"})
    flagged = await chats("flagged")
    turn = max(await world.turns(), key=lambda kept: getattr(kept, "facts").received_at).turn  # noqa: B009
    await world.running.vault.ledger.note(
        tag,
        FactKind.FLAGGED,
        at=world.running.vault.clock(),
        by="test",
        method="test",
        scope=Scope(turn=turn),
    )
    deleted = await chats("deleted")
    await desk.give_feedback(tag, deleted, FeedbackKind.BUG, method="test")
    await desk.delete_conversation(tag, deleted, method="test")
    await world.decided_again()
    assert flagged in handles.values()
    del handles["deleted"]
    return handles
