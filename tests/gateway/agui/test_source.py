"""Places in a log, what is stored of a run, and what concerns a run that is followed."""

import asyncio

import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.channels import Logs
from actors.errors import LogTrimmedError
from actors.events import BlockChanged, Event, QueueChanged, RunFinished, RunStarted, RunSteered, TextDelta
from gateway.agui import source as agui_source
from gateway.agui.source import WHOLE, Place
from gateway.errors import InvalidRequestError
from tests.gateway.agui_events import RUN, SAID, USAGE, hello

OTHER = "run-2"


@given(st.integers(0, 10**17), st.one_of(st.none(), st.integers(0, 10**8)))
def test_a_place_is_what_its_id_says(offset: int, part: int | None) -> None:
    text = f"ab12cd34:{offset}" + ("" if part is None else f".{part}")
    assert agui_source.cursor(text) == Place("ab12cd34", offset, WHOLE if part is None else part)


@pytest.mark.parametrize("text", ["", "x", "-1", "1:", "ab:1:2", "ab:1.", "ab:1.x", "9" * 40, "ab:1\n2"])
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError):
        agui_source.cursor(text)


def test_a_place_covers_what_went_before_it_in_its_own_log() -> None:
    here = Place("a", 5, 2)
    assert here.covers(Place("a", 5, 1))
    assert here.covers(Place("a", 4))
    assert not here.covers(Place("a", 5))
    assert not here.covers(Place("b", 1))
    assert Place("", 5).covers(Place("b", 5))


async def told(events: list[Event], run_id: str = RUN) -> list[tuple[int, Event]]:
    """Return what a follower of a run is told of a log that holds these events."""
    channel = Logs(1 << 20).channel("conv-1", "agent-1")
    channel.expected.add(run_id)
    channel.publish(*events)
    return [(x.offset, x.event) async for batch in agui_source.follow(channel, run_id) for x in batch]


def finished(run_id: str) -> RunFinished:
    return RunFinished(run_id, "completed", "end_turn", USAGE)


async def test_a_follower_is_told_its_run_and_what_happens_to_memory_meanwhile() -> None:
    before = BlockChanged(None, "block-1", "human", "a", 1)
    beside = BlockChanged(OTHER, "block-1", "human", "b", 2)
    events: list[Event] = [
        before,
        QueueChanged(RUN, "conv-1", "started", 0, 0),
        RunStarted(RUN, "conv-1", 1, ()),
        beside,
        QueueChanged(OTHER, "conv-1", "queued", 1, 1),
        RunSteered(OTHER, RUN, (hello(),)),
        finished(RUN),
        BlockChanged(None, "block-1", "human", "c", 3),
    ]
    assert await told(events) == [(place, events[place - 1]) for place in (3, 4, 6, 7)]


async def test_who_follows_a_run_that_joined_another_goes_on_in_that_one() -> None:
    events: list[Event] = [
        RunStarted(OTHER, "conv-1", 1, ()),
        TextDelta(OTHER, SAID, "before"),
        RunSteered(RUN, OTHER, (hello(),)),
        TextDelta(OTHER, SAID, "after"),
        finished(OTHER),
    ]
    assert [event for _, event in await told(events)] == events[2:]


@pytest.mark.parametrize("takes", [0, 1, 2, 100])
async def test_what_a_hand_takes_and_what_is_yielded_are_together_what_concerns_the_run(takes: int) -> None:
    channel = Logs(1 << 20).channel("conv-1", "agent-1")
    events: list[Event] = [
        RunStarted(RUN, "conv-1", 1, ()),
        *(TextDelta(RUN, SAID, str(n)) for n in range(3)),
        BlockChanged(OTHER, "block-1", "human", "b", 2),
        TextDelta(RUN, SAID, "3"),
        RunSteered(OTHER, RUN, (hello(),)),
        TextDelta(RUN, SAID, "4"),
        finished(RUN),
    ]
    seen: list[tuple[int, Event]] = []
    taken: list[Event] = []

    def hand(epoch: str, offset: int, event: Event) -> bool:
        if len(taken) >= takes:
            return False
        assert epoch == channel.epoch
        taken.append(event)
        seen.append((offset, event))
        return True

    async def follow() -> None:
        async for batch in agui_source.follow(channel, RUN, hand):
            seen.extend((one.offset, one.event) for one in batch)

    channel.expected.add(RUN)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(follow())
        for event in events:
            await settle()
            channel.publish(event, TextDelta("run-3", SAID, "not of this run"))
    assert seen == [(1 + 2 * place, event) for place, event in enumerate(events)]
    assert taken == [event for event in events if isinstance(event, TextDelta)][:takes]


async def settle() -> None:
    """Let every task come to where it waits."""
    for _ in range(5):
        await anyio.lowlevel.checkpoint()


async def test_a_run_that_the_log_never_had_is_looked_for_elsewhere() -> None:
    channel = Logs(1 << 20).channel("conv-1", "agent-1")
    with pytest.raises(LogTrimmedError):
        await anext(agui_source.follow(channel, RUN))
