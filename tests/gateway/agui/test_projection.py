"""AG-UI streams that the validator accepts, whatever a run went through."""

from collections.abc import Sequence
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from actors import telling
from actors.events import (
    ApprovalAnswered,
    BlockChanged,
    BlockDetached,
    Event,
    MessageCommitted,
    ReasoningDelta,
    ReasoningEnded,
    ReasoningStarted,
    Retracted,
    RunFinished,
    RunStarted,
    RunSteered,
    StepFinished,
    StepStarted,
    TextDelta,
    TextStarted,
    ToolCallDelta,
    ToolCallEnded,
    ToolCallStarted,
    ToolReturned,
    WindowMeasured,
)
from gateway.agui import state as agui_state
from gateway.agui.projection import Ids, Projection
from storage.records import JsonObject, Message, RunError, TextPart, Timing, ToolCallPart, ToolReturnPart
from tests.gateway import agui_streams
from tests.gateway.agui_events import (
    ANSWER,
    ASKS,
    AT,
    RESULT,
    RUN,
    RUNS,
    SAID,
    STEP,
    TOKENS,
    USAGE,
    hello,
    message,
    run,
    step,
    text,
)

BLOCK: JsonObject = {"id": "block-1", "value": "", "limit": 100, "version": 1, "read_only": False}
STATE: JsonObject = {
    "context": {},
    "status": "running",
    "memory": {
        "blocks": {"human": {"id": "block-1", "value": "", "limit": 100, "version": 1, "read_only": False}}
    },
}
CALL: list[Event] = [
    ToolCallStarted(RUN, SAID, "c0", "look", 0),
    ToolCallDelta(RUN, SAID, "c0", "{}"),
    ToolCallEnded(RUN, SAID, "c0"),
]
THINKS: list[Event] = [
    ReasoningStarted(RUN, SAID),
    ReasoningDelta(RUN, SAID, "Hm."),
    ReasoningEnded(RUN, SAID),
]
COMMITTED: list[Event] = [
    MessageCommitted(RUN, ANSWER),
    ToolReturned(RUN, "c0", "look", "success", "seen"),
    MessageCommitted(RUN, RESULT),
]
CHANGED = BlockChanged(RUN, "block-1", "human", "likes tea", 2, 100, "")


def shown(
    events: Sequence[Event],
    *,
    history: list[Message] | None = None,
    checked: bool = True,
    thoughts: bool = True,
    **more: Any,
) -> list[JsonObject]:
    """Return the stream of a run."""
    projection = Projection(RUN, Ids("thread-1", "mine"), thoughts=thoughts, **more)
    found: list[JsonObject] = []
    for event in events:
        if projection.wants_state(event):
            state = STATE if thoughts else {k: v for k, v in STATE.items() if k != "memory"}
            projection.knows_state(state)
        if projection.wants_history(event) and history is not None:
            projection.knows_history(history)
        found += map(msgspec.json.decode, projection.feed(event))
    if checked:
        assert projection.finished
        agui_streams.check(found)
    return found


def of(found: list[JsonObject], kind: str) -> list[JsonObject]:
    return [event for event in found if event["type"] == kind]


def test_a_run_is_told_under_the_names_of_its_client() -> None:
    found = shown(run(*step(*text("Hello you"))))
    assert found[0]["type"] == "RUN_STARTED"
    for event in (found[0], found[-1]):
        assert (event["threadId"], event["runId"]) == ("thread-1", "mine")
    assert found[0]["metadata"]["wakeful"]["run"] == RUN


def test_the_state_follows_the_start_and_changes_with_memory() -> None:
    found = shown(run(*step(*text("Noted"), CHANGED)))
    assert found[1] == {"type": "STATE_SNAPSHOT", "snapshot": STATE}
    assert agui_streams.state(found)["memory"]["blocks"]["human"]["value"] == "likes tea"
    assert agui_streams.state(found)["status"] == "idle"
    assert agui_streams.state(found)["context"]["used"] == USAGE.prompt


def test_an_older_edit_does_not_undo_what_the_snapshot_shows() -> None:
    older = BlockChanged(None, "block-1", "human", "stale", 0, 100)
    found = shown(run(*step(older)))
    assert agui_streams.state(found)["memory"] == STATE["memory"]


def test_who_takes_a_stream_up_is_told_every_change_whatever_is_stored_by_now() -> None:
    newer: JsonObject = msgspec.json.decode(msgspec.json.encode(STATE))
    newer["memory"]["blocks"]["human"]["version"] = 9
    projection = Projection(RUN, Ids("t", "r"), thoughts=True, resuming=True)
    projection.knows_state(newer)
    projection.feed(RunStarted(RUN, "conv-1", 1, ()))
    kinds = [msgspec.json.decode(one)["type"] for one in projection.feed(CHANGED)]
    assert kinds == ["CUSTOM", "STATE_DELTA"]


def test_reasoning_stands_in_a_span() -> None:
    kinds = agui_streams.kinds(shown(run(*step(*THINKS, *text("Hi")))))
    at = kinds.index("REASONING_START")
    assert kinds[at : at + 5] == [
        "REASONING_START",
        "REASONING_MESSAGE_START",
        "REASONING_MESSAGE_CONTENT",
        "REASONING_MESSAGE_END",
        "REASONING_END",
    ]


def test_without_the_scope_there_are_neither_thoughts_nor_memory() -> None:
    events = run(*step(*THINKS, *text("Hi"), *CALL, *COMMITTED, CHANGED))
    found = shown(events, thoughts=False, history=[ANSWER, RESULT])
    said = msgspec.json.encode(found)
    assert b"Hm." not in said
    assert b"likes tea" not in said
    assert b"memory" not in said
    assert of(found, "TEXT_MESSAGE_CONTENT")


def test_what_was_streamed_is_not_said_again_when_it_is_committed() -> None:
    found = shown(run(*step(*THINKS, *text("Hi"), *CALL, *COMMITTED)))
    assert len(of(found, "TEXT_MESSAGE_START")) == 1
    assert len(of(found, "TOOL_CALL_START")) == 1
    assert len(of(found, "TOOL_CALL_RESULT")) == 1
    assert len(of(found, "REASONING_START")) == 1


def test_what_was_never_streamed_is_said_when_it_is_committed() -> None:
    events = run(MessageCommitted(RUN, ANSWER), MessageCommitted(RUN, RESULT))
    found = shown(events)
    assert [e["delta"] for e in of(found, "TEXT_MESSAGE_CONTENT")] == ["Hi"]
    assert [e["delta"] for e in of(found, "REASONING_MESSAGE_CONTENT")] == ["Hm."]
    assert [e["delta"] for e in of(found, "TOOL_CALL_ARGS")] == ["{}"]
    assert [e["content"] for e in of(found, "TOOL_CALL_RESULT")] == ["seen"]


def test_an_attempt_that_crashed_is_ended_and_its_text_taken_back() -> None:
    crashed: list[Event] = [
        StepStarted(RUN, STEP, 1, "m", SAID, AT),
        ReasoningStarted(RUN, SAID),
        TextStarted(RUN, SAID),
        TextDelta(RUN, SAID, "Hel"),
        ToolCallStarted(RUN, SAID, "c0", "look", 0),
        Retracted(RUN, STEP, 1),
    ]
    again = RunStarted(RUN, "conv-1", 2, (hello(),))
    after = step(*text("Hello", "message-5"), step_id="step-2", message_id="message-5")
    found = shown(run(*crashed, again, *after), history=[])
    assert len(of(found, "RUN_STARTED")) == 1
    (kept,) = of(found, "MESSAGES_SNAPSHOT")
    assert [m["id"] for m in kept["messages"]] == ["m1"]


def test_what_a_stream_had_begun_is_shown_whole_when_it_goes_on_from_what_is_stored() -> None:
    said = message("assistant", TextPart("Hello you"), position=2)
    asks = message("assistant", ToolCallPart("c0", "look", "{}"), position=3, id="message-3")
    returned = message("tool", ToolReturnPart("c0", "look", "success", "seen"), position=4, id="message-4")
    seen: list[Event] = [
        *step(*text("Hello you"), MessageCommitted(RUN, said)),
        StepStarted(RUN, "step-2", 1, "m", "message-3", AT),
        ToolCallStarted(RUN, "message-3", "c0", "look", 0),
        ToolCallDelta(RUN, "message-3", "c0", "{}"),
    ]
    again = RunStarted(RUN, "conv-1", 2, (hello(),))
    stored = [MessageCommitted(RUN, one) for one in (said, asks, returned)]
    found = shown(run(*seen, again, *stored), history=[said, asks, returned])
    restart = next(n for n, event in enumerate(found) if event["type"] == "MESSAGES_SNAPSHOT")
    assert [m["id"] for m in found[restart]["messages"]] == [SAID, "message-3", "m1"]
    assert found[restart]["messages"][1]["toolCalls"][0]["id"] == "c0"
    later = agui_streams.kinds(found[restart:])
    assert [kind for kind in later if kind.startswith(("TEXT", "TOOL"))] == ["TOOL_CALL_RESULT"]


def test_a_snapshot_never_holds_what_the_stream_says_after_it() -> None:
    before = message("user", TextPart("before"), position=0, id="message-0", otid="m0", run_id="run-0")
    late = message("assistant", TextPart("late"), position=9, id="message-9", run_id="run-9")
    asked = message("approval", ToolCallPart("c1", "pay", "{}"), position=2, id="message-3", run_id=RUN)
    events = [*run()[:-1], RunFinished(RUN, "completed", "requires_approval", USAGE, None, (ASKS,), AT)]
    events[1:1] = step(MessageCommitted(RUN, asked))
    (snapshot,) = of(shown(events, history=[before, asked, late]), "MESSAGES_SNAPSHOT")
    assert [m["id"] for m in snapshot["messages"]] == ["m0", "message-3", "m1"]


def test_a_snapshot_shows_the_answer_that_was_given_anew() -> None:
    asked = message("user", TextPart("hi"), position=0, id="message-0", otid="m0", run_id="run-0")
    first = message("assistant", TextPart("one"), position=1, id="message-2", run_id="run-0", excluded=True)
    second = message("assistant", TextPart("two"), position=2, id="message-4", run_id="run-9")
    found = shown(run(messages=()), history=[asked, first, second], answering=True)
    (snapshot,) = of(found, "MESSAGES_SNAPSHOT")
    assert [m["id"] for m in snapshot["messages"]] == ["m0", "message-4"]


def test_a_resumed_run_begins_with_the_calls_that_it_answers() -> None:
    asked = message("approval", ToolCallPart("c1", "pay", "{}"), position=0, id="message-0", run_id="run-0")
    answered = ApprovalAnswered(RUN, "message-0", ())
    paid = ToolReturned(RUN, "c1", "pay", "success", "paid")
    found = shown(run(paid, answered, *step(*text("Done")), messages=()), history=[asked], answering=True)
    assert agui_streams.kinds(found)[:3] == ["RUN_STARTED", "STATE_SNAPSHOT", "MESSAGES_SNAPSHOT"]


def test_a_step_of_an_earlier_run_is_not_finished_in_this_one() -> None:
    found = shown(run(StepFinished(RUN, "step-0", USAGE, Timing())))
    assert not of(found, "STEP_FINISHED")


def test_a_run_that_joined_another_is_told_from_there() -> None:
    joined: list[Event] = [RunSteered(RUN, "run-2", (hello("stop", "m2"),))]
    rest: list[Event] = [
        StepStarted("run-2", "step-2", 1, "m", "message-5", AT),
        TextStarted("run-2", "message-5"),
        TextDelta("run-2", "message-5", "Stopped."),
        RunFinished("run-2", "cancelled", "cancelled", USAGE),
    ]
    found = shown(joined + rest)
    assert [m["id"] for m in found[0]["input"]["messages"]] == ["m2"]
    assert found[-1]["outcome"] == {"type": "cancelled"}
    assert found[-1]["runId"] == "mine"


def test_who_is_joined_is_told_and_goes_on() -> None:
    found = shown(run(RunSteered("run-2", RUN, (hello("and tea", "m2"),)), *step(*text("Sure"))))
    assert len(of(found, "RUN_STARTED")) == 1
    assert "CUSTOM:wakeful.queue" in agui_streams.kinds(found)


LETTA = ["CUSTOM:letta.stop_reason", "CUSTOM:letta.usage_statistics"]


def test_a_run_that_is_withdrawn_before_it_began_is_whole() -> None:
    found = shown(telling.ending(RunFinished(RUN, "cancelled", "cancelled", USAGE)))
    assert agui_streams.kinds(found) == ["RUN_STARTED", *LETTA, "RUN_FINISHED"]
    assert [one["runId"] for one in (found[0], found[-1])] == ["mine", "mine"]


def test_a_run_that_fails_before_it_began_is_whole_too() -> None:
    error = RunError("internal_error", "four crashes")
    found = shown(telling.ending(RunFinished(RUN, "failed", "error", USAGE, error)))
    assert agui_streams.kinds(found) == ["RUN_STARTED", *LETTA, "RUN_ERROR"]


def test_an_end_alone_is_whole_as_well() -> None:
    found = shown([RunFinished(RUN, "cancelled", "cancelled", USAGE)])
    assert agui_streams.kinds(found) == ["RUN_STARTED", "RUN_FINISHED"]


def test_why_a_run_stops_and_what_it_used_is_said_before_its_end() -> None:
    kinds = agui_streams.kinds(shown(run(*step(*text("Hi")))))
    assert kinds[-5:] == ["STATE_DELTA", *LETTA, "STATE_DELTA", "RUN_FINISHED"]


def test_who_may_not_see_thoughts_is_told_how_full_the_window_is() -> None:
    measured = WindowMeasured(RUN, 32_000, TOKENS, 7, 2, 40)
    found = shown(run(measured), thoughts=False)
    assert of(found, "CUSTOM")[0]["value"]["context_window_size_current"] == 1000


def test_a_client_is_told_that_it_is_waited_for() -> None:
    events = [*run()[:-1], RunFinished(RUN, "completed", "requires_approval", USAGE, None, (RUNS,), AT)]
    found = shown(events, history=[])
    assert agui_streams.state(found)["status"] == "waiting_for_approval"
    assert found[-1]["outcome"]["pendingToolCallIds"] == ["c2"]


def test_a_detached_block_leaves_the_state_even_if_it_was_never_there() -> None:
    gone = BlockDetached(RUN, "block-7", "notes/~x")
    found = shown(run(*step(gone, BlockDetached(RUN, "block-1", "human"))))
    assert agui_streams.state(found)["memory"]["blocks"] == {}


def test_a_stream_that_breaks_off_ends_with_run_error() -> None:
    projection = Projection(RUN, Ids("t", "r"), thoughts=True)
    found = [msgspec.json.decode(one) for one in projection.feed(RunStarted(RUN, "conv-1", 1, ()))]
    found += map(msgspec.json.decode, projection.broken_off("no database", "stream_incomplete"))
    agui_streams.check(found)


def test_a_stream_that_never_began_breaks_off_whole_unless_it_was_taken_up() -> None:
    for resuming, kinds in ((False, ["RUN_STARTED", "RUN_ERROR"]), (True, ["RUN_ERROR"])):
        projection = Projection(RUN, Ids("t", "r"), thoughts=True, resuming=resuming)
        ended = [msgspec.json.decode(one) for one in projection.broken_off("gone", "stream_incomplete")]
        assert agui_streams.kinds(ended) == kinds


WHOLE = run(*step(*THINKS, *text("Hello you"), *CALL, *COMMITTED, CHANGED))


@given(cut=st.integers(1, len(WHOLE) - 2), attempts=st.integers(2, 4))
def test_a_crash_at_any_event_leaves_a_stream_that_verifies(cut: int, attempts: int) -> None:
    lost = WHOLE[1:cut]
    begins = [RunStarted(RUN, "conv-1", attempt, (hello(),)) for attempt in range(1, attempts + 1)]
    crashed = [event for begin in begins[:-1] for event in (begin, *_fresh(lost, begin.attempt))]
    shown([*crashed, begins[-1], *_fresh(WHOLE[1:-1], attempts), WHOLE[-1]], history=[])


def _fresh(events: list[Event], attempt: int) -> list[Event]:
    """Return the events as another attempt tells them, which has ids of its own."""
    data = msgspec.json.encode(events)
    for old in (b"step-1", b"message-1", b'"c0"'):
        data = data.replace(old, old[:-1] + b"%d%b" % (attempt, old[-1:]))
    return msgspec.json.decode(data, type=list[Event])


def test_the_state_that_patches_make_does_not_depend_on_what_was_before() -> None:
    memory = agui_state.Memory()
    memory.take(STATE)
    renamed = memory.follow(BlockChanged(None, "block-1", "person", "x", 2, 100))
    assert [op["path"] for op in renamed] == [
        "/memory/blocks/human",
        "/memory/blocks/human",
        "/memory/blocks/person",
    ]
