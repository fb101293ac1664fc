"""Latencies as HDR histograms: every percentile to three digits, small enough to be kept in the report.

The library comes with the `dev` extra and is imported at first use: the table is measured without it.
"""

from collections.abc import Iterable

from msgspec import Struct

PERCENTILES = (50, 90, 99, 99.9)
MOST_US = 3_600_000_000  # an hour
DIGITS = 3
TICKS = 4  # points of a plot by each halving of the distance to 100 %


class Latency(Struct, frozen=True, kw_only=True):
    """A distribution in milliseconds. `encoded` is the histogram, in microseconds (HdrHistogram V2)."""

    count: int
    p50: float
    p90: float
    p99: float
    p99_9: float
    max: float
    mean: float
    encoded: str


def latency(nanoseconds: Iterable[float]) -> Latency | None:
    """Return the distribution of these times, None where there are none.

    A time below nothing counts as nothing, one above an hour as an hour.
    """
    from hdrh.histogram import HdrHistogram

    histogram = HdrHistogram(1, MOST_US, DIGITS)
    total = 0.0
    for value in nanoseconds:
        microseconds = min(MOST_US, max(0, round(value / 1e3)))
        histogram.record_value(microseconds)
        total += microseconds
    count = histogram.get_total_count()
    if not count:
        return None
    found = histogram.get_percentile_to_value_dict([*PERCENTILES])
    p50, p90, p99, p99_9 = (found[rank] / 1e3 for rank in PERCENTILES)
    return Latency(
        count=count,
        p50=p50,
        p90=p90,
        p99=p99,
        p99_9=p99_9,
        max=histogram.get_max_value() / 1e3,
        mean=total / count / 1e3,
        encoded=histogram.encode().decode(),
    )


def curve(encoded: str) -> list[tuple[float, float]]:
    """Percentiles and their milliseconds, ever closer to 100, the last of them at 100.

    Raises:
        ValueError: It is no histogram.
    """
    from hdrh.histogram import HdrHistogram

    try:
        histogram = HdrHistogram.decode(encoded)
    except Exception as error:  # the decoder raises whatever its parts raise
        raise ValueError("this is no encoded histogram") from error
    points = histogram.get_percentile_iterator(TICKS)
    return [(point.percentile_level_iterated_to, point.value_iterated_to / 1e3) for point in points]
