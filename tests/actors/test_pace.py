"""Work in pieces: when it rests, and for how long."""

import anyio
import pytest

from actors import pace
from actors.pace import Pace
from tests.gateway.clocks import ManualClock, manual_clock


async def test_work_rests_after_a_piece_and_four_times_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    rested: list[float] = []

    async def sleep(seconds: float) -> None:
        rested.append(seconds)

    monkeypatch.setattr(anyio, "sleep", sleep)
    with manual_clock() as clock:
        mine = Pace()
        assert not mine.due()
        _work(clock, 0.25 * pace.PIECE)
        assert not mine.due()
        _work(clock, 2 * pace.PIECE)
        assert mine.due()
        await mine.rest()
        assert rested == [pytest.approx(pace.REST * 2.25 * pace.PIECE)]
        assert not mine.due(), "the next piece begins after the rest"
        _work(clock, 1.0)
        await mine.rest()
        assert rested[1:] == [pace.LONGEST], "it was not all work"


def _work(clock: ManualClock, seconds: float) -> None:
    clock.seconds += seconds
