"""Schemas that no tool of ours has, and that tools of others may."""

from typing import Any


def nested(depth: int) -> dict[str, Any]:
    """Return objects inside each other."""
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"x": schema}}
    return schema


STRANGE: dict[str, dict[str, Any]] = {
    "a file": {"$ref": "file:///etc/passwd"},
    "an address": {"type": "object", "properties": {"x": {"$ref": "http://127.0.0.1:1/x"}}},
    "500 levels": nested(500),
    "no such type": {"type": "banana"},
    "a type that is a number": {"type": "object", "properties": {"x": {"type": 7}}},
    "required but not declared": {"required": ["zz"], "properties": {}},
    "itself": {"$ref": "#"},
    "10,000 arguments": {
        "type": "object",
        "properties": {f"p{i}": {} for i in range(10_000)},
    },
    "no object": {"type": "array", "items": {"type": "string"}},
    "properties that are a list": {"type": "object", "properties": ["x"], "required": {"x": 1}},
    "conditions": {"type": "object", "properties": {"x": {"anyOf": [{"type": "string"}]}}},
}
