"""Threads of front ends that name a conversation themselves: AG-UI's thread ids and AI SDK's chat ids."""

import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256

from actors.commands import CreateConversation, InputMessage
from gateway.app import Context
from gateway.decode import UUID4
from gateway.errors import InvalidRequestError
from storage import conversations, runs
from storage import standing as stored_standing
from storage.errors import ConflictError, NotFoundError
from storage.keyset import Page
from storage.pool import connection
from storage.records import Conversation, Run
from storage.standing import Standing

MAX_THREAD_ID_CHARS = 256
DEFAULT = "default"

_CONVERSATION = re.compile(f"conv-{UUID4}")


def conversation_id(agent_id: str, thread_id: str) -> str:
    """Return the conversation that a front end's thread of an agent is kept in.

    `default` and the agent's id are the agent's own conversation, a conversation's id is itself; any other
    text stands for a conversation whose id is derived from it, the same one in every process.

    Raises:
        InvalidRequestError: The id is empty or too long.
    """
    if not 0 < len(thread_id) <= MAX_THREAD_ID_CHARS:
        raise InvalidRequestError(f"a thread id has 1 to {MAX_THREAD_ID_CHARS} characters")
    if thread_id in (DEFAULT, agent_id):
        return agent_id
    if _CONVERSATION.fullmatch(thread_id) is not None:
        return thread_id
    digest = sha256(f"{agent_id}\n{thread_id}".encode()).digest()
    return f"conv-{uuid.UUID(bytes=digest[:16], version=4)}"


async def find(ctx: Context, agent_id: str, thread_id: str) -> Conversation | None:
    """Return the conversation of a thread, `None` where nothing was said in it yet.

    Raises:
        NotFoundError: There is no such agent, the caller may not address it, or the thread's id is that of
            a conversation which is not there or is another agent's.
    """
    ctx.caller.require_agent(agent_id)
    wanted = conversation_id(agent_id, thread_id)
    async with connection(ctx.host.pool) as conn:
        try:
            found = await conversations.get(conn, wanted, organization_id=ctx.caller.organization_id)
        except NotFoundError:
            if wanted in (agent_id, thread_id):
                raise
            await conversations.get(conn, agent_id, organization_id=ctx.caller.organization_id)
            return None
    if found.agent_id != agent_id:
        raise NotFoundError("conversation", wanted)
    return found


async def open_(ctx: Context, agent_id: str, thread_id: str) -> Conversation:
    """Return the conversation of a thread, opened where this is the first that is said in it.

    Raises:
        NotFoundError: As `find`; or the conversation was closed.
        As `AgentRef.edit`.
    """
    found = await find(ctx, agent_id, thread_id)
    if found is not None:
        return found
    wanted = conversation_id(agent_id, thread_id)
    with suppress(ConflictError):  # somebody else opened it meanwhile, or it was closed: the next look tells
        await ctx.host.ref(agent_id).edit(CreateConversation(conversation_id=wanted))
    async with connection(ctx.host.pool) as conn:
        return await conversations.get(conn, wanted, organization_id=ctx.caller.organization_id)


async def hear(
    ctx: Context,
    agent_id: str,
    thread_id: str,
    *,
    otids: Sequence[str],
    news: Callable[[Mapping[str, str]], tuple[InputMessage, ...]],
    key: str | None = None,
) -> tuple[Standing, tuple[InputMessage, ...]]:
    """Return how the conversation of a thread stands, and what of a request is new in it.

    `news` says what is new where these of `otids` were heard; only recent messages are looked at for them:
    ask for the last ones of a client's list. The conversation is opened where this is the first that is said
    in it. Where something is new and memory knows that, nothing is read, and the run of `key` is not told:
    its acceptance tells. What was said before, or answers, is looked up. What a fork began with is new to it
    only where nothing follows it.

    Raises:
        As `open_`, and what `news` raises.
    """
    ctx.caller.require_agent(agent_id)
    wanted = conversation_id(agent_id, thread_id)
    known = await ctx.host.recall(agent_id, wanted, otids=otids)
    own = known is not None and known.conversation.organization_id == ctx.caller.organization_id
    if known is not None and own and (said := news(known.heard)):
        return known, await _own(ctx, known, said, otids, news)
    known = await _standing(ctx, wanted, otids, key)
    if known is None:
        await open_(ctx, agent_id, thread_id)
        known = await _standing(ctx, wanted, otids, key)
    if known is None or known.conversation.agent_id != agent_id:
        raise NotFoundError("conversation", wanted)
    return known, await _own(ctx, known, news(known.heard), otids, news)


async def _own(
    ctx: Context,
    known: Standing,
    said: tuple[InputMessage, ...],
    otids: Sequence[str],
    news: Callable[[Mapping[str, str]], tuple[InputMessage, ...]],
) -> tuple[InputMessage, ...]:
    """Return what of `said` is new to a fork: what it began with is so only where nothing follows it."""
    if len(said) < 2 or known.conversation.parent_id is None:
        return said
    async with connection(ctx.host.pool) as conn:
        inherited = await stored_standing.inherited(conn, known.conversation, otids=otids)
    return news({**known.heard, **inherited}) or said


async def _standing(ctx: Context, wanted: str, otids: Sequence[str], key: str | None) -> Standing | None:
    async with connection(ctx.host.pool) as conn:
        return await stored_standing.of(
            conn, wanted, organization_id=ctx.caller.organization_id, otids=otids, key=key
        )


def unheard(messages: Sequence[InputMessage], known: Mapping[str, str]) -> tuple[InputMessage, ...]:
    """Return the messages after the last one that is known: clients send a list that only grows."""
    last = max((place for place, message in enumerate(messages) if message.otid in known), default=-1)
    return tuple(messages[last + 1 :])


async def active_run(ctx: Context, conversation: Conversation) -> Run | None:
    """Return the run that works in a conversation, or is next to: the oldest that is not over."""
    async with connection(ctx.host.pool) as conn:
        found = await runs.list_page(
            conn,
            Page(limit=1, descending=False),
            organization_id=conversation.organization_id,
            conversation_id=conversation.id,
            statuses=runs.ACTIVE,
        )
    return found[0] if found else None
