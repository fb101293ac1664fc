"""Runs the calls of a step that must be awaited; edits of memory wait for the commit."""

from typing import TYPE_CHECKING

import anyio

from actors import opendraft, stepcommit, telling, toolrun
from actors.answer import Answer
from actors.toolrun import Prepared
from actors.tools.outside import Invocation

if TYPE_CHECKING:
    from actors.turn import TurnRunner


async def run(runner: "TurnRunner", answer: Answer | None, prepared: list[Prepared]) -> None:
    """Run the calls in the model's order and put each one's result into `prepared`.

    Before anything happens outside of this system the intent is durable, so that a crash never leads to
    a silent second effect. Cancelled in the middle, `prepared` says how far it came.

    Raises:
        FencedError, DrainingError, UnavailableError
    """
    if any(call.to_intend for call in prepared):
        await _intend(runner, answer, prepared)
    for place, call in enumerate(prepared):
        if call.reads:
            prepared[place] = await toolrun.read(call, runner.actor.reader(runner.run_id))
        elif call.runs:
            runner.actor.commons.check_lease()
            prepared[place] = call.begun()
            runs = runner.actor.commons.runs
            prepared[place] = await toolrun.run(call, _invocation(runner, call), ours=runs)
        else:
            continue
        if (result := prepared[place].result) is not None:
            runner.channel.publish(*telling.returned(runner, (result,)))


def _invocation(runner: "TurnRunner", call: Prepared) -> Invocation:
    assert runner.step is not None
    return Invocation(
        agent_id=runner.actor.agent.id,
        run_id=runner.run_id,
        step_id=runner.step.id,
        call_id=call.call.id,
        arguments=call.arguments,
    )


async def _intend(runner: "TurnRunner", answer: Answer | None, prepared: list[Prepared]) -> None:
    """Commit what the model said and which calls are about to be run. Shielded like every commit."""
    interrupted = runner.watch.enter("checkpoint")
    with anyio.CancelScope(shield=True):
        async with runner.actor.commit_turn:
            draft = await stepcommit.commit(
                runner.actor, runner.thread, lambda _: opendraft.intent_of(runner, answer, prepared)
            )
            opendraft.take_intent(runner, draft)
    runner.watch.enter(interrupted)
