"""Search over everything that was said to an agent and by it, as `POST /v1/messages/search`."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct
from starlette.responses import Response

from gateway import decode
from gateway.app import Context, Route, json
from gateway.errors import InvalidRequestError, NotSupportedError
from storage import agents, recall
from storage.pool import connection
from storage.recall import Hit
from storage.records import Role


class SearchRequest(Struct, frozen=True, kw_only=True):
    """What to look for. Words are searched whatever `search_mode` says: messages have no vectors."""

    query: Annotated[str, Meta(max_length=10_000)]
    search_mode: Literal["vector", "fts", "hybrid"] = "hybrid"
    agent_id: str | None = None
    conversation_id: str | None = None
    limit: Annotated[int, Meta(ge=1, le=100)] = 50
    start_date: datetime | None = None
    end_date: datetime | None = None


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
    """Find messages of an agent by their words, the best first."""
    request = await ctx.body(SearchRequest)
    if request.conversation_id is not None:
        raise NotSupportedError(
            "search within one conversation is not supported by this release", param="/conversation_id"
        )
    if request.agent_id is None:
        raise InvalidRequestError("agent_id is missing: messages are searched by agent", param="/agent_id")
    agent_id = decode.path_parameter("agent_id", request.agent_id)
    async with connection(ctx.host.pool) as conn:
        await agents.check(conn, agent_id, organization_id=ctx.caller.organization_id)
        hits = await recall.search(
            conn,
            agent_id=agent_id,
            query=request.query,
            start=request.start_date,
            end=request.end_date,
            limit=request.limit,
        )
    return json([_found(hit, agent_id) for hit in hits])


def _found(hit: Hit, agent_id: str) -> FoundMessage:
    return FoundMessage(
        message_id=hit.message_id,
        message_type=_TYPES.get(hit.role, "system_message"),
        content=hit.text,
        created_at=hit.created_at,
        agent_id=agent_id,
        conversation_id=None if hit.conversation_id == agent_id else hit.conversation_id,
    )


ROUTES: tuple[Route, ...] = (
    Route(
        method="POST",
        path="/v1/messages/search",
        endpoint=search,
        operation_id="search_messages",
        summary="Find messages of an agent by their words",
        body=SearchRequest,
        returns=list[FoundMessage],
        tags=("messages",),
    ),
)
