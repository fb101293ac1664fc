from msgspec.structs import replace

from actors.draft import Draft
from actors.events import BlockChanged
from actors.toolrun import prepare
from storage.checkpoints import BlockWrite
from storage.records import Block, ToolCallPart
from tests.actors.pieces import built_in_tools
from tests.actors.worlds import new_block

TOOLS = built_in_tools()


def insert(label: str, text: str, call_id: str = "c") -> ToolCallPart:
    return ToolCallPart(call_id, "memory_insert", f'{{"label": "{label}", "new_string": "{text}"}}')


def drafted(blocks: dict[str, Block], *calls: ToolCallPart) -> tuple[Draft, list[str]]:
    draft = Draft(blocks)
    return draft, [draft.settle(p).text for p in prepare(calls, TOOLS)]


def test_edits_of_one_step_build_on_each_other_and_are_one_write() -> None:
    block = replace(new_block("human", "a"), version=4)
    held = {"human": block, "other": new_block("other")}
    draft, results = drafted(held, insert("human", "b", "1"), insert("human", "c", "2"))
    assert results == ["a\nb", "a\nb\nc"]
    assert draft.block_writes() == (BlockWrite(id=block.id, version=4, value="a\nb\nc"),)
    assert draft.events("run-1") == [BlockChanged("run-1", block.id, "human", "a\nb\nc", 5)]
    assert held["human"] is block, "what is committed changes only after the commit"


def test_an_edit_that_is_undone_in_its_step_is_no_write() -> None:
    undo = ToolCallPart("2", "memory_replace", '{"label": "human", "old_string": "\\nb", "new_string": ""}')
    draft, results = drafted({"human": new_block("human", "a")}, insert("human", "b"), undo)
    assert results[-1] == "a"
    assert draft.block_writes() == ()
    assert draft.events("run-1") == []


def test_a_refused_edit_changes_nothing_and_says_why() -> None:
    draft, results = drafted(
        {"human": replace(new_block("human", "a"), read_only=True)}, insert("human", "b")
    )
    assert "read" in results[0]
    assert draft.changed == {}


def test_drafting_again_on_reloaded_blocks_keeps_both_edits() -> None:
    block = new_block("human", "a")
    calls = [insert("human", "mine")]
    drafted({"human": block}, *calls)
    again, results = drafted({"human": replace(block, value="a\ntheirs", version=1)}, *calls)
    assert results == ["a\ntheirs\nmine"]
    assert again.block_writes() == (BlockWrite(id=block.id, version=1, value="a\ntheirs\nmine"),)
