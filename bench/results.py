"""What was measured, with all that is needed to make sense of it later."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Self

from bench.goals import Rounds


@dataclass(frozen=True, slots=True)
class Measured:
    """One peer in one scenario of one round: figures, or why there are none."""

    round: int
    scenario: str
    peer: str
    figures: Mapping[str, float]
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Results:
    """All of one run."""

    date: str
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    peers: Mapping[str, str]
    """Titles by name, in the order of the table."""
    measured: Sequence[Measured]

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote."""
        data = json.loads(text)
        data["measured"] = [Measured(**one) for one in data["measured"]]
        return cls(**data)

    def to_json(self) -> str:
        """All of it, as JSON."""
        return json.dumps(asdict(self), indent=1) + "\n"

    @property
    def many(self) -> int:
        """How many rounds there were."""
        return max((one.round for one in self.measured), default=0)

    def rounds(self, scenario: str) -> Rounds:
        """Round by round, what each peer measured, without the peers that failed in any of them."""
        these = [one for one in self.measured if one.scenario == scenario]
        failed = {one.peer for one in these if one.failure}
        return [
            {one.peer: one.figures for one in these if one.round == number and one.peer not in failed}
            for number in range(1, self.many + 1)
        ]

    def failure(self, scenario: str, peer: str) -> str | None:
        """Why a peer has no figure; one bad round is enough."""
        these = [one for one in self.measured if (one.scenario, one.peer) == (scenario, peer)]
        return next((one.failure for one in these if one.failure), None)
