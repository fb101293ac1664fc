"""The memory tools: a checked call becomes an edit, which the actor applies at the end of the step."""

from collections.abc import Callable, Mapping

from actors import memory_paths
from actors.memory import MemoryEditError, quoted
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
from actors.tools.memory_specs import (
    CORE_MEMORY_APPEND,
    CORE_MEMORY_REPLACE,
    MEMORY,
    MEMORY_APPLY_PATCH,
    MEMORY_INSERT,
    MEMORY_REPLACE,
    MEMORY_RETHINK,
)
from storage.records import Block, JsonObject


def edit_of(name: str, arguments: JsonObject, blocks: Mapping[str, Block]) -> MemoryEdit:
    """Return the edit that a call of the memory tool `name` asks for.

    `arguments` have passed `arguments.parse`; `blocks` by label tell which of them a path means. The
    call's result is the text that `memory_edits.apply` returns, or that of its `MemoryEditError`.

    Raises:
        MemoryEditError: The command of `memory` lacks an argument, or a path names no block.
    """
    return _EDITS[name](arguments, blocks)


def _insert(a: JsonObject, _: Mapping[str, Block]) -> MemoryEdit:
    return InsertEdit(a["label"], a["new_string"], a.get("insert_line", -1))


def _replace(a: JsonObject, _: Mapping[str, Block]) -> MemoryEdit:
    return ReplaceEdit(a["label"], a["old_string"], a["new_string"])


def _rethink(a: JsonObject, _: Mapping[str, Block]) -> MemoryEdit:
    return RethinkEdit(a["label"], a["new_memory"])


def _patch(a: JsonObject, _: Mapping[str, Block]) -> MemoryEdit:
    return PatchEdit(a["label"], a["patch"])


def _append(a: JsonObject, _: Mapping[str, Block]) -> MemoryEdit:
    return AppendEdit(a["label"], a["content"])


def _replace_all(a: JsonObject, _: Mapping[str, Block]) -> MemoryEdit:
    return ReplaceAllEdit(a["label"], a["old_content"], a["new_content"])


# --- the commands of `memory` --------------------------------------------------------------------


def _command(a: JsonObject, blocks: Mapping[str, Block]) -> MemoryEdit:
    match a["command"]:
        case "create":
            label = memory_paths.label_of(_needed(a, "path"))
            return CreateEdit(label, a.get("file_text", ""), _needed(a, "description"))
        case "str_replace":
            return ReplaceEdit(_held(a, "path", blocks), _needed(a, "old_string"), a.get("new_string", ""))
        case "insert":
            return InsertEdit(_held(a, "path", blocks), _needed(a, "insert_text"), a.get("insert_line", -1))
        case "delete":
            return DeleteEdit(_held(a, "path", blocks))
        case _:
            return _rename(a, blocks)


def _rename(a: JsonObject, blocks: Mapping[str, Block]) -> MemoryEdit:
    if "old_path" not in a and "new_path" not in a and "path" in a:
        return RenameEdit(_held(a, "path", blocks), description=_needed(a, "description"))
    new_label = memory_paths.label_of(_needed(a, "new_path"))
    return RenameEdit(_held(a, "old_path", blocks), new_label, a.get("description"))


def _needed(a: JsonObject, name: str) -> str:
    if name not in a:
        raise MemoryEditError(f"the command {a['command']} needs {name}; add it")
    return a[name]


def _held(a: JsonObject, name: str, blocks: Mapping[str, Block]) -> str:
    """Return the label of the block that a path means."""
    path = _needed(a, name)
    label = memory_paths.find(path, blocks)
    if label is None:
        labels = ", ".join(f"/memories/{held}" for held in blocks) or "none"
        raise MemoryEditError(f"there is no memory block at {quoted(path)}; existing ones: {labels}")
    return label


_EDITS: Mapping[str, Callable[[JsonObject, Mapping[str, Block]], MemoryEdit]] = {
    MEMORY_INSERT.name: _insert,
    MEMORY_REPLACE.name: _replace,
    MEMORY_RETHINK.name: _rethink,
    MEMORY_APPLY_PATCH.name: _patch,
    CORE_MEMORY_APPEND.name: _append,
    CORE_MEMORY_REPLACE.name: _replace_all,
    MEMORY.name: _command,
}
