from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.events import (
    Event,
    QueueChanged,
    Retracted,
    RunFinished,
    RunStarted,
    RunStopped,
    StepFinished,
    StepStarted,
    StepTimed,
    TextDelta,
    TextEnded,
    TextStarted,
    ToolCallEnded,
    ToolCallStarted,
    ToolReturned,
    UsageCounted,
)
from storage.records import Timing, Usage
from tests.actors.balanced import complaints

STEP = StepStarted("r", "s", 1, "m", "message", datetime(2026, 1, 1, tzinfo=UTC))
RUN: list[Event] = [
    RunStarted("r", "c", 1, ()),
    STEP,
    TextStarted("r", "message"),
    TextDelta("r", "message", "Hello"),
    TextEnded("r", "message"),
    ToolCallStarted("r", "message", "call", "find", 0),
    ToolCallEnded("r", "message", "call"),
    ToolReturned("r", "call", "find", "success", "found"),
    StepFinished("r", "s", Usage(), Timing()),
    StepTimed("r", "s", Timing(), Usage()),
    RunStopped("r", "end_turn"),
    UsageCounted("r", Usage()),
    RunFinished("r", "completed", "end_turn", Usage()),
]
NEEDED = [i for i, e in enumerate(RUN) if not isinstance(e, TextDelta | ToolReturned | StepTimed)]


@given(st.lists(st.integers(0, len(RUN)), max_size=4))
def test_a_balanced_log_has_no_complaint_whatever_stands_between(places: list[int]) -> None:
    events = list(RUN)
    for place in sorted(places, reverse=True):
        events.insert(place, QueueChanged("other", "c", "queued", 1, 1))
    assert complaints(events) == []


@pytest.mark.parametrize("missing", NEEDED)
def test_whatever_begins_or_ends_something_is_missed(missing: int) -> None:
    assert complaints(RUN[:missing] + RUN[missing + 1 :]) != []


@given(st.integers(1, len(RUN) - 1), st.booleans())
def test_a_run_that_was_cut_off_begins_again_only_closed(cut: int, closed: bool) -> None:
    again = [RunStarted("r", "c", 2, ()), *RUN[-3:]]
    open_streams = [e for e in RUN[:cut] if isinstance(e, TextStarted | ToolCallStarted)]
    ends = [e for e in RUN[:cut] if isinstance(e, TextEnded | ToolCallEnded)]
    in_step = 1 < cut <= RUN.index(StepFinished("r", "s", Usage(), Timing()))
    closing: list[Event] = []
    if closed:
        for start in open_streams[len(ends) :]:
            match start:
                case TextStarted():
                    closing.append(TextEnded("r", "message"))
                case ToolCallStarted():
                    closing.append(ToolCallEnded("r", "message", "call"))
        closing += [Retracted("r", "s", 1)] if in_step else []
    needed = in_step and not closed
    assert bool(complaints([*RUN[:cut], *closing, *again])) == needed


def test_an_attempt_is_counted_upwards() -> None:
    assert complaints([RUN[0], *RUN]) == ["r began again with attempt 1"]
