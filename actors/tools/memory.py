"""The memory tools: a checked call becomes an edit, which the actor applies at the end of the step."""

from actors.memory import InsertEdit, MemoryEdit, ReplaceEdit
from actors.tools.registry import MEMORY_INSERT, MEMORY_REPLACE
from storage.records import JsonObject


def edit_of(name: str, arguments: JsonObject) -> MemoryEdit:
    """Return the edit that a call of the memory tool `name` asks for.

    `arguments` have passed `arguments.parse`. The call's result is the value of the block that
    `actors.memory.apply` returns for the edit, or the text of its `MemoryEditError`.
    """
    if name == MEMORY_INSERT.name:
        return InsertEdit(arguments["label"], arguments["new_string"], arguments.get("insert_line", -1))
    assert name == MEMORY_REPLACE.name, f"{name} is no memory tool"
    return ReplaceEdit(arguments["label"], arguments["old_string"], arguments["new_string"])
