"""How many connections may clients have, in all and from one address, and which goes when there is no room?

A connection that waits for its client (idle, or with half a head) gives way to a new one, the longest waiting first; one
with a request under way never does, nor one whose request has come and is not read yet: its client would not know whether
he was heard. Nor does one that has waited for a moment only, whose client may be about to speak, or that has not taken
all of its answer yet. So whoever opens many connections and says nothing displaces himself.
"""

import ipaddress
from collections.abc import Collection, Sequence
from itertools import islice
from typing import NamedTuple, Protocol

from chatproxy.web.client_address import Network

_MOST_REMEMBERED = 10_000
_MOST_ASKED = 16
"""Connections, those that wait longest, of which one must be able to give way to a new one."""
_MOST_TOLD = 256
"""Connections for which there is no room, that may wait at a time until their clients have read that."""


class Guest(Protocol):
    """What the crowd needs of a connection."""

    def may_give_way(self) -> bool:
        """Whether it has waited for long enough, and has nothing to say that nobody has looked at, nor to take."""

    def give_way(self) -> None:
        """Close: the room is needed."""


class NoRoom(NamedTuple):
    """Why a connection is not taken."""

    is_own_fault: bool
    """Whether it is the connections of its own address that leave no room."""
    may_be_told: bool
    """Whether there is room at least for saying so."""


class _Place:
    """One address."""

    __slots__ = ("count", "waiting")

    def __init__(self) -> None:
        self.count = 0
        self.waiting: dict[Guest, None] = {}


class _Full(NamedTuple):
    """A bound that is reached, and who of those that it counts might give way, the longest waiting first."""

    waiting: Collection[Guest]
    is_of_one: bool


class Crowd:
    """The connections of one listener."""

    def __init__(
        self,
        most: int,
        most_of_one: int,
        *,
        exempt: Sequence[Network] = (),
    ) -> None:
        """``exempt``: networks that ``most_of_one`` does not bind, such as a front for everybody."""
        self.count = 0
        self._most = most
        self._most_of_one = most_of_one
        self._exempt = tuple(exempt)
        self._places: dict[str, _Place] = {}
        self._where: dict[Guest, str] = {}
        self._waiting: dict[Guest, None] = {}
        self._turned_away: set[Guest] = set()
        self._names: dict[str, tuple[str, bool]] = {}

    def enter(self, guest: Guest, address: str) -> NoRoom | None:
        """Let *guest* in, who waits from now on, or say why not."""
        name, is_exempt = self._names.get(address) or self._name(address)
        full = self._full(name, 0, is_exempt=is_exempt)
        if full is not None:
            weakest = _weakest(full.waiting)
            if weakest is None:
                return self._turn_away(guest, is_own_fault=full.is_of_one)
            self.leave(weakest)
            weakest.give_way()
        # Asked for anew: the last one of a place takes the place along.
        place = self._places.setdefault(name, _Place())
        place.count += 1
        self.count += 1
        self._where[guest] = name
        self.waits(guest)
        return None

    def no_room(self, address: str, coming: int) -> NoRoom | None:
        """Say why who comes from *address* will be turned away, *coming* others being on their way in; None: he may not be."""
        name, is_exempt = self._names.get(address) or self._name(address)
        full = self._full(name, coming, is_exempt=is_exempt)
        if full is None or (len(full.waiting) > coming and _weakest(full.waiting) is not None):
            return None
        return NoRoom(full.is_of_one, may_be_told=True)

    def waits(self, guest: Guest) -> None:
        """*guest* has no request under way."""
        name = self._where.get(guest)
        if name is not None:
            self._waiting.pop(guest, None)
            self._waiting[guest] = self._places[name].waiting[guest] = None

    def works(self, guest: Guest) -> None:
        """*guest* has a request under way."""
        name = self._where.get(guest)
        if name is not None:
            del self._waiting[guest], self._places[name].waiting[guest]

    def leave(self, guest: Guest) -> None:
        """*guest* has gone. May be called again."""
        self._turned_away.discard(guest)
        name = self._where.pop(guest, None)
        if name is None:
            return
        place = self._places[name]
        self._waiting.pop(guest, None)
        place.waiting.pop(guest, None)
        place.count -= 1
        self.count -= 1
        if not place.count:
            del self._places[name]

    def _turn_away(self, guest: Guest, *, is_own_fault: bool) -> NoRoom:
        may_be_told = len(self._turned_away) < _MOST_TOLD
        if may_be_told:
            self._turned_away.add(guest)
        return NoRoom(is_own_fault, may_be_told)

    def _full(self, name: str, coming: int, *, is_exempt: bool) -> _Full | None:
        place = self._places.get(name)
        if place is not None and place.count >= self._most_of_one and not is_exempt:
            return _Full(place.waiting, is_of_one=True)
        return _Full(self._waiting, is_of_one=False) if self.count + coming >= self._most else None

    def _name(self, address: str) -> tuple[str, bool]:
        """Return what counts as one address, an IPv6 network of 64 bits being one, and whether it is exempt."""
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return address, False
        if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        name = str(found)
        if isinstance(found, ipaddress.IPv6Address) and not found.is_loopback:
            name = str(ipaddress.ip_network((found, 64), strict=False))
        if len(self._names) >= _MOST_REMEMBERED:
            self._names.clear()
        named = self._names[address] = (name, any(found in network for network in self._exempt))
        return named


def _weakest(waiting: Collection[Guest]) -> Guest | None:
    """Return who is to give way first."""
    return next((guest for guest in islice(waiting, _MOST_ASKED) if guest.may_give_way()), None)
