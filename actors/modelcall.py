"""One model call: the request for the window as it stands, sent until an attempt may not be repeated."""

import logging
import time
from contextlib import aclosing
from typing import TYPE_CHECKING

from msgspec import Struct

from actors import clock, window
from actors.answer import Answer
from actors.channels import Channel
from actors.errors import ModelError
from actors.events import WindowMoved
from actors.llm import openai_chat, retry
from actors.llm.model import Model, Request
from actors.thread import Thread
from storage.records import Message, Timing

if TYPE_CHECKING:
    from actors.agent import Actor

log = logging.getLogger("wakeful.turn")

MAX_SHRINKS = 3  # times a request that the provider finds too long is made shorter
KEPT = 0.7  # of the room, when the window has to move
EXACT_FROM = 0.5  # of the room: from here on tokens are counted, not estimated
ANSWER_TOKENS = 4096  # kept free for the answer where nobody says how long it may be


class ModelCall(Struct, frozen=True, kw_only=True):
    """A call about to be made. `inputs` are not stored yet; `system` replaces the compiled prompt."""

    actor: "Actor"
    thread: Thread
    channel: Channel
    model: Model
    window_tokens: int
    inputs: tuple[Message, ...]
    system: bytes | None
    run_id: str
    key: str

    async def run(self, answer: Answer) -> Timing:
        """Stream the answer into `answer` and onto the channel; return when what happened.

        Retries wait their back-off here, and only while nothing of the answer was shown. Cancelling
        closes the connection; what `answer` holds by then is what clients have seen.

        Raises:
            ModelError: The call failed for good.
            DrainingError: The host may not act for the agent any more.
        """
        tries = shrinks = 0
        while True:
            begun = time.monotonic_ns()
            request = self._request()
            try:
                return await self._attempt(request, answer, begun)
            except ModelError as error:
                if answer.shown:
                    raise
                if error.overflow and shrinks < MAX_SHRINKS and self._fit(0.5):
                    shrinks += 1
                    continue
                tries += error.requests
                delay = retry.delay(tries, error)
                if delay is None:
                    raise
                log.info("model call repeated", extra={"attempt": tries, "kind": error.kind})
                await clock.sleep(delay)

    async def _attempt(self, request: Request, answer: Answer, begun: int) -> Timing:
        sent = time.monotonic_ns()
        first = 0
        async with aclosing(self.model.stream(request)) as batches:
            async for pieces in batches:
                first = first or time.monotonic_ns()
                if events := answer.feed(pieces):
                    self.actor.commons.check_lease()
                    self.channel.publish(*events)
        self.channel.publish(*answer.close())
        if answer.finish == "content_filter":
            raise ModelError("the provider's content filter stopped the answer", refused_content=True)
        done = time.monotonic_ns()
        first = first or done
        return Timing(prompt=sent - begun, first_token=first - sent, stream=done - first)

    def _request(self) -> Request:
        """Return the request for the window as it stands, made shorter where it would not fit."""
        thread, actor = self.thread, self.actor
        self._fit(1.0)
        wires = [self.system or thread.system_wire]
        wires += [e.wire for e in thread.entries]
        wires += [openai_chat.encode_message(m) for m in self.inputs]
        return Request(
            messages=wires,
            tools=actor.toolbox.wire,
            tool_choice="auto",
            settings=actor.agent.settings.model_settings,
            key=self.key,
        )

    def _fit(self, factor: float) -> bool:
        """Move the window's start past what exceeds `factor` of the room; return whether it moved.

        A provider that finds our request too long counts more than we do: half of the room then.
        """
        thread, actor = self.thread, self.actor
        fixed = thread.system_tokens + actor.toolbox.tokens + sum(m.tokens for m in self.inputs)
        room = self.window_tokens - min(self._reserve(), self.window_tokens // 4)
        counter = actor.commons.counter
        if fixed + thread.tokens > room * EXACT_FROM and not counter.exact and counter.failure is None:
            actor.commons.spawn(counter.load)
        budget = int(room * factor / actor.calibration.ratio) - fixed
        if factor < 1.0:
            budget = min(budget, thread.tokens // 2)
        if thread.tokens <= budget:
            return False
        # Well below the limit: each move costs the provider's cache of the prompt's beginning.
        fitted = window.fit(thread.entries, max(0, int(budget * KEPT)))
        if fitted.start == len(thread.entries):
            fitted = window.fit(thread.entries, max(0, budget))
        # A request of nothing but the system prompt asks for nothing: better the provider's refusal.
        if fitted.evicted == 0 or not (self.inputs or fitted.start < len(thread.entries)):
            return False
        thread.evict(fitted.from_position)
        self.channel.publish(WindowMoved(self.run_id, fitted.from_position, fitted.evicted))
        return True

    def _reserve(self) -> int:
        """Return the tokens kept free for the answer."""
        asked = self.actor.agent.settings.model_settings.max_output_tokens
        return asked or self.model.ref.max_output_tokens or ANSWER_TOKENS
