from hypothesis import given
from hypothesis import strategies as st

from actors.channels import Logs
from actors.commands import InputMessage
from actors.events import (
    BlockChanged,
    Event,
    MessageCommitted,
    RunFinished,
    RunStarted,
    StepFinished,
    StepTimed,
    TextDelta,
    ToolReturned,
)
from actors.segments import EVENT_BYTES, join, size_of
from storage.records import ImagePart, TextPart, Timing, ToolReturnPart, Usage
from tests.actors.pieces import message

TIMING = Timing(1_000, 200_000, 300_000_000, 900_000_000, 4_000, 5_000_000)
USAGE = Usage(1000, 200, 1200, steps=1, context=1000)
events = st.one_of(
    st.builds(TextDelta, st.just("r"), st.just("m"), st.text(max_size=9)),
    st.builds(
        ToolReturned, st.just("r"), st.just("c"), st.just("t"), st.just("success"), st.text(max_size=99)
    ),
    st.just(StepTimed("r", "s", TIMING, USAGE)),
)


@given(st.lists(events, max_size=30))
def test_the_budget_knows_the_size_of_everything_that_is_live(said: list[Event]) -> None:
    logs = Logs(1 << 30)
    channel = logs.channel("c", "a")
    begun = RunStarted("r", "c", 1, ())
    channel.publish(begun, *said)
    assert logs.size_bytes == sum(map(size_of, [begun, *said]))
    logs.drop("c", "a")
    assert logs.size_bytes == 0


def test_what_an_event_alone_refers_to_is_counted_with_it() -> None:
    edit = BlockChanged("r", "block-1", "human", "after", 2, 100_000, "before " * 100)
    assert size_of(edit) == EVENT_BYTES + 700
    assert size_of(ToolReturned("r", "c", "t", "success", "x" * 50)) == EVENT_BYTES + 50
    image = ImagePart({"type": "base64", "media_type": "image/png", "data": "A" * 4000})
    assert size_of(ToolReturned("r", "c", "t", "success", "x", (image,))) == EVENT_BYTES + 4001


def test_images_count_wherever_an_event_holds_them() -> None:
    image = ImagePart({"type": "base64", "media_type": "image/png", "data": "A" * 4000})
    linked = ImagePart({"type": "url", "url": "https://example.com/a.png"})
    shown = ToolReturnPart("call-1", "look", "success", "", images=(image, image))
    asked = InputMessage(role="user", content=(TextPart("What is it?"), image))
    assert size_of(MessageCommitted("r", message(1, "tool", shown))) == EVENT_BYTES + 8000
    assert size_of(MessageCommitted("r", message(1, "user", image, linked))) == EVENT_BYTES + 4000
    assert size_of(MessageCommitted("r", message(1, "user", TextPart("hi")))) == EVENT_BYTES
    assert size_of(RunStarted("r", "c", 1, (asked,))) == EVENT_BYTES + 4000


def test_the_timing_of_a_step_is_counted_and_costs_little_once_frozen() -> None:
    def frozen(*timed: StepTimed) -> tuple[int, int]:
        logs = Logs(1 << 30)
        channel = logs.channel("c", "a")
        channel.publish(RunStarted("r", "c", 1, ()), StepFinished("r", "s", USAGE, TIMING), *timed)
        channel.publish(RunFinished("r", "completed", "end_turn", USAGE))
        live = logs.size_bytes
        join(channel.segments)
        return live, logs.size_bytes

    (live, cold), (live_timed, cold_timed) = frozen(), frozen(StepTimed("r", "s", TIMING, USAGE))
    assert live_timed - live == EVENT_BYTES
    assert 0 < cold_timed - cold < 60
