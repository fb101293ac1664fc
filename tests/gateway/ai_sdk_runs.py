"""Runs as events, and what an AI SDK client shall show of each in the end."""

from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from actors.events import (
    ApprovalRequested,
    BlockChanged,
    Event,
    Logged,
    MessageCommitted,
    ReasoningDelta,
    ReasoningEnded,
    ReasoningStarted,
    Retracted,
    RunFinished,
    RunStarted,
    StepFinished,
    StepStarted,
    TextDelta,
    TextEnded,
    TextStarted,
    ToolCallDelta,
    ToolCallEnded,
    ToolCallStarted,
    ToolReturned,
)
from gateway.ai_sdk.reducer import Mode, Reducer
from storage.pending_records import PendingCall
from storage.records import (
    ApprovalPart,
    Message,
    Part,
    ReasoningPart,
    Role,
    RunError,
    RunStatus,
    StopReason,
    TextPart,
    Timing,
    ToolCallPart,
    ToolReturnPart,
    Usage,
)

RUN, LATER = "run-1", "run-2"
CHAT = "conv-1"
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
USAGE = Usage(prompt=11, completion=7, total=18, cached=3, steps=2)


class Recorded(Struct, frozen=True, kw_only=True):
    """A run (with those that wrote the beginning of its message) and the parts that a client shows of it."""

    name: str
    events: tuple[Event, ...]
    shown: tuple[dict[str, Any], ...]
    mode: Mode = Mode(conversation_id=CHAT)
    run_id: str = RUN
    errors: tuple[str, ...] = ()


def logged(*events: Event) -> list[Logged]:
    return [Logged(place, event) for place, event in enumerate(events, 1)]


def stream(recorded: Recorded) -> bytes:
    """Return the whole stream of a recorded run."""
    reducer = Reducer(recorded.run_id, recorded.mode)
    return b"".join([reducer.begin(), *reducer.feed(logged(*recorded.events))])


def stored(message_id: str, role: Role, *content: Part, step: str | None = "step-1") -> Message:
    return Message(
        id=message_id,
        organization_id="org-1",
        agent_id="agent-1",
        conversation_id=CHAT,
        position=1,
        role=role,
        content=content,
        created_at=NOW,
        run_id=RUN,
        step_id=step,
    )


def committed(message_id: str, role: Role, *content: Part, step: str | None = "step-1") -> Event:
    return MessageCommitted(RUN, stored(message_id, role, *content, step=step))


def started(run_id: str = RUN, attempt: int = 1) -> Event:
    return RunStarted(run_id, CHAT, attempt, ())


def step(step_id: str = "step-1", message_id: str = "m1", attempt: int = 1) -> Event:
    return StepStarted(RUN, step_id, attempt, "openai/x", message_id, NOW)


def step_end(step_id: str = "step-1") -> Event:
    return StepFinished(RUN, step_id, USAGE, Timing())


def finished(
    stop_reason: StopReason = "end_turn",
    status: RunStatus = "completed",
    *,
    error: RunError | None = None,
    run_id: str = RUN,
) -> Event:
    return RunFinished(run_id, status, stop_reason, USAGE, error)


def says(*words: str, message_id: str = "m1") -> list[Event]:
    deltas = [TextDelta(RUN, message_id, word) for word in words]
    return [TextStarted(RUN, message_id), *deltas, TextEnded(RUN, message_id)]


def thinks(*words: str, message_id: str = "m1") -> list[Event]:
    deltas = [ReasoningDelta(RUN, message_id, word) for word in words]
    return [ReasoningStarted(RUN, message_id), *deltas, ReasoningEnded(RUN, message_id)]


def calls(name: str, *arguments: str, call_id: str = "c1", asks: bool = False) -> list[Event]:
    deltas = [ToolCallDelta(RUN, "m1", call_id, text) for text in arguments]
    begin = ToolCallStarted(RUN, "m1", call_id, name, 0, asks)
    return [begin, *deltas, ToolCallEnded(RUN, "m1", call_id)]


def asks(name: str, arguments: str, kind: Any) -> Event:
    call = PendingCall(id="c1", name=name, arguments=arguments, kind=kind)
    return ApprovalRequested(RUN, "m0", "step-1", (call,), NOW)


STEP = {"type": "step-start"}


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said, "state": "done"}


def tool(name: str, state: str, **more: Any) -> dict[str, Any]:
    fixed = {"type": "dynamic-tool", "toolName": name, "toolCallId": "c1", "providerExecuted": True}
    return {**fixed, "state": state, **more}


FOUND = committed("m1", "assistant", TextPart("Let me see."), ToolCallPart("c1", "find", '{"q":1}'))
RESULT = committed("m2", "tool", ToolReturnPart("c1", "find", "success", "42"))
APPROVED = committed("m3", "approval", ApprovalPart("c1", approve=True))
DENIED = committed("m3", "approval", ApprovalPart("c1", approve=False, reason="no"))
REQUEST = committed("m0", "approval", ToolCallPart("c1", "find", '{"q":1}'))
ASKED = (
    started(),
    step(),
    *calls("find", '{"q":1}', asks=True),
    REQUEST,
    asks("find", '{"q":1}', "approval"),
    step_end(),
    finished("requires_approval"),
)
GOES_ON = Mode(conversation_id=CHAT, message_id=RUN, earlier=frozenset((RUN,)))

RECORDED = (
    Recorded(
        name="thinks and answers",
        events=(started(), step(), *thinks("hm", "m"), *says("Hel", "lo"), step_end(), finished()),
        shown=(STEP, {"type": "reasoning", "id": "m1", "text": "hmm", "state": "done"}, text("Hello")),
    ),
    Recorded(
        name="thoughts are for those who may see them",
        events=(
            started(),
            step(),
            *thinks("hm"),
            *says("Hello"),
            BlockChanged(RUN, "b1", "human", "Ada", 1),
            step_end(),
            finished(),
        ),
        shown=(STEP, text("Hello")),
        mode=Mode(conversation_id=CHAT, thoughts=False),
    ),
    Recorded(
        name="runs a tool",
        events=(
            started(),
            step(),
            *says("Let me see."),
            *calls("find", '{"q"', ":1}"),
            ToolReturned(RUN, "c1", "find", "success", "42"),
            FOUND,
            RESULT,
            step_end(),
            step("step-2", "m3"),
            *says("It is 42.", message_id="m3"),
            step_end("step-2"),
            finished(),
        ),
        shown=(
            STEP,
            text("Let me see."),
            tool("find", "output-available", input={"q": 1}, output="42"),
            STEP,
            text("It is 42."),
        ),
    ),
    Recorded(
        name="is read from storage alone",
        events=(
            started(attempt=2),
            FOUND,
            RESULT,
            committed("m3", "assistant", ReasoningPart("so"), TextPart("It is 42."), step="step-2"),
            finished(),
        ),
        shown=(
            STEP,
            text("Let me see."),
            tool("find", "output-available", input={"q": 1}, output="42"),
            STEP,
            {"type": "reasoning", "id": "m3", "text": "so", "state": "done"},
            text("It is 42."),
        ),
    ),
    Recorded(
        name="a call that fails",
        events=(
            started(),
            step(),
            *calls("find", "{}"),
            ToolReturned(RUN, "c1", "find", "error", "broken"),
            step_end(),
            finished("max_steps"),
        ),
        shown=(STEP, tool("find", "output-error", input={}, errorText="broken")),
    ),
    Recorded(
        name="arguments that are no JSON",
        events=(started(), step(), *calls("find", "{oops"), step_end(), finished("invalid_tool_call")),
        shown=(
            STEP,
            tool("find", "output-error", input="{oops", errorText="the arguments are not JSON"),
        ),
    ),
    Recorded(
        name="an attempt that is retracted",
        events=(
            started(),
            step(),
            *says("No, I"),
            *calls("find", '{"q":1}'),
            Retracted(RUN, "step-1", 1),
            step(attempt=2),
            *says("Yes."),
            step_end(),
            finished(),
        ),
        shown=(STEP, text("Yes.")),
    ),
    Recorded(
        name="a crash in the middle of a step",
        events=(
            started(),
            step(),
            *thinks("first"),
            TextStarted(RUN, "m1"),
            TextDelta(RUN, "m1", "half a wo"),
            started(attempt=2),
            step("step-2", "m2", 2),
            *says("Whole.", message_id="m2"),
            step_end("step-2"),
            finished(),
        ),
        shown=(STEP, text("Whole.")),
    ),
    Recorded(
        name="a crash after a result that was not committed",
        events=(
            started(),
            step(),
            *says("Let me see."),
            *calls("find", '{"q":1}'),
            FOUND,
            ToolReturned(RUN, "c1", "find", "success", "41"),
            started(attempt=2),
            FOUND,
            ToolReturned(RUN, "c1", "find", "error", "interrupted"),
            step_end(),
            finished(),
        ),
        shown=(
            STEP,
            text("Let me see."),
            tool("find", "output-error", input={"q": 1}, errorText="interrupted"),
        ),
    ),
    Recorded(
        name="a client's own tool",
        events=(
            started(),
            step(),
            *calls("map", '{"at":"Bern"}', asks=True),
            asks("map", '{"at":"Bern"}', "client"),
            step_end(),
            finished("requires_approval"),
        ),
        shown=(
            STEP,
            {"type": "tool-map", "toolCallId": "c1", "state": "input-available", "input": {"at": "Bern"}},
        ),
        mode=Mode(conversation_id=CHAT, client_tools=frozenset(("map",))),
    ),
    Recorded(
        name="an approval is asked for",
        events=ASKED,
        shown=(
            STEP,
            tool("find", "approval-requested", input={"q": 1}, approval={"id": "approval-c1"}),
        ),
    ),
    Recorded(
        name="a run and the one that its approval began",
        events=(
            *ASKED,
            started(LATER),
            ToolReturned(RUN, "c1", "find", "success", "42"),
            APPROVED,
            RESULT,
            step_end(),
            step("step-2", "m4"),
            *says("Done.", message_id="m4"),
            step_end("step-2"),
            finished(run_id=LATER),
        ),
        shown=(
            STEP,
            tool(
                "find",
                "output-available",
                input={"q": 1},
                output="42",
                approval={"id": "approval-c1", "approved": True},
            ),
            STEP,
            text("Done."),
        ),
        mode=GOES_ON,
        run_id=LATER,
    ),
    Recorded(
        name="a run and the one that its denial began",
        events=(*ASKED, started(LATER), DENIED, RESULT, step_end(), finished(run_id=LATER)),
        shown=(
            STEP,
            tool(
                "find",
                "output-denied",
                input={"q": 1},
                approval={"id": "approval-c1", "approved": False, "reason": "no"},
            ),
        ),
        mode=GOES_ON,
        run_id=LATER,
    ),
    Recorded(
        name="fails",
        events=(
            started(),
            step(),
            *says("Wait"),
            Retracted(RUN, "step-1", 1),
            finished("llm_api_error", "failed", error=RunError("llm_timeout", "too late")),
        ),
        shown=(STEP,),
        errors=("too late",),
    ),
    Recorded(
        name="is cancelled",
        events=(started(), step(), *says("one two"), step_end(), finished("cancelled", "cancelled")),
        shown=(STEP, text("one two")),
    ),
    Recorded(
        name="speaks by a tool",
        events=(
            started(),
            step(),
            *calls("send_message", '{"mess', 'age":"Hel', 'lo"}'),
            ToolReturned(RUN, "c1", "send_message", "success", "None"),
            step_end(),
            finished(),
        ),
        shown=(STEP, text("Hello")),
    ),
)
