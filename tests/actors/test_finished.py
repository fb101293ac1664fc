import gc
from collections.abc import Sequence
from itertools import pairwise

import anyio
import anyio.lowlevel
from hypothesis import given
from hypothesis import strategies as st

from actors.channels import Channel, Logs
from actors.events import Event, MessageCommitted, RunFinished, RunStarted, RunSteered, TextDelta
from actors.finished import FREEZE_BATCH, GROUP_BYTES, GROUP_RUNS
from actors.segments import Segment
from storage.records import ImagePart, Usage
from tests.actors.pieces import message


def run(name: str, words: Sequence[str] = ("a", "b")) -> list[Event]:
    return [
        RunStarted(name, "c", 1, ()),
        *(TextDelta(name, "m", word) for word in words),
        RunFinished(name, "completed", "end_turn", Usage()),
    ]


def log(budget: int = 1 << 30) -> tuple[Logs, Channel]:
    logs = Logs(budget)
    return logs, logs.channel("c", "agent")


async def cool(logs: Logs) -> None:
    await logs.freeze()  # what is fresh stays warm for its followers until the next call
    await logs.freeze()


async def test_runs_of_a_quiet_channel_are_frozen_as_one_and_cost_less_than_alone() -> None:
    (together, channel), (alone, other) = log(), log()
    for i in range(GROUP_RUNS):
        channel.publish(*run(f"run-{i}"))
    for i in range(GROUP_RUNS - 1):
        other.publish(*run(f"run-{i}"))
        await cool(alone)
    await cool(together)
    assert len(channel.segments) == 1
    assert len(other.segments) == GROUP_RUNS - 1
    assert together.size_bytes < alone.size_bytes / 1.5


async def test_runs_that_were_frozen_one_by_one_are_joined_when_they_are_a_group() -> None:
    logs, channel = log()
    said: list[Event] = []
    for i in range(GROUP_RUNS):
        said += run(f"run-{i}")
        channel.publish(*run(f"run-{i}"))
        await cool(logs)
    assert len(channel.segments) == 1
    assert channel.since(0) == list(enumerate(said, 1))


async def test_a_busy_channel_keeps_its_last_run_warm_and_freezes_by_groups() -> None:
    logs, channel = log()
    for i in range(GROUP_RUNS):
        channel.publish(*run(f"run-{i}"))
        await logs.freeze()
    assert [s.frozen for s in channel.segments] == [None] * GROUP_RUNS
    channel.publish(*run("run-last"))
    await logs.freeze()
    assert [s.frozen is not None for s in channel.segments] == [True, False]


async def test_a_long_run_is_frozen_alone() -> None:
    logs, channel = log()
    words = ["word"] * (GROUP_BYTES // 100)
    channel.publish(*run("short"), *run("long", words), *run("last"))
    await cool(logs)
    assert [s.runs for s in channel.segments] == [1, 1, 1]


async def test_runs_with_images_are_frozen_alone() -> None:
    logs, channel = log()
    image = ImagePart({"type": "base64", "media_type": "image/png", "data": "A" * GROUP_BYTES})
    for i in range(3):
        begun, *_, ended = run(f"run-{i}")
        channel.publish(begun, MessageCommitted(f"run-{i}", message(i, "user", image)), ended)
    await cool(logs)
    assert [segment.runs for segment in channel.segments] == [1, 1, 1]


async def test_a_run_that_began_again_after_a_crash_is_found_where_it_began_last() -> None:
    logs, channel = log()
    channel.publish(RunStarted("r", "c", 1, ()), TextDelta("r", "m", "lost"))
    channel.publish(*run("r"))
    await cool(logs)
    assert len(channel.segments) == 1
    assert channel.find("r") == 3


async def test_joined_runs_leave_no_more_behind_than_there_are_groups() -> None:
    logs, channel = log()
    for i in range(10 * GROUP_RUNS):
        channel.publish(*run(f"run-{i}"))
    await cool(logs)
    assert len(channel.segments) == 10
    gc.collect()
    held = [s for s in gc.get_objects() if type(s) is Segment and s.channel is channel]
    assert len(held) <= 2 * 10
    logs.budget_bytes = 0
    logs.trim()
    assert logs.size_bytes == 0
    assert logs.channels == {}


acts = st.lists(
    st.one_of(
        st.tuples(st.just("run"), st.integers(0, 5)),
        st.tuples(st.just("steered"), st.just(0)),
        st.tuples(st.just("between"), st.just(0)),
        st.tuples(st.just("freeze"), st.just(0)),
        st.tuples(st.just("trim"), st.integers(0, 3000)),
    ),
    max_size=60,
)


@given(acts)
def test_freezing_and_joining_change_nothing_that_can_be_read(does: list[tuple[str, int]]) -> None:
    async def play() -> None:
        logs, channel = log()
        said: list[Event] = []
        for number, (act, amount) in enumerate(does):
            name, events = f"run-{number}", list[Event]()
            if act == "run":
                events = run(name, ["x"] * amount)
            elif act == "steered":
                into = run(name)
                joined = f"joined-{number}"
                events = [*into[:2], RunSteered(joined, name), *into[2:]]
            elif act == "between":
                events = [RunFinished(name, "cancelled", "cancelled", Usage())]
            elif act == "freeze":
                await logs.freeze()
            else:
                logs.budget_bytes = amount
                logs.trim()
                logs.budget_bytes = 1 << 30
                channel = logs.channel("c", "agent")
                if channel.next == 1:  # forgotten whole: a log begins anew
                    said = []
            said += events
            channel.publish(*events)
        check(logs, channel, said)

    anyio.run(play)


def check(logs: Logs, channel: Channel, said: list[Event]) -> None:
    kept = channel.segments[0].start if channel.segments else channel.next
    for offset in range(len(said) + 1):
        rest = list(enumerate(said[offset:], offset + 1))
        assert channel.since(offset) == (rest if offset + 1 >= kept else None)
    for place, event in enumerate(said, 1):
        if place >= kept and isinstance(event, RunStarted | RunSteered):
            assert channel.find(event.run_id) == place
            first, events = channel.read(place)
            assert first == place
            assert events == said[place - 1 :][: len(events)]
            assert events
    assert logs.size_bytes == sum(s.size_bytes for s in channel.segments)


async def test_however_many_runs_a_channel_has_others_have_their_turn_between_a_few() -> None:
    logs, channel = log()
    said: list[Event] = []
    for i in range(20 * FREEZE_BATCH):
        said += run(f"run-{i}")
        channel.publish(*run(f"run-{i}"))
    left: list[int] = []
    over = False

    async def look() -> None:
        while not over:
            left.append(sum(segment.frozen is None for segment in channel.segments))
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as group:
        group.start_soon(look)
        await anyio.lowlevel.checkpoint()
        await logs.freeze()
        over = True
    left.append(sum(segment.frozen is None for segment in channel.segments))
    assert max(before - after for before, after in pairwise(left)) <= FREEZE_BATCH + GROUP_RUNS
    assert left[-1] == 1  # the last may still be read
    await logs.freeze()
    assert len(channel.segments) == 20 * FREEZE_BATCH // GROUP_RUNS
    assert channel.since(0) == list(enumerate(said, 1))
