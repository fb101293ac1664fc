"""The OpenAPI document says what the routes do."""

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway import openapi
from gateway.rest.routes import ROUTES

DOCUMENT: dict[str, Any] = json.loads(msgspec.json.encode(openapi.document(ROUTES, version="1")))


def operations() -> list[dict[str, Any]]:
    return [operation for path in DOCUMENT["paths"].values() for operation in path.values()]


def test_every_route_is_an_operation_with_its_own_id() -> None:
    ids = [operation["operationId"] for operation in operations()]
    assert len(ids) == len(set(ids)) == len(ROUTES)


def test_every_reference_points_at_a_schema() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    names = re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(DOCUMENT))
    assert names
    assert set(names) <= set(schemas)


def test_parameters_of_paths_are_declared() -> None:
    for path, methods in DOCUMENT["paths"].items():
        for operation in methods.values():
            declared = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
            assert declared == set(re.findall(r"{(\w+)}", path)), path


def test_a_query_struct_becomes_parameters() -> None:
    parameters = {p["name"]: p for p in DOCUMENT["paths"]["/v1/agents/"]["get"]["parameters"]}
    assert parameters["order"]["schema"] == {"enum": ["asc", "desc"], "default": "desc"}
    assert {"limit", "after", "before", "tags", "match_all_tags"} <= set(parameters)


def test_public_routes_need_no_security_and_others_do() -> None:
    assert DOCUMENT["paths"]["/v1/health/"]["get"]["security"] == []
    assert "security" not in DOCUMENT["paths"]["/v1/agents/"]["get"]


@pytest.mark.parametrize("name", ["AgentState", "LettaBlock", "CreateAgent", "ErrorBody"])
def test_structs_carry_their_descriptions(name: str) -> None:
    assert DOCUMENT["components"]["schemas"][name]["description"]


def test_no_schema_mentions_a_path_of_this_machine() -> None:
    assert str(Path(__file__).parents[2]) not in json.dumps(DOCUMENT)
