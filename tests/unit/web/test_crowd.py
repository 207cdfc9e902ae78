"""Who is in, who gives way, and who is turned away."""

import ipaddress
from dataclasses import dataclass, field

from chatproxy.web.crowd import Crowd, NoRoom

NO_ROOM = NoRoom(is_own_fault=False, may_be_told=True)
TOO_MANY = NoRoom(is_own_fault=True, may_be_told=True)


@dataclass(eq=False)
class Guest:
    has_given_way: bool = field(default=False)
    stays: bool = field(default=False)

    def may_give_way(self) -> bool:
        return not self.stays

    def give_way(self) -> None:
        self.has_given_way = True


def several(crowd: Crowd, count: int, address: str = "192.0.2.1") -> list[Guest]:
    guests = [Guest() for _ in range(count)]
    for guest in guests:
        assert crowd.enter(guest, address) is None
    return guests


def test_who_waits_longest_gives_way() -> None:
    crowd = Crowd(3, 3)
    one, two, three = several(crowd, 3)
    crowd.works(one)
    crowd.works(two)
    crowd.waits(two)
    several(crowd, 1)
    assert (one.has_given_way, two.has_given_way, three.has_given_way) == (False, False, True)
    assert crowd.count == 3


def test_who_works_stays_and_others_are_turned_away() -> None:
    crowd = Crowd(2, 2)
    for guest in several(crowd, 2):
        crowd.works(guest)
    assert crowd.enter(Guest(), "198.51.100.1") == NO_ROOM
    assert crowd.count == 2


def test_who_may_not_give_way_stays_and_the_next_goes() -> None:
    crowd = Crowd(2, 2)
    one, two = several(crowd, 2)
    one.stays = True
    several(crowd, 1)
    assert (one.has_given_way, two.has_given_way) == (False, True)


def test_where_nobody_who_waits_may_give_way_who_comes_is_turned_away() -> None:
    crowd = Crowd(20, 20)
    guests = several(crowd, 20)
    for guest in guests[:16]:
        guest.stays = True
    assert crowd.no_room("198.51.100.1", 0) == NO_ROOM
    assert crowd.enter(Guest(), "198.51.100.1") == NO_ROOM
    assert not any(guest.has_given_way for guest in guests)


def test_there_is_room_for_who_comes_until_all_places_are_taken_by_who_works_or_is_coming() -> None:
    crowd = Crowd(3, 3)
    assert [crowd.no_room("192.0.2.1", coming) for coming in (0, 2, 3)] == [None, None, NO_ROOM]
    one, two, _ = several(crowd, 3)
    crowd.works(one)
    crowd.works(two)
    assert [crowd.no_room("198.51.100.1", coming) for coming in (0, 1)] == [None, NO_ROOM]
    assert not two.has_given_way
    assert crowd.count == 3


def test_an_address_without_room_is_told_so_before_it_comes_and_others_are_not() -> None:
    crowd = Crowd(10, 2, exempt=[ipaddress.ip_network("203.0.113.0/24")])
    for guest in [*several(crowd, 2), *several(crowd, 2, "203.0.113.1")]:
        crowd.works(guest)
    asked = [crowd.no_room(address, 0) for address in ("192.0.2.1", "192.0.2.2", "203.0.113.1")]
    assert asked == [TOO_MANY, None, None]


def test_an_address_that_is_full_has_its_own_give_way_and_nobody_elses() -> None:
    crowd = Crowd(10, 2)
    [other] = several(crowd, 1, "198.51.100.1")
    one, two = several(crowd, 2)
    several(crowd, 1)
    assert (other.has_given_way, one.has_given_way, two.has_given_way) == (False, True, False)


def test_an_address_that_is_full_at_work_is_told_so() -> None:
    crowd = Crowd(10, 2)
    for guest in several(crowd, 2):
        crowd.works(guest)
    assert crowd.enter(Guest(), "192.0.2.1") == TOO_MANY
    assert crowd.enter(Guest(), "::ffff:192.0.2.1") == TOO_MANY
    assert crowd.enter(Guest(), "192.0.2.2") is None


def test_one_network_of_64_bits_is_one_address() -> None:
    crowd = Crowd(10, 1)
    for guest in several(crowd, 1, "2001:db8::1"):
        crowd.works(guest)
    assert crowd.enter(Guest(), "2001:db8::ffff") == TOO_MANY
    assert crowd.enter(Guest(), "2001:db8:0:1::1") is None


def test_a_front_is_not_bound_by_the_limit_of_one_but_by_that_of_all() -> None:
    crowd = Crowd(3, 1, exempt=[ipaddress.ip_network("192.0.2.0/24")])
    for guest in several(crowd, 3):
        crowd.works(guest)
    assert crowd.enter(Guest(), "192.0.2.1") == NO_ROOM


def test_who_leaves_makes_room_also_if_he_leaves_twice() -> None:
    crowd = Crowd(1, 1)
    [guest] = several(crowd, 1)
    crowd.works(guest)
    crowd.leave(guest)
    crowd.leave(guest)
    crowd.waits(guest)
    assert crowd.count == 0
    several(crowd, 1)


def test_of_those_turned_away_only_some_are_told() -> None:
    crowd = Crowd(1, 1)
    crowd.works(several(crowd, 1)[0])
    away = [Guest() for _ in range(300)]
    told = [no_room.may_be_told for guest in away if (no_room := crowd.enter(guest, "192.0.2.9"))]
    assert told == [True] * 256 + [False] * 44
    crowd.leave(away[0])
    assert crowd.enter(Guest(), "192.0.2.9") == NO_ROOM


def test_many_addresses_do_not_fill_the_memory() -> None:
    crowd = Crowd(2, 2)
    for number in range(25_000):
        guest = Guest()
        crowd.enter(guest, str(ipaddress.ip_address(number)))
        crowd.leave(guest)
    assert len(crowd._names) <= 10_000
    assert crowd._places == {}
