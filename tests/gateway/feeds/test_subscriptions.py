"""Subscribers: each is sent what it wants, at its pace, without loss and in order."""

import asyncio
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from actors.events import TextDelta
from gateway.auth import READ, Caller
from gateway.feeds import frames
from gateway.feeds.choices import Choice
from gateway.feeds.subscriptions import TOGETHER_BYTES, Audience, Subscription
from gateway.realtime.protocol import INSUFFICIENT_STATE
from tests.gateway.feeding import Recorder, Stage, run_of

RATE = 200.0


async def paced(stage: Stage, rate: float = RATE) -> Recorder:
    _, sink = await stage.follow(f"conv:{stage.conversation}", max_rate=rate)
    return sink


async def settled(sink: Recorder, offset: int) -> None:
    with anyio.fail_after(10):
        while not sink.offsets or sink.offsets[-1] < offset:
            await anyio.sleep(0.002)


async def test_a_paced_subscriber_gets_all_of_the_text_in_fewer_publications() -> None:
    stage = Stage()
    sink = await paced(stage, 50)
    words = [f"w{i} " for i in range(300)]
    events = run_of(stage.conversation, words)
    stage.channel.publish(*events[:3])
    for event in events[3:303]:
        stage.channel.publish(event)
        if event.run_id == "" or sink.offsets[-1] % 100 == 0:
            await anyio.lowlevel.checkpoint()
    await settled(sink, 303)
    assert sink.text == "".join(words)
    assert len(sink.frames) < 60
    assert sink.offsets == sorted(set(sink.offsets))


async def test_a_pace_is_kept_while_only_fragments_come() -> None:
    stage = Stage()
    sink = await paced(stage, 50)
    events = run_of(stage.conversation, ["x"] * 4000)
    stage.channel.publish(*events[:3])
    began = asyncio.get_running_loop().time()
    sent = 3
    while asyncio.get_running_loop().time() - began < 0.5:
        stage.channel.publish(events[sent])
        sent += 1
        await anyio.sleep(0.001)
    elapsed = asyncio.get_running_loop().time() - began
    deltas = [frame for frame in sink.frames if frame.kind == "TEXT_MESSAGE_CONTENT"]
    assert len(deltas) <= 50 * elapsed + 2


async def test_what_is_no_fragment_goes_at_once_behind_what_waits() -> None:
    stage = Stage()
    sink = await paced(stage, 0.01)
    events = run_of(stage.conversation, ["a", "b", "c"])
    stage.channel.publish(*events)
    kinds = [frame.kind for frame in sink.frames]
    assert kinds == [
        "RUN_STARTED",
        "STEP_STARTED",
        "TEXT_MESSAGE_START",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_END",
        "STEP_FINISHED",
        "RUN_FINISHED",
    ]
    assert sink.text == "abc"
    assert sink.offsets == [1, 2, 3, 4, 6, 7, 8, 9], "a merged one has the offset of its last"


async def test_a_very_slow_pace_does_not_gather_without_bound() -> None:
    stage = Stage(budget_bytes=64 << 20)
    sink = await paced(stage, 0.001)
    word = "x" * 500
    events = run_of(stage.conversation, [word] * 2000)
    stage.channel.publish(*events[:2003])
    assert len(sink.text) > 900_000, "what is too much to keep is sent before its time"
    [member] = stage.feeds._logs._conversations[stage.conversation].audience._members
    assert member.pace is not None
    assert sum(len(frame.pub) for frame in member.pace._pending) <= 64 * 1024
    stage.channel.publish(*events[2003:])
    assert sink.text == word * 2000


async def test_a_paced_subscriber_that_left_is_sent_nothing_any_more() -> None:
    stage = Stage()
    subscribed, sink = await stage.follow(f"conv:{stage.conversation}", max_rate=100)
    stage.channel.publish(*run_of(stage.conversation, ["a", "b", "c"])[:6])
    [member] = stage.feeds._logs._conversations[stage.conversation].audience._members
    assert member.pace is not None
    assert member.pace._timer is not None
    seen = len(sink.frames)
    subscribed.close()
    assert member.pace._timer is None
    member.pace.flush()
    assert len(sink.frames) == seen


async def test_what_waits_goes_out_before_a_channel_ends() -> None:
    stage = Stage()
    sink = await paced(stage, 0.01)
    stage.channel.publish(*run_of(stage.conversation, ["a", "b", "c"])[:6])
    stage.logs.drop(stage.conversation, stage.agent)
    assert sink.text == "abc"
    assert len(sink.over) == 1


async def test_a_subscriber_may_leave_while_it_is_sent_something() -> None:
    stage = Stage()
    subscriptions = []

    class Leaver(Recorder):
        def send(self, frame: frames.Frame) -> None:
            super().send(frame)
            subscriptions[0].close()

    first, leaver = await stage.follow(f"conv:{stage.conversation}", sink=Leaver())
    subscriptions.append(first)
    _, other = await stage.follow(f"conv:{stage.conversation}")
    stage.channel.publish(*run_of(stage.conversation, ["a"]))
    assert len(leaver.frames) == 1
    assert len(other.frames) == 7


@pytest.mark.parametrize("channel", ["conv", "agent"])
async def test_a_feed_that_fails_harms_no_agent(
    channel: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stage = Stage()
    name = f"conv:{stage.conversation}" if channel == "conv" else f"agent:{stage.agent}"
    _, sink = await stage.follow(name)

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(frames, "of_event", broken)
    stage.channel.publish(*run_of(stage.conversation, ["a"]))
    monkeypatch.undo()
    assert stage.channel.next == 8
    assert [code for _, code, _ in sink.over] == [INSUFFICIENT_STATE]
    again, _ = await stage.follow(name, since=(stage.feeds.position(name).epoch, 0))  # type: ignore[union-attr]
    assert again.recovered
    assert len(again.publications) == 7


def test_an_audience_tells_when_its_last_member_left() -> None:
    left: list[bool] = []
    audience = Audience(lambda: left.append(True))
    one, two = (Subscription(Recorder(), Choice()) for _ in range(2))
    audience.join(one)
    audience.join(two)
    one.close()
    one.close()
    assert left == []
    two.close()
    assert left == [True]
    audience.send(frames.of_event("c", b"", 1, TextDelta("r", "m", "x"), thread="c", tags=b"{}"))


class Quick(Recorder):
    """A sink that has a shorter way, until it is full."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.full = False
        self.changed: Callable[[], None] = lambda: None

    def way(self, changed: Callable[[], None]) -> Any:
        self.changed = changed
        return None if self.full else self.written.append

    def fill(self, *, full: bool) -> None:
        self.full = full
        self.changed()


async def test_what_is_published_together_is_written_at_once() -> None:
    stage = Stage()
    quick = Quick()
    await stage.follow(f"conv:{stage.conversation}", sink=quick)
    _, other = await stage.follow(f"conv:{stage.conversation}")
    said = run_of(stage.conversation, ["a", "b", "c"])
    stage.channel.publish(*said)
    assert quick.written == [b"".join(frame.wire for frame in other.frames)]
    assert len(other.frames) == len(said)
    stage.channel.publish(said[0])
    assert quick.written[1:] == [other.frames[-1].wire]
    assert not quick.frames


async def test_much_that_is_published_together_is_written_in_parts() -> None:
    stage = Stage()
    quick = Quick()
    await stage.follow(f"conv:{stage.conversation}", sink=quick)
    _, other = await stage.follow(f"conv:{stage.conversation}")
    stage.channel.publish(*run_of(stage.conversation, ["x" * 2000] * 100))
    assert b"".join(quick.written) == b"".join(frame.wire for frame in other.frames)
    assert len(quick.written) > 5
    assert max(map(len, quick.written)) < TOGETHER_BYTES + 3000


async def test_a_sink_that_is_full_is_sent_to_until_it_says_otherwise() -> None:
    stage = Stage()
    quick = Quick()
    await stage.follow(f"conv:{stage.conversation}", sink=quick)
    _, other = await stage.follow(f"conv:{stage.conversation}")
    for place, event in enumerate(run_of(stage.conversation, ["a", "b", "c"])):
        if place in (2, 4):
            quick.fill(full=place == 2)
        stage.channel.publish(event)
    wires = [frame.wire for frame in other.frames]
    assert quick.written == [*wires[:2], *wires[4:]]
    assert [frame.wire for frame in quick.frames] == wires[2:4]


async def test_who_may_not_see_thoughts_is_written_everything_else_of_a_publish() -> None:
    stage = Stage()
    blind = Caller("blind", scopes=frozenset({READ}))
    quick = Quick()
    await stage.follow(f"conv:{stage.conversation}", sink=quick, caller=blind)
    _, other = await stage.follow(f"conv:{stage.conversation}")
    stage.channel.publish(*run_of(stage.conversation, ["a"], thought="Hm."))
    assert any(frame.thought for frame in other.frames)
    assert quick.written == [b"".join(frame.wire for frame in other.frames if not frame.thought)]


@pytest.mark.parametrize("channel", ["conv", "agent"])
async def test_what_was_to_be_given_together_goes_out_before_a_feed_that_fails_ends(
    channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage()
    name = f"conv:{stage.conversation}" if channel == "conv" else f"agent:{stage.agent}"
    _, sink = await stage.follow(name)
    real, made = frames.of_event, list[int]()

    def broken(*args: Any, **more: Any) -> frames.Frame:
        if len(made) == 2:
            raise ZeroDivisionError
        made.append(args[2])
        return real(*args, **more)

    monkeypatch.setattr(frames, "of_event", broken)
    stage.channel.publish(*run_of(stage.conversation, ["a"]))
    monkeypatch.undo()
    assert [frame.offset for frame in sink.frames] == made
    assert len(sink.over) == 1
    subscribed, again = await stage.follow(name)
    stage.channel.publish(*run_of(stage.conversation, ["b"]))
    offsets = [frame.offset for frame in again.frames]
    assert offsets == list(range(subscribed.offset + 1, subscribed.offset + 8))
