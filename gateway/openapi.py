"""The OpenAPI 3.1 document, made from the route table."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from gateway import decode
from gateway.app import Route
from storage.records import JsonObject

_REFS = "#/components/schemas/{name}"


class ErrorDetail(Struct, frozen=True):
    """What went wrong: a word for programs, a sentence for people, and the field as a JSON pointer."""

    type: str
    message: str
    request_id: str
    param: str | None = None


class ErrorBody(Struct, frozen=True):
    """The body of every error. `detail` is what Letta's clients read: usually a text."""

    detail: Any
    error: ErrorDetail


def document(routes: Sequence[Route], *, version: str) -> JsonObject:
    """Return the document of these routes. The order of paths is that of the table."""
    schemas, components = msgspec.json.schema_components(_types(routes), ref_template=_REFS)
    by_type = dict(zip(map(repr, _types(routes)), schemas, strict=True))
    paths: dict[str, JsonObject] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, by_type)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "wakeful",
            "version": version,
            "description": "Long-lived LLM agents. Paths, bodies and answers follow Letta's server 0.16.8.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"key": []}, {}],
    }


def _types(routes: Iterable[Route]) -> list[Any]:
    found: dict[str, Any] = {repr(ErrorBody): ErrorBody}
    for route in routes:
        for kind in (route.body, route.returns):
            if kind is not None:
                found.setdefault(repr(kind), kind)
    return list(found.values())


def _operation(route: Route, schemas: dict[str, JsonObject]) -> JsonObject:
    answer: JsonObject = {"description": "Done"}
    if route.returns is not None:
        answer["content"] = _content(schemas[repr(route.returns)])
    operation: JsonObject = {
        "operationId": route.operation_id,
        "summary": route.summary,
        "tags": list(route.tags),
        "parameters": [*_path_parameters(route.path), *_query_parameters(route.query)],
        "responses": {
            str(route.status): answer,
            "default": {"description": "Refused", "content": _content(schemas[repr(ErrorBody)])},
        },
    }
    if route.body is not None:
        operation["requestBody"] = {
            "required": not route.body_optional,
            "content": {route.body_media: {"schema": schemas[repr(route.body)]}},
        }
    if route.public:
        operation["security"] = []
    return operation


def _content(schema: JsonObject) -> JsonObject:
    return {"application/json": {"schema": schema}}


def _path_parameters(path: str) -> list[JsonObject]:
    names = [part.strip("{}") for part in path.split("/") if part.startswith("{")]
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string", "pattern": f"^(?:{decode.PATH_PARAMETERS[name].pattern})$"},
        }
        for name in names
    ]


def _query_parameters(query: type[Struct] | None) -> list[JsonObject]:
    if query is None:
        return []
    schema = msgspec.json.schema_components([query], ref_template=_REFS)[1][query.__name__]
    required = schema.get("required", ())
    return [
        {"name": name, "in": "query", "required": name in required, "schema": field}
        for name, field in schema["properties"].items()
    ]
