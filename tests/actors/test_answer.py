from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from actors.answer import Answer
from actors.events import (
    Event,
    ReasoningDelta,
    ReasoningEnded,
    ReasoningStarted,
    TextDelta,
    TextEnded,
    TextStarted,
    ToolCallDelta,
    ToolCallEnded,
    ToolCallStarted,
)
from actors.llm.model import Finished, Piece, ReasoningPiece, TextPiece, ToolCallPiece, UsageReported
from storage.records import ReasoningPart, TextPart, ToolCallPart, Usage


def answer(*taken: str) -> Answer:
    fresh = count(1)
    return Answer("run-1", "message-1", taken=lambda i: i in taken, fresh=lambda: f"fresh-{next(fresh)}")


words = st.text(min_size=1, max_size=4)
speech = st.lists(st.one_of(st.builds(TextPiece, words), st.builds(ReasoningPiece, words)), max_size=8)
calls = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(["", "a", "b"]), st.text(max_size=3)), max_size=8
)


def pieces(said: list[Piece], called: list[tuple[int, str, str]]) -> list[Piece]:
    """Return pieces as decoders give them: calls numbered from 0, id and name in the first fragment."""
    seen: dict[int, int] = {}
    out = list(said)
    for place, call_id, text in called:
        new = place not in seen
        index = seen.setdefault(place, len(seen))
        out.append(ToolCallPiece(index, call_id if new else "", "f" if new else "", text))
    return out


@given(speech, calls, st.integers(1, 5))
def test_what_was_shown_is_what_is_stored(
    said: list[Piece], called: list[tuple[int, str, str]], cut: int
) -> None:
    reply, events = answer("a"), list[Event]()
    given_pieces = pieces(said, called)
    for start in range(0, len(given_pieces), cut):
        events += reply.feed(given_pieces[start : start + cut])
    events += reply.close()
    parts = reply.parts()
    text = "".join(e.text for e in events if isinstance(e, TextDelta))
    thought = "".join(e.text for e in events if isinstance(e, ReasoningDelta))
    assert text == "".join(p.text for p in parts if isinstance(p, TextPart))
    assert thought == "".join(p.reasoning for p in parts if isinstance(p, ReasoningPart))
    stored = [p for p in parts if isinstance(p, ToolCallPart)]
    assert [(e.call_id, e.name, e.index) for e in events if isinstance(e, ToolCallStarted)] == [
        (c.id, c.name, i) for i, c in enumerate(stored)
    ]
    for call in stored:
        shown = "".join(e.text for e in events if isinstance(e, ToolCallDelta) and e.call_id == call.id)
        assert shown == call.arguments
    assert len({c.id for c in stored}) == len(stored)
    assert "a" not in {c.id for c in stored}
    assert reply.shown == bool(events)


@given(speech, calls)
def test_every_stream_that_starts_ends_once_and_deltas_lie_inside(
    said: list[Piece], called: list[tuple[int, str, str]]
) -> None:
    reply = answer()
    events = reply.feed(pieces(said, called)) + reply.close()
    open_streams: set[str] = set()
    for event in events:
        match event:
            case TextStarted():
                assert "text" not in open_streams
                open_streams.add("text")
            case ReasoningStarted():
                assert "reasoning" not in open_streams
                open_streams.add("reasoning")
            case ToolCallStarted(call_id=call_id):
                open_streams.add(call_id)
            case TextDelta():
                assert "text" in open_streams
            case ReasoningDelta():
                assert "reasoning" in open_streams
            case ToolCallDelta(call_id=call_id):
                assert call_id in open_streams
            case TextEnded():
                open_streams.remove("text")
            case ReasoningEnded():
                open_streams.remove("reasoning")
            case ToolCallEnded(call_id=call_id):
                open_streams.remove(call_id)
            case _:
                raise AssertionError(event)
    assert not open_streams


def test_closing_twice_says_nothing_more() -> None:
    reply = answer()
    reply.feed([TextPiece("a")])
    assert reply.close() == [TextEnded("run-1", "message-1")]
    assert reply.close() == []


def test_usage_and_finish_are_not_shown_and_the_first_finish_counts() -> None:
    reply = answer()
    usage = Usage(prompt=3, completion=4, total=7)
    assert reply.feed([UsageReported(usage), Finished("length"), Finished("stop")]) == []
    assert (reply.usage, reply.finish, reply.shown, reply.parts()) == (usage, "length", False, ())


def test_a_call_without_an_id_or_with_one_of_the_history_gets_a_fresh_one() -> None:
    reply = answer("old")
    reply.feed(
        [ToolCallPiece(0, "", "f", ""), ToolCallPiece(1, "old", "f", ""), ToolCallPiece(2, "new", "f", "")]
    )
    assert [c.id for c in reply.calls] == ["fresh-1", "fresh-2", "new"]


def test_reasoning_is_stored_before_text_and_calls() -> None:
    reply = answer()
    reply.feed([TextPiece("t"), ToolCallPiece(0, "c", "f", "{}"), ReasoningPiece("r")])
    assert reply.parts() == (ReasoningPart("r"), TextPart("t"), ToolCallPart("c", "f", "{}"))
