"""An agent asked over the route of chat completions."""

from typing import Any

from bench.provider import Provider
from storage.pool import Pool
from tests.gateway.rest.talking import new_agent, talking

PATH = "/v1/chat/completions"
NOBODY = "agent-00000000-0000-4000-8000-000000000000"
HELLO = [{"role": "user", "content": "hello"}]


async def test_one_run_answers_and_its_route_tells_of_it(pool: Pool, provider: Provider) -> None:
    await provider.script([{"text": "Hello you"}])
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served)
        asked = {"model": agent_id, "messages": HELLO, "temperature": 0.3, "user": "ada"}
        answer: Any = await served.json("POST", PATH, json=asked)
        assert answer["choices"][0]["message"]["content"] == "Hello you"
        [run] = await served.json("GET", f"/v1/runs/?agent_id={agent_id}")
        assert answer["id"] == f"chatcmpl-{run['id'].removeprefix('run-')}"
        assert run["metadata"]["run_type"] == "chat_completion"


async def test_a_model_that_is_no_agent_is_not_found(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider) as served:
        for model in (NOBODY, "gpt-4o", ""):
            answer: Any = await served.json(
                "POST", PATH, json={"model": model, "messages": HELLO}, status=404
            )
            assert answer["detail"] == "Agent not found"
            assert answer["error"]["message"] == "Agent not found"


async def test_a_failure_of_the_model_has_its_status(pool: Pool, provider: Provider) -> None:
    await provider.script([{"status": 401, "body": {"error": {"message": "no"}}}])
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served)
        answer: Any = await served.json("POST", PATH, json={"model": agent_id, "messages": HELLO}, status=401)
        assert answer["error"]["type"] == "llm_authentication"
