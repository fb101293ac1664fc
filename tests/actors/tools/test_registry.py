from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from actors.tools import registry
from actors.tools.registry import BUILTIN, ToolSpec
from storage.records import DEFAULT_ORGANIZATION, Tool

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


def test_a_v1_agent_holds_search_and_the_two_memory_tools() -> None:
    assert set(registry.BASE_TOOLS) == {"conversation_search", "memory_replace", "memory_insert"}


@pytest.mark.parametrize("spec", BUILTIN.values(), ids=lambda s: s.name)
def test_a_spec_is_complete(spec: ToolSpec) -> None:
    assert BUILTIN[spec.name] is spec
    assert spec.description
    properties = spec.parameters["properties"]
    assert set(spec.parameters["required"]) <= properties.keys()
    assert spec.parameters["additionalProperties"] is False
    for schema in properties.values():
        assert schema["type"] in {"string", "integer", "array"}, "what arguments.parse can check"
        assert schema["description"]
    assert spec.effects == "none"


def test_a_row_shows_the_same_schema_to_clients() -> None:
    row = rows()[0]
    assert row.name == row.json_schema["name"] == "conversation_search"
    assert row.json_schema["parameters"] == BUILTIN[row.name].parameters
    assert row.tool_type == "letta_core"
    assert row.description == row.json_schema["description"]


def test_a_request_carries_function_tools() -> None:
    assert [t["type"] for t in sent(strict=False)] == ["function"] * 3
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
