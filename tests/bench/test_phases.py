"""Where the time of a case's messages went, read from a server."""

from datetime import timedelta
from itertools import pairwise

import pytest

from bench import load, phases, targets
from bench.case import Bench
from bench.load import Job, Slot
from bench.targets import Wakeful


@pytest.mark.timeout(120)
def test_the_phases_of_the_messages_since_then_are_split(ready: tuple[Wakeful, Bench]) -> None:
    target, _ = ready
    (agent,) = targets.create_agents(target, 1, "fixed-t5-d40-g10")
    since = phases.now()
    assert phases.split(target, since) == {}
    targets.check(load.run(Job(port=target.port, slots=[Slot([target.message(agent)] * 5)])))
    split = phases.split(target, since)
    assert split["runs"] == 5
    assert split["first token"] >= 30
    assert split["stream"] >= 30
    # While a message is accepted its request is on its way: sending it is a part of that, or hardly anything.
    assert {"accept", "queue", "prompt", "checkpoint", "delivery"} <= split.keys()
    assert split.get("request sent", 0.0) < split["first token"]
    assert len(phases.timed(target, since, sample=2)) == 2
    (fast,) = targets.create_agents(target, 1)
    since = phases.now()
    targets.check(load.run(Job(port=target.port, slots=[Slot([target.message(fast)])])))
    assert phases.split(target, since)["delivery"] > 0, "also of an answer that came at once"
    assert phases.split(target, since + timedelta(hours=1)) == {}


def test_a_sample_is_spread_evenly_and_has_no_run_twice() -> None:
    runs = [phases.Made("agent", str(number)) for number in range(100)]
    chosen = [int(run.id) for run in phases._spread(runs, 7)]
    assert len(set(chosen)) == 7
    assert max(b - a for a, b in pairwise(chosen)) <= 15
    assert phases._spread(runs[:3], 7) == runs[:3]
