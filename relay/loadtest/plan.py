"""What a load test is to do, and when each question is due."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One load test. At least one of `seconds` and `count` ends it."""

    url: str
    streams: int
    """How many questions may be open at once."""
    bodies: Sequence[bytes]
    """Whole request bodies, JSON; asked in turn."""
    ramp: float = 0.0
    """Seconds until all streams run, or until the pace is reached."""
    pace: float | None = None
    """New questions per second in all; None: each stream asks again when its answer ends."""
    seconds: float | None = None
    count: int | None = None
    """Questions in all."""
    leave: float = 0.0
    """The share of questions, 0 to 1, whose client leaves early."""
    timeout: float = 120.0
    """Seconds without an event after which a stream is given up."""
    key: str | None = field(default=None, repr=False)  # never told, not in a traceback either


class Ticket(NamedTuple):
    """The right to ask one question."""

    number: int
    """From 0."""
    due: float | None
    """Seconds after the start; None: at once."""


class Schedule:
    """Hands out tickets, each once, in the order in which they are due."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._taken = 0

    def take(self) -> Ticket | None:
        """Return the next ticket; None when there is none left, now or ever."""
        number, plan = self._taken, self._plan
        due = self._due(number)
        if plan.count is not None and number >= plan.count:
            return None
        if due is not None and plan.seconds is not None and due >= plan.seconds:
            return None
        self._taken += 1
        return Ticket(number, due)

    def first(self, stream: int) -> float:
        """Seconds after the start at which this stream, from 0, begins to take tickets.

        With a pace they all do at once: there the ramp is in what is due.
        """
        return 0.0 if self._plan.pace is not None else self._plan.ramp * stream / self._plan.streams

    def due_by(self, seconds: float) -> int:
        """How many questions were due this many seconds after the start; 0 without a pace."""
        pace, ramp, count = self._plan.pace, self._plan.ramp, self._plan.count
        if pace is None:
            return 0
        passed = pace * seconds**2 / (2 * ramp) if seconds < ramp else pace * (seconds - ramp / 2)
        due = math.ceil(passed)
        return due if count is None else min(due, count)

    def _due(self, number: int) -> float | None:
        """The pace grows evenly until the end of the ramp, and then stays: no burst, no step."""
        pace, ramp = self._plan.pace, self._plan.ramp
        if pace is None:
            return None
        if number < pace * ramp / 2:
            return math.sqrt(2 * number * ramp / pace)
        return ramp / 2 + number / pace
