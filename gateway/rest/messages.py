"""Messages: sending them to an agent, its history, and those of a run, a step or everybody."""

from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import asdict
from starlette.responses import Response

from gateway import answers, callbacks, inputs
from gateway.answers import Following, LettaResponse
from gateway.app import MESSAGE_BODY_BYTES, Context, Endpoint, Route, json
from gateway.decode import Limit, Order
from gateway.deliveries import deliver
from gateway.errors import WrongMethodError
from gateway.inputs import SendRequest
from gateway.letta import messages as letta_messages
from gateway.letta import runs as letta_runs
from gateway.letta import speech as letta_speech
from gateway.letta.shapes import LettaMessage, MessageType
from gateway.letta.speech import DEFAULT_VOICE, Voice
from gateway.letta.stream import Mode
from gateway.rest import conversations
from gateway.rest.steps import find_step
from storage import agents, messages, runs
from storage import conversations as stored_conversations
from storage.errors import NotFoundError
from storage.keyset import Page
from storage.pool import connection
from storage.records import Message


class HistoryQuery(Struct, frozen=True, kw_only=True):
    """Which messages of an agent: `limit` counts stored ones, each of which may become several.

    `order` chooses the end that the page is taken from. `after` and `before` are later and earlier in time.
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


class PageQuery(Struct, frozen=True, kw_only=True):
    """Which messages of a list. `after` and `before` follow its order."""

    before: str | None = None
    after: str | None = None
    limit: Limit | None = 100
    order: Order = "asc"
    order_by: Literal["created_at"] = "created_at"
    include_return_message_types: list[MessageType] | None = None


class ConversationQuery(Struct, frozen=True, kw_only=True):
    """Which messages of a conversation. `agent_id` goes with the id `default`."""

    agent_id: str | None = None
    before: str | None = None
    after: str | None = None
    limit: Limit | None = 100
    order: Order = "desc"
    order_by: Literal["created_at"] = "created_at"
    include_err: bool | None = None
    include_return_message_types: list[MessageType] | None = None


class CancelRequest(Struct, frozen=True, kw_only=True):
    """Which runs to cancel; every unfinished one of the agent where none is named."""

    run_ids: tuple[str, ...] | None = None


# --- sending --------------------------------------------------------------------------------


async def create(ctx: Context) -> Response:
    """Send messages to an agent; answer when it is done, or stream what it says."""
    request = await ctx.body(SendRequest)
    return await _send_direct(ctx, request, streaming=request.streaming or False)


async def create_stream(ctx: Context) -> Response:
    """Send messages to an agent and stream what it says."""
    return await _send_direct(ctx, await ctx.body(SendRequest), streaming=True)


async def _send_direct(ctx: Context, request: SendRequest, *, streaming: bool) -> Response:
    agent_id = ctx.params["agent_id"]
    run_type = "send_message_streaming" if streaming else "send_message"
    return await _send(
        ctx, request, agent_id, agent_id, default_busy="queue", run_type=run_type, streaming=streaming
    )


async def create_in_conversation(ctx: Context) -> Response:
    """Send messages in a conversation, streaming unless told otherwise; 409 while it is busy."""
    request = await ctx.body(SendRequest)
    conversation = await conversations.address(ctx, request.agent_id)
    streaming = request.streaming is not False
    return await _send(
        ctx,
        request,
        conversation.agent_id,
        conversation.id,
        default_busy="reject",
        run_type="send_conversation_message",
        streaming=streaming,
    )


async def _send(
    ctx: Context,
    request: SendRequest,
    agent_id: str,
    conversation_id: str,
    *,
    default_busy: Literal["queue", "reject"],
    run_type: str,
    streaming: bool,
) -> Response:
    inputs.check_options(request, streaming=streaming)
    receipt = await deliver(
        ctx,
        request,
        agent_id=agent_id,
        conversation_id=conversation_id,
        default_busy=default_busy,
        run_type=run_type,
    )
    run = Following(
        run_id=receipt.run_id,
        agent_id=agent_id,
        conversation_id=receipt.conversation_id,
        organization_id=ctx.caller.organization_id,
    )
    include = _types(request.include_return_message_types)
    voice = _voice(request)
    if not streaming:
        return await answers.whole(
            ctx, run, include, compactions=request.include_compaction_messages, voice=voice
        )
    mode = Mode(
        voice=voice,
        tokens=request.stream_tokens,
        numbered=request.background,
        include=include,
        compactions=request.include_compaction_messages,
    )
    return answers.stream(ctx, run, mode, pings=request.include_pings)


async def create_async(ctx: Context) -> Response:
    """Send messages to an agent and answer with the run at once; `callback_url` is told of its end."""
    request = await ctx.body(SendRequest)
    inputs.check_options(request, streaming=False)
    if request.callback_url is not None:
        callbacks.check(request.callback_url, private=callbacks.is_loopback(ctx.settings.host))
        callbacks.install(ctx.host, ctx.settings)
    agent_id = ctx.params["agent_id"]
    receipt = await deliver(
        ctx,
        request,
        agent_id=agent_id,
        conversation_id=agent_id,
        default_busy="queue",
        run_type="send_message_async",
    )
    async with connection(ctx.host.pool) as conn:
        run = await runs.get(conn, receipt.run_id, organization_id=ctx.caller.organization_id)
    return json(letta_runs.show_run(run))


async def cancel(ctx: Context) -> Response:
    """Cancel runs of an agent; what they said so far stays in its history."""
    request = await ctx.optional_body(CancelRequest) or CancelRequest()
    agent_id = ctx.params["agent_id"]
    async with connection(ctx.host.pool) as conn:
        await agents.check(conn, agent_id, organization_id=ctx.caller.organization_id)
    return json(await ctx.host.ref(agent_id).cancel(request.run_ids))


async def modify(ctx: Context) -> Response:
    """Refuse to change a message: history is immutable, because forks share it."""
    raise WrongMethodError(ctx.route.method, (), "messages are never changed: what was said stays said")


# --- reading --------------------------------------------------------------------------------


async def list_agent(ctx: Context) -> Response:
    """List an agent's history, oldest first whatever the order: it only chooses the end to take from."""
    query = ctx.query(HistoryQuery)
    agent_id = ctx.params["agent_id"]
    conversation_id = query.conversation_id or agent_id
    if conversation_id == "default":
        conversation_id = agent_id
    found = await _history(ctx, conversation_id, query, agent_id=agent_id, newest_first=query.order == "desc")
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
            conn, conversation_id, limit=query.limit or 100, after=query.after, before=query.before
        )


async def list_conversation(ctx: Context) -> Response:
    """List the messages of a conversation in the order asked for, newest first by default.

    Of an agent's own conversation (`default`, or the agent's id) the page is as `list_agent` gives it.
    """
    query = ctx.query(ConversationQuery)
    conversation = await conversations.address(ctx, query.agent_id)
    descending = query.order == "desc"
    if conversation.id == conversation.agent_id:
        found = await _history(
            ctx, conversation.id, query, agent_id=conversation.agent_id, newest_first=descending
        )
        if descending:
            found.reverse()
        return json(letta_messages.show_all(found, _types(query.include_return_message_types)))
    page = Page(limit=query.limit or 100, after=query.after, before=query.before, descending=descending)
    async with connection(ctx.host.pool) as conn:
        found = await messages.list_conversation(conn, page, conversation_id=conversation.id)
    return json(letta_messages.show_all(found, _types(query.include_return_message_types)))


async def list_run(ctx: Context) -> Response:
    """List the messages of a run, what it was sent included."""
    query = ctx.query(PageQuery)
    async with connection(ctx.host.pool) as conn:
        run = await runs.get(conn, ctx.params["run_id"], organization_id=ctx.caller.organization_id)
        found = await messages.list_run(conn, _page(query), run_id=run.id)
    return json(letta_messages.show_all(found, _types(query.include_return_message_types)))


async def list_step(ctx: Context) -> Response:
    """List the messages that a step made."""
    query = ctx.query(PageQuery)
    async with connection(ctx.host.pool) as conn:
        step = await find_step(ctx, conn, ctx.params["step_id"])
        found = await messages.list_run(conn, _page(query), run_id=step.run_id, step_id=step.id)
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
                conn, _absolute(query), organization_id=ctx.caller.organization_id
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


def _voice(asked: SendRequest | HistoryQuery) -> Voice | None:
    """Return the tool by whose calls the agent speaks; None where a client wants them as calls."""
    return letta_speech.voice_of(asdict(asked))


def _types(chosen: list[MessageType] | tuple[MessageType, ...] | None) -> frozenset[str] | None:
    return None if chosen is None else frozenset(chosen)


def _page(query: PageQuery) -> Page:
    return Page(
        limit=query.limit or 100,
        after=query.after,
        before=query.before,
        descending=query.order == "desc",
    )


def _absolute(query: HistoryQuery) -> Page:
    """Return the page for cursors that mean later and earlier in time, whatever the order."""
    descending = query.order == "desc"
    after, before = (query.before, query.after) if descending else (query.after, query.before)
    return Page(limit=query.limit or 100, after=after, before=before, descending=descending)


def _post(path: str, endpoint: Endpoint, operation_id: str, returns: Any) -> Route:
    """Return a route that sends messages: it waits for a model and bounds its waits itself."""
    return Route(
        method="POST",
        path=path,
        endpoint=endpoint,
        operation_id=operation_id,
        summary=_summary(endpoint),
        body=SendRequest,
        returns=returns,
        tags=("messages",),
        body_bytes=MESSAGE_BODY_BYTES,
        deadline_seconds=None,
    )


def _get(path: str, endpoint: Endpoint, operation_id: str, query: type[Struct] | None) -> Route:
    return Route(
        method="GET",
        path=path,
        endpoint=endpoint,
        operation_id=operation_id,
        summary=_summary(endpoint),
        query=query,
        returns=list[LettaMessage],
        tags=("messages",),
    )


def _summary(endpoint: Endpoint) -> str:
    """Return the first sentence of an endpoint's docstring."""
    return (endpoint.__doc__ or "").partition("\n")[0].rstrip(".")


_AGENT = "/v1/agents/{agent_id}/messages"
_CONVERSATION = "/v1/conversations/{conversation_id}/messages"

ROUTES = (
    _post(_AGENT, create, "send_message", LettaResponse),
    _post(f"{_AGENT}/stream", create_stream, "create_agent_message_stream", None),
    _post(f"{_AGENT}/async", create_async, "create_agent_message_async", letta_runs.LettaRun),
    _post(_CONVERSATION, create_in_conversation, "send_conversation_message", LettaResponse),
    Route(
        method="POST",
        path=f"{_AGENT}/cancel",
        endpoint=cancel,
        operation_id="cancel_message",
        summary=_summary(cancel),
        body=CancelRequest,
        body_optional=True,
        returns=dict[str, str],
        tags=("messages",),
    ),
    Route(
        method="PATCH",
        path=f"{_AGENT}/{{message_id}}",
        endpoint=modify,
        operation_id="modify_message",
        summary=_summary(modify),
        tags=("messages",),
    ),
    _get(_AGENT, list_agent, "list_messages", HistoryQuery),
    _get(_CONVERSATION, list_conversation, "list_conversation_messages", ConversationQuery),
    _get("/v1/runs/{run_id}/messages", list_run, "list_messages_for_run", PageQuery),
    _get("/v1/steps/{step_id}/messages", list_step, "list_messages_for_step", PageQuery),
    _get("/v1/messages/", list_everywhere, "list_all_messages", HistoryQuery),
    _get("/v1/messages/{message_id}", retrieve, "retrieve_message", None),
)
