from hypothesis import given
from hypothesis import strategies as st

from actors import loop
from actors.loop import Called, CallModel, Finish, Policy, RunTools, Turn, next_action
from actors.rules import compiled
from storage.records import ToolCallPart

calls = st.lists(
    st.builds(ToolCallPart, st.uuids().map(str), st.sampled_from("ab"), st.just("{}")), max_size=3
).map(tuple)
turns = st.builds(
    Turn,
    max_steps=st.integers(1, 5),
    steps_taken=st.integers(0, 6),
    calls=calls,
    answered=st.booleans(),
    truncated=st.booleans(),
    invalid_calls=st.integers(0, 4),
    ended=st.sampled_from([None, None, "cancelled", "llm_api_error"]),
)


@given(turns)
def test_open_calls_are_always_run_unless_the_turn_was_ended(turn: Turn) -> None:
    action = next_action(turn)
    if turn.ended is not None:
        assert action == Finish(turn.ended)
    elif turn.calls:
        assert action == RunTools(turn.calls)


@given(turns)
def test_the_model_is_never_called_past_the_limit(turn: Turn) -> None:
    if isinstance(next_action(turn), CallModel):
        assert turn.steps_taken < turn.max_steps
        assert turn.invalid_calls < loop.MAX_INVALID_CALLS
        assert not turn.answered


@given(st.integers(1, 6), st.lists(st.tuples(calls, st.booleans()), max_size=20))
def test_every_turn_ends(max_steps: int, answers: list[tuple[tuple[ToolCallPart, ...], bool]]) -> None:
    turn, taken, given_answers = Turn(max_steps=max_steps), 0, iter(answers)
    while not isinstance(action := next_action(turn), Finish):
        if isinstance(action, RunTools):
            turn = loop.after_tools(turn, invalid=0)
        else:
            asked, truncated = next(given_answers, ((), False))
            turn = loop.after_model(turn, asked, truncated=truncated)
            taken += 1
    assert taken <= max_steps
    expected = {"end_turn", "max_tokens_exceeded", "max_steps"}
    assert action.stop_reason in expected


def test_an_answer_ends_the_turn_and_new_input_goes_on() -> None:
    turn = loop.after_model(Turn(max_steps=5), ())
    assert next_action(turn) == Finish("end_turn")
    assert next_action(loop.after_input(turn)) == CallModel()


def test_a_cut_answer_says_so() -> None:
    turn = loop.after_model(Turn(max_steps=5), (), truncated=True)
    assert next_action(turn) == Finish("max_tokens_exceeded")


def test_three_wrong_calls_in_a_row_end_the_turn_and_a_right_one_resets_them() -> None:
    wrong = (ToolCallPart("c", "nope", "{}"),)
    turn = Turn(max_steps=50)
    for _ in range(2):
        turn = loop.after_tools(loop.after_model(turn, wrong), invalid=1)
        assert next_action(turn) == CallModel()
    mended = loop.after_tools(loop.after_model(turn, wrong), invalid=0)
    assert mended.invalid_calls == 0
    turn = loop.after_tools(loop.after_model(turn, wrong), invalid=1)
    assert next_action(turn) == Finish("invalid_tool_call")


def test_the_limit_counts_model_calls() -> None:
    turn = Turn(max_steps=1)
    turn = loop.after_tools(loop.after_model(turn, (ToolCallPart("c", "t", "{}"),)), invalid=0)
    assert next_action(turn) == Finish("max_steps")


def test_what_ends_a_turn_is_overridden_by_new_input() -> None:
    policy = Policy(rules=compiled([{"type": "exit_loop", "tool_name": "a"}]), attached=("a",))
    turn = loop.after_model(Turn(max_steps=5), (ToolCallPart("c", "a", "{}"),))
    turn, told = loop.after_calls(turn, [Called("a", "x", ran=True)], policy)
    assert (next_action(turn), told) == (Finish("tool_rule"), None)
    assert next_action(loop.after_input(turn)) == CallModel()


def test_an_exit_waits_for_what_is_required_and_says_what_that_is() -> None:
    rules = compiled(
        [{"type": "exit_loop", "tool_name": "a"}, {"type": "required_before_exit", "tool_name": "b"}]
    )
    policy = Policy(rules=rules, attached=("a", "b"))
    turn = loop.after_model(Turn(max_steps=9), (ToolCallPart("c", "a", "{}"),))
    turn, told = loop.after_calls(turn, [Called("a", "x", ran=True)], policy)
    assert told is not None
    assert "b" in told
    assert (next_action(turn), turn.reminders) == (CallModel(), 1)
    turn = loop.after_model(turn, (ToolCallPart("c", "b", "{}"),))
    turn, told = loop.after_calls(turn, [Called("b", "x", ran=True)], policy)
    assert (turn.reminders, told) == (0, None)
    turn, _ = loop.after_answer(loop.after_model(turn, ()), policy)
    assert next_action(turn) == Finish("end_turn")


def test_a_cut_answer_ends_a_bound_turn_too() -> None:
    turn = loop.after_model(Turn(max_steps=5), (), truncated=True)
    turn, told = loop.after_answer(turn, Policy(attached=("a",), memgpt=True))
    assert (next_action(turn), told) == (Finish("max_tokens_exceeded"), None)


def test_an_agent_that_can_call_nothing_may_answer_in_text() -> None:
    turn, told = loop.after_answer(loop.after_model(Turn(max_steps=5), ()), Policy(memgpt=True))
    assert (next_action(turn), told) == (Finish("end_turn"), None)


def test_refused_calls_count_as_wrong_ones() -> None:
    policy = Policy(memgpt=True, attached=("a",))
    turn = Turn(max_steps=50)
    for _ in range(loop.MAX_INVALID_CALLS):
        turn = loop.after_model(turn, (ToolCallPart("c", "b", "{}"),))
        turn, told = loop.after_calls(turn, [Called("b", "no", ran=False, failed=True)], policy)
        assert told is not None
    assert next_action(turn) == Finish("invalid_tool_call")
