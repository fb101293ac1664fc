import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import clock
from actors.errors import MailboxFullError
from actors.load import ANSWERS_PER_AGENT, LANDED, Load

AGENTS = ("agent-a", "agent-b")
moves = st.lists(
    st.tuples(st.sampled_from(["reserve", "hold", "refuse", "finish", "restore"]), st.integers(0, 5)),
    max_size=60,
)


@given(moves)
def test_counts_are_what_is_unfinished_and_stay_within_the_bounds(steps: list[tuple[str, int]]) -> None:
    load = Load(per_agent=3, in_all=5)
    reserved: list[str] = []
    held: dict[str, str] = {}
    restored = 0
    for number, (move, choice) in enumerate(steps):
        agent = AGENTS[choice % 2]
        mine = reserved.count(agent) + list(held.values()).count(agent)
        total = len(reserved) + len(held)
        match move:
            case "reserve" if mine >= 3 or total >= 5:
                with pytest.raises(MailboxFullError) as caught:
                    load.reserve(agent, agent)
                assert caught.value.scope == ("agent" if mine >= 3 else "server")
                assert caught.value.retry_after > 0
            case "reserve":
                load.reserve(agent, agent)
                reserved.append(agent)
            case "restore" if restored < 3:  # what is there already is never refused
                load.restore(agent, agent)
                load.hold(f"run-{number}", agent, agent)
                held[f"run-{number}"] = agent
                restored += 1
            case "hold" if reserved:
                agent = reserved.pop(0)
                load.hold(f"run-{number}", agent, agent)
                held[f"run-{number}"] = agent
            case "refuse" if reserved:
                agent = reserved.pop()
                load.give_back(agent, agent)
            case "finish" if held:
                run_id = sorted(held)[choice % len(held)]
                load.finish(run_id)
                load.finish(run_id)  # a run that is over already is no error
                del held[run_id]
            case _:
                continue
        assert load.total == len(reserved) + len(held)
        for agent in AGENTS:
            assert load.waiting(agent) == reserved.count(agent) + list(held.values()).count(agent)
            assert load.runs_of(agent) == [r for r, a in held.items() if a == agent]
        assert all(load.held(r) and load.where(r) == (a, a) for r, a in held.items())
    for agent in reserved:
        load.give_back(agent, agent)
    for run_id in held:
        load.finish(run_id)
    assert load.total == 0
    assert not load._agents
    assert not load._conversations


def test_runs_are_listed_per_conversation() -> None:
    load = Load(per_agent=9, in_all=9)
    for run_id, conversation_id in (("run-1", "conv-1"), ("run-2", "conv-2"), ("run-3", "conv-1")):
        load.restore("agent-a", conversation_id)
        load.hold(run_id, "agent-a", conversation_id)
    assert load.runs_of("agent-a", "conv-1") == ["run-1", "run-3"]
    assert load.runs_of("agent-a") == ["run-1", "run-2", "run-3"]
    assert load.runs_of("agent-b") == []
    assert load.where("run-9") is None


def test_the_runs_that_end_while_somebody_listens_are_heard() -> None:
    load = Load(per_agent=9, in_all=9)
    for run_id in ("run-1", "run-2", "run-3", "run-4"):
        load.restore("agent-a", "conv-1")
        load.hold(run_id, "agent-a", "conv-1")
    load.finish("run-1")
    with load.ends() as all_of_it:
        load.finish("run-2")
        with load.ends() as some_of_it:
            load.finish("run-3")
    load.finish("run-4")
    assert (all_of_it, some_of_it) == ({"run-2", "run-3"}, {"run-3"})


def test_a_conversation_is_at_rest_when_nothing_in_it_is_reserved_or_unfinished() -> None:
    load = Load(per_agent=9, in_all=9)
    assert load.at_rest("conv-1")
    load.reserve("agent-a", "conv-1")
    load.reserve("agent-a", "conv-2")
    assert not load.at_rest("conv-1")
    load.hold("run-1", "agent-a", "conv-1")
    load.give_back("agent-a", "conv-2")
    assert load.at_rest("conv-2")
    assert not load.at_rest("conv-1")
    load.finish("run-1")
    assert load.at_rest("conv-1")


def test_nothing_is_at_rest_while_a_lost_acceptance_may_still_be_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    monkeypatch.setattr(clock, "monotonic", lambda: now)
    load = Load(per_agent=9, in_all=9)
    load.lost()
    assert not load.at_rest("conv-1")
    now += LANDED - 0.1
    assert not load.at_rest("conv-1")
    now += 0.1
    assert load.at_rest("conv-1")


def test_answers_have_places_beyond_the_bounds_and_these_are_bounded_too() -> None:
    load = Load(per_agent=1, in_all=1)
    load.reserve("agent-a", "agent-a")
    for _ in range(ANSWERS_PER_AGENT):
        load.reserve_answer("agent-a", "agent-a")
    with pytest.raises(MailboxFullError):
        load.reserve_answer("agent-a", "agent-a")
    load.reserve_answer("agent-b", "agent-b")
    with pytest.raises(MailboxFullError):
        load.reserve("agent-b", "agent-b")


def test_a_cancelled_run_is_remembered_until_it_is_over() -> None:
    load = Load(per_agent=1, in_all=1)
    load.cancel("run-1")
    assert not load.cancelled("run-1")
    load.reserve("agent-a", "agent-a")
    load.hold("run-1", "agent-a", "agent-a")
    load.cancel("run-1")
    assert load.cancelled("run-1")
    load.finish("run-1")
    assert not load.cancelled("run-1")
