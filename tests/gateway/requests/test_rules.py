"""Tool rules as clients send them."""

import pytest

from actors.rules import ConstrainChildTools, ExitLoop, RunFirst
from gateway.errors import InvalidRequestError
from gateway.requests import rules


def test_rules_are_stored_once_with_every_field_named() -> None:
    rule = ExitLoop(tool_name="a")
    assert rules.stored((rule, rule)) == ({"type": "exit_loop", "tool_name": "a", "prompt_template": None},)


def test_an_argument_that_a_built_in_tool_does_not_take_is_refused_at_its_place() -> None:
    first = RunFirst(tool_name="memory_insert", args={"label": "human", "colour": 1})
    with pytest.raises(InvalidRequestError, match="memory_insert takes no argument 'colour'") as refused:
        rules.stored((ExitLoop(tool_name="a"), first))
    assert refused.value.param == "/tool_rules/1/args"


def test_what_other_tools_take_is_not_known() -> None:
    rules.stored((RunFirst(tool_name="somebody_elses", args={"colour": 1}),))
    rules.stored((ConstrainChildTools(tool_name="a", children=("b",)),))


def test_the_number_of_rules_is_bounded() -> None:
    with pytest.raises(InvalidRequestError, match="at most 500"):
        rules.stored(tuple(ExitLoop(tool_name=str(n)) for n in range(rules.MAX_RULES + 1)))
