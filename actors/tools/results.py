"""What the model reads after a call: exactly one result for each call, whatever happened."""

from collections.abc import Iterable

from actors.errors import ActorError
from actors.memory import storable
from actors.tools.registry import ToolSpec
from storage.records import ToolCallPart, ToolReturnPart

ERROR_LIMIT_CHARS = 1_000
_NAME_CHARS = 64  # the longest name that providers allow; a longer one was made up by the model


class ToolError(ActorError):
    """A tool could not do what its arguments ask; the text goes to the model and names the remedy."""


def succeeded(call: ToolCallPart, text: str, *, spec: ToolSpec) -> ToolReturnPart:
    """Return the result of a call that worked, cut at the tool's limit unless it bounds itself."""
    text = storable(text)
    limit = spec.return_char_limit
    if spec.cut_result and len(text) > limit:
        note = f"... [NOTE: function output was truncated: {len(text)} characters, limit {limit}]"
        text = text[:limit] + note
    return _result(call, text, ok=True)


def failed(call: ToolCallPart, error: ActorError) -> ToolReturnPart:
    """Return the result of a call that its tool refused, in the form Letta's clients know."""
    return _result(call, f"Error executing function {_name(call)}: ValueError: {error}")


def invalid(call: ToolCallPart, text: str) -> ToolReturnPart:
    """Return the result of a call whose arguments `arguments.parse` refused with `text`."""
    return _result(call, text)


def unknown(call: ToolCallPart, valid: Iterable[str]) -> ToolReturnPart:
    """Return the result of a call of a tool that the agent does not hold."""
    names = sorted(valid)
    return _result(call, f"[ToolConstraintError] Cannot call {_name(call)}, valid tools include: {names}")


def _result(call: ToolCallPart, text: str, *, ok: bool = False) -> ToolReturnPart:
    if not ok:
        text = storable(text)[:ERROR_LIMIT_CHARS]
    return ToolReturnPart(call.id, call.name, "success" if ok else "error", text)


def _name(call: ToolCallPart) -> str:
    return call.name if len(call.name) <= _NAME_CHARS else f"{call.name[:_NAME_CHARS]}…"
