"""What a measurement is: a case measures one target and names figures; rows say what is asked of them."""

import asyncio
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from msgspec import Struct

from bench.levels import Level
from bench.load import Outcome
from bench.provider import Provider

T = TypeVar("T")
Figures = Mapping[str, float]
Found = Figures | Sequence[Figures]  # of a run, or of each turn that it took
Suite = Literal["table", "load", "parts"]
Done = Callable[[float], None]  # is told of each piece of work that is done, and how large it was
Bar = Callable[[str, float], AbstractContextManager[Done]]

TICK_S = 0.25

WRITES = ("accept", "claim", "checkpoint")  # phases in which Postgres works
TO_FIRST_TOKEN = ("accept", "claim", "queue", "compaction", "prompt", "first token")
NO_PHASE = ()


class Row(Struct, frozen=True, kw_only=True):
    """One line of the table: which figure of its case it shows, and what is asked of it.

    `figure` is asked of this server on the machine where the relay had `relay`. A row passes when ours is
    at most `figure` times (relay now / `relay`), or at least that where `at_least`. Without `relay` the
    figure stands as it is; without `figure` the row only informs. `drifts` says whether the machine's
    speed bears on it: where it does not, as with memory, the figure stands beside the relay's, unscaled.
    Where no relay does what is measured, `limit` names the figure of the same run that no server could be
    below, or the least that was measured of its kind: it is shown in the relay's place. With `limit_then`,
    what that limit was where `figure` was asked, it scales the figure as the relay does. A row that is itself
    such a limit is a `reference`: it is shown there, and has nothing beside it.

    For where it fails: `within` names the phases of a message that the figure is spent in, all of them where
    it is None, and none of them where it is empty; `lever` says what would make it less, or more.
    """

    key: str
    title: str
    unit: str = ""
    figure: float | None = None
    relay: float | None = None
    at_least: bool = False
    drifts: bool = True
    limit: str | None = None
    limit_then: float | None = None
    reference: bool = False
    within: Sequence[str] | None = None
    lever: str = ""


class Effort(Struct, frozen=True):
    """How long to measure. `quick` is for a look, not for a verdict."""

    runs: int = 5
    quick: bool = False

    def of(self, full: int, quick: int) -> int:
        """Choose a count."""
        return quick if self.quick else full


class FirstTokens(Struct, frozen=True):
    """What a target added to first tokens.

    `added_ms` is the client's time from its request to the first piece of the answer, less the provider's
    from the request it got to the first piece it wrote: everything between the two, both ways. `back_ms`
    is only the way back, from written to seen.
    """

    added_ms: list[float]
    back_ms: list[float]


class Bench:
    """What the cases share: the provider, a directory, and what was prepared once for all runs.

    Cases of load append to `levels`. By `tell` a case says what it is at, by `bar` how far it is with what
    takes long. `notes` are for what could not be measured, in words.
    """

    def __init__(self, provider: Provider, home: Path, effort: Effort) -> None:
        self.provider = provider
        self.home = home
        self.effort = effort
        self.levels: list[Level] = []
        self.notes: list[str] = []
        self.tell: Callable[[str], None] = _unheard
        self.bar: Bar = unseen
        self._kept: dict[tuple[str, ...], Any] = {}

    def once(self, key: tuple[str, ...], make: Callable[[], T]) -> T:
        """Make something the first time, and return the same at each later run."""
        if key not in self._kept:
            self._kept[key] = make()
        return cast("T", self._kept[key])

    def keep(self, key: tuple[str, ...], value: object) -> None:
        """Leave a value for later runs."""
        self._kept[key] = value

    def wait(self, words: str, seconds: float) -> None:
        """Let so much time pass, and show it."""
        until, left = time.monotonic() + seconds, seconds
        with self.bar(words, seconds) as done:
            while left > 0:
                time.sleep(min(TICK_S, left))
                before, left = left, max(0.0, until - time.monotonic())
                done(before - left)

    def forget_requests(self) -> None:
        """Clear the provider's records before a measurement that reads them."""
        asyncio.run(self.provider.log())

    def first_tokens(self, outcome: Outcome) -> "FirstTokens":
        """Compare what the client saw with what the provider recorded, and clear the provider's records."""
        records = asyncio.run(self.provider.log())
        asked = {_number(record.user_text): record for record in records}
        added: list[float] = []
        back: list[float] = []
        for timing in outcome.timings:
            record = asked[timing.number]
            assert record.first_ns is not None, "an answered request has a first token"
            caused_ns = record.first_ns - record.arrived_ns
            added.append((timing.first_ns - timing.sent_ns - caused_ns) / 1e6)
            back.append((timing.first_ns - record.first_ns) / 1e6)
        return FirstTokens(added, back)


def turns(found: Found) -> list[Figures]:
    """The figures of each turn: one of them where there were none."""
    return [found] if isinstance(found, Mapping) else list(found)


def _unheard(_: object) -> None:
    pass


@contextmanager
def unseen(_words: str, _total: float) -> Generator[Done]:
    """Stand where nothing is shown."""
    yield _unheard


def _number(user_text: str) -> int:
    return int(user_text.split("#")[1])


class Case(Struct, frozen=True, kw_only=True):
    """A measurement and its rows. `on` names the targets it makes sense on; `most_runs` bounds its runs.

    What it measures is a `Target`; of the load suite also what `bench.loaded` has: floor and foreign servers.
    It returns figures, or those of each turn where it takes turns itself: rows have their median and spread.
    `run_s` is what one run is planned to take on each target, on two quiet cores, at full effort;
    `once_s` is for what is made before the first run.
    """

    name: str
    rows: tuple[Row, ...]
    measure: Callable[[Any, Bench], Found]
    on: tuple[str, ...] = ("relay", "ours")
    most_runs: int | None = None
    suite: Suite = "table"
    run_s: Mapping[str, float] = {}
    once_s: Mapping[str, float] = {}

    def runs(self, effort: Effort) -> int:
        """How many runs it gets."""
        return effort.runs if self.most_runs is None else min(effort.runs, self.most_runs)
