"""The least change of a JSON object into another, as a JSON Patch (RFC 6902). Pure."""

from collections.abc import Mapping
from typing import Any

Operation = dict[str, Any]  # {"op", "path", "value"?}


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Operation]:
    """Return the operations that make `before` into `after`; none where they are equal.

    Objects are compared member by member; anything else that differs is replaced whole, lists too.
    """
    found: list[Operation] = []
    _compare("", before, after, found)
    return found


def _compare(path: str, before: Mapping[str, Any], after: Mapping[str, Any], found: list[Operation]) -> None:
    found += [{"op": "remove", "path": f"{path}/{_escaped(name)}"} for name in before if name not in after]
    for name, value in after.items():
        place = f"{path}/{_escaped(name)}"
        if name not in before:
            found.append({"op": "add", "path": place, "value": value})
            continue
        old = before[name]
        if _is_object(old) and _is_object(value):
            _compare(place, old, value, found)
        elif old != value or type(old) is not type(value):
            found.append({"op": "replace", "path": place, "value": value})


def _is_object(value: object) -> bool:
    return isinstance(value, Mapping)


def _escaped(name: str) -> str:
    """Return a member's name as a JSON Pointer has it (RFC 6901, section 3)."""
    return name.replace("~", "~0").replace("/", "~1")
