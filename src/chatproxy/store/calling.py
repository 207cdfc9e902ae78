"""How is a script run that the server may not know yet? By name, and once more with its text where it is unknown."""

from collections.abc import Sequence

from redis.exceptions import NoScriptError

from chatproxy.store.connections import Command, Connections, Reply
from chatproxy.store.scripts import Call


async def run_calls(connections: Connections, calls: Sequence[Call]) -> list[Reply]:
    """Run scripts in one pipeline and return their answers, errors too. Raises StoreUnavailableError."""
    if not calls:
        return []
    replies = await connections.ask([call.command() for call in calls])
    missing = [number for number, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
    if missing:
        sources = {calls[number].script.source for number in missing}
        loads: list[Command] = [["SCRIPT", "LOAD", source] for source in sources]
        again = await connections.ask([*loads, *(calls[number].command() for number in missing)])
        for number, reply in zip(missing, again[len(loads) :], strict=True):
            replies[number] = reply
    return replies
