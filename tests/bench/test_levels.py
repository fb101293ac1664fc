"""A level of load, judged."""

import asyncio

import pytest

from bench import levels
from bench.arrivals import Arrivals
from bench.doors import Door
from bench.generator import Given, Order, Said
from bench.levels import Level, by_number, judge
from bench.provider import Provider
from bench.recording import Record

MS = 1_000_000
DOOR = Door(name="ours", wire="letta", url="http://x")
OPEN = Order(door=DOOR, agents=["a"], open_loop=Arrivals(rate=10, seconds=2))


def record(number: int, *, arrived: int, wrote: list[int]) -> Record:
    wrote_ns = [ms * MS for ms in wrote]
    return Record(
        number=number,
        path="/v1/chat/completions",
        arrived_ns=arrived * MS,
        user_text=f'{{"message": "#{number:010d}# hi"}}',
        first_ns=wrote_ns[0],
        ended_ns=wrote_ns[-1],
        wrote_ns=wrote_ns,
    )


def said(number: int, *, meant: int, sent: int, words: list[int], failure: str = "") -> Said:
    words_ns = [ms * MS for ms in words]
    return Said(number, meant * MS, sent * MS, words_ns[0], words_ns[-1] + MS, words_ns, failure)


def judged(all_said: list[Said], records: list[Record], order: Order = OPEN) -> Level:
    return judge(order, Given(0, 3000 * MS, all_said, 0.5), by_number(records), case="c", level=3)


def test_what_the_provider_caused_is_taken_off() -> None:
    one = said(1, meant=1, sent=2, words=[110, 135, 150])
    found = judged([one], [record(1, arrived=5, wrote=[105, 125, 145])])
    assert found.first is not None
    assert found.first_added is not None
    assert found.whole_added is not None
    assert found.gap_added is not None
    assert found.first.p50 == pytest.approx(109, rel=2e-3)
    assert found.first_added.p50 == pytest.approx(9, rel=2e-3)
    assert found.whole_added.p50 == pytest.approx(10, rel=2e-3)
    assert (found.gap_added.count, found.gap_added.max) == (2, pytest.approx(5, rel=2e-3))
    assert found.gap_added.p50 == 0  # one word came before its pace: that is nothing added


def test_a_server_with_a_model_of_its_own_has_no_overhead() -> None:
    found = judged([said(1, meant=0, sent=0, words=[100, 120])], [])
    assert found.first is not None
    assert found.gap is not None
    assert (found.first_added, found.whole_added, found.gap_added) == (None, None, None)


def test_failures_are_counted_by_what_they_are_and_not_timed() -> None:
    good = [said(n, meant=n, sent=n, words=[n + 10]) for n in range(1, 10)]
    late = said(10, meant=10, sent=10, words=[5000], failure="status 503")
    dropped = Said(11, 11 * MS, 0, 0, 11 * MS, [], "none of the lines was free")
    found = judged([*good, late, dropped], [])
    assert (found.sent, found.failed) == (11, 2)
    assert found.failures == {"status 503": 1, "none of the lines was free": 1}
    assert found.whole is not None
    assert found.whole.count == 9
    assert found.collapsed


def test_a_generator_that_was_late_is_marked() -> None:
    times = [(0, 0)] * 50
    on_time = judged([said(n, meant=a, sent=b, words=[100]) for n, (a, b) in enumerate(times, 1)], [])
    times[25] = (0, 6)
    late = judged([said(n, meant=a, sent=b, words=[100]) for n, (a, b) in enumerate(times, 1)], [])
    assert (on_time.late, late.late) == (False, True)
    assert late.lateness is not None
    assert late.lateness.max == pytest.approx(6, rel=2e-3)


def test_a_level_collapses_where_the_first_token_comes_a_second_late() -> None:
    held = judged([said(1, meant=0, sent=0, words=[999])], [])
    fallen = judged([said(1, meant=0, sent=0, words=[1005])], [])
    assert (held.collapsed, fallen.collapsed) == (False, True)


def closed(all_said: list[Said], window_ns: tuple[int, int] | None) -> Level:
    order = Order(door=DOOR, agents=["a"], seconds=2.5, warm_s=0.5)
    return judge(order, Given(0, 3000 * MS, all_said, 0.5, window_ns), {}, case="c", level=3)


def test_the_rate_of_the_closed_loop_counts_what_came_in_its_window_whenever_it_was_said() -> None:
    in_time = [said(n, meant=n, sent=n, words=[500 + n]) for n in range(10)]
    after = said(11, meant=1999, sent=1999, words=[2500])
    found = closed([*in_time, after], (500 * MS, 2500 * MS))
    assert found.rate == 5
    assert (found.asked, found.lateness, found.late) == (None, None, False)


def test_a_closed_loop_without_a_whole_round_has_no_rate_rather_than_none_a_second() -> None:
    assert closed([said(1, meant=0, sent=0, words=[1900])], None).rate is None


def test_messages_that_failed_alike_are_counted_together_whatever_their_ids() -> None:
    reasons = [
        "status 404: no run run-5b1adb03-a639-4485-b2d5-0123456789ab",
        "status 404: no run run-5d1adb03-a639-4485-b2d5-0123456789ac",
        "status 503: message 1700000000 of 12",
        "status 503: message 1700000001 of 12",
    ]
    failed = [
        said(n, meant=0, sent=0, words=[0], failure=reason)
        for n, reason in enumerate([*reasons, "status 500: no run", ""])
    ]
    assert judged(failed, []).failures == {
        "status 404: no run run-…": 2,
        "status 503: message … of 12": 2,
        "status 500: no run": 1,
    }


def test_a_level_says_why_it_collapsed() -> None:
    good, bad = said(1, meant=0, sent=0, words=[5]), said(2, meant=0, sent=0, words=[0], failure="status 503")
    assert judged([good], []).why_collapsed == ""
    assert judged([good, bad], []).why_collapsed == "50.0% failed"
    assert "1 s late" in judged([said(1, meant=0, sent=0, words=[1005])], []).why_collapsed
    assert closed([said(1, meant=0, sent=0, words=[1900])], None).why_collapsed == ""
    assert closed([], None).why_collapsed == "no message was answered"


def test_the_number_of_the_newest_message_counts_and_the_first_request_for_it() -> None:
    first, second = record(7, arrived=1, wrote=[2]), record(7, arrived=3, wrote=[4])
    first.user_text = "#0000000003# before #0000000007# now"
    other = record(9, arrived=1, wrote=[2])
    other.user_text = "a title, please"
    assert by_number([first, second, other]) == {7: first}


@pytest.mark.timeout(60)
async def test_a_level_of_the_floor_adds_next_to_nothing(provider: Provider) -> None:
    door = Door(name="floor", wire="openai", url=provider.base_url, model="fixed-t5-d100-g20")
    order = Order(door=door, agents=[str(i) for i in range(30)], open_loop=Arrivals(rate=20, seconds=1))
    found = await asyncio.to_thread(levels.measure, order, provider, case="c", level=2)
    assert (found.failed, found.loop) == (0, "open")
    assert found.first is not None
    assert found.first_added is not None
    assert found.gap_added is not None
    assert found.first.p50 > 100
    assert found.first_added.p50 < found.first.p50 - 90
    assert found.gap_added.count == 4 * found.sent
