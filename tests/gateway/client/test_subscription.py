"""A subscription hands over each publication once, in order, whatever the connection does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from gateway.client import subscription as client_subscription
from gateway.client.frames import Left, Pub, Subscribed
from gateway.client.subscription import Gap, Subscription

EVENT = Raw(b'{"type":"STEP_STARTED","stepName":"s"}')


class Log:
    """A channel of a server: it keeps the last events, and begins anew when it is told to."""

    def __init__(self) -> None:
        self.epoch = 1
        self.offset = 0
        self.first = 1  # the oldest that is kept

    def answer(self, subscription: Subscription) -> Subscribed:
        asked = subscription.request
        same = asked.epoch == f"e{self.epoch}"
        recovered = asked.recover and same and asked.offset + 1 >= self.first
        missed = range(asked.offset + 1, self.offset + 1) if recovered else ()
        return Subscribed(
            recoverable=True,
            epoch=f"e{self.epoch}",
            offset=self.offset,
            was_recovering=asked.recover,
            recovered=recovered,
            publications=tuple(Pub(EVENT, offset) for offset in missed),
        )


steps = st.lists(
    st.sampled_from(["publish", "publish", "publish", "again", "lose", "join", "restart", "trim"]),
    max_size=80,
)


@pytest.mark.parametrize("waiting", [3, 4096])
@given(steps)
async def test_each_publication_is_handed_over_once_and_in_order(waiting: int, steps: list[str]) -> None:
    client_subscription.WAITING, before = waiting, client_subscription.WAITING
    try:
        await _play(steps)
    finally:
        client_subscription.WAITING = before


async def _play(steps: list[str]) -> None:
    log, subscription = Log(), Subscription("conv:c", None)
    subscription.join(log.answer(subscription))
    joined, handed = True, list[object]()
    for step in (*steps, "lose", "join"):
        match step:
            case "publish":
                log.offset += 1
                if joined:
                    subscription.push(Pub(EVENT, log.offset))
            case "again" if joined and log.offset:
                subscription.push(Pub(EVENT, log.offset))
            case "lose":
                subscription.lost()
                joined = False
            case "join" if not joined:
                subscription.join(log.answer(subscription))
                joined = True
            case "restart":
                subscription.lost()
                joined = False
                log.epoch, log.offset, log.first = log.epoch + 1, 0, 1
            case "trim":
                log.first = log.offset + 1
            case _:
                pass
    subscription.close()
    async for item in subscription:
        handed.append(item)
    waiting = 0
    for item in handed:
        if isinstance(item, Gap):
            waiting = item.offset
        else:
            assert isinstance(item, client_subscription.Publication)
            assert item.offset == waiting + 1, "lost, repeated, or out of order"
            waiting = item.offset
    assert waiting == log.offset


async def test_what_is_not_ordered_is_handed_over_as_it_comes() -> None:
    subscription = Subscription("fleet", None)
    subscription.join(Subscribed(publications=(Pub(EVENT),)))
    subscription.push(Pub(EVENT))
    subscription.close()
    assert len([item async for item in subscription]) == 2


async def test_a_dismissal_below_2500_is_for_good() -> None:
    subscription = Subscription("conv:c", None)
    subscription.join(Subscribed(epoch="e"))
    subscription.dismissed(Left(2500, "again"))
    assert not subscription.over
    subscription.dismissed(Left(2000, "no more"))
    assert subscription.over
