"""Applies edits to a live agent: one fenced transaction each, under the actor's commit turn."""

import asyncio
from typing import TYPE_CHECKING

import anyio

from actors import clock, edit_writes
from actors.commands import DeleteConversation, Edit, InsertPassages, PartForks, ResetMessages
from actors.committer import OUTAGE_DEADLINE, RETRY_DELAYS
from actors.edit_writes import Outcome
from storage import checkpoints
from storage import edits as rows
from storage.checkpoints import Checkpoint
from storage.errors import UnavailableError
from storage.pool import connection
from storage.records import Block, Conversation

if TYPE_CHECKING:
    from actors.agent import Actor


async def apply(actor: "Actor", edit: Edit) -> None:
    """Apply an edit and return once it is durable. Shielded: it is never half told.

    A commit whose answer was lost is looked up before anything else; until then the actor is silent.
    What fails before COMMIT is sent fails at once.

    Raises:
        NotFoundError, ConflictError, InvalidEditError, UnavailableError, FencedError
    """
    outcome = Outcome(actor)
    actor.commons.check_lease()
    with actor.commons.hearing() as heard:
        await _commit(actor, edit, outcome)
        actor.version += 1
        _take(actor, edit, outcome)
        for block in heard:
            actor.block_is(block)


async def _commit(actor: "Actor", edit: Edit, outcome: Outcome) -> None:
    checkpoint_id = clock.new_id("ckpt")
    committing = False
    try:
        async with connection(actor.commons.pool) as conn:
            gate = rows.commit(
                conn,
                agent_id=actor.agent.id,
                fence=actor.agent.fence,
                version=actor.version,
                checkpoint_id=checkpoint_id,
            )
            async with gate as tx:
                await edit_writes.write(tx, actor, edit, outcome)
                committing = True
    except UnavailableError:
        if not committing or not await _landed(actor, checkpoint_id):
            raise


async def _landed(actor: "Actor", checkpoint_id: str) -> bool:
    """Find out whether the edit is in the database; hold the commit turn until that is known."""
    probe = Checkpoint(
        id=checkpoint_id, agent_id=actor.agent.id, fence=actor.agent.fence, version=actor.version
    )
    deadline = clock.monotonic() + OUTAGE_DEADLINE
    for delay in (*RETRY_DELAYS, *[RETRY_DELAYS[-1]] * int(OUTAGE_DEADLINE)):
        await anyio.sleep(delay)
        try:
            async with connection(actor.commons.pool) as conn:
                return (await checkpoints.landed(conn, [probe]))[0]
        except UnavailableError:
            if clock.monotonic() > deadline:
                break
    # Nobody knows what it holds: the next activation reads the truth.
    actor.population.end(actor, but=asyncio.current_task())
    return False


def _take(actor: "Actor", edit: Edit, outcome: Outcome) -> None:
    """Take the committed edit into hot state. No await: nobody sees half of it."""
    if outcome.agent is not actor.agent:
        actor.bind(outcome.agent, tuple(actor.toolbox.tools.values()))
        actor.memory_version += 1
    if outcome.tools is not None:
        actor.set_tools(outcome.tools)
    if outcome.blocks is not None:
        _take_blocks(actor, outcome.blocks)
    if outcome.conversation is not None:
        _take_conversation(actor, outcome.conversation)
    if outcome.holdings is not None:
        actor.holds(outcome.holdings)
    if isinstance(edit, PartForks):
        for thread in actor.threads.values():
            thread.part(edit.conversation_id, edit.position)
    if isinstance(edit, InsertPassages):
        actor.stored(edit.passages)
    if isinstance(edit, ResetMessages):
        actor.reset(actor.threads[edit.conversation_id], outcome.initial)
        actor.commons.wording.wrote(edit.conversation_id)
    if isinstance(edit, DeleteConversation):
        actor.commons.logs.drop(edit.conversation_id, actor.agent.id)
        actor.drop_conversation(edit.conversation_id)
    for conversation_id, (text, tokens) in outcome.system.items():
        thread = actor.threads[conversation_id]
        # A running turn keeps the prompt it began with; it is on the wire already.
        if thread.loaded and thread.turn is None:
            thread.set_system(thread.system_id, text, tokens)
            thread.compiled_for = actor.memory_version
        thread.measured = False


def _take_blocks(actor: "Actor", blocks: tuple[Block, ...]) -> None:
    """Hold these blocks from now on, and tell those that hold them, too, which of them changed."""
    before = {b.id: b.version for b in actor.blocks.values()}
    for block in blocks:
        if before.get(block.id, block.version) < block.version:
            actor.block_is(block)
            actor.commons.spread(block, but=actor)
    actor.hold_blocks(blocks)


def _take_conversation(actor: "Actor", conversation: Conversation) -> None:
    thread = actor.threads.get(conversation.id)
    if thread is None:
        actor.add_conversation(conversation)
    else:
        thread.conversation = conversation
