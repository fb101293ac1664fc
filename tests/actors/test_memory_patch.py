import difflib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import memory_patch
from actors.memory import MemoryEditError
from actors.memory_patch import Add, Delete, Hunk, Update

lines = st.text(alphabet="ab -+@*", max_size=4)
values = st.lists(lines, max_size=12).map("\n".join)

VALUE = "Name: Sam\nCity: Graz\nDrinks: tea\nPlays: chess"


def patched(value: str, patch: str) -> str:
    return memory_patch.patched(value, memory_patch.parse(patch).hunks, label="human")


def diff(old: str, new: str, context: int) -> str:
    """What a tool that writes unified diffs would send."""
    before = old.split("\n") if old else []
    after = new.split("\n") if new else []
    return "\n".join(difflib.unified_diff(before, after, "a", "b", n=context, lineterm=""))


@given(values, values, st.integers(0, 3))
def test_a_unified_diff_makes_the_new_text_of_the_old_one(old: str, new: str, context: int) -> None:
    if diff(old, new, context):
        assert patched(old, diff(old, new, context)) == new


@given(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=8, unique=True), st.data())
def test_without_line_numbers_the_lines_themselves_find_the_place(
    old: list[str], data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(old) - 1))
    new = [*old[:place], "NEW", *old[place + 1 :]]
    patch = "\n".join(("@@", *(f" {line}" for line in old[:place]), f"-{old[place]}", "+NEW"))
    assert patched("\n".join(old), patch) == "\n".join(new)


def test_lines_go_come_and_stay() -> None:
    assert patched(VALUE, "@@\n City: Graz\n-Drinks: tea\n+Drinks: coffee\n+Eats: soup\n Plays: chess") == (
        "Name: Sam\nCity: Graz\nDrinks: coffee\nEats: soup\nPlays: chess"
    )


def test_several_parts_apply_wherever_they_stand_in_the_patch() -> None:
    patch = "@@\n-Plays: chess\n+Plays: go\n@@ -1 +1 @@\n-Name: Sam\n+Name: Kim\n"
    assert patched(VALUE, patch) == "Name: Kim\nCity: Graz\nDrinks: tea\nPlays: go"


def test_headers_of_files_and_the_note_on_the_last_line_are_read_over() -> None:
    patch = "--- human\n+++ human\n@@ -4,1 +4,1 @@\n-Plays: chess\n\\ No newline at end of file\n+Plays: go"
    assert patched(VALUE, patch).endswith("Plays: go")


def test_a_patch_without_any_marker_is_one_part() -> None:
    assert patched(VALUE, "-City: Graz\n+City: Wien") == VALUE.replace("Graz", "Wien")
    assert patched(VALUE, "*** Begin Patch\n-City: Graz\n+City: Wien\n*** End Patch\n") == VALUE.replace(
        "Graz", "Wien"
    )


def test_spaces_at_the_end_of_a_line_do_not_matter_and_stay_as_they_are() -> None:
    assert patched("a  \nb\nc", " a\n-b\n+B\n c ") == "a  \nB\nc"


def test_a_line_that_is_empty_in_the_block_may_have_lost_its_space_in_the_patch() -> None:
    assert patched("a\n\nb", " a\n\n-b\n+B") == "a\n\nB"


def test_additions_alone_go_to_the_end_or_where_the_patch_says() -> None:
    assert patched(VALUE, "+Last") == f"{VALUE}\nLast"
    assert patched(VALUE, "@@ -0,0 +1 @@\n+First") == f"First\n{VALUE}"
    assert patched(VALUE, "@@ -1,0 +2 @@\n+Second") == VALUE.replace("\n", "\nSecond\n", 1)
    assert patched("", "+only\n+lines") == "only\nlines"
    assert patched("a", "@@ -99999999999999999999,0 +1 @@\n+b") == "a\nb"


def test_a_block_can_be_emptied() -> None:
    assert patched("a\nb", "-a\n-b") == ""


def test_lines_that_are_not_there_are_named() -> None:
    with pytest.raises(MemoryEditError, match=r"does not fit memory block `human`: the lines `City: Linz`"):
        patched(VALUE, "-City: Linz\n+City: Wien")


def test_lines_in_several_places_need_more_of_them_or_their_number() -> None:
    value = "tea\nmilk\ntea\nmilk"
    with pytest.raises(MemoryEditError, match=r"several places, at lines \[1, 3\]"):
        patched(value, "-tea\n+coffee")
    with pytest.raises(MemoryEditError, match="several places"):
        patched(value, "@@ -2 +2 @@\n-tea\n+coffee")
    assert patched(value, "@@ -3 +3 @@\n-tea\n+coffee") == "tea\nmilk\ncoffee\nmilk"
    assert patched(value, " milk\n-tea\n+coffee") == "tea\nmilk\ncoffee\nmilk"


def test_parts_that_overlap_are_refused() -> None:
    with pytest.raises(MemoryEditError, match="two parts of the patch change the same lines"):
        patched(VALUE, "@@\n-City: Graz\n+x\n@@\n City: Graz\n-Drinks: tea\n+y")


@pytest.mark.parametrize("patch", ["", "\n \n", "*** Begin Patch\n*** End Patch"])
def test_an_empty_patch_is_refused(patch: str) -> None:
    with pytest.raises(MemoryEditError, match="the patch is empty"):
        memory_patch.parse(patch)


def test_a_line_of_no_kind_is_named() -> None:
    with pytest.raises(MemoryEditError, match="the line `City: Graz` of the patch begins with neither"):
        memory_patch.parse("@@\nCity: Graz\n-x")


# --- operations on several blocks ---------------------------------------------------------------


def test_operations_name_their_blocks() -> None:
    parsed = memory_patch.parse(
        "*** Begin Patch\n"
        "*** Add Block: notes\n+first\n+\n+third\n\n"
        "*** Delete Block: old\n"
        "*** Update Block: human\n*** Move to: person\n@@\n-tea\n+coffee\n"
        "*** Update Block: persona\n*** Move to: self\n"
        "*** End Patch"
    )
    assert parsed.hunks == ()
    assert parsed.operations == (
        Add("notes", "first\n\nthird"),
        Delete("old"),
        Update("human", (Hunk((("-", "tea"), ("+", "coffee"))),), "person"),
        Update("persona", (), "self"),
    )


@pytest.mark.parametrize(
    ("patch", "reason"),
    [
        ("*** Add Block:\n+x", "names no block"),
        ("*** Add Block: a\nx", "begins with '\\+', unlike `x`"),
        ("*** Delete Block: a\n-x", "has no lines below it"),
        ("*** Update Block: a", "changes nothing"),
        ("*** Update Block: a\n x", "changes nothing"),
        ("*** Update Block: a\n*** Move to:\n-x", "names no label"),
        ("*** Move to: b", "belongs right below"),
        ("-x\n*** Delete Block: a", "begins with `-x`"),
        ("*** Update Block: a\n-x\n*** Move to: b", "begins with neither"),
    ],
)
def test_malformed_operations_are_refused_with_their_line(patch: str, reason: str) -> None:
    with pytest.raises(MemoryEditError, match=reason):
        memory_patch.parse(patch)


@given(st.text(alphabet="ab+- @*\n\\dDelt:BockU", max_size=60), values)
def test_no_patch_raises_anything_else(patch: str, value: str) -> None:
    try:
        parsed = memory_patch.parse(patch)
        memory_patch.patched(value, parsed.hunks, label="human")
    except MemoryEditError:
        return


def test_a_hostile_patch_costs_little() -> None:
    began = time.process_time()
    with pytest.raises(MemoryEditError, match="does not fit"):
        patched("a\n" * 400_000, "-" + "a\n-" * 200_000 + "b")
    with pytest.raises(MemoryEditError, match="several places"):
        patched("a\n" * 400_000, "-" + "a\n-" * 200_000 + "a")
    many = "".join(f"@@\n-line {i}\n+changed {i}\n" for i in range(200))
    patched("\n".join(f"line {i} " for i in range(100_000)), many)
    for part in ("@@\n-a\n", "*** Delete Block: a\n"):
        with pytest.raises(MemoryEditError, match="at most 200 at once"):
            memory_patch.parse(part * 10_000)
    assert time.process_time() - began < 5
