"""Accounts a stretch of a load: what a server and its database took for so many messages."""

import time

from msgspec import Struct

from bench import targets
from bench.load import Job, Loading
from bench.targets import Target


class Stretch(Struct, frozen=True):
    """A part of a load: messages that ended in these `seconds`, and CPU seconds of server and database."""

    seconds: float
    messages: int
    server: float
    postgres: float


def account(target: Target, job: Job, *, after: float, seconds: float) -> Stretch:
    """Put a load on the target, and account a stretch of it that begins so many seconds after it began."""
    loading = Loading(job)
    time.sleep(after)
    began_ns = time.monotonic_ns()
    with targets.spending(target) as spent:
        time.sleep(seconds)
    ended_ns = time.monotonic_ns()
    outcome = loading.finish()
    targets.check(outcome)
    messages = outcome.ended_within(began_ns, ended_ns)
    return Stretch((ended_ns - began_ns) / 1e9, messages, spent.server, spent.postgres)
