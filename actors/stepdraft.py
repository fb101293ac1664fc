"""What a step changes: drafted before its commit, taken into hot state and told after it."""

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from msgspec.structs import replace

from actors import clock, loop, measuring, offers, prompt, telling
from actors.answer import Answer
from actors.draft import Draft, Prompt
from actors.entries import tokens_of
from actors.events import (
    ApprovalAnswered,
    ApprovalRequested,
    MessageCommitted,
    RunSteered,
)
from actors.loop import CallModel, Finish, Turn
from actors.memory_edits import Birth
from actors.openstep import OpenStep
from actors.thread import compile_for, text_parts
from actors.toolrun import Prepared
from storage.checkpoints import InboxUpdate, MessageRewrite, RunUpdate
from storage.pending_records import PendingCall, PendingRequest
from storage.records import (
    Agent,
    Block,
    Message,
    Part,
    Role,
    RunStatus,
    StepStatus,
    StopReason,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    Usage,
)

if TYPE_CHECKING:
    from actors.turn import TurnRunner


def status_of(stop_reason: StopReason) -> RunStatus:
    """Return the status of a run that ended for this reason."""
    match stop_reason:
        case "end_turn" | "max_steps" | "tool_rule" | "requires_approval":
            return "completed"
        case "cancelled":
            return "cancelled"
        case _:
            return "failed"


def draft_of(
    runner: "TurnRunner",
    answer: Answer | None,
    prepared: list[Prepared],
    status: StepStatus,
    *,
    refused: frozenset[str] = frozenset(),
) -> Draft:
    """Return what this step changes, against the blocks as they are committed now. Pure but for ids.

    `refused` are labels that no block of this step may get, because the database refused them twice.
    """
    thread, draft = runner.thread, new_draft(runner, refused)
    results = [draft.settle(call) for call in prepared]
    # A queued command that was cancelled meanwhile may have taken the place these had at first.
    draft.messages += [replace(m, position=thread.end_position + i) for i, m in enumerate(runner.inputs)]
    position = thread.end_position + len(runner.inputs)
    if answer is not None and not runner.said:
        position = say(runner, draft, answer, position)
        if runner.turn.asked:
            draft.opened = OpenStep(tuple(m for m in draft.messages if m.step_id is not None))
            draft.asked = _request(runner, answer, draft.opened)
    if results:
        add(runner, draft, "tool", tuple(results), position, clock.new_id("message"))
        position += 1
    conclude(runner, draft, answer, prepared, position, status)
    return draft


def new_draft(runner: "TurnRunner", refused: frozenset[str]) -> Draft:
    """Return an empty draft on the blocks as they are committed now."""
    agent = runner.actor.agent
    return Draft(runner.actor.blocks, Birth(partial(new_block, agent), refused))


def say(runner: "TurnRunner", draft: Draft, answer: Answer, position: int) -> int:
    """Add the model's message; calls that wait for somebody go into one of their own. Return what follows."""
    asked = {call.id for call in answer.asked}
    parts = answer.parts()
    own = tuple(p for p in parts if not isinstance(p, ToolCallPart) or p.id not in asked)
    waiting = tuple(p for p in parts if isinstance(p, ToolCallPart) and p.id in asked)
    ended = runner.turn.ended is not None
    if own:
        add(runner, draft, "assistant", own, position, answer.message_id, ended=ended)
        position += 1
    if waiting:
        add(runner, draft, "approval", waiting, position, answer.request_id, ended=ended)
        position += 1
    return position


def conclude(
    runner: "TurnRunner",
    draft: Draft,
    answer: Answer | None,
    prepared: list[Prepared],
    position: int,
    status: StepStatus,
) -> None:
    """Let steering join from `position` on, decide whether the turn goes on, and account for it."""
    thread, turn = runner.thread, runner.turn
    if runner.policy.binds:
        turn, reason = _bound(runner, draft, turn)
        if reason is not None:
            text = offers.heartbeat(reason, at=clock.now(), timezone=runner.actor.agent.settings.timezone)
            add(runner, draft, "user", (TextPart(text),), position, clock.new_id("message"))
            position += 1
    elif turn.calls:
        turn = loop.after_tools(turn, invalid=sum(p.invalid for p in prepared))
    if turn.ended is None and not turn.asked:
        for waiting in filter(runner.takes, thread.steering):
            draft.joined.append(waiting)
            fresh = runner.inputs_of(waiting, position)
            draft.messages += fresh
            position += len(fresh)
            turn = loop.after_input(turn)
    draft.answered = thread.pending if runner.decisions else None
    draft.turn = turn
    action = loop.next_action(turn)
    draft.stop_reason = action.stop_reason if isinstance(action, Finish) else None
    draft.rewrites += runner.rewrites
    if draft.stop_reason is not None:
        _recompile(runner, draft)
    account(runner, draft, answer, status)


def _recompile(runner: "TurnRunner", draft: Draft) -> None:
    """Store the prompt as later turns will show it, where memory changed. This turn keeps the one it has."""
    actor, thread = runner.actor, runner.thread
    if thread.compiled_for == actor.memory_version and not draft.edits_memory:
        return
    blocks, numbered = list(draft.blocks.values()), actor.line_numbers()
    archival = actor.holdings.passages + len(draft.passages)
    if prompt.same_memory(thread.system_text, actor.agent, blocks, line_numbers=numbered, archival=archival):
        return
    text = compile_for(actor.agent, blocks, thread, at=clock.now(), line_numbers=numbered, archival=archival)
    tokens = actor.commons.counter.count(text)
    draft.prompt = Prompt(text, tokens, actor.memory_version)
    # One row is written once: the prompt that this turn began with may not be stored yet.
    draft.rewrites = [r for r in draft.rewrites if r.id != thread.system_id]
    draft.rewrites.append(MessageRewrite(id=thread.system_id, content=text_parts(text), tokens=tokens))


def _take_prompt(runner: "TurnRunner", compiled: Prompt, *, heard: bool) -> None:
    """Show the next turn the prompt that was stored; it is looked at again if memory changed meanwhile."""
    actor, thread = runner.actor, runner.thread
    thread.set_system(thread.system_id, compiled.text, compiled.tokens)
    thread.compiled_for = -1 if heard else actor.memory_version


def _request(runner: "TurnRunner", answer: Answer, opened: OpenStep) -> PendingRequest:
    """Return what the conversation waits for once this step is committed."""
    assert opened.step_id is not None
    asked = {call.id for call in answer.asked}
    now = clock.now()
    return PendingRequest(
        conversation_id=runner.thread.id,
        agent_id=runner.actor.agent.id,
        organization_id=runner.actor.agent.organization_id,
        run_id=runner.run_id,
        step_id=opened.step_id,
        message_id=answer.request_id,
        position=opened.position,
        calls=tuple(
            PendingCall(
                id=call.id,
                name=call.name,
                arguments=call.arguments,
                kind=answer.gate.kind(call.name) or "approval",
            )
            for call in answer.asked
        ),
        parked=tuple(call.id for call in answer.calls if call.id not in asked),
        client_tools=runner.client_tools,
        created_at=now,
        expires_at=now + timedelta(seconds=runner.actor.commons.settings.approval_seconds),
    )


def _bound(runner: "TurnRunner", draft: Draft, turn: Turn) -> tuple[Turn, str | None]:
    """Return the turn of an agent with rules after its step, and why the model gets another turn."""
    policy, reason = runner.policy, None
    if turn.calls:
        tools = (m for m in draft.messages if m.role == "tool" and m.step_id is not None)
        returns = [part for m in tools for part in m.content if isinstance(part, ToolReturnPart)]
        turn, reason = loop.after_calls(turn, offers.called(turn.calls, returns), policy)
    elif turn.answered:
        turn, reason = loop.after_answer(turn, policy)
    return turn, reason if isinstance(loop.next_action(turn), CallModel) else None


def new_block(agent: Agent, label: str) -> Block:
    """Return an empty block that the agent is about to create."""
    now = clock.now()
    return Block(
        id=clock.new_id("block"),
        organization_id=agent.organization_id,
        label=label,
        value="",
        created_at=now,
        updated_at=now,
    )


def add(
    runner: "TurnRunner",
    draft: Draft,
    role: Role,
    parts: tuple[Part, ...],
    position: int,
    message_id: str,
    *,
    ended: bool = False,
) -> None:
    """Add a message of the runner's step; its id stays the same however often the step is drafted."""
    agent = runner.actor.agent
    assert runner.step is not None
    spoken = role in ("assistant", "approval")
    draft.messages.append(
        Message(
            id=message_id,
            organization_id=agent.organization_id,
            agent_id=agent.id,
            conversation_id=runner.thread.id,
            position=position,
            role=role,
            content=parts,
            created_at=runner.step.created_at if spoken else clock.now(),
            run_id=runner.run_id,
            step_id=runner.step.id,
            tokens=tokens_of(parts, runner.actor.commons.counter.count),
            interrupted=ended,
        )
    )


def account(runner: "TurnRunner", draft: Draft, answer: Answer | None, status: StepStatus) -> None:
    """Add usage, the step's row, and where its runs and commands stand.

    What an earlier commit of the same step counted already is not counted again.
    """
    usage = runner.usage
    if answer is not None and runner.step is not None:
        reported = runner.reported or answer.usage or _estimate(runner, draft)
        if runner.reported is None:
            usage = usage + replace(reported, steps=1, context=reported.prompt)
        draft.steps.append(
            replace(runner.step, status=status, usage=reported, stop_reason=draft.stop_reason or "end_turn")
        )
    draft.usage = usage
    runs = [runner.waiting, *runner.joined, *draft.joined]
    if draft.stop_reason is None:
        draft.runs += [
            RunUpdate(id=w.run_id, status="running", usage=usage, ttft_ns=runner.ttft_ns) for w in runs
        ]
        draft.inbox += [InboxUpdate(seq=w.seq, state="applied") for w in runs]
        return
    now = clock.now()
    spent = int((clock.monotonic() - runner.waiting.since) * 1e9)
    draft.runs += [
        RunUpdate(
            id=w.run_id,
            status=status_of(draft.stop_reason),
            usage=usage,
            stop_reason=draft.stop_reason,
            error=runner.error,
            completed_at=now,
            ttft_ns=runner.ttft_ns,
            total_duration_ns=spent,
        )
        for w in runs
    ]
    draft.inbox += [InboxUpdate(seq=w.seq, state="done") for w in runs]
    draft.duration_ms = spent // 1_000_000


def _estimate(runner: "TurnRunner", draft: Draft) -> Usage:
    """Return our own count where the provider reported none."""
    prompt = runner.thread.system_tokens + runner.offer.toolbox.tokens + runner.thread.tokens
    prompt += sum(m.tokens for m in runner.inputs)
    completion = sum(m.tokens for m in draft.messages if m.role == "assistant" and m.step_id is not None)
    return Usage(prompt=prompt, completion=completion, total=prompt + completion, estimated=True)


def apply(runner: "TurnRunner", draft: Draft, commit_ns: int) -> None:
    """Take the committed step into hot state and publish it. No await: nobody sees half of it."""
    thread, actor = runner.thread, runner.actor
    thread.open = draft.opened or thread.open
    if draft.asked is not None or draft.answered is not None:
        actor.awaits(thread, draft.asked)
    if runner.answer is not None and runner.answer.usage is not None and runner.step is not None:
        ours = thread.system_tokens + runner.offer.toolbox.tokens + thread.tokens
        ours += sum(m.tokens for m in runner.inputs)
        actor.learn(runner.answer.usage.prompt, ours=ours, model=runner.model)
    thread.append(draft.messages)
    for waiting in draft.joined:
        thread.steering.remove(waiting)
        thread.announced.discard(waiting.run_id)
        runner.joined.append(waiting)
    heard = draft.prompt is not None and draft.prompt.memory_version != actor.memory_version
    actor.take_memory(draft, run_id=runner.run_id, but=runner.channel)
    if draft.prompt is not None:
        _take_prompt(runner, draft.prompt, heard=heard)
    sent = {m.id for m in runner.inputs}
    runner.unproven = [*runner.said, *(m for m in draft.messages if m.id not in sent)]
    runner.inputs, runner.rewrites, runner.said, runner.reported = [], [], [], None
    runner.turn, runner.usage = draft.turn, draft.usage
    actor.counted.discard_all({w.seq for w in (runner.waiting, *runner.joined)})
    events = telling.committed(runner, draft)
    events += draft.events(runner.run_id)
    if (asked := draft.asked) is not None:
        events.append(
            ApprovalRequested(runner.run_id, asked.message_id, asked.step_id, asked.calls, asked.expires_at)
        )
    if (answered := draft.answered) is not None:
        events.append(ApprovalAnswered(runner.run_id, answered.message_id, runner.decisions))
    for step in draft.steps:
        events += telling.durable(runner, step, commit_ns)
    for waiting in draft.joined:
        events.append(RunSteered(waiting.run_id, runner.run_id, waiting.command.messages))
        events += [MessageCommitted(runner.run_id, m) for m in draft.messages if m.run_id == waiting.run_id]
    if draft.prompt is not None:
        events.append(measuring.measured(actor, thread, run_id=runner.run_id))
    if draft.stop_reason is not None:
        runner.finished = True
        status = status_of(draft.stop_reason)
        events += telling.ending(telling.finished(runner, status, draft.stop_reason))
        for waiting in (runner.waiting, *runner.joined):
            actor.commons.load.finish(waiting.run_id)
            actor.commons.finished_run(waiting, status)
    runner.answer = None
    runner.step = None
    runner.channel.publish(*events)
