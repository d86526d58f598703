"""A clock for thousands of paced streams, each with its own phase."""

import asyncio
import ctypes
import heapq
import itertools
import os
import time
from collections.abc import Callable
from typing import Final

TICK: Final = 200_000
"""Nanoseconds between two looks at who is due: an event loop's own timers have whole milliseconds, and
at 20,000 pieces a second twenty of them would go out at once."""


class _Time(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Timer(ctypes.Structure):
    _fields_ = (("interval", _Time), ("first", _Time))


Step = Callable[[], bool]
"""Does what is due; tells whether there is more to come."""


class Pacer:
    """Calls steps when they are due, late ones at once (with timerfd, which Python 3.11 lacks)."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor: int = self._libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._due: list[tuple[int, int, int, Step]] = []
        self._numbers = itertools.count()
        asyncio.get_running_loop().add_reader(self._descriptor, self._tick)

    def add(self, step: Step, first: int, period: int) -> None:
        """Call `step` at `first` (ns of the monotonic clock) and every `period` ns from then on."""
        if not self._due:
            self._set(TICK)
        heapq.heappush(self._due, (first, next(self._numbers), period, step))

    def close(self) -> None:
        """Stop the clock."""
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)

    def _set(self, interval: int) -> None:
        timer = _Timer(_Time(0, interval), _Time(0, interval))
        if self._libc.timerfd_settime(self._descriptor, 0, ctypes.byref(timer), None):
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def _tick(self) -> None:
        os.read(self._descriptor, 8)
        due, now = self._due, time.monotonic_ns()
        while due and due[0][0] <= now:
            when, number, period, step = due[0]
            if step():
                heapq.heapreplace(due, (when + period, number, period, step))
            else:
                heapq.heappop(due)
        if not due:
            self._set(0)
