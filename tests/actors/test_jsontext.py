import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.jsontext import MemberReader, StringReader, joined, member, members

# Text as it can be stored: no NUL, no halves of surrogate pairs.
texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(texts, values, max_size=4)
cuts = st.lists(st.integers(1, 6), min_size=1, max_size=5)


def pieces(text: str, sizes: list[int]) -> list[str]:
    """Cut a text into pieces of these sizes, over and over."""
    out, at, turn = list[str](), 0, 0
    while at < len(text):
        out.append(text[at : at + sizes[turn % len(sizes)]])
        at += sizes[turn % len(sizes)]
        turn += 1
    return out


@given(texts, st.booleans(), texts, cuts)
def test_a_string_is_read_wherever_it_is_cut(
    text: str, ascii_only: bool, rest: str, sizes: list[int]
) -> None:
    wire = json.dumps(text, ensure_ascii=ascii_only)[1:] + rest
    reader, read, taken = StringReader(), "", 0
    for piece in pieces(wire, sizes):
        decoded, end = reader.feed(piece)
        read += decoded
        if end >= 0:
            taken += end
            break
        taken += len(piece)
    assert read == text
    assert wire[taken:] == rest


@pytest.mark.parametrize(
    ("wire", "text"),
    [
        (r"a\ud83d\ude00b", "a\N{GRINNING FACE}b"),
        (r"\ud83dx", "\ufffdx"),
        (r"\ude00", "\ufffd"),
        (r"\ud83d\ud83d\ude00", "\ufffd\N{GRINNING FACE}"),
        (r"\u0000", "\ufffd"),
        (r"\q\/\"", 'q/"'),
        (r"\uZZZZ", "uZZZZ"),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 100])
def test_odd_escapes_lose_nothing_else(wire: str, text: str, size: int) -> None:
    reader = StringReader()
    assert "".join(reader.feed(piece)[0] for piece in pieces(wire + '"', [size])) == text


@given(objects, texts, texts, st.integers(0, 4), cuts, st.sampled_from([None, 1]))
def test_one_member_is_read_wherever_it_stands_and_is_cut(
    others: dict[str, object], name: str, text: str, place: int, sizes: list[int], indent: int | None
) -> None:
    items = [(k, v) for k, v in others.items() if k != name]
    items.insert(min(place, len(items)), (name, text))
    reader = MemberReader(name)
    wire = json.dumps(dict(items), indent=indent)
    assert "".join(reader.feed(piece) for piece in pieces(wire, sizes)) == text
    assert reader.found


@given(objects, texts, cuts)
def test_a_member_that_is_no_string_or_not_there_is_not_found(
    held: dict[str, object], name: str, sizes: list[int]
) -> None:
    if isinstance(held.get(name), str):
        del held[name]
    reader = MemberReader(name)
    assert "".join(reader.feed(piece) for piece in pieces(json.dumps(held), sizes)) == ""
    assert not reader.found


@pytest.mark.parametrize("wire", ["", "[]", '"message"', "nonsense", '{"message"', '{"message" "x"}', "{,}"])
def test_what_is_no_object_says_nothing(wire: str) -> None:
    reader = MemberReader("message")
    assert reader.feed(wire) == ""
    assert not reader.found


def test_a_member_that_is_cut_short_says_what_came() -> None:
    reader = MemberReader("message")
    assert reader.feed('{"message": "half a sen') == "half a sen"
    assert reader.found


def test_only_the_first_of_two_members_of_one_name_counts() -> None:
    assert MemberReader("a").feed('{"a": "x", "a": "y"}') == "x"


@given(objects)
def test_the_members_of_an_object_join_to_it_again(value: dict[str, object]) -> None:
    found = members(json.dumps(value))
    assert found is not None
    assert [name for name, _ in found] == list(value)
    assert json.loads(joined(found)) == value


@given(texts, values)
def test_a_member_is_written_as_it_would_be_read(name: str, value: object) -> None:
    assert json.loads(joined([member(name, value)])) == {name: value}


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a":1', '{"a":1} x', "{1:2}", '{"a":1,}', "null"])
def test_what_is_no_object_has_no_members(text: str) -> None:
    assert members(text) is None


def test_repeats_are_kept_and_of_several_objects_the_first_counts() -> None:
    assert members('{"a":1,"a":2}{"b":3}') == [("a", '"a":1'), ("a", '"a":2')]
