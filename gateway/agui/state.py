"""The shared state of AG-UI in one run's stream: an agent's state as events, and its patches. Pure.

The document is that of `agent_state`. Patches (RFC 6902) never depend on what the client's copy holds: they
apply to any version of it.
"""

from typing import Any

import msgspec

from actors.events import BlockChanged, BlockCreated, BlockDetached
from actors.status import Status
from gateway.feeds.json_patch import Operation
from storage.parts import JsonObject

MemoryEvent = BlockChanged | BlockCreated | BlockDetached

_encode = msgspec.json.Encoder().encode


def snapshot(state: JsonObject) -> bytes:
    """Return the event that sets the whole state."""
    return _encode({"type": "STATE_SNAPSHOT", "snapshot": state})


def delta(*operations: Operation) -> bytes:
    """Return the event that patches the state."""
    return _encode({"type": "STATE_DELTA", "delta": operations})


def status_is(status: Status) -> Operation:
    """Return the operation that sets the status."""
    return {"op": "add", "path": "/status", "value": status}


def context_is(tokens: int) -> Operation:
    """Return the operation that sets how many tokens the model was last shown."""
    return {"op": "add", "path": "/context/used", "value": tokens}


class Memory:
    """What a follower of one stream knows of an agent's memory: each block as it was told.

    `trusting` says that it was sent the snapshot that is taken here; else it may know older versions.
    """

    def __init__(self, *, trusting: bool = True) -> None:
        self._trusting = trusting
        self._blocks: dict[str, tuple[str, JsonObject]] = {}  # label and what is shown, by block

    def take(self, state: JsonObject) -> None:
        """Take what a snapshot tells."""
        blocks: dict[str, Any] = state.get("memory", {}).get("blocks", {})
        self._blocks = {
            block["id"]: (label, block if self._trusting else {**block, "version": -1})
            for label, block in blocks.items()
        }

    def follow(self, event: MemoryEvent) -> list[Operation]:
        """Return the operations of an event; none where what is known is newer."""
        label, known = self._blocks.get(event.block_id, (event.label, {}))
        if isinstance(event, BlockDetached):
            self._blocks.pop(event.block_id, None)
            return _removed(label)
        if event.version < known.get("version", -1):
            return []
        shown: JsonObject = {
            **known,
            "id": event.block_id,
            "value": event.value,
            "limit": event.limit,
            "version": event.version,
        }
        self._blocks[event.block_id] = (event.label, shown)
        renamed = _removed(label) if label != event.label and not self._holds(label) else []
        return [*renamed, {"op": "add", "path": _path(event.label), "value": shown}]

    def _holds(self, label: str) -> bool:
        return any(held == label for held, _ in self._blocks.values())


def _removed(label: str) -> list[Operation]:
    """Return how a label is removed whether or not it is there: removing what is not there is an error."""
    path = _path(label)
    return [{"op": "add", "path": path, "value": {}}, {"op": "remove", "path": path}]


def _path(label: str) -> str:
    """Return the JSON pointer (RFC 6901) of a block."""
    return f"/memory/blocks/{label.replace('~', '~0').replace('/', '~1')}"
