"""Checks the arguments a model wrote for a call: JSON text in, checked values or an error text out."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

from actors.memory import storable
from actors.tools.registry import ToolSpec
from storage.records import JsonObject

MAX_CHARS = 1_000_000  # far above what a model writes at once; bounds the work of checking
_SHOWN_CHARS = 60


class _RefusedError(ValueError):
    """The text is JSON that we refuse; the message says why."""


def parse(spec: ToolSpec, arguments_json: str) -> JsonObject | str:
    """Return the arguments of a call of `spec`, or the error text that its result will be.

    The text must be one JSON object with the declared arguments and no other, each of its declared
    type; nothing is guessed, and a mistake is never taken for an empty object. Two lenient readings:
    of several objects in a row the first counts, and null for an optional argument leaves it out.
    NUL and lone surrogates become U+FFFD.
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
    optional = spec.parameters["properties"].keys() - set(spec.parameters["required"])
    return {k: _integral(v, spec, k) for k, v in arguments.items() if not (v is None and k in optional)}


def _error(spec: ToolSpec, reason: str) -> str:
    required: Sequence[str] = spec.parameters["required"]
    takes = ", ".join(
        name if name in required else f"{name} (optional)" for name in spec.parameters["properties"]
    )
    return f"Error: {spec.name} was not run, because its arguments are wrong: {reason}. It takes: {takes}."


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
    properties = cast("Mapping[str, JsonObject]", parameters["properties"])
    required: Sequence[str] = parameters["required"]
    for name in arguments:
        if name not in properties:
            return f"{_shown(name)} is not one of them; leave it out"
    for name in required:
        if name not in arguments:
            return f"{name} is missing; add it"
    for name, value in arguments.items():
        if value is None and name not in required:
            continue
        fault = _mismatch(properties[name], value)
        if fault is not None:
            return f"{name} {fault}"
    return None


def _mismatch(schema: JsonObject, value: Any) -> str | None:
    """Return how `value` differs from `schema`. Knows what the registry's schemas use."""
    wanted: str = schema["type"]
    if not _is_a(wanted, value):
        return f"is {_kind(value)}; send {_ARTICLES[wanted]}"
    if "enum" in schema and value not in schema["enum"]:
        return f"is {_shown(str(value))}; send one of {', '.join(schema['enum'])}"
    if wanted == "array":
        for item in cast("list[Any]", value):
            fault = _mismatch(schema["items"], item)
            if fault is not None:
                return f"holds an item that {fault}"
    return None


def _is_a(wanted: str, value: Any) -> bool:
    match wanted:
        case "string":
            return isinstance(value, str)
        case "integer":
            return not isinstance(value, bool) and isinstance(value, int | float) and value == int(value)
        case "array":
            return isinstance(value, list)
        case _:
            raise AssertionError(f"no built-in tool takes a {wanted}")


def _integral(value: Any, spec: ToolSpec, name: str) -> Any:
    """JSON has one kind of number: 3.0 is an integer, and the tools want it as one."""
    return int(value) if spec.parameters["properties"][name]["type"] == "integer" else value


_ARTICLES: Mapping[str, str] = {"string": "a string", "integer": "an integer", "array": "an array"}


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
