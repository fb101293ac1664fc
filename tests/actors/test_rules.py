from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors import loop, rules
from actors.loop import Called, CallModel, Finish, Policy, Turn
from actors.rules import Conditional, Ran, Rule, Rules, compiled
from storage.records import ToolCallPart

TOOLS = ("a", "b", "c", "d")
names = st.sampled_from((*TOOLS, "gone"))
several = st.lists(names, min_size=1, max_size=3)


def fields(kind: str, **more: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"type": st.just(kind), "tool_name": names, **more})


any_rule = st.one_of(
    fields("run_first"),
    fields("exit_loop"),
    fields("continue_loop"),
    fields("required_before_exit"),
    fields("requires_approval"),
    fields("constrain_child_tools", children=several),
    fields("parent_last_tool", children=several),
    fields("max_count_per_step", max_count_limit=st.integers(1, 3)),
    fields(
        "conditional",
        child_output_mapping=st.dictionaries(st.sampled_from(["1", "true", "x"]), names, min_size=1),
        default_child=st.none() | names,
        require_output_mapping=st.booleans(),
    ),
)
rule_sets = st.lists(any_rule, max_size=6).map(compiled)
# What a model does at a step: nothing (None), or a call of a tool with an output, a heartbeat, a failure.
moves = st.none() | st.tuples(
    st.sampled_from((*TOOLS, "gone", "made_up")),
    st.sampled_from(["1", "True", "x", "y"]),
    st.booleans(),
    st.booleans(),
)


def play(policy: Policy, script: list[Any], max_steps: int) -> tuple[str, list[str], Ran]:
    """Run a turn with a model that follows `script`; return why it ended, what ran, and what rules saw."""
    turn, ran, told = Turn(max_steps=max_steps), list[str](), iter(script)
    while isinstance(action := loop.next_action(turn), CallModel):
        allowed = policy.rules.allowed(turn.ran, policy.attached)
        move = next(told, None)
        calls = () if move is None else (ToolCallPart("i", move[0], "{}"),)
        turn = loop.after_model(turn, calls)
        if move is None:
            turn, _ = loop.after_answer(turn, policy)
            continue
        name, output, wants_more, failed = move
        passed = name in allowed
        if passed:
            ran.append(name)
        called = Called(name, output, ran=passed, failed=failed, wants_more=wants_more)
        turn, _ = loop.after_calls(turn, [called], policy)
    assert isinstance(action, Finish)
    return action.stop_reason, ran, turn.ran


@pytest.mark.timeout(90)
@given(rule_sets, st.lists(moves, max_size=30), st.integers(1, 12), st.booleans())
@settings(max_examples=400)
def test_every_turn_ends_within_its_steps_and_never_breaks_a_rule(
    some: Rules, script: list[Any], max_steps: int, memgpt: bool
) -> None:
    policy = Policy(rules=some, attached=TOOLS, memgpt=memgpt)
    reason, ran, seen = play(policy, script, max_steps)
    assert len(ran) <= max_steps
    assert seen.counts == {name: ran.count(name) for name in set(ran)}
    for name, limit in some.limits.items():
        assert ran.count(name) <= limit
    if ran and (first := [name for name in TOOLS if name in some.first]):
        assert ran[0] in first
    if reason in ("end_turn", "tool_rule"):
        assert not set(some.required) & set(TOOLS) - set(ran)
    if reason == "tool_rule":
        assert ran[-1] in some.exits
    if not some.required:
        assert not set(ran[:-1]) & some.exits


@given(
    rule_sets, st.lists(st.tuples(st.sampled_from(TOOLS), st.sampled_from(["1", "True", "y"])), max_size=6)
)
def test_there_is_no_dead_end(some: Rules, done: list[tuple[str, str]]) -> None:
    ran = Ran()
    for name, output in done:
        ran = ran.after(name, output)
    allowed = some.allowed(ran, TOOLS)
    assert set(allowed) <= set(TOOLS)
    used_up = {n for n in TOOLS if n in some.limits and ran.counts.get(n, 0) >= some.limits[n]}
    assert allowed or used_up == set(TOOLS)
    assert not set(allowed) & used_up
    if some.forced(ran, allowed):
        assert allowed
    for name in set(TOOLS) - set(allowed):
        assert some.hints(name, ran), name  # whoever is refused is told why


@given(rule_sets)
def test_an_agent_without_constraints_may_always_call_everything(some: Rules) -> None:
    free = Rules(exits=some.exits, continues=some.continues, required=some.required)
    assert free.allowed(Ran({"a": 3}, "a", "x"), TOOLS) == TOOLS
    assert not free.forced(Ran(), TOOLS)


def test_a_rule_that_cannot_be_read_binds_nobody() -> None:
    assert compiled([{"type": "exit_loop"}, {"tool_name": "a"}, {"type": "fly", "tool_name": "a"}]).all == ()


def test_the_same_rule_twice_is_one_whatever_its_template_says() -> None:
    one = {"type": "max_count_per_step", "tool_name": "a", "max_count_limit": 2}
    twice = compiled([one, one | {"prompt_template": "x"}, one | {"max_count_limit": 3}])
    assert [r.max_count_limit for r in twice.all if isinstance(r, rules.MaxCountPerStep)] == [2, 3]
    assert twice.limits == {"a": 2}


@pytest.mark.parametrize(
    ("key", "output", "matches"),
    [
        ("true", "True", True),
        ("True", "true", True),
        ("true", "1", False),
        ("false", "False", True),
        ("1", "1.0", True),
        ("1.5", "1.50", True),
        ("1", "2", False),
        ("yes", "yes", True),
        ("yes", "YES", False),
        ("nan", "NaN", False),
    ],
)
def test_results_match_as_text_or_by_value(key: str, output: str, matches: bool) -> None:
    rule = Conditional(tool_name="a", child_output_mapping={key: "b"})
    assert (rules.chosen_by(rule, output) == frozenset({"b"})) == matches


def test_an_exact_match_is_better_than_an_equal_value() -> None:
    rule = Conditional(tool_name="a", child_output_mapping={"1": "b", "1.0": "c"})
    assert rules.chosen_by(rule, "1.0") == frozenset({"c"})


def test_what_matches_nothing_leads_to_the_default_or_nowhere() -> None:
    mapping = {"x": "b"}
    default = Conditional(tool_name="a", child_output_mapping=mapping, default_child="c")
    assert rules.chosen_by(default, "y") == frozenset({"c"})
    assert rules.chosen_by(Conditional(tool_name="a", child_output_mapping=mapping), "y") is None
    strict = Conditional(tool_name="a", child_output_mapping=mapping, require_output_mapping=True)
    assert rules.chosen_by(strict, "y") == frozenset()


def test_arguments_are_set_for_the_first_call_and_for_a_child_of_the_last_one() -> None:
    some = compiled(
        [
            {"type": "run_first", "tool_name": "a", "args": {"x": 1}},
            {
                "type": "constrain_child_tools",
                "tool_name": "a",
                "children": ["b"],
                "child_arg_nodes": [{"name": "b", "args": {"y": 2}}],
            },
        ]
    )
    assert some.prefilled("a", Ran()) == {"x": 1}
    assert some.prefilled("b", Ran()) == {}
    after = Ran().after("a", "")
    assert some.prefilled("a", after) == {}
    assert some.prefilled("b", after) == {"y": 2}
    assert some.prefilled("b", after.after("b", "")) == {}


def test_only_attached_tools_are_missed() -> None:
    some = compiled([{"type": "required_before_exit", "tool_name": name} for name in ("a", "gone")])
    assert some.missing(Ran(), TOOLS) == ("a",)
    assert some.missing(Ran().after("a", ""), TOOLS) == ()


def test_an_approval_binds_nothing_else() -> None:
    some = compiled([{"type": "requires_approval", "tool_name": "a"}])
    assert not some.single
    assert rules.told(some) == []


@given(st.lists(any_rule, min_size=1, max_size=5))
def test_rules_survive_being_stored(raw: list[dict[str, Any]]) -> None:
    read = compiled(raw)
    assert compiled([msgspec.to_builtins(rule) for rule in read.all]) == read
    assert all(rules.sentence(rule) for rule in read.all)


def test_every_kind_of_rule_is_of_the_union() -> None:
    kinds = {str(kind.__struct_config__.tag) for kind in Rule.__args__}  # type: ignore[attr-defined]
    assert len(kinds) == 9
