"""Judges one level of load: what was seen, less what the provider caused, as distributions."""

import asyncio
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Literal

from msgspec import Struct

from bench import generator
from bench.generator import Given, Order, Said
from bench.histogram import Latency, latency
from bench.provider import Provider
from bench.recording import Record

LATE_MS = 5.0  # of the generator, at p99, above which the figures are marked: that much may be its own
ERRORS_AT_MOST = 0.01
COLLAPSED_MS = 1000.0  # of first-token overhead, p99
COLLAPSED = 0.5  # of the most messages a second at a lower level: more at once only makes it slower

_MARK = re.compile(r"#(\d{10})#")
_NAMES = re.compile(r"[0-9a-f]{4,}(?:-[0-9a-f]{4,})+|\d{5,}")


class Level(Struct, frozen=True, kw_only=True):
    """What one door gave at one level of load.

    `level` is what the case varies: messages at once, or the length of the history. `asked` is the rate of
    the open loop. `rate` counts whole answers: in the open loop by second of sending, in the closed one by
    second of whole rounds; it is None where not one round was answered in time. Distributions: `first` text
    and `whole` answer are from when the message was meant to be sent; `first_added`, `whole_added` and
    `gap_added` are without what the provider caused, absent where the server asked a model of its own. A gap
    is between two words; one that comes earlier than its pace adds nothing. `lateness` is the generator's
    own.
    """

    case: str
    target: str
    level: int
    loop: Literal["open", "closed"]
    asked: float | None
    rate: float | None
    sent: int
    failed: int
    failures: dict[str, int]
    late: bool
    cpu_s: float
    lateness: Latency | None
    first: Latency | None
    whole: Latency | None
    gap: Latency | None
    first_added: Latency | None
    whole_added: Latency | None
    gap_added: Latency | None

    @property
    def error_rate(self) -> float:
        """Of the messages that were meant to be sent, how many have no whole answer."""
        return self.failed / max(1, self.sent)

    @property
    def collapsed(self) -> bool:
        """Whether a higher level would tell nothing more."""
        return bool(self.why_collapsed)

    @property
    def why_collapsed(self) -> str:
        """What of it says so, empty where nothing does. A closed loop collapses by its rate, not by this."""
        first = self.first_added or self.first
        if self.error_rate >= ERRORS_AT_MOST:
            return f"{self.error_rate:.1%} failed"
        if self.loop == "open" and first is not None and first.p99 > COLLAPSED_MS:
            return f"the first token came more than {COLLAPSED_MS / 1000:g} s late at p99"
        return "" if self.whole is not None else "no message was answered"


def measure(order: Order, provider: Provider, *, case: str, level: int) -> Level:
    """Carry out an order and judge it. The provider's records are cleared."""
    asyncio.run(provider.log())
    given = generator.run(order)
    records = asyncio.run(provider.log())
    return judge(order, given, by_number(records), case=case, level=level)


def unanswered(measured: Iterable[Level]) -> list[str]:
    """Say of which targets no message was answered in a case, at any level, and how the first failed."""
    by_target: dict[tuple[str, str], list[Level]] = {}
    for level in measured:
        by_target.setdefault((level.case, level.target), []).append(level)
    return [
        f"{case} on {target}: no message was answered: {next(iter(found[0].failures), 'none was sent')}"
        for (case, target), found in by_target.items()
        if not any(level.whole for level in found)
    ]


def by_number(records: Iterable[Record]) -> dict[int, Record]:
    """The first request that the provider got for each message, by the number in its text."""
    found: dict[int, Record] = {}
    for record in records:
        if marks := _MARK.findall(record.user_text):
            found.setdefault(int(marks[-1]), record)
    return found


def judge(order: Order, given: Given, records: Mapping[int, Record], *, case: str, level: int) -> Level:
    """Return the level of what was given. Only whole answers are timed; the others are counted as failed."""
    good = [said for said in given.said if not said.failure]
    known = [(said, records[said.number]) for said in good if said.number in records]
    ours = [(said, record) for said, record in known if record.first_ns and record.ended_ns]
    lateness = latency(said.sent_ns - said.meant_ns for said in given.said if said.sent_ns)
    stream = order.door.way == "stream"
    return Level(
        case=case,
        target=order.door.name,
        level=level,
        loop="closed" if order.open_loop is None else "open",
        asked=None if order.open_loop is None else order.open_loop.rate,
        rate=_rate(order, given, good),
        sent=len(given.said),
        failed=len(given.said) - len(good),
        failures=_failures(given.said),
        late=order.open_loop is not None and lateness is not None and lateness.p99 > LATE_MS,
        cpu_s=given.cpu_s,
        lateness=lateness if order.open_loop else None,
        first=latency(said.first_ns - said.meant_ns for said in good) if stream else None,
        whole=latency(said.ended_ns - said.meant_ns for said in good),
        gap=latency(gap for said in good for gap in _gaps(said.words_ns)) if stream else None,
        first_added=latency(_first_added(*pair) for pair in ours) if stream else None,
        whole_added=latency(_whole_added(*pair) for pair in ours),
        gap_added=latency(gap for pair in ours for gap in _gaps_added(*pair)) if stream else None,
    )


def _rate(order: Order, given: Given, good: Sequence[Said]) -> float | None:
    """Whole answers a second."""
    if order.open_loop is not None:
        return len(good) / (order.open_loop.seconds - order.warm_s)
    if given.window_ns is None:
        return None
    from_ns, until_ns = given.window_ns
    return sum(from_ns < said.ended_ns <= until_ns for said in good) / (until_ns - from_ns) * 1e9


def _failures(said: Iterable[Said]) -> dict[str, int]:
    """How many failed by reason: what names a single message, a number or an id, is none."""
    return dict(Counter(_NAMES.sub("…", one.failure) for one in said if one.failure))


def _first_added(said: Said, record: Record) -> float:
    assert record.first_ns is not None
    return said.first_ns - said.meant_ns - (record.first_ns - record.arrived_ns)


def _whole_added(said: Said, record: Record) -> float:
    assert record.ended_ns is not None
    return said.ended_ns - said.meant_ns - (record.ended_ns - record.arrived_ns)


def _gaps(times_ns: Sequence[int]) -> list[int]:
    return [after - before for before, after in pairwise(times_ns)]


def _gaps_added(said: Said, record: Record) -> list[int]:
    """What was added to each gap. The provider's words and those seen are the same, in order."""
    seen, wrote = _gaps(said.words_ns), _gaps(record.wrote_ns)
    return [max(0, was - caused) for was, caused in zip(seen, wrote, strict=False)]
