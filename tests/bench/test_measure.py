"""What the operating system accounted."""

import mmap
import os
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import measure

BUSY = "import time\nwhile time.process_time() < {seconds}: pass\n"


def test_the_clock_of_a_process_agrees_with_its_own() -> None:
    assert abs(measure.cpu_seconds(os.getpid()) - time.process_time()) < 0.01


def test_no_process_has_no_clock() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    with pytest.raises(OSError, match=r"."):
        measure.cpu_seconds(process.pid)


def test_the_family_keeps_the_time_of_children_that_ended() -> None:
    before = measure.family_cpu_seconds(os.getpid()) - measure.cpu_seconds(os.getpid())
    subprocess.run([sys.executable, "-c", BUSY.format(seconds=0.15)], check=True)
    after = measure.family_cpu_seconds(os.getpid()) - measure.cpu_seconds(os.getpid())
    assert after - before >= 0.13


def test_the_family_has_the_time_of_children_that_live() -> None:
    code = BUSY.format(seconds=0.1) + "print(flush=True)\ninput()"
    before = measure.family_cpu_seconds(os.getpid())
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], text=True, **pipes) as child:  # type: ignore[call-overload]
        child.stdout.readline()
        assert child.pid in measure.children(os.getpid())
        assert measure.family_cpu_seconds(os.getpid()) - before >= 0.1
        child.communicate("\n")


def test_memory_that_is_touched_is_counted() -> None:
    before = measure.memory(os.getpid())
    with mmap.mmap(-1, 32 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as block:  # none of the heap's
        for place in range(0, len(block), mmap.PAGESIZE):
            block[place] = 1
        after = measure.memory(os.getpid())
    assert 30 << 10 < after.rss_kib - before.rss_kib < 40 << 10
    assert after.uss_kib <= after.pss_kib <= after.rss_kib


@given(st.lists(st.floats(-1e6, 1e6), min_size=1), st.floats(0, 100))
def test_a_percentile_is_a_value_that_so_many_do_not_exceed(values: list[float], rank: float) -> None:
    found = measure.percentile(values, rank)
    assert found in values
    assert sum(value <= found for value in values) >= rank / 100 * len(values) - 1e-9


def test_the_machine_is_named() -> None:
    machine = measure.machine()
    assert machine["cores"] >= 1
    assert machine["packages"]["aiohttp"]
    assert machine["commit"]
