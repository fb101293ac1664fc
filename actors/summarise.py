"""Asks models for the summary of what leaves a window: in pieces where it is long."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING

import anyio
from msgspec import Struct
from msgspec.structs import replace

from actors import clock, reading, summary
from actors.commands import InputMessage
from actors.errors import ModelError, UnknownModelError
from actors.llm import encoding, openai_chat, retry
from actors.llm.dialects import Dialect
from actors.llm.errors import empty_answer, timed_out
from actors.llm.model import Finished, Model, Piece, Request, TextPiece, UsageReported
from actors.summary import CompactionSettings
from actors.thread import Thread, overridden
from actors.tokens import estimate
from storage.records import Message, ModelSettings, TextPart, Usage

if TYPE_CHECKING:
    from actors.agent import Actor

log = logging.getLogger("wakeful.turn")

SUMMARY_SECONDS = 600.0  # one summary by one model, all of its pieces and repetitions included
MAX_HALVINGS = 3  # times that pieces are cut in half because a model finds them too long
ROOM = 0.7  # of a summariser's window is filled by our estimate: its vocabulary is not known to us
FEWEST_PIECE_TOKENS = 256
TOOL_CHOICE = "none"


class Summary(Struct, frozen=True):
    """A summary and what it cost."""

    text: str
    usage: Usage


class Summariser(Struct, frozen=True, kw_only=True):
    """What the summaries of one conversation are made with. `model` is the agent's own."""

    actor: "Actor"
    thread: Thread
    model: Model
    window_tokens: int
    system: bytes
    settings: CompactionSettings
    most_tokens: int
    key: str

    async def of_transcript(self, until: int) -> Summary:
        """Return the summary of the window before position `until` and of what was summed up before.

        The chosen model writes it, from a transcript: that costs one read of what is stored. Where that
        model cannot be had the agent's own writes it.

        Raises:
            ModelError: No model wrote one.
            UnavailableError: The database did not answer.
        """
        stored = await reading.stored_window(self.actor, self.thread)
        earlier = next((summary.unpack(text_of(m))[0] for m in stored if m.role == "summary"), "")
        leaving = (m for m in stored if 0 < m.position < until and m.role != "summary" and not m.excluded)
        lines = summary.transcript(leaving)
        chosen = self._chosen()
        if chosen is not self.model:
            try:
                return await self._in_time(chosen, self._in_pieces(chosen, lines, earlier))
            except ModelError as error:
                log.info("the agent's own model sums up instead", extra={"kind": error.kind})
        return await self._in_time(self.model, self._in_pieces(self.model, lines, earlier))

    async def by_itself(self, until: int) -> Summary:
        """Return the summary that the agent's own model writes behind the window before position `until`.

        The request begins like any other of the conversation, so that the provider's cache serves it.

        Raises:
            ModelError: It wrote none.
        """
        return await self._in_time(self.model, self._complete(self.model, partial(self._own_request, until)))

    async def _own_request(self, until: int, dialect: Dialect) -> Request:
        thread = self.thread
        if dialect != thread.dialect:
            await reading.recode(self.actor, thread, dialect)
        earlier = [] if thread.summary is None else [thread.summary.wire]
        asked = f"{self.settings.text}\n{summary.limit_words(self.most_tokens)}"
        leaving = (e.wire for e in thread.entries if e.position < until)
        return Request(
            messages=[self.system, *earlier, *leaving, _user(asked, dialect)],
            tools=self.actor.toolbox.wire,
            tool_choice=TOOL_CHOICE,
            settings=self._own_settings(),
            key=f"{self.key}.self",
            dialect=dialect,
        )

    def _chosen(self) -> Model:
        handle = self.settings.model or summary.default_model(self.model.ref)
        if handle == self.model.ref.handle:
            return self.model
        try:
            return self.actor.commons.catalog.resolve(handle)
        except UnknownModelError:
            return self.model

    async def _in_pieces(self, model: Model, lines: Sequence[str], earlier: str) -> Summary:
        """Sum up piece by piece; each piece is shown with the summary of all before it."""
        most = min(self._piece_tokens(model), max(FEWEST_PIECE_TOKENS, sum(estimate(x) + 1 for x in lines)))
        for halving in range(MAX_HALVINGS + 1):
            try:
                return await self._rolling(model, lines, earlier, most=most >> halving)
            except ModelError as error:
                if not error.overflow or halving == MAX_HALVINGS or most >> halving < FEWEST_PIECE_TOKENS:
                    raise
        raise AssertionError("the last halving returns or raises")

    def _piece_tokens(self, model: Model) -> int:
        """Return how much of a transcript the model reads at once, beside prompt and summaries.

        The agent's window may be set smaller than its model's: that bounds the agent, not its summariser.
        """
        window = max(model.ref.context_window_tokens, self.window_tokens)
        fixed = estimate(self.settings.text) + 2 * self.most_tokens
        return max(FEWEST_PIECE_TOKENS, int(window * ROOM) - fixed)

    async def _rolling(self, model: Model, lines: Sequence[str], earlier: str, *, most: int) -> Summary:
        words = summary.limit_words(self.most_tokens)
        written = Summary(earlier, Usage())
        for number, piece in enumerate(summary.chunks(lines, most=most, count=estimate)):
            asked = summary.question(piece, earlier=written.text, words=words)
            key = f"{self.key}.{most}.{number}"
            answer = await self._complete(model, partial(self._piece_request, model, asked, key))
            written = Summary(answer.text, written.usage + answer.usage)
        return written

    async def _piece_request(self, model: Model, asked: str, key: str, dialect: Dialect) -> Request:
        messages = [openai_chat.encode_system(self.settings.text)]
        if self.settings.prompt_acknowledgement:
            answer = InputMessage(role="assistant", content=(TextPart(summary.ACKNOWLEDGED),))
            messages += [
                _user("Answer with the summary alone.", dialect),
                encoding.encode_input(answer, dialect),
            ]
        return Request(
            messages=[*messages, _user(asked, dialect)],
            tools=None,
            tool_choice="auto",
            settings=self._settings(model),
            key=key,
            dialect=dialect,
        )

    def _settings(self, model: Model) -> ModelSettings:
        """Return how a summariser is called: as it was asked for, else as the agent's own model is."""
        if self.settings.model_settings:
            return self._bounded(overridden(ModelSettings(), self.settings.model_settings))
        return self._own_settings() if model is self.model else self._bounded(ModelSettings())

    def _own_settings(self) -> ModelSettings:
        settings = self.thread.model_settings(self.actor.agent.settings.model_settings)
        return self._bounded(replace(settings, response_format=None))

    def _bounded(self, settings: ModelSettings) -> ModelSettings:
        """Bound an answer that nobody else bounds: a small model may never come to an end of its own."""
        if settings.max_output_tokens is not None:
            return settings
        return replace(settings, max_output_tokens=max(1024, 4 * self.most_tokens))

    async def _in_time(self, model: Model, summing: Awaitable[Summary]) -> Summary:
        try:
            with anyio.fail_after(SUMMARY_SECONDS):
                return await summing
        except TimeoutError as error:
            raise _late(model) from error

    async def _complete(self, model: Model, request: Callable[[Dialect], Awaitable[Request]]) -> Summary:
        """Return a whole answer, asked for again while that can help.

        Raises:
            ModelError: The model did not answer, or with nothing.
        """
        tries = 0
        while True:
            try:
                return await self._once(model, await request(model.dialect(self._settings(model))))
            except ModelError as error:
                if error.learned:
                    continue  # what the model lacks it is not asked for again
                tries += error.requests
                wait = retry.delay(tries, error)
                if wait is None:
                    raise
                log.info("summary asked for again", extra={"attempt": tries, "kind": error.kind})
                await clock.sleep(wait)

    async def _once(self, model: Model, request: Request) -> Summary:
        pieces: list[Piece] = []
        async with aclosing(model.stream(request)) as batches:
            async for batch in batches:
                pieces += batch
        text = "".join(piece.text for piece in pieces if isinstance(piece, TextPiece)).strip()
        usage = next((piece.usage for piece in reversed(pieces) if isinstance(piece, UsageReported)), None)
        if any(isinstance(piece, Finished) and piece.reason == "content_filter" for piece in pieces):
            raise ModelError("the provider's content filter stopped the summary", refused_content=True)
        if not text:
            raise _silent(model)
        text = summary.clip(text, self.most_tokens * summary.CHARS_PER_TOKEN)
        return Summary(text, usage or _estimated(request, text))


def _user(text: str, dialect: Dialect) -> bytes:
    return encoding.encode_input(InputMessage(role="user", content=(TextPart(text),)), dialect)


def text_of(message: Message) -> str:
    """Return the text of a message."""
    return "".join(part.text for part in message.content if isinstance(part, TextPart))


def _estimated(request: Request, text: str) -> Usage:
    """Return our own count where the provider reported none."""
    asked = sum(estimate(message) for message in request.messages) + estimate(request.tools or b"")
    written = estimate(text)
    return Usage(prompt=asked, completion=written, total=asked + written, estimated=True)


def _silent(model: Model) -> ModelError:
    """Return the error for an empty summary: the same question would bring the same silence."""
    error = empty_answer(model.ref.provider)
    error.retryable = False
    return error


def _late(model: Model) -> ModelError:
    return timed_out(model.ref.provider, "no summary", SUMMARY_SECONDS)
