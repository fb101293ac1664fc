"""Messages: sending them to an agent, and cancelling what comes of them."""

from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import asdict
from starlette.responses import Response

from gateway import answers, callbacks, inputs
from gateway.answers import Following, LettaResponse
from gateway.app import MESSAGE_BODY_BYTES, Context, Endpoint, Route, json
from gateway.deliveries import deliver
from gateway.errors import WrongMethodError
from gateway.inputs import SendRequest
from gateway.letta import runs as letta_runs
from gateway.letta import speech as letta_speech
from gateway.letta.shapes import MessageType
from gateway.letta.speech import Voice
from gateway.letta.stream import Mode
from gateway.rest import conversations
from storage import agents, runs
from storage.pool import connection


class CancelRequest(Struct, frozen=True, kw_only=True):
    """Which runs to cancel; every unfinished one of the agent where none is named."""

    run_ids: tuple[str, ...] | None = None


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


def _voice(asked: SendRequest) -> Voice | None:
    """Return the tool by whose calls the agent speaks; None where a client wants them as calls."""
    return letta_speech.voice_of(asdict(asked))


def _types(chosen: tuple[MessageType, ...] | None) -> frozenset[str] | None:
    return None if chosen is None else frozenset(chosen)


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
)
