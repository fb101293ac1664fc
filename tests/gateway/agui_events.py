"""Events for tests of AG-UI: one of each kind, and runs as an agent tells them."""

from datetime import UTC, datetime

from actors import telling
from actors.breakdown import Breakdown
from actors.commands import InputMessage
from actors.events import (
    ApprovalAnswered,
    ApprovalRequested,
    BlockChanged,
    BlockCreated,
    BlockDetached,
    Compacted,
    Event,
    MessageCommitted,
    QueueChanged,
    ReasoningDelta,
    ReasoningEnded,
    ReasoningStarted,
    Retracted,
    RunFinished,
    RunStarted,
    RunSteered,
    RunStopped,
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
    UsageCounted,
    WindowMeasured,
    WindowMoved,
)
from actors.summary import CompactionStats
from storage.pending_records import PendingCall
from storage.records import (
    DEFAULT_ORGANIZATION,
    ApprovalPart,
    ImagePart,
    Message,
    Part,
    ReasoningPart,
    Role,
    RunError,
    TextPart,
    Timing,
    ToolCallPart,
    ToolReturnPart,
    Usage,
)

AT = datetime(2026, 1, 1, tzinfo=UTC)
RUN, STEP, SAID = "run-1", "step-1", "message-1"
ASKS = PendingCall(id="c1", name="pay", arguments='{"sum": 3}', kind="approval")
RUNS = PendingCall(id="c2", name="weather", arguments="{}", kind="client")
STATS = CompactionStats(
    trigger="context_window",
    context_tokens_before=900,
    context_tokens_after=100,
    context_window=1000,
    messages_count_before=20,
    messages_count_after=4,
)
USAGE = Usage(10, 5, 15, steps=1, context=10)
TOKENS = Breakdown(
    system=500,
    core_memory=60,
    tool_usage_rules=0,
    directories=0,
    external_memory_summary=40,
    summary_memory=30,
    functions_definitions=300,
    messages=70,
)


def hello(text: str = "Hello", otid: str = "m1") -> InputMessage:
    """Return what a user sent."""
    return InputMessage(role="user", content=(TextPart(text),), otid=otid)


def message(role: Role, *parts: Part, position: int = 1, **more: str) -> Message:
    """Return a stored message of the run."""
    fields = {"id": SAID, "run_id": RUN, "step_id": STEP} | more
    return Message(
        organization_id=DEFAULT_ORGANIZATION,
        agent_id="agent-1",
        conversation_id="conv-1",
        position=position,
        role=role,
        content=parts,
        created_at=AT,
        **fields,
    )


ANSWER = message(
    "assistant", ReasoningPart("Hm."), TextPart("Hi"), ToolCallPart("c0", "look", "{}"), position=2
)
RESULT = message("tool", ToolReturnPart("c0", "look", "success", "seen"), position=3, id="message-2")

EVERY: tuple[Event, ...] = (
    RunStarted(RUN, "conv-1", 1, (hello(),)),
    RunSteered("run-2", RUN, (hello("stop", "m2"),)),
    RunFinished(RUN, "completed", "end_turn", USAGE),
    RunFinished(RUN, "cancelled", "cancelled", USAGE),
    RunFinished(RUN, "failed", "llm_api_error", USAGE, RunError("llm_error", "the model is down")),
    RunFinished(RUN, "completed", "requires_approval", USAGE, None, (ASKS, RUNS), AT),
    RunFinished(RUN, "completed", "requires_approval", USAGE, None, (RUNS,), AT),
    RunStopped(RUN, "max_steps"),
    UsageCounted(RUN, USAGE),
    QueueChanged("run-2", "conv-1", "queued", 1, 1),
    StepStarted(RUN, STEP, 1, "openai/gpt", SAID, AT),
    StepFinished(RUN, STEP, USAGE, Timing(queue=1)),
    StepTimed(RUN, STEP, Timing(queue=1, checkpoint=5), USAGE),
    Retracted(RUN, STEP, 1),
    TextStarted(RUN, SAID),
    TextDelta(RUN, SAID, 'a "quoted"\n\ntext\u2028é'),
    TextEnded(RUN, SAID),
    ReasoningStarted(RUN, SAID),
    ReasoningDelta(RUN, SAID, "because"),
    ReasoningEnded(RUN, SAID),
    ToolCallStarted(RUN, SAID, "c1", "pay", 0, asks=True),
    ToolCallDelta(RUN, SAID, "c1", '{"sum"'),
    ToolCallEnded(RUN, SAID, "c1"),
    ToolReturned(RUN, "c1", "pay", "error", "no money"),
    ToolReturned(
        RUN, "c2", "look", "success", "", (ImagePart({"type": "url", "url": "https://x.example/a.png"}),)
    ),
    ApprovalRequested(RUN, SAID, STEP, (ASKS,), AT),
    ApprovalAnswered(
        RUN, SAID, (ApprovalPart("c1", approve=True), ToolReturnPart("c2", "weather", "success", "sun"))
    ),
    MessageCommitted(RUN, ANSWER),
    MessageCommitted(RUN, RESULT),
    MessageCommitted(
        RUN, message("user", TextPart("see"), ImagePart({"type": "url", "url": "https://x.example/a.png"}))
    ),
    WindowMoved(RUN, 5, 3),
    Compacted(RUN, "message-9", AT, STATS, error=RunError("llm_error", "no summary")),
    WindowMeasured(RUN, 32_000, TOKENS, 7, 2, 40),
    WindowMeasured(None, 0, TOKENS, 7, 2, 40),
    BlockChanged(RUN, "block-1", "human", "likes tea", 3, 5000, before="likes milk"),
    BlockCreated(None, "block-2", "notes/today", "", "what happens", 0, 5000),
    BlockDetached(RUN, "block-2", "notes/today"),
)


def run(*said: Event, messages: tuple[InputMessage, ...] = (hello(),)) -> list[Event]:
    """Return a run that says something and ends."""
    ended = telling.ending(RunFinished(RUN, "completed", "end_turn", USAGE))
    return [RunStarted(RUN, "conv-1", 1, messages), *said, *ended]


def step(*said: Event, step_id: str = STEP, message_id: str = SAID) -> list[Event]:
    """Return a step that says something."""
    return [
        StepStarted(RUN, step_id, 1, "openai/gpt", message_id, AT),
        *said,
        StepFinished(RUN, step_id, USAGE, Timing()),
    ]


def text(words: str, message_id: str = SAID) -> list[Event]:
    """Return a whole text."""
    deltas = [TextDelta(RUN, message_id, word) for word in words.split()]
    return [TextStarted(RUN, message_id), *deltas, TextEnded(RUN, message_id)]
