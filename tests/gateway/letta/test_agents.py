"""Agents, blocks and tools as Letta's clients expect them."""

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from letta_client.types import AgentState as SdkAgent
from letta_client.types import BlockResponse as SdkBlock
from letta_client.types import Tool as SdkTool

from actors.llm.model import ModelRef
from gateway.letta import agents as shown
from storage.agents import Profile
from storage.records import Agent, AgentSettings, Block, Tool

AT = datetime(2026, 1, 2, tzinfo=UTC)
REF = ModelRef(
    handle="openai/gpt-4o-mini",
    name="gpt-4o-mini",
    provider="openai",
    provider_type="openai",
    endpoint="https://api.openai.com/v1",
    context_window_tokens=128_000,
    max_output_tokens=16_384,
)
BLOCK = Block(
    id="block-00000000-0000-4000-8000-000000000000",
    organization_id="o",
    label="human",
    value="v",
    created_at=AT,
    updated_at=AT,
    template={"template_name": "t", "is_template": True, "unknown": 1},
)
TOOL = Tool(
    id="tool-00000000-0000-4000-8000-000000000000",
    organization_id="o",
    name="x",
    tool_type="letta_core",
    description="d",
    json_schema={"name": "x"},
    created_at=AT,
    updated_at=AT,
)


def profile(**settings: Any) -> Profile:
    agent = Agent(
        id="agent-00000000-0000-4000-8000-000000000000",
        organization_id="o",
        name="n",
        settings=AgentSettings(**{"model": REF.handle, "system": "s", **settings}),
        created_at=AT,
        updated_at=AT,
        tags=("t",),
    )
    return Profile(agent=agent, message_ids=("message-1",), blocks=(BLOCK,), tools=(TOOL,))


def wire(value: object) -> Any:
    return json.loads(msgspec.json.encode(value))


def test_an_agent_passes_the_sdks_own_validation() -> None:
    state = wire(shown.agent_state(profile(embedding="openai/text-embedding-3-small"), REF))
    agent = SdkAgent.model_validate(state)
    assert agent.model_extra == {}
    assert agent.memory.blocks[0].value == agent.blocks[0].value == "v"
    assert agent.tools[0].name == "x"


def test_blocks_and_tools_pass_it_too() -> None:
    assert SdkBlock.model_validate(wire(shown.block(BLOCK))).model_extra == {}
    assert SdkTool.model_validate(wire(shown.tool(TOOL))).model_extra == {}


def test_no_field_of_the_sdks_agent_is_missing() -> None:
    state = wire(shown.agent_state(profile(), REF))
    assert {field.alias or name for name, field in SdkAgent.model_fields.items()} <= set(state)


@pytest.mark.parametrize(
    ("window", "limits"),
    [
        (8_000, (3, 5_000)),
        (8_001, (5, 15_000)),
        (128_000, (10, 25_000)),
        (200_000, (10, 40_000)),
        (200_001, (15, 40_000)),
    ],
)
def test_file_limits_follow_the_context_window(window: int, limits: tuple[int, int]) -> None:
    state = shown.agent_state(profile(context_window_tokens=window), REF)
    assert (state.max_files_open, state.per_file_view_window_char_limit) == limits


def test_tags_are_a_relation() -> None:
    assert shown.agent_state(profile(), REF).tags == ("t",)
    assert shown.agent_state(profile(), REF, tags=False).tags == ()
