"""Choices of subscribers: patterns over kinds of events, and what may be asked for."""

import pytest

from gateway.agui import images as agui
from gateway.feeds import choices
from gateway.realtime.protocol import BAD_REQUEST, ProtocolError, SubscribeData
from tests.gateway.agui_events import EVERY


@pytest.mark.parametrize(
    ("pattern", "kind", "wanted"),
    [
        ("TEXT_*", "TEXT_MESSAGE_CONTENT", True),
        ("TEXT_*", "TOOL_CALL_ARGS", False),
        ("TEXT", "TEXT_MESSAGE_CONTENT", False),
        ("CUSTOM", "CUSTOM:wakeful.timing", True),
        ("CUSTOM:wakeful.*", "CUSTOM:wakeful.timing", True),
        ("CUSTOM:wakeful.*", "CUSTOM:letta.compaction", False),
        ("RUN_[FE]*", "RUN_FINISHED", True),
        ("RUN_[FE]*", "RUN_STARTED", False),
        ("*", "RUN_STARTED", True),
    ],
)
def test_patterns_are_those_of_file_names(pattern: str, kind: str, wanted: bool) -> None:
    choice = choices.choose(SubscribeData(None, ["STEP_STARTED", pattern]), thoughts=True)
    assert choice.kinds is not None
    assert choices.matches(choice.kinds, kind) is wanted


def test_no_pattern_at_all_wants_nothing() -> None:
    choice = choices.choose(SubscribeData(None, []), thoughts=True)
    assert choice.kinds is not None
    assert not choices.matches(choice.kinds, "RUN_STARTED")


@pytest.mark.parametrize("pattern", ["(a+)+", "TEXT MESSAGE", "é", "x" * 200])
def test_nonsense_is_refused(pattern: str) -> None:
    with pytest.raises(ProtocolError) as refused:
        choices.choose(SubscribeData(None, [pattern]), thoughts=True)
    assert refused.value.code == BAD_REQUEST


def test_a_pattern_of_stars_is_matched_at_once() -> None:
    choice = choices.choose(SubscribeData(None, ["*A*A*A*A"] * 60), thoughts=True)
    assert choice.kinds is not None
    assert not choices.matches(choice.kinds, "A" * 5000 + "B")


@pytest.mark.parametrize("patterns", [["*A*A*A*A*"], ["A" * 100] * 11, ["[A-Z]" * 20] * 11])
def test_patterns_that_take_long_to_compile_are_refused(patterns: list[str]) -> None:
    with pytest.raises(ProtocolError) as refused:
        choices.choose(SubscribeData(None, patterns), thoughts=True)
    assert refused.value.code == BAD_REQUEST


def test_all_kinds_by_name_are_few_enough() -> None:
    kinds = sorted({agui.kind(event) for event in EVERY})
    choice = choices.choose(SubscribeData(None, kinds), thoughts=True)
    assert choice.kinds is not None
    assert all(choices.matches(choice.kinds, kind) for kind in kinds)


@pytest.mark.parametrize("rate", [0, -1, 1001, float("nan"), float("inf")])
def test_a_rate_out_of_bounds_is_refused(rate: float) -> None:
    with pytest.raises(ProtocolError):
        choices.choose(SubscribeData(rate), thoughts=True)


def test_who_chooses_nothing_shares_one_choice() -> None:
    assert choices.choose(None, thoughts=True) is choices.choose(SubscribeData(), thoughts=True)
    assert not choices.choose(None, thoughts=False).thoughts
