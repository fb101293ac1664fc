from typing import Any, cast

from actors.events import TextDelta
from gateway.feeds import frames
from gateway.realtime.outbound import Outbound
from gateway.realtime.places import Budget
from gateway.realtime.session_outputs import LIVE, OVER, Following
from gateway.realtime.subscriber import Subscriber
from tests.gateway.realtime.test_outbound import Clock, Wire

FRAME = frames.of_event(
    "conv:c", frames.head_of("conv:c"), 1, TextDelta("run-1", "m", "a"), thread="c", tags=b""
)


class Connection:
    """As much of a connection as a subscriber needs."""

    def __init__(self, room: int) -> None:
        self.wire = Wire(room)
        self.held: list[Any] = []
        self.session: Any = self
        self.outbound = Outbound(self.wire, later=Clock().later, slow=lambda: None, budget=Budget(1 << 20))

    def published(self, _: Following, frame: Any) -> None:
        self.held.append(frame)


def subscriber(room: int = 10) -> tuple[Subscriber, Following, Connection, list[None]]:
    connection, following = Connection(room), Following("conv:c", 1)
    return Subscriber(cast("Any", connection), following), following, connection, []


def test_there_is_a_shorter_way_only_while_a_subscription_is_live_and_its_socket_takes_more() -> None:
    one, following, connection, _ = subscriber()
    assert one.way(lambda: None) is None
    following.state = LIVE
    way = one.way(lambda: None)
    assert way is not None
    way(FRAME.wire)
    assert connection.wire.messages() == [FRAME.push]
    connection.wire.room = 0
    assert one.way(lambda: None) is None
    connection.wire.room = 5
    connection.outbound.close()
    assert one.way(lambda: None) is None
    following.state = OVER
    assert one.way(lambda: None) is None


def test_what_comes_before_the_reply_is_the_sessions_matter() -> None:
    one, _, connection, _ = subscriber()
    one.send(FRAME)
    assert (connection.held, connection.wire.sent) == ([FRAME], [])


def test_a_socket_that_takes_everything_again_says_that_there_is_a_shorter_way() -> None:
    one, following, connection, changes = subscriber(room=0)
    following.state = LIVE
    assert one.way(lambda: changes.append(None)) is None
    one.send(FRAME)
    assert (changes, connection.outbound.waiting) == ([], 1)
    connection.wire.room = 10
    one.send(FRAME)
    assert changes == []  # something waits: it goes first
    connection.outbound.writable()
    one.send(FRAME)
    assert changes == [None]
    assert connection.wire.messages() == [FRAME.push] * 3
