import random
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import window
from actors.window import INTERRUPTED, Entry, cut, fit, repair
from storage.records import (
    DEFAULT_ORGANIZATION,
    Message,
    Part,
    Role,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
)

BORN = datetime(2026, 1, 1, tzinfo=UTC)


def message(position: int, role: Role, *parts: Part, excluded: bool = False) -> Message:
    return Message(
        id=f"message-{position}",
        organization_id=DEFAULT_ORGANIZATION,
        agent_id="agent-1",
        conversation_id="agent-1",
        position=position,
        role=role,
        content=parts,
        created_at=BORN,
        run_id="run-1",
        step_id="step-1",
        tokens=1,
        excluded=excluded,
    )


def call(call_id: str, name: str = "memory_insert") -> ToolCallPart:
    return ToolCallPart(call_id, name, "{}")


def result(call_id: str) -> ToolReturnPart:
    return ToolReturnPart(call_id, "memory_insert", "success", "ok")


Shape = tuple[int, list[int]]  # what kind of message, and its parts, as small numbers


def history_of(shapes: Sequence[Shape]) -> list[Message]:
    """A history that is broken in every way: few call ids, so that they collide, repeat and cross."""
    history: list[Message] = []
    for position, (kind, numbers) in enumerate(shapes, start=1):
        texts: list[Part] = [TextPart("hi")]
        match kind % 4:
            case 0 | 1:
                parts = [call("abc"[n]) if n < 3 else texts[0] for n in numbers]
                role: Role = "assistant"
            case 2:
                parts, role = [result("abc"[n]) if n < 3 else texts[0] for n in numbers], "tool"
            case _:
                parts, role = texts, "user"
        history.append(message(position, role, *parts, excluded=kind >= 20))
    return history


shapes = st.lists(st.tuples(st.integers(0, 23), st.lists(st.integers(0, 3), max_size=3)), max_size=12)


def random_shapes(source: random.Random) -> list[Shape]:
    return [
        (source.randrange(24), source.choices(range(4), k=source.randrange(4)))
        for _ in range(source.randrange(13))
    ]


def sent(messages: Sequence[Message]) -> list[Message]:
    return [m for m in messages if not m.excluded]


def entries_of(messages: Sequence[Message], tokens: Sequence[int]) -> list[Entry]:
    """Entries as a provider sees the history: each tool result is a message of its own."""
    entries: list[Entry] = []
    for m in sent(messages):
        count = tokens[len(entries) % len(tokens)]
        if m.role == "tool":
            entries += [Entry(m.position, "tool", count, b"{}") for _ in m.content]
        else:
            calls = sum(isinstance(part, ToolCallPart) for part in m.content)
            entries.append(Entry(m.position, m.role, count, b"{}", calls))
    return entries


def assert_pairs_are_whole(messages: Sequence[Message]) -> None:
    """What providers check: each call is answered once, right behind its message, and nothing else is."""
    open_calls: list[str] = []
    for m in sent(messages):
        if m.role == "tool":
            assert m.content
            for part in m.content:
                assert isinstance(part, ToolReturnPart)
                open_calls.remove(part.tool_call_id)
        else:
            assert open_calls == [], f"calls {open_calls} have no result before {m.id}"
            open_calls = [part.id for part in m.content if isinstance(part, ToolCallPart)]
            assert len(open_calls) == len(set(open_calls))
    assert open_calls == []


def assert_repair_mends(history: list[Message]) -> None:
    repaired = repair(history)
    assert_pairs_are_whole(repaired.messages)
    again = repair(repaired.messages)
    assert again.messages == repaired.messages
    assert again.added == again.changed == ()
    added = {m.id for m in repaired.added}
    assert [m.id for m in repaired.messages if m.id not in added] == [m.id for m in history], (
        "no stored message disappears or moves"
    )
    changed = {m.id for m in repaired.changed}
    before = {m.id: m for m in history}
    for m in repaired.messages:
        assert m.id in added or (m != before[m.id]) == (m.id in changed)


def assert_fit_is_right(messages: Sequence[Message], tokens: list[int], budget: int) -> None:
    entries = entries_of(messages, tokens)
    fitted = fit(entries, budget)
    kept = entries[fitted.start :]
    assert sum(e.tokens for e in kept) == fitted.tokens <= budget
    assert_pairs_are_whole([m for m in messages if m.position >= fitted.from_position])
    if kept:
        assert kept[0].role != "tool"
        assert kept[0].position == fitted.from_position
    assert fitted.evicted == len({e.position for e in entries[: fitted.start]})
    if earlier := [i for i in range(fitted.start) if entries[i].role != "tool"]:
        assert sum(e.tokens for e in entries[earlier[-1] :]) > budget, "one more unit would have fit"


@given(shapes)
def test_a_repaired_history_is_acceptable_and_repairing_it_again_changes_nothing(drawn: list[Shape]) -> None:
    assert_repair_mends(history_of(drawn))


@given(shapes, st.lists(st.integers(0, 50), min_size=1, max_size=9), st.integers(0, 200))
def test_what_fits_respects_the_budget_and_splits_no_pair(
    drawn: list[Shape], tokens: list[int], budget: int
) -> None:
    assert_fit_is_right(repair(history_of(drawn)).messages, tokens, budget)


@pytest.mark.timeout(90)
def test_ten_thousand_random_histories_are_mended_and_fitted() -> None:
    source = random.Random(20261122)
    for _ in range(10_000):
        history = history_of(random_shapes(source))
        assert_repair_mends(history)
        tokens = source.choices(range(51), k=5)
        assert_fit_is_right(repair(history).messages, tokens, source.randrange(200))


def test_everything_stays_while_it_fits() -> None:
    entries = [Entry(1, "user", 5, b"{}"), Entry(2, "assistant", 5, b"{}")]
    assert fit(entries, 10) == window.Fit(start=0, from_position=1, evicted=0, tokens=10)


def test_a_result_that_fits_goes_when_its_call_does_not() -> None:
    entries = [
        Entry(1, "user", 1, b"{}"),
        Entry(2, "assistant", 50, b"{}", 2),
        Entry(3, "tool", 1, b"{}"),
        Entry(3, "tool", 1, b"{}"),
        Entry(4, "assistant", 5, b"{}"),
    ]
    assert fit(entries, 20) == window.Fit(start=4, from_position=4, evicted=3, tokens=5)


def test_no_window_starts_between_a_call_and_a_result_even_in_a_history_that_is_not_repaired() -> None:
    talked_between = [
        Entry(1, "assistant", 50, b"{}", 1),
        Entry(2, "user", 1, b"{}"),
        Entry(3, "tool", 1, b"{}"),
        Entry(4, "user", 1, b"{}"),
    ]
    assert fit(talked_between, 20).from_position == 4
    open_at_the_end = [
        Entry(1, "assistant", 50, b"{}", 1),
        Entry(2, "tool", 1, b"{}"),
        Entry(3, "assistant", 1, b"{}", 1),
    ]
    assert fit(open_at_the_end, 20).from_position == 3


def test_a_newest_message_beyond_the_budget_leaves_nothing() -> None:
    entries = [Entry(4, "user", 1, b"{}"), Entry(5, "user", 100, b"{}")]
    assert fit(entries, 99) == window.Fit(start=2, from_position=6, evicted=2, tokens=0)
    assert fit([], 99) == window.Fit(start=0, from_position=1, evicted=0, tokens=0)


def test_twenty_messages_of_a_hot_agent_stay_below_24_kib() -> None:
    entries = [Entry(10_000 + i, "user", 1_000 + i, b"x" * 600, 0) for i in range(20)]
    size = sys.getsizeof(entries) + sum(
        sys.getsizeof(e) + sys.getsizeof(e.wire) + sys.getsizeof(e.position) + sys.getsizeof(e.tokens)
        for e in entries
    )
    assert size < 24 * 1024
    assert sys.getsizeof(entries[0]) <= 64, "an entry is its five fields and nothing else"


def test_a_call_that_was_cut_off_gets_one_interrupted_result_behind_its_siblings() -> None:
    history = [
        message(1, "user", TextPart("hi")),
        message(2, "assistant", call("a", "memory_replace"), call("b")),
        message(3, "tool", result("b")),
        message(4, "user", TextPart("and?")),
    ]
    repaired = repair(history)
    assert [m.id for m in repaired.messages[:3]] == ["message-1", "message-2", "message-3"]
    (added,) = repaired.added
    assert repaired.messages[3] is added
    assert added.content == (ToolReturnPart("a", "memory_replace", "error", INTERRUPTED),)
    assert (added.position, added.role, added.run_id, added.step_id) == (3, "tool", "run-1", "step-1")
    assert repaired.changed == ()
    assert repair(history).added[0].id == added.id, "the same repair has the same id in every life"


def test_the_caller_chooses_what_a_missing_result_says() -> None:
    (added,) = repair([message(1, "assistant", call("a"))], text="uncertain").added
    assert added.content == (ToolReturnPart("a", "memory_insert", "error", "uncertain"),)


def test_a_result_that_somebody_talked_before_is_an_orphan() -> None:
    history = [
        message(1, "assistant", call("a")),
        message(2, "user", TextPart("wait")),
        message(3, "tool", result("a")),
    ]
    repaired = repair(history)
    assert [m.position for m in repaired.added] == [1]
    (orphan,) = repaired.changed
    assert orphan == msgspec.structs.replace(history[2], excluded=True)


def test_the_second_of_two_results_and_of_two_equal_calls_is_dropped() -> None:
    history = [
        message(1, "assistant", TextPart("hm"), call("a"), call("a")),
        message(2, "tool", result("a"), result("a")),
    ]
    repaired = repair(history)
    assert [m.content for m in repaired.changed] == [(TextPart("hm"), call("a")), (result("a"),)]
    assert repaired.added == ()


def test_excluded_messages_answer_nothing_and_separate_nothing() -> None:
    history = [
        message(1, "assistant", call("a"), excluded=True),
        message(2, "tool", result("a")),
        message(3, "assistant", call("b")),
        message(4, "user", TextPart("refused"), excluded=True),
        message(5, "tool", result("b")),
    ]
    repaired = repair(history)
    assert repaired.added == ()
    assert [m.id for m in repaired.changed] == ["message-2"]


def test_an_id_of_a_past_call_may_come_again() -> None:
    history = [
        message(1, "assistant", call("a")),
        message(2, "tool", result("a")),
        message(3, "assistant", call("a")),
        message(4, "tool", result("a")),
    ]
    assert repair(history) == window.Repaired(tuple(history))


# --- what a compaction evicts ---------------------------------------------------------------


Exchange = tuple[int, int, int]  # what kind of exchange, how many results it has, and how long it is


def window_of(exchanges: Sequence[Exchange]) -> list[Entry]:
    """Return a window of whole exchanges: some call tools, whose results are one row or several."""
    entries: list[Entry] = []

    def add(role: Role, tokens: int, *, calls: int = 0, new: bool = True) -> None:
        position = (entries[-1].position if entries else 0) + new
        entries.append(Entry(position, role, tokens, b"{}", calls))

    for kind, results, tokens in exchanges:
        add("user", tokens)
        if kind == 0:
            add("assistant", tokens, calls=results)
            for number in range(results):
                add("tool", tokens, new=number == 0)  # a row of several results is several entries
        elif kind == 1:
            add("assistant", tokens, calls=results)
            for _ in range(results):
                add("tool", tokens)
        add("assistant", tokens)
    return entries


def open_calls(entries: Sequence[Entry]) -> int:
    return sum(e.calls - (e.role == "tool") for e in entries)


EXCHANGES = st.lists(
    st.tuples(st.integers(0, 2), st.integers(1, 3), st.integers(1, 500)), min_size=20, max_size=60
)


@given(EXCHANGES, st.floats(0.1, 0.9))
def test_what_was_asked_is_evicted_and_no_pair_is_split(exchanges: list[Exchange], share: float) -> None:
    check_cut(exchanges, share)


@pytest.mark.timeout(90)
def test_ten_thousand_histories_lose_what_was_asked_and_no_half_of_a_pair() -> None:
    dice = random.Random(8)
    for _ in range(10_000):
        exchanges = [
            (dice.randrange(3), dice.randint(1, 3), dice.randint(1, 500)) for _ in range(dice.randint(20, 60))
        ]
        check_cut(exchanges, dice.uniform(0.1, 0.9))


def check_cut(exchanges: list[Exchange], share: float) -> None:
    entries = window_of(exchanges)
    found = cut(entries, share=share, budget_tokens=10**9)
    assert found is not None
    before, after = entries[: found.start], entries[found.start :]
    assert open_calls(before) == open_calls(after) == 0
    assert not after or (after[0].role != "tool" and after[0].position > before[-1].position)
    assert found.rows == len({e.position for e in entries})
    assert found.evicted == len({e.position for e in before})
    assert found.tokens == sum(e.tokens for e in after)
    # At most four of at least forty rows stand or fall together, so a cut is never farther.
    assert abs(found.evicted / found.rows - share) <= 0.05 + 1e-9


@given(EXCHANGES, st.floats(0.1, 1.0), st.integers(0, 20_000))
def test_more_is_evicted_only_where_what_stays_would_not_fit(
    exchanges: list[Exchange], share: float, budget: int
) -> None:
    entries = window_of(exchanges)
    asked = cut(entries, share=share, budget_tokens=10**9)
    found = cut(entries, share=share, budget_tokens=budget)
    assert asked is not None
    assert found is not None
    assert found.tokens <= budget
    if asked.tokens <= budget:
        assert found == asked
    else:
        less = cut(entries, share=(found.evicted - 1) / found.rows, budget_tokens=10**9)
        assert less is None or less.evicted == found.evicted or less.tokens > budget


@given(EXCHANGES, st.floats(0.1, 1.0), st.data())
def test_what_must_stay_stays(exchanges: list[Exchange], share: float, data: st.DataObject) -> None:
    entries = window_of(exchanges)
    keep = data.draw(st.sampled_from([e.position for e in entries]))
    found = cut(entries, share=share, budget_tokens=0, keep_from=keep)
    assert found is None or found.from_position <= keep


def test_a_call_without_its_results_yet_stays_with_all_behind_it() -> None:
    entries = [
        Entry(1, "user", 1, b"{}"),
        Entry(2, "assistant", 1, b"{}"),
        Entry(3, "approval", 1, b"{}", 2),
        Entry(4, "tool", 1, b"{}"),
    ]
    found = cut(entries, share=1.0, budget_tokens=0)
    assert found is not None
    assert (found.from_position, found.evicted, found.rows) == (3, 2, 4)


def test_nothing_can_leave_an_empty_window() -> None:
    assert cut([], share=0.3, budget_tokens=0) is None
    assert cut([Entry(1, "user", 5, b"{}")], share=0.3, budget_tokens=0, keep_from=1) is None


def test_one_message_leaves_even_where_less_was_asked() -> None:
    found = cut([Entry(1, "user", 5, b"{}"), Entry(2, "assistant", 5, b"{}")], share=0.01, budget_tokens=99)
    assert found is not None
    assert found.evicted == 1
