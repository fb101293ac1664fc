"""Counts what is accepted and not finished, and refuses what would pass the bounds."""

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager

from actors.errors import MailboxFullError

RETRY_AFTER = 1.0  # seconds; a step takes about as long


class Load:
    """Unfinished commands per agent, per conversation and in all. Counted before acceptance commits."""

    def __init__(self, *, per_agent: int, in_all: int) -> None:
        self._per_agent = per_agent
        self._in_all = in_all
        self._agents: Counter[str] = Counter()
        self._conversations: Counter[str] = Counter()
        self._runs: dict[str, tuple[str, str]] = {}
        self._hearing: dict[int, set[str]] = {}
        self.total = 0

    def reserve(self, agent_id: str, conversation_id: str) -> None:
        """Count one more command.

        Raises:
            MailboxFullError: The agent or the server has too many already.
        """
        if self._agents[agent_id] >= self._per_agent:
            raise MailboxFullError("agent", self._per_agent, RETRY_AFTER)
        if self.total >= self._in_all:
            raise MailboxFullError("server", self._in_all, RETRY_AFTER)
        self._agents[agent_id] += 1
        self._conversations[conversation_id] += 1
        self.total += 1

    def restore(self, agent_id: str, conversation_id: str) -> None:
        """Count a command that was accepted before this process began. Nothing refuses it."""
        self._agents[agent_id] += 1
        self._conversations[conversation_id] += 1
        self.total += 1

    def give_back(self, agent_id: str, conversation_id: str) -> None:
        """Take one command off the counts: it was refused, was a repeat, or is over."""
        self.total -= 1
        for counter, key in ((self._agents, agent_id), (self._conversations, conversation_id)):
            counter[key] -= 1
            if counter[key] <= 0:
                del counter[key]

    def waiting(self, conversation_id: str) -> int:
        """Return how many commands of a conversation are unfinished, reserved ones included."""
        return self._conversations.get(conversation_id, 0)

    def count(self, agent_id: str) -> int:
        """Return how many commands of an agent are unfinished, reserved ones included."""
        return self._agents.get(agent_id, 0)

    def hold(self, run_id: str, agent_id: str, conversation_id: str) -> None:
        """Tie a counted command to its run, so that `finish` finds it."""
        self._runs[run_id] = (agent_id, conversation_id)

    def held(self, run_id: str) -> bool:
        """Say whether this run is counted as unfinished."""
        return run_id in self._runs

    @contextmanager
    def ends(self) -> Generator[set[str]]:
        """Collect the runs that finish while somebody reads, or waits to hear, that they are unfinished.

        By the time the database's answer is here such a run may be over and no longer held: whoever
        began it on that answer would begin it again.
        """
        heard: set[str] = set()
        self._hearing[id(heard)] = heard
        try:
            yield heard
        finally:
            del self._hearing[id(heard)]

    def finish(self, run_id: str) -> None:
        """Take a run off the counts. A run that is not counted is no error: it is over already."""
        for heard in self._hearing.values():
            heard.add(run_id)
        if (where := self._runs.pop(run_id, None)) is not None:
            self.give_back(*where)

    def where(self, run_id: str) -> tuple[str, str] | None:
        """Return (agent, conversation) of an unfinished run."""
        return self._runs.get(run_id)

    def runs_of(self, agent_id: str, conversation_id: str | None = None) -> list[str]:
        """Return the unfinished runs of an agent, or of one of its conversations, oldest first."""
        return [
            run
            for run, (agent, conversation) in self._runs.items()
            if agent == agent_id and conversation_id in (None, conversation)
        ]
