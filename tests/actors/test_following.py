"""A follower is given its run's events, wherever that goes on, and what is beside them once it has begun."""

from actors.events import BlockDetached, Event, Logged, QueueChanged, RunFinished, RunSteered, TextDelta
from actors.following import Following
from storage.records import Usage

OTHER = TextDelta("other", "m", "x")
MEMORY = BlockDetached(None, "block-1", "human", 100)


def own(text: str = "a") -> TextDelta:
    return TextDelta("run", "m", text)


def ended(run: str) -> RunFinished:
    return RunFinished(run, "completed", "end_turn", Usage())


def memory(event: Event, _: str) -> bool:
    return isinstance(event, BlockDetached)


def test_the_run_s_own_events_keep_their_offsets_and_others_are_left_out() -> None:
    following = Following("run", None)
    waits = QueueChanged("run", "c", "queued", 1, 1)
    assert following.of(7, [OTHER, waits, own(), OTHER, own("b")]) == [Logged(9, own()), Logged(11, own("b"))]
    assert not following.ended


def test_what_is_beside_a_run_comes_from_its_first_event_on() -> None:
    following = Following("run", memory)
    assert following.of(1, [MEMORY]) == []
    assert following.of(2, [MEMORY, own(), MEMORY, OTHER]) == [Logged(3, own()), Logged(4, MEMORY)]
    assert following.of(6, [MEMORY]) == [Logged(6, MEMORY)]


def test_nothing_comes_after_the_run_s_end() -> None:
    following = Following("run", memory)
    assert following.of(1, [own(), ended("other"), ended("run"), MEMORY, own()]) == [
        Logged(1, own()),
        Logged(3, ended("run")),
    ]
    assert following.ended


def test_a_run_that_joins_another_goes_on_as_that_one() -> None:
    following = Following("run", None)
    joins = RunSteered("run", "other", ())
    assert following.of(1, [own(), joins, own(), OTHER]) == [
        Logged(1, own()),
        Logged(2, joins),
        Logged(4, OTHER),
    ]
    assert following.run_id == "other"
    assert following.of(5, [ended("run"), ended("other")]) == [Logged(6, ended("other"))]
    assert following.ended
