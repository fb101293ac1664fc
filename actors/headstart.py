"""Asks the model while a command's acceptance is being committed, where the turn would ask the very same.

A head start shows nothing: what the model says waits in the connection until the turn that the command began
reads it, and that turn begins when the command is durable. The turn makes its request as ever; one that is
not equal to what was sent drops the head start and is sent itself. What never becomes a turn is dropped, too:
the connection is closed, and nothing is left of it but what the provider had to do. So it is begun only where
a refusal is not to be expected: the conversation is at rest, the key is new, the database answers.
"""

import asyncio
from typing import TYPE_CHECKING

from actors import clock, entries, modelcall, offers, skills
from actors.commands import SendMessages
from actors.compaction import FULL_SHARE
from actors.errors import DrainingError, ModelError, UnknownModelError
from actors.llm.http import OpenAIChat, Opened
from actors.llm.model import Model, Request
from actors.loop import Turn
from actors.mailbox import Waiting
from actors.offers import Offer
from actors.stopwatch import Stopwatch
from actors.thread import Thread
from actors.tokens import estimate
from storage.records import Message, TextPart

if TYPE_CHECKING:
    from actors.agent import Actor
    from actors.population import Population

MOST = 64  # at once: as many as one batch of acceptances holds
PATIENCE = 10.0  # seconds until one that no turn took is dropped; an acceptance is over before, or has failed
LONGEST_CHARS = 50_000  # of new text: longer ones cost too much to be encoded twice
KEPT_KEYS = 2048  # of the latest commands: who repeats one is answered, and no model is asked
# How keys begin that the gateway makes, one for each request. Others are their clients', who may repeat what
# an earlier process accepted: for so many seconds from its start a host does not trust them to be new, unless
# it is told that somebody looked.
FRESH = "request-"
UNSURE = 600.0


class _Sending:
    """Tells the turn's watch that the request is written, once there is one.

    The request holds it and not the head start, which holds the request.
    """

    __slots__ = ("watch",)

    def __init__(self) -> None:
        self.watch: Stopwatch | None = None

    def sent(self) -> None:
        """Say that the request is written."""
        if self.watch is not None:
            self.watch.sent()


class HeadStart:
    """A model call that may be under way before its command is durable. `drop` may come at any moment."""

    __slots__ = (
        "_actor",
        "_command",
        "_dropped",
        "_error",
        "_inputs",
        "_model",
        "_opened",
        "_request",
        "_run_id",
        "_sending",
        "_task",
        "_thread",
        "step_id",
    )

    def __init__(self, actor: "Actor", thread: Thread, command: SendMessages, run_id: str) -> None:
        self.step_id = clock.new_id("step")
        self._actor = actor
        self._thread = thread
        self._command = command
        self._run_id = run_id
        self._dropped = False
        self._inputs: list[Message] = []
        self._model: OpenAIChat | None = None
        self._request: Request | None = None
        self._opened: Opened | None = None
        self._error: ModelError | None = None
        self._task: asyncio.Task[None] | None = None
        self._sending = _Sending()

    def begin(self) -> None:
        """Make the request and send it, in a task of the host."""
        if not self._dropped:
            self._task = self._actor.commons.spawn(self._ask)

    async def _ask(self) -> None:
        model = self._model = _model(self._actor, self._thread, self._command)
        request = None if model is None else self._make(model)
        if model is None or request is None:
            return
        self._request = request
        try:
            self._opened = await model.open(request)
        except ModelError as error:
            self._error = error

    def _make(self, model: OpenAIChat) -> Request | None:
        """Return the request of the command's first step; `None` where the turn would do something first."""
        actor, thread, command = self._actor, self._thread, self._command
        settings = thread.model_settings(actor.agent.settings.model_settings)
        dialect = model.dialect(settings)
        if dialect != thread.dialect:
            return None
        count = actor.commons.counter.count
        inputs = entries.inputs_of(
            actor.agent, command, thread.end_position, run_id=self._run_id, count=count
        )
        offer, section = _offer(actor, command), skills.section(command.client_skills)
        tokens = thread.system_tokens + thread.tokens + offer.toolbox.tokens + estimate(section)
        tokens = actor.calibration.apply(tokens + sum(m.tokens for m in inputs))
        window = actor.agent.settings.context_window_tokens or model.ref.context_window_tokens
        if tokens > min(int(window * FULL_SHARE), modelcall.room(window, settings, model.ref)):
            return None
        self._inputs = inputs
        return modelcall.request_of(
            thread,
            offer,
            settings,
            system=skills.joined(thread.system_wire, section),
            inputs=inputs,
            key=f"{self.step_id}.0",
            dialect=dialect,
            sent=self._sending.sent,
        )

    # --- the turn's side ------------------------------------------------------------------------

    def inputs_at(self, position: int) -> list[Message] | None:
        """Return the command's messages as they would be stored from `position` on, if they are made."""
        if not self._inputs or self._inputs[0].position != position:
            return None
        return list(self._inputs)

    def serves(self, model: Model, request: Request) -> bool:
        """Say whether this is the call that a turn is about to make; one that is not is dropped."""
        mine = self._request
        same = (
            mine is not None
            and not self._dropped
            and self._model is not None
            and self._model.is_same(model)
            and mine.messages == request.messages
            and mine.tools == request.tools
            and mine.tool_choice == request.tool_choice
            and mine.settings == request.settings
            and mine.dialect == request.dialect
        )
        if not same:
            self.drop()
        return same

    async def opened(self, watch: Stopwatch) -> Opened | None:
        """Return the open call, once its answer begins; `None` where a fault of ours kept it from beginning.

        Cancelling drops it. `watch` is told if it is sent only now.

        Raises:
            ModelError: The call failed.
        """
        self._sending.watch = watch
        try:
            if self._task is not None:
                await self._task
        except BaseException:  # a cancellation, above all; it is passed on
            self.drop()
            raise
        if self._error is not None:
            raise self._error
        return self._opened

    def drop(self) -> None:
        """End the call where it stands; one that was read to its end keeps its connection."""
        self._dropped = True
        if self._task is not None and not self._task.done():
            self._task.cancel()
        if self._opened is not None:
            self._opened.close()


class HeadStarts:
    """The head starts of one host by run: begun at the acceptance, taken by the turn."""

    def __init__(self, population: "Population") -> None:
        self.trusted = True  # whether the database answered the latest acceptance
        self._population = population
        self._begun: dict[str, tuple[HeadStart, asyncio.TimerHandle]] = {}
        self._keys: dict[int, None] = {}
        self._since = clock.monotonic()

    def begin(
        self, agent_id: str, command: SendMessages, *, run_id: str, key: str, fresh: bool = False
    ) -> None:
        """Give a command that is about to be accepted a head start, unless something speaks against it.

        `fresh` says that the key is known to be new. The head start begins a moment later, so that its
        acceptance is on its way first. It never raises.
        """
        if self._repeated(agent_id, key, fresh=fresh) or not self.trusted or len(self._begun) >= MOST:
            return
        actor = self._population.hot.get(agent_id)
        if actor is None or self._population.closed or not _plain(command):
            return
        thread = actor.threads.get(command.conversation_id)
        if thread is None or not _at_rest(actor, thread):
            return
        head = HeadStart(actor, thread, command, run_id)
        loop = asyncio.get_running_loop()
        self._begun[run_id] = head, loop.call_later(PATIENCE, self.drop, run_id)
        loop.call_soon(head.begin)

    def _repeated(self, agent_id: str, key: str, *, fresh: bool = False) -> bool:
        """Say whether a command may have come under this key before, and remember that it has now."""
        mark = hash((agent_id, key))
        if mark in self._keys:
            return True
        if len(self._keys) >= KEPT_KEYS:
            del self._keys[next(iter(self._keys))]
        self._keys[mark] = None
        return not (fresh or key.startswith(FRESH)) and clock.monotonic() < self._since + UNSURE

    def take(self, waiting: Waiting) -> HeadStart | None:
        """Return the head start of a run whose turn begins, which drops it when it is over.

        None where an earlier life of the run may have asked already: the call would go by a name of that one.
        """
        if (found := self._begun.pop(waiting.run_id, None)) is None:
            return None
        head, timer = found
        timer.cancel()
        if waiting.attempt or waiting.applied:
            head.drop()
            return None
        return head

    def drop(self, run_id: str) -> None:
        """Drop the head start of a run that is not to be, if nobody took it."""
        if (found := self._begun.pop(run_id, None)) is not None:
            head, timer = found
            timer.cancel()
            head.drop()

    def drop_all(self) -> None:
        """Drop what no turn took: the host stops, or may not act for its agents any more."""
        for run_id in tuple(self._begun):
            self.drop(run_id)


def _plain(command: SendMessages) -> bool:
    """Whether a command's turn begins with asking the model what it says, and its text is not long."""
    if command.approvals or command.withdraws or command.system is not None or command.steer_run is not None:
        return False
    if command.max_steps < 1 or not command.messages:
        return False
    left = LONGEST_CHARS
    for message in command.messages:
        for part in message.content:
            if not isinstance(part, TextPart):
                return False
            left -= len(part.text)
    return left >= 0


def _at_rest(actor: "Actor", thread: Thread) -> bool:
    """Whether a conversation's next turn would show its model the window and the prompt as they are now."""
    if actor.dead or actor.commit_turn.locked() or actor.commons.run_slots.locked():
        return False
    if thread.busy or thread.steering or thread.jobs or not thread.loaded:
        return False
    if thread.pending is not None or thread.open is not None:
        return False
    return thread.compiled_for == actor.memory_version


def _model(actor: "Actor", thread: Thread, command: SendMessages) -> OpenAIChat | None:
    """Return the model that the turn will ask; `None` where it has to wait for its turn."""
    settings = actor.agent.settings
    if settings.message_buffer_autoclear or (command.client_tools and actor.policy.binds):
        return None
    try:
        actor.commons.check_lease()
        model = actor.commons.catalog.resolve(command.model or thread.conversation.model or settings.model)
    except (DrainingError, UnknownModelError):
        return None
    return model if isinstance(model, OpenAIChat) else None


def _offer(actor: "Actor", command: SendMessages) -> Offer:
    toolbox = actor.commons.offered(actor.toolbox, command.client_tools or ())
    return offers.offer_of(actor.commons, actor.policy, Turn(max_steps=command.max_steps), toolbox)
