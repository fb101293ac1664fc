"""What a turn says of its steps on the conversation's log: each one that begins is also ended there."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from actors import clock
from actors.draft import Draft
from actors.events import (
    Event,
    MessageCommitted,
    Retracted,
    RunFinished,
    RunStopped,
    StepFinished,
    StepStarted,
    StepTimed,
    ToolReturned,
    UsageCounted,
)
from actors.stopwatch import Stopwatch
from storage.records import RunStatus, Step, StopReason, ToolReturnPart

if TYPE_CHECKING:
    from actors.turn import TurnRunner


def began(runner: "TurnRunner", step: Step, message_id: str) -> None:
    """Say that a step begins, whose assistant message has this id, and begin to take its time."""
    runner.channel.publish(
        StepStarted(runner.run_id, step.id, runner.waiting.attempt, step.model, message_id, step.created_at)
    )
    runner.pulse.begin(clock.monotonic(), runner.channel.next)
    first = runner.turn.steps_taken == runner.waiting.usage.steps
    runner.watch = _watch(runner) if first else Stopwatch()
    runner.told.clear()


def _watch(runner: "TurnRunner") -> Stopwatch:
    """Return the watch of a run's first step: what was before it is known already."""
    waiting = runner.waiting
    claim = max(0.0, runner.thread.woken - waiting.since)
    queued = max(0.0, runner.started - waiting.since - claim)
    return Stopwatch(
        accept_ns=int(waiting.accept * 1e9), claim_ns=int(claim * 1e9), queue_ns=int(queued * 1e9)
    )


def returned(runner: "TurnRunner", results: Sequence[ToolReturnPart]) -> list[Event]:
    """Return the ends of calls of the running step that were not told before."""
    fresh = [part for part in results if part.tool_call_id not in runner.told]
    runner.told |= {part.tool_call_id for part in fresh}
    return [
        ToolReturned(runner.run_id, part.tool_call_id, part.name, part.status, part.text, part.shown)
        for part in fresh
    ]


def given_up(runner: "TurnRunner", step: Step) -> list[Event]:
    """Return the end of a step that this attempt gives up: of its streams, and of the step itself.

    What it showed will not be in the history, unless its message is committed already: then the next
    attempt goes on with the same step.
    """
    events = [] if runner.answer is None else runner.answer.close()
    if not runner.said:
        events.append(Retracted(runner.run_id, step.id, runner.waiting.attempt))
    return events


def committed(runner: "TurnRunner", draft: Draft) -> list[Event]:
    """Return the step's own messages as events, before each one the ends of the calls it holds."""
    events: list[Event] = []
    for message in draft.messages:
        if message.run_id != runner.run_id:
            continue
        if message.role == "tool":
            parts = [part for part in message.content if isinstance(part, ToolReturnPart)]
            events += returned(runner, parts)
        events.append(MessageCommitted(runner.run_id, message))
    return events


def durable(runner: "TurnRunner", step: Step, commit_ns: int) -> list[Event]:
    """Return the end of a step whose checkpoint took so long, and where its time went."""
    timing = replace(
        step.timing,
        checkpoint=step.timing.checkpoint + commit_ns,
        delivery=runner.watch.delivery_ns,  # where all of the answer came at once, only now
    )
    runner.actor.latest = timing
    return [
        StepFinished(runner.run_id, step.id, step.usage, timing),
        StepTimed(runner.run_id, step.id, timing, step.usage),
    ]


def ending(finished: RunFinished) -> tuple[Event, Event, Event]:
    """Return what is said at the end of a run, in one publish: why it stops, what it used, and its end."""
    return (
        RunStopped(finished.run_id, finished.stop_reason),
        UsageCounted(finished.run_id, finished.usage),
        finished,
    )


def finished(runner: "TurnRunner", status: RunStatus, stop_reason: StopReason) -> RunFinished:
    """Return the end of the run, with the calls that the conversation waits for where it ended for them."""
    asking = runner.thread.pending if stop_reason == "requires_approval" else None
    return RunFinished(
        runner.run_id,
        status,
        stop_reason,
        runner.usage,
        runner.error,
        () if asking is None else asking.calls,
        None if asking is None else asking.expires_at,
    )
