"""Goes on with a step that was left open: by an answer from outside, or after a crash among its calls."""

from typing import TYPE_CHECKING

from msgspec.structs import replace

from actors import acting, approvals, entries, loop, opendraft, openstep, telling
from actors.openstep import OpenStep
from storage import steps
from storage.pool import connection
from storage.records import Message, Step

if TYPE_CHECKING:
    from actors.turn import TurnRunner

STOPPED = "interrupted: the run was stopped before this call ran"


def take(runner: "TurnRunner") -> None:
    """Take what the runner's command decides. What is answered already is not done again.

    An answer to something else is too late: the conversation waits on.
    """
    command, thread = runner.waiting.command, runner.thread
    if thread.pending is not None:
        if approvals.fits(thread.pending, command):
            runner.decisions = approvals.decisions_of(thread.pending, command)
        else:
            runner.turn = loop.park(runner.turn)
            leave_open(runner)
    elif command.approvals and not runner.inputs and not _unanswered(runner):
        runner.inputs = _keep_alive(runner)


def leave_open(runner: "TurnRunner") -> None:
    """Let the conversation wait on. What the command says is kept where no model sees it.

    It cannot stand between a call and its result.
    """
    runner.stale, runner.decisions = True, ()
    runner.inputs = [replace(m, excluded=True) for m in runner.inputs]


def _unanswered(runner: "TurnRunner") -> bool:
    """Whether the last thing in the window is a result that no model has answered yet."""
    return bool(runner.thread.entries) and runner.thread.entries[-1].role == "tool"


def _keep_alive(runner: "TurnRunner") -> list[Message]:
    return entries.inputs_of(
        runner.actor.agent,
        approvals.keep_alive(runner.waiting.command),
        runner.thread.end_position,
        run_id=runner.run_id,
        count=runner.actor.commons.counter.count,
    )


async def resume(runner: "TurnRunner", opened: OpenStep) -> None:
    """Run the calls of the open step and commit their results.

    A turn that is over before it began runs none; it closes the step, or leaves it to another answer.
    """
    assert runner.decisions or runner.thread.pending is None, "nothing runs before it is approved"
    over = runner.turn.ended
    if over is not None and over != "cancelled" and runner.thread.pending is not None:
        leave_open(runner)
        return
    runner.step = await _stored(runner, opened)
    runner.said = list(opened.messages)
    if runner.thread.pending is None:  # a step that asked was told to its end then
        telling.began(runner, runner.step, opened.messages[0].id)
    if over is None:
        runner.turn = loop.reopen(runner.turn, opened.calls)
    tools, intended = runner.toolbox.tools, runner.actor.intended
    prepared = openstep.prepare(opened, runner.decisions, tools, policy=runner.policy, intended=intended)
    runner.watch.enter("tools")
    with runner.stoppable() as scope:
        if over is None:
            await acting.run(runner, None, prepared)
    runner.watch.enter(None)
    if scope.cancelled_caught:
        runner.turn = loop.end(runner.turn, "cancelled")
    if runner.turn.ended is not None:
        prepared = [p.stopped(STOPPED) for p in prepared]
    before, now = runner.step.timing, runner.watch.timing()
    spent = replace(before, tools=before.tools + now.tools, checkpoint=before.checkpoint + now.checkpoint)
    runner.step = replace(runner.step, timing=spent)
    await runner.commit(lambda refused: opendraft.results_of(runner, prepared, refused=refused))


async def _stored(runner: "TurnRunner", opened: OpenStep) -> Step:
    """Return the row of a step: one read, at most once in a run."""
    assert opened.step_id is not None
    organization_id = runner.actor.agent.organization_id
    async with connection(runner.actor.commons.pool) as conn:
        step = await steps.find(conn, opened.step_id, organization_id=organization_id)
    assert step is not None, "a step's row is committed with its messages"
    return step
