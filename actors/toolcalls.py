"""Runs one of an agent's tools because a client asks for it: between two turns, and told by no message."""

from functools import partial
from typing import TYPE_CHECKING

import anyio
import msgspec

from actors import clock, stepcommit, toolrun
from actors.draft import Draft
from actors.memory_edits import Birth
from actors.stepdraft import new_block
from actors.thread import Thread
from actors.toolrun import Prepared
from actors.tools.outside import Invocation
from storage.errors import NotFoundError
from storage.records import JsonObject, ToolCallPart, ToolReturnPart

if TYPE_CHECKING:
    from actors.agent import Actor


async def call(actor: "Actor", thread: Thread, name: str, arguments: JsonObject) -> ToolReturnPart:
    """Run the tool with these arguments and return its result; what it does to memory is committed then.

    Called between turns (`Actor.operate`). A call whose effects are outside of this system is not repeated
    after a crash: whoever asked is told nothing then, and may ask again.

    Raises:
        NotFoundError: The agent has no such tool.
        FencedError, UnavailableError
    """
    if name not in actor.toolbox.tools:
        raise NotFoundError("tool", name)
    asked = ToolCallPart(clock.new_id("call"), name, msgspec.json.encode(arguments).decode())
    [prepared] = toolrun.prepare([asked], actor.toolbox.tools)
    prepared = await _awaited(actor, prepared)
    if prepared.result is not None and prepared.passage is None:
        return prepared.result
    async with actor.commit_turn:
        return await _commit(actor, thread, prepared)


async def _awaited(actor: "Actor", prepared: Prepared) -> Prepared:
    """Return the call with its result, where that is known before a commit. It belongs to no run."""
    asked = clock.new_id("run")
    if prepared.reads:
        return await toolrun.read(prepared, actor.reader(asked))
    if not prepared.runs:
        return prepared
    actor.commons.check_lease()
    invocation = Invocation(
        agent_id=actor.agent.id,
        run_id=asked,
        step_id=clock.new_id("step"),
        call_id=prepared.call.id,
        arguments=prepared.arguments,
    )
    return await toolrun.run(prepared, invocation, ours=actor.commons.runs)


async def _commit(actor: "Actor", thread: Thread, prepared: Prepared) -> ToolReturnPart:
    results: list[ToolReturnPart] = []

    def drafted(refused: frozenset[str]) -> Draft:
        draft = Draft(actor.blocks, Birth(partial(new_block, actor.agent), refused))
        results[:] = [draft.settle(prepared)]
        return draft

    if not drafted(frozenset()).edits_memory:
        return results[0]
    with anyio.CancelScope(shield=True):
        draft = await stepcommit.commit(actor, thread, drafted)
        actor.take_memory(draft, run_id=None, but=None)
    return results[0]
