"""How fast are new clients let in, or told that there is no room? As fast as they come.

1. The event loop's own way (libuv since 1.46, and so uvloop) is to take one connection a round. With much to do, a round
   takes tens of milliseconds: who comes then waits for seconds in the system's queue though there is room, and where there
   is none he is told nothing. Here a round takes a few, and twice as many as the one before as long as that has left some.
2. Who is turned away costs a fraction of who is answered, so that turning away a multiple of what can be answered leaves
   the time to answer. So he gets no transport and no parser: a few words, and the end, behind which his own are read for
   a moment, since what nobody has read would take the words back (RFC 9112 9.6).
3. Of several processes that take from one socket, who has more clients than another leaves it those who come, for a moment
   (``chatproxy.web.tally``).
"""

import asyncio
import contextlib
import socket
import ssl
from collections import deque
from collections.abc import Callable

from chatproxy.telemetry import Log
from chatproxy.web.tally import Tally

_log = Log("accepting")

_FEWEST_A_ROUND, _MOST_A_ROUND = 8, 256
"""Some hundred microseconds; some ten milliseconds: turning away takes no more of a busy round."""
_PAUSE_SECONDS = 0.5
"""Before it is tried again where the system has no descriptors or memory left."""
_OTHERS_FIRST_SECONDS = 0.002
"""A process that waits for clients has taken them by then; one that has not is busy."""
MOST_TOLD = 128
"""Who is turned away and has not gone: for one more, the one who has had the longest to read goes."""
_LAST_WORDS_SECONDS = 2.0
_LOOK_SECONDS = 0.05
_IGNORED_BYTES = 65_536
"""Of what who was turned away says, at a look."""


class Acceptor:
    """Takes the connections of one listening socket."""

    def __init__(
        self,
        listening: socket.socket,
        protocol: Callable[[], asyncio.Protocol],
        *,
        no_room: Callable[[str, int], bytes | None],
        clients: Callable[[], int] = lambda: 0,
        tally: Tally | None = None,
        tls: ssl.SSLContext | None = None,
        most_told: int = MOST_TOLD,
        handshake_timeout: float | None = None,
    ) -> None:
        """``listening`` does not block; it stays its owner's to close, after ``stop``.

        ``no_room`` gives what who comes from an address is told, while so many others are on their way in; None: he is let
        in. With ``tls`` everybody is, since nothing can be told before the handshake, which may take ``handshake_timeout``
        seconds. ``clients`` gives how many are in; they are noted in the ``tally`` of those who listen there, if several do.
        """
        self._listening = listening
        self._protocol = protocol
        self._no_room = no_room
        self._clients = clients
        self._tally = tally
        self._tls = tls
        self._most_told = most_told
        self._most = _FEWEST_A_ROUND
        self._anyway = 1
        """How many are taken once others have had their time; more, each time that they have not used it."""
        self._handshake_timeout = handshake_timeout if tls else None
        self._arriving: set[asyncio.Task[None]] = set()
        self._told: deque[tuple[float, socket.socket]] = deque()
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def start(self) -> None:
        """Take connections from now on."""
        self._others_first()  # so that they leave it who comes
        asyncio.get_running_loop().add_reader(self._listening, self._take)

    async def stop(self) -> None:
        """Take no more. Who has been taken is let in, but for those whose handshake is not over. May be called again."""
        if self._listening.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._listening)
        for timer in self._timers.values():
            timer.cancel()
        if self._tally is not None:
            self._tally.leave()
        while self._told:
            _close(self._told.popleft()[1])
        if self._tls is not None:
            for arriving in self._arriving:
                arriving.cancel()
        if self._arriving:
            await asyncio.wait(self._arriving)

    def _others_first(self) -> bool:
        """Note how many clients there are; return whether another process should have the next one."""
        if self._tally is None:
            return False
        clients = self._clients() + len(self._arriving)
        self._tally.note(clients)
        return self._tally.is_ahead(clients)

    def _take_anyway(self) -> None:
        """Take of those whom no other process has taken."""
        self.start()
        self._take(anyway=self._anyway)
        self._anyway = min(2 * self._anyway, _MOST_A_ROUND)

    def _take(self, *, anyway: int = 0) -> None:
        """Take who comes; of them *anyway*, though another process should have them."""
        loop = asyncio.get_running_loop()
        for taken in range(self._most):
            if not self._others_first():
                self._anyway = 1
            elif taken >= anyway:
                loop.remove_reader(self._listening)
                self._timers["others first"] = loop.call_later(_OTHERS_FIRST_SECONDS, self._take_anyway)
                return
            try:
                connection, address = self._listening.accept()
            except BlockingIOError:
                self._most = _FEWEST_A_ROUND
                return
            except (ConnectionAbortedError, InterruptedError):
                continue
            except OSError as error:
                _log.error("no connection can be taken; it is tried again", failure=error)
                loop.remove_reader(self._listening)
                self._timers["pause"] = loop.call_later(_PAUSE_SECONDS, self.start)
                return
            connection.settimeout(0)
            words = None if self._tls else self._no_room(address[0], len(self._arriving))
            if words is None:
                arriving = loop.create_task(self._let_in(connection))
                self._arriving.add(arriving)
                arriving.add_done_callback(self._arriving.discard)
            else:
                self._turn_away(connection, words)
        self._most = min(2 * self._most, _MOST_A_ROUND)

    async def _let_in(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the client has gone, or it is no TLS that he speaks
            await asyncio.get_running_loop().connect_accepted_socket(
                self._protocol, connection, ssl=self._tls, ssl_handshake_timeout=self._handshake_timeout
            )

    def _turn_away(self, connection: socket.socket, words: bytes) -> None:
        loop = asyncio.get_running_loop()
        try:
            connection.send(words)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            connection.close()
            return
        if not self._told:
            self._timers["told"] = loop.call_later(_LOOK_SECONDS, self._look)
        elif len(self._told) >= self._most_told:
            _close(self._told.popleft()[1])
        self._told.append((loop.time() + _LAST_WORDS_SECONDS, connection))

    def _look(self) -> None:
        """Close behind those who have gone, or have had time to read."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for _ in range(len(self._told)):
            told = self._told.popleft()
            if now < told[0] and not _has_gone(told[1]):
                self._told.append(told)
            else:
                _close(told[1])
        if self._told:
            self._timers["told"] = loop.call_later(_LOOK_SECONDS, self._look)


def _close(connection: socket.socket) -> None:
    _has_gone(connection)  # with something unread the system would take the last words back
    connection.close()


def _has_gone(connection: socket.socket) -> bool:
    """Read what who was turned away says; return whether that has ended."""
    try:
        return not connection.recv(_IGNORED_BYTES)
    except BlockingIOError:
        return False
    except OSError:
        return True
