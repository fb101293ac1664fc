"""What was said: messages of an agent, a conversation, a run, a step or everybody, as Letta lists them."""

from typing import Literal

from msgspec import Struct
from msgspec.structs import asdict
from starlette.responses import Response

from gateway.app import Context, Endpoint, Route, json
from gateway.decode import Limit, Order
from gateway.letta import messages as letta_messages
from gateway.letta import speech as letta_speech
from gateway.letta.shapes import LettaMessage, MessageType
from gateway.letta.speech import DEFAULT_VOICE, Voice
from gateway.paging import page_of
from gateway.rest import conversations
from gateway.rest.steps import find_step
from storage import conversations as stored_conversations
from storage import forks, messages, runs
from storage.errors import NotFoundError
from storage.keyset import Page
from storage.pool import connection
from storage.records import Message


class HistoryQuery(Struct, frozen=True, kw_only=True):
    """Which messages of an agent: `limit` counts stored ones, each of which may become several.

    `order` chooses the end that the page is taken from. `after` and `before` are later and earlier in time.
    With `include_err=false` those are left out that no model is shown, marked `is_err`.
    """

    before: str | None = None
    after: str | None = None
    limit: Limit | None = 100
    order: Order = "desc"
    order_by: Literal["created_at"] = "created_at"
    conversation_id: str | None = None
    include_err: bool | None = None
    include_return_message_types: list[MessageType] | None = None
    use_assistant_message: bool = True
    assistant_message_tool_name: str = DEFAULT_VOICE.tool
    assistant_message_tool_kwarg: str = DEFAULT_VOICE.argument


class AgentQuery(HistoryQuery, frozen=True, kw_only=True):
    """Which messages of an agent: `limit` counts stored ones. Of a group there are none."""

    group_id: str | None = None


class PageQuery(Struct, frozen=True, kw_only=True):
    """Which messages of a list. `after` and `before` follow its order."""

    before: str | None = None
    after: str | None = None
    limit: Limit | None = 100
    order: Order = "asc"
    order_by: Literal["created_at"] = "created_at"
    include_return_message_types: list[MessageType] | None = None


class ConversationQuery(Struct, frozen=True, kw_only=True):
    """Which messages of a conversation. `agent_id` goes with the id `default`; of a group there are none.

    With `include_err=false` those are left out that no model is shown, marked `is_err`.
    """

    agent_id: str | None = None
    group_id: str | None = None
    before: str | None = None
    after: str | None = None
    limit: Limit | None = 100
    order: Order = "desc"
    order_by: Literal["created_at"] = "created_at"
    include_err: bool | None = None
    include_return_message_types: list[MessageType] | None = None


async def list_agent(ctx: Context) -> Response:
    """List an agent's history, oldest first whatever the order: it only chooses the end to take from."""
    query = ctx.query(AgentQuery)
    agent_id = ctx.params["agent_id"]
    conversation_id = query.conversation_id or agent_id
    if conversation_id == "default":
        conversation_id = agent_id
    found = await _history(ctx, conversation_id, query, agent_id=agent_id, newest_first=query.order == "desc")
    if query.group_id is not None:
        return json(())
    if query.order == "desc":
        found.reverse()
    return json(
        letta_messages.show_all(found, _types(query.include_return_message_types), voice=_voice(query))
    )


async def _history(
    ctx: Context,
    conversation_id: str,
    query: HistoryQuery | ConversationQuery,
    *,
    agent_id: str,
    newest_first: bool,
) -> list[Message]:
    read = messages.list_newest if newest_first else messages.list_oldest
    async with connection(ctx.host.pool) as conn:
        conversation = await stored_conversations.get(
            conn, conversation_id, organization_id=ctx.caller.organization_id
        )
        if conversation.agent_id != agent_id:
            raise NotFoundError("conversation", conversation_id)
        return await read(
            conn,
            conversation_id,
            limit=query.limit or 100,
            after=query.after,
            before=query.before,
            ancestors=await forks.ancestors(conn, conversation),
            excluded=query.include_err is not False,
        )


async def list_conversation(ctx: Context) -> Response:
    """List the messages of a conversation in the order asked for, newest first by default.

    Of an agent's own conversation (`default`, or the agent's id) the page is as `list_agent` gives it.
    """
    query = ctx.query(ConversationQuery)
    conversation = await conversations.address(ctx, query.agent_id)
    if query.group_id is not None:
        return json(())
    descending = query.order == "desc"
    if conversation.id == conversation.agent_id:
        found = await _history(
            ctx, conversation.id, query, agent_id=conversation.agent_id, newest_first=descending
        )
        if descending:
            found.reverse()
        return json(letta_messages.show_all(found, _types(query.include_return_message_types)))
    page = page_of(query, usual=100)
    async with connection(ctx.host.pool) as conn:
        found = await messages.list_conversation(
            conn,
            page,
            conversation_id=conversation.id,
            ancestors=await forks.ancestors(conn, conversation),
            excluded=query.include_err is not False,
        )
    return json(letta_messages.show_all(found, _types(query.include_return_message_types)))


async def list_run(ctx: Context) -> Response:
    """List the messages of a run, what it was sent included."""
    query = ctx.query(PageQuery)
    async with connection(ctx.host.pool) as conn:
        run = await runs.get(conn, ctx.params["run_id"], organization_id=ctx.caller.organization_id)
        found = await messages.list_run(conn, page_of(query, usual=100), run_id=run.id)
    return json(letta_messages.show_all(found, _types(query.include_return_message_types)))


async def list_step(ctx: Context) -> Response:
    """List the messages that a step made."""
    query = ctx.query(PageQuery)
    async with connection(ctx.host.pool) as conn:
        step = await find_step(ctx, conn, ctx.params["step_id"])
        page = page_of(query, usual=100)
        found = await messages.list_run(conn, page, run_id=step.run_id, step_id=step.id)
    return json(letta_messages.show_all(found, _types(query.include_return_message_types)))


async def list_everywhere(ctx: Context) -> Response:
    """List messages of every agent, or of one conversation, oldest first whatever the order."""
    query = ctx.query(HistoryQuery)
    if query.conversation_id is not None:
        async with connection(ctx.host.pool) as conn:
            conversation = await stored_conversations.get(
                conn, query.conversation_id, organization_id=ctx.caller.organization_id
            )
        found = await _history(
            ctx,
            conversation.id,
            query,
            agent_id=conversation.agent_id,
            newest_first=query.order == "desc",
        )
    else:
        async with connection(ctx.host.pool) as conn:
            found = await messages.list_all(
                conn,
                _absolute(query),
                organization_id=ctx.caller.organization_id,
                excluded=query.include_err is not False,
            )
    if query.order == "desc":
        found.reverse()
    return json(
        letta_messages.show_all(found, _types(query.include_return_message_types), voice=_voice(query))
    )


async def retrieve(ctx: Context) -> Response:
    """Return one stored message as the list of what it is shown as."""
    async with connection(ctx.host.pool) as conn:
        message = await messages.get(
            conn, ctx.params["message_id"], organization_id=ctx.caller.organization_id
        )
    return json(letta_messages.show_all([message], None))


def _voice(asked: HistoryQuery) -> Voice | None:
    """Return the tool by whose calls the agent speaks; None where a client wants them as calls."""
    return letta_speech.voice_of(asdict(asked))


def _types(chosen: list[MessageType] | None) -> frozenset[str] | None:
    return None if chosen is None else frozenset(chosen)


def _absolute(query: HistoryQuery) -> Page:
    """Return the page for cursors that mean later and earlier in time, whatever the order."""
    descending = query.order == "desc"
    after, before = (query.before, query.after) if descending else (query.after, query.before)
    return Page(limit=query.limit or 100, after=after, before=before, descending=descending)


def _get(path: str, endpoint: Endpoint, operation_id: str, query: type[Struct] | None) -> Route:
    return Route(
        method="GET",
        path=path,
        endpoint=endpoint,
        operation_id=operation_id,
        summary=(endpoint.__doc__ or "").partition("\n")[0].rstrip("."),
        query=query,
        returns=list[LettaMessage],
        tags=("messages",),
    )


ROUTES = (
    _get("/v1/agents/{agent_id}/messages", list_agent, "list_messages", AgentQuery),
    _get(
        "/v1/conversations/{conversation_id}/messages",
        list_conversation,
        "list_conversation_messages",
        ConversationQuery,
    ),
    _get("/v1/runs/{run_id}/messages", list_run, "list_messages_for_run", PageQuery),
    _get("/v1/steps/{step_id}/messages", list_step, "list_messages_for_step", PageQuery),
    _get("/v1/messages/", list_everywhere, "list_all_messages", HistoryQuery),
    _get("/v1/messages/{message_id}", retrieve, "retrieve_message", None),
)
