"""What the official SDK costs its user: the same requests by `letta-client` and by a bare client, in turns.

Who measures a server through the SDK measures the SDK as well; this says by how much.
"""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from bench import targets
from bench.case import Bench, Case, Figures, Row
from bench.measure import percentile
from bench.plain import Plain, say
from bench.targets import FAST, Target

if TYPE_CHECKING:
    from letta_client import Letta

TOKENS = 100
STREAM = f"fixed-t{TOKENS}-d0-g0"
TEXT = "#0# And what do you make of it?"
WARM = 5
TURNS = 4  # the clients take turns, so that a drift of the machine meets both


def measure(target: Target, bench: Bench) -> Figures:
    """Send blocking and streamed messages, one at a time; times in ms, and CPU of this process for each."""
    (agent,) = targets.create_agents(target, 1, FAST)
    (streamed,) = targets.create_agents(target, 1, STREAM)
    count = bench.effort.of(25, 5)
    with _letta(target.port) as sdk, Plain(target.port) as plain:
        asks: dict[str, Callable[[], int]] = {
            "sdk": lambda: _blocking(sdk, agent),
            "bare": lambda: len(plain.post(f"/v1/agents/{agent}/messages", say(TEXT))),
            "sdk_stream": lambda: _streamed(sdk, streamed),
            "bare_stream": lambda: _lines(plain, streamed),
        }
        figures = _take_turns(asks, count)
    for kind, one in (("", "message"), ("_stream", "stream")):
        figures[f"added_{one}"] = figures[f"p50_sdk{kind}"] - figures[f"p50_bare{kind}"]
        figures[f"ratio_{one}"] = figures[f"p50_sdk{kind}"] / figures[f"p50_bare{kind}"]
    figures["token"] = (figures["cpu_sdk_stream"] - figures["cpu_sdk"]) / TOKENS * 1e3
    figures["bare_token"] = (figures["cpu_bare_stream"] - figures["cpu_bare"]) / TOKENS * 1e3
    return figures


def _letta(port: int) -> "Letta":
    """Make the SDK's client. Raises `RuntimeError` where it is not installed."""
    try:  # here, because it takes a second and much memory, for this case alone
        from letta_client import Letta
    except ImportError:
        raise RuntimeError("this case needs the SDK: pip install letta-client") from None
    return Letta(base_url=f"http://127.0.0.1:{port}", api_key="none", max_retries=0, timeout=60)


def _blocking(sdk: "Letta", agent: str) -> int:
    answer = sdk.agents.messages.create(agent, messages=[{"role": "user", "content": TEXT}])
    return sum(message.message_type == "assistant_message" for message in answer.messages)


def _streamed(sdk: "Letta", agent: str) -> int:
    said = [{"role": "user", "content": TEXT}]
    stream = sdk.agents.messages.create(agent, messages=said, streaming=True, stream_tokens=True)
    return sum(chunk.message_type == "assistant_message" for chunk in stream)


def _lines(plain: Plain, agent: str) -> int:
    body = say(TEXT, streaming=True, stream_tokens=True)
    lines = plain.lines(f"/v1/agents/{agent}/messages", body)
    return sum(b'"assistant_message"' in line for line in lines)


def _take_turns(asks: dict[str, Callable[[], int]], count: int) -> dict[str, float]:
    """Ask each way many times, in turns. Raises `RuntimeError` where no answer came."""
    for ask in asks.values():
        for _ in range(WARM):
            ask()
    times: dict[str, list[float]] = {name: [] for name in asks}
    cpu = dict.fromkeys(asks, 0.0)
    for _ in range(TURNS):
        for name, ask in asks.items():
            before = time.process_time()
            times[name] += _timed(ask, count)
            cpu[name] += time.process_time() - before
    figures: dict[str, float] = {}
    for name, milliseconds in times.items():
        figures[f"p50_{name}"] = percentile(milliseconds, 50)
        figures[f"cpu_{name}"] = cpu[name] / len(milliseconds) * 1e3
    return figures


def _timed(ask: Callable[[], int], count: int) -> Sequence[float]:
    times: list[float] = []
    for _ in range(count):
        began = time.monotonic()
        if not ask():
            raise RuntimeError("no answer came")
        times.append((time.monotonic() - began) * 1e3)
    return times


CASE = Case(
    name="sdk",
    suite="parts",
    measure=measure,
    on=("ours",),
    most_runs=3,  # each turns several times already
    run_s={"ours": 9},
    rows=(
        Row(key="p50_sdk", title="blocking message by letta-client, p50", unit="ms", limit="p50_bare"),
        Row(key="p50_bare", title="the same by a bare client, p50", unit="ms", reference=True),
        Row(key="cpu_sdk", title="CPU of letta-client per message", unit="ms", limit="cpu_bare"),
        Row(key="cpu_bare", title="CPU of a bare client per message", unit="ms", reference=True),
        Row(
            key="p50_sdk_stream",
            title=f"stream of {TOKENS} tokens by letta-client, p50",
            unit="ms",
            limit="p50_bare_stream",
        ),
        Row(key="p50_bare_stream", title="the same by a bare client, p50", unit="ms", reference=True),
        Row(key="token", title="CPU of letta-client per token", unit="µs", limit="bare_token"),
        Row(key="bare_token", title="CPU of a bare client per token", unit="µs", reference=True),
    ),
)
