"""Rebuilds a conversation's system prompt when memory has changed since it was compiled."""

from datetime import datetime
from typing import TYPE_CHECKING

from actors import prompt
from actors.thread import Thread, compile_for, text_parts
from storage.checkpoints import MessageRewrite

if TYPE_CHECKING:
    from actors.agent import Actor


def renewed(actor: "Actor", thread: Thread, now: datetime) -> list[MessageRewrite]:
    """Let models see memory as it is now; return what is to be stored of that, if the prompt changed."""
    if thread.compiled_for == actor.memory_version:
        return []
    blocks, numbered = actor.block_list(), actor.line_numbers()
    archival = actor.holdings.passages if thread.compiled_for < 0 else None
    rewrites: list[MessageRewrite] = []
    if not prompt.same_memory(
        thread.system_text, actor.agent, blocks, line_numbers=numbered, archival=archival
    ):
        text = compile_for(
            actor.agent, blocks, thread, at=now, line_numbers=numbered, archival=actor.holdings.passages
        )
        tokens = actor.commons.counter.count(text)
        thread.set_system(thread.system_id, text, tokens)
        rewrites.append(MessageRewrite(id=thread.system_id, content=text_parts(text), tokens=tokens))
    thread.compiled_for = actor.memory_version
    return rewrites
