"""The event stream that Letta's clients read, from our own events."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from actors import summary
from actors.events import (
    BlockChanged,
    BlockCreated,
    BlockDetached,
    Compacted,
    Event,
    Logged,
    MessageCommitted,
    QueueChanged,
    ReasoningDelta,
    ReasoningEnded,
    ReasoningStarted,
    Retracted,
    RunFinished,
    RunStarted,
    RunSteered,
    StepFinished,
    StepStarted,
    StepTimed,
    TextDelta,
    TextEnded,
    TextStarted,
    ToolCallDelta,
    ToolCallEnded,
    ToolCallStarted,
    ToolReturned,
    WindowMoved,
)
from actors.summary import CompactionStats
from gateway.letta import stream as letta_stream
from gateway.letta.stream import DONE, Mode, Reducer
from storage.records import (
    Message,
    Part,
    ReasoningPart,
    Role,
    Run,
    RunError,
    RunStatus,
    StopReason,
    TextPart,
    Timing,
    ToolCallPart,
    ToolReturnPart,
    Usage,
)

RUN = "run-1"
FIRST = "message-00000000-0000-4000-8000-0000000000a1"
TOOL = "message-00000000-0000-4000-8000-0000000000b2"
SECOND = "message-00000000-0000-4000-8000-0000000000c3"
NOW = datetime(2026, 5, 1, 12, 0, 0, 999_000, tzinfo=UTC)
USAGE = Usage(prompt=11, completion=7, total=18, cached=3, steps=2, context=11)


def stored(message_id: str, role: Role, *content: Part, step: str | None = "step-1", **more: Any) -> Message:
    return Message(
        id=message_id,
        organization_id="org-1",
        agent_id="agent-1",
        conversation_id="agent-1",
        position=1,
        role=role,
        content=content,
        created_at=NOW,
        run_id=RUN,
        step_id=step,
        **more,
    )


INPUT = stored("message-00000000-0000-4000-8000-0000000000d4", "user", TextPart("hi"), step=None)
SAID = stored(
    FIRST, "assistant", ReasoningPart("hmm"), TextPart("Hello"), ToolCallPart("c1", "find", '{"q":1}')
)
RETURNED = stored(TOOL, "tool", ToolReturnPart("c1", "find", "success", "found"))
ANSWERED = stored(SECOND, "assistant", TextPart("Bye."), step="step-2")


def finished(
    status: RunStatus = "completed", reason: StopReason = "end_turn", error: RunError | None = None
) -> RunFinished:
    return RunFinished(RUN, status, reason, USAGE, error)


def turn() -> list[Event]:
    """Return a run with every kind of event in it."""
    return [
        RunStarted(RUN, "agent-1", 1, ()),
        StepStarted(RUN, "step-1", 1, "p/m", FIRST, NOW),
        ReasoningStarted(RUN, FIRST),
        ReasoningDelta(RUN, FIRST, "hm"),
        ReasoningDelta(RUN, FIRST, "m"),
        ReasoningEnded(RUN, FIRST),
        TextStarted(RUN, FIRST),
        TextDelta(RUN, FIRST, "Hel"),
        TextDelta(RUN, FIRST, "lo"),
        TextEnded(RUN, FIRST),
        ToolCallStarted(RUN, FIRST, "c1", "find", 0),
        ToolCallDelta(RUN, FIRST, "c1", '{"q"'),
        ToolCallDelta(RUN, FIRST, "c1", ":1}"),
        ToolCallEnded(RUN, FIRST, "c1"),
        ToolReturned(RUN, "c1", "find", "success", "found"),
        MessageCommitted(RUN, INPUT),
        MessageCommitted(RUN, SAID),
        MessageCommitted(RUN, RETURNED),
        WindowMoved(RUN, 2, 1),
        BlockChanged(RUN, "block-1", "human", "tea", 1),
        BlockCreated(RUN, "block-2", "notes", "", "What else there is."),
        BlockDetached(RUN, "block-3", "old"),
        StepFinished(RUN, "step-1", USAGE, Timing()),
        StepTimed(RUN, "step-1", Timing(), USAGE),
        QueueChanged("run-2", "agent-1", "queued", 1, 1),
        StepStarted(RUN, "step-2", 1, "p/m", SECOND, NOW),
        TextStarted(RUN, SECOND),
        TextDelta(RUN, SECOND, "Bye."),
        TextEnded(RUN, SECOND),
        MessageCommitted(RUN, ANSWERED),
        finished(),
    ]


def log(events: Iterable[Event], first: int = 1) -> list[Logged]:
    return [Logged(offset, event) for offset, event in enumerate(events, first)]


def reduce(events: Iterable[Event], mode: Mode, *, batch: int = 1000) -> list[bytes]:
    reducer = Reducer(RUN, mode)
    logged = log(events)
    return [c for i in range(0, len(logged), batch) for c in reducer.feed(logged[i : i + batch])]


def data(chunk: bytes) -> dict[str, Any]:
    assert chunk.startswith(b"data: ")
    assert chunk.endswith(b"\n\n")
    assert chunk.count(b"\n") == 2
    return msgspec.json.decode(chunk[6:-2])


def bodies(chunks: list[bytes]) -> list[dict[str, Any]]:
    assert chunks[-1] == DONE
    return [data(chunk) for chunk in chunks[:-1]]


def kinds(chunks: list[bytes]) -> list[str]:
    return [body["message_type"] for body in bodies(chunks)]


def test_without_tokens_each_committed_message_is_shown_once_and_input_never() -> None:
    chunks = reduce(turn(), Mode())
    assert kinds(chunks) == [
        "reasoning_message",
        "assistant_message",
        "tool_call_message",
        "tool_return_message",
        "assistant_message",
        "stop_reason",
        "usage_statistics",
    ]
    assert bodies(chunks)[1]["content"] == "Hello"
    assert all(body.get("seq_id") is None for body in bodies(chunks))


def test_with_tokens_deltas_add_up_to_the_committed_message() -> None:
    shown = bodies(reduce(turn(), Mode(tokens=True)))
    first = [body for body in shown if body.get("id") == FIRST]
    assert "".join(b["content"] for b in first if b["message_type"] == "assistant_message") == "Hello"
    assert "".join(b["reasoning"] for b in first if b["message_type"] == "reasoning_message") == "hmm"
    calls = [b["tool_call"] for b in first if b["message_type"] == "tool_call_message"]
    assert calls[0] == {"name": "find", "arguments": "", "tool_call_id": "c1"}
    assert all("name" not in call for call in calls[1:])
    assert {call["tool_call_id"] for call in calls} == {"c1"}
    assert "".join(call["arguments"] for call in calls) == '{"q":1}'


def test_the_two_fields_of_a_tool_call_delta_hold_the_same_one_object() -> None:
    for body in bodies(reduce(turn(), Mode(tokens=True))):
        if body["message_type"] == "tool_call_message":
            assert body["tool_call"] == body["tool_calls"]


def test_with_tokens_tool_results_come_whole_and_streamed_messages_are_not_repeated() -> None:
    shown = bodies(reduce(turn(), Mode(tokens=True)))
    assert [b["tool_return"] for b in shown if b["message_type"] == "tool_return_message"] == ["found"]
    assert [b["content"] for b in shown if b.get("id") == SECOND] == ["Bye."]


def test_chunks_of_one_message_share_id_date_and_otid_and_have_every_field() -> None:
    shown = bodies(reduce(turn(), Mode(tokens=True)))
    texts = [b for b in shown if b["message_type"] == "assistant_message" and b["id"] == FIRST]
    assert len(texts) == 2
    assert {(b["otid"], b["date"], b["step_id"], b["run_id"]) for b in texts} == {
        ("00000000-0000-4000-8000-000000000081", "2026-05-01T12:00:00+00:00", "step-1", RUN)
    }
    whole = bodies(reduce(turn(), Mode()))
    for kind in ("assistant_message", "reasoning_message", "tool_call_message"):
        delta = next(b for b in shown if b["message_type"] == kind)
        assert set(delta) == set(next(b for b in whole if b["message_type"] == kind))


def test_deltas_and_stored_messages_agree_on_ids_and_otids() -> None:
    streamed = {
        (b["id"], b["message_type"], b["otid"])
        for b in bodies(reduce(turn(), Mode(tokens=True)))
        if "id" in b
    }
    whole = {(b["id"], b["message_type"], b["otid"]) for b in bodies(reduce(turn(), Mode())) if "id" in b}
    assert streamed == whole


@pytest.mark.parametrize("text", ['a"b\\c\n', "\r\n\r\ndata: x", "%d %s %%", "日本語 🎉", "\u2028"])
def test_any_text_stays_one_event(text: str) -> None:
    events = [RunStarted(RUN, "agent-1", 1, ()), TextDelta(RUN, FIRST, text), finished()]
    for numbered in (False, True):
        assert bodies(reduce(events, Mode(tokens=True, numbered=numbered)))[0]["content"] == text


def test_percent_signs_in_ids_do_not_disturb_numbers() -> None:
    events = [
        RunStarted(RUN, "agent-1", 1, ()),
        StepStarted(RUN, "step-%d", 1, "p/m", FIRST, NOW),
        TextDelta(RUN, FIRST, "a"),
        finished(),
    ]
    first = bodies(reduce(events, Mode(tokens=True, numbered=True)))[0]
    assert (first["step_id"], first["seq_id"]) == ("step-%d", 1_000_001)


@pytest.mark.parametrize("tokens", [False, True])
def test_numbers_count_message_chunks_of_the_attempt_from_one(tokens: bool) -> None:
    shown = bodies(reduce(turn(), Mode(tokens=tokens, numbered=True)))
    numbers = [b["seq_id"] for b in shown if "id" in b]
    assert numbers == [1_000_000 + n for n in range(1, len(numbers) + 1)]


@pytest.mark.parametrize("tokens", [False, True])
def test_a_stream_resumed_at_any_number_gives_exactly_the_rest(tokens: bool) -> None:
    everything = reduce(turn(), Mode(tokens=tokens, numbered=True))
    numbers = [
        data(c)["seq_id"] for c in everything if c.startswith(b'data: {"message_type"') and b'"id":' in c
    ]
    for seen, after in enumerate([0, *numbers]):
        rest = reduce(turn(), Mode(tokens=tokens, numbered=True, after=after))
        assert rest == everything[seen:]


def test_batching_changes_nothing() -> None:
    for tokens in (False, True):
        mode = Mode(tokens=tokens, numbered=True)
        assert reduce(turn(), mode, batch=1) == reduce(turn(), mode, batch=4) == reduce(turn(), mode)


def test_filtering_types_leaves_numbers_as_they_are() -> None:
    for tokens in (False, True):
        every = bodies(reduce(turn(), Mode(tokens=tokens, numbered=True)))
        some = bodies(
            reduce(turn(), Mode(tokens=tokens, numbered=True, include=frozenset(["assistant_message"])))
        )
        kept = ("assistant_message", "stop_reason", "usage_statistics")
        assert some == [b for b in every if b["message_type"] in kept]


def test_a_new_attempt_is_numbered_above_the_old_one_and_repeats_nothing_this_stream_has_sent() -> None:
    events: list[Event] = [
        *turn()[:-3],
        TextDelta(RUN, SECOND, "Bye"),
        Retracted(RUN, "step-2", 1),
        RunStarted(RUN, "agent-1", 2, ()),
        MessageCommitted(RUN, INPUT),
        MessageCommitted(RUN, SAID),
        MessageCommitted(RUN, RETURNED),
        MessageCommitted(RUN, ANSWERED),
        finished(),
    ]
    chunks = bodies(reduce(events, Mode(numbered=True)))
    assert [b["seq_id"] for b in chunks if "id" in b] == [
        1_000_001,
        1_000_002,
        1_000_003,
        1_000_004,
        2_000_005,
    ]
    fresh = bodies(reduce(events[events.index(RunStarted(RUN, "agent-1", 2, ())) :], Mode(numbered=True)))
    assert [b["seq_id"] for b in fresh if "id" in b] == [
        2_000_001,
        2_000_002,
        2_000_003,
        2_000_004,
        2_000_005,
    ]


def test_a_message_whose_deltas_were_never_seen_is_shown_whole() -> None:
    events = [RunStarted(RUN, "agent-1", 2, ()), MessageCommitted(RUN, SAID), finished()]
    assert kinds(reduce(events, Mode(tokens=True)))[:3] == [
        "reasoning_message",
        "assistant_message",
        "tool_call_message",
    ]


def test_a_run_that_joins_another_goes_on_with_that_ones_events() -> None:
    events: list[Event] = [
        RunSteered(RUN, "run-2", ()),
        MessageCommitted("run-2", ANSWERED),
        RunFinished("run-2", "completed", "end_turn", USAGE),
    ]
    chunks = reduce(events, Mode())
    assert kinds(chunks) == ["assistant_message", "stop_reason", "usage_statistics"]
    assert bodies(chunks)[-1]["run_ids"] == [RUN]


def test_a_stream_ends_with_reason_usage_and_done() -> None:
    *_, reason, usage, done = reduce(turn(), Mode())
    assert data(reason) == {"message_type": "stop_reason", "stop_reason": "end_turn"}
    assert data(usage) == {
        "message_type": "usage_statistics",
        "completion_tokens": 7,
        "prompt_tokens": 11,
        "total_tokens": 18,
        "step_count": 2,
        "run_ids": [RUN],
        "cached_input_tokens": 3,
        "cache_write_tokens": 0,
        "reasoning_tokens": 0,
        "context_tokens": 11,
    }
    assert done == b"data: [DONE]\n\n"


def test_a_failure_is_the_reason_an_error_event_and_done() -> None:
    error = RunError("llm_rate_limit", "slow down", "per minute")
    reason, failure, done = reduce([finished("failed", "llm_api_error", error)], Mode())
    assert data(reason)["stop_reason"] == "llm_api_error"
    assert failure.startswith(b"event: error\ndata: ")
    assert msgspec.json.decode(failure.removeprefix(b"event: error\ndata: ")) == {
        "message_type": "error_message",
        "run_id": RUN,
        "error_type": "llm_rate_limit",
        "message": "slow down",
        "detail": "per minute",
        "seq_id": None,
    }
    assert done == DONE


def test_an_answer_that_was_cut_by_its_length_is_still_an_answer() -> None:
    assert kinds(reduce([finished("failed", "max_tokens_exceeded")], Mode())) == [
        "stop_reason",
        "usage_statistics",
    ]


def test_a_cancelled_stream_ends_with_its_reason_alone() -> None:
    assert kinds(reduce([finished("cancelled", "cancelled")], Mode())) == ["stop_reason"]


def test_pings_name_the_run_and_repeat_the_last_number() -> None:
    reducer = Reducer(RUN, Mode(numbered=True))
    reducer.feed(log(turn()[:-1]))
    ping = data(reducer.ping(NOW))
    assert (ping["message_type"], ping["run_id"], ping["seq_id"]) == ("ping", RUN, 1_000_005)
    resumed = Reducer(RUN, Mode(numbered=True, after=1_000_003))
    assert data(resumed.ping(NOW))["seq_id"] == 1_000_003
    assert data(Reducer(RUN, Mode()).ping(NOW))["seq_id"] is None


def test_a_stream_that_breaks_off_says_so_and_is_finished() -> None:
    reducer = Reducer(RUN, Mode())
    end = reducer.broken_off(RunError("stream_incomplete", "gone"))
    assert end.count(b"event: error") == 1
    assert end.endswith(DONE)
    assert reducer.finished


def test_a_trimmed_run_is_told_again_from_its_stored_messages_above_every_old_number() -> None:
    run = Run(
        id=RUN,
        organization_id="org-1",
        agent_id="agent-1",
        conversation_id="agent-1",
        status="completed",
        created_at=NOW,
        background=True,
        stop_reason="end_turn",
        usage=USAGE,
        attempt=1,
    )
    reducer = Reducer(RUN, Mode(tokens=True, numbered=True, after=1_000_009))
    chunks = reducer.feed(letta_stream.replay(run, [INPUT, SAID, RETURNED, ANSWERED]))
    shown = bodies(chunks)
    assert [b["seq_id"] for b in shown if "id" in b] == [
        2_000_001,
        2_000_002,
        2_000_003,
        2_000_004,
        2_000_005,
    ]
    assert [b["content"] for b in shown if b["message_type"] == "assistant_message"] == ["Hello", "Bye."]
    assert kinds(chunks)[-2:] == ["stop_reason", "usage_statistics"]


# --- compactions ----------------------------------------------------------------------------

STATS = CompactionStats(
    trigger="manual",
    context_tokens_before=90,
    context_tokens_after=50,
    context_window=100,
    messages_count_before=9,
    messages_count_after=4,
)
SUMMARY = stored(
    "message-00000000-0000-4000-8000-0000000000e5",
    "summary",
    TextPart(summary.pack("They said hi.", hidden=5, at=NOW, stats=STATS)),
    step=None,
)
COMPACTED = [
    Compacted(RUN, "message-00000000-0000-4000-8000-0000000000f6", NOW, STATS, SUMMARY.id),
    MessageCommitted(RUN, SUMMARY),
]
UNSUMMED = [
    Compacted(RUN, "message-00000000-0000-4000-8000-0000000000f6", NOW, STATS, None, RunError("e", "m"))
]


def chunks_of(events: list[Event], **mode: Any) -> list[dict[str, Any]]:
    reducer = Reducer(RUN, Mode(**mode))
    started = RunStarted(RUN, "agent-1", 1, ())
    out = reducer.feed([Logged(n, event) for n, event in enumerate([started, *events], 1)])
    return [msgspec.json.decode(chunk.removeprefix(b"data: ")) for chunk in out]


@pytest.mark.parametrize("tokens", [False, True])
def test_a_compaction_is_an_event_and_a_summary_for_clients_that_ask(tokens: bool) -> None:
    event, told = chunks_of(COMPACTED, tokens=tokens, compactions=True)
    assert (event["message_type"], event["event_type"]) == ("event_message", "compaction")
    assert event["event_data"] == {"trigger": "manual", "context_token_estimate": 90, "context_window": 100}
    assert (told["message_type"], told["summary"]) == ("summary_message", "They said hi.")
    assert told["compaction_stats"]["messages_count_after"] == 4
    assert event["id"] != told["id"] == SUMMARY.id


def test_a_compaction_is_a_user_s_message_for_others() -> None:
    [told] = chunks_of(COMPACTED)
    assert told["message_type"] == "user_message"
    assert summary.unpack(told["content"]) == ("They said hi.", STATS)


def test_a_compaction_without_a_summary_is_told_to_clients_that_ask() -> None:
    assert chunks_of(UNSUMMED) == []
    [told] = chunks_of(UNSUMMED, compactions=True)
    assert told["message_type"] == "event_message"


def test_numbers_are_the_same_whoever_is_told() -> None:
    behind = stored(SECOND, "assistant", TextPart("yes"))
    for before in (COMPACTED, UNSUMMED):
        events = [*before, MessageCommitted(RUN, behind)]
        asking, other = (chunks_of(events, numbered=True, compactions=told)[-1] for told in (True, False))
        assert asking["seq_id"] == other["seq_id"]


def test_a_summary_that_the_attempt_before_told_is_not_told_again() -> None:
    again = RunStarted(RUN, "agent-1", 2, ())
    behind = stored(SECOND, "assistant", TextPart("yes"))
    told = chunks_of(
        [*COMPACTED, again, *COMPACTED, MessageCommitted(RUN, behind)], numbered=True, compactions=True
    )
    assert [c["message_type"] for c in told] == ["event_message", "summary_message", "assistant_message"]
    assert told[-1]["seq_id"] == 2_000_003
