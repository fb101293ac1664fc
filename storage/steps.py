"""Steps as they are stored: one by id, and lists; a step under way is known to its actor only."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from storage.keyset import Order, Page, Select
from storage.pool import Conn, Row
from storage.records import RunError, Step, StepFeedback, Timing, Usage

_READ = """
select id, organization_id, agent_id, run_id, position, status, model, provider, created_at,
       context_window_tokens, usage, stop_reason, error, timing,
       (select r.metadata #> array['step_feedback', s.id] from runs r where r.id = s.run_id) as feedback
  from steps s
"""

_usage = msgspec.json.Decoder(Usage)
_timing = msgspec.json.Decoder(Timing)
_feedback = msgspec.json.Decoder(StepFeedback)
_error = msgspec.json.Decoder(RunError)

_JUDGED = "(select r.metadata #> array['step_feedback', s.id] from runs r where r.id = s.run_id)"

_GET = _READ + " where id = $1 and organization_id = $2"


async def find(conn: Conn, step_id: str, *, organization_id: str) -> Step | None:
    """Return one committed step, or `None` where there is none: it may be under way."""
    row = await conn.fetchrow(_GET, step_id, organization_id)
    return None if row is None else _step(row)


_BY_AGE = Order(
    columns=("created_at", "id"),
    cursor="select created_at, id from steps where id = $1 and organization_id = $2",
    noun="step",
)
_IN_RUN = Order(
    columns=("position", "id"),
    cursor="select position, id from steps where id = $1 and run_id = $2",
    noun="step",
)


async def list_page(
    conn: Conn,
    page: Page,
    *,
    organization_id: str,
    agent_id: str | None = None,
    model: str | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    feedback: str | None = None,
    has_feedback: bool | None = None,
    tags: Sequence[str] | None = None,
) -> list[Step]:
    """Return a page of committed steps; `start` and `end` bound their creation, both inclusive.

    Of `tags` a step needs one.

    Raises:
        NotFoundError: The cursor names no step.
    """
    select = Select(_READ).where("organization_id = {}", organization_id)
    if agent_id is not None:
        select.where("agent_id = {}", agent_id)
    if model is not None:
        # A handle is `provider/name`; clients filter by either.
        select.where("(model = {} or split_part(model, '/', 2) = {})", model, model)
    if start is not None:
        select.where("created_at >= {}", start)
    if end is not None:
        select.where("created_at <= {}", end)
    if feedback is not None:
        select.where(f"{_JUDGED} ->> 'feedback' = {{}}", feedback)
    if has_feedback is not None:
        select.where(f"({_JUDGED} ->> 'feedback') is {'not ' if has_feedback else ''}null")
    if tags:
        select.where(f"{_JUDGED} -> 'tags' ?| {{}}::text[]", list(tags))
    return [_step(row) for row in await select.page(conn, page, order=_BY_AGE, scope=organization_id)]


# Concurrent judgements of steps of one run wait for each other here; each keeps the others'.
_JUDGE = """
update runs
   set metadata = jsonb_set(
         metadata || jsonb_build_object('step_feedback', coalesce(metadata -> 'step_feedback', '{}')),
         array['step_feedback', $2], $3::jsonb)
 where id = $1
"""


async def judge(conn: Conn, step: Step, feedback: StepFeedback) -> None:
    """Keep what somebody thinks of a step in place of what was thought of it before."""
    await conn.execute(_JUDGE, step.run_id, step.id, msgspec.json.encode(feedback))


async def list_run(conn: Conn, page: Page, *, run_id: str) -> list[Step]:
    """Return a page of a run's committed steps, in the order of the page.

    Raises:
        NotFoundError: The cursor names no step of this run.
    """
    select = Select(_READ).where("run_id = {}", run_id)
    return [_step(row) for row in await select.page(conn, page, order=_IN_RUN, scope=run_id)]


def _step(row: Row) -> Step:
    error = row["error"]
    return Step(
        id=row["id"],
        organization_id=row["organization_id"],
        agent_id=row["agent_id"],
        run_id=row["run_id"],
        position=row["position"],
        status=row["status"],
        model=row["model"],
        provider=row["provider"],
        created_at=row["created_at"],
        context_window_tokens=row["context_window_tokens"],
        usage=_usage.decode(row["usage"]),
        stop_reason=row["stop_reason"],
        error=None if error is None or error == b"null" else _error.decode(error),
        timing=_timing.decode(row["timing"]),
        feedback=None if row["feedback"] is None else _feedback.decode(row["feedback"]),
    )
