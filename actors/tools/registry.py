"""What each built-in tool is: its name, what models are told about it, and how it is run."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Literal, cast

import msgspec
from msgspec import Struct

from storage.records import JsonObject, Tool

RETURN_LIMIT_CHARS = 50_000


class ToolSpec(Struct, frozen=True, kw_only=True):
    """A built-in tool as data.

    `kind` says how it runs: `memory` tools are pure edits that the actor applies at the end of the
    step, `read` tools are awaited during it. `effects` is `outside` where running it twice would be
    noticed outside of this system: its intent is then committed first. `cut_result` is false for tools
    that bound their own result.
    """

    name: str
    description: str
    parameters: JsonObject
    tool_type: str
    kind: Literal["memory", "read"]
    effects: Literal["none", "outside"] = "none"
    return_char_limit: int = RETURN_LIMIT_CHARS
    cut_result: bool = True

    @property
    def json_schema(self) -> JsonObject:
        """Return the function schema that models and clients are shown."""
        return {"name": self.name, "description": self.description, "parameters": self.parameters}


def _object(required: tuple[str, ...], **properties: JsonObject) -> JsonObject:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


_LABEL: JsonObject = {"type": "string", "description": "The label of the memory block to edit."}

MEMORY_INSERT = ToolSpec(
    name="memory_insert",
    description=(
        "Add new lines to one of your memory blocks; nothing that is there is changed. Use it for facts "
        "that the block does not hold yet. The result is the block's new value."
    ),
    parameters=_object(
        ("label", "new_string"),
        label=_LABEL,
        new_string={
            "type": "string",
            "description": "The text to add, as it should stand in memory, without line numbers.",
        },
        insert_line={
            "type": "integer",
            "description": (
                "The line after which the text goes: 0 puts it on top, -1 (what is used when this is "
                "left out) at the end."
            ),
        },
    ),
    tool_type="letta_memory_core",
    kind="memory",
)

MEMORY_REPLACE = ToolSpec(
    name="memory_replace",
    description=(
        "Replace one piece of text in one of your memory blocks: correct what is wrong, update what has "
        "changed, or remove what no longer matters. The result is the block's new value."
    ),
    parameters=_object(
        ("label", "old_string", "new_string"),
        label=_LABEL,
        old_string={
            "type": "string",
            "description": (
                "The text to replace, copied exactly with its spaces and line breaks, without line "
                "numbers. It must occur once in the block: quote more of it where it occurs twice."
            ),
        },
        new_string={
            "type": "string",
            "description": "What stands there afterwards, without line numbers. Empty removes the text.",
        },
    ),
    tool_type="letta_memory_core",
    kind="memory",
)

CONVERSATION_SEARCH = ToolSpec(
    name="conversation_search",
    description=(
        "Search everything that was ever said in your conversations, also what has left your view. "
        "Messages that share words with the query are found, the best match first. Without a query the "
        "newest messages come, which with dates answers what was said at some time."
    ),
    parameters=_object(
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

BUILTIN: Mapping[str, ToolSpec] = {
    spec.name: spec for spec in (CONVERSATION_SEARCH, MEMORY_REPLACE, MEMORY_INSERT)
}
BASE_TOOLS: tuple[str, ...] = tuple(BUILTIN)  # what a letta_v1_agent holds unless it asks for none


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
    """
    functions: list[JsonObject] = []
    for tool in tools:
        function = tool.json_schema
        if strict:
            function = {
                **function,
                "parameters": _strict(function.get("parameters") or _object(())),
                "strict": True,
            }
        functions.append({"type": "function", "function": function})
    return msgspec.json.encode(functions) if functions else None


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
    return {**schema, "type": [*kinds, "null"]} if kind and "null" not in kinds else schema
