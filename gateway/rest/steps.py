"""Steps: one by id, with the one under way, and lists of them."""

from datetime import datetime
from typing import Literal

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace
from starlette.responses import Response

from gateway.app import Context, Route, json
from gateway.decode import Limit, Order
from gateway.letta.runs import LettaStep, StepMetrics, metrics_of, show_step
from gateway.paging import page_of
from gateway.requests import blocks as block_requests
from storage import runs, steps
from storage.errors import NotFoundError
from storage.keyset import Page
from storage.pool import Conn, connection
from storage.records import Step, StepFeedback

MAX_RUNNING = 1000  # runs that are asked for a step which is not stored; a host runs fewer at once


class ListQuery(Struct, frozen=True, kw_only=True):
    """Which steps; every filter that is given must hold, of `tags` one. No step has a trace here."""

    before: str | None = None
    after: str | None = None
    limit: Limit | None = 50
    order: Order = "desc"
    order_by: Literal["created_at"] = "created_at"
    start_date: datetime | None = None
    end_date: datetime | None = None
    model: str | None = None
    agent_id: str | None = None
    trace_ids: list[str] | None = None
    feedback: Literal["positive", "negative"] | None = None
    has_feedback: bool | None = None
    tags: list[str] | None = None
    project_id: str | None = None


class FeedbackRequest(Struct, frozen=True, kw_only=True):
    """What somebody thinks of a step: what is left out stays, null takes it away. Tags replace the tags."""

    feedback: Literal["positive", "negative"] | UnsetType | None = UNSET
    tags: tuple[str, ...] | UnsetType | None = UNSET


class RunStepsQuery(Struct, frozen=True, kw_only=True):
    """Which steps of a run."""

    before: str | None = None
    after: str | None = None
    limit: Limit | None = 100
    order: Order = "desc"
    order_by: Literal["created_at"] = "created_at"


async def list_all(ctx: Context) -> Response:
    """List committed steps."""
    query = ctx.query(ListQuery)
    if query.trace_ids or query.project_id:
        return json(())
    page = page_of(query, usual=50)
    async with connection(ctx.host.pool) as conn:
        found = await steps.list_page(
            conn,
            page,
            organization_id=ctx.caller.organization_id,
            agent_id=query.agent_id,
            model=query.model,
            start=query.start_date,
            end=query.end_date,
            feedback=query.feedback,
            has_feedback=query.has_feedback,
            tags=query.tags,
        )
    return json([show_step(step) for step in found])


async def list_run(ctx: Context) -> Response:
    """List the steps of a run, the one under way included."""
    query = ctx.query(RunStepsQuery)
    page = page_of(query, usual=100)
    async with connection(ctx.host.pool) as conn:
        run = await runs.get(conn, ctx.params["run_id"], organization_id=ctx.caller.organization_id)
        found = await steps.list_run(conn, page, run_id=run.id)
    running = ctx.host.ref(run.agent_id).running_step(run.id)
    return json([show_step(step) for step in with_running(found, running, page)])


def with_running(found: list[Step], running: Step | None, page: Page) -> list[Step]:
    """Return a page of a run's steps with the running one in its place, which is the newest."""
    if running is None or any(step.id == running.id for step in found):
        return found
    if page.descending and page.after is None and page.before is None:
        return [running, *found][: page.limit]
    if not page.descending and page.before is None and len(found) < page.limit:
        return [*found, running]
    return found


async def retrieve(ctx: Context) -> Response:
    """Return one step, committed or under way."""
    async with connection(ctx.host.pool) as conn:
        step = await find_step(ctx, conn, ctx.params["step_id"])
    return json(show_step(step))


async def metrics(ctx: Context) -> Response:
    """Return where a step's time went; of one under way, as far as its phases ended."""
    async with connection(ctx.host.pool) as conn:
        step = await find_step(ctx, conn, ctx.params["step_id"])
    return json(metrics_of(step))


async def trace(ctx: Context) -> Response:
    """Return that there is no trace of a step: what was sent and answered is not kept a second time."""
    async with connection(ctx.host.pool) as conn:
        await find_step(ctx, conn, ctx.params["step_id"])
    return json(None)


async def judge(ctx: Context) -> Response:
    """Keep what somebody thinks of a step that is committed."""
    request = await ctx.body(FeedbackRequest)
    async with connection(ctx.host.pool) as conn:
        step = await steps.find(conn, ctx.params["step_id"], organization_id=ctx.caller.organization_id)
        if step is None:
            raise NotFoundError("step", ctx.params["step_id"])
        before = step.feedback or StepFeedback()
        after = StepFeedback(
            before.feedback if request.feedback is UNSET else request.feedback,
            before.tags if request.tags is UNSET else block_requests.tags(request.tags or (), param="/tags"),
        )
        await steps.judge(conn, step, after)
    return json(show_step(replace(step, feedback=after)))


async def find_step(ctx: Context, conn: Conn, step_id: str) -> Step:
    """Return a step of the caller's organisation; one that is not stored may be under way.

    Raises:
        NotFoundError: It is neither.
    """
    organization_id = ctx.caller.organization_id
    stored = await steps.find(conn, step_id, organization_id=organization_id)
    if stored is not None:
        return stored
    unfinished = await runs.list_page(
        conn, Page(limit=MAX_RUNNING), organization_id=organization_id, statuses=runs.ACTIVE
    )
    for run in unfinished:
        running = ctx.host.ref(run.agent_id).running_step(run.id)
        if running is not None and running.id == step_id:
            return running
    raise NotFoundError("step", step_id)


ROUTES = (
    Route(
        method="GET",
        path="/v1/steps/",
        endpoint=list_all,
        operation_id="list_steps",
        summary="List steps",
        query=ListQuery,
        returns=list[LettaStep],
        tags=("steps",),
    ),
    Route(
        method="GET",
        path="/v1/steps/{step_id}",
        endpoint=retrieve,
        operation_id="retrieve_step",
        summary="Get a step",
        returns=LettaStep,
        tags=("steps",),
    ),
    Route(
        method="GET",
        path="/v1/steps/{step_id}/metrics",
        endpoint=metrics,
        operation_id="retrieve_metrics_for_step",
        summary="Where a step's time went",
        returns=StepMetrics,
        tags=("steps",),
    ),
    Route(
        method="GET",
        path="/v1/steps/{step_id}/trace",
        endpoint=trace,
        operation_id="retrieve_trace_for_step",
        summary="A step's trace: there is none",
        tags=("steps",),
    ),
    Route(
        method="GET",
        path="/v1/telemetry/{step_id}",
        endpoint=trace,
        operation_id="retrieve_provider_trace",
        summary="A step's trace: there is none",
        tags=("steps",),
    ),
    Route(
        method="PATCH",
        path="/v1/steps/{step_id}/feedback",
        endpoint=judge,
        operation_id="modify_feedback_for_step",
        summary="Say what is thought of a step",
        body=FeedbackRequest,
        returns=LettaStep,
        tags=("steps",),
    ),
    Route(
        method="GET",
        path="/v1/runs/{run_id}/steps",
        endpoint=list_run,
        operation_id="list_steps_for_run",
        summary="List a run's steps",
        query=RunStepsQuery,
        returns=list[LettaStep],
        tags=("steps",),
    ),
)
