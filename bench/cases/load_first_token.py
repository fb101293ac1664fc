"""What is added to the first token and to each gap, by how many streams run at once, until it collapses.

Messages come as they come: an open loop, with as many streams under way on average as the level says. The
streams are realistic ones, 500 ms and then 100 tokens of 20 ms; at one and at eight of them shorter, so that
there are enough to tell.
"""

from bench import levels, loaded
from bench.arrivals import Arrivals
from bench.case import TO_FIRST_TOKEN, Bench, Case, Figures, Row
from bench.doors import Door
from bench.generator import Order
from bench.levels import Level
from bench.loaded import Loaded

LEVELS = (1, 8, 32, 128, 256, 512, 1024)
QUICK = LEVELS[:3]
FEW = 8  # streams, up to which they are short
SHORT, SHORT_S = "fixed-t20-d100-g20", 0.5
REAL, REAL_S = "fixed-t100-d500-g20", 2.5
SAMPLE_S = {1: 6.0, 8: 4.0}
SECONDS, QUICK_SECONDS = 3.0, 1.5
GRACE_S = 4.0  # after the time that a stream takes by itself
SPARE = 0.5  # lines beyond the level, as a part of it: Poisson's bunches are no failure
SPARE_LINES = 16


def measure(target: Loaded, bench: Bench) -> Figures:
    """Climb the levels through each door, until one collapses."""
    figures: dict[str, float] = {}
    for door in loaded.doors(target, "stream", REAL):
        for level in QUICK if bench.effort.quick else LEVELS:
            bench.tell(f"load_first_token, {door.name}, {level} at once")
            found = levels.measure(
                order(target, bench, door, level), bench.provider, case=CASE.name, level=level
            )
            bench.levels.append(found)
            figures |= _figures(found)
            if level == 1:
                figures |= _beyond_relay(found, bench.levels)
            if found.collapsed:
                break
    return figures


def order(target: Loaded, bench: Bench, door: Door, level: int) -> Order:
    """Messages through a door at the rate that keeps so many streams under way."""
    model, stream_s = (SHORT, SHORT_S) if level <= FEW else (REAL, REAL_S)
    lines = level + max(SPARE_LINES, int(level * SPARE))
    warm_s = stream_s
    seconds = warm_s + (QUICK_SECONDS if bench.effort.quick else SAMPLE_S.get(level, SECONDS))
    kind = "constant" if level == 1 else "poisson"
    return Order(
        door=loaded.asking(door, model),
        agents=loaded.agents(bench, target, lines, model),
        open_loop=Arrivals(rate=level / stream_s, seconds=seconds, kind=kind, seed=level),
        warm_s=warm_s,
        grace_s=stream_s + GRACE_S,
    )


def _figures(found: Level) -> Figures:
    """The figures of rows. The relay and the floor have one door, which stands beside each of ours."""
    added = found.first_added
    if added is None:
        return {}
    names = [key for key, name in DOORS.items() if name == found.target] or list(DOORS)
    pairs = {"p50": added.p50, "p99": added.p99}
    return {f"{key}_{name}_{found.level}": value for name in names for key, value in pairs.items()}


def _beyond_relay(found: Level, measured: list[Level]) -> Figures:
    """How much more than the relay one of our doors adds, where the relay was measured before."""
    key = next((key for key, name in DOORS.items() if name == found.target), None)
    for level in measured:
        if (level.case, level.target, level.level) == (CASE.name, "relay", found.level):
            if key is None or level.first_added is None or found.first_added is None:
                return {}
            return {f"beyond_{key}": found.first_added.p50 - level.first_added.p50}
    return {}


DOORS = {"websocket": "ours, websocket", "sse": "ours, SSE", "agui": "ours, AG-UI"}
CASE = Case(
    name="load_first_token",
    measure=measure,
    on=("floor", "relay", "ours"),
    most_runs=1,
    run_s={"floor": 60, "relay": 50, "ours": 160},
    suite="load",
    rows=(
        *(
            Row(key=f"p50_{key}_1", title=f"{title}: first token added, one stream, p50", unit="ms")
            for key, title in DOORS.items()
        ),
        *(
            Row(
                key=f"beyond_{key}",
                title=f"{title}: the same, beyond the relay's",
                unit="ms",
                figure=1.5,
                drifts=False,
                within=TO_FIRST_TOKEN,
                lever="what the server does from the request to the model's, and from its first piece on",
            )
            for key, title in DOORS.items()
        ),
        *(
            Row(
                key=f"p99_{key}_128",
                title=f"{title}: first token added, 128 streams, p99",
                unit="ms",
                figure=100,
                drifts=False,
                within=TO_FIRST_TOKEN,
                lever="what the one loop does between two tokens of the others, which `tokens` counts",
            )
            for key, title in DOORS.items()
        ),
    ),
)
