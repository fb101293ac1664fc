"""Listeners and watchers of channels: what they hear, and when they hear nothing any more."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from actors.channels import Channel, Logs
from actors.events import (
    BlockChanged,
    Event,
    RunFinished,
    RunStarted,
    TextDelta,
    TextStarted,
)
from storage.records import Usage

EDIT = BlockChanged(None, "block-1", "human", "tea", 2, 100, "coffee")


def run(run_id: str, *texts: str) -> list[Event]:
    deltas = [TextDelta(run_id, "m", text) for text in texts]
    end = RunFinished(run_id, "completed", "end_turn", Usage())
    return [RunStarted(run_id, "c", 1, ()), TextStarted(run_id, "m"), *deltas, end]


@given(st.lists(st.text(max_size=3), max_size=30), st.lists(st.integers(1, 7), min_size=1, max_size=40))
def test_a_listener_hears_every_event_once_in_order_at_its_offset(texts: list[str], cuts: list[int]) -> None:
    channel = Logs(1 << 20).channel("c", "a")
    channel.publish(*run("before"))
    heard: list[tuple[int, Event]] = []
    channel.listen(lambda _, offset, event: heard.append((offset, event)))
    position, events = channel.position.offset, run("r", *texts)
    said = 0
    for cut in cuts:
        channel.publish(*events[said : said + cut])
        said += cut
    channel.publish(*events[said:])
    assert heard == list(enumerate(events, position + 1))
    assert channel.since(position) == heard


def test_a_listener_that_came_twice_is_called_twice_and_leaves_once_at_a_time() -> None:
    logs = Logs(1 << 20)
    channel = logs.channel("c", "a")
    heard: list[int] = []

    def listener(_: Channel, offset: int, _event: Event) -> None:
        heard.append(offset)

    first, second = channel.listen(listener), channel.listen(listener)
    channel.publish(TextDelta("r", "m", "x"))
    first()
    first()
    channel.publish(TextDelta("r", "m", "x"))
    second()
    channel.publish(TextDelta("r", "m", "x"))
    assert heard == [1, 1, 2]
    assert logs.heard == 0


def test_who_leaves_inside_a_call_hears_no_more_of_the_same_publish() -> None:
    channel = Logs(1 << 20).channel("c", "a")
    heard: list[tuple[str, int]] = []
    ends: list[Callable[[], None]] = []

    def leaving(_: Channel, offset: int, _event: Event) -> None:
        heard.append(("leaving", offset))
        for end in ends:
            end()

    channel.listen(lambda _, offset, event: heard.append(("first", offset)))
    ends.append(channel.listen(leaving))
    ends.append(channel.listen(lambda _, offset, event: heard.append(("taken along", offset))))
    channel.listen(lambda _, offset, event: heard.append(("last", offset)))
    channel.publish(*run("r")[:2])
    assert heard == [("first", 1), ("leaving", 1), ("last", 1), ("first", 2), ("last", 2)]


def test_who_comes_inside_a_call_hears_from_the_next_publish_on() -> None:
    channel = Logs(1 << 20).channel("c", "a")
    heard: list[int] = []

    def inviting(_: Channel, _offset: int, _event: Event) -> None:
        channel.listen(lambda _, offset, event: heard.append(offset))

    end = channel.listen(inviting)
    channel.publish(TextDelta("r", "m", "x"))
    end()
    channel.publish(TextDelta("r", "m", "x"))
    assert heard == [2]


def test_a_watcher_hears_every_conversation_of_its_agent_and_what_belongs_to_none() -> None:
    logs = Logs(1 << 20)
    heard: list[tuple[str | None, int, Event]] = []
    everything: list[str] = []
    end = logs.watch("a", lambda c, offset, event: heard.append((c and c.id, offset, event)))
    end_all = logs.watch_all(lambda c, offset, event: everything.append("" if c is None else c.id))
    (delta,) = run("r", "x")[2:3]
    logs.channel("one", "a").publish(delta)
    logs.channel("two", "a").publish(delta, delta)
    logs.channel("other", "b").publish(delta)
    logs.tell("a", EDIT)
    logs.tell("b", EDIT)
    assert heard == [("one", 1, delta), ("two", 1, delta), ("two", 2, delta), (None, 0, EDIT)]
    assert everything == ["one", "two", "two", "other"]
    end()
    end_all()
    logs.channel("one", "a").publish(delta)
    logs.tell("a", EDIT)
    assert (len(heard), len(everything)) == (4, 4)
    assert logs.heard == 0


def test_watching_ends_for_one_watcher_without_ending_for_another() -> None:
    logs = Logs(1 << 20)
    heard: list[str] = []
    first = logs.watch("a", lambda *_: heard.append("first"))
    first()
    logs.watch("a", lambda *_: heard.append("second"))
    first()
    logs.tell("a", EDIT)
    assert heard == ["second"]


def test_a_log_that_somebody_listens_to_keeps_its_epoch_when_everything_in_it_is_forgotten() -> None:
    logs = Logs(0)
    channel = logs.channel("c", "a")
    end = channel.listen(lambda *_: None)
    channel.publish(*run("r"))
    assert not channel.segments
    assert logs.channel("c", "a") is channel
    end()
    channel.publish(*run("s"))
    assert logs.channel("c", "a") is not channel


def test_what_follows_an_offset_is_given_whole_or_not_at_all() -> None:
    logs = Logs(2_500)
    channel = logs.channel("c", "a")
    channel.listen(lambda *_: None)
    channel.publish(*run("one"), *run("two"), *run("three"))  # three events each; the first run is forgotten
    first = channel.segments[0].start
    assert first > 1
    assert channel.since(first - 2) is None
    kept = channel.since(first - 1)
    assert kept is not None
    assert [offset for offset, _ in kept] == list(range(first, channel.next))
    assert channel.since(channel.position.offset) == []
    assert channel.since(channel.next) is None
    assert channel.since(-1) is None
    logs.budget_bytes = 0
    logs.trim()
    assert channel.since(channel.position.offset - 1) is None
    assert channel.since(channel.position.offset) == []


def test_those_who_asked_are_told_of_conversations_and_agents_that_are_gone() -> None:
    logs = Logs(1 << 20)
    gone: list[tuple[str, str | None]] = []
    logs.on_gone.append(lambda agent_id, conversation_id: gone.append((agent_id, conversation_id)))
    logs.channel("one", "a").publish(*run("r"))
    logs.drop("one", "a")
    logs.bury("a", ("two",))
    assert gone == [("a", "one"), ("a", "two"), ("a", None)]
    assert logs.size_bytes == 0
