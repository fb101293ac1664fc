"""The memory tools as models see them."""

from actors.tools.spec import ToolSpec, arguments_of
from storage.records import JsonObject

_LABEL: JsonObject = {"type": "string", "description": "The label of the memory block to edit."}

_STRING: JsonObject = {"type": "string"}

MEMORY_INSERT = ToolSpec(
    name="memory_insert",
    description=(
        "Add new lines to one of your memory blocks; nothing that is there is changed. Use it for facts "
        "that the block does not hold yet. The result is the block's new value."
    ),
    parameters=arguments_of(
        ("label", "new_string"),
        label=_LABEL,
        new_string={
            "type": "string",
            "description": "The text to add, as it should stand in memory, without line numbers.",
        },
        insert_line={
            "type": "integer",
            "description": (
                "The line after which the text goes: 0 puts it on top, -1 (what is used when this is "
                "left out) at the end."
            ),
        },
    ),
    tool_type="letta_memory_core",
    kind="memory",
)

MEMORY_REPLACE = ToolSpec(
    name="memory_replace",
    description=(
        "Replace one piece of text in one of your memory blocks: correct what is wrong, update what has "
        "changed, or remove what no longer matters. The result is the block's new value."
    ),
    parameters=arguments_of(
        ("label", "old_string", "new_string"),
        label=_LABEL,
        old_string={
            "type": "string",
            "description": (
                "The text to replace, copied exactly with its spaces and line breaks, without line "
                "numbers. It must occur once in the block: quote more of it where it occurs twice."
            ),
        },
        new_string={
            "type": "string",
            "description": "What stands there afterwards, without line numbers. Empty removes the text.",
        },
    ),
    tool_type="letta_memory_core",
    kind="memory",
)

MEMORY_RETHINK = ToolSpec(
    name="memory_rethink",
    description=(
        "Write one of your memory blocks anew, as a whole: to sort what it holds, to bring scattered facts "
        "together, or to shorten it. What you leave out is gone, so repeat all that should stay. A block "
        "that does not exist yet is created. For a small change use another tool. The result is the "
        "block's new value."
    ),
    parameters=arguments_of(
        ("label", "new_memory"),
        label={**_STRING, "description": "The label of the memory block to write."},
        new_memory={
            **_STRING,
            "description": "The whole new value of the block, without line numbers.",
        },
    ),
    tool_type="letta_sleeptime_core",
    kind="memory",
)

MEMORY_FINISH_EDITS = ToolSpec(
    name="memory_finish_edits",
    description="Say that you are done with editing your memory: everything is as it should be.",
    parameters=arguments_of(()),
    tool_type="letta_sleeptime_core",
    kind="said",
    says="None",  # how this server's clients know the result of a tool that returns nothing
)

MEMORY_APPLY_PATCH = ToolSpec(
    name="memory_apply_patch",
    description=(
        "Change memory by a patch, where several lines change at once. For one block, send a unified diff of "
        "it: lines that begin with '-' go, lines that begin with '+' come, and lines that begin with a "
        "space stay and show the place; '@@' begins the next part. The lines that go or stay must be in the "
        "block exactly so, in one place only.\n"
        "To work on several blocks at once, begin each part with one of these lines:\n"
        "*** Add Block: <label>      then the new block's lines, each after a '+'\n"
        "*** Delete Block: <label>   nothing follows\n"
        "*** Update Block: <label>   then a unified diff; as its first line *** Move to: <new label> "
        "renames the block\n"
        "Either all parts are applied or none. The result is the block's new value, or what was done with "
        "each block."
    ),
    parameters=arguments_of(
        ("label", "patch"),
        label={
            **_STRING,
            "description": (
                "The label of the memory block that the patch is for. Where the patch names its blocks "
                "itself, one of them; it is not looked at then."
            ),
        },
        patch={**_STRING, "description": "The patch, without line numbers in front of its lines."},
    ),
    tool_type="letta_memory_core",
    kind="memory",
)

CORE_MEMORY_APPEND = ToolSpec(
    name="core_memory_append",
    description=(
        "Add to the end of one of your memory blocks. Use it for facts that the block does not hold yet. "
        "The result is the block's new value."
    ),
    parameters=arguments_of(
        ("label", "content"),
        label=_LABEL,
        content={**_STRING, "description": "What to add, as new lines."},
    ),
    tool_type="letta_memory_core",
    kind="memory",
)

CORE_MEMORY_REPLACE = ToolSpec(
    name="core_memory_replace",
    description=(
        "Replace a text in one of your memory blocks wherever it occurs, or remove it. The result is the "
        "block's new value."
    ),
    parameters=arguments_of(
        ("label", "old_content", "new_content"),
        label=_LABEL,
        old_content={**_STRING, "description": "The text to replace, copied exactly from the block."},
        new_content={**_STRING, "description": "What stands there afterwards. Empty removes the text."},
    ),
    tool_type="letta_memory_core",
    kind="memory",
)

_PATH = "The block as a path below /memories, such as /memories/projects for the block `projects`."

MEMORY = ToolSpec(
    name="memory",
    description=(
        "Look after your memory blocks as if they were files below /memories. Commands:\n"
        "create: make a block at `path`, with a `description` of what belongs in it and perhaps its "
        "first value, `file_text`\n"
        "str_replace: replace `old_string`, which occurs once in the block at `path`, by `new_string`\n"
        "insert: add `insert_text` to the block at `path` after line `insert_line`\n"
        "delete: take the block at `path` out of your memory\n"
        "rename: move the block at `old_path` to `new_path`; or, with `path` and `description`, only say "
        "anew what belongs in it"
    ),
    parameters=arguments_of(
        ("command",),
        command={
            **_STRING,
            "enum": ["create", "str_replace", "insert", "delete", "rename"],
            "description": "What to do.",
        },
        path={**_STRING, "description": _PATH},
        file_text={**_STRING, "description": "create: the first value. Left out: the block is empty."},
        description={**_STRING, "description": "create, rename: what belongs in the block."},
        old_string={**_STRING, "description": "str_replace: the text to replace, copied exactly."},
        new_string={
            **_STRING,
            "description": "str_replace: what stands there afterwards. Left out: nothing.",
        },
        insert_line={
            "type": "integer",
            "description": "insert: the line after which the text goes; 0 is on top, -1 or none at the end.",
        },
        insert_text={**_STRING, "description": "insert: the text to add."},
        old_path={**_STRING, "description": "rename: the path that the block has."},
        new_path={**_STRING, "description": "rename: the path that it gets."},
    ),
    tool_type="letta_memory_core",
    kind="memory",
)

MEMORY_SPECS = (
    MEMORY_REPLACE,
    MEMORY_INSERT,
    MEMORY_RETHINK,
    MEMORY_FINISH_EDITS,
    MEMORY_APPLY_PATCH,
    CORE_MEMORY_APPEND,
    CORE_MEMORY_REPLACE,
    MEMORY,
)
