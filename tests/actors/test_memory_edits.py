"""Whatever an agent does to its memory, as an edit of its blocks."""

from collections.abc import Mapping
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from actors import memory_edits
from actors.memory import READ_ONLY, MemoryEditError
from actors.memory_edits import (
    AppendEdit,
    Applied,
    Birth,
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
from storage.records import Block
from tests.actors.memories import BIRTH, block, held, newborn

labels = st.sampled_from(["human", "persona", "notes", "x/y", "bad label"])
texts = st.text(alphabet="ab \n→1", max_size=6)
patches = st.sampled_from(
    [
        "-a\n+b",
        "*** Add Block: notes\n+a",
        "*** Delete Block: human",
        "*** Update Block: persona\n*** Move to: notes\n",
        "*** Delete Block: human\n*** Add Block: human\n+b",
        "*** Update Block: human\n*** Move to: x\n*** Update Block: persona\n*** Move to: human",
        "nonsense",
    ]
)
edits: st.SearchStrategy[MemoryEdit] = st.one_of(
    st.builds(InsertEdit, labels, texts, st.integers(-2, 3)),
    st.builds(ReplaceEdit, labels, texts, texts),
    st.builds(AppendEdit, labels, texts),
    st.builds(ReplaceAllEdit, labels, texts, texts),
    st.builds(RethinkEdit, labels, texts),
    st.builds(PatchEdit, labels, patches),
    st.builds(CreateEdit, labels, texts, texts),
    st.builds(DeleteEdit, labels),
    st.builds(RenameEdit, labels, st.none() | labels, st.none() | texts),
)
memories = st.dictionaries(st.sampled_from(["human", "persona", "notes"]), texts).map(lambda v: held(**v))


def applied(blocks: Mapping[str, Block], edit: MemoryEdit) -> Applied:
    return memory_edits.apply(blocks, edit, BIRTH)


def refused(blocks: Mapping[str, Block], edit: MemoryEdit) -> str:
    with pytest.raises(MemoryEditError) as error:
        memory_edits.apply(blocks, edit, BIRTH)
    return str(error.value)


def values(blocks: Mapping[str, Block]) -> dict[str, str]:
    return {label: b.value for label, b in blocks.items()}


@given(memories, st.lists(edits, max_size=6))
def test_memory_is_whole_after_whatever_edits(blocks: dict[str, Block], wanted: list[MemoryEdit]) -> None:
    before, gone = dict(blocks), set[str]()
    numbers = count()
    fresh = Birth(lambda label: replace(newborn(label), id=f"block-new-{next(numbers)}"))
    for edit in wanted:
        try:
            after = memory_edits.apply(blocks, edit, fresh)
        except MemoryEditError:
            continue
        assert all(label == b.label for label, b in after.blocks.items())
        ids = [b.id for b in after.blocks.values()]
        assert len(ids) == len(set(ids))
        gone |= {b.id for b in after.detached}
        left = {b.id for b in blocks.values()} - set(ids)
        assert left <= gone, "a block leaves only by being detached"
        blocks = after.blocks
    assert {b.version for b in blocks.values() if b.id in {x.id for x in before.values()}} <= {7}


@given(memories, edits)
def test_an_edit_gives_the_same_again_and_leaves_its_blocks_alone(
    blocks: dict[str, Block], edit: MemoryEdit
) -> None:
    before = dict(blocks)
    try:
        first = applied(blocks, edit)
    except MemoryEditError as error:
        assert refused(blocks, edit) == str(error)  # noqa: PT017 - the same refusal, twice
    else:
        assert applied(blocks, edit) == first
    assert blocks == before


@pytest.mark.parametrize(
    "edit",
    [
        InsertEdit("human", "x"),
        InsertEdit("human", "1→ x"),
        ReplaceEdit("human", "tea", "x"),
        AppendEdit("human", "x"),
        ReplaceAllEdit("human", "tea", "x"),
        RethinkEdit("human", "x"),
        PatchEdit("human", "-tea\n+x"),
        PatchEdit("", "*** Update Block: human\n*** Move to: other"),
        DeleteEdit("human"),
        RenameEdit("human", "other"),
        RenameEdit("human", description="other"),
    ],
)
def test_a_read_only_block_refuses_every_edit_in_letta_s_words(edit: MemoryEdit) -> None:
    said = refused({"human": block("tea", read_only=True)}, edit)
    assert said.endswith(READ_ONLY)
    assert READ_ONLY == "Error This block is read-only and cannot be edited."


@pytest.mark.parametrize(
    "edit",
    [
        InsertEdit("humam", "x"),
        ReplaceEdit("humam", "a", "b"),
        AppendEdit("humam", "x"),
        ReplaceAllEdit("humam", "a", "b"),
        PatchEdit("humam", "-a\n+b"),
        PatchEdit("human", "*** Delete Block: humam"),
        DeleteEdit("humam"),
        RenameEdit("humam", "other"),
    ],
)
def test_an_unknown_label_is_refused_with_the_labels_that_exist(edit: MemoryEdit) -> None:
    assert "`humam` does not exist; existing blocks: human, persona" in refused(
        held(human="a", persona=""), edit
    )
    assert "existing blocks: none" in refused({}, edit)


def test_an_edit_applies_again_to_what_another_writer_left() -> None:
    edit = InsertEdit("human", "plays chess")
    assert applied(held(human="likes tea"), edit).text == "likes tea\nplays chess"
    again = applied(held(human="likes tea\nlives in Graz"), edit)
    assert again.text == "likes tea\nlives in Graz\nplays chess"


# --- values -------------------------------------------------------------------------------------


def test_appending_adds_a_line() -> None:
    assert applied(held(human="a"), AppendEdit("human", "1→ b")).text == "a\n1→ b"
    assert applied(held(human=""), AppendEdit("human", "b\0")).text == "b\ufffd"


def test_replacing_everywhere_changes_every_occurrence() -> None:
    assert applied(held(human="tea, tea"), ReplaceAllEdit("human", "tea", "milk")).text == "milk, milk"
    assert applied(held(human="tea, tea"), ReplaceAllEdit("human", ", tea", "")).text == "tea"
    assert refused(held(human="tea"), ReplaceAllEdit("human", "milk", "x")).startswith(
        "Old content 'milk' not found in memory block 'human'"
    )
    assert "old_content is empty" in refused(held(human="tea"), ReplaceAllEdit("human", "", "x"))


def test_a_value_cannot_be_multiplied_without_bound() -> None:
    bomb = ReplaceAllEdit("human", "a", "b" * 100_000)
    assert "at most 1000000 are possible" in refused(held(human="a" * 100_000), bomb)
    assert "at most 1000000" in refused(held(human="a" * 999_999), AppendEdit("human", "bb"))


def test_rethinking_writes_the_whole_value_and_creates_what_is_absent() -> None:
    assert values(applied(held(human="old"), RethinkEdit("human", "new")).blocks) == {"human": "new"}
    made = applied(held(human="old"), RethinkEdit("notes", "first"))
    assert values(made.blocks) == {"human": "old", "notes": "first"}
    assert made.blocks["notes"].id == "block-new-notes"
    assert made.text == "first"
    assert "line number prefix" in refused(held(human="old"), RethinkEdit("human", "1→ new"))
    assert "cannot be a label" in refused({}, RethinkEdit("a b", "x"))


# --- blocks that come and go -----------------------------------------------------------------------


def test_a_created_block_comes_last_and_has_its_description() -> None:
    made = applied(held(human="x"), CreateEdit("notes", "v", "What else."))
    assert list(made.blocks) == ["human", "notes"]
    assert (made.blocks["notes"].value, made.blocks["notes"].description) == ("v", "What else.")
    assert "created memory block `notes`" in made.text
    assert "system prompt has been recompiled" in made.text


def test_a_label_that_exists_cannot_be_created_or_moved_to() -> None:
    blocks = held(human="x", notes="y")
    assert "`notes` exists already" in refused(blocks, CreateEdit("notes", "", "d"))
    assert "`notes` exists already" in refused(blocks, RenameEdit("human", "notes"))
    assert "`notes` exists already" in refused(blocks, PatchEdit("", "*** Add Block: notes"))


def test_a_label_that_another_holder_has_taken_is_refused() -> None:
    birth = Birth(newborn, frozenset({"taken"}))
    for edit in (CreateEdit("taken", "", "d"), RenameEdit("human", "taken"), RethinkEdit("taken", "x")):
        with pytest.raises(MemoryEditError, match="the label `taken` is taken"):
            memory_edits.apply(held(human="x"), edit, birth)


def test_an_agent_cannot_hold_blocks_without_bound() -> None:
    full = held(**{f"b{i}": "" for i in range(memory_edits.MAX_BLOCKS)})
    assert "delete one first" in refused(full, CreateEdit("more", "", "d"))
    assert "at most 10000" in refused({}, CreateEdit("notes", "", "d" * 10_001))


def test_a_deleted_block_leaves_as_it_was() -> None:
    after = applied(held(human="x", notes="y"), DeleteEdit("notes"))
    assert values(after.blocks) == {"human": "x"}
    assert [b.value for b in after.detached] == ["y"]
    assert "deleted memory block `notes`" in after.text


def test_a_renamed_block_keeps_its_place_its_id_and_its_value() -> None:
    after = applied(held(human="x", notes="y", persona="z"), RenameEdit("notes", "diary"))
    assert values(after.blocks) == {"human": "x", "diary": "y", "persona": "z"}
    assert list(after.blocks) == ["human", "diary", "persona"]
    assert (after.blocks["diary"].id, after.blocks["diary"].label) == ("block-notes", "diary")
    assert "renamed memory block `notes` to `diary`" in after.text


def test_a_description_changes_alone_or_with_the_label() -> None:
    alone = applied(held(human="x"), RenameEdit("human", description="Who."))
    assert (alone.blocks["human"].description, alone.blocks["human"].value) == ("Who.", "x")
    assert "description of memory block `human`" in alone.text
    both = applied(held(human="x"), RenameEdit("human", "person", "Who."))
    assert both.blocks["person"].description == "Who."


# --- patches of several blocks ---------------------------------------------------------------------


def test_operations_are_applied_in_their_order() -> None:
    patch = (
        "*** Update Block: human\n*** Move to: person\n-tea\n+coffee\n"
        "*** Update Block: persona\n*** Move to: human\n"
        "*** Add Block: persona\n+kind\n"
        "*** Delete Block: old\n"
    )
    after = applied(held(human="tea", persona="curt", old="x"), PatchEdit("human", patch))
    assert values(after.blocks) == {"person": "coffee", "human": "curt", "persona": "kind"}
    assert [b.label for b in after.detached] == ["old"]
    assert after.text.splitlines()[:5] == [
        "Applied 4 operations:",
        "- updated and moved `human` to `person`",
        "- moved `persona` to `human`",
        "- added `persona`",
        "- deleted `old`",
    ]


def test_what_a_patch_changed_before_it_detached_is_told() -> None:
    patch = "*** Update Block: human\n-tea\n+coffee\n*** Delete Block: human"
    after = applied(held(human="tea"), PatchEdit("human", patch))
    assert after.blocks == {}
    assert [b.value for b in after.detached] == ["coffee"]


def test_one_refused_operation_refuses_the_patch() -> None:
    blocks = held(human="tea")
    said = refused(
        blocks, PatchEdit("human", "*** Add Block: notes\n+x\n*** Update Block: human\n-milk\n+water")
    )
    assert said.startswith("Nothing was changed, because of `*** Update Block: human`: ")
    assert "does not fit" in said
    assert values(blocks) == {"human": "tea"}


def test_line_numbers_of_the_display_are_refused_in_patches() -> None:
    for patch in ("-tea\n+1→ milk", "-1→ tea\n+milk", "*** Add Block: notes\n+1→ x"):
        assert "line number prefix" in refused(held(human="tea"), PatchEdit("human", patch))
