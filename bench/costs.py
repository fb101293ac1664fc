"""Fits the costs of the model of scaling to the figures of a bench JSON."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import msgspec
from msgspec import Struct

from bench.cases import paced, ws_tokens
from bench.scaling import Costs, Curve

# What the fit reads, by case.
NEEDED: Mapping[str, tuple[str, ...]] = {
    "idle": ("server", "postgres"),
    "step": ("p50_0", "server_0", "server_1000", "postgres_0", "postgres_1000"),
    "crowd": ("rate_32", "server_32", "postgres_32"),
    "tokens": ("cpu_32", "seen_32", "cpu_128", "seen_128"),
    "memory": ("warm", "agent"),
    "ws_tokens": ("cpu_1", "cpu_200"),
    "ws_memory": ("connection", "opened"),
    "paced": (
        *("rate_10", "server_10", "postgres_10"),
        *("rate_80", "server_80", "postgres_80"),
        *("tokens", "token", "frame"),
    ),
}
# What else would be divided by.
ABOVE_NOTHING = ("p50_0", "rate_32", "seen_32", "seen_128", "opened", "rate_10", "rate_80", "tokens")
TOKENS_PER_SECOND = 50.0  # of a stream in the case `tokens`
HISTORY = 1000  # of the step that has one
WATCHERS = 200  # of the stream that has many
COMMAND = f"python -m bench --targets ours {' '.join(f'--only {case}' for case in NEEDED)}"  # measures them

Medians = Mapping[tuple[str, str], float]  # by case and key


class FitError(Exception):
    """The JSON lacks figures; the message names them and says how to measure them."""


class Settings(Struct, frozen=True):
    """How it was measured, as far as it is read."""

    quick: bool = False


class Measured(Struct, frozen=True):
    """A bench JSON, as far as it is read."""

    machine: dict[str, Any]
    started_at: str
    figures: dict[str, dict[str, list[dict[str, float | None]]]]
    settings: Settings = Settings()
    load_before: float = 0.0


def read(report: bytes) -> Measured:
    """Read what `python -m bench` has written.

    Raises:
        FitError: It is no such report.
    """
    try:
        return msgspec.json.decode(report, type=Measured)
    except msgspec.DecodeError as error:
        raise FitError(f"this is no JSON of `python -m bench`: {error}") from None


def lacks(measured: Measured, target: str = "ours") -> list[str]:
    """The cases of which figures are missing, or nothing where something must have been."""

    def there(case: str, key: str) -> bool:
        values = _values(measured.figures.get(case, {}).get(target, []), key)
        return bool(values) and (key not in ABOVE_NOTHING or median(values) > 0)

    return [case for case, keys in NEEDED.items() if not all(there(case, key) for key in keys)]


def fit(measured: Measured, target: str = "ours") -> Costs:
    """Take the medians of the runs, and make the model's costs of them.

    Raises:
        FitError: Figures are missing.
    """
    if missing := lacks(measured, target):
        raise FitError(f"figures of {', '.join(missing)} are missing; `{COMMAND}` measures what is needed")
    of = {
        (case, key): median(_values(measured.figures[case][target], key))
        for case, keys in NEEDED.items()
        for key in keys
    }
    first, many = of["ws_tokens", "cpu_1"], of["ws_tokens", "cpu_200"]
    further = max(0.0, (WATCHERS * many - first) / (WATCHERS - 1))
    return Costs(
        message=_messages(of, "server"),
        postgres_message=_messages(of, "postgres"),
        token=_tokens(of),
        frame_first=curve(
            # What the second watcher of a paced frame costs beyond `further` is counted with the first.
            (of["paced", "tokens"], _cost(paced.WATCHERS * of["paced", "frame"] - further, 1e6)),
            (ws_tokens.STREAMS / ws_tokens.GAP_S, _cost(first, 1e6)),
        ),
        frame_further=further / 1e6,
        history_message=max(0.0, of["step", "server_1000"] - of["step", "server_0"]) / HISTORY / 1e3,
        postgres_history_message=max(0.0, of["step", "postgres_1000"] - of["step", "postgres_0"])
        / HISTORY
        / 1e3,
        idle=of["idle", "server"] / 1e3,
        postgres_idle=of["idle", "postgres"] / 1e3,
        memory_bytes=of["memory", "warm"] * (1 << 20),
        agent_bytes=of["memory", "agent"] * 1024,
        connection_bytes=of["ws_memory", "connection"] * 1024,
        answer_seconds=of["step", "p50_0"] / 1e3,
        connections_per_second=of["ws_memory", "opened"],
    )


def _messages(of: Medians, whose: str) -> Curve:
    """Messages that come with pauses, one at a time without, and many at once.

    What a second of rest takes is within the first of these, and in a plan by itself; so it is taken off.
    """
    idle = of["idle", whose]
    with_pauses = [
        (rate, _cost(of["paced", f"{whose}_{asked}"] - idle / rate, 1e3))
        for asked in paced.MESSAGES_S
        for rate in [of["paced", f"rate_{asked}"]]
    ]
    alone = (1000 / of["step", "p50_0"], _cost(of["step", f"{whose}_0"], 1e3))
    return curve(*with_pauses, alone, (of["crowd", "rate_32"], _cost(of["crowd", f"{whose}_32"], 1e3)))


def _tokens(of: Medians) -> Curve:
    """Tokens of a few streams and of many."""
    rate = of["paced", "tokens"]
    few = (rate, _cost(of["paced", "token"] - of["idle", "server"] * 1e3 / rate, 1e6))
    many = [
        (streams * TOKENS_PER_SECOND * seen, of["tokens", f"cpu_{streams}"] / seen / 1e6)
        for streams in (32, 128)
        # Where the machine did not keep the pace, fewer came than the case divides by.
        for seen in [min(1.0, of["tokens", f"seen_{streams}"])]
    ]
    return curve(few, *many)


def _cost(figure: float, of_a_second: float) -> float:
    """In seconds. A difference that noise has below zero is nothing."""
    return max(0.0, figure / of_a_second)


def curve(*points: tuple[float, float]) -> Curve:
    """Make a curve of (pieces per second, CPU seconds per piece).

    Where the noise of the measurement has it otherwise, a piece is taken to cost no more at a higher rate
    than at a lower one, and all pieces together no less: costs are raised to that, never lowered.
    """
    rising = sorted(points)
    costs = [max(cost for _, cost in rising[at:]) for at in range(len(rising))]
    totals: list[tuple[float, float]] = []
    for (rate, _), cost in zip(rising, costs, strict=True):
        total = rate * cost
        totals.append((rate, max(total, totals[-1][1]) if totals else total))
    return Curve(tuple(totals))


def _values(runs: Sequence[Mapping[str, float | None]], key: str) -> list[float]:
    return [value for run in runs if (value := run.get(key)) is not None]
