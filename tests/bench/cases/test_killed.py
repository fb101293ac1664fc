"""What counts as lost, repeated or out of order after a kill."""

import pytest

from bench.cases.killed import Said, faults

ASK1, ASK2 = Said("user_message", "one"), Said("user_message", "two")
ANSWER = Said("assistant_message", "word0 word1 ")
THOUGHT = Said("reasoning_message", "hm")


@pytest.mark.parametrize(
    ("said", "count"),
    [
        ([ASK1, THOUGHT, ANSWER, ASK2, ANSWER], 0),
        ([ASK1, ANSWER, ASK2], 1),
        ([ASK1, ANSWER], 2),
        ([ASK1, ANSWER, ANSWER, ASK2, ANSWER], 1),
        ([ASK1, ASK1, ANSWER, ASK2, ANSWER], 1),
        ([ASK2, ANSWER, ASK1, ANSWER], 2),
        ([ASK1, Said("assistant_message", "word0 "), ASK2, ANSWER], 2),
        ([], 4),
    ],
    ids=["whole", "no answer", "a turn lost", "answer twice", "message twice", "order", "cut off", "nothing"],
)
def test_each_message_is_there_once_then_its_answer(said: list[Said], count: int) -> None:
    assert faults(said, ["one", "two"], "word0 word1 ") == count
