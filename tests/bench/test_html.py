"""A report as a page."""

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import msgspec
import pytest

from bench import __main__, html, report
from bench.budget import Taken
from bench.case import Case, Row

MACHINE = {"cpu": "<cpu>", "cores": 2, "kernel": "6", "python": "3.11", "commit": "abc"}
ROW = Row(key="x", title="cost & more", unit="ms", figure=4, relay=2)


def written(ours: list[float], relay: list[float], **more: Any) -> bytes:
    case = Case(name="c", rows=(ROW,), measure=lambda *_: {})
    rows = report.judge(case, {"ours": [{"x": v} for v in ours], "relay": [{"x": v} for v in relay]})
    whole: dict[str, Any] = {
        "machine": MACHINE,
        "settings": {},
        "started_at": "2026-01-01T00:00:00+00:00",
        "seconds": 1.0,
        "load_before": 0.1,
        "calibration_ms": [],
        "rows": rows,
        "figures": {},
        "errors": [],
    }
    return msgspec.json.encode(report.Report(**whole | more))


def plots(page: str) -> list[ET.Element]:
    return [ET.fromstring(found) for found in re.findall(r"<svg.*?</svg>", page)]


def test_every_run_is_a_dot_and_the_limit_a_line() -> None:
    page = html.page(written([1.0, 2.0, 3.0], [2.0]))
    (plot,) = plots(page)
    assert len(plot.findall("circle")) == 4
    assert len(plot.findall("rect")) == 2
    assert len(plot.findall("path")) == 2
    assert 'class="pass"' in page


@pytest.mark.parametrize("ours", [[0.0], [-5.0, 3.0], [float("inf")], [1e-9, 1e9], []])
def test_any_figures_are_drawn_inside_of_the_plot(ours: list[float]) -> None:
    (plot,) = plots(html.page(written(ours, [2.0])))
    for dot in plot.findall("circle"):
        assert html.LEFT <= float(dot.attrib["cx"]) <= html.WIDTH - html.RIGHT


def test_the_page_needs_nothing_else_and_escapes_what_it_shows() -> None:
    page = html.page(written([1.0], [], errors=["<script>alert(1)</script>"]))
    assert not re.search(r"<script|src=|href=(?!.#)|url\(|https?://", page)
    assert "&lt;cpu&gt;" in page
    assert "cost &amp; more" in page


def test_figures_are_written_beside_their_plot_with_the_ratio_and_what_is_allowed() -> None:
    page = html.page(written([6.0], [2.0]))
    assert "ours 6, relay 2, allowed ≤ 4, 3 times" in page


def test_the_top_says_how_many_rows_pass_and_links_to_those_that_fail() -> None:
    page = html.page(written([6.0], [2.0]))
    assert "0 rows pass, 1 fail." in page
    assert '<a href="#c">c: cost &amp; more</a>' in page
    assert '<h2 id="c">' in page


def test_a_limit_is_drawn_where_there_is_no_relay() -> None:
    row = Row(key="x", title="commit", limit="bare")
    rows = report.judge(Case(name="c", rows=(row,), measure=lambda *_: {}), {"ours": [{"x": 6, "bare": 2}]})
    page = html.page(written([], [], rows=rows))
    (plot,) = plots(page)
    assert [text.text for text in plot.findall("text")][:2] == ["ours", "limit"]
    assert "ours 6, limit 2, 3 times" in page


def test_what_was_not_measured_is_said() -> None:
    assert "<li>no history &lt;x&gt;</li>" in html.page(written([1.0], [], notes=["no history <x>"]))


def test_the_relays_phases_stand_below_ours() -> None:
    split = {"accept": 1.0, "checkpoint": 2.0}
    page = html.page(written([1.0], [], phases={"c": [split]}, relay_phases={"c": [{"accept": 1.5}]}))
    _, ours, relay = plots(page)
    assert len(ours.findall("rect")) == 2
    (bar,) = relay.findall("rect")
    assert float(bar.attrib["width"]) == pytest.approx((800 - 8) / 2), "on one scale"


def test_the_page_of_an_earlier_run_is_made_without_measuring(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_bytes(written([1.0], [2.0]))
    arguments = ["--read", str(tmp_path / "report.json"), "--html", str(tmp_path / "page.html")]
    assert __main__.main(arguments) == 0
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")


def test_a_figure_that_scales_is_shown_with_what_it_was_asked_beside() -> None:
    page = html.page(written([6.0, 6.0], [3.0]))
    assert "allowed ≤ 6 (4 where the relay has 2), 2 times, 2 runs" in page


def test_a_reference_is_drawn_as_a_limit_and_has_no_ratio() -> None:
    row = Row(key="x", title="a bare send", unit="µs", reference=True)
    rows = report.judge(Case(name="c", rows=(row,), measure=lambda *_: {}), {"ours": [{"x": 7.0}]})
    page = html.page(written([], [], rows=rows))
    (plot,) = plots(page)
    assert plot.findall("text")[0].text == "limit"
    assert "<small>limit 7, one run</small>" in page


def test_what_each_case_took_stands_beside_its_plan() -> None:
    taken = [Taken("c", 5, 30.0, 41.2), Taken("look", 1, None, 2.0)]
    page = html.page(written([1.0], [], taken=taken))
    assert "<tr><td>c<td>5<td>30<td>41" in page
    assert "<tr><td>look<td>1<td><td>2" in page
