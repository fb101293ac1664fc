"""Messages a second, by how many agents are spoken to at once, and what each takes at 70 % of the most.

The closed loop finds the most; its latencies say nothing, because it waits with the server. Those of the open
loop that follows are counted from when each message was meant to be sent.
"""

from bench import levels, loaded
from bench.arrivals import Arrivals
from bench.case import Bench, Case, Figures, Row
from bench.doors import Door
from bench.generator import Order
from bench.levels import Level
from bench.loaded import Loaded
from bench.targets import FAST

LEVELS = (1, 8, 32, 128, 512)
QUICK = LEVELS[:3]
WARM_S = 0.5
CLOSED_S, OPEN_S = 1.5, 3.0
SHARE = 0.7
COLLAPSED = 0.5  # of the most at a lower level: more at once only makes it slower
OPEN_SEED = 70
QUICK_LINES = 128  # of the open loop, else as many as the highest level has


def measure(target: Loaded, bench: Bench) -> Figures:
    """Climb the levels through each door that answers whole messages, and the streaming ones too."""
    figures: dict[str, float] = {}
    for door in _doors(target):
        climbed: list[Level] = []
        for level in QUICK if bench.effort.quick else LEVELS:
            agents = loaded.agents(bench, target, level, FAST)
            order = Order(door=door, agents=agents, seconds=WARM_S + CLOSED_S, warm_s=WARM_S)
            climbed.append(_measure(bench, order, level))
            best = max(climbed, key=lambda level: level.rate)
            if climbed[-1].error_rate >= levels.ERRORS_AT_MOST or climbed[-1].rate < COLLAPSED * best.rate:
                break  # a higher level would tell nothing more
        best = max(climbed, key=lambda level: level.rate)
        figures[f"best_{_key(door)}"] = best.rate
        if best.rate:
            pace = Arrivals(rate=SHARE * best.rate, seconds=WARM_S + OPEN_S, seed=OPEN_SEED)
            lines = loaded.agents(bench, target, bench.effort.of(LEVELS[-1], QUICK_LINES), FAST)
            steady = Order(door=door, agents=lines, open_loop=pace, warm_s=WARM_S)
            found = _measure(bench, steady, best.level)
            if found.whole_added is not None:
                figures[f"p99_{_key(door)}"] = found.whole_added.p99
    if target.name in ("relay", "floor"):  # they have one way in, which stands beside each of ours
        own = {key: figures[f"{key}_rest"] for key in ("best", "p99") if f"{key}_rest" in figures}
        figures |= {f"{key}_{name}": figure for name in DOORS for key, figure in own.items()}
    return figures


def _doors(target: Loaded) -> list[Door]:
    blocking, streaming = (loaded.doors(target, way, FAST) for way in ("blocking", "stream"))
    return blocking + streaming if target.name == "ours" or not blocking else blocking


def _measure(bench: Bench, order: Order, level: int) -> Level:
    bench.tell(f"load_messages, {order.door.name}, {level} at once")
    found = levels.measure(order, bench.provider, case=CASE.name, level=level)
    bench.levels.append(found)
    return found


def _key(door: Door) -> str:
    return next((key for key, name in DOORS.items() if name == door.name), "rest")


DOORS = {"rest": "ours, REST", "websocket": "ours, websocket", "sse": "ours, SSE", "agui": "ours, AG-UI"}
CASE = Case(
    name="load_messages",
    measure=measure,
    on=("floor", "relay", "ours"),
    most_runs=1,
    run_s={"floor": 18, "relay": 20, "ours": 90},
    suite="load",
    rows=(
        *(
            Row(key=f"best_{key}", title=f"{title}: messages/s at most", figure=0.5, relay=1, at_least=True)
            for key, title in DOORS.items()
        ),
        *(
            Row(key=f"p99_{key}", title=f"{title}: at 70 % of that, added to a message, p99", unit="ms")
            for key, title in DOORS.items()
        ),
    ),
)
