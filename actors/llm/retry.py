"""When a failed model call is repeated: the schedule alone, without waiting."""

import random
from collections.abc import Callable

from actors.errors import ModelError

RETRIES = 3
FIRST_DELAY = 0.5
GROWTH = 2.0
LONGEST_DELAY = 8.0
LONGEST_RETRY_AFTER = 30.0
JITTER = 0.25


def delay(attempt: int, error: ModelError, *, jitter: Callable[[], float] = random.random) -> float | None:
    """Return the seconds to wait before the next attempt, or `None` to give up.

    `attempt` counts the attempts so far, the failed one included. A repetition is safe only while
    nothing of the attempt was shown to anyone: that is the caller's to know. The provider's own
    Retry-After is a lower bound; jitter is added so that callers refused together do not return
    together. At most 3 repetitions, each after at most 37.5 s.
    """
    if not error.retryable or attempt > RETRIES:
        return None
    backoff = min(FIRST_DELAY * GROWTH ** (attempt - 1), LONGEST_DELAY)
    wait = max(backoff, min(error.retry_after or 0.0, LONGEST_RETRY_AFTER))
    return wait * (1 + JITTER * jitter())
