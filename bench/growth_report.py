"""Growth as a table in Markdown."""

from collections.abc import Iterator

from bench.report import circumstances, number
from bench.results import Results

_COLUMNS = {
    "cpu_us": "CPU a chunk, us",
    "core": "of a core",
    "resident_mb": "memory, MB",
    "stream_kb": "memory a stream, KB",
    "p50_us": "time of a chunk, median, us",
    "p99_us": "p99, us",
    "pace": "of the pace",
}


def table(results: Results) -> str:
    """Level by level, first at an even and then at a full pace."""
    lines = [
        "Ever more streams that say 10,000 chunks a second together:",
        "",
        *_levels(results, "even"),
        "",
        "Streams of 20 chunks a second each, until a peer is full (98 % of a core, p99 over 0.1 s):",
        "",
        *_levels(results, "full"),
        "",
        "One stay at each level; the text of every stream was whole unless a line says otherwise.",
        *circumstances(results),
    ]
    return "\n".join(lines) + "\n"


def _levels(results: Results, scenario: str) -> Iterator[str]:
    yield "| | streams | " + " | ".join(_COLUMNS.values()) + " |"
    yield "| --- |" + " ---: |" * (len(_COLUMNS) + 1)
    for peer, title in results.peers.items():
        for one in results.measured:
            if (one.scenario, one.peer) != (scenario, peer):
                continue
            cells = [one.failure] if one.failure else [_cell(one.figures.get(name)) for name in _COLUMNS]
            yield f"| {title} | {one.figures['streams']:,.0f} | " + " | ".join(cells) + " |"


def _cell(amount: float | None) -> str:
    return "" if amount is None else number(amount)
