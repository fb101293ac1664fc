import pytest

from actors.memory import MemoryEditError
from actors.memory_edits import (
    AppendEdit,
    CreateEdit,
    DeleteEdit,
    InsertEdit,
    MemoryEdit,
    PatchEdit,
    RenameEdit,
    ReplaceAllEdit,
    ReplaceEdit,
    RethinkEdit,
)
from actors.tools import arguments
from actors.tools.memory import edit_of
from actors.tools.registry import BUILTIN
from storage.records import JsonObject
from tests.actors.memories import held

BLOCKS = held(human="tea", projects_alpha="x")


@pytest.mark.parametrize(
    ("name", "given", "edit"),
    [
        ("memory_insert", {"label": "human", "new_string": "x"}, InsertEdit("human", "x", -1)),
        (
            "memory_insert",
            {"label": "human", "new_string": "x", "insert_line": 0},
            InsertEdit("human", "x", 0),
        ),
        (
            "memory_replace",
            {"label": "human", "old_string": "a", "new_string": "b"},
            ReplaceEdit("human", "a", "b"),
        ),
        ("memory_rethink", {"label": "human", "new_memory": "x"}, RethinkEdit("human", "x")),
        ("memory_apply_patch", {"label": "human", "patch": "-a"}, PatchEdit("human", "-a")),
        ("core_memory_append", {"label": "human", "content": "x"}, AppendEdit("human", "x")),
        (
            "core_memory_replace",
            {"label": "human", "old_content": "a", "new_content": "b"},
            ReplaceAllEdit("human", "a", "b"),
        ),
    ],
)
def test_a_call_becomes_the_edit_it_asks_for(name: str, given: JsonObject, edit: MemoryEdit) -> None:
    assert edit_of(name, given, BLOCKS) == edit


@pytest.mark.parametrize(
    ("given", "edit"),
    [
        (
            {"command": "create", "path": "/memories/a/b", "description": "d"},
            CreateEdit("a_b", "", "d"),
        ),
        (
            {"command": "create", "path": "/memories/n", "description": "d", "file_text": "v"},
            CreateEdit("n", "v", "d"),
        ),
        (
            {"command": "str_replace", "path": "/memories/human", "old_string": "a", "new_string": "b"},
            ReplaceEdit("human", "a", "b"),
        ),
        (
            {"command": "str_replace", "path": "/memories/projects/alpha", "old_string": "a"},
            ReplaceEdit("projects_alpha", "a", ""),
        ),
        (
            {"command": "insert", "path": "/memories/human", "insert_text": "x"},
            InsertEdit("human", "x", -1),
        ),
        (
            {"command": "insert", "path": "human", "insert_text": "x", "insert_line": 1},
            InsertEdit("human", "x", 1),
        ),
        ({"command": "delete", "path": "/memories/human"}, DeleteEdit("human")),
        (
            {"command": "rename", "old_path": "/memories/human", "new_path": "/memories/who/is"},
            RenameEdit("human", "who_is"),
        ),
        (
            {"command": "rename", "path": "/memories/human", "description": "d"},
            RenameEdit("human", None, "d"),
        ),
        (
            {"command": "rename", "old_path": "human", "new_path": "who", "description": "d"},
            RenameEdit("human", "who", "d"),
        ),
    ],
)
def test_a_command_of_memory_becomes_an_edit_of_the_block_at_its_path(
    given: JsonObject, edit: MemoryEdit
) -> None:
    assert edit_of("memory", given, BLOCKS) == edit


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"command": "create", "path": "/memories/n"}, "create needs description"),
        ({"command": "create", "description": "d"}, "create needs path"),
        ({"command": "create", "path": "/memories/", "description": "d"}, "names no block"),
        ({"command": "str_replace", "path": "/memories/human"}, "str_replace needs old_string"),
        ({"command": "insert", "path": "/memories/human"}, "insert needs insert_text"),
        ({"command": "delete"}, "delete needs path"),
        ({"command": "delete", "path": "/memories/x"}, "no memory block at `/memories/x`.*/memories/human"),
        ({"command": "rename", "old_path": "/memories/human"}, "rename needs new_path"),
        ({"command": "rename", "new_path": "/memories/x"}, "rename needs old_path"),
        ({"command": "rename", "path": "/memories/human"}, "rename needs description"),
    ],
)
def test_a_command_without_what_it_needs_names_it(given: JsonObject, reason: str) -> None:
    with pytest.raises(MemoryEditError, match=reason):
        edit_of("memory", given, BLOCKS)


def test_every_memory_tool_of_the_registry_has_an_edit() -> None:
    for spec in BUILTIN.values():
        if spec.kind == "memory":
            given = {"command": "delete", "path": "x"} | dict.fromkeys(spec.parameters["required"], "x")
            given["command"] = "delete"
            assert edit_of(spec.name, given, held(x="")) is not None


def test_a_tool_that_edits_nothing_is_refused() -> None:
    with pytest.raises(KeyError, match="conversation_search"):
        edit_of("conversation_search", {}, BLOCKS)


def test_what_parse_accepts_is_enough() -> None:
    parsed = arguments.parse(
        BUILTIN["memory_insert"], '{"label": "human", "new_string": "x", "insert_line": null}'
    )
    assert isinstance(parsed, dict)
    assert edit_of("memory_insert", parsed, BLOCKS) == InsertEdit("human", "x", -1)
