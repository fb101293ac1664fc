import json
from collections.abc import Callable
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from actors.events import TextDelta
from gateway.auth import READ, Caller
from gateway.feeds import frames
from gateway.realtime.outbound import Outbound
from gateway.realtime.places import Budget
from gateway.realtime.session_outputs import LIVE, OVER, Following
from gateway.realtime.subscriber import Subscriber
from tests.gateway.feeding import CALLER, Stage, run_of
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


class Pausing(Wire):
    """A socket that says when it is full, as the loop's transports do: while it is written to."""

    stopped: Callable[[], None]

    def write(self, framed: bytes) -> None:
        assert self.ready
        super().write(framed)
        if self.room == 0:
            self.stopped()

    def messages(self) -> list[bytes]:
        """Return the messages of all frames; a write may have several."""
        said: list[bytes] = []
        for data in self.sent:
            while data:
                skip = {126: 4, 127: 10}.get(data[1], 2)
                size = data[1] if skip == 2 else int.from_bytes(data[2:skip], "big")
                said += data[skip : skip + size].split(b"\n")
                data = data[skip + size :]
        return said


class Told(Connection):
    """A connection that tells its one subscriber when its socket is full."""

    def __init__(self) -> None:
        super().__init__(10**9)
        self.wire = Pausing(10**9)
        self.outbound = Outbound(self.wire, later=Clock().later, slow=lambda: None, budget=Budget(1 << 30))
        self.following = Following("c", 1)
        self.following.state = LIVE
        self.subscriber = Subscriber(cast("Any", self), self.following)
        self.wire.stopped = self.stopped

    def stopped(self) -> None:
        if self.subscriber.changed is not None:
            self.subscriber.changed()

    def take(self, room: int) -> None:
        self.wire.room = room
        if room:
            self.outbound.writable()
        else:
            self.stopped()


rooms = st.tuples(st.integers(0, 2), st.integers(0, 3))
publishes = st.tuples(st.sampled_from("ab"), st.integers(1, 4))


@given(st.lists(rooms | publishes, max_size=30))
async def test_whenever_sockets_fill_and_empty_all_is_said_once_in_order_and_no_thought_too_much(
    steps: list[tuple[Any, int]],
) -> None:
    stage = Stage()
    blind = Caller("blind", scopes=frozenset({READ}))
    told = [Told(), Told(), Told()]
    for connection, caller in zip(told, (CALLER, CALLER, blind), strict=True):
        await stage.follow(f"agent:{stage.agent}", sink=cast("Any", connection.subscriber), caller=caller)
    said = 0
    run = run_of(stage.conversation, ["x", "y" * 200], thought="Hm.")
    waiting = run * 3
    for what, count in steps:
        if isinstance(what, int):
            told[what].take(count)
        elif waiting:
            together, waiting = waiting[:count], waiting[count:]
            stage.channel.publish(*together)
            said += len(together)
    for connection, sees in zip(told, (True, True, False), strict=True):
        connection.take(10**9)
        pubs = [json.loads(message)["push"]["pub"] for message in connection.wire.messages()]
        offsets = [pub["offset"] for pub in pubs]
        kinds = [pub["data"]["type"] for pub in pubs]
        assert offsets == sorted(set(offsets))
        assert len(pubs) == len([n for n in range(said) if sees or n % len(run) not in (2, 3, 4)])
        assert sees or not [kind for kind in kinds if kind.startswith("REASONING")]
