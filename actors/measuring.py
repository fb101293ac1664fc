"""Measures what fills the window of a live conversation, from hot memory alone."""

from typing import TYPE_CHECKING

from actors.breakdown import Breakdown, SystemTokens, breakdown_of, system_tokens
from actors.errors import UnknownModelError
from actors.events import WindowMeasured
from actors.thread import Thread

if TYPE_CHECKING:
    from actors.agent import Actor


def measured(actor: "Actor", thread: Thread, *, run_id: str | None) -> WindowMeasured:
    """Return how full the conversation's window is, `run_id` being the run that made it so.

    Counts the parts of the system message: for those who have just compiled and counted it, not for every
    message. The thread is loaded.
    """
    system = system_tokens(thread.system_text, actor.commons.counter.count)
    shown = len({entry.position for entry in thread.entries}) + (thread.summary is not None)
    return WindowMeasured(
        run_id,
        window_of(actor, thread) or 0,
        breakdown(actor, thread, system),
        messages=1 + shown,
        archival=actor.holdings.passages,
        recall=thread.end_position - 1,
    )


def breakdown(actor: "Actor", thread: Thread, system: SystemTokens) -> Breakdown:
    """Return how many tokens each part of the conversation's prompt takes; its system message is counted."""
    return breakdown_of(
        system,
        window=thread.tokens,
        summary=0 if thread.summary is None else thread.summary.tokens,
        functions=actor.toolbox.tokens,
    )


def window_of(actor: "Actor", thread: Thread) -> int | None:
    """Return the tokens that the conversation's model takes, or None where nobody offers that model."""
    settings = actor.agent.settings
    if settings.context_window_tokens is not None:
        return settings.context_window_tokens
    try:
        handle = thread.conversation.model or settings.model
        return actor.commons.catalog.resolve(handle).ref.context_window_tokens
    except UnknownModelError:  # its next turn says so
        return None
