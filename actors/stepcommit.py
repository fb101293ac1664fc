"""Commits a step of an agent, and drafts it anew where others were faster."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from actors import clock
from actors.draft import Draft
from actors.thread import Thread
from storage.checkpoints import Checkpoint
from storage.errors import ConflictError, FencedError, LabelTakenError, StaleBlocksError

if TYPE_CHECKING:
    from actors.agent import Actor

CONFLICTS = 3  # that a step meets because something came or went at the moment of its commit


async def commit(actor: "Actor", thread: Thread, draft_of: Callable[[frozenset[str]], Draft]) -> Draft:
    """Commit a step and return its draft. The caller holds the actor's `commit_turn`.

    When another holder of a block was faster, the blocks are reloaded and the step is drafted
    again on them, so that a tool's result says what was really applied. So it is when a label was
    taken meanwhile; one that is refused again although this agent has no such block is taken on
    another holder of the block, and `draft_of` is told to refuse it.

    Raises:
        FencedError: A newer owner holds the agent; the actor is dead from here on.
        ConflictError: Rows that the step refers to came or went too often.
        DrainingError, UnavailableError: It is not known to be committed; the activation must end.
    """
    met: set[str] = set()
    refused: frozenset[str] = frozenset()
    conflicts = 0
    while True:
        draft = draft_of(refused)
        actor.commons.check_lease()
        checkpoint = _checkpoint(actor, thread, draft)
        try:
            await actor.commons.checkpoints.submit(checkpoint)
        except StaleBlocksError:
            await actor.reload_blocks()
            continue
        except LabelTakenError as error:
            await actor.reload_blocks()
            if error.label in met:
                refused |= {error.label}
            met.add(error.label)
            continue
        except ConflictError:
            conflicts += 1
            if conflicts > CONFLICTS:
                raise
            continue
        except FencedError:
            actor.dead = True
            raise
        actor.version += 1
        thread.keep(*checkpoint.windows)
        return draft


def _checkpoint(actor: "Actor", thread: Thread, draft: Draft) -> Checkpoint:
    end = draft.messages[-1].position + 1 if draft.messages else thread.end_position
    moved = draft.messages or thread.from_position != thread.conversation.from_position
    return Checkpoint(
        id=clock.new_id("ckpt"),
        agent_id=actor.agent.id,
        fence=actor.agent.fence,
        version=actor.version,
        messages=tuple(draft.messages),
        rewrites=tuple(draft.rewrites),
        blocks=draft.block_writes(),
        extras=draft.extras(),
        runs=tuple(draft.runs),
        steps=tuple(draft.steps),
        tool_calls=tuple(draft.tool_calls),
        inbox=tuple(draft.inbox),
        windows=(thread.window_until(end),) if moved else (),
        stop_reason=draft.stop_reason,
        duration_ms=draft.duration_ms,
    )
