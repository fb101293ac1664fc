"""Chooses an agent's next action. Pure: no clock, no network, no database."""

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from actors.rules import NONE, Ran, Rules
from storage.records import StopReason, ToolCallPart

MAX_INVALID_CALLS = 3  # consecutive calls a model may get wrong before its run ends
MAX_REMINDERS = 3  # consecutive times a model is told that its turn may not end yet

NOTHING_RAN = Ran()


class Turn(Struct, frozen=True, kw_only=True):
    """Where a turn stands: `calls` wait to be run, `answered` says the model asked for none.

    `leaving` is why the turn would end now, unless new input joins it. `ran` is what tool rules look at;
    `reminders` counts how often in a row the model was told that its turn may not end yet.
    `asked` says that calls wait for somebody outside: the turn ends, another one brings their answer.
    """

    max_steps: int
    steps_taken: int = 0
    calls: tuple[ToolCallPart, ...] = ()
    answered: bool = False
    truncated: bool = False
    invalid_calls: int = 0
    ended: StopReason | None = None
    leaving: StopReason | None = None
    ran: Ran = NOTHING_RAN
    reminders: int = 0
    asked: bool = False


class Policy(Struct, frozen=True, kw_only=True):
    """What binds the turns of an agent: its tool rules, the tools it holds, whether it speaks by calls."""

    rules: Rules = NONE
    attached: tuple[str, ...] = ()
    memgpt: bool = False

    @property
    def binds(self) -> bool:
        """Whether turns are any different from those of an agent without rules."""
        return self.memgpt or self.rules.single


class Called(Struct, frozen=True, gc=False):
    """A call with its result. `ran` says that rules and arguments let it, and whoever was asked; `denied`
    that a person did not; `wants_more` that it asked for another turn.
    """

    name: str
    output: str
    ran: bool
    failed: bool = False
    denied: bool = False
    wants_more: bool = False


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
    if turn.asked:
        return Finish("requires_approval")
    if turn.calls:
        return RunTools(turn.calls)
    if turn.leaving is not None:
        return Finish(turn.leaving)
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


def park(turn: Turn) -> Turn:
    """Return the turn with calls that wait for somebody outside: none of the message's calls runs now."""
    return replace(turn, calls=(), asked=True)


def reopen(turn: Turn, calls: tuple[ToolCallPart, ...]) -> Turn:
    """Return the turn with the calls of an earlier step that run now; no model was asked for them again."""
    return replace(turn, calls=calls, answered=False)


def after_tools(turn: Turn, *, invalid: int) -> Turn:
    """Return the turn after its calls have results; `invalid` of them were no valid call.

    One valid call in a message shows that the model can still call tools, and resets the count.
    """
    all_invalid = invalid == len(turn.calls) and invalid > 0
    return replace(turn, calls=(), invalid_calls=turn.invalid_calls + invalid if all_invalid else 0)


def after_input(turn: Turn) -> Turn:
    """Return the turn after new input joined it: an answer no longer ends it."""
    return replace(turn, answered=False, truncated=False, leaving=None, reminders=0)


def end(turn: Turn, stop_reason: StopReason) -> Turn:
    """Return the turn ended from outside: cancelled, or failed."""
    return replace(turn, calls=(), ended=stop_reason)


# --- turns that tool rules or an agent's type bind ------------------------------------------------


def after_calls(turn: Turn, called: Sequence[Called], policy: Policy) -> tuple[Turn, str | None]:
    """Return the turn after its calls have results, and why it goes on, where the model must be told."""
    done = [call for call in called if call.ran]
    ran = turn.ran
    denied = any(call.denied for call in called)
    for call in called:
        if call.ran:
            ran = ran.after(call.name, call.output)
        elif call.denied:
            ran = ran.refused(call.name)
    invalid = turn.invalid_calls + len(called) if called and not done and not denied else 0
    turn = replace(turn, calls=(), ran=ran, invalid_calls=invalid)
    if denied and not done:
        return replace(
            turn, reminders=0
        ), "Your call was denied; its result says why." if policy.memgpt else None
    if not done:
        return turn, "Your call was not run; its result says why. Call again." if policy.memgpt else None
    leaving, reason = _verdict(done, policy)
    if leaving is None:
        return replace(turn, reminders=0), reason
    if missing := policy.rules.missing(ran, policy.attached):
        return _remind(turn, _missing(missing))
    return replace(turn, leaving=leaving), None


def _verdict(done: Sequence[Called], policy: Policy) -> tuple[StopReason | None, str | None]:
    """Return why the turn would end after these calls, or else what the model is told."""
    rules = policy.rules
    if any(call.name in rules.exits for call in done):
        return "tool_rule", None
    if not policy.memgpt:
        return None, None
    if any(call.wants_more for call in done):
        return None, "You asked for another turn with request_heartbeat."
    if any(call.failed for call in done):
        return None, "Your call failed; its result says why."
    if any(rules.leads_on(call.name) for call in done):
        return None, "A tool rule lets your turn go on after this call."
    return "end_turn", None


def after_answer(turn: Turn, policy: Policy) -> tuple[Turn, str | None]:
    """Return the turn after an answer without calls, and what the model is told where it may not end."""
    if turn.truncated:
        return turn, None
    if missing := policy.rules.missing(turn.ran, policy.attached):
        return _remind(turn, _missing(missing))
    if policy.memgpt and policy.rules.allowed(turn.ran, policy.attached):
        return _remind(
            turn,
            "You called no tool, and text outside of a call reaches nobody. "
            "Call a tool: send_message is the one that people read.",
        )
    return turn, None


def _missing(names: Sequence[str]) -> str:
    return f"Your turn may not end before you have called: {', '.join(names)}."


def _remind(turn: Turn, reason: str) -> tuple[Turn, str | None]:
    if turn.reminders >= MAX_REMINDERS:
        return replace(turn, leaving="no_tool_call"), None
    return replace(turn, answered=False, reminders=turn.reminders + 1), reason
