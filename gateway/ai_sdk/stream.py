"""The event stream of an AI SDK chat: of the run that answers, and of those that wrote before it."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from msgspec.structs import replace

from actors.channels import Hand
from actors.events import Logged
from actors.host import Host
from gateway import answers, endings, expiring
from gateway.ai_sdk import requests
from gateway.ai_sdk.reducer import Mode, Reducer
from gateway.ai_sdk.requests import Continued, UIMessage
from gateway.answers import Following
from gateway.app import Context
from gateway.auth import THOUGHTS
from gateway.endings import Ending
from gateway.sse import Direct, EventStream
from storage.records import Run, RunError

PROTOCOL = ((b"x-vercel-ai-ui-message-stream", b"v1"),)
PING = b": ping\n\n"


def following(ctx: Context, conversation_id: str, run_id: str) -> Following:
    """Return a run of the path's agent to follow."""
    return Following(
        run_id=run_id,
        agent_id=ctx.params["agent_id"],
        conversation_id=conversation_id,
        organization_id=ctx.caller.organization_id,
    )


def replay(ctx: Context, run: Run) -> EventStream:
    """Return the whole of the message that a run writes, from the first run that wrote in it."""
    continued = requests.continued(run)
    wanted = [following(ctx, run.conversation_id, run_id) for run_id in (*continued.earlier, run.id)]
    return response(ctx, replace(_mode(ctx, run, continued), earlier=frozenset(continued.earlier)), wanted)


def again(ctx: Context, run: Run, into: UIMessage | None) -> EventStream:
    """Return what a run adds to a client's message, or the message that it begins, once more."""
    mode = replace(
        _mode(ctx, run, requests.continued(run)),
        known=requests.calls_of(into),
        settled=requests.settled_of(into),
    )
    return response(ctx, mode, [following(ctx, run.conversation_id, run.id)])


def _mode(ctx: Context, run: Run, continued: Continued) -> Mode:
    return Mode(
        message_id=continued.message_id,
        conversation_id=run.conversation_id,
        client_tools=frozenset(continued.client_tools),
        thoughts=THOUGHTS in ctx.caller.scopes,
    )


def response(ctx: Context, mode: Mode, wanted: Sequence[Following]) -> EventStream:
    """Return the stream of runs that write one message; it ends with the last of them."""
    reducer = Reducer(wanted[-1].run_id, mode)

    def give_up() -> bytes:
        return reducer.broken_off(endings.SILENT)

    def expire() -> bytes:
        error = RunError(expiring.CODE, expiring.MESSAGE)
        return b"" if reducer.finished else reducer.broken_off(error)

    direct = Direct()
    chunks = _chunks(ctx.host, wanted, reducer, direct)
    return EventStream(
        expiring.until(chunks, ctx.expires_at, last=expire),
        direct=direct,
        ping=lambda: PING,
        ping_seconds=ctx.settings.keepalive_interval,
        give_up=give_up,
        headers=PROTOCOL,
    )


async def _chunks(
    host: Host, wanted: Sequence[Following], reducer: Reducer, direct: Direct
) -> AsyncGenerator[list[bytes], None]:
    """Yield a stream's chunks. After its first byte a failure can only be told in the stream itself."""
    yield [reducer.begin()]
    ending = Ending(reducer.run_id)
    async with ending, aclosing(_batches(host, wanted, answers.hand_to(reducer, direct))) as batches:
        async for batch in batches:
            if chunks := reducer.feed(batch):
                yield chunks
    if not reducer.finished:
        yield [reducer.broken_off(ending.error)]


async def _batches(host: Host, wanted: Sequence[Following], hand: Hand) -> AsyncGenerator[list[Logged], None]:
    """Yield the events of runs, one after the other; as `answers.follow`."""
    for run in wanted:
        async with aclosing(answers.follow(host, run, hand)) as batches:
            async for batch in batches:
                yield batch
