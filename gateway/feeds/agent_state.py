"""An agent's state as one document: memory, what fills its window, status and queue. Pure."""

from collections.abc import Iterable
from typing import Any

from actors.breakdown import Breakdown
from actors.status import Status
from gateway.feeds.json_patch import Operation
from gateway.letta.context import ContextWindowOverview
from storage.records import Block

Document = dict[str, Any]

MEMORY = "memory"


def document(
    blocks: Iterable[Block], breakdown: Breakdown | None, *, window: int | None, status: Status, queue: int
) -> Document:
    """Return the state. What nobody knows is absent.

    `{"memory": {"blocks": {label: {id, value, limit, version, description?, read_only}}},
    "context": {"window"?, "used"?, "tokens"?: {part: count}}, "status": …, "queue": …}`
    """
    context: Document = {}
    if window:
        context["window"] = window
    if breakdown is not None:
        context["used"] = breakdown.used
        context["tokens"] = {name: getattr(breakdown, name) for name in breakdown.__struct_fields__}
    return {
        MEMORY: {"blocks": {block.label: _block(block) for block in blocks}},
        "context": context,
        "status": status,
        "queue": queue,
    }


def _block(block: Block) -> Document:
    shown: Document = {
        "id": block.id,
        "value": block.value,
        "limit": block.limit_chars,
        "version": block.version,
        "read_only": block.read_only,
    }
    if block.description is not None:
        shown["description"] = block.description
    return shown


def breakdown_of(overview: ContextWindowOverview) -> Breakdown:
    """Return the counts of a window that was measured."""
    return Breakdown(
        system=overview.num_tokens_system,
        core_memory=overview.num_tokens_core_memory,
        tool_usage_rules=overview.num_tokens_tool_usage_rules,
        directories=overview.num_tokens_directories,
        external_memory_summary=overview.num_tokens_external_memory_summary,
        summary_memory=overview.num_tokens_summary_memory,
        functions_definitions=overview.num_tokens_functions_definitions,
        messages=overview.num_tokens_messages,
    )


def block_ids(state: Document) -> frozenset[str]:
    """Return the ids of the blocks that a state shows."""
    return frozenset(block["id"] for block in state[MEMORY]["blocks"].values())


def without_memory(state: Document) -> Document:
    """Return what those may see who may not see an agent's thoughts."""
    return {name: value for name, value in state.items() if name != MEMORY}


def patch_without_memory(patch: Iterable[Operation]) -> list[Operation]:
    """Return the part of a patch that applies to a state without memory."""
    return [operation for operation in patch if not operation["path"].startswith(f"/{MEMORY}/")]
