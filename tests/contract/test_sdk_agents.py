"""The official SDK's agents, tools, models and health."""

from typing import Any

import httpx
import pytest
from letta_client import (
    AuthenticationError,
    BadRequestError,
    InternalServerError,
    Letta,
    NotFoundError,
    UnprocessableEntityError,
)
from letta_client.types import AgentState

from actors.llm.providers import provider_for
from actors.tools.registry import BUILTIN
from bench.provider import Provider
from gateway.config import Settings
from storage.pool import Pool
from tests.contract.sdk import with_sdk

MISSING = "agent-00000000-0000-4000-8000-000000000000"


def settings_of(agent: AgentState) -> dict[str, Any]:
    return agent.to_dict()["model_settings"]  # type: ignore[return-value]


async def test_an_agent_lives_through_the_sdk(pool: Pool) -> None:
    def scenario(client: Letta) -> None:
        made = client.agents.create(
            name="Ada",
            model="demo/scripted",
            embedding="openai/text-embedding-3-small",
            memory_blocks=[
                {"label": "human", "value": "Name: Sam", "limit": 500},
                {"label": "persona", "value": "Kind."},
            ],
            tags=["a", "b"],
            description="d",
            metadata={"k": {"n": 1}},
            include_base_tools=True,
            timezone="Europe/Berlin",
            model_settings={
                "provider_type": "openai",
                "temperature": 0.5,
                "reasoning": {"reasoning_effort": "low"},
            },
        )
        assert made.id.startswith("agent-")
        assert made.agent_type == "letta_v1_agent"
        assert [b.label for b in made.memory.blocks] == [b.label for b in made.blocks] == ["human", "persona"]
        assert {t.name for t in made.tools} == {"conversation_search", "memory_insert", "memory_replace"}
        assert made.embedding_config is not None
        assert made.embedding_config.embedding_dim == 1536
        assert made.message_ids is not None
        assert len(made.message_ids) == 1

        bare = client.agents.retrieve(made.id)
        assert (bare.tools, bare.tags, bare.blocks) == ([], [], [])
        full = client.agents.retrieve(made.id, include=["agent.tools", "agent.tags", "agent.blocks"])
        assert full == made

        updated = client.agents.update(made.id, name="Bo", tags=["c"], system="Short.", max_tokens=99)
        assert (updated.name, updated.tags, updated.system) == ("Bo", ["c"], "Short.")
        assert settings_of(updated)["max_output_tokens"] == 99
        assert updated.description == "d"

        assert client.agents.delete(made.id) is None
        with pytest.raises(NotFoundError) as error:
            client.agents.retrieve(made.id)
        assert error.value.body["detail"] == "Agent not found"  # type: ignore[index]

    await with_sdk(pool, scenario)


async def test_model_settings_with_nothing_set_read_as_letta_shows_them(
    pool: Pool, provider: Provider
) -> None:
    def scenario(client: Letta) -> None:
        made = client.agents.create(model="openai/gpt-4o-mini")
        assert settings_of(made) == {
            "max_output_tokens": 16384,
            "parallel_tool_calls": True,
            "strict": False,
            "provider_type": "openai",
            "temperature": 1.0,
            "reasoning": {"reasoning_effort": "minimal"},
            "response_format": None,
        }

    await with_sdk(pool, scenario, providers=[provider_for("openai", provider.base_url, "sk-test")])


async def test_the_sdk_pages_through_every_agent_once(pool: Pool) -> None:
    def scenario(client: Letta) -> None:
        made = [client.agents.create(name=f"a{i}", tags=["even"] if i % 2 == 0 else []).id for i in range(7)]
        assert [a.id for a in client.agents.list(limit=3)] == made[::-1]
        assert [a.id for a in client.agents.list(limit=2, order="asc")] == made
        assert [a.id for a in client.agents.list(tags=["even"], match_all_tags=True)] == made[::-2]
        assert [a.name for a in client.agents.list(query_text="A3")] == ["a3"]
        assert [a.name for a in client.agents.list(name="a5", include=["agent.tags"])] == ["a5"]

    await with_sdk(pool, scenario)


async def test_the_sdk_raises_its_own_error_for_each_refusal(pool: Pool) -> None:
    def scenario(client: Letta) -> None:
        with pytest.raises(UnprocessableEntityError) as invalid:
            client.agents.create(name="a/b")
        assert isinstance(invalid.value.body, dict)
        assert isinstance(invalid.value.body["detail"], str)
        with pytest.raises(BadRequestError):
            client.agents.create(model="noslash")
        with pytest.raises(NotFoundError, match="demo/scripted"):
            client.agents.create(model="nobody/x")
        with pytest.raises(InternalServerError) as later:
            client.agents.create(enable_sleeptime=True)
        assert later.value.status_code == 501
        with pytest.raises(UnprocessableEntityError):
            client.agents.retrieve("agent-1")
        with pytest.raises(NotFoundError):
            client.agents.delete(MISSING)

    await with_sdk(pool, scenario)


async def test_tools_are_listed_attached_and_detached(pool: Pool) -> None:
    def scenario(client: Letta) -> None:
        tools = {tool.name: tool for tool in client.tools.list(limit=2)}
        assert set(tools) == set(BUILTIN)
        tool = tools["memory_insert"]
        assert tool.id is not None
        assert client.tools.retrieve(tool.id).to_dict() == tool.to_dict()

        made = client.agents.create(include_base_tools=False, tools=["memory_replace"])
        assert [t.name for t in made.tools] == ["memory_replace"]
        assert client.agents.tools.attach(tool.id, agent_id=made.id) is None
        names = [t.name for t in client.agents.tools.list(made.id, limit=1)]
        assert sorted(str(name) for name in names) == ["memory_insert", "memory_replace"]
        assert client.agents.tools.detach(tool.id, agent_id=made.id) is None
        assert [t.name for t in client.agents.tools.list(made.id)] == ["memory_replace"]

    await with_sdk(pool, scenario)


async def test_models_are_listed(pool: Pool, provider: Provider) -> None:
    def scenario(client: Letta) -> None:
        models = client.models.list()
        assert "demo/scripted" in [model.handle for model in models]
        assert all(model.max_context_window > 0 for model in models)
        embedders = {model.handle: model.embedding_dim for model in client.models.embeddings.list()}
        assert embedders == {"local/minilm-l6-v2-int8": 384, "openai/text-embedding-3-small": 1536}

    await with_sdk(pool, scenario, providers=[provider_for("openai", provider.base_url, "sk-test")])


async def test_the_key_of_the_sdk_opens_and_a_wrong_one_does_not(pool: Pool) -> None:
    def scenario(client: Letta) -> None:
        assert client.health().status == "ok"
        assert list(client.agents.list()) == []
        stranger = client.with_options(api_key="wrong")
        assert stranger.health().status == "ok"
        with pytest.raises(AuthenticationError) as error:
            stranger.agents.list()
        assert error.value.body["detail"] == "Unauthorized"  # type: ignore[index]
        bare = httpx.get(
            client.base_url.join("/v1/agents/"), headers={"x-bare-password": "password k"}, timeout=5
        )
        assert bare.json() == []

    await with_sdk(pool, scenario, settings=Settings(api_key="k"), api_key="k")


async def test_a_post_without_its_slash_is_not_redirected(pool: Pool) -> None:
    def scenario(client: Letta) -> None:
        for path in ("/v1/agents", "/v1/agents/", "/latest/agents"):
            response = httpx.post(client.base_url.join(path), json={"name": "x"}, timeout=5)
            assert response.status_code == 200

    await with_sdk(pool, scenario)
