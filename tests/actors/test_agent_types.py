import pytest

from actors import agent_types
from actors.agent_types import AGENT_TYPES, LETTA_V1, MEMGPT, MEMGPT_V2, SLEEPTIME
from actors.rules import ContinueLoop, ExitLoop
from actors.tools.registry import BASE_TOOLS


def test_every_type_has_its_tools_and_a_text_that_fits_how_it_speaks() -> None:
    assert set(AGENT_TYPES) <= set(BASE_TOOLS)
    for kind in AGENT_TYPES.values():
        assert ("send_message" in kind.system) == kind.memgpt == ("send_message" in BASE_TOOLS[kind.name])


def test_base_rules_end_the_turn_by_speaking_and_continue_it_by_everything_else() -> None:
    assert agent_types.base_rules(("send_message", "memory_insert", "weather")) == (
        ExitLoop(tool_name="send_message"),
        ContinueLoop(tool_name="memory_insert"),
    )


@pytest.mark.parametrize(
    ("model", "wants"),
    [
        ("openai/gpt-4o-mini", True),
        ("openai/gpt-5", False),
        ("openai/gpt-5-mini", True),
        ("anthropic/claude-4-sonnet-20250514", False),
        ("anthropic/claude-3-5-sonnet-20241022", False),
        ("google_ai/gemini-2.5-pro", False),
        ("ollama/qwen3:4b", True),
    ],
)
def test_models_that_need_no_rules_get_none(model: str, wants: bool) -> None:
    assert agent_types.wants_base_rules(MEMGPT_V2, model) == wants
    assert agent_types.wants_base_rules(MEMGPT, model) == wants
    assert agent_types.wants_base_rules(SLEEPTIME, model) == wants
    assert not agent_types.wants_base_rules(LETTA_V1, model)


def test_a_sleeptime_agent_is_told_of_the_tools_that_it_has_and_ends_with_the_last() -> None:
    tools = BASE_TOOLS[SLEEPTIME.name]
    assert all(name in SLEEPTIME.system for name in tools)
    ends = [rule.tool_name for rule in agent_types.base_rules(tools) if isinstance(rule, ExitLoop)]
    assert ends == ["memory_finish_edits"]


def test_an_unknown_type_answers_like_the_default_one() -> None:
    assert agent_types.type_of("voice_convo_agent") is LETTA_V1
