"""Conversations: opened, read, changed, listed, closed, cancelled, and their streams taken up again."""

from datetime import datetime
from typing import Literal

from msgspec import UNSET, Struct, UnsetType
from starlette.responses import Response

from actors import clock
from actors.commands import DeleteConversation, ForkConversation, UpdateConversation
from gateway import absent, decode
from gateway.app import Context, Route, json
from gateway.decode import Limit, Order
from gateway.errors import BadArgumentError, InvalidRequestError
from gateway.letta import conversations as letta_conversations
from gateway.letta.conversations import LettaConversation
from gateway.paging import page_of
from gateway.requests import new_conversations
from gateway.rest.runs import StreamRequest, resume
from storage import conversations, runs
from storage.errors import NotFoundError
from storage.keyset import Page
from storage.pool import Conn, connection
from storage.records import Conversation, ConversationChanges, JsonObject, Run

NO_ACTIVE_RUN = "No active background run found for this conversation."


class NewConversation(Struct, frozen=True, kw_only=True):
    """A conversation to open. Its model and settings win over the agent's."""

    summary: str | None = None
    description: str | None = None
    model: str | None = None
    model_settings: JsonObject | None = None
    isolated_block_labels: tuple[str, ...] | None = None
    context_window_limit: int | None = None
    hidden: bool = False


class ConversationPatch(Struct, frozen=True, kw_only=True):
    """What to change about a conversation: what is left out stays, null takes it away."""

    summary: str | UnsetType | None = UNSET
    description: str | UnsetType | None = UNSET
    model: str | UnsetType | None = UNSET
    model_settings: JsonObject | UnsetType | None = UNSET
    last_message_at: datetime | UnsetType | None = UNSET
    archived: bool | UnsetType | None = UNSET
    context_window_limit: int | UnsetType | None = UNSET


class CreateQuery(Struct, frozen=True, kw_only=True):
    """The agent that the conversation belongs to; it must be given."""

    agent_id: str | None = None


class AgentQuery(Struct, frozen=True, kw_only=True):
    """The agent that the id `default` means."""

    agent_id: str | None = None


class ForkQuery(AgentQuery, frozen=True, kw_only=True):
    """Where to leave the conversation: after this message, which its model must be shown, or its last."""

    message_id: str | None = None
    hidden: bool = False


class ListQuery(Struct, frozen=True, kw_only=True):
    """Which conversations. A conversation's last message and the end of its last run are one moment here."""

    agent_id: str | None = None
    limit: Limit = 50
    after: str | None = None
    before: str | None = None
    summary_search: str | None = None
    archive_status: Literal["unarchived", "archived", "all"] = "unarchived"
    order: Order = "desc"
    order_by: Literal["created_at", "last_run_completion", "last_message_at"] = "created_at"


async def address(ctx: Context, agent_id: str | None) -> Conversation:
    """Return the conversation that the path names: its own id, an agent's, or `default` with `agent_id`.

    Raises:
        InvalidRequestError: `default` without an agent.
        NotFoundError: There is none.
    """
    wanted = ctx.params["conversation_id"]
    if wanted == "default":
        if agent_id is None:
            raise InvalidRequestError("the conversation 'default' needs agent_id", param="/agent_id")
        wanted = decode.path_parameter("agent_id", agent_id)
    async with connection(ctx.host.pool) as conn:
        return await conversations.get(conn, wanted, organization_id=ctx.caller.organization_id)


async def create(ctx: Context) -> Response:
    """Open a conversation; it starts with the agent's system prompt and nothing else."""
    agent_id = ctx.query(CreateQuery).agent_id
    if agent_id is None:
        raise InvalidRequestError("agent_id is missing", param="/agent_id")
    decode.path_parameter("agent_id", agent_id)
    request = await ctx.optional_body(NewConversation) or NewConversation()
    _refuse_later(request)
    return json(
        await new_conversations.create(
            ctx.host,
            ctx.caller,
            agent_id,
            summary=request.summary,
            description=request.description,
            model=request.model,
            model_settings=request.model_settings,
        )
    )


async def fork(ctx: Context) -> Response:
    """Open a conversation that begins with the messages that another one's model is shown.

    It shares them, has a system prompt of its own, and goes its own way from there.
    """
    query = ctx.query(ForkQuery)
    if query.hidden:
        raise absent.field("hidden")
    if query.message_id is not None:
        decode.path_parameter("message_id", query.message_id)
    parent = await address(ctx, query.agent_id)
    conversation_id = clock.new_id("conv")
    await ctx.host.ref(parent.agent_id).edit(
        ForkConversation(conversation_id=conversation_id, parent_id=parent.id, message_id=query.message_id)
    )
    async with connection(ctx.host.pool) as conn:
        return json(await new_conversations.hydrated(conn, ctx.caller, conversation_id))


def _refuse_later(request: NewConversation) -> None:
    for name in ("isolated_block_labels", "context_window_limit", "hidden"):
        if getattr(request, name):
            raise absent.field(name)


async def update(ctx: Context) -> Response:
    """Change a conversation; the next turn uses its new model. The window of messages is not touched."""
    conversation_id = _own_id(ctx)
    request = await ctx.body(ConversationPatch)
    if request.context_window_limit:
        raise absent.field("context_window_limit")
    new_conversations.check_model(ctx.host.catalog, request.model, request.model_settings)
    async with connection(ctx.host.pool) as conn:
        found = await conversations.get(conn, conversation_id, organization_id=ctx.caller.organization_id)
    changes = ConversationChanges(
        summary=request.summary,
        description=request.description,
        model=request.model,
        model_settings=request.model_settings,
        last_message_at=request.last_message_at,
        archived_at=_archived_at(request.archived, found),
    )
    await ctx.host.ref(found.agent_id).edit(UpdateConversation(conversation_id, changes))
    async with connection(ctx.host.pool) as conn:
        return json(await new_conversations.hydrated(conn, ctx.caller, conversation_id))


def _archived_at(archived: bool | UnsetType | None, found: Conversation) -> datetime | UnsetType | None:
    """Return since when the conversation is archived; archiving twice keeps the first time."""
    if archived is UNSET or archived is None:
        return UNSET
    return (found.archived_at or clock.now()) if archived else None


async def retrieve(ctx: Context) -> Response:
    """Return a conversation with the ids of the messages that its model sees."""
    async with connection(ctx.host.pool) as conn:
        return json(await new_conversations.hydrated(conn, ctx.caller, _own_id(ctx)))


def _own_id(ctx: Context) -> str:
    """Return the path's id where it must be a conversation's own."""
    conversation_id = ctx.params["conversation_id"]
    if not conversation_id.startswith("conv-"):
        raise InvalidRequestError("expected conv-<uuid4>", param="/conversation_id")
    return conversation_id


async def list_all(ctx: Context) -> Response:
    """List conversations, without the default one that every agent has."""
    query = ctx.query(ListQuery)
    async with connection(ctx.host.pool) as conn:
        found = await conversations.list_page(
            conn,
            page_of(query, usual=50),
            organization_id=ctx.caller.organization_id,
            agent_id=query.agent_id,
            summary_search=query.summary_search,
            archived=None if query.archive_status == "all" else query.archive_status == "archived",
            order_by="created_at" if query.order_by == "created_at" else "last_message_at",
        )
        windows = await conversations.windows_ids(conn, found)
    return json([letta_conversations.show(conversation, windows[conversation.id]) for conversation in found])


async def delete(ctx: Context) -> Response:
    """Close a conversation; its runs are cancelled, its messages stay stored but are not found any more."""
    conversation_id = _own_id(ctx)
    async with connection(ctx.host.pool) as conn:
        found = await conversations.get(conn, conversation_id, organization_id=ctx.caller.organization_id)
    await ctx.host.ref(found.agent_id).edit(DeleteConversation(conversation_id))
    return json(None)


async def cancel(ctx: Context) -> Response:
    """Cancel the unfinished runs of a conversation."""
    found = await address(ctx, ctx.query(AgentQuery).agent_id)
    return json(await ctx.host.ref(found.agent_id).cancel(conversation_id=found.id))


async def retrieve_stream(ctx: Context) -> Response:
    """Take up a stream: of the named run, else of the otid's, else of the newest active background run."""
    request = await ctx.optional_body(StreamRequest) or StreamRequest()
    found = await address(ctx, request.agent_id)
    async with connection(ctx.host.pool) as conn:
        run = await _wanted_run(ctx, conn, found, request)
    return resume(ctx, run, request)


async def _wanted_run(ctx: Context, conn: Conn, where: Conversation, request: StreamRequest) -> Run:
    organization_id = ctx.caller.organization_id
    run_id = request.run_id
    if run_id is None and request.otid is not None:
        run_id = await runs.find_by_otid(
            conn, agent_id=where.agent_id, conversation_id=where.id, otid=request.otid
        )
    if run_id is not None:
        run = await runs.get(conn, run_id, organization_id=organization_id)
        if run.conversation_id != where.id:
            raise NotFoundError("run", run_id)
        return run
    active = await runs.list_page(
        conn,
        Page(limit=1),
        organization_id=organization_id,
        agent_ids=[where.agent_id],
        conversation_id=where.id,
        statuses=runs.ACTIVE,
        background=True,
    )
    if not active:
        raise BadArgumentError(NO_ACTIVE_RUN)
    return active[0]


ROUTES = (
    Route(
        method="POST",
        path="/v1/conversations/",
        endpoint=create,
        operation_id="create_conversation",
        summary="Open a conversation",
        query=CreateQuery,
        body=NewConversation,
        body_optional=True,
        returns=LettaConversation,
        tags=("conversations",),
    ),
    Route(
        method="GET",
        path="/v1/conversations/",
        endpoint=list_all,
        operation_id="list_conversations",
        summary="List conversations",
        query=ListQuery,
        returns=list[LettaConversation],
        tags=("conversations",),
    ),
    Route(
        method="GET",
        path="/v1/conversations/{conversation_id}",
        endpoint=retrieve,
        operation_id="retrieve_conversation",
        summary="Get a conversation",
        returns=LettaConversation,
        tags=("conversations",),
    ),
    Route(
        method="PATCH",
        path="/v1/conversations/{conversation_id}",
        endpoint=update,
        operation_id="update_conversation",
        summary="Change a conversation",
        body=ConversationPatch,
        returns=LettaConversation,
        tags=("conversations",),
    ),
    Route(
        method="DELETE",
        path="/v1/conversations/{conversation_id}",
        endpoint=delete,
        operation_id="delete_conversation",
        summary="Close a conversation",
        tags=("conversations",),
    ),
    Route(
        method="POST",
        path="/v1/conversations/{conversation_id}/fork",
        endpoint=fork,
        operation_id="fork_conversation",
        summary="Open a conversation that begins with the messages of another",
        query=ForkQuery,
        returns=LettaConversation,
        tags=("conversations",),
    ),
    Route(
        method="POST",
        path="/v1/conversations/{conversation_id}/cancel",
        endpoint=cancel,
        operation_id="cancel_conversation",
        summary="Cancel a conversation's runs",
        query=AgentQuery,
        returns=dict[str, str],
        tags=("conversations",),
    ),
    Route(
        method="POST",
        path="/v1/conversations/{conversation_id}/stream",
        endpoint=retrieve_stream,
        operation_id="retrieve_conversation_stream",
        summary="Take up the stream of a background run of a conversation",
        body=StreamRequest,
        body_optional=True,
        tags=("conversations",),
    ),
)
