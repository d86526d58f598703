"""Peer after peer, scenario after scenario, round after round."""

from collections.abc import Callable, Sequence
from typing import Final

from bench.processes import CannotStart
from bench.results import Measured
from bench.roster import Peer
from bench.scenarios import Scenario
from bench.stage import Failed, stage

_WITHOUT_PEER: Final = ("p50", "p99", "pace", "upstream", "client")
"""Figures that have a meaning without a relay."""


async def measure(
    peers: Sequence[Peer], scenarios: Sequence[Scenario], rounds: int, say: Callable[[str], None]
) -> list[Measured]:
    """Measure all. Within a round the peers follow each other, each round in another order.

    What disturbs the machine for a while disturbs them alike; a ratio is taken within one round.
    """
    measured = []
    for number in range(rounds):
        for scenario in scenarios:
            chosen = [one for one in peers if scenario.direct or one.name != "direct"]
            first = number % max(len(chosen), 1)
            for peer in (*chosen[first:], *chosen[:first]):
                one = await once(number + 1, scenario, peer)
                measured.append(one)
                say(line(one))
    return measured


async def once(number: int, scenario: Scenario, peer: Peer) -> Measured:
    """Measure one peer in one scenario of a round."""
    try:
        async with stage(peer, scenario.streams) as made:
            figures = await scenario.measure(made)
            if peer.name == "direct":
                figures = {name: figures[name] for name in figures if name.startswith(_WITHOUT_PEER)}
            return Measured(number, scenario.name, peer.name, figures)
    except (CannotStart, Failed, OSError) as error:
        return Measured(number, scenario.name, peer.name, {}, str(error) or type(error).__name__)


def line(one: Measured) -> str:
    """A line for whoever waits."""
    said = one.failure or "  ".join(f"{name} {value:.4g}" for name, value in one.figures.items())
    return f"round {one.round}  {one.scenario:<13} {one.peer:<8} {said}"
