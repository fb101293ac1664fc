"""The committed baselines of the guard, one for each class of machine, and what is allowed beside them."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import msgspec
from msgspec import Struct

FOLDER = Path(__file__).parent / "baselines"
LOSS = 0.2  # of the baseline: a ratio that is higher by more than this fails
NOISE = 0.1  # of the highest of the baseline's own rounds: what is not that far above it may be noise as well


class Pair(Struct, frozen=True):
    """CPU per piece of this server and of what it is compared with, taken at once or one after the other."""

    ours: float
    beside: float


class Baseline(Struct, frozen=True, kw_only=True):
    """What a class of machine measured. `rounds` are the ratios that `ratios` has the medians of.

    `own_servers` says that each of them was measured on servers that were started for it, as the guard does.
    """

    machine_class: str
    machine: dict[str, Any]
    recorded_at: str
    load_before: float
    own_servers: bool = False
    ratios: dict[str, float]
    rounds: dict[str, list[float]]


class Verdict(Struct, frozen=True):
    """What was measured for a key, once or again. Without a baseline nothing is asked.

    `highest` is the baseline's round that was highest: the same code measured that as well.
    """

    key: str
    baseline: float | None
    tries: tuple[float, ...]
    highest: float = 0.0

    @property
    def allowed(self) -> float | None:
        """The highest ratio that passes."""
        if self.baseline is None:
            return None
        return max(self.baseline * (1 + LOSS), self.highest * (1 + NOISE))

    @property
    def passed(self) -> bool:
        """Whether any try was within what is allowed: noise makes a ratio higher once, a loss each time."""
        return self.allowed is None or min(self.tries) <= self.allowed

    @property
    def improved(self) -> bool:
        """Whether it is so much better that the baseline should say so."""
        return self.baseline is not None and max(self.tries) * (1 + LOSS) < self.baseline


def ratio(pairs: Sequence[Pair]) -> float:
    """The geometric mean of the pairs' ratios without the highest and the lowest, which may be a disturbance.

    On a busy machine it spread less than the median of a dozen pairs. It is lower there, by up to a quarter:
    whatever else runs makes a piece dearer, and the one that costs less by more.
    """
    ratios = sorted(pair.ours / pair.beside for pair in pairs)
    return geometric_mean(ratios[1:-1] if len(ratios) > 2 else ratios)


def machine_class(cpuinfo: str, *, cores: int, architecture: str) -> str:
    """Name the machines that are compared with each other: maker of the CPU, cores, architecture.

    `cpuinfo` is /proc/cpuinfo, which names the maker as `vendor_id`, or on ARM as a number.
    """
    found = re.search(r"^(?:vendor_id|CPU implementer)\s*:\s*(\S+)", cpuinfo, re.MULTILINE)
    maker = re.sub(r"[^a-z0-9]+", "-", found[1].lower()) if found else "unknown"
    return f"{maker}-{cores}-{architecture.lower()}"


def read(folder: Path, name: str) -> Baseline | None:
    """The baseline of a class, or None where none was recorded."""
    try:
        recorded = (folder / f"{name}.json").read_bytes()
    except FileNotFoundError:
        return None
    return msgspec.json.decode(recorded, type=Baseline)


def write(folder: Path, baseline: Baseline) -> Path:
    """Record a baseline; return its file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{baseline.machine_class}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(baseline), indent=1) + b"\n")
    return path


def judge(baseline: Baseline, tries: Mapping[str, Sequence[float]]) -> list[Verdict]:
    """Set what was measured beside the baseline."""
    return [
        Verdict(key, baseline.ratios.get(key), tuple(values), max(baseline.rounds.get(key, ()), default=0.0))
        for key, values in tries.items()
    ]
