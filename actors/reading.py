"""Reads conversations into memory: a window as it is stored, encoded for the model that it is shown to."""

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from msgspec.structs import replace

from actors import offers
from actors.errors import UnknownModelError
from actors.llm.dialects import Dialect
from actors.loop import Turn
from actors.rules import Ran
from actors.thread import Thread
from storage import activation, conversations
from storage import messages as stored_messages
from storage.pool import connection
from storage.records import Message

if TYPE_CHECKING:
    from actors.agent import Actor


async def load(actor: "Actor", thread: Thread, *, ending: bool = False) -> None:
    """Read a conversation's window: the one read that its first turn costs.

    A step that is not answered stays open, and so does one whose calls may have run, where its run goes
    on or is `ending`. Any other call without a result is mended in memory.
    """
    async with connection(actor.commons.commit_pool) as conn:
        messages = await activation.window(conn, thread.conversation)
    goes_on = ending or any(w.applied for w in thread.mailbox)
    steps = {call.step_id for call in actor.intended.values()} if goes_on else set[str]()
    if thread.pending is not None:
        steps.add(thread.pending.step_id)
    with suppress(UnknownModelError):  # its next turn says so
        model = actor.commons.catalog.resolve(thread.conversation.model or actor.agent.settings.model)
        window_tokens = actor.agent.settings.context_window_tokens or model.ref.context_window_tokens
        thread.bound_returns(window_tokens)
    for _ in thread.loading(messages, open_steps=steps):
        await asyncio.sleep(0)
    if thread.pending is not None:
        thread.ran = await _ran(actor, thread.pending.run_id, thread, messages)
    for waiting in thread.mailbox:
        if waiting.applied:
            actor.recovered[waiting.run_id] = await _said(actor, waiting.run_id, thread, messages)
            if waiting.command.approvals:
                before = offers.asked_by(messages, waiting.run_id)
                thread.ran = await _ran(actor, before, thread, messages)


async def deleted(actor: "Actor", conversation_id: str) -> Thread:
    """Return a conversation that was deleted, for what came to it too late: as one, whoever asks.

    Raises:
        NotFoundError: The agent never had it.
    """
    if (thread := actor.deleted.get(conversation_id)) is not None:
        return thread
    async with connection(actor.commons.commit_pool) as conn:
        found = await conversations.get_deleted(conn, conversation_id, agent_id=actor.agent.id)
    return actor.deleted.setdefault(conversation_id, Thread(found))


async def _ran(actor: "Actor", run_id: str | None, thread: Thread, window: list[Message]) -> Ran:
    """Return what tool rules look at after this run and those whose requests it and they answered."""
    chain: list[str] = []
    while run_id is not None and run_id not in chain and actor.policy.binds:
        chain.append(run_id)
        run_id = offers.asked_by(window, run_id)
    turn = Turn(max_steps=1)
    for each in reversed(chain):
        turn = offers.recovered(turn, actor.policy, await _said(actor, each, thread, window))
    return turn.ran


async def _said(actor: "Actor", run_id: str, thread: Thread, window: list[Message]) -> list[Message]:
    """Return what a run has committed. Tool rules look at all of it, also where the window moved on."""
    if actor.policy.binds and thread.conversation.from_position > 1:
        async with connection(actor.commons.commit_pool) as conn:
            return await stored_messages.whole_run(conn, run_id)
    return [m for m in window if m.run_id == run_id]


async def recode(actor: "Actor", thread: Thread, dialect: Dialect) -> None:
    """Encode a conversation's window in another dialect: the one read that changing it costs."""
    thread.recode(await stored_window(actor, thread), dialect)


async def stored_window(actor: "Actor", thread: Thread) -> list[Message]:
    """Read what models see of a conversation, as it is stored: the system message comes first.

    What a turn under way withdrew is excluded, whether or not it has committed that already.
    """
    held = replace(
        thread.conversation,
        from_position=thread.from_position,
        end_position=thread.end_position,
        summary_position=0 if thread.summary is None else thread.summary.position,
    )
    async with connection(actor.commons.commit_pool) as conn:
        messages = await activation.window(conn, held)
    withdrawn = {} if thread.turn is None else thread.turn.waiting.command.withdraws
    return [replace(m, excluded=True) if m.id in withdrawn else m for m in messages]
