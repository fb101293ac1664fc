"""Wakes an event loop at a time of the monotonic clock, to some tens of microseconds.

The timers of asyncio and of uvloop count milliseconds, which is as much as what is measured here. Linux's
own (timerfd_create(2)) count nanoseconds; Python offers them from 3.13 on, so they are called through ctypes.
"""

import asyncio
import contextlib
import ctypes
import os
import time
from types import TracebackType
from typing import Self

_ABSOLUTE = 1  # TFD_TIMER_ABSTIME
_LIBC = ctypes.CDLL(None, use_errno=True)


class _Time(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Timer(ctypes.Structure):
    _fields_ = (("interval", _Time), ("first", _Time))


class Alarm:
    """One timer of one event loop; one task waits on it at a time. It is open until its block ends."""

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._rung = asyncio.Event()
        self._fd = _LIBC.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")
        self._loop.add_reader(self._fd, self._ring)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.remove_reader(self._fd)
        os.close(self._fd)

    async def wait_until(self, monotonic_ns: int) -> None:
        """Return when `time.monotonic_ns()` has reached this; if it has, after others had their turn."""
        if monotonic_ns <= time.monotonic_ns():
            await asyncio.sleep(0)  # else who is behind would hear no answers until it had caught up
            return
        self._rung.clear()
        seconds, nanoseconds = divmod(monotonic_ns, 1_000_000_000)
        timer = _Timer(first=_Time(seconds, nanoseconds))
        if _LIBC.timerfd_settime(self._fd, _ABSOLUTE, ctypes.byref(timer), None):
            raise OSError(ctypes.get_errno(), "timerfd_settime failed")
        await self._rung.wait()

    def _ring(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._fd, 8)
        self._rung.set()
