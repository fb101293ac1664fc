from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import memory
from actors.memory import LINE_NUMBER_WARNING, MemoryEditError
from storage.records import DEFAULT_ORGANIZATION, Block

BORN = datetime(2026, 1, 1, tzinfo=UTC)
lines = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\n→\0"), max_size=8)
values = st.lists(lines, max_size=6).map("\n".join)


def block(value: str, *, label: str = "human", read_only: bool = False) -> Block:
    return Block(
        id=f"block-{label}",
        organization_id=DEFAULT_ORGANIZATION,
        label=label,
        value=value,
        created_at=BORN,
        updated_at=BORN,
        read_only=read_only,
        version=7,
    )


@pytest.mark.parametrize(
    ("line", "expected"),
    [(-1, "a\nb\nNEW"), (0, "NEW\na\nb"), (1, "a\nNEW\nb"), (2, "a\nb\nNEW")],
)
def test_an_insert_goes_behind_the_named_line(line: int, expected: str) -> None:
    assert memory.insert(block("a\nb"), "NEW", insert_line=line).value == expected


@pytest.mark.parametrize("line", [-1, 0, 1])
def test_an_insert_into_an_empty_block_leaves_no_empty_line(line: int) -> None:
    assert memory.insert(block(""), "first", insert_line=line).value == "first"


@pytest.mark.parametrize("line", [-2, 3, 10**9])
def test_an_insert_behind_a_line_that_is_not_there_names_the_lines_that_are(line: int) -> None:
    with pytest.raises(MemoryEditError, match=rf"insert_line {line} is out of range.*2 lines.*0 to 2.*-1"):
        memory.insert(block("a\nb"), "x", insert_line=line)


@given(values, lines, st.data())
def test_an_insert_keeps_every_line_that_was_there(value: str, new: str, data: st.DataObject) -> None:
    before = value.split("\n")
    at = data.draw(st.integers(0, len(before)))
    after = memory.insert(block(value), new, insert_line=at).value.split("\n")
    assert after == ([new] if not value else [*before[:at], new, *before[at:]])


def test_a_replacement_changes_the_one_place_and_nothing_else() -> None:
    old = block("likes tea\nlives in Graz", label="human")
    new = memory.replace(old, "Graz", new_string="Vienna")
    assert new.value == "likes tea\nlives in Vienna"
    assert old.value == "likes tea\nlives in Graz"
    assert (new.id, new.label, new.version, new.updated_at) == (
        old.id,
        old.label,
        old.version,
        old.updated_at,
    )


def test_a_replacement_with_nothing_removes_the_text() -> None:
    assert memory.replace(block("a, b"), ", b", new_string="").value == "a"


def test_a_text_that_is_not_there_is_refused_naming_text_and_block() -> None:
    with pytest.raises(MemoryEditError, match=r"No replacement.*`Tea`.*not appear verbatim.*`human`"):
        memory.replace(block("tea"), "Tea", new_string="coffee")


def test_a_text_that_occurs_twice_is_refused_with_its_lines() -> None:
    with pytest.raises(MemoryEditError, match=r"multiple occurrences.*`tea`.*lines \[1, 3\]"):
        memory.replace(block("tea\ncoffee\ngreen tea"), "tea", new_string="milk")


def test_occurrences_that_overlap_or_span_lines_are_ambiguous_too() -> None:
    with pytest.raises(MemoryEditError, match=r"lines \[1\]"):
        memory.replace(block("aaa"), "aa", new_string="b")
    with pytest.raises(MemoryEditError, match=r"lines \[1, 3\]"):
        memory.replace(block("a\nb\na\nb"), "a\nb", new_string="c")


def test_a_letter_that_occurs_everywhere_costs_a_bounded_error() -> None:
    with pytest.raises(MemoryEditError) as refused:
        memory.replace(block("a\n" * 100_000), "a", new_string="b")
    assert len(str(refused.value)) < 400


def test_an_empty_old_string_fills_an_empty_block_only() -> None:
    assert memory.replace(block(""), "", new_string="hello").value == "hello"
    with pytest.raises(MemoryEditError, match="old_string is empty"):
        memory.replace(block("x"), "", new_string="hello")


@pytest.mark.parametrize("numbered", ["1→ tea", "  12→tea", "tea\n3→ coffee", "\t4→"])
def test_line_numbers_of_the_display_are_refused_in_every_argument(numbered: str) -> None:
    with pytest.raises(MemoryEditError, match="new_string contains a line number prefix"):
        memory.insert(block(""), numbered)
    with pytest.raises(MemoryEditError, match="new_string contains a line number prefix"):
        memory.replace(block("tea"), "tea", new_string=numbered)
    with pytest.raises(MemoryEditError, match="old_string contains a line number prefix"):
        memory.replace(block(numbered), numbered, new_string="x")


def test_an_arrow_inside_a_line_is_text_like_any_other() -> None:
    assert memory.insert(block(""), "go from 1→2").value == "go from 1→2"


def test_the_warning_of_the_display_is_refused_in_every_argument() -> None:
    with pytest.raises(MemoryEditError, match="new_string contains the line number warning"):
        memory.insert(block(""), f"x {LINE_NUMBER_WARNING}")
    with pytest.raises(MemoryEditError, match="old_string contains the line number warning"):
        memory.replace(block(LINE_NUMBER_WARNING), LINE_NUMBER_WARNING, new_string="")


def test_what_the_database_cannot_hold_is_replaced() -> None:
    assert memory.insert(block("a"), "b\0c\ud800d").value == "a\nb\ufffdc\ufffdd"
    assert memory.replace(block("a\ufffdb"), "a\0b", new_string="\udfff").value == "\ufffd"
    assert memory.storable("plain 😀 text") == "plain 😀 text"


def test_line_number_guards_stay_fast_on_hostile_text() -> None:
    assert memory.insert(block(""), "\n" * 200_000 + " " * 200_000).value.count("\n") == 200_000
