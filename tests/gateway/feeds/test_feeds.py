"""Channels: who may follow them, what a subscriber misses, and what it is sent."""

from itertools import chain
from typing import Any

import msgspec
import pytest

from actors import frozen
from gateway.auth import READ, Caller
from gateway.feeds import conversation as conversation_feed
from gateway.realtime.protocol import (
    BAD_REQUEST,
    PERMISSION_DENIED,
    PERMISSION_REVOKED,
    UNKNOWN_CHANNEL,
    History,
    ProtocolError,
    StreamPosition,
    Subscribe,
)
from tests.gateway.feeding import (
    CALLER,
    Recorder,
    Stage,
    data_of,
    new_id,
    offsets_of,
    published,
    rest_of,
    run_of,
    text_of,
)


async def test_a_subscriber_is_sent_every_event_with_the_offset_of_the_log() -> None:
    stage = Stage()
    subscribed, sink = await stage.follow(f"conv:{stage.conversation}")
    assert (subscribed.offset, subscribed.publications, subscribed.recovered) == (0, [], False)
    stage.channel.publish(*run_of(stage.conversation, ["Hello", " world"]))
    assert sink.offsets == list(range(1, 9))
    assert sink.text == "Hello world"
    assert sink.data[0]["type"] == "RUN_STARTED"
    assert sink.data[-1]["type"] == "RUN_FINISHED"


async def test_a_push_is_the_publication_in_its_envelope_with_tags() -> None:
    stage = Stage()
    _, sink = await stage.follow(f"conv:{stage.conversation}")
    events = run_of(stage.conversation, ["Hi"])
    stage.channel.publish(*events)
    push = msgspec.json.decode(sink.frames[0].push)
    assert push["push"]["channel"] == f"conv:{stage.conversation}"
    assert push["push"]["pub"] == published(sink.frames[0].pub)
    assert push["push"]["pub"]["tags"] == {
        "run": events[0].run_id,
        "conv": stage.conversation,
        "agent": stage.agent,
    }


async def test_all_subscribers_share_one_frame() -> None:
    stage = Stage()
    _, first = await stage.follow(f"conv:{stage.conversation}")
    _, second = await stage.follow(f"conv:{stage.conversation}")
    stage.channel.publish(*run_of(stage.conversation, ["Hi"]))
    assert all(a is b for a, b in zip(first.frames, second.frames, strict=True))


async def test_a_first_subscriber_in_the_middle_of_a_run_gets_it_from_its_start() -> None:
    stage = Stage()
    stage.channel.publish(*run_of(stage.conversation, ["over"]))
    running = run_of(stage.conversation, ["one ", "two ", "three"])
    stage.channel.publish(*running[:5])
    subscribed, sink = await stage.follow(f"conv:{stage.conversation}")
    stage.channel.publish(*running[5:])
    data = data_of(subscribed.publications) + sink.data
    assert [one["type"] for one in data].count("RUN_STARTED") == 1
    assert data[0]["type"] == "RUN_STARTED"
    assert text_of(data) == "one two three"
    offsets = offsets_of(subscribed) + sink.offsets
    assert offsets == list(range(offsets[0], offsets[0] + len(running)))


@pytest.mark.parametrize("channel", ["conv", "agent"])
async def test_whoever_comes_back_gets_what_it_missed_and_nothing_twice(channel: str) -> None:
    stage = Stage()
    name = f"conv:{stage.conversation}" if channel == "conv" else f"agent:{stage.agent}"
    events = run_of(stage.conversation, list("abcdef"), thought="hm")
    for cut in range(len(events) + 1):
        subscribed, before = await stage.follow(name)
        begun = subscribed.offset
        stage.channel.publish(*events[: cut // 2])
        at = before.offsets[-1] if before.offsets else begun
        subscribed.close()
        stage.channel.publish(*events[cut // 2 : cut])
        again, after = await stage.follow(name, since=(subscribed.epoch, at))
        stage.channel.publish(*events[cut:])
        assert again.recovered
        seen = before.offsets + offsets_of(again) + after.offsets
        assert seen == list(range(begun + 1, begun + len(events) + 1))
        again.close()


async def test_another_epoch_is_one_honest_no() -> None:
    stage = Stage()
    stage.channel.publish(*run_of(stage.conversation, ["Hi"])[:4])
    subscribed, sink = await stage.follow(f"conv:{stage.conversation}", since=("other", 2))
    assert subscribed.was_recovering
    assert not subscribed.recovered
    assert subscribed.publications == []
    assert (subscribed.epoch, subscribed.offset) == (stage.channel.epoch, 4)
    assert sink.frames == []


async def test_an_offset_that_was_never_reached_is_not_recovered() -> None:
    stage = Stage()
    stage.channel.publish(*run_of(stage.conversation, ["Hi"]))
    subscribed, _ = await stage.follow(f"conv:{stage.conversation}", since=(stage.channel.epoch, 900))
    assert not subscribed.recovered
    assert subscribed.publications == []


async def test_a_trimmed_gap_is_not_recovered_in_part() -> None:
    stage = Stage(budget_bytes=20_000)
    stage.channel.publish(*run_of(stage.conversation, ["Hi"]))
    for _ in range(20):
        stage.channel.publish(*run_of(stage.conversation, ["more"] * 10))
    assert stage.channel.since(0) is None, "the log was to be trimmed"
    subscribed, _ = await stage.follow(f"conv:{stage.conversation}", since=(stage.channel.epoch, 1))
    assert not subscribed.recovered
    assert subscribed.publications == []


async def test_a_frozen_log_is_recovered_as_it_was_said() -> None:
    stage = Stage()
    events = run_of(stage.conversation, ["One", " two"], thought="hm")
    _, live = await stage.follow(f"conv:{stage.conversation}")
    stage.channel.publish(*events)
    await stage.logs.freeze()
    await stage.logs.freeze()
    again, _ = await stage.follow(f"conv:{stage.conversation}", since=(stage.channel.epoch, 0))
    assert again.publications == [frame.pub for frame in live.frames]


async def test_nothing_is_listened_to_when_the_last_subscriber_left() -> None:
    stage = Stage()
    one, _ = await stage.follow(f"conv:{stage.conversation}")
    two, _ = await stage.follow(f"conv:{stage.conversation}")
    assert stage.logs.heard == 1
    one.close()
    one.close()
    assert stage.logs.heard == 1
    two.close()
    assert stage.logs.heard == 0


async def test_a_large_gap_comes_in_fewer_publications_and_whole() -> None:
    stage = Stage(budget_bytes=8 << 20)
    words = [f"w{i} " for i in range(5000)]
    stage.channel.publish(*run_of(stage.conversation, words))
    subscribed, _ = await stage.follow(f"conv:{stage.conversation}", since=(stage.channel.epoch, 0))
    assert subscribed.recovered
    assert offsets_of(subscribed)[-1] == subscribed.offset
    publications = [*subscribed.publications, *chain.from_iterable(rest_of(subscribed))]
    assert len(publications) < 20
    assert text_of(data_of(publications)) == "".join(words)
    offsets = [published(publication)["offset"] for publication in publications]
    assert offsets == sorted(offsets)
    assert offsets[-1] == stage.channel.position.offset


@pytest.mark.parametrize("kind", ["conv", "agent"])
async def test_a_gap_that_costs_too_much_to_read_is_not_recovered(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation_feed, "READ_EVENTS", 20)
    stage = Stage()
    name = f"{kind}:{stage.conversation if kind == 'conv' else stage.agent}"
    first, _ = await stage.follow(name)
    for _ in range(10):
        stage.channel.publish(*run_of(stage.conversation, ["a", "b"]))
    await stage.logs.freeze()
    await stage.logs.freeze()
    thawed = 0
    thaw = frozen.thaw

    def counted(data: bytes) -> Any:
        nonlocal thawed
        thawed += 1
        return thaw(data)

    monkeypatch.setattr(frozen, "thaw", counted)
    again, _ = await stage.follow(name, since=(first.epoch, 0))
    assert (again.recovered, again.publications, thawed) == (False, [], 0)
    near, _ = await stage.follow(name, since=(first.epoch, again.offset - 10))
    assert near.recovered
    assert offsets_of(near) == list(range(again.offset - 9, again.offset + 1))
    for where in (
        History(name, limit=3, since=StreamPosition(0, first.epoch)),
        History(name, limit=3),
        History(name, limit=3, since=StreamPosition(40, first.epoch), reverse=True),
    ):
        thawed = 0
        found = await stage.feeds.history(CALLER, where)
        assert len(found.publications) == 3
        assert thawed <= 5


async def test_thoughts_need_their_scope() -> None:
    stage = Stage()
    reader = Caller("reader", scopes=frozenset((READ,)))
    subscribed, sink = await stage.follow(f"conv:{stage.conversation}", caller=reader)
    _, trusted = await stage.follow(f"conv:{stage.conversation}")
    stage.channel.publish(*run_of(stage.conversation, ["Hi"], thought="secret"))
    assert "secret" in str(trusted.data)
    assert "secret" not in str(sink.data)
    again, _ = await stage.follow(f"conv:{stage.conversation}", caller=reader, since=(subscribed.epoch, 0))
    assert again.recovered
    assert again.publications == [frame.pub for frame in sink.frames]


async def test_a_subscriber_chooses_kinds_of_events() -> None:
    stage = Stage()
    _, sink = await stage.follow(f"conv:{stage.conversation}", events=["TEXT_MESSAGE_*", "RUN_FINISHED"])
    stage.channel.publish(*run_of(stage.conversation, ["Hi"], thought="hm"))
    kinds = [one["type"] for one in sink.data]
    assert kinds == ["TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END", "RUN_FINISHED"]


@pytest.mark.parametrize(
    ("channel", "code"),
    [
        ("weather:today", UNKNOWN_CHANNEL),
        ("conv:nonsense", BAD_REQUEST),
        ("agent:agent-1", BAD_REQUEST),
        ("fleet:all", UNKNOWN_CHANNEL),
        ("conv:conv-48bbc284-1e0c-4376-85ea-051dda3e30e7", PERMISSION_DENIED),
        ("agent:agent-869e93f1-d013-47cc-a555-9e250aaa497b:state:x", BAD_REQUEST),
    ],
)
async def test_a_channel_that_is_none_is_refused(channel: str, code: int) -> None:
    with pytest.raises(ProtocolError) as refused:
        await Stage().follow(channel)
    assert refused.value.code == code
    assert not refused.value.temporary


async def test_a_token_for_other_agents_or_without_the_scope_is_refused() -> None:
    stage = Stage()
    for caller in (
        Caller("other", agents=frozenset((new_id("agent"),))),
        Caller("sender", scopes=frozenset(("agent:send",))),
    ):
        with pytest.raises(ProtocolError) as refused:
            await stage.follow(f"conv:{stage.conversation}", caller=caller)
        assert refused.value.code == PERMISSION_DENIED
    # A feed that is open already is no way around it.
    await stage.follow(f"conv:{stage.conversation}")
    for caller in (
        Caller("other", agents=frozenset((new_id("agent"),))),
        Caller("stranger", organization_id=new_id("org")),
    ):
        with pytest.raises(ProtocolError) as refused:
            await stage.follow(f"conv:{stage.conversation}", caller=caller)
        assert refused.value.code == PERMISSION_DENIED


async def test_a_new_token_keeps_only_what_it_may_follow() -> None:
    stage = Stage()
    name = f"conv:{stage.conversation}"
    await stage.follow(name)
    assert stage.feeds.allowed(CALLER, name)
    assert stage.feeds.allowed(Caller("one", agents=frozenset((stage.agent,))), name)
    assert not stage.feeds.allowed(Caller("other", agents=frozenset()), name)
    assert not stage.feeds.allowed(Caller("none", scopes=frozenset()), name)
    assert not stage.feeds.allowed(Caller("far", organization_id=new_id("org")), name)
    assert not stage.feeds.allowed(CALLER, "nonsense")


async def test_a_deleted_conversation_ends_its_channel_and_no_other() -> None:
    stage = Stage()
    _, sink = await stage.follow(f"conv:{stage.conversation}")
    _, other = await stage.follow(f"conv:{stage.agent}")
    stage.logs.drop(stage.conversation, stage.agent)
    assert [(channel, code) for channel, code, _ in sink.over] == [
        (f"conv:{stage.conversation}", PERMISSION_REVOKED)
    ]
    assert other.over == []
    assert stage.logs.heard == 1


@pytest.mark.parametrize("cold", [False, True])
async def test_a_gap_with_a_deleted_conversation_is_not_recovered_in_part(cold: bool) -> None:
    stage = Stage()
    name = f"agent:{stage.agent}"
    first, _ = await stage.follow(name)
    stage.channel.publish(*run_of(stage.conversation, ["a", "b"]))
    between = stage.feeds.position(name)
    assert between is not None
    stage.own.publish(*run_of(stage.agent, ["c"]))
    if cold:
        await stage.logs.freeze()
        await stage.logs.freeze()
    stage.logs.drop(stage.conversation, stage.agent)
    again, _ = await stage.follow(name, since=(first.epoch, first.offset))
    assert (again.recovered, again.publications) == (False, [])
    later, _ = await stage.follow(name, since=(first.epoch, between.offset))
    assert later.recovered
    assert text_of(data_of(later.publications)) == "c"


async def test_a_deleted_agent_ends_all_its_channels() -> None:
    stage = Stage()
    sink = Recorder()
    names = [f"conv:{stage.conversation}", f"conv:{stage.agent}", f"agent:{stage.agent}"]
    for name in names:
        await stage.follow(name, sink=sink)
    stage.logs.bury(stage.agent, [stage.agent, stage.conversation])
    assert sorted(channel for channel, _, _ in sink.over) == sorted(names)
    assert {code for _, code, _ in sink.over} == {PERMISSION_REVOKED}
    assert stage.logs.heard == 0


async def test_what_is_deleted_while_it_is_looked_up_cannot_be_followed() -> None:
    stage = Stage()
    stage.access.meanwhile = lambda: stage.logs.drop(stage.conversation, stage.agent)
    with pytest.raises(ProtocolError) as refused:
        await stage.follow(f"conv:{stage.conversation}")
    assert refused.value.code == PERMISSION_DENIED
    assert stage.logs.heard == 0


async def test_an_agents_channel_tells_its_conversations_apart() -> None:
    stage = Stage()
    _, sink = await stage.follow(f"agent:{stage.agent}")
    one, two = run_of(stage.conversation, ["a", "b"]), run_of(stage.agent, ["x", "y"])
    for first, second in zip(one, two, strict=True):
        stage.channel.publish(first)
        stage.own.publish(second)
    assert sink.offsets == list(range(1, len(one) + len(two) + 1))
    tags = [published(frame.pub)["tags"] for frame in sink.frames]
    assert [tag["conv"] for tag in tags] == [stage.conversation, stage.agent] * len(one)
    mine = [d for d, tag in zip(sink.data, tags, strict=True) if tag["run"] == one[0].run_id]
    assert text_of(mine) == "ab"


async def test_the_first_follower_of_an_agent_gets_its_running_runs_from_their_starts() -> None:
    stage = Stage()
    stage.channel.publish(*run_of(stage.conversation, ["over"]))
    one, two = run_of(stage.conversation, ["a", "b"]), run_of(stage.agent, ["x", "y"])
    stage.channel.publish(*one[:4])
    stage.own.publish(*two[:5])
    subscribed, sink = await stage.follow(f"agent:{stage.agent}")
    assert offsets_of(subscribed) == list(range(1, 10))
    stage.channel.publish(*one[4:])
    late, _ = await stage.follow(f"agent:{stage.agent}")
    assert [d["type"] for d in data_of(late.publications)].count("RUN_STARTED") == 1, "the other is over"
    assert text_of(data_of(late.publications)) == "xy"
    stage.own.publish(*two[5:])
    assert text_of(data_of(subscribed.publications) + sink.data) == "axyb"


async def test_an_agents_log_goes_on_for_a_while_after_its_last_subscriber() -> None:
    stage = Stage()
    name = f"agent:{stage.agent}"
    events = run_of(stage.conversation, list("abc"))
    subscribed, sink = await stage.follow(name)
    stage.channel.publish(*events[:4])
    subscribed.close()
    stage.channel.publish(*events[4:6])
    again, after = await stage.follow(name, since=(subscribed.epoch, sink.offsets[-1]))
    assert again.recovered
    stage.channel.publish(*events[6:])
    assert sink.offsets + offsets_of(again) + after.offsets == list(range(1, len(events) + 1))


async def test_an_agents_log_is_forgotten_in_the_end() -> None:
    stage = Stage(keep_seconds=0.0)
    name = f"agent:{stage.agent}"
    subscribed, _ = await stage.follow(name)
    subscribed.close()
    await _until(lambda: stage.logs.heard == 0)
    again, _ = await stage.follow(name, since=(subscribed.epoch, subscribed.offset))
    assert not again.recovered
    assert again.epoch != subscribed.epoch


async def test_the_place_of_a_channel_is_that_of_its_log() -> None:
    stage = Stage()
    assert stage.feeds.position(f"conv:{new_id('conv')}") is None
    stage.channel.publish(*run_of(stage.conversation, ["Hi"]))
    position = stage.feeds.position(f"conv:{stage.conversation}")
    assert position is not None
    assert (position.epoch, position.offset) == (stage.channel.epoch, 7)


async def test_a_known_channel_is_not_looked_up_again() -> None:
    stage = Stage()
    for _ in range(3):
        await stage.follow(f"conv:{stage.conversation}")
    assert stage.access.looked_up == 1


async def test_closed_feeds_listen_to_nothing() -> None:
    stage = Stage()
    subscribed, _ = await stage.follow(f"agent:{stage.agent}")
    subscribed.close()
    await stage.feeds.aclose()
    assert stage.logs.heard == 0
    assert stage.logs.on_gone == []


async def test_a_malformed_choice_is_refused() -> None:
    stage = Stage()
    with pytest.raises(ProtocolError) as refused:
        await stage.follow(f"conv:{stage.conversation}", events=["TEXT (.*)+"])
    assert refused.value.code == BAD_REQUEST
    with pytest.raises(ProtocolError):
        await stage.follow(f"conv:{stage.conversation}", max_rate=-1)
    assert Subscribe(f"conv:{stage.conversation}").data is None


async def _until(condition) -> None:
    import anyio

    with anyio.fail_after(10):
        while not condition():
            await anyio.sleep(0.005)
