"""How do many who ask the store at once share a round trip? What is asked for in one round of the event loop goes together.

A crowd of people who are not remembered would else wait for a few connections in turn, each for several rounds of a loop
that is busy with the others, until the store seems to be away. Each gets their own replies, errors too, so what is wrong
with one is nobody else's.
"""

import asyncio
from collections.abc import Sequence
from itertools import islice

from chatproxy.errors import StoreUnavailableError
from chatproxy.store.connections import Command, Reply, Servers

_MOST = 256
"""How many share a round trip."""

_Asked = list[tuple[Sequence[Command], "asyncio.Future[list[Reply]]"]]


class Together:
    """Asks for whoever comes, in as few round trips as there are rounds of the loop."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._open: _Asked = []
        """Those whom others may still join."""
        self._sending: set[asyncio.Task[None]] = set()

    async def ask(self, commands: Sequence[Command]) -> list[Reply]:
        """Do as ``Servers.ask``, with whoever else asks now. Only for what may be asked in any order."""
        loop = asyncio.get_running_loop()
        replies: asyncio.Future[list[Reply]] = loop.create_future()
        if not self._open or len(self._open) == _MOST:
            self._open = []
            task = loop.create_task(self._send(self._open), name="ask-together")
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
        self._open.append((commands, replies))
        return await replies

    async def _send(self, asked: _Asked) -> None:
        if self._open is asked:
            self._open = []
        try:
            found = iter(await self._servers.ask([command for commands, _ in asked for command in commands]))
        except Exception as error:  # noqa: BLE001 - whoever has asked hears of it
            for _, replies in asked:
                if not replies.done():
                    # One for each, since whoever raises it adds to it where that was.
                    is_known = isinstance(error, StoreUnavailableError)
                    replies.set_exception(StoreUnavailableError(str(error)) if is_known else error)
        else:
            for commands, replies in asked:
                own = list(islice(found, len(commands)))
                if not replies.done():
                    replies.set_result(own)
