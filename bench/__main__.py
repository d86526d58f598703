"""`python -m bench`: measure everything, write a table and a figure."""

import argparse
import gc
import sys
from datetime import UTC, datetime
from pathlib import Path

import uvloop

from bench import circumstances, processes, rounds
from bench.drawing import draw
from bench.report import table
from bench.results import Results
from bench.roster import roster
from bench.scenarios import scenarios
from relay.sockets import raise_descriptor_limit


def main() -> int:
    """Read the arguments and measure; exit status 1 if the relay itself failed somewhere."""
    options = _parser().parse_args()
    cores = processes.split_cores()
    peers = [
        one for one in roster(options.against, cores) if not options.peers or one.name in options.peers
    ]
    chosen = [
        one
        for one in scenarios(quick=options.quick)
        if not options.scenarios or one.name in options.scenarios
    ]
    raise_descriptor_limit()
    gc.freeze()
    measured = uvloop.run(rounds.measure(peers, chosen, 1 if options.quick else options.rounds, _say))
    titles = {one.name: one.title for one in peers}
    date = datetime.now(UTC).date().isoformat()
    results = Results(date, circumstances.machine(), circumstances.versions(), titles, measured)
    sys.stdout.write("\n" + table(results))
    if options.save:
        _save(results, options.save)
    return int(any(one.peer == "relay" and one.failure for one in measured))


def _save(results: Results, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bench.json").write_text(results.to_json())
    (folder / "bench.md").write_text(table(results))
    draw(folder / "bench.json")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    names = [one.name for one in roster(Path())], [one.name for one in scenarios()]
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--peers", nargs="+", choices=names[0], help="only these")
    parser.add_argument("--scenarios", nargs="+", choices=names[1], help="only these")
    parser.add_argument("--rounds", type=int, default=3, help="how often all is measured (3)")
    parser.add_argument("--quick", action="store_true", help="one round, and shorter")
    parser.add_argument("--against", type=Path, help="another checkout of the relay, as one more peer")
    parser.add_argument("--save", type=Path, metavar="FOLDER", help="write table, figure and data there")
    return parser


if __name__ == "__main__":
    sys.exit(main())
