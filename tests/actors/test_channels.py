import asyncio

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import channels, telling
from actors.channels import Channel, Logs
from actors.errors import LogTrimmedError
from actors.events import (
    Event,
    QueueChanged,
    ReasoningDelta,
    RunFinished,
    RunStarted,
    RunSteered,
    TextDelta,
    TextStarted,
    ToolCallDelta,
)
from storage.records import Usage

deltas = st.one_of(
    st.builds(TextDelta, st.just("r"), st.sampled_from("ab"), st.text(max_size=5)),
    st.builds(ReasoningDelta, st.just("r"), st.sampled_from("ab"), st.text(max_size=5)),
    st.builds(ToolCallDelta, st.just("r"), st.just("m"), st.sampled_from("xy"), st.text(max_size=5)),
    st.builds(TextStarted, st.just("r"), st.just("m")),
)


def started(run: str) -> RunStarted:
    return RunStarted(run, "c", 1, ())


def finished(run: str) -> RunFinished:
    return RunFinished(run, "completed", "end_turn", Usage())


async def collect(channel: Channel, run: str) -> list[tuple[int, Event]]:
    return [(e.offset, e.event) async for batch in channel.follow(run) for e in batch]


@given(st.lists(deltas, min_size=1, max_size=40), st.data())
def test_reading_from_any_offset_gives_exactly_the_rest(events: list[Event], data: st.DataObject) -> None:
    channel = Logs(1 << 20).channel("c", "agent")
    whole: list[Event] = [started("r"), *events, finished("r")]
    if data.draw(st.booleans()):
        channel.publish(*whole)
    else:
        for event in whole:
            channel.publish(event)
    offset = data.draw(st.integers(1, len(whole)))
    assert channel.read(offset) == (offset, whole[offset - 1 :])


async def test_a_follower_sees_a_run_from_its_start_to_its_end_and_nothing_else() -> None:
    channel = Logs(1 << 20).channel("c", "agent")
    channel.publish(started("a"), TextDelta("a", "m", "1"), finished("a"))
    channel.expected.add("b")
    seen: list[tuple[int, Event]] = []

    async def follow() -> None:
        seen.extend(await collect(channel, "b"))

    async with asyncio.TaskGroup() as group:
        group.create_task(follow())
        await anyio.lowlevel.checkpoint()
        channel.publish(started("b"), TextDelta("b", "m", "2"))
        await anyio.lowlevel.checkpoint()
        channel.publish(finished("b"))
    assert [e for _, e in seen] == [started("b"), TextDelta("b", "m", "2"), finished("b")]
    assert [o for o, _ in seen] == [4, 5, 6]
    assert await collect(channel, "a") == [
        (1, started("a")),
        (2, TextDelta("a", "m", "1")),
        (3, finished("a")),
    ]


@pytest.mark.parametrize("takes", [0, 1, 2, 3, 100])
async def test_what_a_hand_takes_and_what_is_yielded_are_together_the_run(takes: int) -> None:
    channel = Logs(1 << 20).channel("c", "agent")
    whole: list[Event] = [
        started("r"),
        *(TextDelta("r", "m", str(n)) for n in range(3)),
        TextStarted("r", "n"),
        *(TextDelta("r", "n", str(n)) for n in range(3)),
        finished("r"),
    ]
    told: list[Event] = []
    taken: list[Event] = []

    def hand(_: int, event: Event) -> bool:
        if len(taken) >= takes:
            return False
        taken.append(event)
        told.append(event)
        return True

    async def follow() -> None:
        async for batch in channel.follow("r", hand):
            told.extend(logged.event for logged in batch)

    channel.expected.add("r")
    async with asyncio.TaskGroup() as group:
        group.create_task(follow())
        for event in whole:
            await settle()
            channel.publish(event, TextDelta("other", "m", "not of this run"))
    assert told == whole
    assert taken == [event for event in whole if isinstance(event, TextDelta)][:takes]


async def test_a_hand_that_fails_costs_the_speaker_nothing_and_loses_nothing() -> None:
    channel = Logs(1 << 20).channel("c", "agent")
    whole: list[Event] = [started("r"), TextDelta("r", "m", "1"), finished("r")]

    def hand(_place: int, _event: Event) -> bool:
        raise ValueError

    async def follow() -> list[Event]:
        return [logged.event async for batch in channel.follow("r", hand) for logged in batch]

    channel.expected.add("r")
    following = asyncio.ensure_future(follow())
    for event in whole:
        await settle()
        channel.publish(event)
    assert await following == whole


async def settle() -> None:
    """Let every task come to where it waits."""
    for _ in range(5):
        await anyio.lowlevel.checkpoint()


async def test_a_run_that_joined_another_is_followed_into_it() -> None:
    channel = Logs(1 << 20).channel("c", "agent")
    channel.expected.extend("ab")
    channel.publish(started("a"), TextDelta("a", "m", "before"))
    channel.publish(RunSteered("b", "a"), TextDelta("a", "m", "after"), finished("a"))
    assert [e for _, e in await collect(channel, "b")] == [
        RunSteered("b", "a"),
        TextDelta("a", "m", "after"),
        finished("a"),
    ]


async def test_a_queued_run_that_is_cancelled_ends_its_followers() -> None:
    channel = Logs(1 << 20).channel("c", "agent")
    channel.expected.extend("ab")
    channel.publish(started("a"), finished("b"), TextDelta("a", "m", "1"))
    assert [e for _, e in await collect(channel, "b")] == [finished("b")]


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize("following", [True, False])
async def test_all_that_is_said_at_the_end_of_a_run_that_never_began_is_followed(
    *, running: bool, following: bool
) -> None:
    channel = Logs(1 << 20).channel("c", "agent")
    channel.expected.extend("ab")
    left = QueueChanged("b", "c", "withdrawn", 0, 0)
    ended = telling.ending(RunFinished("b", "cancelled", "cancelled", Usage()))
    heard: list[tuple[int, Event]] = []

    async def follow() -> None:
        heard.extend(await collect(channel, "b"))

    async with anyio.create_task_group() as group:
        if following:
            group.start_soon(follow)
            await anyio.wait_all_tasks_blocked()
        if running:
            channel.publish(started("a"))
        channel.publish(left, *ended)
    if not following:
        assert not channel.awaits("b")
        await follow()
    assert [event for _, event in heard] == list(ended)


def test_what_is_said_at_once_between_two_runs_is_one_part_of_the_log() -> None:
    channel = Logs(1 << 20).channel("c", "agent")
    between = [QueueChanged(name, "c", "withdrawn", 0, 0) for name in "xyz"]
    whole: list[Event] = [*between[:2], started("a"), finished("a"), *between]
    channel.publish(*whole)
    assert [segment.run_id for segment in channel.segments] == [None, "a", None]
    assert [event for _, event in channel.since(0) or []] == whole
    assert channel.find("a") == 3


async def test_the_budget_forgets_finished_runs_first_and_keeps_running_ones() -> None:
    logs = Logs(4_000)
    running, other = logs.channel("running", "agent"), logs.channel("other", "agent")
    running.publish(started("r"), *[TextDelta("r", "m", "x" * 100) for _ in range(30)])
    for i in range(20):
        other.publish(started(str(i)), TextDelta(str(i), "m", "y" * 200), finished(str(i)))
    assert running.find("r") == 1
    assert other.find("0") is None
    with pytest.raises(LogTrimmedError):
        await collect(other, "0")
    assert logs.size_bytes == sum(s.size_bytes for c in logs.channels.values() for s in c.segments)


async def test_a_frozen_run_costs_far_less_and_reads_the_same() -> None:
    logs = Logs(1 << 30)
    channel = logs.channel("c", "agent")
    whole = [started("r"), *[TextDelta("r", "m", f"word{i} ") for i in range(1000)], finished("r")]
    channel.publish(*whole)
    live = logs.size_bytes
    await logs.freeze()  # a run is left warm for its followers until the next call
    assert logs.size_bytes == live
    await logs.freeze()
    assert logs.size_bytes < live / 7
    assert [e for _, e in await collect(channel, "r")] == whole
    assert channel.read(500) == (500, whole[499:])


async def test_a_run_forgotten_while_warm_is_not_frozen_back_to_life() -> None:
    logs = Logs(1 << 30)
    channel = logs.channel("c", "agent")
    channel.publish(started("r"), TextDelta("r", "m", "x"), finished("r"))
    await logs.freeze()
    logs.budget_bytes = 0
    logs.trim()
    await logs.freeze()
    assert logs.size_bytes == 0
    assert logs.channels == {}


@pytest.mark.parametrize("frozen", [False, True])
async def test_a_follower_that_is_behind_when_its_conversation_is_deleted_ends(frozen: bool) -> None:
    logs = Logs(1 << 30)
    channel = logs.channel("c", "agent")
    channel.publish(started("r"))
    following = channel.follow("r")
    assert [e.event for e in await anext(following)] == [started("r")]
    channel.publish(TextDelta("r", "m", "x"), finished("r"))
    if frozen:
        await logs.freeze()
        await logs.freeze()
    logs.drop("c", "agent")
    with pytest.raises(LogTrimmedError):
        await anext(following)
    assert logs.size_bytes == 0


async def test_a_run_that_outlives_its_conversation_says_its_end_and_is_forgotten() -> None:
    logs = Logs(1 << 30)
    channel = logs.channel("c", "agent")
    channel.publish(started("r"))
    following = channel.follow("r")
    await anext(following)
    logs.drop("c", "agent")
    channel.publish(TextDelta("r", "m", "x"), finished("r"))
    assert [e.event async for batch in following for e in batch][-1] == finished("r")
    logs.budget_bytes = 0
    logs.trim()
    await logs.freeze()
    await logs.freeze()
    assert logs.size_bytes == 0


def test_channels_that_somebody_only_looked_at_are_not_kept_without_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(channels, "SWEEP_CHANNELS", 20)
    logs = Logs(1 << 20)
    said, heard, expected = (logs.channel(name, "agent") for name in ("said", "heard", "expected"))
    said.publish(started("r"))
    stop = heard.listen(lambda *_: None)
    expected.expected.add("r")
    for number in range(200):
        logs.channel(f"c-{number}", "agent")
        assert len(logs.channels) <= 20
    assert (logs.channels["said"], logs.channels["heard"]) == (said, heard)
    assert logs.channels["expected"] is expected
    stop()
