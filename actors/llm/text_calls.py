"""Tool calls for models that have none: a JSON schema that the answer follows, and words that explain it.

Pure. Such a model answers with one JSON object: `{"name": …, "arguments": …}` is a call, `{"reply": …}`
is what it says. Its history is written in the same way.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from actors.llm.formats import Format
from actors.llm.keeping import kept
from storage.records import JsonObject, ToolCallPart, ToolReturnPart

# Where nobody says how long an answer may be: a weak model that runs on must end some time.
ANSWER_TOKENS = 2_048


class Offer(Struct, frozen=True):
    """What a model may answer: `tools` by name with the arguments they require, and perhaps a reply."""

    tools: dict[str, frozenset[str]]
    reply: bool
    schema: JsonObject
    words: str


class _Function(Struct, frozen=True):
    name: str
    description: str = ""
    parameters: dict[str, Any] = {}


class _Tool(Struct, frozen=True):
    function: _Function


_EXPLAINED = """

# How you answer
You answer with exactly one JSON object and nothing else: no text before it or after it.
"""
_CALL = '- To use a tool: {"name": "<its name>", "arguments": {<its arguments>}}. You then see its result.\n'
_REPLY = '- To say something to the person: {"reply": "<what you say>"}. This ends your turn.\n'
_TOOLS = "\n# Your tools\n"


def offer(tools: bytes | None, choice: str, form: Format | None) -> Offer:
    """Return what a model may answer, given the tools of a chat request and its `tool_choice`."""
    return _offer(tools or b"[]", choice, None if form is None else msgspec.json.encode(form))


@kept
def _offer(tools: bytes, choice: str, form: bytes | None) -> Offer:
    functions = [tool.function for tool in msgspec.json.decode(tools, type=list[_Tool])]
    if choice == "none":
        functions = []
    elif choice not in ("auto", "required"):
        functions = [function for function in functions if function.name == choice] or functions
    reply = choice in ("auto", "none") or not functions
    alternatives = [_call_schema(function) for function in functions]
    if reply:
        alternatives.append(_reply_schema(None if form is None else msgspec.json.decode(form, type=Format)))
    words = _EXPLAINED + (_CALL if functions else "") + (_REPLY if reply else "")
    if functions:
        words += _TOOLS + "".join(map(_described, functions))
    return Offer(
        {f.name: frozenset(f.parameters.get("required") or ()) for f in functions},
        reply,
        {"anyOf": alternatives} if len(alternatives) > 1 else alternatives[0],
        words.rstrip("\n"),
    )


def response_format(offered: Offer) -> JsonObject:
    """Return the `response_format` that holds a model to what it is offered."""
    described = {"name": "answer", "strict": True, "schema": offered.schema}
    return {"type": "json_schema", "json_schema": described}


def explained(system: bytes, offered: Offer) -> bytes:
    """Return a system message with the explanation added to its text."""
    message = msgspec.json.decode(system)
    if isinstance(message.get("content"), str):
        message["content"] += offered.words
    return msgspec.json.encode(message)


def written(text: str, calls: Sequence[ToolCallPart]) -> str:
    """Return what a model is shown of its own earlier answer."""
    said = [msgspec.json.encode({"reply": text}).decode("utf-8", "replace")] if text else []
    return "\n".join(said + [_written(call) for call in calls])


def result(part: ToolReturnPart) -> str:
    """Return what a model is shown of a call's result."""
    return f"[Result of {part.name or 'the tool'}]\n{part.text}"


def _written(call: ToolCallPart) -> str:
    try:
        arguments: object = msgspec.Raw(call.arguments.encode())
        msgspec.json.decode(call.arguments)
    except (ValueError, RecursionError):
        arguments = call.arguments.encode("utf-8", "replace").decode()
    return msgspec.json.encode({"name": call.name, "arguments": arguments}).decode()


def _call_schema(function: _Function) -> JsonObject:
    parameters: JsonObject = {"type": "object", "properties": {}, **function.parameters}
    return _object(name={"const": function.name}, arguments=parameters)


def _reply_schema(form: Format | None) -> JsonObject:
    if form is None:
        return _object(reply={"type": "string"})
    return _object(reply={"type": "object"} if form.schema is None else form.schema)


def _object(**properties: JsonObject) -> JsonObject:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _described(function: _Function) -> str:
    properties: JsonObject = function.parameters.get("properties") or {}
    arguments = msgspec.json.encode(properties).decode()
    required = ", ".join(function.parameters.get("required") or ()) or "none"
    return f"## {function.name}\n{function.description}\nArguments: {arguments}\nRequired: {required}\n"
