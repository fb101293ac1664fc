"""Waits until this machine does nothing else, before figures are measured that are kept."""

import os
import time
from collections.abc import Callable

LOAD = 0.5  # a load average above this means that figures come out too high
MOST_S = 300.0  # the average is of a minute: what ended just now is in it for some
LOOK_S = 2.0


def wait(tell: Callable[[str], object], *, most_s: float = MOST_S) -> float:
    """Wait until the load average is at most `LOAD`, or so long; return what it is then.

    `tell` is given the words for that, once, where there is something to wait for.
    """
    until, told = time.monotonic() + most_s, False
    while (load := os.getloadavg()[0]) > LOAD and time.monotonic() < until:
        if not told:
            tell(f"load average {load:.1f}: waiting until it is {LOAD:g}, for {most_s:.0f} s at most")
            told = True
        time.sleep(min(LOOK_S, max(0.0, until - time.monotonic())))
    return load
