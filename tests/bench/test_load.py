"""The load client, against the scripted provider."""

import time
from typing import Any

import msgspec
import pytest

from bench import load
from bench.load import BUCKET_NS, NUMBER, Job, Loading, Outcome, Slot, Timing, Worker
from bench.provider import Provider
from bench.targets import free_port

PATH = "/v1/chat/completions"


def ask(model: str = "fixed-t1-d0-g0") -> tuple[str, str]:
    message = {"role": "user", "content": NUMBER}
    return PATH, msgspec.json.encode({"model": model, "messages": [message]}).decode()


def events(count: int) -> dict[str, Any]:
    return {"sse": 'data: {"message_type":"assistant_message"}\n\n' * count}


async def test_each_slot_sends_in_turn_and_every_request_has_its_number(provider: Provider) -> None:
    outcome = load.run(Job(port=provider.port, slots=[Slot([ask()] * 3), Slot([ask()] * 2)], keep=True))
    records = await provider.log()
    assert sorted(timing.number for timing in outcome.timings) == [1, 2, 3, 4, 5]
    assert sorted(int(record.user_text) for record in records) == [1, 2, 3, 4, 5]
    assert [timing.slot for timing in outcome.timings].count(0) == 3
    assert all("word0" in body for body in outcome.bodies)
    by_number = {int(record.user_text): record for record in records}
    for timing in outcome.timings:
        record = by_number[timing.number]
        assert record.ended_ns is not None
        assert timing.sent_ns < record.arrived_ns < record.ended_ns
        assert record.first_ns is not None
        assert record.first_ns < timing.ended_ns


async def test_a_job_with_a_time_goes_round_until_it_is_over(provider: Provider) -> None:
    began = time.monotonic()
    outcome = load.run(Job(port=provider.port, slots=[Slot([ask()])], seconds=1.5))
    assert len(outcome.timings) > 5
    assert 1.5 <= (outcome.ended_ns - outcome.started_ns) / 1e9 <= time.monotonic() - began


async def test_pieces_of_the_answer_are_counted_and_timed(provider: Provider) -> None:
    await provider.script([events(7) | {"repeat": 2, "delay_ms": 30}])
    body = '{"model":"m","stream":true,"messages":[{"role":"user","content":"x"}]}'
    outcome = load.run(Job(port=provider.port, slots=[Slot([(PATH, body)] * 2)]))
    assert [timing.tokens for timing in outcome.timings] == [7, 7]
    assert sum(outcome.tokens_by_bucket.values()) == 14
    first = outcome.timings[0]
    assert first.first_ns - first.sent_ns >= 29e6
    assert first.first_ns // BUCKET_NS in outcome.tokens_by_bucket


async def test_a_broken_connection_is_counted_and_the_next_request_is_sent(provider: Provider) -> None:
    await provider.script([{"fault": "cut_after"}])
    outcome = load.run(Job(port=provider.port, slots=[Slot([ask()] * 2)]))
    assert [timing.status for timing in outcome.timings] == [0, 200]


async def test_an_error_keeps_its_status(provider: Provider) -> None:
    await provider.script([{"status": 503}])
    outcome = load.run(Job(port=provider.port, slots=[Slot([ask()])]))
    assert [timing.status for timing in outcome.timings] == [503]


async def test_a_target_that_is_not_there_raises_and_the_next_job_is_done(provider: Provider) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)load client failed: .*ConnectionRefusedError"):
        load.run(Job(port=free_port(), slots=[Slot([ask()])]))
    assert len(load.run(Job(port=provider.port, slots=[Slot([ask()])])).timings) == 1


async def test_a_client_that_has_done_its_job_does_the_next_and_two_at_once_are_two(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = list[Worker]()

    class Counted(Worker):
        def __init__(self) -> None:
            super().__init__()
            started.append(self)

    monkeypatch.setattr(load, "Worker", Counted)
    load.close()
    job = Job(port=provider.port, slots=[Slot([ask()] * 2)])
    outcomes = [load.run(job) for _ in range(3)]
    assert [len(outcome.timings) for outcome in outcomes] == [2, 2, 2]
    assert [timing.number for timing in outcomes[-1].timings] == [1, 2], "each job counts anew"
    assert len(started) == 1
    both = [Loading(job), Loading(job)]
    assert [len(loading.finish().timings) for loading in both] == [2, 2]
    assert len(started) == 2
    load.close()


async def test_a_later_slot_starts_later(provider: Provider) -> None:
    outcome = load.run(Job(port=provider.port, slots=[Slot([ask()]), Slot([ask()], start_s=0.1)]))
    early, late = sorted(outcome.timings, key=lambda timing: timing.sent_ns)
    assert (early.slot, late.slot) == (0, 1)
    assert late.sent_ns - outcome.started_ns >= 0.099e9


def test_requests_that_ended_in_a_stretch_are_counted_without_those_before_and_after() -> None:
    ended = (99, 100, 150, 199, 200)
    timings = [Timing(0, number, 200, 0, 50, at, 1) for number, at in enumerate(ended)]
    assert Outcome(0, 300, timings, {}, []).ended_within(100, 200) == 3
