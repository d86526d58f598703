"""What the relay must and should cost, beside the others, and whether it does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final, Literal

Step = Literal["must", "aim"]


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure of a scenario and how large it may be, as a share of a peer's or as it is."""

    scenario: str
    figure: str
    short: str
    measure: str
    unit: str
    must: Mapping[str, float]
    """Peer by peer the largest ratio; under `""` the largest value, in the unit."""
    aim: Mapping[str, float]

    @property
    def title(self) -> str:
        """What is measured where, in a line."""
        return f"{self.short}: {self.measure}"


_PACED_MUST: Final = {"nginx": 2.6, "fastapi": 1 / 3}
_PACED_AIM: Final = {"nginx": 1.8, "fastapi": 1 / 4}
_BURST_MUST: Final = {"nginx": 8, "fastapi": 1 / 9}
_BURST_AIM: Final = {"nginx": 4.5, "fastapi": 1 / 12}
_SHORT_MUST: Final = {"nginx": 8, "fastapi": 1 / 8}
_SHORT_AIM: Final = {"nginx": 5.5, "fastapi": 1 / 12}
_LEAVE_MUST: Final = {"fastapi": 1 / 5}
_LEAVE_AIM: Final = {"fastapi": 1 / 6, "": 50}
_SILENT_MUST: Final = {"nginx": 2.2, "fastapi": 0.65}
_SILENT_AIM: Final = {"nginx": 1.8, "fastapi": 0.55}

_PACED: Final = "1,000 streams, 20 chunks/s each"
_CPU: Final = "CPU a chunk"
_KB: Final = "memory a stream"

GOALS: Final = (
    Goal("paced", "cpu_us", _PACED, _CPU, "us", _PACED_MUST, _PACED_AIM),
    Goal("paced", "p50_us", _PACED, "time of a chunk, median", "us", {"nginx": 1.6}, {"nginx": 1.3}),
    Goal("paced", "p99_us", _PACED, "time of a chunk, p99", "us", {"nginx": 11}, {"nginx": 4}),
    # The same limits where FastAPI keeps up: behind, it takes several chunks at once, late but cheaply.
    Goal("paced-200", "cpu_us", "200 streams, 20 chunks/s each", _CPU, "us", _PACED_MUST, _PACED_AIM),
    Goal("saturated", "cpu_us", "64 streams without delay", _CPU, "us", _BURST_MUST, _BURST_AIM),
    Goal("saturated-32", "cpu_us", "the same, 32 chunks at once", _CPU, "us", _BURST_MUST, _BURST_AIM),
    Goal(
        "short",
        "cpu_us",
        "5-chunk answers, 32 at a time",
        "CPU a request",
        "us",
        _SHORT_MUST,
        _SHORT_AIM,
    ),
    Goal("short-at-once", "cpu_us", "the same, written at once", "CPU a request", "us", {}, {}),
    Goal("leave", "p99_ms", "500 clients leave together", "noticed, p99", "ms", _LEAVE_MUST, _LEAVE_AIM),
    Goal("silent", "few_kb", "1,000 silent streams", _KB, "KB", _SILENT_MUST, _SILENT_AIM),
    Goal("silent", "many_kb", "5,000 silent streams", _KB, "KB", _SILENT_MUST, _SILENT_AIM),
    Goal("stuck", "kb", "200 clients that never read", _KB, "KB", {"": 500}, {"": 300}),
)

Rounds = Sequence[Mapping[str, Mapping[str, float]]]
"""Round by round, what each peer measured in one scenario; a peer that failed is not there."""


def value(rounds: Rounds, peer: str, figure: str) -> float | None:
    """The median of a figure over the rounds."""
    values = [one[peer][figure] for one in rounds if peer in one and figure in one[peer]]
    return median(values) if values else None


def ratio(rounds: Rounds, peer: str, to: str, figure: str) -> float | None:
    """The median of the ratios within each round, so that what disturbed a round disturbs little."""
    ratios = [
        one[peer][figure] / one[to][figure]
        for one in rounds
        if figure in one.get(peer, {}) and one.get(to, {}).get(figure)
    ]
    return median(ratios) if ratios else None


@dataclass(frozen=True, slots=True)
class Verdict:
    """One limit, and what was measured."""

    goal: Goal
    step: Step
    to: str
    limit: float
    measured: float | None

    @property
    def met(self) -> bool | None:
        """None where nothing was measured."""
        return None if self.measured is None else self.measured <= self.limit

    def __str__(self) -> str:
        if self.measured is None:
            return "not measured"
        if self.met:
            return "met"
        times = self.measured / self.limit
        if times < 2:
            return f"missed by {times - 1:.0%}"
        return (
            f"missed: {times:.1f} times as much" if times < 10 else f"missed: {times:,.0f} times as much"
        )


def judge(goal: Goal, rounds: Rounds, peer: str = "relay") -> list[Verdict]:
    """Hold what a peer measured against a goal, limit by limit."""
    steps: Sequence[tuple[Step, Mapping[str, float]]] = (("must", goal.must), ("aim", goal.aim))
    return [
        Verdict(
            goal,
            step,
            to,
            limit,
            ratio(rounds, peer, to, goal.figure) if to else value(rounds, peer, goal.figure),
        )
        for step, limits in steps
        for to, limit in limits.items()
    ]
