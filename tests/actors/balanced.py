"""Checks that a log is balanced, so that every dialect can show it without keeping books of its own.

Of the run that runs: each stream that starts is ended, each step that starts is finished or retracted, and
no end comes without its start; one run at a time. What is said of other runs may stand between: that they
wait, joined, ended without having run, or had their calls answered. A run that a crash cut off begins again
with a higher attempt, perhaps after another one, or ends without that; its streams are ended and its step is
retracted at once, unless the step's message was committed already. Whatever ends a run, why it stopped and
what it used is said right before its end.
"""

from collections.abc import Iterable

from msgspec import Struct

from actors.channels import Logs
from actors.events import (
    ApprovalAnswered,
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
)

Stream = tuple[str, str]  # its kind, and the id of its message or call

# What may be said of a run that does not run.
_BESIDE = (
    QueueChanged,
    RunSteered,
    RunFinished,
    MessageCommitted,
    ApprovalAnswered,
    RunStopped,
    UsageCounted,
    Compacted,
    WindowMeasured,
    BlockChanged,
    BlockCreated,
    BlockDetached,
)


class _Run(Struct):
    """The run that runs, as far as it was read."""

    run_id: str
    attempt: int
    step: str | None = None
    finished: str | None = None
    committed: bool = False
    open: list[Stream] = []


def complaints(events: Iterable[Event], *, whole: bool = True) -> list[str]:
    """Return what is out of balance. In `whole` logs every run that began has its end."""
    found: list[str] = []
    run: _Run | None = None
    cut: dict[str, int] = {}  # runs that a crash cut off, and the attempt that it was
    told: dict[str, list[Event]] = {}  # what runs that stop said since they began to
    for event in events:
        found += _stops(event, told)
        if isinstance(event, RunStarted):
            if run is not None:
                found += _cut_off(run)
                cut[run.run_id] = run.attempt
            if event.attempt <= cut.pop(event.run_id, -1):
                found.append(f"{event.run_id} began again with attempt {event.attempt}")
            run = _Run(event.run_id, event.attempt)
        elif run is None or event.run_id != run.run_id:
            if not isinstance(event, _BESIDE):
                found.append(f"{_name(event)} of {event.run_id}, which does not run")
            if isinstance(event, RunFinished):
                cut.pop(event.run_id, None)
        elif isinstance(event, RunFinished):
            found += _ends(run, event)
            run = None
        else:
            found += [f"{_name(event)}: {problem}" for problem in _within(run, event)]
    if run is not None:
        found += _cut_off(run)
    if whole:
        found += [f"{run_id} has no end" for run_id in (*cut, *([run.run_id] if run else []))]
    return found


def _stops(event: Event, told: dict[str, list[Event]]) -> list[str]:
    """Return what is missing before a run's end, and note what is said of its end."""
    run_id = event.run_id or ""
    if isinstance(event, RunStopped):
        told[run_id] = [event]
    elif isinstance(event, RunFinished):
        needed = [RunStopped(run_id, event.stop_reason), UsageCounted(run_id, event.usage)]
        if told.pop(run_id, []) != needed:
            return [f"{run_id} ended without saying why and what it used"]
    elif run_id in told and not isinstance(event, QueueChanged):
        told[run_id].append(event)
    return []


def _name(event: Event) -> str:
    return type(event).__name__


def _ends(run: _Run, event: RunFinished) -> list[str]:
    found = [f"{run.run_id} ended with open {stream}" for stream in run.open]
    if run.step is not None:
        found.append(f"{run.run_id} ended within step {run.step}")
    if (event.stop_reason == "requires_approval") != bool(event.interrupts):
        found.append(f"{run.run_id} ended for {event.stop_reason} with {len(event.interrupts)} interrupts")
    return found


def _cut_off(run: _Run) -> list[str]:
    found = [f"{run.run_id} was cut off with open {stream}" for stream in run.open]
    if run.step is not None and not run.committed:
        found.append(f"{run.run_id} was cut off, and step {run.step} was not retracted")
    return found


def _within(run: _Run, event: Event) -> list[str]:
    """Return what is wrong with an event of the run that runs, and note what it opens and closes."""
    match event:
        case StepStarted():
            found = [] if run.step is None else [f"step {run.step} is not over"]
            run.step, run.finished, run.committed = event.step_id, None, False
        case StepFinished() | Retracted():
            found = _in_step(run, event.step_id)
            found += [f"{stream} is still open" for stream in run.open]
            run.step, run.finished = None, event.step_id if isinstance(event, StepFinished) else None
        case StepTimed():
            found = [] if run.finished == event.step_id else [f"step {event.step_id} did not just finish"]
        case TextStarted() | ReasoningStarted() | ToolCallStarted():
            found = _opens(run, _stream(event))
        case TextDelta() | ReasoningDelta() | ToolCallDelta():
            found = [] if _stream(event) in run.open else [f"{_stream(event)} is not open"]
        case TextEnded() | ReasoningEnded() | ToolCallEnded():
            found = _closes(run, _stream(event))
        case ToolReturned(call_id=call_id):
            found = [f"call {call_id} is still said"] if ("call", call_id) in run.open else []
        case MessageCommitted(message=message):
            run.committed = run.committed or (message.role == "assistant" and message.step_id == run.step)
            found = []
        case _:
            found = []
    return found


def _stream(
    event: TextStarted
    | TextDelta
    | TextEnded
    | ReasoningStarted
    | ReasoningDelta
    | ReasoningEnded
    | ToolCallStarted
    | ToolCallDelta
    | ToolCallEnded,
) -> Stream:
    match event:
        case TextStarted() | TextDelta() | TextEnded():
            return "text", event.message_id
        case ReasoningStarted() | ReasoningDelta() | ReasoningEnded():
            return "reasoning", event.message_id
        case ToolCallStarted() | ToolCallDelta() | ToolCallEnded():
            return "call", event.call_id


def _in_step(run: _Run, step_id: str) -> list[str]:
    return [] if run.step == step_id else [f"step {step_id} is not open, but {run.step}"]


def _opens(run: _Run, stream: Stream) -> list[str]:
    found = [f"{stream} is open already"] if stream in run.open else []
    if run.step is None:
        found.append(f"{stream} is of no step")
    run.open.append(stream)
    return found


def _closes(run: _Run, stream: Stream) -> list[str]:
    if stream not in run.open:
        return [f"{stream} is not open"]
    run.open.remove(stream)
    return []


def imbalance(logs: Logs) -> list[str]:
    """Return what is out of balance in any log in memory; a run that has no end was left to another life."""
    found: list[str] = []
    for channel in logs.channels.values():
        events = [event for segment in channel.segments for event in segment.read(segment.start)]
        found += [f"{channel.id}: {problem}" for problem in complaints(events, whole=False)]
    return found
