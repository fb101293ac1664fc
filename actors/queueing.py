"""What is said of a conversation's queue: who waits in it, at which place, and who left it.

It is logged only while a run runs, so that what a log says of a run begins with its `RunStarted`; what is
to be said before that only the agent's watchers hear, and the next run says the rest at its beginning.
"""

from typing import TYPE_CHECKING, Literal

from actors.events import Event, QueueChanged

if TYPE_CHECKING:
    from actors.agent import Actor
    from actors.thread import Thread


def waiting(thread: "Thread") -> list[Event]:
    """Return an event for each command that waits here and was not told of yet, the next one first."""
    steering = len(thread.steering)
    queued = steering + len(thread.mailbox)
    told: list[Event] = []
    for place, command in enumerate((*thread.steering, *thread.mailbox), 1):
        if command.run_id in thread.announced:
            continue
        thread.announced.add(command.run_id)
        change = "steered" if place <= steering else "queued"
        told.append(QueueChanged(command.run_id, thread.id, change, place, queued))
    return told


def left(thread: "Thread", run_id: str, change: Literal["started", "withdrawn"]) -> list[Event]:
    """Return the event that a command which was told of waits no longer; none for any other."""
    if run_id not in thread.announced:
        return []
    thread.announced.discard(run_id)
    return [QueueChanged(run_id, thread.id, change, 0, len(thread.steering) + len(thread.mailbox))]


def arrived(actor: "Actor", thread: "Thread") -> None:
    """Tell of commands that have to wait; one that may begin at once does not wait."""
    turn = thread.turn
    if turn is not None and not turn.finished:
        turn.channel.publish(*waiting(thread))
    elif thread.pending is not None or actor.commons.run_slots.locked():
        actor.commons.logs.tell(actor.agent.id, *waiting(thread))
