"""Runs one turn of a conversation: take a command, call the model, run tools, commit, tell."""

import logging
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import anyio
from msgspec.structs import replace

from actors import (
    acting,
    answering,
    approvals,
    clock,
    edits,
    entries,
    loop,
    measuring,
    offers,
    opendraft,
    queueing,
    recompiling,
    shortening,
    skills,
    stepcommit,
    telling,
    toolrun,
)
from actors.answer import Answer
from actors.answering import STOPPED
from actors.approvals import Gate
from actors.commands import Decision, PartForks
from actors.commons import Toolbox
from actors.draft import Draft
from actors.errors import ModelError, UnknownModelError
from actors.events import (
    Event,
    MessageCommitted,
    RunStarted,
)
from actors.llm import openai_chat
from actors.llm.model import Model
from actors.loop import CallModel, Finish, Policy, Turn
from actors.mailbox import Waiting
from actors.modelcall import ModelCall
from actors.offers import Offer
from actors.status import Pulse
from actors.stepdraft import apply, draft_of
from actors.stopwatch import Stopwatch
from actors.thread import Thread
from storage.checkpoints import MessageRewrite
from storage.pending_records import ClientTool
from storage.records import (
    Message,
    RunError,
    Step,
    StepStatus,
    Usage,
)

if TYPE_CHECKING:
    from actors.agent import Actor

log = logging.getLogger("wakeful.turn")


class TurnRunner:
    """One turn. `cancel` may be called at any moment; everything else belongs to its own task."""

    def __init__(self, actor: "Actor", thread: Thread, waiting: Waiting) -> None:
        self.actor = actor
        self.thread = thread
        self.channel = actor.commons.logs.channel(thread.id, actor.agent.id)
        self.waiting = waiting
        self.run_id = waiting.run_id
        self.head = actor.population.heads.take(waiting)  # of the first call, which may be under way
        self.joined: list[Waiting] = []
        self.turn = Turn(max_steps=waiting.command.max_steps, steps_taken=waiting.usage.steps)
        self.usage = waiting.usage
        self.error: RunError | None = None
        self.inputs: list[Message] = []
        self.rewrites: list[MessageRewrite] = []
        self.unproven: list[Message] = []  # what the last step added, which no model was sent yet
        self.model: Model | None = None
        self.window_tokens = 0
        self.step: Step | None = None
        self.answer: Answer | None = None
        self.client_tools: tuple[ClientTool, ...] = waiting.command.client_tools or ()
        self.gate = Gate()
        self.offer = Offer(actor.toolbox)
        self.decisions: tuple[Decision, ...] = ()  # on what the conversation waited for
        self.said: list[Message] = []  # what the running step stored already, before it ran its tools
        self.reported: Usage | None = None  # and what it used
        self.stale = False  # its answer came too late
        self.cancelled = False
        self.finished = False
        self.started = clock.monotonic()
        self.ttft_ns: int | None = None
        self.began_at = 0  # from here on the conversation's messages are this run's
        self.watch = Stopwatch()
        self.pulse = Pulse()
        self.told: set[str] = set()  # calls of the running step whose results were told
        self.system_override: bytes | None = None
        self._scope: anyio.CancelScope | None = None

    # --- from outside ---------------------------------------------------------------------------

    def cancel(self) -> None:
        """Stop the turn as soon as it can be: what was shown is kept, marked interrupted."""
        self.cancelled = True
        if self._scope is not None:
            self._scope.cancel()

    @property
    def toolbox(self) -> Toolbox:
        """The tools that models are shown in this turn: the agent's, and those that the client runs."""
        return self.actor.commons.offered(self.actor.toolbox, self.client_tools)

    @property
    def policy(self) -> Policy:
        """The rules that bind this turn, over all the tools that models are shown in it."""
        policy = self.actor.policy
        if not self.client_tools:
            return policy
        continues = policy.rules.continues | {tool.name for tool in self.client_tools}
        rules = replace(policy.rules, continues=continues)
        return replace(policy, rules=rules, attached=tuple(self.toolbox.tools))

    @contextmanager
    def stoppable(self) -> Generator[anyio.CancelScope]:
        """Let `cancel` end what is awaited inside the block; the scope says whether it did."""
        try:
            with anyio.CancelScope() as self._scope:
                if self.cancelled:
                    self._scope.cancel()
                yield self._scope
        finally:
            self._scope = None

    def owns(self, run_id: str) -> bool:
        """Say whether this turn handles the run, alone or joined."""
        return run_id == self.run_id or any(w.run_id == run_id for w in self.joined)

    def takes(self, waiting: Waiting) -> bool:
        """Say whether a command that steers may join this turn: it names none, or a run of this one."""
        aimed = waiting.command.steer_run
        return aimed is None or self.owns(aimed)

    def steered_by(self, waiting: Waiting) -> bool:
        """Say whether a command that steers may still wait for this turn's next step."""
        return not self.finished and self.takes(waiting)

    # --- the turn -------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run the turn to its terminal event. Cancelling the task loses nothing that was committed.

        Raises:
            FencedError: A newer owner holds the agent.
            DrainingError: The host may not act for the agent any more.
        """
        try:
            await self._turn()
        finally:
            if self.head is not None:
                self.head.drop()

    async def _turn(self) -> None:
        self.actor.commons.check_lease()
        await self._part_forks()
        self._begin()
        if self.thread.open is not None and not self.stale:
            await answering.resume(self, self.thread.open)
        while not self.finished:
            self.actor.commons.check_lease()
            match loop.next_action(self.turn):
                case CallModel():
                    await self._step()
                case Finish():
                    await self.commit(lambda refused: self._draft(None, [], "success", refused))
                case _:
                    raise AssertionError("calls are run in the step that asked for them")

    async def _part_forks(self) -> None:
        """Leave forks of this conversation the answer that the turn is about to withdraw."""
        withdrawn = self.waiting.command.withdraws.values()
        if not withdrawn or self.waiting.applied:
            return
        if any(t.conversation.parent_id for t in self.actor.threads.values()):
            with anyio.CancelScope(shield=True):
                async with self.actor.commit_turn:
                    await edits.apply(self.actor, PartForks(self.thread.id, min(withdrawn) - 1))

    def retract(self) -> None:
        """End what the log says of a step that is given up here."""
        if self.step is not None and not self.finished:
            self.channel.publish(*telling.given_up(self, self.step))

    def _begin(self) -> None:
        command = self.waiting.command
        self.cancelled |= any(
            self.actor.commons.load.cancelled(w.run_id) for w in (self.waiting, *self.joined)
        )
        self.gate = approvals.gate_of(self.actor.agent.settings.tool_rules, self.client_tools)
        if not self.waiting.applied:
            end = self.thread.end_position
            ready = None if self.head is None else self.head.inputs_at(end)
            self.inputs = self.inputs_of(self.waiting, end) if ready is None else ready
            answering.take(self)
            self._withdraw(command.withdraws)
        self.rewrites += (renewed := recompiling.renewed(self.actor, self.thread, clock.now()))
        if command.system is not None:
            self.system_override = openai_chat.encode_system(command.system)
        events: list[Event] = [
            RunStarted(
                self.run_id, self.thread.id, self.waiting.attempt, command.messages, command.background
            )
        ]
        recovered = self.actor.recovered.pop(self.run_id, [])
        said = [m for m in recovered if m.role != "summary"]
        self.began_at = min((m.position for m in said), default=self.thread.end_position)
        self.unproven = [m for m in said if m.step_id is not None and m.step_id == said[-1].step_id]
        events += [MessageCommitted(self.run_id, m) for m in recovered]
        events += queueing.left(self.thread, self.run_id, "started")
        events += queueing.waiting(self.thread)
        if self.decisions or (self.waiting.applied and command.approvals):
            self.turn = replace(self.turn, ran=self.thread.ran)
        if recovered and self.policy.binds:
            self.turn = offers.recovered(self.turn, self.policy, recovered)
        if renewed or not self.thread.measured:
            events.append(measuring.measured(self.actor, self.thread, run_id=self.run_id))
            self.thread.measured = True
        self.channel.publish(*events)
        if self.cancelled:
            self.turn = loop.end(self.turn, "cancelled")
            return
        try:
            self._choose_model()
        except UnknownModelError as error:
            self._fail(ModelError(str(error)))

    def _withdraw(self, positions: dict[str, int]) -> None:
        """Show models these messages no more, from here on and, with the first checkpoint, for good."""
        self.rewrites += [MessageRewrite(id=message_id, excluded=True) for message_id in positions]
        if positions:
            self.thread.withdraw(set(positions.values()))

    def _choose_model(self) -> None:
        settings = self.actor.agent.settings
        handle = self.waiting.command.model or self.thread.conversation.model or settings.model
        self.model = self.actor.commons.catalog.resolve(handle)
        self.actor.window = handle, self.model.ref.context_window_tokens
        self.window_tokens = settings.context_window_tokens or self.model.ref.context_window_tokens
        self.thread.bound_returns(self.window_tokens)
        if settings.message_buffer_autoclear and not self.waiting.applied:
            self.thread.clear()

    def inputs_of(self, waiting: Waiting, position: int) -> list[Message]:
        """Return the messages of a command as they would be stored from `position` on."""
        count = self.actor.commons.counter.count
        return entries.inputs_of(
            self.actor.agent, waiting.command, position, run_id=waiting.run_id, count=count
        )

    # --- one step -------------------------------------------------------------------------------

    async def _step(self) -> None:
        assert self.model is not None
        ref = self.model.ref
        self.step = Step(
            id=clock.new_id("step") if self.head is None else self.head.step_id,
            organization_id=self.actor.agent.organization_id,
            agent_id=self.actor.agent.id,
            run_id=self.run_id,
            position=self.turn.steps_taken,
            status="pending",
            model=ref.handle,
            provider=ref.provider,
            created_at=clock.now(),
            context_window_tokens=self.window_tokens,
        )
        self.offer = self._offer()
        answer = self.answer = self._fresh_answer()
        telling.began(self, self.step, answer.message_id)
        prepared: list[toolrun.Prepared] = []
        try:
            with anyio.CancelScope() as self._scope:
                if self.cancelled:
                    self._scope.cancel()
                await self._ask(answer)
                self.turn = loop.after_model(self.turn, answer.calls, truncated=answer.finish == "length")
                prepared = offers.judge(self.policy, self.turn, answer, self.toolbox.tools)
                if answer.asked:
                    self.thread.ran = self.turn.ran  # the answer's turn goes on from there
                    self.turn, prepared = loop.park(self.turn), []
                self.watch.enter("tools")
                await acting.run(self, answer, prepared)
            if self._scope.cancelled_caught:
                self.turn = loop.end(self.turn, "cancelled")
        except ModelError as error:
            self._fail(error)
        finally:
            self._scope = None
            self.watch.enter(None)
        status: StepStatus = "success"
        if self.turn.ended is not None:
            status = "cancelled" if self.turn.ended == "cancelled" else "failed"
            self.channel.publish(*answer.close())
            prepared = [p.stopped(STOPPED) for p in prepared or self._uncalled(answer)]
        self.step = replace(self.step, timing=self.watch.timing(), stop_reason=None, error=self.error)
        await self.commit(lambda refused: self._draft(answer, prepared, status, refused))

    def _fresh_answer(self) -> Answer:
        return Answer(
            self.run_id,
            clock.new_id("message"),
            taken=self.thread.has_call,
            fresh=lambda: clock.new_id("call"),
            gate=self.gate.among(self.offer.toolbox.tools),
            splits=offers.splits(self.policy, self.toolbox.tools),
            one_call=self.offer.one_call,
        )

    def _offer(self) -> Offer:
        """Return the tools of the next call: what rules leave of the agent's, and those the client runs."""
        return offers.offer_of(self.actor.commons, self.policy, self.turn, self.toolbox)

    def _uncalled(self, answer: Answer) -> list[toolrun.Prepared]:
        """Return the calls of a message that came too late to be run; nobody is asked about them any more."""
        return [
            toolrun.Prepared(call=call)
            if answer.gate.kind(call.name)
            else offers.checked(self.policy, call, self.toolbox.tools)
            for call in answer.calls
        ]

    async def _ask(self, answer: Answer) -> None:
        """Call the model."""
        assert self.model is not None
        assert self.step is not None
        await shortening.make_room(self)
        head, self.head = self.head, None
        call = ModelCall(
            actor=self.actor,
            thread=self.thread,
            channel=self.channel,
            model=self.model,
            window_tokens=self.window_tokens,
            inputs=tuple(self.inputs),
            system=self.system_override,
            skills=skills.section(self.waiting.command.client_skills),
            run_id=self.run_id,
            key=f"{self.step.id}.{self.waiting.attempt}",
            make_room=partial(shortening.make_room, self),
            offer=self.offer,
            watch=self.watch,
            head=head,
        )
        try:
            await call.run(answer)
        finally:
            if head is not None:
                head.drop()
        self.watch.enter(None)
        if self.ttft_ns is None:
            waited = int((clock.monotonic() - self.waiting.since) * 1e9)
            self.ttft_ns = waited - self.watch.timing().stream

    def _fail(self, error: ModelError) -> None:
        self.error = error.as_run_error()
        log.info("model call failed", extra={"kind": error.kind, "status": error.status})
        if error.refused_content:
            self.inputs = [replace(m, excluded=True) for m in self.inputs]
            self.rewrites += [MessageRewrite(id=m.id, excluded=True) for m in self.unproven]
            self.thread.withdraw({m.position for m in self.unproven})
        self.turn = loop.end(self.turn, error.stop_reason)

    # --- the checkpoint ---------------------------------------------------------------------------

    def _draft(
        self,
        answer: Answer | None,
        prepared: list[toolrun.Prepared],
        status: StepStatus,
        refused: frozenset[str],
    ) -> Draft:
        draft = draft_of(self, answer, prepared, status, refused=refused)
        opendraft.close(self, draft, prepared)
        return draft

    async def commit(self, draft_of: Callable[[frozenset[str]], Draft]) -> None:
        """Commit the step under the actor's commit turn, then say so. Shielded: it is never half told."""
        begun = time.monotonic_ns()
        with anyio.CancelScope(shield=True):
            async with self.actor.commit_turn:
                draft = await stepcommit.commit(self.actor, self.thread, draft_of)
                apply(self, draft, time.monotonic_ns() - begun)
