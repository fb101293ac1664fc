from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from actors.tools import registry
from actors.tools.registry import BUILTIN, ToolSpec
from storage.records import DEFAULT_ORGANIZATION, Tool
from tests.actors.tools.schemas import STRANGE

BORN = datetime(2026, 1, 1, tzinfo=UTC)


def rows() -> list[Tool]:
    return [
        registry.row(spec, tool_id=f"tool-{name}", organization_id=DEFAULT_ORGANIZATION, created_at=BORN)
        for name, spec in BUILTIN.items()
    ]


def sent(*, strict: bool) -> list[dict[str, Any]]:
    wire = registry.definitions(rows(), strict=strict)
    assert wire is not None
    return msgspec.json.decode(wire)


@pytest.mark.parametrize(
    ("agent_type", "names"),
    [
        ("letta_v1_agent", {"conversation_search", "memory_replace", "memory_insert"}),
        ("memgpt_v2_agent", {"send_message", "conversation_search", "memory_replace", "memory_insert"}),
        (
            "memgpt_agent",
            {
                "send_message",
                "conversation_search",
                "core_memory_append",
                "core_memory_replace",
                "memory",
                "memory_apply_patch",
            },
        ),
        (
            "sleeptime_agent",
            {"memory_replace", "memory_insert", "memory_rethink", "memory_finish_edits"},
        ),
    ],
)
def test_each_type_of_agent_has_its_base_tools(agent_type: str, names: set[str]) -> None:
    base = registry.BASE_TOOLS[agent_type]
    assert set(base) == names
    assert len(base) == len(names)
    assert names <= BUILTIN.keys()


def test_no_agent_has_archival_tools_unless_it_asks_for_them() -> None:
    archival = {"archival_memory_insert", "archival_memory_search"}
    assert archival <= BUILTIN.keys()
    assert not any(archival & set(base) for base in registry.BASE_TOOLS.values())


def test_a_tool_that_does_nothing_has_something_to_say() -> None:
    said = {spec.name: spec.says for spec in BUILTIN.values() if spec.kind == "said"}
    assert said == {"send_message": "Sent message successfully.", "memory_finish_edits": "None"}
    assert all(not spec.says for spec in BUILTIN.values() if spec.kind != "said")


@pytest.mark.parametrize("spec", BUILTIN.values(), ids=lambda s: s.name)
def test_a_spec_is_complete(spec: ToolSpec) -> None:
    assert BUILTIN[spec.name] is spec
    assert spec.description
    properties = spec.parameters["properties"]
    assert set(spec.parameters["required"]) <= properties.keys()
    assert spec.parameters["additionalProperties"] is False
    for schema in properties.values():
        assert schema["type"] in {"string", "integer", "boolean", "array"}, "what arguments.parse can check"
        assert schema["description"]
    assert spec.effects == ("outside" if spec.name == "run_code" else "none")
    assert not spec.idempotent


def test_the_tools_that_reach_the_web_are_those_of_lettas_server() -> None:
    taken = {name: s.parameters for name, s in BUILTIN.items() if s.tool_type == "letta_builtin"}
    assert {name: tuple(p["properties"]) for name, p in taken.items()} == {
        "web_search": (
            "query",
            "num_results",
            "category",
            "include_text",
            "include_domains",
            "exclude_domains",
            "start_published_date",
            "end_published_date",
            "user_location",
        ),
        "fetch_webpage": ("url",),
        "run_code": ("code", "language"),
    }
    assert [p["required"] for p in taken.values()] == [["query"], ["url"], ["code", "language"]]
    assert taken["run_code"]["properties"]["language"]["enum"] == ["python", "js", "ts", "r", "java"]
    assert not any(taken.keys() & set(base) for base in registry.BASE_TOOLS.values())


def test_a_choice_that_may_be_left_out_may_be_null_where_the_provider_is_strict() -> None:
    (search,) = [t["function"] for t in sent(strict=True) if t["function"]["name"] == "web_search"]
    category = search["parameters"]["properties"]["category"]
    assert category["type"] == ["string", "null"]
    assert "news" in category["enum"]
    assert None in category["enum"]
    assert None not in BUILTIN["web_search"].parameters["properties"]["category"]["enum"]


def test_a_row_shows_the_same_schema_to_clients() -> None:
    row = rows()[0]
    assert row.name == row.json_schema["name"] == "conversation_search"
    assert row.json_schema["parameters"] == BUILTIN[row.name].parameters
    assert row.tool_type == "letta_core"
    assert row.description == row.json_schema["description"]


def test_a_request_carries_function_tools() -> None:
    assert [t["type"] for t in sent(strict=False)] == ["function"] * len(BUILTIN)
    assert {t["function"]["name"] for t in sent(strict=False)} == BUILTIN.keys()
    assert not any("strict" in t["function"] for t in sent(strict=False))
    assert registry.definitions([], strict=True) is None


def test_strict_tools_require_every_property_and_let_optional_ones_be_null() -> None:
    insert = next(t["function"] for t in sent(strict=True) if t["function"]["name"] == "memory_insert")
    assert insert["strict"] is True
    assert insert["parameters"]["required"] == ["label", "new_string", "insert_line"]
    assert insert["parameters"]["properties"]["insert_line"]["type"] == ["integer", "null"]
    assert insert["parameters"]["properties"]["label"]["type"] == "string"
    assert insert["parameters"]["additionalProperties"] is False
    assert BUILTIN["memory_insert"].parameters["required"] == ["label", "new_string"], (
        "the spec is not touched"
    )


def named(parameters: object) -> Tool:
    schema = {"name": "theirs", "description": "", "parameters": parameters}
    return msgspec.structs.replace(rows()[0], name="theirs", json_schema=schema)


# The edge lets nothing in that is nested 500 deep, and no encoder would let it out.
SENDABLE = {name: schema for name, schema in STRANGE.items() if name != "500 levels"}


@pytest.mark.parametrize("parameters", SENDABLE.values(), ids=SENDABLE.keys())
def test_a_schema_of_any_shape_is_sent_as_it_is(parameters: dict[str, Any]) -> None:
    wire = registry.definitions([named(parameters)], strict=True)
    assert wire is not None
    (function,) = [t["function"] for t in msgspec.json.decode(wire)]
    assert function["parameters"] == parameters
    assert "strict" not in function


def test_a_plain_schema_of_somebody_else_is_made_strict() -> None:
    parameters = {"type": "object", "properties": {"q": {"type": "string"}, "n": {"type": "integer"}}}
    wire = registry.definitions([named({**parameters, "required": ["q"]})], strict=True)
    assert wire is not None
    (tool,) = msgspec.json.decode(wire)
    assert tool["function"]["strict"] is True
    assert tool["function"]["parameters"]["required"] == ["q", "n"]
