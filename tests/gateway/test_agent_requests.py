"""What clients may ask of agents as such."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from msgspec import UNSET

from gateway import agent_requests as requests
from gateway.agent_requests import CreateAgent, UpdateAgent
from gateway.auth import Caller
from gateway.errors import InvalidRequestError, NotSupportedError
from gateway.letta_agents import EmbeddingConfig
from storage.agents import Profile
from storage.records import Agent, AgentSettings, ModelSettings

AT = datetime(2026, 1, 2, tzinfo=UTC)
CALLER = Caller("test", "org-1", "user-1")
TOOL = "tool-00000000-0000-4000-8000-000000000000"


def agent(**fields: Any) -> Agent:
    return requests.new_agent(
        CreateAgent(**fields), agent_id="agent-1", model="a/b", project_id="header", caller=CALLER, at=AT
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
        "tool_rules": ({"type": "x"},),
        "initial_message_sequence": ({"role": "user"},),
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
