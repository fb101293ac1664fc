"""Events as publications show them: their AG-UI image, shortened where it is too large to be sent. Pure."""

from collections.abc import Mapping
from typing import Any, cast

import msgspec

from actors.events import Event
from actors.frozen import DELTAS
from gateway.agui import images as agui

EVENT_BYTES = 256 * 1024  # of one event; what is cut off is read by REST
# Shorter and shorter, until it fits: characters of a text, members of a list.
STEPS = ((32_768, 1_000), (4_096, 1_000), (1_024, 100), (128, 32), (32, 4))

_encode = msgspec.json.Encoder().encode


def image(event: Event, thread: str) -> bytes:
    """Return the JSON of an event of conversation `thread`, at most `EVENT_BYTES` of it.

    Long texts of a larger one are cut, and `metadata.wakeful` says so and where all of it is. Fragments are
    never cut: they are as small as their model made them.
    """
    data = agui.image(event, thread)
    if len(data) <= EVENT_BYTES or isinstance(event, DELTAS):
        return data
    whole = msgspec.json.decode(data, type=dict[str, Any])
    for chars, members in STEPS:
        shown: dict[str, Any] = _cut(whole, chars, members)
        told = {"truncated": True, "bytes": len(data), "see": f"/v1/conversations/{thread}/messages"}
        metadata: dict[str, Any] = {**shown.get("metadata", {}), "wakeful": told}
        data = _encode({**shown, "metadata": metadata})
        if len(data) <= EVENT_BYTES:
            break
    return data


def _cut(value: Any, chars: int, members: int) -> Any:
    if isinstance(value, str):
        return value if len(value) <= chars else f"{value[: chars - 1]}…"
    if isinstance(value, list):
        return [_cut(item, chars, members) for item in cast("list[Any]", value)[:members]]
    if isinstance(value, Mapping):
        fields = cast("Mapping[str, Any]", value)
        return {name: _cut(item, chars, members) for name, item in fields.items()}
    return value
