import pytest

from actors.memory import InsertEdit, ReplaceEdit
from actors.tools import arguments
from actors.tools.memory import edit_of
from actors.tools.registry import BUILTIN


def test_a_call_becomes_the_edit_it_asks_for() -> None:
    assert edit_of("memory_insert", {"label": "human", "new_string": "x"}) == InsertEdit("human", "x", -1)
    assert edit_of("memory_insert", {"label": "human", "new_string": "x", "insert_line": 0}) == InsertEdit(
        "human", "x", 0
    )
    assert edit_of("memory_replace", {"label": "human", "old_string": "a", "new_string": "b"}) == ReplaceEdit(
        "human", "a", "b"
    )


def test_every_memory_tool_of_the_registry_has_an_edit() -> None:
    for spec in BUILTIN.values():
        if spec.kind == "memory":
            given = dict.fromkeys(spec.parameters["required"], "x")
            assert edit_of(spec.name, given).label == "x"


def test_a_tool_that_edits_nothing_is_refused() -> None:
    with pytest.raises(AssertionError, match="conversation_search is no memory tool"):
        edit_of("conversation_search", {})


def test_what_parse_accepts_is_enough() -> None:
    parsed = arguments.parse(
        BUILTIN["memory_insert"], '{"label": "human", "new_string": "x", "insert_line": null}'
    )
    assert isinstance(parsed, dict)
    assert edit_of("memory_insert", parsed) == InsertEdit("human", "x", -1)
