"""Says from memory how a conversation stands for a client that may say again what it said.

Its actor writes every message of it, so an actor that is alive knows what was heard as well as the database
does, once it has read it: a message to it costs no read. That holds while the conversation is at rest. While
a command of it is being accepted, waits or runs, or may have been accepted without an answer, the database
is asked, and so it is where somebody outside has to answer first.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from actors.heard import Heard
from storage import standing as stored
from storage.pool import connection
from storage.standing import RECENT, Standing

if TYPE_CHECKING:
    from actors.population import Population
    from actors.thread import Thread


async def standing(
    population: "Population", agent_id: str, conversation_id: str, *, otids: Sequence[str]
) -> Standing | None:
    """Return how a conversation stands, None where memory does not tell.

    Keys are not in memory: `run_id` is None. What is done on it is a command whose acceptance looks at the
    key, and at the lease. The first question to a conversation costs the read of its latest otids.

    Raises:
        UnavailableError: The database did not answer that.
    """
    thread = _at_rest(population, agent_id, conversation_id)
    if thread is None or not otids:
        return None
    if thread.heard is None:
        end = thread.end_position
        async with connection(population.commons.pool) as conn:
            runs = await stored.heard(conn, conversation_id, since=end - RECENT)
        if _at_rest(population, agent_id, conversation_id) is not thread or thread.end_position != end:
            return None
        thread.heard = Heard(runs)
    return Standing(
        conversation=thread.conversation, heard=thread.heard.among(otids), run_id=None, waits=False
    )


def _at_rest(population: "Population", agent_id: str, conversation_id: str) -> "Thread | None":
    """Return a conversation of a live agent in which all that was accepted is over and in memory."""
    actor = population.hot.get(agent_id)
    thread = None if actor is None or actor.dead else actor.threads.get(conversation_id)
    if thread is None or thread.pending is not None:
        return None
    return thread if population.commons.load.at_rest(conversation_id) else None
