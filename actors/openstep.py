"""A step whose calls have no results yet: what it said, and what becomes of its calls. Pure.

A step stays open while somebody outside has to answer, and while a tool with outside effects runs. Its
messages are stored, but models see them only together with the results, so no window splits the two.
"""

from collections.abc import Collection, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from actors import approvals, offers
from actors.commands import Decision
from actors.loop import Policy
from actors.toolrun import Prepared
from storage.records import ApprovalPart, Message, Tool, ToolCall, ToolCallPart, ToolReturnPart


class OpenStep(Struct, frozen=True):
    """The messages of one step that make calls: the model's own, and the one that asks for some of them."""

    messages: tuple[Message, ...]

    @property
    def step_id(self) -> str | None:
        """The step, under which the results will be stored as well."""
        return self.messages[0].step_id

    @property
    def position(self) -> int:
        """Where the step begins. No window may begin behind it."""
        return self.messages[0].position

    @property
    def calls(self) -> tuple[ToolCallPart, ...]:
        """The calls without results."""
        return tuple(p for m in self.messages for p in m.content if isinstance(p, ToolCallPart))

    def holds(self, message: Message) -> bool:
        """Say whether this is one of the step's messages."""
        return any(m.id == message.id for m in self.messages)

    def ended_by(self, message: Message) -> bool:
        """Say whether this message holds the step's results."""
        return message.role == "tool" and message.step_id == self.step_id


def find(messages: Sequence[Message], step_ids: Collection[str]) -> OpenStep | None:
    """Return the last of these steps that has messages here and no results, if there is one."""
    answered = {m.step_id for m in messages if m.role == "tool"}
    wanted = {step_id for step_id in step_ids if step_id not in answered}
    callers = [m for m in messages if m.step_id in wanted and m.role in ("assistant", "approval")]
    if not callers:
        return None
    return OpenStep(tuple(m for m in callers if m.step_id == callers[-1].step_id))


def prepare(
    opened: OpenStep,
    decisions: Sequence[Decision],
    tools: Mapping[str, Tool],
    *,
    policy: Policy,
    intended: Collection[str] = (),
) -> list[Prepared]:
    """Return what becomes of each call, in the order of the messages.

    A call that an earlier life meant to run, and whose tool has outside effects, may have run: whatever
    was decided, its result says that nobody knows, unless the tool may be run twice.
    """
    decided = {d.tool_call_id: d for d in decisions}
    return [
        _prepare(call, decided.get(call.id), tools, policy=policy, intended=intended) for call in opened.calls
    ]


def _prepare(
    call: ToolCallPart,
    decision: Decision | None,
    tools: Mapping[str, Tool],
    *,
    policy: Policy,
    intended: Collection[str],
) -> Prepared:
    if isinstance(decision, ApprovalPart) and decision.arguments is not None:
        call = replace(call, arguments=decision.arguments)
    if call.id in intended:
        prepared = offers.checked(policy, call, tools)
        again = prepared.spec is not None and prepared.spec.idempotent
        return prepared if again and not _refused(decision) else prepared.begun().stopped("")
    if isinstance(decision, ToolReturnPart):
        return Prepared(call=call, result=decision)
    if _refused(decision):
        assert isinstance(decision, ApprovalPart)
        return Prepared(call=call, result=approvals.denied(call, decision.reason))
    return offers.checked(policy, call, tools)


def _refused(decision: Decision | None) -> bool:
    return isinstance(decision, ApprovalPart) and not decision.approve


def records(
    prepared: Sequence[Prepared], *, agent_id: str, step_id: str, intended: Collection[str]
) -> list[ToolCall]:
    """Return the rows that say how intended calls ended."""
    return [
        ToolCall(agent_id=agent_id, step_id=step_id, call_id=p.call.id, name=p.call.name, state=p.outcome)
        for p in prepared
        if p.call.id in intended
    ]
