"""History: publications of a channel on demand, from a place on or the last ones, in either order."""

import pytest

from actors.channels import Channel
from actors.events import Event, ReasoningDelta
from gateway.auth import READ, Caller
from gateway.feeds.feeds import HistoryResult
from gateway.realtime.protocol import (
    BAD_REQUEST,
    UNRECOVERABLE_POSITION,
    History,
    ProtocolError,
    StreamPosition,
)
from tests.gateway.feeding import CALLER, Stage, published, run_of


def offsets(result: HistoryResult) -> list[int]:
    return [published(pub)["offset"] for pub in result.publications]


async def read(stage: Stage, channel: str = "conv", caller: Caller = CALLER, **more: object) -> HistoryResult:
    name = f"conv:{stage.conversation}" if channel == "conv" else f"agent:{stage.agent}"
    since = more.pop("since", None)
    place = None if since is None else StreamPosition(*since)  # type: ignore[misc]
    return await stage.feeds.history(caller, History(name, since=place, **more))  # type: ignore[arg-type]


async def told(*, frozen: bool = False) -> Stage:
    """Return a stage on which three runs of ten events were said, and an agent's log that heard them."""
    stage = Stage()
    await stage.follow(f"agent:{stage.agent}")
    for name in "abc":
        stage.channel.publish(*run_of(stage.conversation, [f"{name}{i}" for i in range(4)]))
    if frozen:
        await stage.logs.freeze()
        await stage.logs.freeze()
    assert stage.channel.next == 31
    return stage


@pytest.mark.parametrize("channel", ["conv", "agent"])
@pytest.mark.parametrize("frozen", [False, True])
async def test_publications_are_read_from_a_place_on_or_from_the_end(channel: str, frozen: bool) -> None:
    stage = await told(frozen=frozen)
    place = stage.feeds.position(f"{channel}:{stage.conversation if channel == 'conv' else stage.agent}")
    assert place is not None
    epoch = place.epoch
    assert offsets(await read(stage, channel, limit=5)) == [26, 27, 28, 29, 30]
    assert offsets(await read(stage, channel, limit=5, reverse=True)) == [30, 29, 28, 27, 26]
    assert offsets(await read(stage, channel, limit=4, since=(8, epoch))) == [9, 10, 11, 12]
    assert offsets(await read(stage, channel, limit=4, since=(12, epoch), reverse=True)) == [11, 10, 9, 8]
    assert offsets(await read(stage, channel, limit=-1)) == list(range(1, 31))
    assert offsets(await read(stage, channel, limit=9, since=(30, epoch))) == []
    nothing = await read(stage, channel, limit=0)
    assert (nothing.publications, nothing.epoch, nothing.offset) == ([], epoch, 30)


async def test_a_history_is_what_was_sent_live() -> None:
    stage = Stage()
    _, sink = await stage.follow(f"conv:{stage.conversation}")
    stage.channel.publish(*run_of(stage.conversation, ["a", "b"], thought="hm"))
    result = await read(stage, limit=1000)
    assert result.publications == [frame.pub for frame in sink.frames]


async def test_a_history_of_who_may_not_see_thoughts_has_none() -> None:
    stage = Stage()
    stage.channel.publish(*run_of(stage.conversation, ["a", "b"], thought="secret"))
    reader = Caller("reader", scopes=frozenset((READ,)))
    result = await read(stage, caller=reader, limit=8)
    assert len(result.publications) == 8
    assert b"secret" not in b"".join(result.publications)


async def test_a_place_that_is_not_kept_is_refused() -> None:
    stage = await told()
    for since in ((3, "other"), (999, stage.channel.epoch)):
        with pytest.raises(ProtocolError) as refused:
            await read(stage, limit=5, since=since)
        assert refused.value.code == UNRECOVERABLE_POSITION


async def test_a_limit_above_the_bound_is_refused() -> None:
    stage = await told()
    with pytest.raises(ProtocolError) as refused:
        await read(stage, limit=1001)
    assert refused.value.code == BAD_REQUEST


async def test_an_answer_holds_no_more_than_a_connection_may_have_waiting() -> None:
    stage = Stage(budget_bytes=64 << 20)
    stage.channel.publish(*run_of(stage.conversation, ["x" * 10_000] * 200))
    last = await read(stage, limit=1000)
    assert sum(map(len, last.publications)) <= 512 * 1024
    assert offsets(last)[-1] == stage.channel.next - 1, "the latest are kept"
    first = await read(stage, limit=1000, since=(0, stage.channel.epoch))
    assert offsets(first)[0] == 1
    assert len(first.publications) < 200


async def test_reading_a_history_listens_to_nothing() -> None:
    stage = Stage()
    stage.channel.publish(*run_of(stage.conversation, ["a"]))
    await read(stage, limit=5)
    assert stage.logs.heard == 0


@pytest.mark.parametrize("channel", ["conv", "agent"])
@pytest.mark.parametrize("place", [None, 0])
async def test_no_more_is_read_than_is_asked_for_and_never_much_at_once(
    channel: str, place: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(budget_bytes=1 << 26)
    await stage.follow(f"agent:{stage.agent}")
    *begin, end = run_of(stage.conversation, ["w"] * 10)
    stage.channel.publish(*begin)
    stage.channel.publish(*(ReasoningDelta("run-1", "message-1", "hm") for _ in range(9_000)), end)
    reads: list[int] = []
    since = Channel.since

    def counted(self: Channel, offset: int, most: int | None = None) -> list[tuple[int, Event]] | None:
        found = since(self, offset, most)
        reads.append(len(found or ()))
        return found

    monkeypatch.setattr(Channel, "since", counted)
    at = stage.feeds.position(f"{channel}:{stage.conversation if channel == 'conv' else stage.agent}")
    assert at is not None
    where = {} if place is None else {"since": (place, at.epoch)}
    assert len((await read(stage, channel, limit=3, **where)).publications) == 3
    assert sum(reads) <= 64
    reads.clear()
    blind = Caller("reader", scopes=frozenset((READ,)))  # for whom most of it is nothing
    shown = await read(stage, channel, caller=blind, limit=1000, **where)
    assert len(shown.publications) == len(begin) + 1
    assert max(reads) <= 2000
