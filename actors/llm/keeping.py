"""Keeps what was made of small inputs; of large ones, which clients may bring, it is made each time. Pure."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar

MOST = 256
LARGEST_BYTES = 64 * 1024  # of one input; `MOST` of them come to 16 MiB

P = ParamSpec("P")
R = TypeVar("R")


def kept(make: Callable[P, R]) -> Callable[P, R]:
    """Return `make`, which must be pure, so that its last results for small `bytes` are not made twice."""
    known = lru_cache(maxsize=MOST)(make)

    @wraps(make)
    def made(*args: P.args, **named: P.kwargs) -> R:
        size_bytes = sum(len(given) for given in args if isinstance(given, bytes))
        return make(*args, **named) if size_bytes > LARGEST_BYTES else known(*args, **named)

    return made
