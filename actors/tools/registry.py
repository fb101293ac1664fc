"""Which tools there are, what each kind of agent holds of them, and how models are shown them."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, cast

import msgspec

from actors.tools.builtin_specs import BUILTIN_SPECS
from actors.tools.memory_specs import (
    CORE_MEMORY_APPEND,
    CORE_MEMORY_REPLACE,
    MEMORY,
    MEMORY_APPLY_PATCH,
    MEMORY_FINISH_EDITS,
    MEMORY_INSERT,
    MEMORY_REPLACE,
    MEMORY_RETHINK,
    MEMORY_SPECS,
)
from actors.tools.spec import ToolSpec, arguments_of
from storage.records import JsonObject, Tool

CONVERSATION_SEARCH = ToolSpec(
    name="conversation_search",
    description=(
        "Search everything that was ever said in your conversations, also what has left your view. "
        "Messages that share words with the query are found, the best match first. Without a query the "
        "newest messages come, which with dates answers what was said at some time."
    ),
    parameters=arguments_of(
        (),
        query={
            "type": "string",
            "description": (
                "Words that the messages you look for would contain: names, subjects, and other words "
                "for the same thing. Leave it out to list messages by date alone."
            ),
        },
        roles={
            "type": "array",
            "items": {"type": "string", "enum": ["user", "assistant"]},
            "description": "Only messages of these speakers. Left out: of everyone.",
        },
        limit={
            "type": "integer",
            "description": "How many messages to return at most: 5 when left out, never more than 50.",
        },
        start_date={
            "type": "string",
            "description": (
                "Only messages from this moment on: an ISO 8601 date such as 2026-03-31, or a date with "
                "a time such as 2026-03-31T14:30, in your own timezone unless it names another."
            ),
        },
        end_date={
            "type": "string",
            "description": "Only messages up to this moment; a date without a time includes that whole day.",
        },
    ),
    tool_type="letta_core",
    kind="read",
    cut_result=False,
)

ARCHIVAL_MEMORY_INSERT = ToolSpec(
    name="archival_memory_insert",
    description=(
        "Put something away for good in your archival memory, which has room for everything and is not "
        "always before you: reports, decisions and their reasons, stories, details that may be asked for "
        "some day. Write one self-contained thought at a time, with names instead of pronouns, so that it "
        "can be found and understood alone. archival_memory_search finds it again by its meaning. The "
        "result is the id of the passage."
    ),
    parameters=arguments_of(
        ("content",),
        content={"type": "string", "description": "The text to keep."},
        tags={
            "type": "array",
            "items": {"type": "string"},
            "description": "Words that say what it is about, to search by: subjects, projects, people.",
        },
    ),
    tool_type="letta_core",
    kind="archive",
)

ARCHIVAL_MEMORY_SEARCH = ToolSpec(
    name="archival_memory_search",
    description=(
        "Search your archival memory by meaning: describe what you look for in your own words; the closest "
        "passages come first. Tags and dates narrow the search. Each result has its id, the time when it "
        "was stored, its text and its tags."
    ),
    parameters=arguments_of(
        ("query",),
        query={
            "type": "string",
            "description": "What you look for: a question, a description, or words that occur in it.",
        },
        tags={
            "type": "array",
            "items": {"type": "string"},
            "description": "Only passages with these tags.",
        },
        tag_match_mode={
            "type": "string",
            "enum": ["any", "all"],
            "description": "Whether any of the tags will do, as when this is left out, or all are needed.",
        },
        top_k={
            "type": "integer",
            "description": "How many passages to return at most: 10 when left out, never more than 50.",
        },
        start_datetime={
            "type": "string",
            "description": (
                "Only passages stored from this moment on: an ISO 8601 date such as 2026-03-31, or a date "
                "with a time such as 2026-03-31T14:30, in your own timezone unless it names another."
            ),
        },
        end_datetime={
            "type": "string",
            "description": (
                "Only passages stored up to this moment; a date without a time includes that whole day."
            ),
        },
    ),
    tool_type="letta_core",
    kind="read",
    cut_result=False,
)

SEND_MESSAGE = ToolSpec(
    name="send_message",
    description=(
        "Say something to the person you talk with. This is the only way in which they hear you: whatever "
        "else you write stays with you."
    ),
    parameters=arguments_of(
        ("message",),
        message={"type": "string", "description": "What to say, as the person should read it."},
    ),
    tool_type="letta_core",
    kind="said",
    says="Sent message successfully.",
)

BUILTIN: Mapping[str, ToolSpec] = {
    spec.name: spec
    for spec in (
        CONVERSATION_SEARCH,
        *MEMORY_SPECS,
        ARCHIVAL_MEMORY_INSERT,
        ARCHIVAL_MEMORY_SEARCH,
        SEND_MESSAGE,
        *BUILTIN_SPECS,
    )
}

# What an agent holds unless it asks for none, by its type; a type that is not here holds none.
BASE_TOOLS: Mapping[str, tuple[str, ...]] = {
    "letta_v1_agent": (CONVERSATION_SEARCH.name, MEMORY_REPLACE.name, MEMORY_INSERT.name),
    "memgpt_v2_agent": (
        SEND_MESSAGE.name,
        CONVERSATION_SEARCH.name,
        MEMORY_REPLACE.name,
        MEMORY_INSERT.name,
    ),
    "memgpt_agent": (
        SEND_MESSAGE.name,
        CONVERSATION_SEARCH.name,
        CORE_MEMORY_APPEND.name,
        CORE_MEMORY_REPLACE.name,
        MEMORY.name,
        MEMORY_APPLY_PATCH.name,
    ),
    "sleeptime_agent": (
        MEMORY_REPLACE.name,
        MEMORY_INSERT.name,
        MEMORY_RETHINK.name,
        MEMORY_FINISH_EDITS.name,
    ),
}


def row(spec: ToolSpec, *, tool_id: str, organization_id: str, created_at: datetime) -> Tool:
    """Return `spec` as the row by which agents hold it."""
    return Tool(
        id=tool_id,
        organization_id=organization_id,
        name=spec.name,
        tool_type=spec.tool_type,
        description=spec.description,
        json_schema=spec.json_schema,
        created_at=created_at,
        updated_at=created_at,
        tags=(spec.tool_type,),
        return_char_limit=spec.return_char_limit,
    )


def definitions(tools: Iterable[Tool], *, strict: bool) -> bytes | None:
    """Return the JSON array of function tools that a chat request carries; None where there are none.

    `strict` asks the provider to hold the model to the schema. It then accepts only objects that
    require each property, so optional ones become nullable; `arguments.parse` takes null as left out.
    A tool whose schema says more than a flat list of arguments is sent as it is.
    """
    functions: list[JsonObject] = []
    for tool in tools:
        function = tool.json_schema
        parameters = function.get("parameters") or arguments_of(())
        if strict and _is_plain(parameters):
            function = {**function, "parameters": _strict(parameters), "strict": True}
        functions.append({"type": "function", "function": function})
    return msgspec.json.encode(functions) if functions else None


def _is_plain(parameters: Any) -> bool:
    """Say whether a schema is an object of values and lists of values, as far as anybody's schema tells."""
    if not isinstance(parameters, dict) or not {"type", "properties"} <= parameters.keys() <= _PLAIN_KEYS:
        return False
    schema = cast("JsonObject", parameters)
    properties, required = schema["properties"], schema.get("required", [])
    if schema["type"] != "object" or not isinstance(properties, dict) or not isinstance(required, list):
        return False
    named = cast("dict[str, Any]", properties)
    return all(name in named for name in cast("list[Any]", required)) and all(
        _is_value(inner) or (_has_type(inner, "array") and _is_value(inner.get("items")))
        for inner in named.values()
    )


_PLAIN_KEYS = frozenset({"type", "properties", "required", "additionalProperties", "description", "title"})


def _is_value(schema: Any) -> bool:
    return any(_has_type(schema, kind) for kind in ("string", "integer", "number", "boolean"))


def _has_type(schema: Any, kind: str) -> bool:
    return isinstance(schema, dict) and cast("JsonObject", schema).get("type") == kind


def _strict(parameters: JsonObject) -> JsonObject:
    required: set[str] = set(parameters.get("required") or ())
    properties = cast("Mapping[str, JsonObject]", parameters.get("properties") or {})
    return {
        **parameters,
        "properties": {
            name: schema if name in required else _nullable(schema) for name, schema in properties.items()
        },
        "required": list(properties),
        "additionalProperties": False,
    }


def _nullable(schema: JsonObject) -> JsonObject:
    kind: Any = schema.get("type")
    kinds: list[Any] = [*cast("list[Any]", kind)] if isinstance(kind, list) else [kind]
    if not kind or "null" in kinds:
        return schema
    nullable = {**schema, "type": [*kinds, "null"]}
    choices: Any = schema.get("enum")
    if isinstance(choices, list) and None not in choices:  # else it could not be left out
        nullable["enum"] = [*cast("list[Any]", choices), None]
    return nullable
