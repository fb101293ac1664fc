"""One model call: the request for the window as it stands, sent until an attempt may not be repeated."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

from msgspec import Struct, field
from msgspec.structs import replace

from actors import clock, reading, skills, window
from actors.answer import Answer
from actors.channels import Channel
from actors.errors import ModelError
from actors.events import Event, WindowMoved
from actors.llm import encoding, retry
from actors.llm.dialects import Dialect
from actors.llm.model import Model, ModelRef, Piece, Request
from actors.offers import Offer
from actors.stopwatch import Stopwatch
from actors.thread import Thread
from actors.tokens import estimate
from storage.records import ImagePart, Message, ModelSettings

if TYPE_CHECKING:
    from actors.agent import Actor
    from actors.headstart import HeadStart

log = logging.getLogger("wakeful.turn")

MAX_SHRINKS = 3  # times a request that the provider finds too long is made shorter
KEPT = 0.7  # of the room, when the window has to move
EXACT_FROM = 0.5  # of the room: from here on tokens are counted, not estimated
ANSWER_TOKENS = 4096  # kept free for the answer where nobody says how long it may be


class ModelCall(Struct, frozen=True, kw_only=True):
    """A call about to be made. `inputs` are not stored yet; `system` replaces the compiled prompt.

    `skills` is a section that stands behind it.

    `offer` are the tools that rules leave; without one all of the agent's are offered.
    `make_room` compacts the window after a provider found the prompt too long, and says whether it did; it
    is told how often that was so far. `watch` is told what the time goes into: what it costs to ask again is
    part of the wait for the first token. `head` is the same call as it may have been sent already.
    """

    actor: "Actor"
    thread: Thread
    channel: Channel
    model: Model
    window_tokens: int
    inputs: tuple[Message, ...]
    system: bytes | None
    run_id: str
    key: str
    skills: str = ""
    offer: Offer | None = None
    make_room: Callable[[int], Awaitable[bool]] | None = None
    watch: Stopwatch = field(default_factory=Stopwatch)
    head: "HeadStart | None" = None

    async def run(self, answer: Answer) -> None:
        """Stream the answer into `answer` and onto the channel.

        Retries wait their back-off here, and only while nothing of the answer was shown. Cancelling
        closes the connection; what `answer` holds by then is what clients have seen.

        Raises:
            ModelError: The call failed for good.
            DrainingError: The host may not act for the agent any more.
        """
        tries = shrinks = 0
        head, key = self.head, self.key
        while True:
            self.watch.enter("prompt")
            request = self._request(await self._dialect(answer), key)
            if head is not None and not head.serves(self.model, request):
                head, key = None, f"{key}.1"  # a provider has seen another body under the one before
                request = replace(request, key=key)
            self.watch.enter("first_token")
            try:
                return await self._attempt(request, answer, head)
            except ModelError as error:
                head = None
                if answer.shown:
                    raise
                answer.restart()
                if error.learned:
                    continue  # what the model lacks it is not asked for again, so that this comes to an end
                shrinks += error.overflow
                if error.overflow and shrinks <= MAX_SHRINKS and await self._shrink(shrinks):
                    continue
                tries += error.requests
                delay = retry.delay(tries, error)
                if delay is None:
                    raise
                log.info("model call repeated", extra={"attempt": tries, "kind": error.kind})
                await clock.sleep(delay)

    async def _dialect(self, answer: Answer) -> Dialect:
        """Return how the model is written to; the window is encoded anew where that has changed.

        Raises:
            ModelError: The input holds images, which this model cannot look at.
        """
        dialect = self.model.dialect(self.thread.model_settings(self.actor.agent.settings.model_settings))
        if dialect != self.thread.dialect:
            await reading.recode(self.actor, self.thread, dialect)
        answer.signer = dialect.signer or None
        if not dialect.images and any(isinstance(p, ImagePart) for m in self.inputs for p in m.content):
            raise ModelError(
                f"the model {self.model.ref.handle!r} cannot look at images: send text, or choose another",
                refused_content=True,
                lacks="images",
            )
        return dialect

    async def _shrink(self, times: int) -> bool:
        """Make the prompt shorter than the provider can take; return whether it is shorter now."""
        if self.make_room is not None and await self.make_room(times):
            return True
        return self._fit(0.5)

    async def _attempt(self, request: Request, answer: Answer, head: "HeadStart | None") -> None:
        begun, publish = False, self._tell_first
        check_lease = self.actor.commons.check_lease

        def take(pieces: list[Piece]) -> None:
            nonlocal begun, publish
            if not begun:
                begun = True
                self.watch.enter("stream")
            # Before the answer takes them: what it holds and what the log holds are always the same.
            check_lease()
            if events := answer.feed(pieces):
                publish(*events)
                publish = self.channel.publish

        opened = None if head is None else await head.opened(self.watch)
        answered = self.model.stream(request, take) if opened is None else opened.stream(take)
        async with aclosing(answered) as batches:
            async for pieces in batches:
                take(pieces)
        self.channel.publish(*answer.close())
        if answer.finish == "content_filter":
            raise ModelError("the provider's content filter stopped the answer", refused_content=True)

    def _tell_first(self, *events: Event) -> None:
        """Publish the beginning of the answer, and note when all who wait for it have taken it.

        Who listens is called at once; who waits is woken, and runs before what is called soon from here.
        """
        begun = time.monotonic_ns()
        self.channel.publish(*events)
        asyncio.get_running_loop().call_soon(self.watch.delivered, begun)

    def _request(self, dialect: Dialect, key: str) -> Request:
        """Return the request for the window as it stands, made shorter where it would not fit."""
        self._fit(1.0)
        return request_of(
            self.thread,
            self.offer or Offer(self.actor.toolbox),
            self.thread.model_settings(self.actor.agent.settings.model_settings),
            system=skills.joined(self.system or self.thread.system_wire, self.skills),
            inputs=self.inputs,
            key=key,
            dialect=dialect,
            sent=self.watch.sent,
        )

    def _fit(self, factor: float) -> bool:
        """Move the window's start past what exceeds `factor` of the room; return whether it moved.

        A provider that finds our request too long counts more than we do: half of the room then.
        """
        thread, actor = self.thread, self.actor
        fixed = thread.system_tokens + actor.toolbox.tokens + sum(m.tokens for m in self.inputs)
        fixed += estimate(self.skills)
        settings = thread.model_settings(actor.agent.settings.model_settings)
        space = room(self.window_tokens, settings, self.model.ref)
        counter = actor.commons.counter
        if fixed + thread.tokens > space * EXACT_FROM and not counter.exact and counter.failure is None:
            actor.commons.spawn(counter.load)
        budget = int(space * factor / actor.calibration.ratio) - fixed
        if factor < 1.0:
            budget = min(budget, thread.tokens // 2)
        if thread.tokens <= budget:
            return False
        # Well below the limit: each move costs the provider's cache of the prompt's beginning.
        summary = 0 if thread.summary is None else thread.summary.tokens
        fitted = window.fit(thread.entries, max(0, int(budget * KEPT) - summary))
        if fitted.start == len(thread.entries):
            fitted = window.fit(thread.entries, max(0, budget - summary))
        # A request of nothing but the system prompt asks for nothing: better the provider's refusal.
        if fitted.evicted == 0 or not (self.inputs or fitted.start < len(thread.entries)):
            return False
        thread.evict(fitted.from_position)
        self.channel.publish(WindowMoved(self.run_id, fitted.from_position, fitted.evicted))
        return True


def request_of(
    thread: Thread,
    offer: Offer,
    settings: ModelSettings,
    *,
    system: bytes,
    inputs: Sequence[Message],
    key: str,
    dialect: Dialect,
    sent: Callable[[], None],
) -> Request:
    """Return the request that shows a model this system message, the window, and what is not stored yet."""
    return Request(
        messages=[
            system,
            *[e.wire for e in thread.view],
            *[encoding.encode_message(m, dialect) for m in inputs],
        ],
        tools=offer.toolbox.wire,
        tool_choice=offer.tool_choice,
        settings=replace(settings, parallel_tool_calls=False) if offer.one_call else settings,
        key=key,
        dialect=dialect,
        sent=sent,
    )


def room(window_tokens: int, settings: ModelSettings, ref: ModelRef) -> int:
    """Return the tokens that a prompt may have: the window without what is kept free for the answer."""
    reserved = settings.max_output_tokens or ref.max_output_tokens or ANSWER_TOKENS
    return window_tokens - min(reserved, window_tokens // 4)
