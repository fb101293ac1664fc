"""Says where the time of one run went: the phases of its steps, as the server timed them, as a waterfall.

    python -m bench explain RUN_ID --url http://127.0.0.1:8283
    python -m bench explain bench/out/….json     the phases that hold the rest where rows of a sitting fail

The phases are those of the run's `wakeful.timing` events, which a server keeps as long as the run's events.
"""

import argparse
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable, Sequence
from typing import BinaryIO, cast

import msgspec
from msgspec import Struct
from rich.console import Console
from rich.table import Table

SECONDS = 30.0  # of silence until a request is given up
WIDTH = 36  # characters of the longest bar
# As a step goes through them: name, field, colour.
PHASES = (
    ("accept", "accept", "white"),
    ("claim", "claim", "bright_magenta"),
    ("queue", "queue", "bright_black"),
    ("compaction", "compaction", "magenta"),
    ("prompt", "prompt", "cyan"),
    ("request sent", "send", "bright_yellow"),
    ("first token", "first_token", "yellow"),
    ("stream", "stream", "green"),
    ("tools", "tools", "blue"),
    ("checkpoint", "checkpoint", "red"),
)
DELIVERY = ("delivery", "delivery", "bright_green")  # overlaps the stream, with which it begins


class ExplainError(Exception):
    """A run cannot be explained; the message says why."""


class Timed(Struct, frozen=True, kw_only=True, rename="camel"):
    """One step: nanoseconds by phase; see `storage.records.Timing`."""

    step_id: str
    accept: int = 0
    claim: int = 0
    queue: int = 0
    prompt: int = 0
    send: int = 0
    first_token: int = 0
    stream: int = 0
    tools: int = 0
    compaction: int = 0
    checkpoint: int = 0
    delivery: int = 0


class Run(Struct, frozen=True):
    """As much of a run as is needed."""

    agent_id: str
    status: str
    ttft_ns: int | None = None
    total_duration_ns: int | None = None


class Span(Struct, frozen=True):
    """A phase of a step: when it began after the run's first phase, and how long it took."""

    step: int
    phase: str
    colour: str
    start_ns: int
    took_ns: int


class _Event(Struct, frozen=True):
    type: str
    name: str = ""
    value: msgspec.Raw = msgspec.Raw(b"null")


def main(arguments: Sequence[str]) -> int:
    """Explain a run on the terminal. Returns 1 where it cannot be."""
    parser = argparse.ArgumentParser(prog="python -m bench explain", description=__doc__)
    parser.add_argument("run", help="the run's id")
    parser.add_argument("--url", default="http://127.0.0.1:8283", help="the server (http://127.0.0.1:8283)")
    args = parser.parse_args(arguments)
    key = os.environ.get("WAKEFUL_API_KEY")
    console = Console()
    try:
        run, steps = read(args.url, args.run, key)
    except ExplainError as error:
        print(error, file=sys.stderr)
        return 1
    console.print(waterfall(steps))
    console.print(summary(run, steps))
    return 0


def read(url: str, run_id: str, key: str | None) -> tuple[Run, list[Timed]]:
    """Ask a server for a run and the timing of its steps. One that runs is followed to its end.

    Raises:
        ExplainError: There is no such server or run, or its events are no longer kept.
    """
    base = url.rstrip("/")
    with _get(f"{base}/v1/runs/{run_id}", key) as answer:
        run = msgspec.json.decode(answer.read(), type=Run)
    with _get(f"{base}/v1/agui/agents/{run.agent_id}/runs/{run_id}/events", key) as answer:
        steps = timings(answer)
    with _get(f"{base}/v1/runs/{run_id}", key) as answer:
        run = msgspec.json.decode(answer.read(), type=Run)
    if not steps:
        raise ExplainError(f"{run_id} ({run.status}) has no step that was timed")
    return run, steps


def timings(lines: Iterable[bytes]) -> list[Timed]:
    """Read the timed steps of a stream of AG-UI events."""
    found: list[Timed] = []
    for line in lines:
        if line.startswith(b"data:") and b'"wakeful.timing"' in line:
            event = msgspec.json.decode(line[5:], type=_Event)
            if event.name == "wakeful.timing":
                found.append(msgspec.json.decode(event.value, type=Timed))
    return found


def spans(steps: Sequence[Timed]) -> list[Span]:
    """Lay the phases of the steps one after another; those that took no time are left out.

    Delivery is not among them: it takes no time of its own.
    """
    laid: list[Span] = []
    at = 0
    for index, step in enumerate(steps, 1):
        for phase, field, colour in PHASES:
            took: int = getattr(step, field)
            if took > 0:
                laid.append(Span(index, phase, colour, at, took))
                at += took
    return laid


def waterfall(steps: Sequence[Timed]) -> Table:
    """The phases as bars on one axis of time; delivery is drawn below the stream that it overlaps."""
    laid = spans(steps)
    whole = sum(span.took_ns for span in laid) or 1
    shown = Table(title=f"{len(steps)} steps, {whole / 1e6:,.2f} ms in phases", show_edge=False)
    for heading in ("step", "phase"):
        shown.add_column(heading, no_wrap=True)
    for heading in ("ms", "%"):
        shown.add_column(heading, justify="right", no_wrap=True)
    shown.add_column("", no_wrap=True)
    before = 0
    for span in laid:
        start, width = round(span.start_ns / whole * WIDTH), max(1, round(span.took_ns / whole * WIDTH))
        start = min(start, WIDTH - 1)
        shown.add_row(
            str(span.step) if span.step != before else "",
            span.phase,
            f"{span.took_ns / 1e6:,.2f}",
            f"{span.took_ns / whole:.0%}",
            f"{' ' * start}[{span.colour}]{'█' * min(width, WIDTH - start)}[/]",
        )
        before = span.step
        if span.phase == "stream" and (delivery := steps[span.step - 1].delivery):
            shown.add_row(*_delivered(delivery, whole, start))
    return shown


def _delivered(took_ns: int, whole_ns: int, start: int) -> tuple[str, ...]:
    """The row of a delivery, whose bar begins with that of the stream."""
    name, _, colour = DELIVERY
    width = max(1, min(WIDTH - start, round(took_ns / whole_ns * WIDTH)))
    return "", f"  {name}", f"{took_ns / 1e6:,.2f}", "", f"{' ' * start}[{colour}]{'░' * width}[/]"


def summary(run: Run, steps: Sequence[Timed]) -> str:
    """How the run ended, and what of its time is the model's and what is the server's own."""
    model = sum(step.first_token + step.stream for step in steps)
    tools = sum(step.tools for step in steps)
    own = sum(span.took_ns for span in spans(steps)) - model - tools
    words = (
        f"{run.status}; model {model / 1e6:,.2f} ms, tools {tools / 1e6:,.2f} ms, server {own / 1e6:,.2f} ms"
    )
    if run.ttft_ns is not None:
        words += f"; first token after {run.ttft_ns / 1e6:,.2f} ms"
    if run.total_duration_ns is not None:
        words += f"; {run.total_duration_ns / 1e6:,.2f} ms from its beginning to its end"
    return words


def _get(url: str, key: str | None) -> BinaryIO:
    request = urllib.request.Request(url, headers={"authorization": f"Bearer {key}"} if key else {})
    try:
        return cast("BinaryIO", urllib.request.urlopen(request, timeout=SECONDS))
    except urllib.error.HTTPError as error:
        with error:
            raise ExplainError(f"{url}: {error.code} {error.read(300).decode(errors='replace')}") from None
    except (OSError, ValueError) as error:
        raise ExplainError(f"{url}: {error}") from None
