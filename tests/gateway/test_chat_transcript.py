from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.chat_transcript import Call, Chunk, Return, Transcript
from gateway.letta_stream import ATTEMPT
from tests.gateway.chat_views import Memory

Part = tuple[str, str]  # kind and text
TYPES = {"reasoning": "reasoning_message", "answer": "assistant_message", "call": "tool_call_message"}


def _message(kinds: list[str]) -> list[str]:
    """Make neighbours of one kind one part, and put the calls last, as stored messages do."""
    spoken = [
        kind for kind, before in zip(kinds, [None, *kinds], strict=False) if kind != before and kind != "call"
    ]
    merged = [kind for kind, before in zip(spoken, [None, *spoken], strict=False) if kind != before]
    return [*merged, "call"] if "call" in kinds else merged


messages = st.lists(
    st.lists(st.sampled_from(["reasoning", "answer", "call"]), min_size=1, max_size=5).map(_message),
    min_size=1,
    max_size=4,
)


def live(told: list[list[str]], *, attempt: int, begin: int = 0) -> list[Chunk]:
    """Return the events of an answer word by word; messages before `begin` come whole, as after a restart."""
    chunks: list[Chunk] = []
    for number, kinds in enumerate(told):
        life = 1 if number < begin else attempt
        message_id = f"message-{number}-{life}"
        for place, kind in enumerate(kinds):
            text = f"{number}.{place}.{life} said"
            pieces = [text] if number < begin else [text[:3], text[3:5], text[5:]]
            chunks += [_chunk(message_id, kind, piece, first=i == 0) for i, piece in enumerate(pieces)]
        if "call" in kinds:
            result = Return(f"{number}.{life} returned", "success")
            chunks.append(
                Chunk(
                    message_type="tool_return_message", id=f"result-{number}-{life}", tool_returns=(result,)
                )
            )
    return [replace(chunk, seq_id=attempt * ATTEMPT + n) for n, chunk in enumerate(chunks, 1)]


def _chunk(message_id: str, kind: str, piece: str, *, first: bool) -> Chunk:
    chunk = Chunk(message_type=TYPES[kind], id=message_id)
    match kind:
        case "answer":
            return replace(chunk, content=piece)
        case "reasoning":
            return replace(chunk, reasoning=piece)
        case _:
            return replace(chunk, tool_calls=Call("tool" if first else None, piece, "call-1"))


def parts(told: list[list[str]], *, attempt: int, begin: int = 0) -> list[Part]:
    """Return what a person should see of an answer."""
    seen: list[Part] = []
    for number, kinds in enumerate(told):
        life = 1 if number < begin else attempt
        for place, kind in enumerate(kinds):
            text = f"{number}.{place}.{life} said"
            seen.append((kind, f"tool {text}" if kind == "call" else text))
        if "call" in kinds:
            seen.append(("good", f"{number}.{life} returned"))
    return seen


@given(messages, st.lists(st.integers(0, 30), max_size=4))
def test_however_often_a_stream_is_cut_each_message_is_shown_once_and_whole(
    told: list[list[str]], cuts: list[int]
) -> None:
    view = Memory()
    transcript = Transcript(view)
    chunks = live(told, attempt=1)
    for cut in cuts:
        rest = [chunk for chunk in chunks if (chunk.seq_id or 0) > transcript.after]
        for chunk in rest[:cut]:
            transcript.feed(chunk)
        transcript.interrupted()
    for chunk in [chunk for chunk in chunks if (chunk.seq_id or 0) > transcript.after]:
        transcript.feed(chunk)
    transcript.finish()
    assert view.shown == parts(told, attempt=1)


@given(messages, st.integers(0, 40), st.integers(0, 40))
def test_after_a_restart_what_was_committed_is_not_repeated_and_what_was_not_is_told_anew(
    told: list[list[str]], cut: int, committed: int
) -> None:
    view = Memory()
    transcript = Transcript(view)
    first = live(told, attempt=1)[:cut]
    for chunk in first:
        transcript.feed(chunk)
    transcript.interrupted()
    begin = min(committed, len(told) - 1)
    for chunk in live(told, attempt=2, begin=begin):
        transcript.feed(chunk)
    transcript.finish()
    expected = parts(told, attempt=2, begin=begin)
    assert [part for part in view.shown if part in expected] == expected
    assert len(set(view.shown)) == len(view.shown)


def test_what_is_stored_tells_the_rest_of_an_answer_whose_stream_is_gone() -> None:
    view = Memory()
    transcript = Transcript(view)
    told = [["reasoning", "call"], ["answer"]]
    for chunk in live(told, attempt=1)[:9]:
        transcript.feed(chunk)
    transcript.interrupted()
    transcript.retold()
    for chunk in live(told, attempt=1, begin=2):
        transcript.feed(replace(chunk, seq_id=None))
    transcript.finish()
    assert view.shown == parts(told, attempt=1)


def test_fragments_of_parallel_calls_find_their_calls() -> None:
    view = Memory()
    transcript = Transcript(view)
    for call in (
        Call("one", "", "a"),
        Call("two", "", "b"),
        Call(None, "{1", "a"),
        Call(None, "{2}", "b"),
        Call(None, "}", "a"),
    ):
        transcript.feed(Chunk(message_type="tool_call_message", id="m", tool_calls=call))
    transcript.finish()
    assert view.shown == [("call", "one {1}"), ("call", "two {2}")]


def test_a_new_attempt_within_a_stream_takes_back_what_is_unfinished() -> None:
    view = Memory()
    transcript = Transcript(view)
    for chunk in (*live([["answer"]], attempt=1)[:2], *live([["answer"]], attempt=2)):
        transcript.feed(chunk)
    transcript.finish()
    assert view.dropped == ["0.0.1"]
    assert view.shown == [("answer", "0.0.2 said")]


def test_a_failed_tool_is_shown_as_such_and_other_events_are_not_shown() -> None:
    view = Memory()
    transcript = Transcript(view)
    failed = Return("no such block", "error")
    transcript.feed(Chunk(message_type="ping", id="ping-1", run_id="run-1"))
    transcript.feed(Chunk(message_type="tool_return_message", id="m", tool_returns=(failed,)))
    transcript.feed(Chunk(message_type="usage_statistics"))
    transcript.finish()
    assert view.shown == [("bad", "no such block")]
