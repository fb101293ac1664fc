"""A stretch of a load."""

import pytest

from bench import stretch, targets
from bench.case import Bench
from bench.load import Job, Slot
from bench.targets import Wakeful


@pytest.mark.timeout(120)
def test_what_a_load_took_is_accounted_for_the_messages_that_ended_meanwhile(
    ready: tuple[Wakeful, Bench],
) -> None:
    target, _ = ready
    agents = targets.create_agents(target, 2)
    slots = [Slot([target.message(agent)]) for agent in agents]
    found = stretch.account(target, Job(port=target.port, slots=slots, seconds=4), after=1, seconds=2)
    assert found.seconds >= 2
    assert found.messages > 2
    assert min(found.server, found.postgres) > 0
