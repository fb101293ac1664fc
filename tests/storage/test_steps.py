"""Reading steps: one by id, a run's, and filtered lists."""

from typing import Any

import msgspec

from storage import steps
from storage.keyset import Page
from storage.pool import Conn, Pool, connection
from storage.records import DEFAULT_ORGANIZATION, RunError, Timing, Usage
from tests.storage import histories, seeds

ORG = DEFAULT_ORGANIZATION


async def test_a_step_comes_back_as_it_was_stored(pool: Pool) -> None:
    usage, timing, error = Usage(prompt=3), Timing(queue=1, tools=2), RunError("llm_error", "no")
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        run_id = await histories.run(conn, agent_id)
        step_id = await histories.step(
            conn,
            agent_id,
            run_id,
            0,
            status="failed",
            usage=msgspec.json.encode(usage),
            timing=msgspec.json.encode(timing),
            error=msgspec.json.encode(error),
            stop_reason="llm_api_error",
            context_window_tokens=8000,
        )
        found = await steps.find(conn, step_id, organization_id=ORG)
        assert found is not None
        assert (found.usage, found.timing, found.error) == (usage, timing, error)
        assert (found.status, found.run_id, found.context_window_tokens) == ("failed", run_id, 8000)
        assert await steps.find(conn, step_id, organization_id="org-other") is None
        assert await steps.find(conn, "step-missing", organization_id=ORG) is None


async def test_the_steps_of_a_run_are_in_their_order(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        run_id, other = await histories.run(conn, agent_id), await histories.run(conn, agent_id)
        at = histories.after(1)
        made = [await histories.step(conn, agent_id, run_id, i, created_at=at) for i in range(3)]
        await histories.step(conn, agent_id, other, 0)
        assert [s.id for s in await steps.list_run(conn, Page(), run_id=run_id)] == made[::-1]
        ascending = Page(descending=False, after=made[0])
        assert [s.id for s in await steps.list_run(conn, ascending, run_id=run_id)] == made[1:]


async def test_every_filter_narrows_the_list(pool: Pool) -> None:
    async with connection(pool) as conn:
        one, other = await seeds.agent(conn), await seeds.agent(conn)
        run_one, run_other = await histories.run(conn, one), await histories.run(conn, other)
        first = await histories.step(conn, one, run_one, 1)
        second = await histories.step(conn, other, run_other, 2, model="ollama/qwen")

        async def listed(conn: Conn, **filters: Any) -> list[str]:
            return [s.id for s in await steps.list_page(conn, Page(), organization_id=ORG, **filters)]

        assert await listed(conn) == [second, first]
        assert await listed(conn, agent_id=one) == [first]
        assert await listed(conn, model="qwen") == await listed(conn, model="ollama/qwen") == [second]
        assert await listed(conn, start=histories.after(2)) == [second]
        assert await listed(conn, end=histories.after(1)) == [first]


async def test_an_agents_steps_are_found_by_index(pool: Pool) -> None:
    async with connection(pool) as conn, conn.transaction():
        await conn.execute("set local enable_seqscan = off")
        rows = await conn.fetch(
            "explain select id from steps where organization_id = 'o' and agent_id = 'a'"
            " order by created_at desc, id desc limit 50"
        )
        assert "steps_by_agent" in "\n".join(row[0] for row in rows)
