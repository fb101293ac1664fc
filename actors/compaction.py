"""Shortens a conversation's window: what leaves it is summed up first, and the move is one fenced commit."""

import logging
from typing import TYPE_CHECKING

import anyio
from msgspec import Struct
from msgspec.structs import replace

from actors import clock, measuring, modelcall, summary, window
from actors.entries import tokens_of
from actors.errors import ModelError
from actors.events import Compacted, Event, MessageCommitted, WindowMoved
from actors.llm.model import Model
from actors.summarise import Summariser, Summary
from actors.summary import CompactionSettings, CompactionStats
from actors.thread import Thread, compile_for, text_parts
from actors.tokens import estimate
from actors.window import Cut
from storage.checkpoints import Checkpoint, MessageRewrite
from storage.errors import FencedError
from storage.records import Message, RunError, Usage

if TYPE_CHECKING:
    from actors.agent import Actor

log = logging.getLogger("wakeful.turn")

FULL_SHARE = 0.9  # of a window is full
NEAR = 0.05  # of the messages: so much less than asked may leave to spare what is being answered
ALERT_TOKENS = 120  # what surrounds the summary in its message


class Done(Struct, frozen=True, kw_only=True):
    """What came of a compaction. Without a `message` nothing was summed up; `error` says why."""

    stats: CompactionStats
    text: str = ""
    message: Message | None = None
    usage: Usage = Usage()
    error: RunError | None = None


class Compaction(Struct, frozen=True, kw_only=True):
    """A window that is to be shortened. `keep_from` is where messages begin that may not leave it.

    `spare_from` is where those begin that leave only where that helps: what is being answered.
    `input_tokens` are those of messages that will be sent although they are not stored yet; `system`
    replaces the compiled prompt. `run_id` is the run that pays for it, if there is one.
    """

    actor: "Actor"
    thread: Thread
    model: Model
    window_tokens: int
    settings: CompactionSettings
    trigger: str
    key: str
    input_tokens: int = 0
    system: bytes | None = None
    keep_from: int | None = None
    spare_from: int | None = None
    run_id: str | None = None

    @property
    def fixed_tokens(self) -> int:
        """Our count of what a prompt holds besides the window."""
        return self.thread.system_tokens + self.actor.toolbox.tokens + self.input_tokens

    @property
    def prompt_tokens(self) -> int:
        """About what the provider will count for the next prompt."""
        return self.actor.calibration.apply(self.fixed_tokens + self.thread.tokens)

    @property
    def limit_tokens(self) -> int:
        """The prompt tokens from which on the window counts as full."""
        settings = self.thread.model_settings(self.actor.agent.settings.model_settings)
        room = modelcall.room(self.window_tokens, settings, self.model.ref)
        return min(int(self.window_tokens * FULL_SHARE), room)

    def cut(self, *, share: float, limit_tokens: int, summary_tokens: int) -> Cut | None:
        """Return where the window would be cut; see `window.cut`."""
        budget = max(0, int(limit_tokens / self.actor.calibration.ratio) - self.fixed_tokens - summary_tokens)
        # A call that waits for its result stays, and its result is still to come behind it.
        waits = None if self.thread.open is None else self.thread.open.position
        keep = _earliest(self.keep_from, waits)
        entries = self.thread.entries
        found = window.cut(entries, share=share, budget_tokens=budget, keep_from=keep)
        if self.spare_from is None or found is None or found.from_position <= self.spare_from:
            return found
        spared = window.cut(
            entries, share=share, budget_tokens=budget, keep_from=_earliest(keep, self.spare_from)
        )
        if spared is None:
            return found
        asked = share == 1.0 or spared.evicted >= (share - NEAR) * spared.rows
        return found if found.tokens <= budget and not (asked and spared.tokens <= budget) else spared

    async def run(self, limit_tokens: int) -> Done | None:
        """Shorten the window to `limit_tokens`; return what came of it, or `None` where nothing may leave.

        Where no summary can be had the window moves all the same, by no more than it must: an agent whose
        summariser is down goes on. Cancelling before the commit changes nothing.

        Raises:
            FencedError, DrainingError, UnavailableError
        """
        try:
            return await self.attempt(limit_tokens)
        except ModelError as error:
            log.warning("window moved without a summary", extra={"kind": error.kind})
            held = 0 if self.thread.summary is None else self.thread.summary.tokens
            share = self.settings.sliding_window_percentage
            cut = self.cut(share=share, limit_tokens=limit_tokens, summary_tokens=held)
            return None if cut is None else await self._commit(cut, None, error.as_run_error())

    async def attempt(self, limit_tokens: int) -> Done | None:
        """Sum up and shorten, by the first way that succeeds; `None` where nothing may leave the window.

        Raises:
            ModelError: No model wrote a summary; nothing was changed.
            FencedError, DrainingError, UnavailableError
        """
        most = summary.most_tokens(self.settings, self.window_tokens)
        summariser = Summariser(
            actor=self.actor,
            thread=self.thread,
            model=self.model,
            window_tokens=self.window_tokens,
            system=self.system or self.thread.system_wire,
            settings=self.settings,
            most_tokens=most,
            key=self.key,
        )
        failure: ModelError | None = None
        for itself, share in ways(self.settings):
            cut = self.cut(share=share, limit_tokens=limit_tokens, summary_tokens=most + ALERT_TOKENS)
            if cut is None:
                return None
            try:
                write = summariser.by_itself if itself else summariser.of_transcript
                written = await write(cut.from_position)
            except ModelError as error:
                failure = error
                continue
            return await self._commit(cut, written, None)
        assert failure is not None
        raise failure

    # --- the commit -------------------------------------------------------------------------------

    async def _commit(self, cut: Cut, written: Summary | None, error: RunError | None) -> Done:
        """Store the summary, move the window and rebuild the prompt, all or nothing. Shielded."""
        async with self.actor.commit_turn:
            prompt = self._prompt()
            tokens = self.actor.commons.counter.count(prompt)
            done = Done(
                stats=self._stats(cut, written, system_tokens=tokens),
                text="" if written is None else written.text,
                usage=Usage() if written is None else written.usage,
                error=error,
            )
            if written is not None:
                done = replace(done, message=self._message(cut, written, done.stats))
            rewrite = MessageRewrite(id=self.thread.system_id, content=text_parts(prompt), tokens=tokens)
            compiled_for = self.actor.memory_version
            with anyio.CancelScope(shield=True):
                await self._submit(cut, done.message, rewrite)
                self._take(cut, done.message)
                self.thread.set_system(self.thread.system_id, prompt, tokens)
                self.thread.compiled_for = compiled_for
                self._tell(cut, done)
        return done

    def _prompt(self) -> str:
        actor = self.actor
        return compile_for(
            actor.agent,
            actor.block_list(),
            self.thread,
            at=clock.now(),
            line_numbers=actor.line_numbers(),
            archival=actor.holdings.passages,
        )

    async def _submit(self, cut: Cut, message: Message | None, rewrite: MessageRewrite) -> None:
        actor, thread = self.actor, self.thread
        moved = thread.window_until(thread.end_position)
        moved = replace(moved, from_position=cut.from_position, only_grows=False)
        if message is not None:
            moved = replace(moved, end_position=message.position + 1, summary_position=message.position)
        actor.commons.check_lease()
        try:
            await actor.commons.checkpoints.submit(
                Checkpoint(
                    id=clock.new_id("ckpt"),
                    agent_id=actor.agent.id,
                    fence=actor.agent.fence,
                    version=actor.version,
                    messages=() if message is None else (message,),
                    rewrites=(rewrite,),
                    windows=(moved,),
                )
            )
        except FencedError:
            actor.dead = True
            raise

    def _take(self, cut: Cut, message: Message | None) -> None:
        """Take the committed compaction into hot state. No await: nobody sees half of it."""
        self.actor.version += 1
        self.thread.append([] if message is None else [message])
        self.thread.evict(cut.from_position)

    def _message(self, cut: Cut, written: Summary, stats: CompactionStats) -> Message:
        actor, thread, now = self.actor, self.thread, clock.now()
        content = text_parts(summary.pack(written.text, hidden=cut.from_position - 1, at=now, stats=stats))
        return Message(
            id=clock.new_id("message"),
            organization_id=actor.agent.organization_id,
            agent_id=actor.agent.id,
            conversation_id=thread.id,
            position=thread.end_position,
            role="summary",
            content=content,
            created_at=now,
            run_id=self.run_id,
            tokens=tokens_of(content, actor.commons.counter.count),
        )

    def _stats(self, cut: Cut, written: Summary | None, *, system_tokens: int) -> CompactionStats:
        thread = self.thread
        held = 0 if thread.summary is None else thread.summary.tokens
        after = held if written is None else estimate(written.text) + ALERT_TOKENS
        after += self.fixed_tokens - thread.system_tokens + system_tokens + cut.tokens
        summaries = thread.summary is not None
        return CompactionStats(
            trigger=self.trigger,
            context_tokens_before=self.prompt_tokens,
            context_tokens_after=self.actor.calibration.apply(after),
            context_window=self.window_tokens,
            messages_count_before=1 + summaries + cut.rows,
            messages_count_after=1 + (summaries or written is not None) + cut.rows - cut.evicted,
        )

    def _tell(self, cut: Cut, done: Done) -> None:
        """Publish the compaction, in the run that it belongs to if there is one."""
        log.info(
            "window compacted",
            extra={"trigger": self.trigger, "evicted": cut.evicted, "summed_up": done.message is not None},
        )
        told = None if done.message is None else done.message.id
        events: list[Event] = [
            Compacted(self.run_id, clock.new_id("message"), clock.now(), done.stats, told, done.error)
        ]
        if self.run_id is None:
            pass  # who asked has the summary in the answer
        elif done.message is None:
            events.append(WindowMoved(self.run_id, cut.from_position, cut.evicted))
        else:
            events.append(MessageCommitted(self.run_id, done.message))
        events.append(measuring.measured(self.actor, self.thread, run_id=self.run_id))
        self.actor.commons.logs.channel(self.thread.id, self.actor.agent.id).publish(*events)


def _earliest(*positions: int | None) -> int | None:
    return min((position for position in positions if position is not None), default=None)


def ways(settings: CompactionSettings) -> list[tuple[bool, float]]:
    """Return the ways to try, in order: whether the agent itself sums up, and the share that leaves."""
    share = settings.sliding_window_percentage
    match settings.mode:
        case "sliding_window":
            return [(False, share)]
        case "all":
            return [(False, 1.0)]
        case "self_compact_sliding_window":
            return [(True, share), (False, share)]
        case "self_compact_all":
            return [(True, 1.0), (True, share), (False, 1.0)]
