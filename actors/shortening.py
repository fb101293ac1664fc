"""When a window is shortened: because it is full, because a provider says so, or because somebody asks."""

from typing import TYPE_CHECKING

from msgspec.structs import replace

from actors import clock, reading, summarise, summary
from actors.compaction import Compaction, Done, ways
from actors.errors import ModelError, NotShorterError
from actors.summary import CompactionSettings, CompactionStats
from actors.thread import Thread

if TYPE_CHECKING:
    from actors.agent import Actor
    from actors.turn import TurnRunner

FULL = "post_step_context_check"  # Letta's words for why: the window is full,
OVERFLOW = "context_window_exceeded"  # the provider said so,
ASKED = "manual"  # somebody asked for it
OVERFLOW_SHARES = (0.7, 0.5)  # of a prompt that a provider found too long may stay: once, and ever after


async def make_room(runner: "TurnRunner", overflows: int = 0) -> bool:
    """Shorten the window of a turn that is about to call its model, if it is full; say whether it moved.

    `overflows` counts how often the provider found the prompt too long already: it is shorter then,
    whatever we count.

    Raises:
        ModelError: The system prompt and the tools alone fill the window.
        FencedError, DrainingError, UnavailableError
    """
    compaction = _of_turn(runner, FULL if overflows == 0 else OVERFLOW)
    prompt_tokens, limit = compaction.prompt_tokens, compaction.limit_tokens
    if overflows:
        share = OVERFLOW_SHARES[min(overflows, len(OVERFLOW_SHARES)) - 1]
        limit = min(limit, int(prompt_tokens * share))
    if prompt_tokens <= limit:
        return False
    _check_system(compaction)
    interrupted = runner.watch.enter("compaction")
    done = await compaction.run(limit)
    runner.watch.enter(interrupted)
    if done is None:
        return False
    # The compaction stored a newer prompt than the turn meant to.
    runner.rewrites = [r for r in runner.rewrites if r.id != runner.thread.system_id]
    runner.usage += replace(done.usage, steps=0, context=0)
    return True


def _of_turn(runner: "TurnRunner", trigger: str) -> Compaction:
    assert runner.model is not None
    assert runner.step is not None
    return Compaction(
        actor=runner.actor,
        thread=runner.thread,
        model=runner.model,
        window_tokens=runner.window_tokens,
        settings=summary.settings_of(runner.actor.agent.settings.compaction_settings),
        trigger=trigger,
        key=f"{runner.step.id}.{runner.waiting.attempt}.summary",
        input_tokens=sum(m.tokens for m in runner.inputs),
        system=runner.system_override,
        keep_from=_unseen(runner),
        spare_from=runner.began_at,
        run_id=runner.run_id,
    )


def _unseen(runner: "TurnRunner") -> int | None:
    """Return where messages begin that the model has not been shown yet, so that they stay."""
    if runner.unproven:
        return min(m.position for m in runner.unproven)
    entries = runner.thread.entries
    return entries[-1].position if entries and not runner.inputs else None


def _check_system(compaction: Compaction) -> None:
    thread, actor = compaction.thread, compaction.actor
    tokens = actor.calibration.apply(thread.system_tokens + actor.toolbox.tokens)
    if tokens > compaction.window_tokens:
        raise ModelError(
            f"the system prompt and the tools take about {tokens} of {compaction.window_tokens} tokens: "
            "shorten the memory blocks or the system text, or choose a model with a larger window",
            kind="context_window_overflow_in_system_prompt",
            stop_reason="context_window_overflow_in_system_prompt",
        )


# --- on demand ----------------------------------------------------------------------------------


async def on_demand(actor: "Actor", thread: Thread, settings: CompactionSettings | None) -> Done:
    """Shorten a window because somebody asks for it, between two turns. `settings` win over the agent's.

    Where there is nothing to compact the summary in force is returned and nothing changes.

    Raises:
        NotShorterError: A summary would take the place of no more than itself; nothing was changed.
        ModelError: No model wrote a summary; nothing was changed.
        UnknownModelError, FencedError, DrainingError, UnavailableError
    """
    own = actor.agent.settings
    model = actor.commons.catalog.resolve(thread.conversation.model or own.model)
    compaction = Compaction(
        actor=actor,
        thread=thread,
        model=model,
        window_tokens=own.context_window_tokens or model.ref.context_window_tokens,
        settings=settings or summary.settings_of(own.compaction_settings),
        trigger=ASKED,
        key=clock.new_id("compaction"),
    )
    share = ways(compaction.settings)[0][1]
    limit = compaction.limit_tokens
    cut = compaction.cut(share=share, limit_tokens=limit, summary_tokens=0)
    if cut is None:
        return await _nothing_to_do(compaction)
    if cut.evicted <= (thread.summary is None):
        raise NotShorterError
    done = await compaction.attempt(limit)
    return await _nothing_to_do(compaction) if done is None else done


async def _nothing_to_do(compaction: Compaction) -> Done:
    thread, tokens = compaction.thread, compaction.prompt_tokens
    count = 1 + len({e.position for e in thread.view})
    stats = CompactionStats(
        trigger=compaction.trigger,
        context_tokens_before=tokens,
        context_tokens_after=tokens,
        context_window=compaction.window_tokens,
        messages_count_before=count,
        messages_count_after=count,
    )
    stored = await reading.stored_window(compaction.actor, thread)
    held = next((summarise.text_of(m) for m in stored if m.role == "summary"), "")
    return Done(stats=stats, text=summary.unpack(held)[0])
