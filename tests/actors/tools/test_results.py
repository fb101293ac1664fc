from actors.memory import MemoryEditError
from actors.tools import results
from actors.tools.registry import CONVERSATION_SEARCH, MEMORY_INSERT
from actors.tools.results import ToolError
from storage.records import ToolCallPart, ToolReturnPart

CALL = ToolCallPart("call-1", "memory_insert", "{}")


def test_a_success_shows_the_text_as_it_is() -> None:
    assert results.succeeded(CALL, "new value", spec=MEMORY_INSERT) == ToolReturnPart(
        "call-1", "memory_insert", "success", "new value"
    )


def test_a_text_beyond_the_tool_s_limit_is_cut_and_says_so() -> None:
    text = results.succeeded(CALL, "x" * 60_000, spec=MEMORY_INSERT).text
    assert text.startswith("x" * 50_000 + "... [NOTE: function output was truncated")
    assert "60000" in text
    assert len(results.succeeded(CALL, "x" * 50_000, spec=MEMORY_INSERT).text) == 50_000


def test_a_tool_that_bounds_itself_is_not_cut_again() -> None:
    assert len(results.succeeded(CALL, "x" * 60_000, spec=CONVERSATION_SEARCH).text) == 60_000


def test_a_refusal_has_the_form_that_letta_s_clients_know() -> None:
    failed = results.failed(CALL, MemoryEditError("no such line"))
    assert failed.status == "error"
    assert failed.text == "Error executing function memory_insert: ValueError: no such line"
    assert len(results.failed(CALL, ToolError("x" * 5_000)).text) == 1_000


def test_wrong_arguments_are_told_in_their_own_words() -> None:
    assert results.invalid(CALL, "Error: label is missing") == ToolReturnPart(
        "call-1", "memory_insert", "error", "Error: label is missing"
    )


def test_an_unknown_tool_is_answered_with_the_valid_ones() -> None:
    unknown = results.unknown(ToolCallPart("c", "no_such_tool", "{}"), {"b_tool": 1, "a_tool": 2})
    assert unknown.status == "error"
    assert unknown.text == (
        "[ToolConstraintError] Cannot call no_such_tool, valid tools include: ['a_tool', 'b_tool']"
    )


def test_a_name_made_up_at_length_does_not_fill_the_window() -> None:
    assert len(results.unknown(ToolCallPart("c", "a" * 500, "{}"), ["memory_insert"]).text) < 200


def test_what_cannot_be_stored_is_replaced() -> None:
    assert results.succeeded(CALL, "a\0\ud800", spec=MEMORY_INSERT).text == "a\ufffd\ufffd"
    assert results.invalid(CALL, "a\0").text == "a\ufffd"
