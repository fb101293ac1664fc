"""Reads an agent's state: from hot memory where it is alive, else from what is stored."""

from msgspec import Struct

from actors import measuring, status
from actors.agent import Actor
from actors.breakdown import Breakdown, SystemTokens, system_tokens
from actors.host import Host
from actors.thread import Thread
from gateway import context_windows
from gateway.feeds import agent_state
from gateway.feeds.agent_state import Document
from storage import activation, conversations
from storage.pool import connection


class Signature(Struct, frozen=True, gc=False):
    """What of a live agent is cheap to compare: where it is the same, most likely nothing changed."""

    memory: int
    status: str
    queue: int
    tokens: int
    settings: int


def signature(actor: Actor) -> Signature:
    """Return the signature of a live agent."""
    figures = status.figures(actor)
    thread = actor.threads.get(actor.agent.id)
    tokens = 0 if thread is None else thread.tokens
    return Signature(actor.memory_version, figures.status, figures.queued, tokens, id(actor.agent))


class HotReader:
    """Reads the state of one live agent; the parts of its system message are counted once per message."""

    __slots__ = ("_count", "_counted", "_wire")

    def __init__(self, host: Host) -> None:
        self._count = host.counter.count
        self._wire: bytes | None = None
        self._counted: SystemTokens | None = None

    def read(self, actor: Actor) -> Document | None:
        """Return the state; None where the agent's own conversation is not in memory."""
        thread = actor.threads.get(actor.agent.id)
        if thread is None or not thread.loaded:
            return None
        return _of_actor(actor, self._breakdown(actor, thread), window=measuring.window_of(actor, thread))

    def read_memory(self, actor: Actor, before: Document) -> Document:
        """Return the state with the context as it was `before`, which only the conversation itself tells."""
        return {**_of_actor(actor, None, window=None), "context": before["context"]}

    def _breakdown(self, actor: Actor, thread: Thread) -> Breakdown:
        if self._counted is None or thread.system_wire is not self._wire:
            self._counted = system_tokens(thread.system_text, self._count)
            self._wire = thread.system_wire
        return measuring.breakdown(actor, thread, self._counted)


def _of_actor(actor: Actor, breakdown: Breakdown | None, *, window: int | None) -> Document:
    figures = status.figures(actor)
    return agent_state.document(
        actor.block_list(), breakdown, window=window, status=figures.status, queue=figures.queued
    )


async def read_stored(host: Host, agent_id: str, *, organization_id: str) -> Document:
    """Return the state of an agent as it is stored. What only a live one has is read from there.

    Raises:
        NotFoundError: There is no such agent.
        UnavailableError
    """
    async with connection(host.pool) as conn:
        own = await conversations.get(conn, agent_id, organization_id=organization_id)
        blocks = await activation.blocks_of(conn, agent_id)
    overview = await context_windows.measure(host, own)
    actor = host.alive(agent_id)
    figures = None if actor is None else status.figures(actor)
    resting = "waiting_for_approval" if host.is_asking(agent_id) else "idle"
    return agent_state.document(
        blocks if actor is None else actor.block_list(),
        agent_state.breakdown_of(overview),
        window=overview.context_window_size_max or None,
        status=resting if figures is None else figures.status,
        queue=0 if figures is None else figures.queued,
    )
