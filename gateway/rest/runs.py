"""Runs: one by id, lists, what they used, and their streams taken up again."""

from datetime import timedelta
from typing import Annotated, Literal

from msgspec import Meta, Struct
from starlette.responses import Response

from actors import clock
from actors.errors import LogTrimmedError
from gateway import answers
from gateway.answers import Following
from gateway.app import Context, Route, json
from gateway.decode import Limit, Order
from gateway.errors import BadArgumentError, InvalidRequestError
from gateway.letta import runs as letta_runs
from gateway.letta import speech as letta_speech
from gateway.letta.runs import LettaRun, RunMetrics, RunUsage
from gateway.letta.stream import Mode
from storage import messages, runs, tools
from storage.keyset import Page
from storage.pool import connection
from storage.records import Run, RunStatus, StopReason, ToolReturnPart
from storage.tools import ToolFilter

MOST_ACTIVE = 1000
MOST_TOOLS = 1000
EXPIRY = timedelta(hours=3)  # how long after its end a run's stream can be taken up again


class ListQuery(Struct, frozen=True, kw_only=True):
    """Which runs; every filter that is given must hold. `active` means created or running.

    The conversation `default` is that of `agent_id`.
    """

    agent_id: str | None = None
    agent_ids: list[str] | None = None
    statuses: list[RunStatus] | None = None
    background: bool | None = None
    stop_reason: StopReason | None = None
    conversation_id: str | None = None
    before: str | None = None
    after: str | None = None
    limit: Limit | None = 100
    order: Order | None = None
    order_by: Literal["created_at"] = "created_at"
    active: bool = False
    ascending: bool = False


class ActiveQuery(Struct, frozen=True, kw_only=True):
    """Which of the unfinished runs."""

    agent_id: str | None = None
    background: bool | None = None


class StreamRequest(Struct, frozen=True, kw_only=True):
    """Where to take a stream up: after the number `starting_after`.

    `poll_interval` and `batch_size` are accepted and mean nothing: events are pushed as they come.
    """

    agent_id: str | None = None
    run_id: str | None = None
    otid: str | None = None
    starting_after: Annotated[int, Meta(ge=0, le=2**53)] = 0
    include_pings: bool | None = True
    poll_interval: float | None = None
    batch_size: int | None = None


async def list_all(ctx: Context) -> Response:
    """List runs, newest first unless told otherwise."""
    query = ctx.query(ListQuery)
    order = query.order or ("asc" if query.ascending else "desc")
    async with connection(ctx.host.pool) as conn:
        found = await runs.list_page(
            conn,
            Page(
                limit=query.limit or 100, after=query.after, before=query.before, descending=order == "desc"
            ),
            organization_id=ctx.caller.organization_id,
            agent_ids=[query.agent_id] if query.agent_id is not None else query.agent_ids,
            conversation_id=_conversation_id(query),
            statuses=_statuses(query),
            background=query.background,
            stop_reason=query.stop_reason,
        )
    return json([_show(ctx, run) for run in found])


def _conversation_id(query: ListQuery) -> str | None:
    if query.conversation_id != "default":
        return query.conversation_id
    if query.agent_id is None:
        raise InvalidRequestError("the conversation 'default' needs agent_id", param="/agent_id")
    return query.agent_id


def _statuses(query: ListQuery) -> list[str] | None:
    if not query.active:
        return None if query.statuses is None else list(query.statuses)
    return [status for status in runs.ACTIVE if query.statuses is None or status in query.statuses]


async def retrieve(ctx: Context) -> Response:
    """Return one run."""
    return json(_show(ctx, await _get(ctx, ctx.params["run_id"])))


async def list_active(ctx: Context) -> Response:
    """List unfinished runs, newest first."""
    query = ctx.query(ActiveQuery)
    async with connection(ctx.host.pool) as conn:
        found = await runs.list_page(
            conn,
            Page(limit=MOST_ACTIVE),
            organization_id=ctx.caller.organization_id,
            agent_ids=None if query.agent_id is None else [query.agent_id],
            statuses=runs.ACTIVE,
            background=query.background,
        )
    return json([_show(ctx, run) for run in found])


async def retrieve_metrics(ctx: Context) -> Response:
    """Return how long a run took, how many steps it had, and which of the agent's tools it used."""
    run = await _get(ctx, ctx.params["run_id"])
    async with connection(ctx.host.pool) as conn:
        said = await messages.whole_run(conn, run.id)
        used = {part.name for m in said for part in m.content if isinstance(part, ToolReturnPart)}
        where = ToolFilter(organization_id=run.organization_id, names=sorted(used))
        held = await tools.list_page(conn, Page(limit=MOST_TOOLS), where=where)
    return json(letta_runs.run_metrics_of(run, tools_used=[tool.id for tool in held]))


async def retrieve_usage(ctx: Context) -> Response:
    """Return the tokens that a run has used as of its last committed step."""
    return json(letta_runs.run_usage_of((await _get(ctx, ctx.params["run_id"])).usage))


async def retrieve_stream(ctx: Context) -> Response:
    """Take up the stream of a background run: every event after a number, then live to its end."""
    request = await ctx.optional_body(StreamRequest) or StreamRequest()
    return resume(ctx, await _get(ctx, ctx.params["run_id"]), request)


async def _get(ctx: Context, run_id: str) -> Run:
    async with connection(ctx.host.pool) as conn:
        return await runs.get(conn, run_id, organization_id=ctx.caller.organization_id)


def _show(ctx: Context, run: Run) -> LettaRun:
    running = run.status == "created" and ctx.host.ref(run.agent_id).running_step(run.id) is not None
    return letta_runs.show_run(run, running=running)


def resume(ctx: Context, run: Run, request: StreamRequest) -> Response:
    """Return the stream of a run from where the client left it, written as it was asked for at first.

    Raises:
        BadArgumentError: The run is not a background run.
        LogTrimmedError: It ended too long ago.
    """
    if not run.background:
        raise BadArgumentError("Run was not created in background mode, so it cannot be retrieved.")
    if run.completed_at is not None and clock.now() - run.completed_at > EXPIRY:
        raise LogTrimmedError(run.id)
    config = run.request_config
    include = config.get("include_return_message_types")
    mode = Mode(
        tokens=bool(config.get("stream_tokens")),
        numbered=True,
        include=None if include is None else frozenset(include),
        voice=letta_speech.voice_of(config),
        compactions=bool(config.get("include_compaction_messages")),
        after=request.starting_after,
    )
    following = Following(
        run_id=run.id,
        agent_id=run.agent_id,
        conversation_id=run.conversation_id,
        organization_id=run.organization_id,
    )
    return answers.stream(ctx, following, mode, pings=request.include_pings is not False)


ROUTES = (
    Route(
        method="GET",
        path="/v1/runs/",
        endpoint=list_all,
        operation_id="list_runs",
        summary="List runs",
        query=ListQuery,
        returns=list[LettaRun],
        tags=("runs",),
    ),
    Route(
        method="GET",
        path="/v1/runs/active",
        endpoint=list_active,
        operation_id="list_active_runs",
        summary="List unfinished runs",
        query=ActiveQuery,
        returns=list[LettaRun],
        tags=("runs",),
    ),
    Route(
        method="GET",
        path="/v1/runs/{run_id}/metrics",
        endpoint=retrieve_metrics,
        operation_id="retrieve_metrics_for_run",
        summary="What a run took and used",
        returns=RunMetrics,
        tags=("runs",),
    ),
    Route(
        method="GET",
        path="/v1/runs/{run_id}",
        endpoint=retrieve,
        operation_id="retrieve_run",
        summary="Get a run",
        returns=LettaRun,
        tags=("runs",),
    ),
    Route(
        method="GET",
        path="/v1/runs/{run_id}/usage",
        endpoint=retrieve_usage,
        operation_id="retrieve_run_usage",
        summary="Get what a run has used",
        returns=RunUsage,
        tags=("runs",),
    ),
    Route(
        method="POST",
        path="/v1/runs/{run_id}/stream",
        endpoint=retrieve_stream,
        operation_id="retrieve_stream",
        summary="Take up the stream of a background run",
        body=StreamRequest,
        body_optional=True,
        tags=("runs",),
    ),
)
