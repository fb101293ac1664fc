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
from actors.llm.model import (
    Finished,
    Piece,
    ReasoningPiece,
    SignaturePiece,
    TextPiece,
    ToolCallPiece,
    UsageReported,
)
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


def inner(*own: str) -> Answer:
    """Return an answer of a model that speaks by calls; tools in `own` take `thinking` themselves."""
    fresh = count(1)
    return Answer(
        "run-1",
        "message-1",
        taken=lambda _: False,
        fresh=lambda: f"fresh-{next(fresh)}",
        splits=lambda name: name not in own,
        one_call=True,
    )


def test_thoughts_in_a_call_are_shown_before_it_and_stored_before_it() -> None:
    reply = inner()
    events = reply.feed([ToolCallPiece(0, "c", "f", '{"thin')])
    assert (events, reply.shown) == ([], False)
    events += reply.feed([ToolCallPiece(0, "", "", 'king": "hm"'), ToolCallPiece(0, "", "", ', "a": 1}')])
    events += reply.close()
    assert [type(e) for e in events] == [
        ReasoningStarted,
        ReasoningDelta,
        ReasoningEnded,
        ToolCallStarted,
        ToolCallDelta,
        ToolCallEnded,
    ]
    thought = ReasoningPart("hm", source="non_reasoner_model")
    assert reply.parts() == (thought, ToolCallPart("c", "f", '{"a": 1}'))


def test_thoughts_that_come_late_in_a_call_are_shown_then_and_stored_behind_it() -> None:
    reply = inner()
    events = reply.feed([ToolCallPiece(0, "c", "f", '{"a": 1')])
    events += reply.feed(
        [ToolCallPiece(0, "", "", ', "thinking": "h'), ToolCallPiece(0, "", "", 'm", "b": 2')]
    )
    events += reply.feed([ToolCallPiece(0, "", "", "}")])
    events += reply.close()
    assert [type(e) for e in events] == [
        ToolCallStarted,
        ToolCallDelta,
        ReasoningStarted,
        ReasoningDelta,
        ReasoningDelta,
        ReasoningEnded,
        ToolCallDelta,
        ToolCallDelta,
        ToolCallEnded,
    ]
    call = ToolCallPart("c", "f", '{"a": 1, "b": 2}')
    assert reply.parts() == (call, ReasoningPart("hm", source="non_reasoner_model"))


def test_text_of_a_model_that_speaks_by_calls_is_thought() -> None:
    reply = inner()
    (_, delta) = reply.feed([TextPiece("so")])
    assert delta == ReasoningDelta("run-1", "message-1", "so", "non_reasoner_model")
    assert reply.parts() == (ReasoningPart("so", source="non_reasoner_model"),)


def test_a_tool_of_its_own_thinking_keeps_it_and_a_second_call_is_not_kept() -> None:
    reply = inner("f")
    wire = '{"thinking": "mine"}'
    reply.feed(
        [ToolCallPiece(0, "c", "f", wire), ToolCallPiece(1, "d", "g", "{}"), ToolCallPiece(1, "", "", "x")]
    )
    reply.close()
    assert reply.parts() == (ToolCallPart("c", "f", wire),)


def test_a_call_of_which_nothing_came_but_its_name_is_shown_when_the_answer_ends() -> None:
    reply = inner()
    assert reply.feed([ToolCallPiece(0, "c", "f", "")]) == []
    assert [type(e) for e in reply.close()] == [ToolCallStarted, ToolCallEnded]


def test_an_attempt_that_nobody_saw_leaves_nothing_behind() -> None:
    reply = inner()
    reply.feed([ToolCallPiece(0, "c", "f", '{"thinki')])
    reply.restart()
    reply.feed([ToolCallPiece(0, "d", "f", '{"a": 1}'), Finished("tool_calls")])
    reply.close()
    assert reply.parts() == (ToolCallPart("d", "f", '{"a": 1}'),)


def test_arguments_that_were_set_replace_those_of_the_model() -> None:
    reply = answer()
    reply.feed([ToolCallPiece(0, "c", "f", '{"a": 1}')])
    reply.amend("c", '{"a": 2}')
    assert reply.calls == (ToolCallPart("c", "f", '{"a": 2}'),)


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


def test_what_a_model_wants_back_stands_where_it_signed() -> None:
    answer = Answer("r", "m", taken=lambda _: False, fresh=lambda: "fresh")
    answer.signer = "p/m"
    answer.feed(
        [
            ReasoningPiece("one"),
            SignaturePiece("s1"),
            TextPiece("text"),
            ToolCallPiece(0, "a", "f", "{}"),
            ReasoningPiece("two"),
            SignaturePiece("s2"),
            ToolCallPiece(1, "b", "g", "{}"),
            SignaturePiece("s3", 1),
            ReasoningPiece("three"),
            SignaturePiece("s4"),
        ]
    )
    assert answer.parts() == (
        ReasoningPart("one", "s1", "p/m"),
        TextPart("text"),
        ToolCallPart("a", "f", "{}"),
        ReasoningPart("two", "s2", "p/m"),
        ToolCallPart("b", "g", "{}", "s3", "p/m"),
        ReasoningPart("three", "s4", "p/m"),
    )
