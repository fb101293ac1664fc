"""What models see of a conversation: measured, summed up, rebuilt, and emptied."""

from typing import Any

from msgspec import Struct
from starlette.responses import Response

from actors import clock, prompt
from actors.commands import Recompile, ResetMessages
from gateway import context_windows
from gateway.app import Context, Endpoint, Route, json
from gateway.letta.agents import AgentState
from gateway.letta.context import ContextWindowOverview
from gateway.requests import compaction as compaction_requests
from gateway.requests.compaction import CompactRequest
from gateway.rest import agents as agent_routes
from gateway.rest import conversations as conversation_routes
from storage import agents, conversations, messages, passages
from storage.errors import NotFoundError
from storage.pool import connection
from storage.records import Conversation, Message, TextPart

COMPACT_SECONDS = 900.0  # a turn that runs ends first, and a model writes


class CompactionResponse(Struct, frozen=True):
    """The summary that is in force now, and how many messages models see."""

    summary: str
    num_messages_before: int
    num_messages_after: int


class ResetRequest(Struct, frozen=True, kw_only=True):
    """Empty an agent's window, or fill it with what agents of its type begin with."""

    add_default_initial_messages: bool = False


class RecompileQuery(Struct, frozen=True, kw_only=True):
    """Whether only to look. A prompt is compiled with its own time, so `update_timestamp` changes nothing."""

    update_timestamp: bool = False
    dry_run: bool = False


class ContextQuery(Struct, frozen=True, kw_only=True):
    """Which conversation of the agent; its own where none is named."""

    conversation_id: str | None = None


# --- summing up -----------------------------------------------------------------------------


async def compact_agent(ctx: Context) -> Response:
    """Sum up what an agent's own conversation is about and shorten its window."""
    request = await ctx.optional_body(CompactRequest) or CompactRequest()
    return await _compact(ctx, await _of_agent(ctx, None), request)


async def compact_conversation(ctx: Context) -> Response:
    """Sum up what a conversation is about and shorten its window."""
    request = await ctx.optional_body(CompactRequest) or CompactRequest()
    return await _compact(ctx, await conversation_routes.address(ctx, request.agent_id), request)


async def _compact(ctx: Context, where: Conversation, request: CompactRequest) -> Response:
    settings = request.compaction_settings
    if settings is not None:
        settings = compaction_requests.check(settings)
        if settings.model is not None:
            ctx.host.catalog.resolve(settings.model)
    done = await ctx.host.ref(where.agent_id).compact(where.id, settings)
    stats = done.stats
    return json(CompactionResponse(done.text, stats.messages_count_before, stats.messages_count_after))


# --- rebuilding and emptying ----------------------------------------------------------------


async def recompile_agent(ctx: Context) -> Response:
    """Rebuild the system prompt of an agent's own conversation and return it."""
    query = ctx.query(RecompileQuery)
    return json(await _recompile(ctx, await _of_agent(ctx, None), dry_run=query.dry_run))


async def recompile_conversation(ctx: Context) -> Response:
    """Rebuild the system prompt of a conversation and return it."""
    query = ctx.query(RecompileQuery)
    request = await ctx.optional_body(CompactRequest) or CompactRequest()
    where = await conversation_routes.address(ctx, request.agent_id)
    return json(await _recompile(ctx, where, dry_run=query.dry_run))


async def _recompile(ctx: Context, where: Conversation, *, dry_run: bool) -> str:
    if dry_run:
        return await _compiled(ctx, where)
    await ctx.host.ref(where.agent_id).edit(Recompile(where.id))
    async with connection(ctx.host.pool) as conn:
        return _text(await messages.system_of(conn, where.id))


async def _compiled(ctx: Context, where: Conversation) -> str:
    async with connection(ctx.host.pool) as conn:
        profile = await agents.get(
            conn,
            where.agent_id,
            organization_id=ctx.caller.organization_id,
            relations=frozenset({"blocks"}),
        )
        archival = await passages.count(conn, where.agent_id)
    return prompt.compile_system(
        profile.agent,
        profile.blocks,
        conversation_id=where.id,
        recompiled_at=clock.now(),
        previous_messages=where.end_position - 1,
        archival=archival,
        line_numbers=prompt.numbers_lines(profile.agent.settings),
    )


async def reset(ctx: Context) -> Response:
    """Let an agent begin anew: models see none of what was said, which all stays stored."""
    request = await ctx.optional_body(ResetRequest) or ResetRequest()
    agent_id = await agent_routes.own(ctx)
    await ctx.host.ref(agent_id).edit(ResetMessages(agent_id, request.add_default_initial_messages))
    return json(None if ctx.modern else await agent_routes.state(ctx, agent_id))


# --- measuring ------------------------------------------------------------------------------


async def retrieve(ctx: Context) -> Response:
    """Return what fills the window of an agent's model, part by part."""
    where = await _of_agent(ctx, ctx.query(ContextQuery).conversation_id)
    return json(await context_windows.measure(ctx.host, where))


async def _of_agent(ctx: Context, conversation_id: str | None) -> Conversation:
    """Return a conversation of the path's agent, its own where none is named."""
    agent_id = ctx.params["agent_id"]
    if conversation_id in (None, "default"):
        conversation_id = agent_id
    async with connection(ctx.host.pool) as conn:
        found = await conversations.get(conn, conversation_id, organization_id=ctx.caller.organization_id)
    if found.agent_id != agent_id:
        raise NotFoundError("conversation", found.id)
    return found


def _text(message: Message) -> str:
    return "".join(part.text for part in message.content if isinstance(part, TextPart))


def _post(path: str, endpoint: Endpoint, operation_id: str, **more: Any) -> Route:
    return Route(
        method="POST",
        path=path,
        endpoint=endpoint,
        operation_id=operation_id,
        summary=(endpoint.__doc__ or "").partition("\n")[0].rstrip("."),
        **more,
    )


_AGENT, _CONVERSATION = "/v1/agents/{agent_id}", "/v1/conversations/{conversation_id}"
_COMPACTION: dict[str, Any] = {
    "body": CompactRequest,
    "body_optional": True,
    "returns": CompactionResponse,
    "deadline_seconds": COMPACT_SECONDS,
}
_RECOMPILATION: dict[str, Any] = {"query": RecompileQuery, "returns": str}

ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path=f"{_AGENT}/context",
        endpoint=retrieve,
        operation_id="retrieve_agent_context_window",
        summary="Measure what fills a model's window",
        query=ContextQuery,
        returns=ContextWindowOverview,
        tags=("agents",),
    ),
    _post(f"{_AGENT}/summarize", compact_agent, "summarize_messages", tags=("agents",), **_COMPACTION),
    _post(f"{_AGENT}/compact", compact_agent, "compact_messages", tags=("agents",), **_COMPACTION),
    _post(
        f"{_CONVERSATION}/compact",
        compact_conversation,
        "compact_conversation",
        tags=("conversations",),
        **_COMPACTION,
    ),
    _post(f"{_AGENT}/recompile", recompile_agent, "recompile_agent", tags=("agents",), **_RECOMPILATION),
    _post(
        f"{_AGENT}/system-prompt/recompile",
        recompile_agent,
        "recompile_agent_system_prompt",
        tags=("agents",),
        **_RECOMPILATION,
    ),
    _post(
        f"{_CONVERSATION}/recompile",
        recompile_conversation,
        "recompile_conversation",
        tags=("conversations",),
        body=CompactRequest,
        body_optional=True,
        **_RECOMPILATION,
    ),
    Route(
        method="PATCH",
        path=f"{_AGENT}/reset-messages",
        endpoint=reset,
        operation_id="reset_messages",
        summary="Empty an agent's window",
        body=ResetRequest,
        body_optional=True,
        returns=AgentState | None,
        deadline_seconds=COMPACT_SECONDS,
        tags=("agents",),
    ),
)
