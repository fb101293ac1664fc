"""The routes of steps: committed ones, and the one under way."""

import anyio

from bench.provider import Provider
from gateway.rest.steps import with_running
from storage.keyset import Page
from storage.pool import Pool
from storage.records import Step
from tests.gateway.rest.talking import MODEL, new_agent, talking, user
from tests.storage import histories

CALL = {"tool_calls": [{"name": "memory_insert", "arguments": {"label": "human", "new_string": "x"}}]}
MEMORY = {"memory_blocks": [{"label": "human", "value": ""}]}


async def test_the_steps_of_a_run_are_listed_and_read(pool: Pool, provider: Provider) -> None:
    await provider.script([CALL, {"text": "Noted."}])
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served, **MEMORY)
        answer = await served.json("POST", f"/v1/agents/{agent_id}/messages", json=user("hi"))
        [run_id] = answer["usage"]["run_ids"]
        newest_first = await served.json("GET", f"/v1/runs/{run_id}/steps")
        rising = await served.json("GET", f"/v1/runs/{run_id}/steps", params={"order": "asc"})
        assert len(rising) == 2
        assert newest_first == rising[::-1]
        assert {(s["status"], s["model_handle"], s["run_id"]) for s in rising} == {("success", MODEL, run_id)}
        assert [s["id"] for s in rising] == [
            answer["messages"][0]["step_id"],
            answer["messages"][-1]["step_id"],
        ]
        first = rising[0]
        assert await served.json("GET", f"/v1/steps/{first['id']}") == first
        assert await served.json("GET", "/v1/steps/", params={"agent_id": agent_id}) == newest_first
        assert await served.json("GET", "/v1/steps/", params={"after": newest_first[0]["id"]}) == [first]
        assert await served.json("GET", "/v1/steps/", params={"model": "other"}) == []
        assert await served.json("GET", "/v1/steps/", params={"has_feedback": True}) == []
        assert await served.json("GET", "/v1/steps/", params={"end_date": "2020-01-01"}) == []
        assert len(await served.json("GET", "/v1/steps/", params={"start_date": "2020-01-01"})) == 2
        await served.json("GET", "/v1/steps/", params={"start_date": "9999999-99-99"}, status=422)
        await served.json("GET", "/v1/steps/step-00000000-0000-4000-8000-000000000000", status=404)


async def test_the_step_under_way_is_shown_before_it_is_stored(pool: Pool, provider: Provider) -> None:
    await provider.script([{"text": "slow", "gate": "go"}])
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served)
        run = await served.json("POST", f"/v1/agents/{agent_id}/messages/async", json=user("hi"))
        with anyio.fail_after(10):
            await provider.log(requests=1, keep=True)
            [step] = await served.json("GET", f"/v1/runs/{run['id']}/steps")
            assert (step["status"], step["run_id"]) == ("pending", run["id"])
            assert await served.json("GET", f"/v1/steps/{step['id']}") == step
            assert await served.json("GET", f"/v1/steps/{step['id']}/messages") == []
            await provider.open("go")
            await served.http.post(f"/v1/runs/{run['id']}/stream")
        done = await served.json("GET", f"/v1/steps/{step['id']}")
    assert done["status"] == "success"


def step(place: int) -> Step:
    return Step(
        id=f"step-{place}",
        organization_id="org-1",
        agent_id="agent-1",
        run_id="run-1",
        position=place,
        status="success",
        model="p/m",
        provider="p",
        created_at=histories.after(place),
    )


def test_the_running_step_stands_where_the_newest_belongs() -> None:
    stored, running = [step(1), step(2)], step(3)
    falling = stored[::-1]
    assert with_running(falling, running, Page(limit=2)) == [running, step(2)]
    assert with_running(falling, running, Page(after="step-3")) == falling
    assert with_running(stored, running, Page(descending=False)) == [*stored, running]
    assert with_running(stored, running, Page(limit=2, descending=False)) == stored
    assert with_running(stored, running, Page(before="step-9", descending=False)) == stored
    assert with_running([*stored, running], running, Page(descending=False)) == [*stored, running]
    assert with_running(stored, None, Page()) == stored
