"""Tool rules as clients send them: checked, and as they are stored."""

from collections.abc import Sequence

import msgspec

from actors import rules as tool_rules
from actors.rules import ConstrainChildTools, Rule, RunFirst
from actors.tools.registry import BUILTIN
from gateway.errors import InvalidRequestError
from storage.records import JsonObject

MAX_RULES = 500


def stored(rules: Sequence[Rule]) -> tuple[JsonObject, ...]:
    """Return rules as they are stored and shown: without repeats, every field named.

    Raises:
        InvalidRequestError: There are too many, or one sets an argument that its tool does not take.
    """
    if len(rules) > MAX_RULES:
        raise InvalidRequestError(f"an agent has at most {MAX_RULES} tool rules", param="/tool_rules")
    for place, rule in enumerate(rules):
        for name, given, at in _set_arguments(rule):
            _check_arguments(name, given, param=f"/tool_rules/{place}/{at}")
    return tuple(msgspec.to_builtins(rule) for rule in tool_rules.unique(rules))


def _check_arguments(tool: str, given: JsonObject, *, param: str) -> None:
    """Refuse arguments that a built-in tool does not take; what others take is not known."""
    spec = BUILTIN.get(tool)
    if spec is None:
        return
    takes = spec.parameters["properties"]
    unknown = next((name for name in given if name not in takes), None)
    if unknown is not None:
        raise InvalidRequestError(
            f"{tool} takes no argument {unknown!r}; it takes: {', '.join(takes)}", param=param
        )


def _set_arguments(rule: Rule) -> list[tuple[str, JsonObject, str]]:
    """Return (tool, arguments, where they stand) of the calls whose arguments a rule sets."""
    match rule:
        case RunFirst(tool_name=name, args=given):
            return [(name, given or {}, "args")]
        case ConstrainChildTools(child_arg_nodes=nodes):
            return [(n.name, n.args or {}, f"child_arg_nodes/{i}/args") for i, n in enumerate(nodes or ())]
        case _:
            return []
