"""One run as a waterfall."""

import asyncio
import http.client
import io

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from bench import __main__, explain, generator, loaded, phases, targets
from bench.case import Bench
from bench.explain import PHASES, Timed
from bench.generator import Order
from bench.replies import Reply, ToolCall
from bench.targets import Wakeful

FIELDS = [field for _, field, _ in PHASES]
STEPS = st.builds(
    lambda times: Timed(step_id="step-1", **dict(zip(FIELDS, times, strict=True))),
    st.lists(st.integers(0, 10**10), min_size=len(FIELDS), max_size=len(FIELDS)),
)


@given(st.lists(STEPS, max_size=5))
def test_the_phases_follow_one_another_and_lose_no_time(steps: list[Timed]) -> None:
    spans = explain.spans(steps)
    at = 0
    for span in spans:
        assert span.start_ns == at
        at += span.took_ns
    assert at == sum(getattr(step, field) for step in steps for field in FIELDS)


def test_only_timing_events_are_read() -> None:
    value = '{"stepId":"step-1","firstToken":7,"unit":"ns"}'
    lines = [
        b"id: 3\n",
        b'data: {"type":"TEXT_MESSAGE_CONTENT","messageId":"m","delta":"\\"wakeful.timing\\""}\n',
        b': keepalive "wakeful.timing"\n',
        f'data: {{"type":"CUSTOM","name":"wakeful.timing","value":{value}}}\n'.encode(),
    ]
    assert explain.timings(lines) == [Timed(step_id="step-1", first_token=7)]


@pytest.mark.timeout(120)
def test_a_run_of_a_server_is_explained(
    ready: tuple[Wakeful, Bench], capsys: pytest.CaptureFixture[str]
) -> None:
    target, _ = ready
    (agent,) = targets.create_agents(target, 1, "fixed-t20-d200-g50")
    path, body = target.message(agent)
    connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=30)
    connection.request("POST", path, body, {"content-type": "application/json"})
    (run_id,) = {
        message["run_id"]
        for message in msgspec.json.decode(connection.getresponse().read())["messages"]
        if message.get("run_id")
    }
    connection.close()
    url = f"http://127.0.0.1:{target.port}"
    run, (step,) = explain.read(url, run_id, None)
    assert run.status == "completed"
    assert step.send + step.first_token >= 199e6
    assert step.first_token > 0
    assert step.stream >= 0.4 * 19 * 50e6  # what is left of it where the first token is seen late
    assert step.checkpoint > 0
    assert __main__.main(["explain", run_id, "--url", url]) == 0
    shown = capsys.readouterr().out
    assert "first token" in shown
    assert "checkpoint" in shown


@pytest.mark.timeout(180)
def test_a_run_through_each_door_has_every_phase(ready: tuple[Wakeful, Bench]) -> None:
    """A message whose answer calls a tool, to an agent in memory; phases of less than nothing are none."""
    target, bench = ready
    model = "fixed-t20-d30-g40"
    call = ToolCall(name="core_memory_append", arguments={"label": "human", "content": "Likes tea."})
    through = [door for way in ("blocking", "stream") for door in loaded.doors(target, way, model)]
    for door in through:
        (agent,) = loaded.fresh(bench, target, 1, model)
        asyncio.run(bench.provider.script([Reply(tool_calls=(call,), model=model)]))
        since = phases.now()
        given = generator.run(Order(door=door, agents=[agent], seconds=0.001, grace_s=60))
        assert [said.failure for said in given.said] == [""], door.name
        ((first, second),) = phases.timed(target, since, sample=1)
        shown = {span.phase for span in explain.spans([first, second])}
        assert shown == {name for name, _, _ in PHASES} - {"compaction", "claim"}, door.name
        assert min(first.delivery, second.delivery) > 0, door.name
        assert second.stream >= 0.4 * 19 * 40e6, door.name


def test_what_cannot_be_explained_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    port = targets.free_port()
    assert __main__.main(["explain", "run-1", "--url", f"http://127.0.0.1:{port}"]) == 1
    assert "refused" in capsys.readouterr().err


def test_bars_stay_within_their_column() -> None:
    steps = [Timed(step_id="a", queue=1, first_token=10**9), Timed(step_id="b", checkpoint=1)]
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(explain.waterfall(steps))
    bars = [line.count("█") for line in console.export_text().splitlines()]
    assert 0 < max(bars) <= explain.WIDTH


def test_delivery_is_drawn_below_the_stream_and_takes_no_time_of_its_own() -> None:
    step = Timed(step_id="a", send=10**6, stream=8 * 10**6, checkpoint=10**6, delivery=4 * 10**6)
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(explain.waterfall([step]))
    shown = console.export_text()
    assert "10.00 ms in phases" in shown
    lines = shown.splitlines()
    (stream,) = [i for i, line in enumerate(lines) if "stream" in line]
    assert "delivery" in lines[stream + 1]
    assert lines[stream].index("█") == lines[stream + 1].index("░")
    assert "request sent" in shown
