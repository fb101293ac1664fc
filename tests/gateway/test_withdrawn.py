"""Which stored messages a thread shows no more because the same message was answered anew."""

from gateway.withdrawn import withdrawn
from storage.records import Message, Role, TextPart
from tests.gateway.agui_events import message


def said(name: str, role: Role, run: str, *, excluded: bool = False) -> Message:
    return message(role, TextPart(name), id=name, run_id=run, excluded=excluded)


ASKED = said("asked", "user", "run-1")
FIRST = [said("called", "assistant", "run-1", excluded=True), said("found", "tool", "run-1", excluded=True)]
ANEW = said("anew", "assistant", "run-2")


def test_an_answer_that_another_run_gave_anew_is_withdrawn() -> None:
    assert withdrawn([ASKED, *FIRST, ANEW]) == {"called", "found"}
    second = said("second", "assistant", "run-2", excluded=True)
    third = said("third", "assistant", "run-3")
    assert withdrawn([ASKED, *FIRST, second, third]) == {"called", "found", "second"}


def test_an_answer_without_another_in_its_place_stays() -> None:
    assert withdrawn([ASKED, *FIRST]) == frozenset()
    later = said("later", "user", "run-3")
    context = said("context", "system", "run-3")
    assert withdrawn([ASKED, *FIRST, context, later, said("b", "assistant", "run-3")]) == frozenset()


def test_input_that_no_model_takes_stays() -> None:
    refused = said("refused", "user", "run-1", excluded=True)
    assert withdrawn([refused, ASKED, ANEW]) == frozenset()


def test_a_summary_in_between_changes_nothing() -> None:
    summed = said("summed", "summary", "run-1")
    assert withdrawn([ASKED, *FIRST, summed]) == frozenset()
    assert withdrawn([ASKED, *FIRST, summed, ANEW]) == {"called", "found"}


def test_what_a_run_said_beside_its_own_excluded_words_withdraws_nothing() -> None:
    assert (
        withdrawn(
            [ASKED, said("lost", "assistant", "run-1", excluded=True), said("kept", "assistant", "run-1")]
        )
        == frozenset()
    )
