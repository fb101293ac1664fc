"""Vectors keep their numbers in their binary form, and what is none is refused."""

import math
import struct
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import vectors


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=50))
def test_numbers_come_back_as_they_were(numbers: list[float]) -> None:
    assert vectors.decode(vectors.encode(numbers)) == tuple(numbers)
    assert vectors.encode(array("f", numbers)) == vectors.encode(tuple(numbers))


def test_the_form_is_that_of_pgvector() -> None:
    assert vectors.encode([1, -2]) == struct.pack(">HHff", 2, 0, 1, -2)


@pytest.mark.parametrize("numbers", [[], [math.nan], [-math.inf], [1e39], [0.0] * 16_001])
def test_what_is_no_vector_is_refused(numbers: list[float]) -> None:
    with pytest.raises(ValueError, match="a vector has"):
        vectors.encode(numbers)
