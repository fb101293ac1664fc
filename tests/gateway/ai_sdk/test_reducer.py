"""The UI message stream of the AI SDK, from our own events."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.events import (
    BlockCreated,
    Compacted,
    Event,
    RunSteered,
    StepTimed,
    TextDelta,
    TextStarted,
    ToolReturned,
    WindowMoved,
)
from actors.summary import CompactionStats
from gateway.ai_sdk.reducer import Mode, Reducer
from storage.records import RunError, Timing
from tests.gateway.ai_sdk_runs import (
    ASKED,
    CHAT,
    GOES_ON,
    LATER,
    NOW,
    RECORDED,
    RUN,
    USAGE,
    Recorded,
    calls,
    finished,
    logged,
    says,
    started,
    step,
    step_end,
    stream,
    thinks,
)

PLAIN = Mode(conversation_id=CHAT)


def chunks(data: bytes) -> list[dict[str, Any]]:
    """Return the JSON of every event; the stream must end with [DONE]."""
    events = data.decode().split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    assert all(event.startswith("data: ") for event in events[:-1])
    return [msgspec.json.decode(event.removeprefix("data: ")) for event in events[:-2]]


def told(*events: Event, mode: Mode = PLAIN) -> list[dict[str, Any]]:
    """Return the chunks of events that end no run."""
    out = Reducer(RUN, mode).feed(logged(*events))
    return [msgspec.json.decode(chunk.removeprefix(b"data: ")) for chunk in out]


def kinds(data: list[dict[str, Any]]) -> list[str]:
    return [chunk["type"] for chunk in data]


def test_the_chunks_of_a_run_come_in_the_order_of_the_protocol() -> None:
    found = chunks(stream(RECORDED[0]))
    assert kinds(found) == [
        "start",
        "start-step",
        "reasoning-start",
        "reasoning-delta",
        "reasoning-delta",
        "reasoning-end",
        "text-start",
        "text-delta",
        "text-delta",
        "text-end",
        "finish-step",
        "finish",
    ]
    assert found[0]["messageId"] == RUN
    assert found[0]["messageMetadata"] == {"runId": RUN, "conversationId": CHAT}
    assert found[7] == {"type": "text-delta", "id": "m1", "delta": "Hel"}
    assert found[-1]["finishReason"] == "stop"
    assert found[-1]["messageMetadata"]["usage"]["inputTokens"] == USAGE.prompt


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda recorded: recorded.name)
def test_what_is_opened_is_closed_and_nothing_is_null(recorded: Recorded) -> None:
    open_: set[tuple[str, str]] = set()
    in_step = False
    for chunk in chunks(stream(recorded)):
        assert None not in chunk.values()
        match chunk["type"].rpartition("-"):
            case ("text" | "reasoning" as kind, _, "start"):
                assert in_step
                assert not open_
                open_.add((kind, chunk["id"]))
            case ("text" | "reasoning" as kind, _, "delta"):
                assert (kind, chunk["id"]) in open_
            case ("text" | "reasoning" as kind, _, "end"):
                open_.remove((kind, chunk["id"]))
            case ("start", _, "step"):
                assert not in_step
                in_step = True
            case ("finish", _, "step"):
                assert in_step
                assert not open_
                in_step = False
            case ("reset", _, "step"):
                assert in_step
                open_.clear()
            case _:
                pass
    assert not in_step


@given(st.data())
def test_however_events_are_cut_into_batches_the_stream_is_the_same(data: st.DataObject) -> None:
    recorded = data.draw(st.sampled_from(RECORDED))
    reducer = Reducer(recorded.run_id, recorded.mode)
    out = [reducer.begin()]
    rest = logged(*recorded.events)
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        batch, rest = rest[:size], rest[size:]
        if len(batch) == 1:
            out += reducer.say(batch[0].event)
        else:
            out += reducer.feed(batch)
    assert b"".join(out) == stream(recorded)
    assert reducer.finished


@given(st.data())
def test_a_crash_at_any_event_leaves_what_the_next_attempt_shows(data: st.DataObject) -> None:
    attempt = (started(), step(), *thinks("a", "b"), *says("one ", "two"), *calls("find", "{}"))
    place = data.draw(st.integers(1, len(attempt)))
    found = told(*attempt[:place], started(attempt=2), step(attempt=2), *says("All."), step_end())
    last = max((i for i, chunk in enumerate(found) if chunk["type"] == "reset-step"), default=0)
    assert "".join(chunk["delta"] for chunk in found[last:] if chunk["type"] == "text-delta") == "All."
    assert [kind for kind in kinds(found) if kind.endswith("-step")] in (
        ["start-step", "finish-step"],
        ["start-step", "reset-step", "finish-step"],
    )


def test_a_call_of_the_client_runs_only_once_it_is_durable() -> None:
    mode = Mode(conversation_id=CHAT, client_tools=frozenset(("map",)))
    found = told(started(), step(), *calls("map", "{}", asks=True), mode=mode)
    assert kinds(found) == ["start-step", "tool-input-start", "tool-input-delta"]
    assert "providerExecuted" not in found[1]


def test_results_that_the_clients_message_does_not_show_are_left_out() -> None:
    assert told(started(LATER), ToolReturned(RUN, "c9", "find", "success", "42")) == []
    known = Mode(conversation_id=CHAT, known=frozenset(("c9",)))
    found = told(started(LATER), ToolReturned(RUN, "c9", "find", "success", "42"), mode=known)
    assert found == [{"type": "tool-output-available", "toolCallId": "c9", "output": "42"}]


def test_a_result_that_the_client_sent_is_not_sent_back() -> None:
    mode = Mode(conversation_id=CHAT, known=frozenset(("c1",)), settled=frozenset(("c1",)))
    assert told(ToolReturned(RUN, "c1", "map", "success", "42"), mode=mode) == []


def test_an_earlier_run_of_a_message_does_not_end_its_stream() -> None:
    reducer = Reducer(LATER, GOES_ON)
    reducer.feed(logged(*ASKED))
    assert not reducer.finished
    reducer.feed(logged(started(LATER), finished(run_id=LATER)))
    assert reducer.finished


def test_a_cancelled_run_is_aborted() -> None:
    found = chunks(stream(next(r for r in RECORDED if r.name == "is cancelled")))
    assert kinds(found)[-2:] == ["abort", "finish"]
    assert found[-1]["finishReason"] == "interrupted"


def test_a_broken_stream_ends_with_an_error() -> None:
    reducer = Reducer(RUN, PLAIN)
    assert chunks(reducer.broken_off(RunError("stream_incomplete", "gone"))) == [
        {"type": "error", "errorText": "gone"}
    ]
    assert reducer.finished


def test_what_the_protocol_has_no_chunk_for_is_data() -> None:
    stats = CompactionStats(trigger="x", context_window=9, messages_count_before=3, messages_count_after=1)
    found = told(
        BlockCreated(RUN, "b1", "human", "Ada"),
        Compacted(RUN, "m9", NOW, stats),
        WindowMoved(RUN, 7, 2),
        StepTimed(RUN, "step-1", Timing(queue=2_500_000), USAGE),
    )
    assert kinds(found) == ["data-memory", "data-compaction", "data-window", "data-usage"]
    assert [chunk.get("transient", False) for chunk in found] == [False, False, True, True]
    assert found[0]["data"]["change"] == "created"
    assert found[1]["data"]["stats"]["messages_count_after"] == 1
    assert found[3]["data"]["timingMs"]["queue"] == 2.5


def test_a_run_that_joins_another_is_followed_into_it() -> None:
    found = told(RunSteered(RUN, LATER), TextStarted(LATER, "m5"), TextDelta(LATER, "m5", "hi"))
    assert found[0] == {"type": "message-metadata", "messageMetadata": {"runId": LATER}}
    assert kinds(found[1:]) == ["start-step", "text-start", "text-delta"]
