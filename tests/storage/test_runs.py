"""Reading runs: one by id, filtered lists, and by otid or key."""

from typing import Any

import msgspec
import pytest

from storage import runs
from storage.errors import NotFoundError
from storage.keyset import Page
from storage.pool import Conn, Pool, connection
from storage.records import DEFAULT_ORGANIZATION, RunError, Usage
from tests.storage import histories, seeds

ORG = DEFAULT_ORGANIZATION


async def listed(conn: Conn, page: Page | None = None, **filters: Any) -> list[str]:
    found = await runs.list_page(conn, page or Page(), organization_id=ORG, **filters)
    return [run.id for run in found]


async def test_a_run_comes_back_as_it_was_stored(pool: Pool) -> None:
    usage, error = Usage(prompt=3, total=4, steps=1), RunError("llm_timeout", "late")
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        run_id = await histories.run(
            conn,
            agent_id,
            status="failed",
            background=True,
            stop_reason="llm_api_error",
            usage=msgspec.json.encode(usage),
            error=msgspec.json.encode(error),
            request_config=b'{"stream_tokens": true}',
            attempt=2,
            ttft_ns=5,
            callback_url="http://example.com",
        )
        found = await runs.get(conn, run_id, organization_id=ORG)
        assert (found.usage, found.error, found.request_config) == (usage, error, {"stream_tokens": True})
        assert (found.status, found.background, found.attempt, found.ttft_ns) == ("failed", True, 2, 5)
        with pytest.raises(NotFoundError):
            await runs.get(conn, run_id, organization_id="org-other")


async def test_an_error_that_is_json_null_is_no_error(pool: Pool) -> None:
    async with connection(pool) as conn:
        run_id = await histories.run(conn, await seeds.agent(conn), error=b"null")
        assert (await runs.get(conn, run_id, organization_id=ORG)).error is None


async def test_every_filter_narrows_the_list(pool: Pool) -> None:
    async with connection(pool) as conn:
        one, other = await seeds.agent(conn), await seeds.agent(conn)
        conversation_id = await histories.conversation(conn, one)
        done = await histories.run(
            conn, one, status="completed", stop_reason="end_turn", created_at=histories.after(1)
        )
        talk = await histories.run(
            conn, one, conversation_id=conversation_id, background=True, created_at=histories.after(2)
        )
        away = await histories.run(conn, other, status="running", created_at=histories.after(3))
        await histories.command(conn, one, talk, conversation_id=conversation_id)
        await histories.command(conn, other, away, state="applied")
        assert await listed(conn) == [away, talk, done]
        assert await listed(conn, agent_ids=[one]) == [talk, done]
        assert await listed(conn, agent_ids=[one, other]) == [away, talk, done]
        assert await listed(conn, agent_ids=[]) == []
        assert await listed(conn, conversation_id=conversation_id) == [talk]
        assert await listed(conn, statuses=runs.ACTIVE) == [away, talk]
        assert await listed(conn, statuses=["created"]) == [talk]
        assert await listed(conn, statuses=["running", "completed"]) == [away, done]
        assert await listed(conn, background=False) == [away, done]
        assert await listed(conn, stop_reason="end_turn") == [done]
        assert await listed(conn, Page(after=talk)) == [done]
        assert await listed(conn, Page(descending=False, limit=2)) == [done, talk]


async def test_a_run_is_found_by_the_otid_of_any_of_its_messages(pool: Pool) -> None:
    sent = b'{"messages": [{"otid": "a"}, {"otid": "b", "role": "user"}]}'
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        run_id = await histories.run(conn, agent_id)
        await histories.command(conn, agent_id, run_id, command=sent)
        for otid, expected in (("a", run_id), ("b", run_id), ("c", None)):
            found = await runs.find_by_otid(conn, agent_id=agent_id, conversation_id=agent_id, otid=otid)
            assert found == expected
        assert await runs.find_by_otid(conn, agent_id=agent_id, conversation_id="conv-1", otid="a") is None


async def test_a_run_is_found_by_its_key(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        run_id = await histories.run(conn, agent_id)
        await histories.command(conn, agent_id, run_id, key="k")
        assert await runs.find_by_key(conn, agent_id=agent_id, key="k") == run_id
        assert await runs.find_by_key(conn, agent_id="agent-x", key="k") is None


_MANY = """
with agent as (
  insert into agents (id, organization_id, name, settings, shard)
  select 'agent-' || i, $1, 'a', '{}', 0 from generate_series(1, 100) i
), run as (
  insert into runs (id, organization_id, agent_id, conversation_id, status, created_at, completed_at)
  select 'run-' || i, $1, 'agent-' || (i % 100 + 1), 'agent-' || (i % 100 + 1), 'completed',
         now() + i * interval '1 s', now()
    from generate_series(1, 4000) i
)
insert into inbox (agent_id, conversation_id, run_id, key, request_hash, caller, command, state, done_at)
select 'agent-1', 'agent-1', 'run-' || i, i::text, '', 'tests', '{}',
       case when i > 3 then 'done' else 'new' end, case when i > 3 then now() end
  from generate_series(1, 4000) i
"""


@pytest.mark.parametrize(
    ("condition", "index"),
    [
        ("organization_id = $1", "runs_by_age"),
        ("organization_id = $1 and agent_id = 'agent-7'", "runs_by_agent"),
        (
            "organization_id = $1 and id in (select run_id from inbox where state in ('new', 'applied'))",
            "inbox_pending",
        ),
    ],
)
async def test_lists_of_runs_use_their_index(pool: Pool, condition: str, index: str) -> None:
    async with connection(pool) as conn:
        await conn.execute(_MANY, ORG)
        await conn.execute("analyze runs, inbox")
        rows = await conn.fetch(
            f"explain select id from runs where {condition} order by created_at desc, id desc limit 20", ORG
        )
        assert index in "\n".join(row[0] for row in rows)
