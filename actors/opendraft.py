"""Drafts the commits around an open step: what it means to do, and the results that close it."""

from typing import TYPE_CHECKING

from msgspec.structs import replace

from actors import clock, openstep, stepdraft
from actors.answer import Answer
from actors.draft import Draft
from actors.events import Event, MessageCommitted
from actors.openstep import OpenStep
from actors.toolrun import Prepared
from storage.checkpoints import RunUpdate
from storage.records import ToolCall

if TYPE_CHECKING:
    from actors.turn import TurnRunner


def intent_of(runner: "TurnRunner", answer: Answer | None, prepared: list[Prepared]) -> Draft:
    """Return the commit that goes before tools with outside effects: what the model said, and their calls.

    Of an answer nothing but the calls is stored: what it answers stays pending until the results are.
    """
    assert runner.step is not None
    draft = stepdraft.new_draft(runner, frozenset())
    draft.turn = runner.turn
    if answer is not None and not runner.said:
        end = runner.thread.end_position
        draft.messages += [replace(m, position=end + i) for i, m in enumerate(runner.inputs)]
        stepdraft.say(runner, draft, answer, end + len(runner.inputs))
        draft.opened = OpenStep(tuple(m for m in draft.messages if m.step_id is not None))
        draft.rewrites += runner.rewrites
        stepdraft.account(runner, draft, answer, "pending")
    else:
        draft.usage = runner.usage
        draft.runs.append(RunUpdate(id=runner.run_id, status="running", usage=runner.usage))
    draft.tool_calls += [
        ToolCall(
            agent_id=runner.actor.agent.id,
            step_id=runner.step.id,
            call_id=p.call.id,
            name=p.call.name,
            state="intended",
        )
        for p in prepared
        if p.to_intend
    ]
    return draft


def take_intent(runner: "TurnRunner", draft: Draft) -> None:
    """Take a committed intent into hot state and tell what is durable. No await."""
    thread = runner.thread
    runner.actor.intended |= {call.call_id: call for call in draft.tool_calls}
    runner.usage = draft.usage
    if draft.opened is None:
        return
    thread.open = draft.opened
    thread.append(draft.messages)
    runner.said = list(draft.opened.messages)
    runner.reported = draft.steps[0].usage
    runner.inputs, runner.rewrites = [], []
    runner.actor.counted.discard_all({w.seq for w in (runner.waiting, *runner.joined)})
    events: list[Event] = [MessageCommitted(runner.run_id, m) for m in draft.messages]
    runner.channel.publish(*events)


def results_of(runner: "TurnRunner", prepared: list[Prepared], *, refused: frozenset[str]) -> Draft:
    """Return the commit that closes a step which an earlier turn or life left open.

    The answer, the results, and only then what the same request says besides.
    """
    assert runner.step is not None
    thread, draft = runner.thread, stepdraft.new_draft(runner, refused)
    results = tuple(draft.settle(call) for call in prepared)
    position = thread.end_position
    if runner.decisions:
        stepdraft.add(runner, draft, "approval", runner.decisions, position, clock.new_id("message"))
        otid = runner.waiting.command.approvals_otid
        draft.messages[-1] = replace(draft.messages[-1], otid=otid, created_at=clock.now())
        position += 1
    stepdraft.add(runner, draft, "tool", results, position, clock.new_id("message"))
    position += 1
    draft.messages += [replace(m, position=position + i) for i, m in enumerate(runner.inputs)]
    close(runner, draft, prepared)
    stepdraft.conclude(runner, draft, None, prepared, position + len(runner.inputs), "success")
    if thread.pending is None:  # of an answer the step was accounted for when it asked
        stop_reason = draft.stop_reason or "end_turn"
        draft.steps.append(replace(runner.step, status="success", stop_reason=stop_reason))
    return draft


def close(runner: "TurnRunner", draft: Draft, prepared: list[Prepared]) -> None:
    """Add how the intended calls of a step ended."""
    if runner.step is not None and runner.actor.intended:
        draft.tool_calls += openstep.records(
            prepared,
            agent_id=runner.actor.agent.id,
            step_id=runner.step.id,
            intended=runner.actor.intended,
        )
