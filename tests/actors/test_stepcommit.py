"""A step is drafted anew where others were faster, and given up where that does not help."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from actors import stepcommit
from actors.agent import Actor
from actors.draft import Draft
from actors.memory_edits import Birth
from storage.checkpoints import Checkpoint
from storage.errors import ConflictError, FencedError, LabelTakenError, StaleBlocksError
from storage.records import Block
from tests.actors.test_thread import loaded


class Steps:
    """An actor whose commits end as they are told to; the last one of them is committed."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.submitted: list[Checkpoint] = []
        self.refused: list[frozenset[str]] = []
        self.reloads = 0
        self.version, self.dead, self.blocks = 7, False, dict[str, Block]()
        self.agent = SimpleNamespace(id="agent-1", fence=3)
        self.commons = SimpleNamespace(
            check_lease=lambda: None, checkpoints=SimpleNamespace(submit=self.submit)
        )

    async def submit(self, checkpoint: Checkpoint) -> None:
        self.submitted.append(checkpoint)
        if self.errors:
            raise self.errors.pop(0)

    async def reload_blocks(self) -> None:
        self.reloads += 1

    def draft(self, refused: frozenset[str]) -> Draft:
        self.refused.append(refused)
        return Draft(self.blocks, Birth(cast("Any", None), refused))


def commit(steps: Steps) -> None:
    asyncio.run(stepcommit.commit(cast("Actor", steps), loaded(), steps.draft))


def test_a_step_is_committed_under_the_fence_and_version_that_the_actor_has() -> None:
    steps = Steps()
    commit(steps)
    (made,) = steps.submitted
    assert (made.agent_id, made.fence, made.version) == ("agent-1", 3, 7)
    assert steps.version == 8


def test_a_step_that_lost_a_race_for_a_block_is_drafted_on_the_reloaded_ones() -> None:
    steps = Steps(StaleBlocksError("agent-1", ("block-1",)), StaleBlocksError("agent-1", ("block-1",)))
    commit(steps)
    assert (steps.reloads, len(steps.refused), steps.version) == (2, 3, 8)
    assert len({made.id for made in steps.submitted}) == 3


def test_a_label_that_is_taken_twice_is_refused() -> None:
    taken = [LabelTakenError("label") for _ in range(2)]
    steps = Steps(*taken)
    commit(steps)
    assert steps.refused == [frozenset(), frozenset(), frozenset({"label"})]


def test_a_step_whose_rows_come_and_go_too_often_is_given_up() -> None:
    steps = Steps(*[ConflictError("gone") for _ in range(stepcommit.CONFLICTS + 1)])
    with pytest.raises(ConflictError):
        commit(steps)
    assert len(steps.submitted) == stepcommit.CONFLICTS + 1
    assert steps.version == 7


def test_a_step_that_is_fenced_ends_the_actor() -> None:
    steps = Steps(FencedError("agent-1", 3))
    with pytest.raises(FencedError):
        commit(steps)
    assert steps.dead
    assert steps.version == 7
