import pytest

from gateway.errors import TooManyRequestsError
from gateway.realtime.places import CONNECTION_BYTES, Budget, Places, is_loopback

FAR = "192.0.2.7"


def places(*, connections: int = 100) -> Places:
    return Places(Budget(connections * CONNECTION_BYTES), per_user=2, handshakes=2)


def test_an_address_has_so_many_connections_that_have_not_said_who_they_are() -> None:
    doors = places()
    first = doors.take(FAR)
    doors.take(FAR)
    with pytest.raises(TooManyRequestsError) as refused:
        doors.take(FAR)
    assert refused.value.retry_after > 0
    doors.take("192.0.2.8")
    doors.settle(first)
    doors.settle(first)
    doors.take(FAR)
    with pytest.raises(TooManyRequestsError):
        doors.take(FAR)


def test_a_user_has_so_many_connections() -> None:
    doors = places()
    first, second, third = (doors.take(address) for address in (FAR, "192.0.2.8", "192.0.2.9"))
    doors.name(first, "u")
    doors.name(first, "u")
    doors.name(second, "u")
    with pytest.raises(TooManyRequestsError):
        doors.name(third, "u")
    doors.name(third, "v")
    doors.leave(first)
    doors.name(third, "u")


def test_connections_of_this_machine_are_not_counted() -> None:
    doors = places()
    near = [doors.take("127.0.0.1") for _ in range(10)]
    for place in near:
        doors.name(place, "u")


def test_all_connections_together_have_so_much_memory() -> None:
    doors = places(connections=2)
    first = doors.take("127.0.0.1")
    doors.take(None)
    with pytest.raises(TooManyRequestsError):
        doors.take("::1")
    doors.leave(first)
    doors.take("::1")


def test_what_was_taken_is_given_back() -> None:
    doors = places()
    for _ in range(10):
        place = doors.take(FAR)
        doors.name(place, "u")
        doors.leave(place)
    assert doors.budget.used == 0


@pytest.mark.parametrize(
    ("address", "near"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("192.0.2.7", False),
        ("fe80::1%eth0", False),
        ("::ffff:192.0.2.7", False),
        ("unix", False),
    ],
)
def test_an_address_of_this_machine_is_known(address: str, near: bool) -> None:
    assert is_loopback(address) is near
