"""Recorded runs, as AG-UI shows them: event for event on a websocket, and as streams of their own."""

import sys
from functools import cache
from typing import Any

import anyio
import msgspec
import pytest

from actors.events import ApprovalAnswered, Event, MessageCommitted, RunFinished, RunStarted
from gateway.agui import images as agui
from gateway.agui.projection import Ids, Projection
from storage.records import Message
from tests.gateway import agui_streams, run_recordings

CASES = sorted(run_recordings.CASES)


@cache
def recorded() -> dict[str, list[Event]]:
    return run_recordings.read()


def images(events: list[Event]) -> list[dict[str, Any]]:
    return [msgspec.json.decode(agui.image(event, "conv-1")) for event in events]


def streams(events: list[Event]) -> list[list[dict[str, Any]]]:
    """Return the stream of each run of a log, with what is stored at its place."""
    found: list[list[dict[str, Any]]] = []
    stored: list[Message] = []
    for told in run_recordings.runs(events):
        answering = any(isinstance(event, ApprovalAnswered) for event in told)
        projection = Projection(told[0].run_id or "", Ids("t", "r"), thoughts=True, answering=answering)
        shown: list[dict[str, Any]] = []
        for event in told:
            if isinstance(event, MessageCommitted):
                stored.append(event.message)
            if projection.wants_history(event):
                projection.knows_history(sorted(stored, key=lambda message: message.position))
            if event.run_id == told[0].run_id:
                shown += map(msgspec.json.decode, projection.feed(event))
        found.append(shown)
    return found


def test_every_case_is_recorded() -> None:
    assert sorted(recorded()) == CASES


@pytest.mark.parametrize("case", CASES)
def test_what_stands_between_a_runs_start_and_end_verifies_event_for_event(case: str) -> None:
    for told in run_recordings.runs(recorded()[case]):
        answers = any(isinstance(event, ApprovalAnswered) for event in told)
        # The validator knows calls of an earlier run from a MESSAGES_SNAPSHOT alone, which no one event is.
        agui_streams.check(images(told), off=("AGUI207",) if answers else ())


@pytest.mark.parametrize("case", CASES)
def test_streams_of_recorded_runs_verify_alone_and_one_after_another(case: str) -> None:
    found = streams(recorded()[case])
    for shown in found:
        agui_streams.check(shown)
    agui_streams.check([event for shown in found for event in shown])


@pytest.mark.parametrize("case", CASES)
def test_a_log_is_balanced(case: str) -> None:
    events = recorded()[case]
    started = [e.run_id for e in events if isinstance(e, RunStarted)]
    finished = [e.run_id for e in events if isinstance(e, RunFinished)]
    assert set(started) <= set(finished)
    assert len(started) == len(set(started)) == len(run_recordings.runs(events))


async def test_the_validators_own_program_passes_the_recordings(tmp_path: Any) -> None:
    lines = [
        msgspec.json.encode(event) for case in CASES for shown in streams(recorded()[case]) for event in shown
    ]
    file = tmp_path / "runs.jsonl"
    file.write_bytes(b"\n".join(lines) + b"\n")
    program = [sys.executable, "-m", "ag_ui_validate.cli", str(file), "--max-warnings", "0"]
    done = await anyio.run_process(program, check=False)
    assert done.returncode == 0, done.stdout.decode()


def test_the_validator_sees_a_broken_stream() -> None:
    (shown,) = streams(recorded()["text"])
    broken = [event for event in shown if event["type"] != "TEXT_MESSAGE_END"]
    with pytest.raises(AssertionError):
        agui_streams.check(broken)
