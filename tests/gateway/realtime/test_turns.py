"""Turns: what is large is sent one after the other, and nobody waits for ever for one who takes nothing."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import pytest

from gateway.realtime import turns
from gateway.realtime.outbound import Outbound
from gateway.realtime.places import Budget
from gateway.realtime.turns import Turns, catch_up
from tests.gateway.realtime.test_outbound import Wire


class Slow:
    def __init__(self) -> None:
        self.told = anyio.Event()

    def __call__(self) -> None:
        self.told.set()


class Pieces:
    """What a subscriber missed, so many pieces of it."""

    def __init__(self, count: int) -> None:
        self.left = count

    @property
    def behind(self) -> bool:
        return self.left > 0

    def piece(self) -> list[bytes]:
        self.left -= 1
        return [b'{"offset":%d}' % self.left, b'{"offset":0}'] if self.left % 2 == 0 else []


@asynccontextmanager
async def sending(*, room: int) -> AsyncGenerator[tuple[Wire, Outbound, Turns, Slow]]:
    wire, slow = Wire(room), Slow()
    loop = asyncio.get_running_loop()
    outbound = Outbound(wire, later=loop.call_later, slow=slow, budget=Budget(2**40))
    yield wire, outbound, Turns(outbound, unsent=wire.unsent, slow=slow), slow
    outbound.close()


async def test_a_piece_waits_until_the_one_before_is_taken() -> None:
    async with sending(room=1) as (wire, outbound, taking, _), anyio.create_task_group() as tasks:
        tasks.start_soon(catch_up, outbound, taking, "conv:c", Pieces(6))
        with anyio.fail_after(10):
            for sent in (1, 2, 3):
                while len(wire.sent) < sent:
                    await asyncio.sleep(0)
                for _ in range(5):
                    await asyncio.sleep(0)
                assert len(wire.sent) == sent
                wire.room = 1
                taking.writable()
    assert len(wire.messages()) == 6
    assert wire.messages()[0].startswith(b'{"push":{"channel":"conv:c","pub":{"offset":')


async def test_turns_are_given_in_the_order_of_asking() -> None:
    async with sending(room=1) as (_, _, taking, _):
        order: list[int] = []

        async def ask(number: int) -> None:
            async with taking.turn():
                order.append(number)
                await asyncio.sleep(0)

        async with anyio.create_task_group() as tasks:
            for number in range(5):
                tasks.start_soon(ask, number)
        assert order == list(range(5))


async def test_one_that_takes_nothing_is_given_up_and_one_that_takes_a_little_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns, "STUCK_SECONDS", 0.05)
    async with sending(room=0) as (wire, outbound, taking, slow):
        wire.held = 1000
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(catch_up, outbound, taking, "conv:c", Pieces(2))
            for _ in range(10):
                wire.held -= 1
                await asyncio.sleep(0.02)
                if slow.told.is_set():
                    break
            moved = 1000 - wire.held
            with anyio.fail_after(10):
                await slow.told.wait()
            assert moved >= 2, "it was given up while it took something"
            tasks.cancel_scope.cancel()
        assert wire.sent == []
