"""What a step changes: drafted before its commit, taken into hot state and told after it."""

from typing import TYPE_CHECKING

from msgspec.structs import replace

from actors import clock, loop
from actors.answer import Answer
from actors.draft import Draft
from actors.entries import tokens_of
from actors.events import Event, MessageCommitted, RunFinished, RunSteered, StepFinished
from actors.loop import Finish
from actors.toolrun import Prepared
from storage.checkpoints import InboxUpdate, RunUpdate
from storage.records import Message, Part, RunStatus, StepStatus, StopReason, Usage

if TYPE_CHECKING:
    from actors.turn import TurnRunner


def status_of(stop_reason: StopReason) -> RunStatus:
    """Return the status of a run that ended for this reason."""
    match stop_reason:
        case "end_turn" | "max_steps" | "tool_rule" | "requires_approval":
            return "completed"
        case "cancelled":
            return "cancelled"
        case _:
            return "failed"


def draft_of(
    runner: "TurnRunner", answer: Answer | None, prepared: list[Prepared], status: StepStatus
) -> Draft:
    """Return what this step changes, against the blocks as they are committed now. Pure but for ids."""
    actor, thread = runner.actor, runner.thread
    draft = Draft(actor.blocks)
    results = [draft.settle(call) for call in prepared]
    # A queued command that was cancelled meanwhile may have taken the place these had at first.
    draft.messages += [replace(m, position=thread.end_position + i) for i, m in enumerate(runner.inputs)]
    position = thread.end_position + len(runner.inputs)
    if answer is not None and (parts := answer.parts()):
        _add(
            runner,
            draft,
            "assistant",
            parts,
            position,
            answer.message_id,
            ended=runner.turn.ended is not None,
        )
        position += 1
    if results:
        _add(runner, draft, "tool", tuple(results), position, clock.new_id("message"), ended=False)
        position += 1
    turn = runner.turn
    if turn.calls:
        turn = loop.after_tools(turn, invalid=sum(p.invalid for p in prepared))
    if turn.ended is None:
        for waiting in thread.steering:
            draft.joined.append(waiting)
            fresh = runner.inputs_of(waiting, position)
            draft.messages += fresh
            position += len(fresh)
            turn = loop.after_input(turn)
    draft.turn = turn
    action = loop.next_action(turn)
    draft.stop_reason = action.stop_reason if isinstance(action, Finish) else None
    draft.rewrites += runner.rewrites
    _account(runner, draft, answer, status)
    return draft


def _add(
    runner: "TurnRunner",
    draft: Draft,
    role: str,
    parts: tuple[Part, ...],
    position: int,
    message_id: str,
    *,
    ended: bool,
) -> None:
    agent = runner.actor.agent
    assert runner.step is not None
    draft.messages.append(
        Message(
            id=message_id,
            organization_id=agent.organization_id,
            agent_id=agent.id,
            conversation_id=runner.thread.id,
            position=position,
            role="assistant" if role == "assistant" else "tool",
            content=parts,
            created_at=runner.step.created_at if role == "assistant" else clock.now(),
            run_id=runner.run_id,
            step_id=runner.step.id,
            tokens=tokens_of(parts, runner.actor.commons.counter.count),
            interrupted=ended,
        )
    )


def _account(runner: "TurnRunner", draft: Draft, answer: Answer | None, status: StepStatus) -> None:
    """Add usage, the step's row, and where its runs and commands stand."""
    usage = runner.usage
    if answer is not None and runner.step is not None:
        reported = answer.usage or _estimate(runner, draft)
        usage = usage + replace(reported, steps=1, context=reported.prompt)
        draft.steps.append(
            replace(runner.step, status=status, usage=reported, stop_reason=draft.stop_reason or "end_turn")
        )
    draft.usage = usage
    runs = [runner.waiting, *runner.joined, *draft.joined]
    if draft.stop_reason is None:
        draft.runs += [
            RunUpdate(id=w.run_id, status="running", usage=usage, ttft_ns=runner.ttft_ns) for w in runs
        ]
        draft.inbox += [InboxUpdate(seq=w.seq, state="applied") for w in runs]
        return
    now = clock.now()
    spent = int((clock.monotonic() - runner.waiting.since) * 1e9)
    draft.runs += [
        RunUpdate(
            id=w.run_id,
            status=status_of(draft.stop_reason),
            usage=usage,
            stop_reason=draft.stop_reason,
            error=runner.error,
            completed_at=now,
            ttft_ns=runner.ttft_ns,
            total_duration_ns=spent,
        )
        for w in runs
    ]
    draft.inbox += [InboxUpdate(seq=w.seq, state="done") for w in runs]
    draft.duration_ms = spent // 1_000_000


def _estimate(runner: "TurnRunner", draft: Draft) -> Usage:
    """Return our own count where the provider reported none."""
    prompt = runner.thread.system_tokens + runner.actor.toolbox.tokens + runner.thread.tokens
    prompt += sum(m.tokens for m in runner.inputs)
    completion = sum(m.tokens for m in draft.messages if m.role == "assistant" and m.step_id is not None)
    return Usage(prompt=prompt, completion=completion, total=prompt + completion, estimated=True)


def apply(runner: "TurnRunner", draft: Draft, commit_ns: int) -> None:
    """Take the committed step into hot state and publish it. No await: nobody sees half of it."""
    thread, actor = runner.thread, runner.actor
    if runner.answer is not None and runner.answer.usage is not None and runner.step is not None:
        ours = (
            thread.system_tokens + actor.toolbox.tokens + thread.tokens + sum(m.tokens for m in runner.inputs)
        )
        actor.calibration = actor.calibration.observe(reported=runner.answer.usage.prompt, ours=ours)
    thread.append(draft.messages)
    for waiting in draft.joined:
        thread.steering.remove(waiting)
        runner.joined.append(waiting)
    actor.take_blocks(draft.changed, run_id=runner.run_id, but=runner.channel)
    sent = {m.id for m in runner.inputs}
    runner.unproven = [m for m in draft.messages if m.id not in sent]
    runner.inputs, runner.rewrites = [], []
    runner.turn, runner.usage = draft.turn, draft.usage
    actor.counted -= {w.seq for w in (runner.waiting, *runner.joined)}
    events: list[Event] = [
        MessageCommitted(runner.run_id, m) for m in draft.messages if m.run_id == runner.run_id
    ]
    events += draft.events(runner.run_id)
    events += [
        StepFinished(runner.run_id, s.id, s.usage, replace(s.timing, checkpoint=commit_ns))
        for s in draft.steps
    ]
    for waiting in draft.joined:
        events.append(RunSteered(waiting.run_id, runner.run_id, waiting.command.messages))
        events += [MessageCommitted(runner.run_id, m) for m in draft.messages if m.run_id == waiting.run_id]
    if draft.stop_reason is not None:
        runner.finished = True
        status = status_of(draft.stop_reason)
        events.append(RunFinished(runner.run_id, status, draft.stop_reason, runner.usage, runner.error))
        for waiting in (runner.waiting, *runner.joined):
            actor.commons.load.finish(waiting.run_id)
            actor.commons.finished_run(waiting, status)
    runner.answer = None
    runner.step = None
    runner.channel.publish(*events)
