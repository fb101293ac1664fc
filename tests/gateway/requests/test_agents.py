"""What clients may ask of agents as such."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from msgspec import UNSET

from actors.rules import ChildCall, ConstrainChildTools, ExitLoop, RunFirst
from gateway.auth import Caller
from gateway.errors import InvalidRequestError, NotSupportedError
from gateway.inputs import MessageIn
from gateway.letta.agents import EmbeddingConfig
from gateway.letta.models import unresolved
from gateway.requests import agents as requests
from gateway.requests.agents import CreateAgent, UpdateAgent
from storage.agents import Profile
from storage.records import Agent, AgentSettings, ModelSettings

AT = datetime(2026, 1, 2, tzinfo=UTC)
CALLER = Caller("test", "org-1", "user-1")
MODEL = unresolved("a/b")
TOOL = "tool-00000000-0000-4000-8000-000000000000"


def agent(**fields: Any) -> Agent:
    return requests.new_agent(
        CreateAgent(**fields), agent_id="agent-1", model=MODEL, project_id="header", caller=CALLER, at=AT
    )


def profile(**settings: Any) -> Profile:
    made = Agent(
        id="agent-1",
        organization_id="org-1",
        name="n",
        settings=AgentSettings(**{"model": "a/b", "system": "s", **settings}),
        created_at=AT,
        updated_at=AT,
    )
    return Profile(agent=made, message_ids=("message-1",))


def settings_after(request: UpdateAgent, **settings: Any) -> Any:
    return requests.update_edit(request, profile(**settings), caller=CALLER).changes.settings


def test_a_projects_header_is_used_where_the_body_names_none() -> None:
    assert agent().settings.project_id == "header"
    assert agent(project_id="body").settings.project_id == "body"


def test_a_subagents_tag_hides_it() -> None:
    assert agent(tags=("role:subagent",)).hidden
    assert not agent(tags=("role",)).hidden


def test_an_empty_system_text_is_not_the_default_one() -> None:
    assert agent(system="").settings.system == ""
    assert agent().settings.system


def test_tools_are_base_tools_then_names_then_ids_once_each() -> None:
    request = CreateAgent(tools=("extra", "memory_insert"), tool_ids=(TOOL, TOOL))
    keys = requests.tool_keys(request)
    assert set(keys[:3]) == {"conversation_search", "memory_replace", "memory_insert"}
    assert keys[3:] == ("extra", TOOL)
    assert requests.tool_keys(CreateAgent(include_base_tools=False)) == ()
    with pytest.raises(InvalidRequestError):
        requests.tool_keys(CreateAgent(tools=tuple(f"t{i}" for i in range(201))))


def test_an_embedding_is_named_by_handle_or_by_configuration() -> None:
    assert agent(embedding="a/b").settings.embedding == "a/b"
    config = EmbeddingConfig(embedding_endpoint_type="openai", embedding_model="m", embedding_dim=3)
    made = agent(embedding_config=config).settings
    assert made.embedding == "openai/m"
    assert made.embedding_config == msgspec.to_builtins(config)
    named = msgspec.structs.replace(config, handle="h/m")
    assert agent(embedding_config=named).settings.embedding == "h/m"


@pytest.mark.parametrize("name", requests.LATER)
def test_each_field_of_a_later_release_is_refused_by_name(name: str) -> None:
    value: Any = {
        "secrets": {"a": "b"},
        "tool_exec_environment_variables": {"a": "b"},
        "memory_variables": {"a": "b"},
        "from_template": "t",
        "folder_ids": ("f",),
        "source_ids": ("s",),
        "identity_ids": ("i",),
    }.get(name, True)
    with pytest.raises(NotSupportedError) as error:
        requests.refuse_later(CreateAgent(**{name: value}))
    assert error.value.param == f"/{name}"


def test_an_empty_update_changes_nothing_but_who_asked() -> None:
    edit = requests.update_edit(UpdateAgent(), profile(), caller=CALLER)
    assert (edit.tool_ids, edit.block_ids) == (UNSET, UNSET)
    assert (edit.changes.name, edit.changes.tags, edit.changes.settings) == (UNSET, UNSET, UNSET)
    assert edit.changes.last_updated_by_id == "user-1"


def test_an_update_names_only_the_settings_that_it_changes() -> None:
    assert settings_after(UpdateAgent(description="d", timezone="Asia/Tokyo")) == {
        "description": "d",
        "timezone": "Asia/Tokyo",
    }
    assert settings_after(UpdateAgent(context_window_limit=5000)) == {"context_window_tokens": 5000}


def test_an_update_of_one_model_setting_keeps_the_others() -> None:
    changed = settings_after(
        UpdateAgent(parallel_tool_calls=False), model_settings=ModelSettings(temperature=0.5)
    )
    assert changed == {"model_settings": {"temperature": 0.5, "parallel_tool_calls": False}}


def test_settings_that_are_already_so_are_not_changed() -> None:
    assert settings_after(UpdateAgent(parallel_tool_calls=True)) is UNSET


def rules_of(**fields: Any) -> list[tuple[str, str]]:
    return [(r["type"], r["tool_name"]) for r in agent(**fields).settings.tool_rules]


def test_base_rules_come_with_the_type_unless_they_are_unwanted() -> None:
    base = [
        ("exit_loop", "send_message"),
        ("continue_loop", "conversation_search"),
        ("continue_loop", "memory_replace"),
        ("continue_loop", "memory_insert"),
    ]
    assert rules_of() == []
    assert rules_of(agent_type="memgpt_v2_agent") == base
    assert rules_of(agent_type="memgpt_v2_agent", include_base_tool_rules=False) == []
    assert rules_of(include_base_tool_rules=True) == base[1:]
    assert rules_of(include_base_tool_rules=True, tools=("send_message",)) == [*base[1:], base[0]]


def test_rules_of_ones_own_come_first_and_once() -> None:
    mine = ExitLoop(tool_name="send_message")
    rules = rules_of(agent_type="memgpt_v2_agent", tool_rules=(mine, mine))
    assert rules[0] == ("exit_loop", "send_message")
    assert len(rules) == 4


def test_a_rule_that_sets_what_its_tool_does_not_take_is_refused_by_place() -> None:
    node = ChildCall(name="memory_insert", args={"colour": 1})
    child = ConstrainChildTools(tool_name="a", children=("memory_insert",), child_arg_nodes=(node,))
    with pytest.raises(InvalidRequestError, match="it takes: label, new_string, insert_line") as error:
        agent(tool_rules=(ExitLoop(tool_name="b"), child))
    assert error.value.param == "/tool_rules/1/child_arg_nodes/0/args"
    agent(tool_rules=(RunFirst(tool_name="somebody_elses", args={"colour": 1}),))
    with pytest.raises(InvalidRequestError, match="at most 500"):
        agent(tool_rules=tuple(ExitLoop(tool_name=str(n)) for n in range(501)))


def test_an_agent_that_speaks_by_calls_gets_a_text_that_says_so() -> None:
    assert "send_message" in agent(agent_type="memgpt_agent").settings.system
    assert "send_message" not in agent().settings.system
    with pytest.raises(NotSupportedError):
        agent(agent_type="workflow_agent")
    with pytest.raises(InvalidRequestError):
        agent(agent_type="agent")


def test_first_messages_are_checked_like_any_others() -> None:
    assert requests.first_messages(CreateAgent()) is None
    assert requests.first_messages(CreateAgent(initial_message_sequence=())) == ()
    with pytest.raises(InvalidRequestError) as error:
        requests.first_messages(CreateAgent(initial_message_sequence=(MessageIn(content="x"),)))
    assert error.value.param == "/initial_message_sequence/0/role"


def test_an_update_replaces_the_rules_and_an_empty_list_takes_them_away() -> None:
    changed = settings_after(UpdateAgent(tool_rules=(ExitLoop(tool_name="a"),)))
    assert changed == {"tool_rules": ({"type": "exit_loop", "tool_name": "a", "prompt_template": None},)}
    assert settings_after(UpdateAgent(tool_rules=())) == {"tool_rules": ()}
