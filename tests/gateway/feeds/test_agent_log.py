"""An agent's order: an index over the logs of its conversations that gives back just what was said."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.channels import Channel, Logs
from actors.events import BlockDetached, Event, TextDelta
from gateway.feeds import agent_log
from gateway.feeds.agent_log import AgentLog
from tests.gateway.feeding import new_id, run_of


def spoken(places: list[int]) -> tuple[AgentLog, list[tuple[int, Channel | None, Event]]]:
    """Say events in three conversations, in this order, and what belongs to none; return log and truth."""
    logs = Logs(64 << 20)
    channels = [logs.channel(new_id("conv"), "agent") for _ in range(3)]
    log = AgentLog()
    truth: list[tuple[int, Channel | None, Event]] = []
    for count, place in enumerate(places, 1):
        if place == 3:
            event: Event = BlockDetached(None, f"block-{count}", "human")
            log.append(None, 0, event)
            truth.append((count, None, event))
            continue
        channel = channels[place]
        event = TextDelta("run", "message", str(count))
        channel.publish(event)
        log.append(channel, channel.next - 1, event)
        truth.append((count, channel, event))
    return log, truth


@given(st.lists(st.integers(0, 3), max_size=40), st.data())
def test_what_came_after_any_place_is_told_in_order(places: list[int], data: st.DataObject) -> None:
    log, truth = spoken(places)
    offset = data.draw(st.integers(0, len(places)))
    assert log.since(offset) == truth[offset:]
    assert log.kept() == truth
    most, before = data.draw(st.integers(1, 9)), data.draw(st.integers(1, len(places) + 2))
    assert log.since(offset, most) == truth[offset : offset + most]
    assert log.kept(before, most) == truth[: before - 1][-most:]
    assert log.since(len(places) + 1) is None
    assert log.since(-1) is None


def test_a_long_stream_of_one_conversation_is_one_slice() -> None:
    log, _ = spoken([0] * 500 + [1] * 500)
    assert len(log) == 2


def test_what_a_conversation_forgot_is_forgotten_and_not_told_in_part() -> None:
    logs = Logs(8_000)
    channel, other = logs.channel(new_id("conv"), "agent"), logs.channel(new_id("conv"), "agent")
    log = AgentLog()
    logs.watch("agent", lambda where, offset, event: log.append(where, offset, event) and None)
    channel.publish(*run_of(channel.id, ["a"]))
    for _ in range(10):
        other.publish(*run_of(other.id, ["b" * 100]))
    assert log.since(0) is None
    kept = log.kept()
    assert kept
    assert [entry[0] for entry in kept] == list(range(kept[0][0], log.next))
    assert log.since(log.next - 3) == kept[-2:]


def test_the_index_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_log, "MAX_SLICES", 10)
    log, truth = spoken([0, 1] * 20)
    assert len(log) == 10
    assert log.since(0) is None
    assert log.since(30) == truth[30:]


def test_a_run_of_which_the_beginning_is_forgotten_is_not_shown_to_newcomers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(agent_log, "MAX_SLICES", 10)
    logs = Logs(64 << 20)
    one, two = logs.channel(new_id("conv"), "agent"), logs.channel(new_id("conv"), "agent")
    log = AgentLog()
    logs.watch("agent", lambda where, offset, event: log.append(where, offset, event) and None)
    long, short = run_of(one.id, ["x"] * 40), run_of(two.id, ["y"] * 3)
    one.publish(*long[:4])
    for event in long[4:30]:  # two conversations that take turns need a slice for each event
        one.publish(event)
        two.publish(BlockDetached(None, "block", "human"))
    two.publish(*short[:5])
    told = log.told(log.begun(), 0)
    assert told is not None
    assert [event for _, _, event in told] == short[:5]


def test_what_the_index_forgot_while_it_was_read_in_pieces_is_not_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(agent_log, "MAX_SLICES", 20)
    logs = Logs(64 << 20)
    one, two = logs.channel(new_id("conv"), "agent"), logs.channel(new_id("conv"), "agent")
    log = AgentLog()
    logs.watch("agent", lambda where, offset, event: log.append(where, offset, event) and None)
    said = run_of(one.id, ["x"] * 40)
    one.publish(said[0])
    begun = log.begun()
    for event in said[1:5]:
        two.publish(BlockDetached(None, "block", "human"))
        one.publish(event)
    first = log.told(begun, 0, 3)
    assert first is not None
    at = first[-1][0]
    for event in said[5:25]:
        two.publish(BlockDetached(None, "block", "human"))
        one.publish(event)
    assert log.told(begun, at) is None
    kept = log.next - 21
    assert [offset for offset, _, _ in log.told(begun, kept) or ()] == list(range(kept + 1, log.next))
