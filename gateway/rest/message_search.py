"""Search over everything that was said to agents and by them, as `POST /v1/messages/search`."""

from datetime import UTC, datetime
from typing import Annotated, Literal

import anyio
from msgspec import Meta, Struct
from starlette.responses import Response

from gateway import decode
from gateway.app import Context, Route, json
from gateway.errors import InvalidRequestError
from gateway.letta.internal import InternalMessage, internal
from gateway.requests.passages import span
from storage import agents, conversations, messages, recall
from storage.errors import NotFoundError, UnavailableError
from storage.pool import Conn, connection
from storage.recall import Hit
from storage.records import Role

PREPARE_SECONDS = 10.0
RRF_K = 60  # of reciprocal rank fusion, as Letta has it; here it fuses one ranking


class SearchRequest(Struct, frozen=True, kw_only=True):
    """What to look for. Words are searched whatever `search_mode` says: messages have no vectors.

    Times without an offset are UTC, a date is a whole day.
    """

    query: Annotated[str, Meta(max_length=10_000)]
    search_mode: Literal["vector", "fts", "hybrid"] = "hybrid"
    agent_id: str | None = None
    conversation_id: str | None = None
    limit: Annotated[int, Meta(ge=1, le=100)] = 50
    start_date: str | None = None
    end_date: str | None = None


class OlderRequest(Struct, frozen=True, kw_only=True):
    """What to look for, as older clients ask. Without words the newest messages come."""

    query: Annotated[str, Meta(max_length=10_000)] | None = None
    search_mode: Literal["vector", "fts", "hybrid"] = "hybrid"
    roles: tuple[Role, ...] | None = None
    agent_id: str | None = None
    conversation_id: str | None = None
    project_id: str | None = None
    template_id: str | None = None
    limit: Annotated[int, Meta(ge=1, le=100)] = 50
    start_date: str | None = None
    end_date: str | None = None


class OlderResult(Struct, frozen=True, kw_only=True):
    """A message that was found, in Letta's own form, and its place among them. None has a vector."""

    embedded_text: str
    message: InternalMessage
    fts_rank: int | None
    vector_rank: int | None = None
    rrf_score: float


class FoundMessage(Struct, frozen=True, kw_only=True):
    """A message that was found. `conversation_id` is null for the default one."""

    message_id: str
    message_type: str
    content: str
    created_at: datetime
    agent_id: str
    conversation_id: str | None


_TYPES: dict[Role, str] = {"user": "user_message", "assistant": "assistant_message"}


async def search(ctx: Context) -> Response:
    """Find messages by their words, the best first: of all agents, of one, or of one conversation."""
    request = await ctx.body(SearchRequest)
    await _prepare(ctx, request)
    async with connection(ctx.host.pool) as conn:
        hits = await _hits(ctx, conn, request)
    return json([_found(hit) for hit in hits])


async def search_as_older(ctx: Context) -> Response:
    """Find messages by their words, each with its rank, in the form in which Letta keeps them."""
    request = await ctx.body(OlderRequest)
    if request.project_id is not None or request.template_id is not None:
        return json(())
    await _prepare(ctx, request)
    async with connection(ctx.host.pool) as conn:
        hits = await _hits(ctx, conn, request, roles=request.roles)
        stored = await messages.by_ids(conn, [hit.message_id for hit in hits])
    return json(
        [
            OlderResult(
                embedded_text=hit.text,
                message=internal(stored[hit.message_id]),
                fts_rank=hit.rank,
                rrf_score=1 / (RRF_K + place),
            )
            for place, hit in enumerate(hits, start=1)
            if hit.message_id in stored
        ]
    )


async def _prepare(ctx: Context, request: SearchRequest | OlderRequest) -> None:
    """Have everything found that is committed; a search of one agent sees to that itself.

    Raises:
        UnavailableError: It takes too long, as it may after a start that has a lot to make up for.
    """
    if request.agent_id is not None or request.conversation_id is not None:
        return
    try:
        with anyio.fail_after(PREPARE_SECONDS):
            await ctx.host.wording.once()
    except TimeoutError as error:
        raise UnavailableError("the words of new messages are being filled in: try again") from error


async def _hits(
    ctx: Context,
    conn: Conn,
    request: SearchRequest | OlderRequest,
    *,
    roles: tuple[Role, ...] | None = None,
) -> list[Hit]:
    start, end = span(request.start_date, request.end_date, names=("start_date", "end_date"), here=UTC)
    where = await _where(ctx, conn, request)
    if where is None:
        return await recall.search_everywhere(
            conn,
            organization_id=ctx.caller.organization_id,
            query=request.query or "",
            roles=roles,
            start=start,
            end=end,
            limit=request.limit,
        )
    agent_id, conversation_id = where
    return await recall.search(
        conn,
        agent_id=agent_id,
        conversation_id=conversation_id,
        query=request.query,
        roles=roles,
        start=start,
        end=end,
        limit=request.limit,
    )


async def _where(
    ctx: Context, conn: Conn, request: SearchRequest | OlderRequest
) -> tuple[str, str | None] | None:
    """Return the agent, and perhaps the one conversation of it, to search in; `None` means everywhere.

    Raises:
        InvalidRequestError: An id is malformed, or `default` comes without its agent.
        NotFoundError: There is no such agent or conversation, or it is another agent's.
    """
    agent_id, conversation_id = request.agent_id, request.conversation_id
    if agent_id is not None:
        decode.path_parameter("agent_id", agent_id)
        await agents.check(conn, agent_id, organization_id=ctx.caller.organization_id)
    if conversation_id is None:
        return None if agent_id is None else (agent_id, None)
    decode.path_parameter("conversation_id", conversation_id)
    if conversation_id == "default":
        if agent_id is None:
            raise InvalidRequestError("the default conversation needs its agent_id", param="/agent_id")
        conversation_id = agent_id
    found = await conversations.get(conn, conversation_id, organization_id=ctx.caller.organization_id)
    if agent_id not in (None, found.agent_id):
        raise NotFoundError("conversation", conversation_id)
    return found.agent_id, found.id


def _found(hit: Hit) -> FoundMessage:
    return FoundMessage(
        message_id=hit.message_id,
        message_type=_TYPES.get(hit.role, "system_message"),
        content=hit.text,
        created_at=hit.created_at,
        agent_id=hit.agent_id,
        conversation_id=None if hit.conversation_id == hit.agent_id else hit.conversation_id,
    )


ROUTES: tuple[Route, ...] = (
    Route(
        method="POST",
        path="/v1/messages/search",
        endpoint=search,
        operation_id="search_messages",
        summary="Find messages by their words",
        body=SearchRequest,
        returns=list[FoundMessage],
        tags=("messages",),
    ),
    Route(
        method="POST",
        path="/v1/agents/messages/search",
        endpoint=search_as_older,
        operation_id="search_agents_messages",
        summary="Find messages by their words, as older clients do",
        body=OlderRequest,
        returns=list[OlderResult],
        tags=("messages",),
    ),
)
