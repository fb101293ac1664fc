"""Server CPU per token where streams are paced at 20 ms, set-up and end excluded."""

import time

from bench import load, targets
from bench.case import Bench, Case, Figures, Row
from bench.load import BUCKET_NS, Job, Loading, Slot
from bench.measure import cpu_seconds
from bench.targets import Target

GAP_S = 0.02
SPREAD_S = 0.4  # starts are spread over this time, so that tokens do not come in step
SETTLE_S = 0.4
WINDOW_S, QUICK_WINDOW_S = 1.5, 1.0
AFTER_S = 0.3  # the streams go on for so long after the stretch


def measure(target: Target, bench: Bench) -> Figures:
    """Take the CPU of a stretch in which every stream runs, and divide by the tokens of that stretch."""
    figures: dict[str, float] = {}
    window_s = WINDOW_S if not bench.effort.quick else QUICK_WINDOW_S
    model = f"fixed-t{round((SPREAD_S + SETTLE_S + window_s + AFTER_S) / GAP_S)}-d100-g{GAP_S * 1000:.0f}"
    for count in (32, 128):
        agents = targets.create_agents(target, count, model)
        slots = [
            Slot([target.message(agent, stream=True)], start_s=SPREAD_S * i / count)
            for i, agent in enumerate(agents)
        ]
        loading = Loading(Job(port=target.port, slots=slots))
        time.sleep(SPREAD_S + SETTLE_S)
        began_ns, before = time.monotonic_ns(), cpu_seconds(target.pid)
        time.sleep(window_s)
        spent, ended_ns = cpu_seconds(target.pid) - before, time.monotonic_ns()
        outcome = loading.finish()
        targets.check(outcome)
        tokens = count * (ended_ns - began_ns) / 1e9 / GAP_S
        figures |= {
            f"cpu_{count}": spent / tokens * 1e6,
            f"seen_{count}": _seen(outcome, began_ns, ended_ns) / tokens,
        }
    return figures


def _seen(outcome: load.Outcome, began_ns: int, ended_ns: int) -> int:
    """Events with answer text that the client saw in the stretch; fewer than tokens where deltas merged."""
    first, last = began_ns // BUCKET_NS, ended_ns // BUCKET_NS
    return sum(count for bucket, count in outcome.tokens_by_bucket.items() if first <= bucket < last)


CASE = Case(
    name="tokens",
    measure=measure,
    run_s={"relay": 7, "ours": 7.5},
    rows=(
        Row(key="cpu_32", title="server CPU per token, 32 streams", unit="µs", figure=90, relay=70),
        Row(key="cpu_128", title="server CPU per token, 128 streams", unit="µs", figure=90, relay=70),
        Row(key="seen_128", title="events per token, 128 streams"),
    ),
)
