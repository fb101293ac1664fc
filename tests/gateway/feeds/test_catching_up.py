"""What a subscriber missed comes in pieces: all of it, in order, once, and then what is said live."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.events import TextDelta
from gateway.feeds import catching_up
from gateway.feeds.catching_up import PIECE_BYTES, ForgottenError
from tests.gateway.feeding import Recorder, Stage, data_of, published, rest_of, run_of, text_of

KINDS = pytest.mark.parametrize("kind", ["conv", "agent"])


def name_of(stage: Stage, kind: str) -> str:
    return f"conv:{stage.conversation}" if kind == "conv" else f"agent:{stage.agent}"


def offsets(publications: list[bytes]) -> list[int]:
    return [published(publication)["offset"] for publication in publications]


@KINDS
@pytest.mark.parametrize("frozen", [False, True])
async def test_a_gap_of_many_bytes_comes_in_pieces_and_misses_nothing(kind: str, frozen: bool) -> None:
    stage = Stage(budget_bytes=64 << 20)
    first, _ = await stage.follow(name_of(stage, kind))
    words = [f"{number:06} " * 2000 for number in range(200)]  # 14 kB each
    stage.channel.publish(*run_of(stage.conversation, words))
    if frozen:
        await stage.logs.freeze()
        await stage.logs.freeze()
    again, sink = await stage.follow(name_of(stage, kind), since=(first.epoch, 0))
    assert again.recovered
    assert again.offset == offsets(again.publications)[-1]
    pieces = [again.publications, *rest_of(again)]
    assert len(pieces) > 5
    assert all(sum(map(len, piece)) <= PIECE_BYTES for piece in pieces)
    everything = [publication for piece in pieces for publication in piece]
    assert offsets(everything) == list(range(1, stage.channel.next))
    assert text_of(data_of(everything)) == "".join(words)
    stage.channel.publish(*run_of(stage.conversation, ["live"]))
    assert sink.text == "live"


@KINDS
async def test_what_is_said_meanwhile_is_neither_lost_nor_said_twice(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catching_up, "PIECE_EVENTS", 3)
    stage = Stage()
    first, _ = await stage.follow(name_of(stage, kind))
    events = run_of(stage.conversation, list("abcdefghijklmnopqrstuvwxyz"))
    stage.channel.publish(*events[:15])
    sink = Recorder()
    again, _ = await stage.follow(name_of(stage, kind), since=(first.epoch, 0), sink=sink)
    seen = [*again.publications]
    for event in events[15:]:
        stage.channel.publish(event)
        if again.rest is not None and again.rest.behind:
            assert sink.frames == []
            seen += again.rest.piece()
    seen += [publication for piece in rest_of(again) for publication in piece]
    assert offsets(seen) + sink.offsets == list(range(1, len(events) + 1))
    assert len(sink.frames) > 3


@settings(max_examples=30, deadline=None)
@given(st.data())
async def test_any_pace_and_place_gives_everything_once(data: st.DataObject) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catching_up, "PIECE_EVENTS", data.draw(st.integers(1, 7)))
        patch.setattr(catching_up, "CONFLATE_ABOVE", data.draw(st.sampled_from([0, 10**6])))
        stage = Stage()
        kind = data.draw(st.sampled_from(["conv", "agent"]))
        first, _ = await stage.follow(name_of(stage, kind))
        events = run_of(stage.conversation, list("abcdefghij"), thought="hm")
        others = run_of(stage.agent, list("0123456789"))
        said = iter([event for pair in zip(events, others, strict=False) for event in pair])
        logs = {stage.conversation: stage.channel, stage.agent: stage.own}
        total = 2 * min(len(events), len(others))
        runs = {events[0].run_id: stage.channel, others[0].run_id: stage.own}

        def say(count: int) -> None:
            for event, _ in zip(said, range(count), strict=False):
                runs[event.run_id].publish(event)

        say(data.draw(st.integers(0, total)))
        top = stage.feeds.position(name_of(stage, kind))
        assert top is not None
        since = data.draw(st.integers(0, top.offset))
        again, sink = await stage.follow(name_of(stage, kind), since=(first.epoch, since))
        assert again.recovered
        seen = [*again.publications]
        while again.rest is not None and again.rest.behind:
            say(data.draw(st.integers(0, 2)))
            seen += again.rest.piece()
        say(total)
        told = data_of(seen) + sink.data
        live, _ = await stage.follow(name_of(stage, kind), since=(first.epoch, since))
        expected = [*live.publications, *(one for piece in rest_of(live) for one in piece)]
        for log in logs.values():
            ids = {event.message_id for event in events + others if isinstance(event, TextDelta)}
            assert log.position.offset >= 0
        for message_id in ids:
            mine = [one for one in told if one.get("messageId") == message_id]
            theirs = [one for one in data_of(expected) if one.get("messageId") == message_id]
            assert text_of(mine) == text_of(theirs)
        places = offsets(seen) + sink.offsets
        assert places == sorted(set(places))


@KINDS
async def test_what_is_forgotten_meanwhile_is_no_gap_that_nobody_hears_of(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catching_up, "PIECE_EVENTS", 3)
    stage = Stage()
    first, _ = await stage.follow(name_of(stage, kind))
    stage.channel.publish(*run_of(stage.conversation, ["a", "b", "c"]))
    again, _ = await stage.follow(name_of(stage, kind), since=(first.epoch, 0))
    assert again.rest is not None
    stage.logs.budget_bytes = 0
    stage.logs.trim()
    with pytest.raises(ForgottenError):
        again.rest.piece()
    at = (again.epoch, again.offset)
    later, _ = await stage.follow(name_of(stage, kind), since=at)
    assert (later.recovered, later.publications) == (False, [])


async def test_a_newcomer_on_an_agent_s_channel_gets_the_runs_that_run_in_pieces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(catching_up, "PIECE_EVENTS", 3)
    stage = Stage()
    await stage.follow(f"agent:{stage.agent}")
    stage.own.publish(*run_of(stage.agent, ["over"]))
    running = run_of(stage.conversation, ["one ", "two ", "three ", "four"])
    stage.channel.publish(*running[:4])
    stage.own.publish(*run_of(stage.agent, ["beside"]))
    stage.channel.publish(*running[4:6])
    subscribed, sink = await stage.follow(f"agent:{stage.agent}")
    stage.channel.publish(*running[6:])  # it ends before all of it was told
    stage.own.publish(*run_of(stage.agent, ["after"]))
    seen = [*subscribed.publications, *(one for piece in rest_of(subscribed) for one in piece)]
    assert text_of(data_of(seen)) == "one two three fourafter"
    assert sink.frames == []
    stage.own.publish(*run_of(stage.agent, ["live"]))
    assert sink.text == "live"


async def test_a_subscriber_that_is_behind_can_leave() -> None:
    stage = Stage()
    stage.channel.publish(*run_of(stage.conversation, ["x" * 200_000] * 3)[:-1])
    subscribed, sink = await stage.follow(f"conv:{stage.conversation}")
    assert subscribed.rest is not None
    subscribed.close()
    assert stage.logs.heard == 0
    stage.channel.publish(*run_of(stage.conversation, ["more"]))
    assert sink.frames == []


async def test_nobody_is_left_behind_where_an_event_cannot_be_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage()
    stage.channel.publish(*run_of(stage.conversation, ["Hi"])[:4])

    def broken(*_: object) -> bytes:
        raise ValueError("planted")

    monkeypatch.setattr("gateway.feeds.shown_events.image", broken)
    with pytest.raises(ValueError, match="planted"):
        await stage.follow(f"conv:{stage.conversation}")
    assert stage.logs.heard == 0
