from hypothesis import given
from hypothesis import strategies as st

from actors.events import Event, ReasoningDelta, TextDelta, TextStarted, ToolCallDelta
from actors.frozen import SQUEEZED_BYTES, freeze, pack, thaw, unpack

deltas = st.one_of(
    st.builds(TextDelta, st.just("r"), st.sampled_from("ab"), st.text(max_size=5)),
    st.builds(ReasoningDelta, st.just("r"), st.sampled_from("ab"), st.text(max_size=5)),
    st.builds(ToolCallDelta, st.just("r"), st.just("m"), st.sampled_from("xy"), st.text(max_size=5)),
    st.builds(TextStarted, st.just("r"), st.just("m")),
)


@given(st.lists(deltas, max_size=60))
def test_packing_and_freezing_lose_nothing(events: list[Event]) -> None:
    packed = pack(events)
    assert unpack(packed) == events
    assert unpack(thaw(freeze(packed))) == events


def test_consecutive_deltas_of_one_message_become_one_item() -> None:
    events: list[Event] = [TextDelta("r", "m", "a"), TextDelta("r", "m", "b"), TextDelta("r", "n", "c")]
    assert len(pack(events)) == 2


def test_a_frozen_short_run_is_a_few_hundred_bytes() -> None:
    words = [
        TextDelta("run-1", "message-1", f"{word} ") for word in ["the", "quick", "brown", "fox", "jumps"]
    ]
    assert len(freeze(pack([TextStarted("run-1", "message-1"), *words]))) < 120


def test_what_is_as_long_as_images_are_is_kept_without_the_work_of_making_it_smaller() -> None:
    short, long = TextDelta("r", "m", "a" * (SQUEEZED_BYTES // 2)), TextDelta("r", "m", "a" * SQUEEZED_BYTES)
    assert len(freeze([short])) < SQUEEZED_BYTES // 50
    assert len(freeze([long])) > SQUEEZED_BYTES
    assert thaw(freeze([long])) == [long]
