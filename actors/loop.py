"""Chooses an agent's next action. Pure: no clock, no network, no database."""

from msgspec import Struct
from msgspec.structs import replace

from storage.records import StopReason, ToolCallPart

MAX_INVALID_CALLS = 3  # consecutive calls a model may get wrong before its run ends


class Turn(Struct, frozen=True, kw_only=True):
    """Where a turn stands: `calls` wait to be run, `answered` says the model asked for none."""

    max_steps: int
    steps_taken: int = 0
    calls: tuple[ToolCallPart, ...] = ()
    answered: bool = False
    truncated: bool = False
    invalid_calls: int = 0
    ended: StopReason | None = None


class CallModel(Struct, frozen=True):
    """Ask the model for the next message."""


class RunTools(Struct, frozen=True):
    """Run these calls, all of one message."""

    calls: tuple[ToolCallPart, ...]


class Finish(Struct, frozen=True):
    """End the turn."""

    stop_reason: StopReason


Action = CallModel | RunTools | Finish


def next_action(turn: Turn) -> Action:
    """Choose the next action. Order matters: an end beats calls, open calls beat every limit."""
    if turn.ended is not None:
        return Finish(turn.ended)
    if turn.calls:
        return RunTools(turn.calls)
    if turn.answered:
        return Finish("max_tokens_exceeded" if turn.truncated else "end_turn")
    if turn.invalid_calls >= MAX_INVALID_CALLS:
        return Finish("invalid_tool_call")
    if turn.steps_taken >= turn.max_steps:
        return Finish("max_steps")
    return CallModel()


def after_model(turn: Turn, calls: tuple[ToolCallPart, ...], *, truncated: bool = False) -> Turn:
    """Return the turn after a model's message: its calls wait, or it answered."""
    return replace(
        turn, steps_taken=turn.steps_taken + 1, calls=calls, answered=not calls, truncated=truncated
    )


def after_tools(turn: Turn, *, invalid: int) -> Turn:
    """Return the turn after its calls have results; `invalid` of them were no valid call.

    One valid call in a message shows that the model can still call tools, and resets the count.
    """
    all_invalid = invalid == len(turn.calls) and invalid > 0
    return replace(turn, calls=(), invalid_calls=turn.invalid_calls + invalid if all_invalid else 0)


def after_input(turn: Turn) -> Turn:
    """Return the turn after new input joined it: an answer no longer ends it."""
    return replace(turn, answered=False, truncated=False)


def end(turn: Turn, stop_reason: StopReason) -> Turn:
    """Return the turn ended from outside: cancelled, or failed."""
    return replace(turn, calls=(), ended=stop_reason)
