"""The AI SDK's UI message stream: chats of Vercel's `useChat` hook, sent, taken up again and stopped."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from itertools import takewhile

from msgspec import Struct, to_builtins
from starlette.responses import Response

from actors.commands import InputMessage, OwnMessages, SendMessages
from actors.errors import NothingToCancelError, PendingApprovalError
from actors.host import Host
from gateway import deliveries, inputs, threads
from gateway.ai_sdk import history as ai_sdk_history
from gateway.ai_sdk import requests as ai_sdk_requests
from gateway.ai_sdk import stream as ai_sdk_stream
from gateway.ai_sdk.history import ShownMessage
from gateway.ai_sdk.reducer import Mode
from gateway.ai_sdk.requests import ChatRequest, Continued
from gateway.app import MESSAGE_BODY_BYTES, Context, Route, json
from gateway.auth import READ, SEND, THOUGHTS
from gateway.decode import Limit
from gateway.deliveries import ACCEPT_SECONDS
from gateway.errors import BadArgumentError, NotSupportedError
from storage import conversations, forks, messages, pending, runs
from storage.keyset import Page
from storage.pending_records import PendingRequest
from storage.pool import Conn, connection
from storage.records import Conversation, Message, Run
from storage.standing import Standing

NOT_AGAIN = "only the last message of a conversation is answered anew, and none that was said is changed"
ANSWER_MESSAGES = 1000  # stored messages of one answer that is given anew


class _Planned(Struct, frozen=True, kw_only=True):
    """What a request is to become: a command, and how the stream of its run is written."""

    command: SendMessages
    mode: Mode
    key: str | None = None


async def chat(ctx: Context) -> Response:
    """Send what is new in a chat to an agent and stream its answer."""
    ctx.caller.require(READ)
    ctx.caller.require(SEND)
    agent_id = ctx.params["agent_id"]
    request = await ctx.body(ChatRequest)
    async with asyncio.timeout(ACCEPT_SECONDS):
        latest = ai_sdk_requests.latest(request.messages)
        otids = [message.otid for message in latest if message.otid is not None]
        known, new = await threads.hear(
            ctx, agent_id, request.id, otids=otids, news=lambda heard: threads.unheard(latest, heard)
        )
        conversation = known.conversation
        planned = await _plan(ctx, request, known, new=new)
        if isinstance(planned, Run):
            return ai_sdk_stream.again(ctx, planned, ai_sdk_requests.target(request))
        command = planned.command
        receipt = await deliveries.tell(
            ctx.host,
            ctx.caller,
            command,
            agent_id=agent_id,
            key=planned.key or ai_sdk_requests.key_of(command),
            request_hash=inputs.hash_of(agent_id, command),
            fresh=bool(new),  # no message of it was heard
        )
    return ai_sdk_stream.response(
        ctx, planned.mode, [ai_sdk_stream.following(ctx, conversation.id, receipt.run_id)]
    )


async def resume(ctx: Context) -> Response:
    """Stream the run that works in a chat from its start; 204 where none does."""
    ctx.caller.require(READ)
    conversation = await threads.find(ctx, ctx.params["agent_id"], ctx.params["chat_id"])
    run = None if conversation is None else await threads.active_run(ctx, conversation)
    return Response(status_code=204) if run is None else ai_sdk_stream.replay(ctx, run)


async def stop(ctx: Context) -> Response:
    """Cancel what works in a chat; what it said so far stays in the history."""
    ctx.caller.require(SEND)
    conversation = await threads.find(ctx, ctx.params["agent_id"], ctx.params["chat_id"])
    if conversation is not None:
        with suppress(NothingToCancelError):
            await ctx.host.ref(conversation.agent_id).cancel(conversation_id=conversation.id)
    return Response(status_code=204)


class HistoryQuery(Struct, frozen=True, kw_only=True):
    """How many stored messages to read, the newest ones; each answer is made of several."""

    limit: Limit = 200


async def history(ctx: Context) -> Response:
    """List the messages of a chat, oldest first, for a page that is loaded anew."""
    ctx.caller.require(READ)
    limit = ctx.query(HistoryQuery).limit
    conversation = await threads.find(ctx, ctx.params["agent_id"], ctx.params["chat_id"])
    if conversation is None:
        return json([])
    async with connection(ctx.host.pool) as conn:
        ancestors = await forks.ancestors(conn, conversation)
        found = await messages.list_newest(conn, conversation.id, limit=limit, ancestors=ancestors)
        waiting = (await pending.of_conversations(conn, [conversation.id])).get(conversation.id)
    found.reverse()
    if len(found) == limit:  # an answer of which the beginning is missing is not shown
        first = next((place for place, message in enumerate(found) if message.role == "user"), len(found))
        found = found[first:]
    return json(ai_sdk_history.show(found, waiting, thoughts=THOUGHTS in ctx.caller.scopes))


# --- what to do -------------------------------------------------------------------------------


async def _plan(
    ctx: Context, request: ChatRequest, known: Standing, *, new: tuple[InputMessage, ...]
) -> _Planned | Run:
    """Return the command that a request stands for, or the run of its earlier try.

    Raises:
        BadArgumentError, InvalidRequestError, NotSupportedError: There is nothing in it that can be sent.
        PendingApprovalError: The conversation waits for an answer, and the request has none.
    """
    conversation = known.conversation
    waiting = await _waiting(conversation, ctx.host) if known.waits else None
    decisions = () if waiting is None else ai_sdk_requests.answers_of(request.messages, waiting)
    if not new and not decisions:
        if request.trigger == "regenerate-message":
            return await _anew(ctx, request, conversation, waiting)
        return await _earlier(ctx, request, conversation, known.heard, waiting)
    if request.trigger == "regenerate-message" and await _inherits(ctx, request, conversation):
        return await _anew(ctx, request, conversation, waiting)
    into = ai_sdk_requests.target(request)
    tools = ai_sdk_requests.client_tools(request.tools)
    offered = tools if tools is not None else () if waiting is None else waiting.client_tools
    continued = Continued(
        message_id=None if into is None else into.id,
        earlier=() if into is None or waiting is None else await _begun_by(ctx, waiting),
        client_tools=tuple(tool.name for tool in offered),
    )
    busy = inputs.when_busy(ctx.headers.get(b"x-wakeful-when-busy"), "queue")
    command = SendMessages(
        conversation_id=conversation.id,
        messages=new,
        approvals=decisions,
        approvals_otid=f"answer-{waiting.message_id}" if decisions and waiting is not None else None,
        client_tools=tools,
        max_steps=request.max_steps,
        when_busy="queue" if decisions else busy,
        request_config={"run_type": "ai_sdk", "ai_sdk": to_builtins(continued)},
    )
    mode = Mode(
        message_id=continued.message_id,
        conversation_id=conversation.id,
        client_tools=frozenset(continued.client_tools),
        known=ai_sdk_requests.calls_of(into),
        settled=ai_sdk_requests.settled_of(into),
        thoughts=THOUGHTS in ctx.caller.scopes,
    )
    return _Planned(command=command, mode=mode)


async def _anew(
    ctx: Context, request: ChatRequest, conversation: Conversation, waiting: PendingRequest | None
) -> _Planned | Run:
    """Return the command that answers the last message anew, or the run that answers it now.

    What answered it before stays in the history, but models are shown it no more. Of an answer that a fork
    shares with its parent it gets a copy first: the parent keeps its own.

    Raises:
        NotSupportedError: It is not the last message of the conversation, or models are not shown it.
        PendingApprovalError: The answer waits for one itself.
    """
    if waiting is not None:
        raise PendingApprovalError(conversation.id, waiting.message_id)
    async with connection(ctx.host.pool) as conn:
        newest = await _newest(ctx, conn, conversation)  # before one that begins now can end
    if (active := await threads.active_run(ctx, conversation)) is not None:
        return active
    stored = await _stored(ctx, conversation)
    answer = list(takewhile(lambda message: message.role != "user", stored))
    asked = stored[len(answer)] if len(answer) < len(stored) else None
    if asked is None or not request.messages or (asked.otid or asked.id) != request.messages[-1].id:
        raise NotSupportedError(NOT_AGAIN, param="/messages")
    if asked.excluded:
        raise NotSupportedError("a message that no model takes is not answered anew", param="/messages")
    if asked.position < conversation.from_position:
        raise NotSupportedError("a message that was summed up is not answered anew", param="/messages")
    if any(message.conversation_id != conversation.id for message in answer):
        await ctx.host.ref(conversation.agent_id).edit(OwnMessages(conversation.id, asked.position))
        stored = await _stored(ctx, conversation)
        answer = list(takewhile(lambda message: message.role != "user", stored))
    tools = ai_sdk_requests.client_tools(request.tools)
    continued = Continued(client_tools=tuple(tool.name for tool in tools or ()))
    command = SendMessages(
        conversation_id=conversation.id,
        messages=(),
        client_tools=tools,
        max_steps=request.max_steps,
        request_config={"run_type": "ai_sdk", "ai_sdk": to_builtins(continued)},
        withdraws={m.id: m.position for m in answer if _is_said(m) and not m.excluded},
    )
    mode = Mode(
        message_id=None,
        conversation_id=conversation.id,
        client_tools=frozenset(continued.client_tools),
        thoughts=THOUGHTS in ctx.caller.scopes,
    )
    last = stored[0].id if newest is None else newest.id  # one that failed may have left no message
    return _Planned(command=command, mode=mode, key=f"again-{conversation.id}-{last}")


async def _inherits(ctx: Context, request: ChatRequest, conversation: Conversation) -> bool:
    """Say whether a fork has the last message from its parent: nobody said it in the fork itself."""
    if conversation.parent_id is None or not request.messages:
        return False
    last = request.messages[-1].id
    return any(last in (message.otid, message.id) for message in await _stored(ctx, conversation))


async def _stored(ctx: Context, conversation: Conversation) -> list[Message]:
    """Return the last messages of a conversation, newest first, those that it shares with its parent too."""
    async with connection(ctx.host.pool) as conn:
        now = await conversations.get(
            conn, conversation.id, organization_id=ctx.caller.organization_id
        )  # what it shares may be another stretch by now
        ancestors = await forks.ancestors(conn, now)
        return await messages.list_newest(conn, now.id, limit=ANSWER_MESSAGES, ancestors=ancestors)


async def _newest(ctx: Context, conn: Conn, conversation: Conversation) -> Run | None:
    """Return the run that began last in a conversation."""
    found = await runs.list_page(
        conn,
        Page(limit=1),
        organization_id=ctx.caller.organization_id,
        conversation_id=conversation.id,
    )
    return found[0] if found else None


async def _waiting(conversation: Conversation, host: Host) -> PendingRequest | None:
    async with connection(host.pool) as conn:
        return (await pending.of_conversations(conn, [conversation.id])).get(conversation.id)


def _is_said(message: Message) -> bool:
    """Say whether it is part of an answer: what sums up the conversation stands for more than that."""
    return message.role not in ("system", "summary")


async def _begun_by(ctx: Context, waiting: PendingRequest) -> tuple[str, ...]:
    """Return the runs that wrote the message in which calls wait, oldest first."""
    async with connection(ctx.host.pool) as conn:
        run = await runs.get(conn, waiting.run_id, organization_id=ctx.caller.organization_id)
    return (*ai_sdk_requests.continued(run).earlier, run.id)


async def _earlier(
    ctx: Context,
    request: ChatRequest,
    conversation: Conversation,
    known: Mapping[str, str],
    waiting: PendingRequest | None,
) -> Run:
    """Return the run of a request that says nothing new: it was sent before, and its answer is wanted."""
    last = request.messages[-1] if request.messages else None
    async with connection(ctx.host.pool) as conn:
        if last is not None and last.id in known:
            if request.message_id == last.id:
                raise NotSupportedError(NOT_AGAIN, param="/trigger")
            return await runs.get(conn, known[last.id], organization_id=ctx.caller.organization_id)
        into = ai_sdk_requests.target(request)
        newest = await _newest(ctx, conn, conversation)
    answered = None if newest is None else ai_sdk_requests.continued(newest).message_id
    if newest is not None and into is not None and answered == into.id:
        return newest
    if waiting is not None:
        raise PendingApprovalError(conversation.id, waiting.message_id)
    raise BadArgumentError("there is nothing new to send", param="/messages")


_CHAT = "/v1/ai-sdk/agents/{agent_id}/chat"

ROUTES = (
    Route(
        method="POST",
        path=_CHAT,
        endpoint=chat,
        operation_id="ai_sdk_chat",
        summary="Send what is new in a chat of the AI SDK and stream the answer",
        body=ChatRequest,
        tags=("ai-sdk",),
        body_bytes=MESSAGE_BODY_BYTES,
        deadline_seconds=None,
        tokens=True,
    ),
    Route(
        method="GET",
        path=f"{_CHAT}/{{chat_id}}/stream",
        endpoint=resume,
        operation_id="ai_sdk_resume",
        summary="Stream the run that works in a chat of the AI SDK from its start",
        tags=("ai-sdk",),
        tokens=True,
    ),
    Route(
        method="POST",
        path=f"{_CHAT}/{{chat_id}}/stop",
        endpoint=stop,
        operation_id="ai_sdk_stop",
        summary="Cancel what works in a chat of the AI SDK",
        status=204,
        tags=("ai-sdk",),
        tokens=True,
    ),
    Route(
        method="GET",
        path=f"{_CHAT}/{{chat_id}}/messages",
        endpoint=history,
        operation_id="ai_sdk_messages",
        summary="List the messages of a chat of the AI SDK",
        query=HistoryQuery,
        returns=list[ShownMessage],
        tags=("ai-sdk",),
        tokens=True,
    ),
)
