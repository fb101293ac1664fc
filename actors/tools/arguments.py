"""Checks the arguments a model wrote for a call: JSON text in, checked values or an error text out."""

import json
import math
from collections.abc import Mapping
from typing import Any, cast

from actors.memory import storable
from actors.tools.registry import ToolSpec
from storage.records import JsonObject

MAX_CHARS = 1_000_000  # far above what a model writes at once; bounds the work of checking
_SHOWN_CHARS = 60
_NAMED = 40  # arguments or choices that an error names at most
_MAX_DEPTH = 32  # of values that are held against a schema; what is deeper is taken as it is


class _RefusedError(ValueError):
    """The text is JSON that we refuse; the message says why."""


def parse(spec: ToolSpec, arguments_json: str) -> JsonObject | str:
    """Return the arguments of a call of `spec`, or the error text that its result will be.

    The text must be one JSON object with the declared arguments, each of its declared type, and no other
    where the schema says so; nothing is guessed, and a mistake is never taken for an empty object. Two
    lenient readings: of several objects in a row the first counts, and null for an optional argument
    leaves it out. NUL and lone surrogates become U+FFFD.

    A schema may come from anybody: what is no schema in it, and what we do not know, checks nothing; a
    `$ref` is never followed.
    """
    try:
        value = _storable(_decode(arguments_json))
    except _RefusedError as error:
        return _error(spec, str(error))
    except RecursionError:
        return _error(spec, "they are nested too deeply; send a flat JSON object")
    except ValueError as error:  # json.JSONDecodeError, or a number of absurd length
        return _error(spec, f"they are not valid JSON ({error}); send one JSON object")
    if not isinstance(value, dict):
        return _error(spec, f"they are {_kind(value)}; send one JSON object")
    arguments = cast("JsonObject", value)
    fault = _fault(spec.parameters, arguments)
    if fault is not None:
        return _error(spec, fault)
    properties, required = _declared(spec.parameters)
    return {
        name: _integral(value, properties.get(name))
        for name, value in arguments.items()
        if not (value is None and name in properties and name not in required)
    }


def _declared(parameters: JsonObject) -> tuple[Mapping[str, Any], frozenset[str]]:
    """Return (schemas by name, names that are required); nothing where the schema has no such thing."""
    properties, required = parameters.get("properties"), parameters.get("required")
    names = cast("list[Any]", required) if isinstance(required, list) else []
    return (
        cast("dict[str, Any]", properties) if isinstance(properties, dict) else {},
        frozenset(name for name in names if isinstance(name, str)),
    )


def _error(spec: ToolSpec, reason: str) -> str:
    properties, required = _declared(spec.parameters)
    named = [name if name in required else f"{name} (optional)" for name in properties]
    named += sorted(required - properties.keys())
    takes = ", ".join(named[:_NAMED]) + (", …" if len(named) > _NAMED else "")
    return (
        f"Error: {spec.name} was not run, because its arguments are wrong: {reason}. "
        f"It takes: {takes or 'nothing'}."
    )


# --- decoding ---------------------------------------------------------------------------------


def _decode(text: str) -> Any:
    if len(text) > MAX_CHARS:
        raise _RefusedError(f"they are {len(text)} characters long; the limit is {MAX_CHARS}")
    text = text.strip()
    if not text:
        raise _RefusedError("they are empty; send a JSON object, {} where there is nothing to say")
    value, end = _DECODER.raw_decode(text)
    rest = text[end:].lstrip()
    if rest and not (text.startswith("{") and rest.startswith("{")):
        raise _RefusedError(f"something follows the JSON object ({_shown(rest)}); send the object alone")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> JsonObject:
    decoded: JsonObject = {}
    for name, value in pairs:
        if name in decoded:
            raise _RefusedError(f"{_shown(name)} is given twice; give it once")
        decoded[name] = value
    return decoded


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _RefusedError(f"{_shown(text)} is too large a number")
    return value


def _no_constant(name: str) -> Any:
    raise _RefusedError(f"{name} is not JSON; send a number or leave it out")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_number, parse_constant=_no_constant)


def _storable(value: Any) -> Any:
    match value:
        case str():
            return storable(value)
        case list():
            return [_storable(item) for item in cast("list[Any]", value)]
        case dict():
            return {storable(k): _storable(v) for k, v in cast("dict[str, Any]", value).items()}
        case _:
            return value


# --- checking ---------------------------------------------------------------------------------


def _fault(parameters: JsonObject, arguments: JsonObject) -> str | None:
    """Return what is wrong with `arguments`, naming the argument and the remedy."""
    properties, required = _declared(parameters)
    if parameters.get("additionalProperties") is False:
        for name in arguments:
            if name not in properties:
                return f"{_shown(name)} is not one of them; leave it out"
    for name in (*(n for n in properties if n in required), *sorted(required - properties.keys())):
        if name not in arguments:
            return f"{name} is missing; add it"
    for name, value in arguments.items():
        if value is None and name not in required:
            continue
        fault = _mismatch(properties.get(name), value, depth=0)
        if fault is not None:
            return f"{name} {fault}"
    return None


def _mismatch(schema: Any, value: Any, *, depth: int) -> str | None:
    """Return how `value` differs from `schema`: in its type, its choices, its items, its properties."""
    if not isinstance(schema, dict) or depth > _MAX_DEPTH:
        return None
    schema = cast("JsonObject", schema)
    wanted = _types(schema)
    if wanted and not any(_is_a(kind, value) for kind in wanted):
        return f"is {_kind(value)}; send {' or '.join(_ARTICLES[kind] for kind in wanted)}"
    choices = schema.get("enum")
    if isinstance(choices, list) and value not in choices:
        some = ", ".join(str(choice) for choice in cast("list[Any]", choices)[:_NAMED])
        return f"is {_shown(str(value))}; send one of {some}"
    if isinstance(value, list):
        for item in cast("list[Any]", value):
            fault = _mismatch(schema.get("items"), item, depth=depth + 1)
            if fault is not None:
                return f"holds an item that {fault}"
    elif isinstance(value, dict):
        return _inner_fault(schema, cast("JsonObject", value), depth=depth + 1)
    return None


def _inner_fault(schema: JsonObject, value: JsonObject, *, depth: int) -> str | None:
    properties, required = _declared(schema)
    if lacking := sorted(required - value.keys()):
        return f"lacks {lacking[0]}; add it"
    for name, inner in value.items():
        fault = _mismatch(properties.get(name), inner, depth=depth)
        if fault is not None and not (inner is None and name not in required):
            return f"has a {_shown(name)} that {fault}"
    return None


def _types(schema: JsonObject) -> list[str]:
    """Return the types that a schema allows, as far as we know them; empty where it does not say."""
    kind = schema.get("type")
    kinds = cast("list[Any]", kind) if isinstance(kind, list) else [kind]
    known = [k for k in kinds if isinstance(k, str) and k in _ARTICLES]
    return known if len(known) == len(kinds) else []


def _is_a(wanted: str, value: Any) -> bool:
    match wanted:
        case "string":
            return isinstance(value, str)
        case "integer":
            return not isinstance(value, bool) and isinstance(value, int | float) and value == int(value)
        case "number":
            return not isinstance(value, bool) and isinstance(value, int | float)
        case "boolean":
            return isinstance(value, bool)
        case "null":
            return value is None
        case "array":
            return isinstance(value, list)
        case _:
            return isinstance(value, dict)


def _integral(value: Any, schema: Any) -> Any:
    """JSON has one kind of number: 3.0 is an integer, and the tools want it as one."""
    if not isinstance(value, float) or not isinstance(schema, dict):
        return value
    kinds = _types(cast("JsonObject", schema))
    return int(value) if "integer" in kinds and "number" not in kinds else value


_ARTICLES: Mapping[str, str] = {
    "string": "a string",
    "integer": "an integer",
    "number": "a number",
    "boolean": "a boolean",
    "null": "null",
    "array": "an array",
    "object": "an object",
}


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "…")
