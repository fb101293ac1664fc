import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.events import Event, RunStarted, TextDelta
from gateway.feeds import frames
from gateway.feeds.frames import Frame, framed
from gateway.realtime import outbound
from gateway.realtime.outbound import (
    BATCH,
    MAX_BYTES,
    MAX_ITEMS,
    STUCK_SECONDS,
    TURNS,
    Outbound,
    condense,
)
from gateway.realtime.places import Budget


class Timer:
    def __init__(self, clock: "Clock", at: float, call: Callable[[], None]) -> None:
        self.clock, self.at, self.call = clock, at, call

    def cancel(self) -> None:
        self.clock.timers.discard(self)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self.timers: set[Timer] = set()

    def later(self, seconds: float, call: Callable[[], None]) -> Timer:
        timer = Timer(self, self.now + seconds, call)
        self.timers.add(timer)
        return timer

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while due := sorted((t for t in self.timers if t.at <= end), key=lambda timer: timer.at):
            self.now = due[0].at
            self.timers.discard(due[0])
            due[0].call()
        self.now = end


class Wire:
    """A socket that takes `room` frames before it is full."""

    def __init__(self, room: int = 10**9) -> None:
        self.room = room
        self.sent: list[bytes] = []
        self.held = 0

    @property
    def ready(self) -> bool:
        return self.room > 0

    def write(self, framed: bytes) -> None:
        self.room -= 1
        self.sent.append(framed)

    def unsent(self) -> int:
        return self.held

    def messages(self) -> list[bytes]:
        return [message for sent in self.sent for message in unframed(sent).split(b"\n")]


def unframed(data: bytes) -> bytes:
    assert data[0] == 0x81
    size, rest = data[1], data[2:]
    if size == 126:
        size, rest = int.from_bytes(rest[:2], "big"), rest[2:]
    elif size == 127:
        size, rest = int.from_bytes(rest[:8], "big"), rest[8:]
    assert len(rest) == size
    return rest


class Peer:
    """An `Outbound` with all that it needs."""

    def __init__(self, room: int = 10**9, *, budget: Budget | None = None) -> None:
        self.wire = Wire(room)
        self.clock = Clock()
        self.slow = 0
        self.budget = budget or Budget(2**40)
        self.out = Outbound(self.wire, later=self.clock.later, slow=self._slow, budget=self.budget)

    def _slow(self) -> None:
        self.slow += 1

    def open(self) -> None:
        self.wire.room = 10**9
        self.out.writable()


def of(event: Event, offset: int, channel: str = "conv:c") -> Frame:
    return frames.of_event(channel, frames.head_of(channel), offset, event, thread="c", tags=b"")


def started(offset: int, channel: str = "conv:c") -> Frame:
    return of(RunStarted(f"run-{offset}", "c", 1, ()), offset, channel)


def token(offset: int, text: str = "x", *, message: str = "m", channel: str = "conv:c") -> Frame:
    return of(TextDelta("run-1", message, text), offset, channel)


def status(offset: int, key: str = "agent:a") -> Frame:
    channel = f"{key}:state"
    return frames.of_snapshot(channel, offset, {"n": offset})


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 70000])
def test_a_frame_says_how_long_it_is(size: int) -> None:
    payload = b"p" * size
    assert unframed(framed(payload)) == payload


def test_a_socket_that_is_free_gets_each_message_at_once() -> None:
    peer = Peer()
    peer.out.say(b'{"id":1}')
    peer.out.push(token(1))
    assert peer.wire.messages() == [b'{"id":1}', token(1).push]
    assert peer.out.waiting == 0
    assert not peer.clock.timers


def test_a_publication_is_framed_once_for_all_who_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    peers = [Peer() for _ in range(5)]
    frame = token(1)
    for peer in peers:
        peer.out.push(frame)
    assert len({id(peer.wire.sent[0]) for peer in peers}) == 1


def test_what_waits_goes_out_in_order_and_in_few_frames() -> None:
    peer = Peer(room=0)
    said = [b'{"id":%d}' % number for number in range(40)]
    for payload in said:
        peer.out.say(payload)
    assert peer.wire.sent == []
    peer.open()
    assert peer.wire.messages() == said
    assert [unframed(sent).count(b"\n") + 1 for sent in peer.wire.sent] == [BATCH, BATCH, 8]
    assert peer.budget.used == 0
    assert not peer.clock.timers


def test_nothing_overtakes_what_waits() -> None:
    peer = Peer(room=0)
    peer.out.say(b"1")
    peer.wire.room = 1
    peer.out.push(token(2))
    peer.out.writable()
    assert peer.wire.messages() == [b"1", token(2).push]


def test_fragments_that_wait_are_joined_without_loss() -> None:
    peer = Peer(room=0)
    for offset in range(1, 5001):
        peer.out.push(token(offset, f"{offset} "))
    assert peer.out.waiting < MAX_ITEMS
    assert not peer.slow
    peer.open()
    publications = [json.loads(message)["push"]["pub"] for message in peer.wire.messages()]
    text = "".join(publication["data"]["delta"] for publication in publications)
    assert text == "".join(f"{offset} " for offset in range(1, 5001))
    assert publications[-1]["offset"] == 5000
    offsets = [publication["offset"] for publication in publications]
    assert offsets == sorted(offsets)


def test_what_cannot_be_joined_fills_the_queue_and_ends_it() -> None:
    peer = Peer(room=0)
    for offset in range(1, MAX_ITEMS + 1):
        peer.out.push(started(offset))
    assert peer.slow == 1
    assert peer.out.waiting == 0
    assert peer.budget.used == 0
    peer.out.push(token(9999))
    peer.out.say(b"late")
    peer.open()
    assert peer.wire.sent == []


def test_large_messages_fill_the_queue_by_their_size() -> None:
    peer = Peer(room=0)
    most = 0
    while not peer.slow:
        peer.out.say(b"p" * 10_000)
        most = max(most, peer.out.waiting_bytes)
    assert most <= MAX_BYTES + 10_000
    assert most > MAX_BYTES // 2


def test_what_the_transport_holds_counts_as_well() -> None:
    peer = Peer(room=0)
    peer.wire.held = 512 * 1024  # one large answer that is being taken
    most = 0
    while not peer.slow:
        peer.out.say(b"p" * 10_000)
        most = max(most, peer.out.waiting_bytes)
    assert most + peer.wire.held <= MAX_BYTES + 10_000


def test_a_peer_that_takes_nothing_is_given_up() -> None:
    peer = Peer(room=0)
    peer.out.push(token(1))
    peer.clock.advance(STUCK_SECONDS - 1.5)
    assert not peer.slow
    peer.clock.advance(2)
    assert peer.slow == 1
    assert not peer.clock.timers


def test_a_peer_that_takes_a_little_is_not() -> None:
    peer = Peer(room=0)
    peer.wire.held = 60_000
    peer.out.push(token(1))
    for _ in range(20):
        peer.clock.advance(STUCK_SECONDS - 2)
        peer.wire.held -= 1000
        peer.clock.advance(1)
    assert not peer.slow


def test_when_all_connections_together_hold_too_much_the_slow_ones_end() -> None:
    budget = Budget(20_000)
    peers = [Peer(room=0, budget=budget) for _ in range(4)]
    for number in range(20):
        for peer in peers:
            peer.out.push(started(number))
    assert any(peer.slow for peer in peers)
    assert budget.used <= 20_000


def test_one_that_is_too_slow_by_itself_ends_once_though_all_together_hold_too_much() -> None:
    budget = Budget(1000)
    budget.used = 5000  # of others
    peer = Peer(room=0, budget=budget)
    peer.out.say(b"p" * (MAX_BYTES + 1))
    assert peer.slow == 1
    assert budget.used == 5000


def test_condensing_costs_little_for_each_message(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    def counted(items: object) -> list[Frame | bytes]:
        nonlocal calls
        calls += 1
        return condense(items)  # type: ignore[arg-type]

    monkeypatch.setattr(outbound, "condense", counted)
    peer = Peer(room=0)
    for offset in range(10_000):
        peer.out.push(token(offset))
    assert calls < 200


def test_those_who_stall_at_one_moment_are_condensed_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[int] = []
    monkeypatch.setattr(outbound, "condense", lambda items: calls.append(1) or condense(items))
    budget = Budget(2**40)
    peers = [Peer(room=0, budget=budget) for _ in range(2 * TURNS)]
    at_once = 0
    for offset in range(500):
        frame, before = token(offset), len(calls)
        for peer in peers:
            peer.out.push(frame)
        at_once = max(at_once, len(calls) - before)
    assert len(calls) >= 3 * len(peers)
    assert at_once <= len(peers) // 4


def test_of_snapshots_only_the_last_one_is_kept() -> None:
    items = [status(1), status(1, "agent:b"), status(2), token(1), status(3)]
    assert condense(items) == [status(3), status(1, "agent:b"), token(1)]


def test_nothing_moves_across_a_reply() -> None:
    items = [token(1, "a"), token(2, "b"), b"reply", token(3, "c"), token(4, "d")]
    assert condense(items) == [token(2, "ab"), b"reply", token(4, "cd")]


channels = st.sampled_from(["conv:a", "conv:b"])
texts = st.sampled_from(["m1", "m2"])


@given(st.lists(st.tuples(st.sampled_from(["token", "run", "reply"]), channels, texts), max_size=60))
def test_condensing_changes_no_text_no_order_and_loses_no_event(said: list[tuple[str, str, str]]) -> None:
    items: list[Frame | bytes] = []
    for offset, (kind, channel, message) in enumerate(said):
        if kind == "token":
            items.append(token(offset, f"<{offset}>", message=message, channel=channel))
        elif kind == "run":
            items.append(started(offset, channel))
        else:
            items.append(b"%d" % offset)

    def seen(items: list[Frame | bytes], channel: str) -> list[object]:
        """What a client makes of it: text by message, everything else one by one."""
        out: list[object] = []
        for item in items:
            if isinstance(item, bytes):
                out.append(item)
            elif item.channel == channel and isinstance(item.event, TextDelta):
                if out and isinstance(out[-1], list) and out[-1][0] == item.event.message_id:
                    out[-1] = [item.event.message_id, out[-1][1] + item.event.text, item.offset]
                else:
                    out.append([item.event.message_id, item.event.text, item.offset])
            elif item.channel == channel:
                out.append((item.event, item.offset))
        return out

    for channel in ("conv:a", "conv:b"):
        assert seen(condense(items), channel) == seen(items, channel)
