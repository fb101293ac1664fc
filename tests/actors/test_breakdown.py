"""What fills a window, part by part."""

from hypothesis import given
from hypothesis import strategies as st

from actors.breakdown import Breakdown, SystemTokens, breakdown_of, system_tokens

SYSTEM = """\
You are an agent.

<memory_blocks>
tea
</memory_blocks>

<tool_usage_rules>
one
</tool_usage_rules>

<memory_metadata>
- now
</memory_metadata>"""


def test_a_system_message_is_counted_part_by_part() -> None:
    counted = system_tokens(SYSTEM, lambda text: text.count("\n"))
    assert counted == SystemTokens(text=0, memory=2, rules=2, directories=0, facts=2)


@given(st.integers(0, 9999), st.integers(0, 9999), st.integers(0, 9999))
def test_the_parts_of_a_window_are_all_of_it(summary: int, rest: int, functions: int) -> None:
    system = SystemTokens(500, 60, 7, 3, 40)
    found = breakdown_of(system, window=summary + rest, summary=summary, functions=functions)
    assert (found.summary_memory, found.messages) == (summary, rest)
    assert found.used == 610 + summary + rest + functions


def test_what_is_used_is_the_sum_of_every_part() -> None:
    ones = Breakdown(**dict.fromkeys(Breakdown.__struct_fields__, 1))
    assert ones.used == len(Breakdown.__struct_fields__)
