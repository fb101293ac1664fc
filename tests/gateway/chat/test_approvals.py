"""What a person at the terminal answers to what an agent asks."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.chat import approvals
from gateway.chat.client import Call
from gateway.client import Answered

CALL = Call("call-1", "mail", '{"to":"Bo"}')


def person(*said: str) -> tuple[list[str], Callable[[str], str]]:
    """Return the questions that are asked, and what answers them."""
    asked: list[str] = []
    left = list(said)

    def ask(question: str) -> str:
        asked.append(question)
        return left.pop(0)

    return asked, ask


@pytest.mark.parametrize(
    ("said", "payload"),
    [
        ("y", {"approved": True}),
        (" Yes ", {"approved": True}),
        ("n", {"approved": False}),
        ("NO", {"approved": False}),
        ("not to Bo", {"approved": False, "reason": "not to Bo"}),
    ],
)
def test_a_decision_is_yes_no_or_no_with_a_reason(said: str, payload: dict[str, object]) -> None:
    asked, ask = person(said)
    assert approvals.decide([CALL], ask) == (Answered(interrupt_id="call-1", payload=payload),)
    assert asked == ['Allow mail(to="Bo")? y, n, or why not: ']


def test_a_question_without_an_answer_is_asked_again() -> None:
    asked, ask = person("", "  ", "y")
    approvals.decide([CALL], ask)
    assert len(asked) == 3


def test_a_tool_of_a_client_is_answered_by_its_result() -> None:
    asked, ask = person("sunny")
    call = Call("call-2", "weather", '{"city":"Riga"}', "client")
    assert approvals.decide([call], ask) == (Answered(interrupt_id="call-2", payload={"content": "sunny"}),)
    assert asked == ['What does weather(city="Riga") return? ']


def test_every_call_is_asked_for_in_order() -> None:
    calls = [CALL, Call("call-2", "post")]
    _, ask = person("y", "n")
    assert [one.interrupt_id for one in approvals.decide(calls, ask)] == ["call-1", "call-2"]


def test_who_decides_sees_all_of_the_arguments() -> None:
    text = "x" * 5000
    assert text in approvals.described(Call("call-1", "mail", f'{{"text":"{text}"}}'))


@given(st.text(), st.text())
def test_no_call_steers_the_terminal(name: str, arguments: str) -> None:
    asked, ask = person("y")
    approvals.decide([Call("call-1", name, arguments)], ask)
    assert all(ord(mark) >= 32 and not 127 <= ord(mark) < 160 for mark in asked[0])
