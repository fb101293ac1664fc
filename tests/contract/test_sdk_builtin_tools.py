"""The official SDK's first steps with the tools that look at the web and run code."""

import json

from letta_client import Letta

from actors.host import HostSettings
from actors.llm.providers import provider_for
from bench.provider import Provider
from storage.pool import Pool
from tests.actors.tools.exa_server import KEY, engine
from tests.contract.sdk import with_sdk
from tests.contract.test_sdk_tools import returns

NAMES = {"web_search", "fetch_webpage", "run_code"}


async def test_the_agent_of_lettas_readme_is_made_and_answers(pool: Pool) -> None:
    def scenario(client: Letta) -> None:
        agent = client.agents.create(
            model="demo/scripted",
            memory_blocks=[
                {"label": "human", "value": "The human's name is Sam."},
                {"label": "persona", "value": "I am a self-improving superintelligence."},
            ],
            tools=["web_search", "run_code", "fetch_webpage"],
        )
        assert {tool.name for tool in agent.tools} >= NAMES
        response = client.agents.messages.create(agent.id, input="What do you know about me?")
        assert response.stop_reason.stop_reason == "end_turn"
        assert any(message.message_type == "assistant_message" for message in response.messages)

    await with_sdk(pool, scenario)


async def test_the_builtin_tools_are_listed_by_their_type_and_attached(pool: Pool) -> None:
    def scenario(client: Letta) -> None:
        listed = {tool.name: tool for tool in client.tools.list(tool_types=["letta_builtin"])}
        assert listed.keys() == NAMES
        assert {tool.tool_type for tool in listed.values()} == {"letta_builtin"}
        added = client.post("/v1/tools/add-base-tools", cast_to=object)
        assert {tool["name"] for tool in added} >= NAMES  # type: ignore[attr-defined]
        agent = client.agents.create(model="demo/scripted")
        assert not {tool.name for tool in agent.tools} & NAMES
        for tool in listed.values():
            client.agents.tools.attach(str(tool.id), agent_id=agent.id)
        assert {tool.name for tool in client.agents.tools.list(agent.id, limit=50)} >= NAMES

    await with_sdk(pool, scenario)


async def test_a_search_through_the_sdk_returns_lettas_shape(pool: Pool, provider: Provider) -> None:
    search = {"name": "web_search", "arguments": {"query": "tea", "num_results": 3, "category": "news"}}
    code = {"name": "run_code", "arguments": {"code": "1", "language": "python"}}
    await provider.script([{"tool_calls": [search, code]}, {"text": "done"}])

    def scenario(client: Letta) -> None:
        agent = client.agents.create(model="openai/echo", tools=["web_search", "run_code"])
        (status, found), (refused, why) = returns(client.agents.messages.create(agent.id, input="go"))
        assert (status, refused) == ("success", "error")
        assert json.loads(found)["results"][0]["summary"] == "It is about tea."
        assert "E2B_API_KEY is not set" in why

    async with engine() as at:
        settings = HostSettings(drain_seconds=2, exa_api_key=KEY, exa_base_url=at.url)
        await with_sdk(
            pool,
            scenario,
            providers=[provider_for("openai", provider.base_url, "sk-test")],
            host_settings=settings,
        )
        assert at.asked[0][2]["category"] == "news"
