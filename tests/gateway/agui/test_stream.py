from hypothesis import given
from hypothesis import strategies as st

from actors.events import Event, ReasoningDelta, TextDelta, ToolCallDelta
from gateway.agui import stream
from gateway.agui.projection import Ids, Projection
from gateway.agui.source import Place
from gateway.sse import Direct

messages = st.sampled_from(["message-1", "message-2"])
deltas: st.SearchStrategy[Event] = st.one_of(
    st.builds(TextDelta, st.just("run-1"), messages, st.text(max_size=5)),
    st.builds(ReasoningDelta, st.just("run-1"), messages, st.text(max_size=5)),
    st.builds(ToolCallDelta, st.just("run-1"), messages, st.just("call-1"), st.text(max_size=5)),
)


class Writer:
    """A response that takes everything, or nothing."""

    def __init__(self) -> None:
        self.takes = True
        self.bodies: list[bytes] = []

    def ready(self) -> bool:
        return self.takes

    def write(self, body: bytes) -> None:
        self.bodies.append(body)


def projection() -> Projection:
    return Projection("run-1", Ids("thread", "run-1"), thoughts=True)


@given(st.lists(st.tuples(st.sampled_from(["e1", "e2"]), deltas), max_size=12), st.booleans())
def test_what_is_written_at_once_is_what_would_have_been_yielded(
    said: list[tuple[str, Event]], resumed: bool
) -> None:
    writer, direct = Writer(), Direct()
    direct.lead_to(writer)
    after = Place("e1", 3) if resumed else None
    hand = stream._hand_to(projection(), direct, after)
    expected: list[bytes] = []
    for offset, (epoch, event) in enumerate(said, 1):
        assert hand(epoch, offset, event)
        if frames := stream._frames(projection().feed(event), Place(epoch, offset), after):
            expected.append(b"".join(frames))
    assert writer.bodies == expected
    writer.takes = False
    assert not hand("e1", 99, TextDelta("run-1", "message-1", "a"))
    assert writer.bodies == expected
