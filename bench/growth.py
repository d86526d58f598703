"""`python -m bench.growth`: how the cost grows with the streams, and how many one core carries."""

import argparse
import gc
import sys
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import uvloop

from bench import circumstances, processes, rounds
from bench.drawing import draw
from bench.growth_report import table
from bench.results import Measured, Results
from bench.roster import Peer, roster
from bench.scenarios import Scenario, paced
from relay.sockets import raise_descriptor_limit

EVEN: Final = "even"
"""Ever more streams that say the same together: what only their number costs."""
FULL: Final = "full"
"""Ever more streams at a model's pace, until there are too many."""

TOGETHER: Final = 10_000.0  # pieces a second of all streams, where their number alone grows
EACH: Final = 20.0  # pieces a second of each, where the load grows too
_SECONDS: Final = {EVEN: 10.0, FULL: 6.0}
_EVEN_LEVELS: Final = (100, 300, 1000, 3000, 5000, 10_000)
_FULL_LEVELS: Final = (*range(250, 2001, 250), *range(2500, 4001, 500))
_SPARE: Final = 200  # descriptors that are no streams'; a relay needs two for each stream

TOO_LATE: Final = 100_000.0
"""Microseconds: a peer whose p99 is above is full."""
TOO_BUSY: Final = 0.98
"""Share of a core: so is one that works all the time."""


def main() -> int:
    """Read the arguments and measure."""
    options = _parser().parse_args()
    cores = processes.split_cores()
    peers = [one for one in roster(options.against, cores) if one.name in options.peers]
    limit = raise_descriptor_limit()
    most = max(_EVEN_LEVELS) if limit is None else (limit - _SPARE) // 2
    gc.freeze()
    measured = uvloop.run(_measure(peers, most))
    titles = {one.name: one.title for one in peers}
    date = datetime.now(UTC).date().isoformat()
    results = Results(date, circumstances.machine(), circumstances.versions(), titles, measured)
    sys.stdout.write("\n" + table(results))
    if options.save:
        options.save.mkdir(parents=True, exist_ok=True)
        (options.save / "growth.json").write_text(results.to_json())
        (options.save / "growth.md").write_text(table(results))
        draw(options.save / "growth.json")
    return int(any(one.failure for one in measured if one.peer == "relay"))


async def _measure(peers: Sequence[Peer], most: int) -> list[Measured]:
    measured = []
    async for one in _all(peers, most):
        measured.append(one)
        sys.stdout.write(rounds.line(one) + "\n")
        sys.stdout.flush()
    return measured


async def _all(peers: Sequence[Peer], most: int) -> AsyncIterator[Measured]:
    for streams in sorted({min(level, most) for level in _EVEN_LEVELS}):
        for peer in peers:
            yield await _one(EVEN, peer, streams, TOGETHER / streams)
    going = list(peers)
    for streams in _FULL_LEVELS:
        for peer in tuple(going):
            one = await _one(FULL, peer, streams, EACH)
            if is_full(one):  # or it was disturbed
                one = await _one(FULL, peer, streams, EACH)
            yield one
            if is_full(one):
                going.remove(peer)
                if peer.name == "direct":
                    return  # the benchmark itself cannot do more


def is_full(one: Measured) -> bool:
    """Whether a peer cannot carry so many streams at this pace."""
    figures = one.figures
    return bool(one.failure) or figures["p99_us"] > TOO_LATE or figures.get("core", 0) > TOO_BUSY


async def _one(name: str, peer: Peer, streams: int, per_second: float) -> Measured:
    """Measure one level; the figures say how many `streams` there were."""
    one = await rounds.once(1, Scenario(name, streams, paced(streams, per_second, _SECONDS[name])), peer)
    return Measured(1, name, peer.name, {"streams": streams, **one.figures}, one.failure)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=__doc__)
    names = [one.name for one in roster(Path())]
    parser.add_argument(
        "--peers", nargs="+", choices=names, default=["direct", "nginx", "relay"], help="only these"
    )
    parser.add_argument("--against", type=Path, help="another checkout of the relay, as one more peer")
    parser.add_argument("--save", type=Path, metavar="FOLDER", help="write table, figure and data there")
    return parser


if __name__ == "__main__":
    sys.exit(main())
