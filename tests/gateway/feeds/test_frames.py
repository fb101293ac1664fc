"""Frames: merging loses nothing, reorders nothing, and keeps the place in the log."""

import time
from typing import Any

import jsonpatch
import msgspec
from hypothesis import given
from hypothesis import strategies as st

from actors.events import Event, ReasoningDelta, StepFinished, TextDelta, TextEnded, ToolCallDelta
from gateway.feeds import frames
from gateway.feeds.frames import Frame
from storage.records import Timing, Usage
from tests.gateway.feeding import published

CHANNEL = "conv:conv-1"
HEAD = frames.head_of(CHANNEL)
TAGS = frames.tags_of(run="run-1", conv="conv-1", agent="agent-1")

texts = st.text(max_size=6)
events: st.SearchStrategy[Event] = st.one_of(
    st.builds(TextDelta, st.just("run-1"), st.sampled_from(["m1", "m2"]), texts),
    st.builds(TextDelta, st.just("run-2"), st.just("m1"), texts),
    st.builds(ReasoningDelta, st.just("run-1"), st.just("m1"), texts),
    st.builds(ToolCallDelta, st.just("run-1"), st.just("m1"), st.sampled_from(["c1", "c2"]), texts),
    st.just(TextEnded("run-1", "m1")),
    st.just(StepFinished("run-1", "step-1", Usage(), Timing())),
)


def frames_of(log: list[Event]) -> list[Frame]:
    return [
        frames.of_event(CHANNEL, HEAD, offset, event, thread="conv-1", tags=TAGS)
        for offset, event in enumerate(log, 1)
    ]


def told(shown: list[Frame]) -> list[Any]:
    """Return what a client reads, each stretch of one stream as one text: all that merging may change."""
    out: list[Any] = []
    for frame in shown:
        data = dict(published(frame.pub)["data"])
        delta = data.pop("delta", None)
        data.pop("timestamp", None)
        if delta is None:
            out.append(data)
        elif out and isinstance(out[-1], tuple) and out[-1][0] == (data, _run(frame)):
            out[-1] = (out[-1][0], out[-1][1] + delta)
        else:
            out.append(((data, _run(frame)), delta))
    return out


def _run(frame: Frame) -> str | None:
    assert frame.event is not None
    return frame.event.run_id


@given(st.lists(events, max_size=30))
def test_merged_frames_say_the_same_in_the_same_order(log: list[Event]) -> None:
    shown = frames_of(log)
    fewer = frames.merged(shown)
    assert told(fewer) == told(shown)
    offsets = [frame.offset for frame in fewer]
    assert offsets == sorted(set(offsets))
    if shown:
        assert offsets[-1] == len(shown)


@given(st.lists(events, max_size=30))
def test_merging_pairs_is_merging_all(log: list[Event]) -> None:
    pairwise: list[Frame] = []
    for frame in frames_of(log):
        both = frames.merge(pairwise[-1], frame) if pairwise else None
        if both is None:
            pairwise.append(frame)
        else:
            pairwise[-1] = both
    assert [frame.push for frame in pairwise] == [frame.push for frame in frames.merged(frames_of(log))]


@given(st.lists(events, max_size=30))
def test_a_conflated_log_is_the_merged_one(log: list[Event]) -> None:
    conflated = frames.conflated(enumerate(log, 1))
    assert [(frame.offset, frame.event) for frame in frames.merged(frames_of(log))] == conflated


@given(st.lists(st.tuples(st.sampled_from("abc"), st.one_of(st.none(), st.integers(0, 9))), max_size=12))
def test_patches_that_are_merged_give_the_same_document(changes: list[tuple[str, int | None]]) -> None:
    document: dict[str, Any] = {"agents": {}}
    patches: list[list[dict[str, Any]]] = []
    for name, value in changes:
        path = f"/agents/{name}"
        if value is not None:
            patches.append([{"op": "add", "path": path, "value": {"n": value}}])
            document["agents"][name] = {"n": value}
        elif name in document["agents"]:
            patches.append([{"op": "remove", "path": path}])
            del document["agents"][name]
    shown = [frames.of_patch("fleet", offset, patch) for offset, patch in enumerate(patches, 1)]
    if not shown:
        return
    last = shown[0]
    for frame in shown[1:]:
        joined = frames.merge(last, frame)
        assert joined is not None
        last = joined
    assert last.offset == len(shown)
    assert jsonpatch.apply_patch({"agents": {}}, published(last.pub)["data"]["delta"]) == document


def test_a_change_of_one_member_again_and_again_stays_one_operation() -> None:
    patch = [{"op": "add", "path": "/agents/a", "value": n} for n in range(9)]
    assert frames.condensed(patch) == [{"op": "add", "path": "/agents/a", "value": 8}]


def test_an_addition_is_not_moved_over_what_reaches_into_it() -> None:
    patch = [
        {"op": "add", "path": "/a", "value": {"b": 1}},
        {"op": "replace", "path": "/a/b", "value": 2},
        {"op": "add", "path": "/a", "value": {"c": 3}},
    ]
    assert jsonpatch.apply_patch({}, frames.condensed(patch)) == {"a": {"c": 3}}


def test_a_snapshot_takes_the_place_of_what_came_before_it() -> None:
    patch = frames.of_patch("fleet", 1, [{"op": "add", "path": "/agents/a", "value": 1}])
    snapshot = frames.of_snapshot("fleet", 2, {"agents": {}})
    assert frames.merge(patch, snapshot) is snapshot
    assert frames.merge(snapshot, frames.of_snapshot("fleet", 3, {"agents": {}})) is not snapshot
    assert frames.merge(snapshot, patch) is None


def test_frames_of_two_channels_are_never_merged() -> None:
    one = frames.of_event(CHANNEL, HEAD, 1, TextDelta("r", "m", "a"), thread="conv-1", tags=TAGS)
    other = frames.of_event(
        "conv:x", frames.head_of("conv:x"), 2, TextDelta("r", "m", "b"), thread="x", tags=TAGS
    )
    assert frames.merge(one, other) is None


def test_a_push_is_one_object_of_json() -> None:
    [frame] = frames_of([TextDelta("run-1", "m1", 'say "hi"\n')])
    push = msgspec.json.decode(frame.push)
    assert push["push"]["channel"] == CHANNEL
    assert push["push"]["pub"]["data"]["delta"] == 'say "hi"\n'
    assert b"\n" not in frame.push


def test_merging_stops_before_a_publication_becomes_too_large() -> None:
    shown = frames_of([TextDelta("run-1", "m1", "x" * 1000) for _ in range(500)])
    fewer = frames.merged(shown)
    assert 1 < len(fewer) < 12
    assert all(len(frame.pub) < 2 * frames.MERGED_CHARS for frame in fewer)
    assert frames.merge(fewer[0], fewer[1]) is None
    assert [f.event for f in fewer] == [
        event for _, event in frames.conflated((f.offset, f.event) for f in shown if f.event is not None)
    ]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["add", "replace", "remove"]), st.sampled_from(["", "/a", "/a/b", "/ab", "/b"])
        ),
        max_size=12,
    )
)
def test_a_condensed_patch_leaves_out_only_what_the_next_operation_on_the_member_replaces(
    said: list[tuple[str, str]],
) -> None:
    patch = [{"op": op, "path": path, "value": place} for place, (op, path) in enumerate(said)]
    slow: list[dict[str, object]] = []
    for operation in patch:
        path = str(operation["path"])
        related = [
            at
            for at, one in enumerate(slow)
            if f"{one['path']}/".startswith(f"{path}/") or f"{path}/".startswith(f"{one['path']}/")
        ]
        before = slow[related[-1]] if related else None
        adds = ("add", "replace")
        if before is not None and before["path"] == path and {before["op"], operation["op"]} <= {*adds}:
            slow[related[-1]] = {**before, "value": operation["value"]}
        else:
            slow.append(operation)
    assert frames.condensed(patch) == slow


def test_a_patch_of_thousands_of_members_is_condensed_without_holding_up_the_loop() -> None:
    patch = [{"op": "add", "path": f"/agents/agent-{n}", "value": n % 7} for n in range(20_000)]
    began = time.thread_time()
    assert frames.condensed([*patch, *patch]) == patch
    assert time.thread_time() - began < 5  # comparing each with each takes minutes


@given(st.lists(events, max_size=20), st.integers(min_value=1, max_value=2**40))
def test_a_voice_says_every_event_as_it_would_be_said_alone(said: list[Event], first: int) -> None:
    def tags(run_id: str | None, thread: str) -> bytes:
        return b"" if run_id == "run-2" else frames.tags_of(run=run_id, conv=thread)

    voice = frames.Voice(CHANNEL, tags)
    for offset, event in enumerate(said, first):
        thread = f"conv-{offset % 2}"
        alone = frames.of_event(CHANNEL, HEAD, offset, event, thread=thread, tags=tags(event.run_id, thread))
        frame = voice.frame(offset, event, thread)
        assert frame == alone
        assert published(frame.pub) == msgspec.json.decode(frame.push)["push"]["pub"]


def test_a_voice_forgets_the_messages_that_were_said_long_ago() -> None:
    voice = frames.Voice(CHANNEL, lambda _run, _thread: TAGS)
    for number in range(1, 3 * frames.MAX_SPEECHES):
        frame = voice.frame(number, TextDelta("run-1", f"m{number}", "a"), "conv-1")
        assert published(frame.pub)["data"]["messageId"] == f"m{number}"
        assert len(voice._speeches) <= frames.MAX_SPEECHES
