"""What a model is offered in a step, and what becomes of the calls that it answers with."""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from actors import approvals, jsontext, loop, prompt, thoughts, toolrun
from actors.loop import Called, Policy, Turn
from actors.toolrun import Prepared
from actors.tools import results
from storage.records import JsonObject, Message, Tool, ToolCallPart, ToolReturnPart

if TYPE_CHECKING:
    from actors.answer import Answer
    from actors.commons import Commons, Toolbox

log = logging.getLogger("wakeful.turn")

HIDDEN = "[This is an automated system message hidden from the user] "
# How the results of calls begin that never reached their tool; what a tool says itself begins otherwise.
_NOT_RUN = re.compile(
    r"\[ToolConstraintError\]|Error: \S+ was not run,|interrupted: the run was stopped before this call ran|"
    + re.escape(approvals.DENIAL)
)


class Offer(Struct, frozen=True):
    """The tools of one model call, and whether it must answer with a call."""

    toolbox: "Toolbox"
    tool_choice: str = "auto"
    one_call: bool = False


def offer_of(commons: "Commons", policy: Policy, turn: Turn, toolbox: "Toolbox") -> Offer:
    """Return what the model is offered next: all of the toolbox where nothing binds the agent."""
    if not policy.binds:
        return Offer(toolbox)
    allowed = policy.rules.allowed(turn.ran, policy.attached)
    if len(allowed) < len(policy.attached):
        toolbox = commons.some(toolbox, allowed)
    forced = policy.memgpt or turn.reminders > 0 or policy.rules.forced(turn.ran, allowed)
    return Offer(toolbox, "required" if forced and allowed else "auto", one_call=True)


def splits(policy: Policy, tools: Mapping[str, Tool]) -> Callable[[str], bool] | None:
    """Return what says of a tool's name that thoughts are an argument of its calls; None where of none."""
    if not policy.memgpt:
        return None
    return lambda name: name not in tools or not thoughts.takes(tools[name], thoughts.THINKING)


def judge(policy: Policy, turn: Turn, answer: "Answer", tools: Mapping[str, Tool]) -> list[Prepared]:
    """Check calls against tools and rules; what may not run has its error result already.

    The arguments that rules set replace the model's in `answer`, so that the history says what was run.
    """
    if not policy.binds:
        return toolrun.prepare(answer.calls, tools)
    allowed = policy.rules.allowed(turn.ran, policy.attached)
    return [
        _let_through(call, turn, policy, answer=answer, tools=tools)
        if call.name in allowed
        else _refused(call, turn, policy, allowed=allowed, tools=tools)
        for call in answer.calls
    ]


def checked(policy: Policy, call: ToolCallPart, tools: Mapping[str, Tool]) -> Prepared:
    """Check a call that rules have let through, without the arguments that are not its tool's own."""
    (prepared,) = toolrun.prepare([own(policy, call, tools)], tools)
    return prepared


def own(policy: Policy, call: ToolCallPart, tools: Mapping[str, Tool]) -> ToolCallPart:
    """Return a call with the arguments of its tool alone: what a person or a client is asked about."""
    if not policy.memgpt or call.name not in tools:
        return call
    return replace(call, arguments=thoughts.without_arguments(call.arguments, tools[call.name]))


def _refused(
    call: ToolCallPart, turn: Turn, policy: Policy, *, allowed: Sequence[str], tools: Mapping[str, Tool]
) -> Prepared:
    result = results.unknown(call, allowed)
    if call.name in tools:
        hints = "".join(f" Rule: {hint}" for hint in policy.rules.hints(call.name, turn.ran))
        result = replace(result, text=f"{result.text}.{hints}")
    return Prepared(call=call, result=result, invalid=True)


def _let_through(
    call: ToolCallPart, turn: Turn, policy: Policy, *, answer: "Answer", tools: Mapping[str, Tool]
) -> Prepared:
    """Check a call that the rules allow, with the arguments that they set."""
    plain = checked(policy, call, tools)
    given = policy.rules.prefilled(call.name, turn.ran)
    if not given:
        return plain
    filled = checked(policy, replace(call, arguments=_filled(call.arguments, given)), tools)
    if filled.invalid and not plain.invalid:
        # Nothing that the model can mend: a rule must not make its own tool impossible.
        log.warning("arguments of a tool rule do not fit the tool", extra={"tool": call.name})
        return plain
    answer.amend(call.id, _filled(call.arguments, given))
    return filled


def _filled(arguments: str, given: JsonObject) -> str:
    found = jsontext.members(arguments if arguments.strip() else "{}")
    if found is None:
        return arguments
    kept = [one for one in found if one[0] not in given]
    return jsontext.joined([*kept, *(jsontext.member(name, value) for name, value in given.items())])


# --- after the calls ----------------------------------------------------------------------------


def called(calls: Sequence[ToolCallPart], returns: Sequence[ToolReturnPart]) -> list[Called]:
    """Return calls with their results, as the loop looks at them."""
    asked = {call.id: call.arguments for call in calls}
    return [
        Called(
            name=result.name,
            output=result.text,
            ran=result.status == "success" or _NOT_RUN.match(result.text) is None,
            denied=result.status == "error" and result.text.startswith(approvals.DENIAL),
            failed=result.status == "error",
            wants_more=thoughts.wants_heartbeat(asked.get(result.tool_call_id, "")),
        )
        for result in returns
    ]


def recovered(turn: Turn, policy: Policy, messages: Sequence[Message]) -> Turn:
    """Return the turn with what its rules look at, as its committed messages tell it after a crash."""
    replayed = replace(turn, max_steps=len(messages) + 1)
    asked: tuple[ToolCallPart, ...] = ()
    for message in messages:
        if message.step_id is None or message.excluded:
            continue
        if message.role in ("assistant", "approval"):
            calls = tuple(part for part in message.content if isinstance(part, ToolCallPart))
            asked += calls
            if message.role == "assistant" and not calls and not _asks(messages, message.step_id):
                replayed, _ = loop.after_answer(replace(replayed, answered=True), policy)
        elif message.role == "tool":
            returns = [part for part in message.content if isinstance(part, ToolReturnPart)]
            replayed, _ = loop.after_calls(replayed, called(asked, returns), policy)
            asked = ()
    return replace(turn, ran=replayed.ran, reminders=replayed.reminders, invalid_calls=replayed.invalid_calls)


def _asks(messages: Sequence[Message], step_id: str) -> bool:
    """Say whether the step asked for approvals: what its model said besides was no answer."""
    return any(m.role == "approval" and m.step_id == step_id for m in messages)


def asked_by(messages: Sequence[Message], run_id: str) -> str | None:
    """Return the run whose request this one answered, as far as these messages tell."""
    answered = {m.step_id for m in messages if m.run_id == run_id and m.role == "tool"}
    return next(
        (m.run_id for m in messages if m.role == "approval" and m.step_id in answered and m.run_id != run_id),
        None,
    )


def heartbeat(reason: str, *, at: datetime, timezone: str) -> str:
    """Return the text of a message by which the system gives the model another turn."""
    fields = {"type": "heartbeat", "reason": HIDDEN + reason, "time": local(at, timezone)}
    return msgspec.json.encode(fields).decode()


def local(at: datetime, timezone: str) -> str:
    """Return an instant as agents are told it."""
    return at.astimezone(prompt.zone(timezone)).strftime(prompt.TIME_FORMAT)
