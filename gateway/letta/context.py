"""Shows what fills a model's window, as Letta's clients expect it. Pure."""

from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct

from actors import summary
from actors.prompt import parts_of
from gateway.letta.internal import InternalMessage, internal
from storage.records import Conversation, JsonObject, Message, TextPart

Count = Callable[[str], int]


class ContextWindowOverview(Struct, frozen=True, kw_only=True):
    """What models see of a conversation, and how many tokens each part of it takes."""

    context_window_size_max: int
    context_window_size_current: int
    num_messages: int
    num_archival_memory: int
    num_recall_memory: int
    num_tokens_external_memory_summary: int
    external_memory_summary: str
    num_tokens_system: int
    system_prompt: str
    num_tokens_core_memory: int
    core_memory: str
    num_tokens_memory_filesystem: int = 0
    memory_filesystem: str | None = None
    num_tokens_tool_usage_rules: int = 0
    tool_usage_rules: str | None = None
    num_tokens_directories: int = 0
    directories: str | None = None
    num_tokens_summary_memory: int
    summary_memory: str | None
    num_tokens_functions_definitions: int
    functions_definitions: tuple[JsonObject, ...]
    num_tokens_messages: int
    messages: tuple[InternalMessage, ...]


def overview(
    window: Sequence[Message],
    *,
    conversation: Conversation,
    window_tokens: int,
    functions: tuple[JsonObject, ...],
    functions_tokens: int,
    archival: int,
    count: Count,
) -> ContextWindowOverview:
    """Return what fills a window: the system message first, then its summary if it has one, then the rest.

    The parts of the system message are cut out of its text, so the counts are of what is really sent.
    """
    system, *rest = window
    shown = [m for m in rest if not m.excluded]
    held = next((m for m in shown if m.role == "summary"), None)
    said = [m for m in shown if m.role != "summary"]
    text, memory, rules, directories, facts = parts_of(_text(system))
    tokens: dict[str, Any] = {
        "num_tokens_system": count(text),
        "num_tokens_core_memory": count(memory),
        "num_tokens_tool_usage_rules": count(rules),
        "num_tokens_directories": count(directories),
        "num_tokens_external_memory_summary": count(facts),
        "num_tokens_summary_memory": 0 if held is None else held.tokens,
        "num_tokens_functions_definitions": functions_tokens,
        "num_tokens_messages": sum(m.tokens for m in said),
    }
    return ContextWindowOverview(
        **tokens,
        context_window_size_max=window_tokens,
        context_window_size_current=sum(tokens.values()),
        num_messages=1 + len(shown),
        num_archival_memory=archival,
        num_recall_memory=conversation.end_position - 1,
        external_memory_summary=facts,
        system_prompt=text,
        core_memory=memory,
        tool_usage_rules=rules or None,
        directories=directories or None,
        summary_memory=None if held is None else summary.unpack(_text(held))[0],
        functions_definitions=functions,
        messages=tuple(internal(m) for m in (system, *shown)),
    )


def _text(message: Message) -> str:
    return "".join(part.text for part in message.content if isinstance(part, TextPart))
