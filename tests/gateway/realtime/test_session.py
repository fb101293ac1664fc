import json
from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.realtime import protocol
from gateway.realtime.protocol import ProtocolError, SubscribeResult
from gateway.realtime.session import (
    CONNECT_SECONDS,
    EXPIRED_SECONDS,
    PING_SECONDS,
    PONG_SECONDS,
    Limits,
    Session,
)
from gateway.realtime.session_outputs import (
    Authenticate,
    Call,
    Close,
    Deliver,
    Follow,
    Following,
    Leave,
    Output,
    Read,
    Renew,
    Send,
)


def say(*commands: dict[str, Any]) -> str:
    return "\n".join(json.dumps(command) for command in commands)


def made(limits: Limits | None = None) -> Session:
    return Session(client="cl-1", node="n1", now=0.0, limits=limits or Limits())


def opened(limits: Limits | None = None, *, ttl: float | None = None) -> Session:
    session = made(limits)
    session.received(say({"id": 1, "connect": {}}), 0.0)
    session.admitted(1, ttl=ttl, now=0.0)
    return session


def told(outputs: list[Output]) -> list[Any]:
    """Return what the client reads, and the code of a close."""
    said: list[Any] = []
    for output in outputs:
        if isinstance(output, Send):
            said.append(json.loads(output.payload))
        elif isinstance(output, Deliver):
            said.append(output.frame)
        elif isinstance(output, Close):
            said.append(output.code)
    return said


def follow(session: Session, channel: str = "c", command_id: int = 2) -> Following:
    (output,) = session.received(say({"id": command_id, "subscribe": {"channel": channel}}), 0.0)
    assert isinstance(output, Follow)
    return output.following


# --- connecting ---------------------------------------------------------------------------------


def test_a_client_says_who_it_is_before_anything_else() -> None:
    session = made()
    outputs = session.received(say({"id": 1, "connect": {"token": "t"}}), 1.0)
    assert [type(output) for output in outputs] == [Authenticate]
    (reply,) = told(session.admitted(1, ttl=900.4, data={"protocol": "wakeful/1"}, now=1.0))
    assert reply["id"] == 1
    assert reply["connect"] == {
        "client": "cl-1",
        "version": "wakeful 1.0",
        "ping": 25,
        "pong": True,
        "session": "cl-1",
        "node": "n1",
        "expires": True,
        "ttl": 900,
        "data": {"protocol": "wakeful/1"},
    }


@pytest.mark.parametrize("command", [{"subscribe": {"channel": "c"}}, {"ping": {}}, {"rpc": {"method": "m"}}])
def test_any_other_first_command_closes(command: dict[str, Any]) -> None:
    assert told(made().received(say({"id": 1, **command}), 0.0)) == [3502]


def test_a_second_connect_closes() -> None:
    assert told(opened().received(say({"id": 9, "connect": {}}), 0.0)) == [3501]


def test_a_client_that_does_not_connect_is_not_waited_for() -> None:
    session = made()
    assert session.due() == CONNECT_SECONDS
    session.received("{}", 1.0)
    assert session.tick(CONNECT_SECONDS - 0.1) == []
    assert told(session.tick(CONNECT_SECONDS)) == [3502]


def test_what_is_said_before_the_answer_to_connect_waits_for_it() -> None:
    session = made()
    outputs = session.received(
        say({"id": 1, "connect": {}}, {"id": 2, "subscribe": {"channel": "c"}}, {"id": 3, "ping": {}}), 0.0
    )
    assert [type(output) for output in outputs] == [Authenticate]
    outputs = session.admitted(1, ttl=None, now=0.0)
    assert [type(output) for output in outputs] == [Send, Follow, Send]


def test_a_client_that_could_not_connect_may_try_again() -> None:
    session = made()
    session.received(say({"id": 1, "connect": {}}, {"id": 2, "ping": {}}), 0.0)
    unavailable = ProtocolError(503, "the database is not available", temporary=True)
    first, second = told(session.failed(1, unavailable))
    assert first == {"id": 1, "error": {"code": 503, "message": unavailable.message, "temporary": True}}
    assert second["id"] == 2
    assert second["error"]["code"] == 101
    assert [type(o) for o in session.received(say({"id": 3, "connect": {}}), 0.0)] == [Authenticate]


def test_the_channel_of_the_user_is_listed_in_the_answer_to_connect() -> None:
    session = made()
    session.received(say({"id": 1, "connect": {}}), 0.0)
    own = session.server_side("user:u")
    assert not session.published(own, "early")
    subs = [(own, SubscribeResult(recoverable=True, epoch="e", offset=4))]
    reply, early = told(session.admitted(1, ttl=None, subs=subs, now=0.0))
    assert reply["connect"]["subs"] == {"user:u": {"recoverable": True, "epoch": "e", "offset": 4}}
    assert early == "early"
    assert session.published(own, "later")
    (refused,) = told(session.received(say({"id": 2, "subscribe": {"channel": "user:u"}}), 0.0))
    assert refused["error"]["code"] == 105


# --- subscriptions ------------------------------------------------------------------------------


def test_publications_come_after_the_reply_and_end_with_the_subscription() -> None:
    session = opened()
    following = follow(session)
    assert not session.published(following, "early")
    reply, early = told(session.subscribed(following, SubscribeResult(epoch="e", offset=0)))
    assert reply == {"id": 2, "subscribe": {"epoch": "e", "offset": 0}}
    assert early == "early"
    assert session.published(following, "live")
    outputs = session.received(say({"id": 3, "unsubscribe": {"channel": "c"}}), 0.0)
    assert outputs[0] == Leave(following)
    assert told(outputs) == [{"id": 3, "unsubscribe": {}}]
    assert not session.published(following, "late")


def test_a_channel_is_followed_once_and_may_be_followed_again() -> None:
    session = opened()
    session.subscribed(follow(session), SubscribeResult())
    (again,) = told(session.received(say({"id": 3, "subscribe": {"channel": "c"}}), 0.0))
    assert again["error"]["code"] == 105
    session.received(say({"id": 4, "unsubscribe": {"channel": "c"}}), 0.0)
    assert follow(session, command_id=5).channel == "c"


def test_unsubscribing_from_what_is_not_followed_is_no_error() -> None:
    reply = told(opened().received(say({"id": 3, "unsubscribe": {"channel": "c"}}), 0.0))
    assert reply == [{"id": 3, "unsubscribe": {}}]


def test_a_subscribe_that_is_taken_back_gets_its_reply_and_nothing_more() -> None:
    session = opened()
    following = follow(session)
    outputs = session.received(say({"id": 3, "unsubscribe": {"channel": "c"}}), 0.0)
    assert [reply["id"] for reply in told(outputs)] == [2, 3]
    assert Leave(following) in outputs
    assert session.subscribed(following, SubscribeResult()) == []
    assert not session.published(following, "late")


def test_the_server_ends_a_subscription() -> None:
    session = opened()
    following = follow(session)
    session.subscribed(following, SubscribeResult())
    outputs = session.ended(following, code=2501, reason="permission revoked")
    assert told(outputs) == [
        {"push": {"channel": "c", "unsubscribe": {"code": 2501, "reason": "permission revoked"}}}
    ]
    assert Leave(following) in outputs
    assert session.ended(following, code=2501, reason="again") == []
    assert not session.published(following, "late")


def test_a_subscription_that_ends_before_its_reply_ends_after_it() -> None:
    session = opened()
    following = follow(session)
    assert session.ended(following, code=2500, reason="insufficient state") == []
    reply, end = told(session.subscribed(following, SubscribeResult()))
    assert reply["id"] == 2
    assert end["push"]["unsubscribe"]["code"] == 2500


def test_a_reply_that_takes_long_does_not_pile_up_publications() -> None:
    session = opened(Limits(held=3))
    following = follow(session)
    for number in range(10):
        session.published(following, number)
    *_, end = replies = told(session.subscribed(following, SubscribeResult()))
    assert replies[1:-1] == [0, 1, 2]
    assert end["push"]["unsubscribe"]["code"] == 2500  # the client subscribes again, and recovers


def test_a_subscribe_that_failed_leaves_no_trace() -> None:
    session = opened()
    following = follow(session)
    (reply,) = told(session.failed(2, ProtocolError(103, "permission denied")))
    assert reply["error"]["code"] == 103
    assert not session.published(following, "late")
    assert follow(session, command_id=3).channel == "c"


# --- limits -------------------------------------------------------------------------------------


def test_only_so_many_channels_are_followed() -> None:
    session = opened(Limits(channels=2))
    for number in range(2):
        session.subscribed(follow(session, f"c{number}", 10 + number), SubscribeResult())
    (refused,) = told(session.received(say({"id": 20, "subscribe": {"channel": "c3"}}), 0.0))
    assert refused["error"]["code"] == 106
    assert not refused["error"]["temporary"]


def test_commands_beyond_those_of_a_frame_may_come_again() -> None:
    session = opened()
    frame = say(*({"id": number, "ping": {}} for number in range(1, 21)))
    replies = told(session.received(frame, 0.0))
    assert [reply["id"] for reply in replies] == list(range(1, 21))
    assert all("ping" in reply for reply in replies[:16])
    assert all(reply["error"]["code"] == 111 and reply["error"]["temporary"] for reply in replies[16:])


def test_a_flood_is_refused_and_then_closed() -> None:
    session = opened()
    answered, refused = 0, 0
    for number in range(1000):
        outputs = told(session.received(say({"id": number + 2, "ping": {}}), 0.0))
        if outputs and isinstance(outputs[-1], int):
            assert outputs == [3013]
            break
        answered += "ping" in outputs[0]
        refused += outputs[0].get("error", {}).get("code") == 111
    assert (answered, refused) == (99, 50)  # the burst, less the connect


@pytest.mark.parametrize("frame", ["", "\n", "{}"])
def test_frames_that_say_nothing_are_counted_as_well(frame: str) -> None:
    session = opened()
    assert any(told(session.received(frame, 0.0)) == [3013] for _ in range(1000))


def test_who_stays_within_the_rate_is_never_refused() -> None:
    session = opened()
    for number in range(1000):
        (reply,) = told(session.received(say({"id": number + 2, "ping": {}}), number / 50))
        assert "ping" in reply


def test_only_so_many_commands_are_under_way() -> None:
    session = opened(Limits(under_way=2))
    outputs = session.received(say(*({"id": n, "rpc": {"method": "m"}} for n in (2, 3, 4))), 0.0)
    assert [type(output) for output in outputs] == [Call, Call, Send]
    assert told(outputs)[0]["error"]["code"] == 111
    session.answered(2, protocol.returned(2, b"{}"))
    assert [type(o) for o in session.received(say({"id": 5, "rpc": {"method": "m"}}), 0.0)] == [Call]


def test_an_id_that_is_under_way_is_not_used_again() -> None:
    session = opened()
    session.received(say({"id": 2, "rpc": {"method": "m"}}), 0.0)
    assert told(session.received(say({"id": 2, "ping": {}}), 0.0)) == [3501]


def test_garbage_closes() -> None:
    assert told(opened().received("garbage", 0.0)) == [3501]


def test_a_command_that_makes_no_sense_costs_only_itself() -> None:
    frame = say({"id": 2, "presence": {}}, {"id": 3, "subscribe": {}}, {"id": 4, "ping": {}})
    first, second, third = told(opened().received(frame, 0.0))
    assert (first["error"]["code"], second["error"]["code"]) == (108, 107)
    assert "ping" in third


# --- time ---------------------------------------------------------------------------------------


def test_a_client_is_asked_whether_it_is_there() -> None:
    session = opened()
    assert session.due() == PING_SECONDS
    assert session.tick(PING_SECONDS - 1) == []
    assert told(session.tick(PING_SECONDS)) == [{}]
    assert session.due() == PING_SECONDS + PONG_SECONDS
    assert told(session.tick(PING_SECONDS + PONG_SECONDS)) == [3012]


@pytest.mark.parametrize("frame", ["{}", "", say({"id": 5, "ping": {}})])
def test_any_frame_is_a_sign_of_life(frame: str) -> None:
    session = opened()
    session.tick(PING_SECONDS)
    session.received(frame, PING_SECONDS + 1)
    assert session.tick(PING_SECONDS + PONG_SECONDS) == []
    assert session.due() == 2 * PING_SECONDS
    assert told(session.tick(2 * PING_SECONDS)) == [{}]


def test_a_token_that_ended_is_the_end_after_a_while() -> None:
    session = opened(ttl=3)
    assert session.tick(3.0) == []
    assert session.due() == PING_SECONDS
    session.tick(PING_SECONDS)
    session.received("{}", PING_SECONDS)
    assert session.due() == 3 + EXPIRED_SECONDS
    assert told(session.tick(3 + EXPIRED_SECONDS)) == [3005]


def test_a_refresh_goes_on() -> None:
    session = opened(ttl=3)
    (output,) = session.received(say({"id": 2, "refresh": {"token": "t"}}), 1.0)
    assert isinstance(output, Renew)
    (reply,) = told(session.renewed(2, ttl=100.0, now=1.0))
    assert reply == {
        "id": 2,
        "refresh": {"client": "cl-1", "version": "wakeful 1.0", "expires": True, "ttl": 100},
    }
    session.tick(PING_SECONDS)
    session.received("{}", PING_SECONDS)
    assert session.tick(3 + EXPIRED_SECONDS) == []


# --- any order of things ------------------------------------------------------------------------

LIMITS = Limits(channels=2, under_way=4, burst=80, commands_per_second=5.0, debt=5, held=3)
CHANNELS = st.sampled_from(["a", "b", "c", "d", "e"])


class AnyOrder(RuleBasedStateMachine):
    """A client, the work it causes, its channels and the clock, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.session = made(LIMITS)
        self.now = 0.0
        self.next_id = 1
        self.asked: list[int] = []
        self.replied: list[int] = []
        self.work: list[Any] = []
        self.too_late: list[Any] = []  # work that ends although nobody waits for it any more
        self.live: dict[str, Following] = {}  # as the client sees it
        self.followings: list[Following] = []
        self.kinds: dict[int, tuple[str, str]] = {}
        self.closed = False

    def take(self, outputs: list[Output]) -> None:
        assert not (self.closed and outputs), "nothing follows a close"
        for output in outputs:
            assert not self.closed, "nothing follows a close"
            match output:
                case Send(payload):
                    self.read(json.loads(payload))
                case Deliver((following, _)):
                    assert self.live.get(following.channel) is following
                case Close():
                    self.closed = True
                case Leave(following):
                    left = [w for w in self.work if getattr(w, "following", None) is following]
                    self.work = [w for w in self.work if w not in left]
                    self.too_late += left
                case _:
                    if isinstance(output, Follow):
                        self.followings.append(output.following)
                    self.work.append(output)

        while self.too_late:
            work = self.too_late.pop()
            fault = ProtocolError(503, "later", temporary=True)
            late = self.session.failed(work.command_id, fault) if len(self.asked) % 2 else self.finish(work)
            assert late == []

    def read(self, said: dict[str, Any]) -> None:
        if not said:
            return
        if "push" in said:
            assert said["push"]["channel"] in self.live
            del self.live[said["push"]["channel"]]
            return
        command_id = said["id"]
        self.replied.append(command_id)
        kind, channel = self.kinds[command_id]
        if kind == "unsubscribe" and "error" not in said:
            self.live.pop(channel, None)
        if kind == "subscribe" and "error" not in said:
            (following,) = [f for f in self.followings if f.command_id == command_id]
            self.live[channel] = following

    def command(self, kind: str, channel: str = "c") -> dict[str, Any]:
        command_id, self.next_id = self.next_id, self.next_id + 1
        self.kinds[command_id] = (kind, channel)
        self.asked.append(command_id)
        fields: dict[str, Any] = {
            "subscribe": {"channel": channel},
            "unsubscribe": {"channel": channel},
            "history": {"channel": channel},
            "rpc": {"method": "m"},
        }
        return {"id": command_id, kind: fields.get(kind, {})}

    @initialize(how=st.sampled_from(["at once", "at once", "at once", "asked", "silent"]))
    def begins(self, how: str) -> None:
        if how != "silent":
            self.connects()
        if how == "at once":
            self.take(self.finish(self.work.pop()))

    @precondition(lambda self: not self.asked or self.now > 40)
    @rule()
    def connects(self) -> None:
        self.take(self.session.received(say(self.command("connect")), self.now))

    @precondition(lambda self: self.asked or self.now > 8)
    @rule(
        kinds=st.lists(
            st.sampled_from(
                [
                    "subscribe",
                    "subscribe",
                    "subscribe",
                    "unsubscribe",
                    "history",
                    "rpc",
                    "refresh",
                    "ping",
                    "presence",
                    "x",
                ]
            ),
            min_size=1,
            max_size=5,
        ),
        channels=st.lists(CHANNELS, min_size=5, max_size=5),
    )
    def says(self, kinds: list[str], channels: list[str]) -> None:
        commands = [self.command(kind, channel) for kind, channel in zip(kinds, channels, strict=False)]
        self.take(self.session.received(say(*commands), self.now))

    @rule(frame=st.sampled_from(["{}", "", "\n"]))
    def says_nothing(self, frame: str) -> None:
        self.take(self.session.received(frame, self.now))

    @rule(chosen=st.integers(0, 20))
    def work_ends(self, chosen: int) -> None:
        if self.work:
            self.take(self.finish(self.work.pop(chosen % len(self.work))))

    def finish(self, work: Any) -> list[Output]:
        match work:
            case Authenticate(command_id):
                own = self.session.server_side("user")
                self.live["user"] = own
                self.followings.append(own)
                subs = [(own, SubscribeResult())]
                return self.session.admitted(command_id, ttl=60, subs=subs, now=self.now)
            case Follow(_, _, following):
                return self.session.subscribed(following, SubscribeResult(epoch="e", offset=1))
            case Renew(command_id):
                return self.session.renewed(command_id, ttl=60, now=self.now)
            case Read(command_id):
                reply = protocol.history(command_id, publications=[], epoch="e", offset=0)
                return self.session.answered(command_id, reply)
            case _:
                return self.session.answered(work.command_id, protocol.returned(work.command_id, b"{}"))

    @rule(chosen=st.integers(0, 20))
    def work_fails(self, chosen: int) -> None:
        if self.work:
            work = self.work.pop(chosen % len(self.work))
            self.take(self.session.failed(work.command_id, ProtocolError(503, "later", temporary=True)))

    @precondition(lambda self: self.followings)
    @rule(chosen=st.integers(0, 20))
    def publishes(self, chosen: int) -> None:
        following = self.followings[chosen % len(self.followings)]
        if self.session.published(following, (following, self.now)):
            assert not self.closed
            assert self.live.get(following.channel) is following

    @precondition(lambda self: self.followings)
    @rule(chosen=st.integers(0, 20))
    def server_ends_one(self, chosen: int) -> None:
        following = self.followings[chosen % len(self.followings)]
        self.take(self.session.ended(following, code=2500, reason="insufficient state"))

    @rule(seconds=st.sampled_from([0.1, 1.0, 1.0, 9.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.take(self.session.tick(self.now))

    @rule()
    def server_closes(self) -> None:
        if self.now > 50:
            self.take(self.session.close(3001, "shutdown"))

    @rule()
    def connection_drops(self) -> None:
        if self.now > 60:
            self.session.lost()
            self.closed = True

    @invariant()
    def limits_hold(self) -> None:
        assert len(self.session.followings) <= LIMITS.channels + 1  # one of them is the server's
        assert len(self.work) <= LIMITS.under_way
        assert len(set(self.replied)) == len(self.replied), "one reply for each command"

    def teardown(self) -> None:
        while self.work and not self.closed:
            self.take(self.finish(self.work.pop()))
        if not self.closed:
            assert sorted(self.replied) == sorted(self.asked)


AnyOrder.TestCase.settings = hypothesis_settings(
    max_examples=120, stateful_step_count=50, deadline=None, derandomize=True
)
TestAnyOrder = pytest.mark.timeout(90)(AnyOrder.TestCase)
