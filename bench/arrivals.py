"""When the requests of an open loop are meant to be sent: at a constant pace, or as Poisson has it. Pure."""

import random
from typing import Literal

from msgspec import Struct


class Arrivals(Struct, frozen=True, kw_only=True):
    """So many requests a second for so long. `seed` makes Poisson arrivals the same at every run."""

    rate: float
    seconds: float
    kind: Literal["constant", "poisson"] = "poisson"
    seed: int = 1


def times(arrivals: Arrivals) -> list[float]:
    """Seconds after the start at which each request is meant to be sent, in order, all below `seconds`.

    There is always one, at the start. Constant arrivals are `1 / rate` apart; those of Poisson are as many
    on average, and come in bunches, as requests of people who know nothing of each other do.
    """
    if arrivals.kind == "constant":
        count = max(1, round(arrivals.rate * arrivals.seconds))
        return [index / arrivals.rate for index in range(count)]
    draw = random.Random(arrivals.seed)
    found, at = [0.0], draw.expovariate(arrivals.rate)
    while at < arrivals.seconds:
        found.append(at)
        at += draw.expovariate(arrivals.rate)
    return found
