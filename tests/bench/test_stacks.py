"""The phases of a message as a bar."""

import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import stacks
from bench.explain import PHASES

NAMES = [name for name, _, _ in PHASES]
SPLITS = st.lists(st.dictionaries(st.sampled_from([*NAMES, "delivery"]), st.floats(1e-3, 1e5)), max_size=4)


@given(SPLITS)
def test_the_phases_fill_the_bar_in_their_order(splits: list[dict[str, float]]) -> None:
    drawn = stacks.figure(splits)
    phases = stacks.middle(splits)
    phases.pop("delivery", None)
    if not phases:
        assert drawn == ""
        return
    (svg,) = re.findall(r"<svg.*</svg>", drawn)
    bars = ET.fromstring(svg).findall("rect")
    titles = [bar.findtext("title") or "" for bar in bars]
    assert [title.partition(":")[0] for title in titles] == [name for name in NAMES if name in phases]
    whole = sum(float(bar.attrib["width"]) for bar in bars)
    assert whole == pytest.approx(stacks.WIDTH - 2 * stacks.MARGIN, abs=0.1)


def test_every_phase_has_a_colour() -> None:
    assert list(stacks.COLOURS) == NAMES


def test_of_several_runs_the_middle_is_shown() -> None:
    assert stacks.middle([{"queue": 1.0}, {"queue": 5.0}, {"queue": 2.0, "tools": 9.0}]) == {"queue": 2.0}
