"""Which common words a query may have."""

from hypothesis import given
from hypothesis import strategies as st

from storage.passage_words import WORD_CHARS, common_in

COMMON = {"the": 0.9, "hous": 0.3, "house": 0.1, "tea": 0.2, "über": 0.1}


def test_a_common_word_is_found_as_it_stands_and_by_its_stem() -> None:
    assert common_in("Houses, TEA!", COMMON) == {"hous": 0.3, "house": 0.1, "tea": 0.2}
    assert common_in("ÜBER-x", COMMON) == {"über": 0.1}


def test_a_rare_word_is_not_taken_for_a_common_one_within_it() -> None:
    assert common_in("plate steam", COMMON) == {}


@given(st.text(max_size=200))
def test_what_is_found_begins_a_word_of_the_query(text: str) -> None:
    found = common_in(text, COMMON)
    assert found.items() <= COMMON.items()
    assert all(word in text.lower() for word in found)


def test_a_word_of_thousands_of_characters_is_looked_at_to_a_bound() -> None:
    long = "a" * (WORD_CHARS + 1)
    assert common_in(long * 100, {long: 0.5}) == {}
