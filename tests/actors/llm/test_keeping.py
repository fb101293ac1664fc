import msgspec

from actors.llm import text_calls
from actors.llm.keeping import LARGEST_BYTES, MOST, kept


def test_what_was_made_of_a_small_input_is_made_once_and_of_a_large_one_each_time() -> None:
    made: list[tuple[int, str]] = []

    @kept
    def make(data: bytes, word: str) -> str:
        made.append((len(data), word))
        return word * 2

    small, large = b"x" * LARGEST_BYTES, b"x" * (LARGEST_BYTES + 1)
    assert [make(small, "a"), make(small, "a"), make(small, "b")] == ["aa", "aa", "bb"]
    assert [make(large, "c"), make(large, "c")] == ["cc", "cc"]
    assert made == [(len(small), "a"), (len(small), "b"), (len(large), "c"), (len(large), "c")]


def test_the_oldest_result_is_forgotten() -> None:
    made: list[bytes] = []
    make = kept(made.append)
    for number in range(MOST + 1):
        make(b"%d" % number)
    make(b"%d" % MOST)
    assert len(made) == MOST + 1
    make(b"0")
    assert made[-1] == b"0"


def test_an_offer_of_ordinary_tools_is_kept_and_one_of_huge_ones_is_not() -> None:
    def tools(chars: int) -> bytes:
        return msgspec.json.encode([{"function": {"name": "f", "description": "x" * chars}}])

    assert text_calls.offer(tools(100), "auto", None) is text_calls.offer(tools(100), "auto", None)
    huge = tools(LARGEST_BYTES)
    assert text_calls.offer(huge, "auto", None) is not text_calls.offer(huge, "auto", None)
