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
    title: str
    unit: str
    must: Mapping[str, float]
    """Peer by peer the largest ratio; under `""` the largest value, in the unit."""
    aim: Mapping[str, float]


GOALS: Final = (
    Goal(
        "paced", "cpu_us", "1,000 streams, 20 chunks/s each: CPU a chunk", "us",
        {"nginx": 2.6, "fastapi": 1 / 3}, {"nginx": 1.8, "fastapi": 1 / 4},
    ),
    Goal("paced", "p50_us", "the same: time of a chunk, median", "us", {"nginx": 1.6}, {"nginx": 1.3}),
    Goal("paced", "p99_us", "the same: time of a chunk, p99", "us", {"nginx": 11}, {"nginx": 4}),
    Goal(
        "saturated", "cpu_us", "64 streams, no delay, 1 chunk a write: CPU a chunk", "us",
        {"nginx": 8, "fastapi": 1 / 9}, {"nginx": 4.5, "fastapi": 1 / 12},
    ),
    Goal(
        "saturated-32", "cpu_us", "64 streams, no delay, 32 chunks a write: CPU a chunk", "us",
        {"nginx": 8, "fastapi": 1 / 9}, {"nginx": 4.5, "fastapi": 1 / 12},
    ),
    Goal(
        "short", "cpu_us", "5-chunk answers, 32 at a time: CPU a request", "us",
        {"nginx": 8, "fastapi": 1 / 8}, {"nginx": 5.5, "fastapi": 1 / 12},
    ),
    Goal(
        "leave", "p99_ms", "500 clients leave together: upstream knows, p99", "ms",
        {"fastapi": 1 / 5}, {"fastapi": 1 / 6, "": 50},
    ),
    Goal(
        "silent", "few_kb", "1,000 silent streams: memory a stream", "KB",
        {"nginx": 2.2, "fastapi": 0.65}, {"nginx": 1.8, "fastapi": 0.55},
    ),
    Goal(
        "silent", "many_kb", "5,000 silent streams: memory a stream", "KB",
        {"nginx": 2.2, "fastapi": 0.65}, {"nginx": 1.8, "fastapi": 0.55},
    ),
    Goal("stuck", "kb", "200 clients that never read: memory a stream", "KB", {"": 500}, {"": 300}),
)  # fmt: skip

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
        return f"missed by {self.measured / self.limit - 1:.0%}"


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
