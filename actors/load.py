"""Counts what is accepted and not finished, and refuses what would pass the bounds."""

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager

from actors import clock
from actors.errors import MailboxFullError

RETRY_AFTER = 1.0  # seconds; a step takes about as long
ANSWERS_PER_AGENT = 16  # beyond the bounds, for answers alone: what waits behind a request ends by its answer
ANSWERS_IN_ALL = 1000
# Seconds in which a command whose acceptance was not answered is in the inbox and found there, if it ever is:
# above the time that a statement may take, and that between two looks for what no wake-up told of.
LANDED = 30.0


class Load:
    """Unfinished commands per agent, per conversation and in all. Counted before acceptance commits."""

    def __init__(self, *, per_agent: int, in_all: int) -> None:
        self._per_agent = per_agent
        self._in_all = in_all
        self._agents: Counter[str] = Counter()
        self._conversations: Counter[str] = Counter()
        self._runs: dict[str, tuple[str, str]] = {}
        self._hearing: dict[int, set[str]] = {}
        self._cancelled: set[str] = set()
        self._doubtful_until = 0.0
        self.total = 0

    def reserve(self, agent_id: str, conversation_id: str) -> None:
        """Count one more command.

        Raises:
            MailboxFullError: The agent or the server has too many already.
        """
        self._reserve(agent_id, conversation_id, per_agent=self._per_agent, in_all=self._in_all)

    def reserve_answer(self, agent_id: str, conversation_id: str) -> None:
        """Count one more command, which answers what its conversation waits for: a full mailbox takes it.

        Raises:
            MailboxFullError: There are too many answers as well.
        """
        per_agent, in_all = self._per_agent + ANSWERS_PER_AGENT, self._in_all + ANSWERS_IN_ALL
        self._reserve(agent_id, conversation_id, per_agent=per_agent, in_all=in_all)

    def _reserve(self, agent_id: str, conversation_id: str, *, per_agent: int, in_all: int) -> None:
        if self.count(agent_id) >= per_agent:
            raise MailboxFullError("agent", per_agent, RETRY_AFTER)
        if self.total >= in_all:
            raise MailboxFullError("server", in_all, RETRY_AFTER)
        self.restore(agent_id, conversation_id)

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

    def lost(self) -> None:
        """Note that an acceptance was not answered: what it accepts may be found later, uncounted."""
        self._doubtful_until = clock.monotonic() + LANDED

    def at_rest(self, conversation_id: str) -> bool:
        """Say whether whatever was accepted in a conversation is over for certain."""
        return conversation_id not in self._conversations and clock.monotonic() >= self._doubtful_until

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
        self._cancelled.discard(run_id)
        if (where := self._runs.pop(run_id, None)) is not None:
            self.give_back(*where)

    def cancel(self, run_id: str) -> None:
        """Note that an unfinished run was cancelled: whatever happens to its turn, the next one ends it."""
        if run_id in self._runs:
            self._cancelled.add(run_id)

    def cancelled(self, run_id: str) -> bool:
        """Say whether this run was cancelled and is not over."""
        return run_id in self._cancelled

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
