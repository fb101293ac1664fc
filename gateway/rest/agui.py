"""AG-UI over server-sent events: runs of an agent, their streams taken up again, and what the server can."""

import asyncio
from importlib.metadata import version
from typing import Any

from msgspec import Struct
from starlette.responses import Response

from actors import clock
from actors.commands import SendMessages
from gateway import deliveries, inputs, interrupts, threads
from gateway.agui import input as agui_input
from gateway.agui import source as agui_source
from gateway.agui import stream as agui_stream
from gateway.agui.capabilities import capabilities
from gateway.agui.input import RunAgentInput
from gateway.agui.projection import Ids
from gateway.agui.stream import Stream
from gateway.answers import FINISHED, Following
from gateway.app import MESSAGE_BODY_BYTES, Context, Route, json
from gateway.auth import READ, SEND, THOUGHTS
from gateway.deliveries import ACCEPT_SECONDS
from storage import pending, runs
from storage.errors import NotFoundError
from storage.keyset import Page
from storage.pending_records import PendingRequest
from storage.pool import connection
from storage.records import Conversation, JsonObject, Run
from storage.standing import Standing

CONFIG = "agui"  # under which a run keeps what its client calls it


class ResumeQuery(Struct, frozen=True, kw_only=True):
    """After which event to go on: its id. The header Last-Event-ID wins."""

    after: str | None = None


async def run(ctx: Context) -> Response:
    """Tell an agent what is new in a thread and stream the run, as AG-UI events."""
    ctx.caller.require(READ)
    ctx.caller.require(SEND)
    given = await ctx.body(RunAgentInput)
    async with asyncio.timeout(ACCEPT_SECONDS):
        return await _answer(ctx, given, ctx.params["agent_id"])


async def _answer(ctx: Context, given: RunAgentInput, agent_id: str) -> Response:
    key = agui_input.key_of(threads.conversation_id(agent_id, given.thread_id), given.run_id)
    known, said = await threads.hear(
        ctx,
        agent_id,
        given.thread_id,
        otids=agui_input.sent_ids(given),
        news=lambda heard: agui_input.new_messages(given, heard),
        key=key,
    )
    conversation = known.conversation
    earlier, waiting = await _stored(ctx, known)
    ids = Ids(given.thread_id, given.run_id)
    if earlier is not None and not said:
        return _follow(ctx, earlier, ids)
    answers = agui_input.answers_of(given, waiting)
    if not said and not answers:
        return await _nothing_new(ctx, conversation, ids, waiting)
    if answers and earlier is None:
        interrupts.check(waiting, answers)
    wishes = agui_input.wishes_of(given)
    busy = inputs.when_busy(ctx.headers.get(b"x-wakeful-when-busy"), wishes.when_busy)
    command = SendMessages(
        conversation_id=conversation.id,
        messages=said,
        approvals=answers,
        client_tools=agui_input.client_tools_of(given),
        max_steps=wishes.max_steps,
        model=wishes.model,
        when_busy="queue" if answers else busy,
        request_config={
            "run_type": "agui",
            "stream_tokens": True,
            CONFIG: {"thread": ids.thread, "run": ids.run, "answering": bool(answers)},
        },
    )
    if command.model is not None:
        ctx.host.catalog.resolve(command.model)
    receipt = await deliveries.tell(
        ctx.host,
        ctx.caller,
        command,
        agent_id=conversation.agent_id,
        key=key,
        request_hash=inputs.hash_of(conversation.agent_id, command),
        fresh=bool(said) and earlier is None,  # no message of it was heard, and no run is known by its name
    )
    return agui_stream.response(
        ctx.host, _stream(ctx, conversation, receipt.run_id, ids, answering=bool(answers))
    )


async def _stored(ctx: Context, known: Standing) -> tuple[Run | None, PendingRequest | None]:
    """Return the run of an earlier try of this request, and what the conversation waits for."""
    if known.run_id is None and not known.waits:  # the path of every new message
        return None, None
    conversation_id = known.conversation.id
    async with connection(ctx.host.pool) as conn:
        waiting = (await pending.of_conversations(conn, [conversation_id])).get(conversation_id)
        if known.run_id is None:
            return None, waiting
        return await runs.get(conn, known.run_id, organization_id=ctx.caller.organization_id), waiting


async def _nothing_new(
    ctx: Context, conversation: Conversation, ids: Ids, waiting: PendingRequest | None
) -> Response:
    """Show how the conversation stands: the run that works in it, or its messages and how the last ended."""
    active = await threads.active_run(ctx, conversation)
    if active is not None:
        return _follow(ctx, active, ids)
    async with connection(ctx.host.pool) as conn:
        last = await runs.list_page(
            conn,
            Page(limit=1),
            organization_id=ctx.caller.organization_id,
            agent_ids=[conversation.agent_id],
            conversation_id=conversation.id,
        )
    stream = _stream(ctx, conversation, clock.new_id("run"), ids)
    return await agui_stream.idle(ctx.host, stream, waiting=waiting, last=last[0] if last else None)


def _follow(ctx: Context, found: Run, ids: Ids) -> Response:
    return agui_stream.response(ctx.host, _of_run(ctx, found, ids))


async def resume(ctx: Context) -> Response:
    """Take up the stream of a run after any of its events, or from its start; 204 after its last one.

    Events keep their ids for as long as the log has them. A run of which only the messages are left is told
    by them, from its RUN_STARTED on, whatever was seen before.
    """
    ctx.caller.require(READ)
    ctx.caller.require_agent(ctx.params["agent_id"])
    header = ctx.headers.get(b"last-event-id", b"").decode("latin-1")
    asked = header or ctx.query(ResumeQuery).after
    async with connection(ctx.host.pool) as conn:
        found = await runs.get(conn, ctx.params["run_id"], organization_id=ctx.caller.organization_id)
    if found.agent_id != ctx.params["agent_id"]:
        raise NotFoundError("run", found.id)
    after = agui_source.cursor(asked) if asked else None
    stream = _of_run(ctx, found, None, after=after)
    if found.status in FINISHED:
        if await agui_stream.over(ctx.host, stream):
            return Response(status_code=204)
        await agui_stream.check(ctx.host, stream, found)
    return agui_stream.response(ctx.host, stream)


def _of_run(ctx: Context, found: Run, ids: Ids | None, **more: Any) -> Stream:
    """Return the stream of a stored run, under the names that its client gave it if it was AG-UI's."""
    config: JsonObject = found.request_config.get(CONFIG) or {}
    named = ids or Ids(config.get("thread", found.conversation_id), config.get("run", found.id))
    answering = bool(config.get("answering"))
    following = Following(
        run_id=found.id,
        agent_id=found.agent_id,
        conversation_id=found.conversation_id,
        organization_id=found.organization_id,
    )
    thoughts = THOUGHTS in ctx.caller.scopes
    return Stream(
        run=following,
        ids=named,
        thoughts=thoughts,
        answering=answering,
        expires_at=ctx.expires_at,
        **more,
    )


def _stream(
    ctx: Context, conversation: Conversation, run_id: str, ids: Ids, *, answering: bool = False
) -> Stream:
    following = Following(
        run_id=run_id,
        agent_id=conversation.agent_id,
        conversation_id=conversation.id,
        organization_id=conversation.organization_id,
    )
    return Stream(
        run=following,
        ids=ids,
        thoughts=THOUGHTS in ctx.caller.scopes,
        answering=answering,
        expires_at=ctx.expires_at,
    )


async def retrieve_capabilities(_: Context) -> Response:
    """Return what the server can do for AG-UI clients."""
    return json(capabilities(version=version("wakeful")))


ROUTES = (
    Route(
        method="POST",
        path="/v1/agui/agents/{agent_id}",
        endpoint=run,
        operation_id="run_agui_agent",
        summary="Run an agent and stream AG-UI events",
        body=RunAgentInput,
        tags=("agui",),
        body_bytes=MESSAGE_BODY_BYTES,
        deadline_seconds=None,
        tokens=True,
    ),
    Route(
        method="GET",
        path="/v1/agui/agents/{agent_id}/runs/{run_id}/events",
        endpoint=resume,
        operation_id="resume_agui_run",
        summary="Take up the AG-UI stream of a run",
        query=ResumeQuery,
        tags=("agui",),
        tokens=True,
    ),
    Route(
        method="GET",
        path="/v1/capabilities",
        endpoint=retrieve_capabilities,
        operation_id="retrieve_capabilities",
        summary="Get what AG-UI clients may use",
        returns=JsonObject,
        tags=("agui",),
        tokens=True,
    ),
)
