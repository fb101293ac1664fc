from hypothesis import given
from hypothesis import strategies as st

from actors import loop
from actors.loop import CallModel, Finish, RunTools, Turn, next_action
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
