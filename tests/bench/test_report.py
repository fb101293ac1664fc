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
    assert all(word in shown for word in ("cost (ms)", "2 [1-3]", "≤ 4", "pass", "runs"))


def test_a_limit_stands_where_there_is_no_relay_and_gives_the_ratio() -> None:
    row = Row(key="x", title="commit", unit="ms", limit="bare")
    seen = report.judge(
        Case(name="c", rows=(row,), measure=lambda *_: {}), {"ours": [{"x": 6.0, "bare": 1.5}]}
    )[0]
    assert seen.passed is None
    assert (seen.relay, seen.limit) == (None, report.Seen(1.5, 1.5, 1.5, [1.5]))
    assert shown(seen)[1:5] == ["1", "6", "1.5", "4"]
    alone = judged(Row(key="x", title="p95", figure=50), ours=[25], relay=[])
    assert shown(alone)[1:5] == ["1", "25", "-", "0.5"]


def test_a_limit_scales_the_figure_where_it_is_known_what_it_was() -> None:
    row = Row(key="x", title="frame", unit="µs", figure=6, limit="bare", limit_then=17)
    case = Case(name="c", rows=(row,), measure=lambda *_: {})
    (seen,) = report.judge(case, {"ours": [{"x": 9.0, "bare": 34.0}]})
    assert (seen.figure, seen.allowed, seen.passed) == (6, 12, True)
    (alone,) = report.judge(case, {"ours": [{"x": 5.0}]})
    assert (alone.allowed, alone.passed) == (None, None)


def test_a_reference_is_shown_as_a_limit_and_has_nothing_beside_it() -> None:
    row = judged(Row(key="x", title="a bare send", unit="µs", reference=True), ours=[7.0], relay=[])
    assert shown(row)[1:] == ["1", "", "7", "", "", "", ""]


def shown(row: report.Judged) -> list[str]:
    """The cells of a row of the table."""
    return [str(next(iter(column.cells))) for column in report.table([row]).columns]


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.0, "0.0"), (0.01234, "0.0123"), (1.0, "1"), (99.95, "100"), (1234.5, "1,234"), (1e-6, "1e-06")],
)
def test_numbers_have_three_digits(value: float, words: str) -> None:
    assert report.number(value) == words
