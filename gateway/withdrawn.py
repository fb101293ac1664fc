"""Answers that were withdrawn because their message was answered anew: what a thread shows no more. Pure."""

from collections.abc import Sequence

from storage.records import Message

_SAID = ("assistant", "approval", "tool")  # what answers are made of


def withdrawn(messages: Sequence[Message]) -> frozenset[str]:
    """Return the ids of those messages that a later answer to the same message took the place of.

    `messages` are oldest first. Withdrawn ones are excluded and stand before what another run said to the
    same message of the user. What models are not shown for another reason, or was withdrawn by a run that
    then said nothing, is none of them: there is nothing in its place.
    """
    found: set[str] = set()
    last: str | None = None  # the run that answered last
    for message in reversed(messages):
        if message.role == "user":
            last = None
        if message.role not in _SAID:
            continue
        if not message.excluded:
            last = last or message.run_id
        elif last not in (None, message.run_id):
            found.add(message.id)
    return frozenset(found)
