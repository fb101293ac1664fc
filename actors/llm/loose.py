"""JSON values that nobody promised a shape of, read as far as they have the one that is looked for. Pure."""

from collections.abc import Mapping
from typing import cast


def object_of(value: object) -> Mapping[str, object]:
    """Return a JSON object as it is, and anything else as an empty one."""
    return cast("Mapping[str, object]", value) if isinstance(value, Mapping) else {}


def objects(value: object) -> list[Mapping[str, object]]:
    """Return the objects of a JSON list; none where it is no list."""
    if not isinstance(value, list):
        return []
    items = cast("list[object]", value)
    return [cast("Mapping[str, object]", item) for item in items if isinstance(item, Mapping)]
