"""Records where the server spends its CPU while a case runs: a flame graph, and its functions by own time."""

import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree as ET

from msgspec import Struct
from rich.console import Console
from rich.table import Table

from bench.case import Bench, Case, Found
from bench.measure import cpu_seconds
from bench.targets import Target

RATE = 200  # samples per second; the server stands still for a moment at each
START_SECONDS = 20.0
STOP_SECONDS = 30.0
POLL_SECONDS = 0.01
IDLE = 0.06  # of a core: what a server that is asked nothing stays below
SHOWN = 20  # functions in the list
REMEDY = (
    "the kernel does not let py-spy look into the server: run as root, or with CAP_SYS_PTRACE "
    "(in a container: --cap-add SYS_PTRACE), or set `sysctl kernel.yama.ptrace_scope=0` meanwhile"
)

_COUNT = re.compile(r" \([\d,]+ samples?, [\d.]+%\)$")  # what py-spy writes behind a function's name


class ProfileError(Exception):
    """A profile cannot be taken; the message says why and what to do."""


class Function(Struct, frozen=True):
    """A function and the share of all samples in which it was itself at work, from 0 to 1."""

    name: str
    own: float


class Profile(Struct, frozen=True):
    """The functions of one recording, most own time first. `path` is the flame graph, an SVG."""

    path: Path
    samples: int
    functions: list[Function]


def measure(case: Case, target: Target, bench: Bench, *, path: Path) -> Found:
    """Measure a case twice, and record the second time: the first loads and prepares what it needs.

    The figures are those of the recorded time, which the recording makes higher.

    Raises:
        ProfileError: py-spy is missing or not permitted, or the case leaves this server alone or restarts it.
    """
    case.measure(target, bench)
    with recording(target.pid, path):
        began, before = time.monotonic(), cpu_seconds(target.pid)
        figures = case.measure(target, bench)
        busy = (cpu_seconds(target.pid) - before) / (time.monotonic() - began)
    if busy < IDLE:
        path.unlink()
        raise ProfileError(f"the server was busy {busy:.0%} of the time: this case measures one of its own")
    return figures


@contextmanager
def recording(pid: int, path: Path) -> Generator[None]:
    """Record a Python process during the block into a flame graph.

    Raises:
        ProfileError: py-spy is missing or not permitted, or the process ended before the block.
    """
    log = path.with_suffix(".log")
    spy = _start(pid, path, log)
    try:
        _wait(spy, log)
        yield
        if spy.poll() is not None:
            raise ProfileError("the server ended while it was recorded: this case restarts it")
        spy.send_signal(signal.SIGINT)  # it writes what it has and ends
        spy.wait(STOP_SECONDS)
        if not path.exists():
            raise ProfileError(f"py-spy wrote nothing:\n{log.read_text()[-1000:]}")
    finally:
        if spy.poll() is None:
            spy.kill()
            spy.wait()
        log.unlink(missing_ok=True)


def program() -> str:
    """Where py-spy is: beside this Python, or on the path.

    Raises:
        ProfileError: It is not installed.
    """
    beside = Path(sys.executable).with_name("py-spy")
    found = str(beside) if beside.exists() else shutil.which("py-spy")
    if found is None:
        raise ProfileError("py-spy is not installed: it comes with `pip install -e '.[dev]'`")
    return found


def _start(pid: int, path: Path, log: Path) -> "subprocess.Popen[bytes]":
    command = [program(), "record", "--pid", str(pid), "--output", str(path), "--rate", str(RATE)]
    command += [
        "--function",
        "--gil",
    ]  # threads that wait look busy to it at times: they do not hold the lock
    path.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as out:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)


def _wait(spy: "subprocess.Popen[bytes]", log: Path) -> None:
    """Wait until it samples."""
    deadline = time.monotonic() + START_SECONDS
    while "Sampling process" not in (words := log.read_text(errors="replace")):
        if spy.poll() is not None or time.monotonic() > deadline:
            denied = "permission" in words.lower() or "not permitted" in words.lower()
            raise ProfileError(REMEDY if denied else f"py-spy did not start:\n{words[-1000:]}")
        time.sleep(POLL_SECONDS)


def read(path: Path) -> Profile:
    """Read a flame graph that was recorded."""
    own = own_samples(path.read_text(encoding="utf-8"))
    samples = sum(own.values())
    functions = [Function(name, count / samples) for name, count in own.most_common()]
    return Profile(path, samples, functions)


def own_samples(svg: str) -> Counter[str]:
    """Count the samples in which each function was the innermost.

    A flame graph has a box for each function in each stack, as wide as it has samples; the boxes below it
    are what it called. What they leave free of it is its own.
    """
    boxes = [box for group in ET.fromstring(svg).iter() if (box := _box(group)) is not None]
    own: Counter[str] = Counter()
    open_boxes: list[Box] = []  # from the outermost in, of one stack
    for box in sorted(boxes, key=lambda box: (box.start, box.depth)):
        while open_boxes and (open_boxes[-1].end <= box.start or open_boxes[-1].depth >= box.depth):
            open_boxes.pop()
        own[box.name] += box.end - box.start
        if open_boxes:
            own[open_boxes[-1].name] -= box.end - box.start
        open_boxes.append(box)
    return +own


class Box(Struct, frozen=True):
    """A box of a flame graph: from which sample to which, and how far down."""

    name: str
    depth: float
    start: int
    end: int


def _box(group: ET.Element) -> Box | None:
    title, rect = (
        next((e for e in group if e.tag.endswith(f"}}{name}")), None) for name in ("title", "rect")
    )
    if title is None or rect is None:
        return None
    extent = {key.rpartition("}")[2]: value for key, value in rect.attrib.items() if key.startswith("{")}
    if not {"x", "w"} <= extent.keys():
        return None
    start = int(extent["x"])
    name = _COUNT.sub("", title.text or "")
    return Box(name, float(rect.attrib["y"]), start, start + int(extent["w"]))


def show(path: Path) -> None:
    """Print the functions of a recording and where its flame graph is; nothing where there was none."""
    console = Console(width=None if sys.stdout.isatty() else 150)
    if path.exists():
        console.print(table(read(path)))
        console.print(f"flame graph: {path}", soft_wrap=True)


def table(profile: Profile) -> Table:
    """The functions with the most own time, for a terminal."""
    shown = Table(title=f"own time in {profile.samples:,} samples, {RATE} a second, of a server at work")
    shown.add_column("%", justify="right")
    shown.add_column("function")
    for function in profile.functions[:SHOWN]:
        shown.add_row(f"{function.own:.1%}", function.name)
    return shown
