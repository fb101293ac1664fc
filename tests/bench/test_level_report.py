"""Levels of load as tables and as plots."""

import re
from io import StringIO
from xml.etree import ElementTree as ET

import msgspec
import pytest
from rich.console import Console

from bench import level_report, plots
from bench.histogram import latency
from bench.levels import Level

MS = 1_000_000


def level(target: str, at: int, ms: float, **more: object) -> Level:
    took = latency([ms * MS * (1 + i / 100) for i in range(100)])
    whole: dict[str, object] = {
        "case": "load_first_token",
        "target": target,
        "level": at,
        "loop": "open",
        "asked": 10.0,
        "rate": 10.0,
        "sent": 100,
        "failed": 0,
        "failures": {},
        "late": False,
        "cpu_s": 0.1,
        "lateness": latency([1000]),
    }
    for name in ("first", "whole", "gap", "first_added", "whole_added", "gap_added"):
        whole[name] = took
    return msgspec.convert(whole | more, Level)


def printed(levels: list[Level]) -> str:
    console = Console(file=StringIO(), width=200)
    for table in level_report.tables(levels):
        console.print(table)
    return console.file.getvalue()  # type: ignore[attr-defined]


def row(text: str, target: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith(f"│ {target} ")]
    return [cell.strip() for cell in line.strip("│").split("│")]


def test_each_level_stands_beside_the_relay_and_the_floor_at_the_same_level() -> None:
    text = printed(
        [level("floor", 8, 1), level("relay", 8, 2), level("relay", 32, 100), level("ours, SSE", 8, 6)]
    )
    cells = row(text, "ours, SSE")
    assert cells[1:4] == ["8", "10", "0"]
    assert cells[-3:-1] == ["3", "6"]
    assert row(text, "floor")[-3:-1] == ["0.5", ""]


def test_closed_loops_are_compared_by_what_they_answered() -> None:
    closed = {"case": "load_messages", "loop": "closed", "asked": None, "lateness": None}
    text = printed([level("relay", 8, 2, rate=1000, **closed), level("ours, REST", 8, 9, rate=400, **closed)])
    assert row(text, "ours, REST")[-3] == "0.4"


def test_what_a_reader_must_know_is_said_below() -> None:
    own_model = {"first_added": None, "whole_added": None, "gap_added": None}
    text = printed(
        [
            level("relay", 1, 2),
            level("openai http://x", 1, 500, **own_model),
            level("ours, SSE", 8, 5, late=True, failed=3, failures={"status [503]": 3}),
        ]
    )
    assert "a model of its own" in text
    assert "failed, status [503]: ours, SSE at 8 (3)" in text
    assert "collapsed, no higher level was tried: ours, SSE at 8 (3.0% failed)" in text
    assert "the generator was late" in text
    assert "3.0%" in row(text, "ours, SSE")[3]
    assert row(text, "openai http://x")[-3:-1] == ["", ""]  # whole times beside added ones: no ratio


def test_what_is_true_of_several_levels_is_said_once() -> None:
    found = [level("relay", at, 2, late=True) for at in (8, 32)] + [level("ours, SSE", 8, 5, late=True)]
    (note,) = level_report.notes(found)
    assert note.endswith(": relay at 8, 32; ours, SSE at 8")
    assert note in plots.figures(found)["load_first_token"]


def test_a_level_that_was_not_measured_is_told_from_one_that_collapsed() -> None:
    closed = {"case": "load_messages", "loop": "closed", "asked": None, "lateness": None}
    rates = {1: 100.0, 8: 800.0, 32: 390.0, 128: None}
    found = [level("ours, REST", at, 5, rate=rate, **closed) for at, rate in rates.items()]
    assert level_report.notes(found) == [
        "collapsed, no higher level was tried: ours, REST at 32 (390/s, less than half of 800/s)",
        "not measured, not one round of answers came in time: ours, REST at 128",
    ]
    cells = [line for line in printed(found).splitlines() if line.startswith("│ ours")][-1].split("│")
    assert cells[3].strip() == "-"


def test_a_door_that_streams_stands_beside_the_relays_stream() -> None:
    closed = {"case": "load_messages", "loop": "closed", "asked": None, "lateness": None}
    whole = {"first": None, "first_added": None, "gap": None, "gap_added": None} | closed
    text = printed(
        [
            level("relay", 8, 2, rate=1000, **whole),
            level("relay, SSE", 8, 2, rate=500, **closed),
            level("ours, REST", 8, 9, rate=400, **whole),
            level("ours, SSE", 8, 9, rate=400, **closed),
        ]
    )
    assert row(text, "ours, REST")[-3] == "0.4"
    assert row(text, "ours, SSE")[-3] == "0.8"
    assert row(text, "relay, SSE")[-3] == ""


def drawn(levels: list[Level]) -> list[ET.Element]:
    page = "".join(plots.figures(levels).values())
    return [ET.fromstring(found) for found in re.findall(r"<svg.*?</svg>", page)]


def lines(plot: ET.Element) -> list[ET.Element]:
    return [path for path in plot.findall("path") if path.get("fill") == "none"]


def test_a_case_with_levels_is_drawn_by_level_and_by_percentile() -> None:
    by_level, gaps, by_percentile = drawn(
        [level(target, at, at) for target in ("floor", "ours, SSE") for at in (1, 8, 32)]
    )
    assert len(lines(by_level)) == len(lines(gaps)) == 4  # p50 and p99 of two
    assert len(lines(by_percentile)) == 2
    assert len(by_level.findall("circle")) == 12


@pytest.mark.parametrize("ms", [0, 0.0001, 5, 3_600_000])
def test_any_times_are_drawn_inside_of_the_plot(ms: float) -> None:
    for plot in drawn([level("a", 1, ms), level("a", 8, ms * 2)]):
        for line in lines(plot):
            for across, up in re.findall(r"([\d.-]+) ([\d.-]+)", line.attrib["d"]):
                assert plots.LEFT <= float(across) <= plots.WIDTH - plots.RIGHT
                assert plots.TOP - 1 <= float(up) <= plots.HEIGHT - plots.BOTTOM


def test_one_level_alone_has_no_line_by_level() -> None:
    assert len(drawn([level("a", 1, 5)])) == 1
    assert plots.figures([]) == {}


def test_names_of_other_servers_are_escaped() -> None:
    assert "<b>x" not in "".join(plots.figures([level("<b>x", 1, 5)]).values()).replace("<b style", "")
