"""How is a script run that a server may not know yet? By name, and once more after its text was loaded on every server."""

import contextlib
from collections.abc import Sequence

from redis.exceptions import NoScriptError

from chatproxy.errors import StoreUnavailableError
from chatproxy.store.connections import Command, Reply, Servers
from chatproxy.store.scripts import Call


async def run_calls(servers: Servers, calls: Sequence[Call]) -> list[Reply]:
    """Run scripts in one pipeline and return their answers, errors too. Raises StoreUnavailableError.

    What they have written is confirmed, by replicas too where the settings ask for that.
    """
    if not calls:
        return []
    replies = await servers.ask([call.command() for call in calls], confirmed=True)
    missing = [number for number, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
    if missing:
        loads: list[Command] = [
            ["SCRIPT", "LOAD", source] for source in {calls[number].script.source for number in missing}
        ]
        for node in await servers.nodes():
            # One that is away gets them when it is back, and somebody runs one there.
            with contextlib.suppress(StoreUnavailableError):
                await node.ask(loads)
        again = await servers.ask([calls[number].command() for number in missing], confirmed=True)
        for number, reply in zip(missing, again, strict=True):
            replies[number] = reply
    return replies
