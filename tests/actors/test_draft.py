import json

from msgspec.structs import replace

from actors.draft import Draft
from actors.events import BlockChanged, BlockCreated, BlockDetached
from actors.memory_edits import Birth
from actors.toolrun import prepare
from storage.archive_records import Passage
from storage.checkpoints import BlockWrite
from storage.extras import BlockNaming, Extras
from storage.records import DEFAULT_ORGANIZATION, Block, ToolCallPart, ToolReturnPart
from tests.actors.pieces import BORN, built_in_tools
from tests.actors.worlds import new_block

TOOLS = built_in_tools()


def insert(label: str, text: str, call_id: str = "c") -> ToolCallPart:
    return ToolCallPart(call_id, "memory_insert", f'{{"label": "{label}", "new_string": "{text}"}}')


def drafted(blocks: dict[str, Block], *calls: ToolCallPart) -> tuple[Draft, list[str]]:
    draft = Draft(blocks, Birth(new_block))
    return draft, [draft.settle(p).text for p in prepare(calls, TOOLS)]


def test_edits_of_one_step_build_on_each_other_and_are_one_write() -> None:
    block = replace(new_block("human", "a"), version=4)
    held = {"human": block, "other": new_block("other")}
    draft, results = drafted(held, insert("human", "b", "1"), insert("human", "c", "2"))
    assert results == ["a\nb", "a\nb\nc"]
    assert draft.block_writes() == (BlockWrite(id=block.id, version=4, value="a\nb\nc"),)
    assert draft.events("run-1") == [BlockChanged("run-1", block.id, "human", "a\nb\nc", 5, 100_000, "a")]
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
    assert (draft.written, draft.extras()) == ((), None)


def test_drafting_again_on_reloaded_blocks_keeps_both_edits() -> None:
    block = new_block("human", "a")
    calls = [insert("human", "mine")]
    drafted({"human": block}, *calls)
    again, results = drafted({"human": replace(block, value="a\ntheirs", version=1)}, *calls)
    assert results == ["a\ntheirs\nmine"]
    assert again.block_writes() == (BlockWrite(id=block.id, version=1, value="a\ntheirs\nmine"),)


def memory(**arguments: str) -> ToolCallPart:
    return ToolCallPart("m", "memory", json.dumps(arguments))


def test_blocks_that_come_and_go_are_told_by_their_ids() -> None:
    held = {label: replace(new_block(label, label), version=3) for label in ("human", "old", "notes")}
    draft, _ = drafted(
        held,
        memory(command="delete", path="old"),
        memory(command="rename", old_path="human", new_path="person"),
        memory(command="create", path="old", description="Anew."),
    )
    (created,) = draft.created
    assert list(draft.blocks) == ["person", "notes", "old"]
    assert draft.block_writes() == (BlockWrite(id=held["human"].id, version=3, value="human"),)
    assert draft.extras() == Extras(
        created_blocks=(created,),
        detached_blocks=(held["old"].id,),
        renamed_blocks=(BlockNaming(id=held["human"].id, label="person", description=None),),
    )
    assert draft.events("run-1") == [
        BlockDetached("run-1", held["old"].id, "old", 100_000),
        BlockChanged("run-1", held["human"].id, "person", "human", 4, 100_000, "human"),
        BlockCreated("run-1", created.id, "old", "", "Anew.", 0, 100_000),
    ]
    assert draft.edits_memory


def test_what_a_step_made_and_unmade_leaves_no_trace() -> None:
    held = {"human": new_block("human")}
    draft, _ = drafted(
        held,
        memory(command="create", path="notes", description="d"),
        memory(command="rename", old_path="human", new_path="person"),
        memory(command="rename", old_path="person", new_path="human"),
        memory(command="delete", path="notes"),
    )
    assert draft.blocks == held
    assert (draft.extras(), draft.block_writes(), draft.events("run-1")) == (None, (), [])
    assert not draft.edits_memory


def test_a_block_that_was_changed_and_then_detached_keeps_its_change() -> None:
    team = new_block("team", "us")
    draft, _ = drafted({"team": team}, insert("team", "them"), memory(command="delete", path="team"))
    assert draft.block_writes() == (BlockWrite(id=team.id, version=0, value="us\nthem"),)
    assert draft.extras() == Extras(detached_blocks=(team.id,))
    assert draft.events("run-1") == [BlockDetached("run-1", team.id, "team", 100_000)]


def test_a_passage_is_part_of_the_step_that_asked_for_it() -> None:
    draft = Draft({}, Birth(new_block))
    (call,) = prepare([ToolCallPart("c", "archival_memory_insert", '{"content": "x"}')], TOOLS)
    passage = Passage(
        id="passage-1",
        organization_id=DEFAULT_ORGANIZATION,
        archive_id="",
        text="x",
        created_at=BORN,
        updated_at=BORN,
    )
    result = ToolReturnPart("c", "archival_memory_insert", "success", "passage-1")
    assert draft.settle(replace(call, result=result, passage=passage)) == result
    assert draft.extras() == Extras(passages=(passage,))
    assert draft.edits_memory
