"""The route of OpenAI's chat completions: an agent answers where a program expects a model."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

import anyio
import msgspec
from starlette.responses import Response

from actors import clock
from actors.errors import LogTrimmedError, ModelError
from actors.host import Host
from gateway import answers, endings, errors
from gateway.answers import ANSWER_SECONDS, Following
from gateway.app import MESSAGE_BODY_BYTES, Context, Route, json
from gateway.deliveries import deliver
from gateway.endings import Ending
from gateway.inputs import SendRequest
from gateway.letta import completions
from gateway.letta.completions import ChatCompletion, ChatCompletionRequest, Completion
from gateway.letta.runs import failure_of, refusal_of
from gateway.sse import Direct, EventStream
from storage import agents
from storage.pool import connection

PING = b": ping\n\n"  # a comment, which clients of OpenAI's pass over


async def create(ctx: Context) -> Response:
    """Send the last user message to the agent that `model` names; answer as a model would."""
    request = await ctx.body(ChatCompletionRequest)
    said = completions.user_message(request)
    agent_id = request.model
    async with connection(ctx.host.pool) as conn:
        await agents.check(conn, agent_id, organization_id=ctx.caller.organization_id)
    receipt = await deliver(
        ctx,
        msgspec.convert({"messages": [said]}, SendRequest),
        agent_id=agent_id,
        conversation_id=agent_id,
        default_busy="queue",
        run_type="chat_completion",
    )
    run = Following(
        run_id=receipt.run_id,
        agent_id=agent_id,
        conversation_id=receipt.conversation_id,
        organization_id=ctx.caller.organization_id,
    )
    completion = Completion(
        run.run_id,
        agent_id,
        int(clock.now().timestamp()),
        tokens=bool(request.stream),
        usage=request.stream_options is not None and request.stream_options.include_usage,
    )
    return _stream(ctx, run, completion) if request.stream else await _whole(ctx, run, completion)


async def _whole(ctx: Context, run: Following, completion: Completion) -> Response:
    """Wait for the run's end and answer with what was said, or with why it failed."""
    with anyio.fail_after(ANSWER_SECONDS):
        async with aclosing(answers.follow(ctx.host, run)) as batches:
            async for batch in batches:
                completion.feed(batch)
    end = completion.end
    if end is None:
        raise LogTrimmedError(run.run_id)
    error = failure_of(end.status, end.stop_reason, end.error)
    if error is None:
        return json(completion.whole())
    found = errors.find(ModelError(error.message, kind=refusal_of(end.stop_reason, error)))
    return errors.render(msgspec.structs.replace(found, retry=False), ctx.request_id)


def _stream(ctx: Context, run: Following, completion: Completion) -> EventStream:
    direct = Direct()
    return EventStream(
        _chunks(ctx.host, run, completion, direct),
        direct=direct,
        ping=lambda: PING,
        ping_seconds=ctx.settings.keepalive_interval,
        give_up=lambda: completion.broken_off(endings.SILENT),
    )


async def _chunks(
    host: Host, run: Following, completion: Completion, direct: Direct
) -> AsyncGenerator[list[bytes], None]:
    """Yield the chunks. After the first byte a failure can only be told in the stream itself."""
    ending = Ending(run.run_id)
    hand = answers.hand_to(completion, direct)
    async with ending, aclosing(answers.follow(host, run, hand)) as batches:
        async for batch in batches:
            if chunks := completion.feed(batch):
                yield chunks
    if not completion.finished:
        yield [completion.broken_off(ending.error)]


ROUTES: tuple[Route, ...] = (
    Route(
        method="POST",
        path="/v1/chat/completions",
        endpoint=create,
        operation_id="create_chat_completion",
        summary="Let an agent answer in the shapes of OpenAI's chat completions",
        body=ChatCompletionRequest,
        returns=ChatCompletion,
        tags=("messages",),
        body_bytes=MESSAGE_BODY_BYTES,
        deadline_seconds=None,
    ),
)
