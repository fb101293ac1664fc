"""A report as a page."""

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import msgspec
import pytest

from bench import __main__, html, report
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
    assert not re.search(r"<script|src=|href=|url\(|https?://", page)
    assert "&lt;cpu&gt;" in page
    assert "cost &amp; more" in page


def test_the_page_of_an_earlier_run_is_made_without_measuring(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_bytes(written([1.0], [2.0]))
    arguments = ["--read", str(tmp_path / "report.json"), "--html", str(tmp_path / "page.html")]
    assert __main__.main(arguments) == 0
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
