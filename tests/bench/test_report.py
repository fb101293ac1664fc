"""How rows are judged and shown."""

import pytest
from rich.console import Console

from bench import report
from bench.case import Case, Row

ROW = Row(key="x", title="cost", unit="ms", figure=4, relay=2)


def judged(row: Row, *, ours: list[float], relay: list[float]) -> report.Judged:
    case = Case(name="c", rows=(row,), measure=lambda *_: {})
    measured = {"ours": [{"x": v} for v in ours], "relay": [{"x": v} for v in relay]}
    return report.judge(case, measured)[0]


@pytest.mark.parametrize(
    ("ours", "relay", "passed"),
    [([4.0], [2.0], True), ([4.1], [2.0], False), ([7.9], [4.0], True), ([3.0], [1.0], False)],
)
def test_a_figure_scales_with_what_the_relay_does_now(
    ours: list[float], relay: list[float], passed: bool
) -> None:
    assert judged(ROW, ours=ours, relay=relay).passed is passed


def test_medians_decide_and_the_spread_is_kept() -> None:
    row = judged(ROW, ours=[1, 100, 3], relay=[2, 2, 50])
    assert row.passed
    assert row.ours == report.Seen(3, 1, 100, [1, 100, 3])


def test_a_rate_must_be_at_least_its_share_of_the_relays() -> None:
    row = Row(key="x", title="rate", figure=400, relay=1200, at_least=True)
    assert judged(row, ours=[200], relay=[600]).passed
    assert judged(row, ours=[199], relay=[600]).passed is False


def test_what_does_not_drift_is_not_scaled() -> None:
    row = Row(key="x", title="memory", figure=130, relay=74, drifts=False)
    assert judged(row, ours=[120], relay=[40]).allowed == 130


def test_without_the_relay_nothing_that_depends_on_it_is_judged() -> None:
    assert judged(ROW, ours=[1], relay=[]).passed is None
    assert judged(Row(key="x", title="start", figure=2), ours=[3], relay=[]).passed is False
    assert judged(Row(key="x", title="info"), ours=[3], relay=[1]).passed is None


def test_the_table_shows_every_row() -> None:
    console = Console(width=140, record=True, file=open("/dev/null", "w"))  # noqa: SIM115 - closed below
    console.print(report.table([judged(ROW, ours=[1, 2, 3], relay=[2])]))
    console.file.close()
    shown = console.export_text()
    assert all(word in shown for word in ("cost (ms)", "2 [1-3]", "≤ 4", "pass"))


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0.0"), (0.01234, "0.0123"), (1.0, "1"), (99.95, "100"), (1234.5, "1,234"), (1e-6, "1e-06")],
)
def test_numbers_have_three_digits(value: float, shown: str) -> None:
    assert report.number(value) == shown
