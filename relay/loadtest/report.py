"""What is told at the end: a table for a person, and JSON for a program."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table

from relay.loadtest.figures import Failure, Figures
from relay.loadtest.plan import Plan
from relay.loadtest.thresholds import Threshold

NAMES: Final[Mapping[str, str]] = {
    "ttfc": "time to first chunk",
    "gap": "gap between chunks",
    "total": "total time",
    "lag": "this program's own lag",
}
_WORDS: Final[Mapping[str, str]] = {"event": "error event"}
# Only the line under the heads.
_BOX: Final = box.Box("    \n    \n ── \n    \n    \n    \n    \n    \n")
_MILLION: Final = 1_000_000


def seconds(value: float | None) -> str:
    """Return a time as a person reads it: three digits that count, with its unit."""
    if value is None:
        return "-"
    if value < 0.9995:
        ms = value * 1000
        return f"{ms:.2f} ms" if ms < 9.995 else f"{ms:.1f} ms" if ms < 99.95 else f"{ms:.0f} ms"
    return f"{value:.2f} s" if value < 99.995 else f"{value:.0f} s"


def size(value: float) -> str:
    """Return bytes as a person reads them."""
    if value < 1000:
        return f"{value:.0f} B"
    return f"{value / 1000:.1f} kB" if value < _MILLION else f"{value / _MILLION:.1f} MB"


def label(failure: Failure) -> str:
    """Return what a person reads of a failure."""
    return f"{_WORDS.get(failure.kind, failure.kind)}: {failure.code}"


def tell(console: Console, plan: Plan, figures: Figures) -> None:
    """Print the tables."""
    console.print()
    for line in (plan.url, what(plan)):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    for table in (_times(figures), _answers(figures), _failures(figures)):
        if table.row_count:
            console.print()
            console.print(table)
    console.print()


def judge(console: Console, thresholds: Sequence[Threshold], figures: Figures) -> bool:
    """Print a line for each threshold; return whether none is crossed."""
    metrics = figures.metrics()
    crossed = [one for one in thresholds if one.crossed(metrics)]
    for one in thresholds:
        word, style = ("crossed", "bold red") if one in crossed else ("kept", "green")
        value = metrics[one.metric]
        shown = "not measured" if value is None else _metric(one.metric, value)
        console.print(f"{word:<8}", style=style, end="")
        console.print(f"{one.text}  ({shown})", markup=False, highlight=False)
    return not crossed


def _metric(name: str, value: float) -> str:
    if name.startswith(tuple(f"{series}_" for series in NAMES)):
        return seconds(value)
    return f"{value:.2%}" if name.endswith("_share") else f"{value:,.10g}"


def as_json(plan: Plan, figures: Figures, thresholds: Sequence[Threshold]) -> str:
    """Return all figures as JSON text: times in seconds, rates per second, shares from 0 to 1."""
    counts, metrics = figures.counts, figures.metrics()
    told: dict[str, Any] = {
        "plan": {
            "url": plan.url,
            "streams": plan.streams,
            "ramp": plan.ramp,
            "pace": plan.pace,
            "duration": plan.seconds,
            "count": plan.count,
            "leave": plan.leave,
            "timeout": plan.timeout,
        },
        "seconds": figures.seconds,
        "metrics": metrics,
        "asked": counts.asked,
        "complete": counts.complete,
        "failed": counts.failed,
        "left": counts.left,
        "open_at_end": figures.open_at_end,
        "open_at_end_without_a_chunk": figures.silent_at_end,
        "unasked": figures.unasked,
        "most_active": figures.most_active,
        "chunks": counts.chunks,
        "bytes": counts.size,
        "measured": {name: getattr(figures, name).count for name in NAMES},
        "errors": [
            {"kind": one.kind, "code": one.code, "count": count}
            for one, count in figures.failures.most_common()
        ],
        "thresholds": [
            {"threshold": one.text, "value": metrics[one.metric], "crossed": one.crossed(metrics)}
            for one in thresholds
        ],
        "slices": figures.told_slices(),
    }
    return json.dumps(told, indent=2) + "\n"


def what(plan: Plan) -> str:
    """Return what a load test does, in a line."""
    words = [f"{plan.streams:,} stream{'s' * (plan.streams > 1)}"]
    if plan.pace is not None:
        words.append(f"{plan.pace:g} questions/s")
    if plan.ramp:
        words.append(f"ramp {plan.ramp:g} s")
    if plan.leave:
        words.append(f"{plan.leave:.0%} leave early")
    return ", ".join(words)


def _table(title: str, *columns: str) -> Table:
    table = Table(
        box=_BOX,
        title=title,
        title_justify="left",
        title_style="bold",
        pad_edge=False,
        show_edge=False,
        padding=(0, 0, 0, 1),
    )
    first, *others = columns
    table.add_column(first, overflow="fold")
    for column in others:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _times(figures: Figures) -> Table:
    table = _table("Times", "", "p50", "p90", "p99", "p99.9", "max", "measured")
    for name, words in NAMES.items():
        series = getattr(figures, name)
        style = "dim" if name == "lag" else None
        table.add_row(words, *map(seconds, series.told().values()), f"{series.count:,}", style=style)
    return table


def _answers(figures: Figures) -> Table:
    counts, took = figures.counts, figures.seconds or 1.0
    table = _table(f"Answers, in {figures.seconds:.1f} s", "", "in all", "per second")
    rows = [("asked", counts.asked), ("complete", counts.complete), ("failed", counts.failed)]
    for name, number in rows:
        style = "red" if name == "failed" and number else None
        table.add_row(name, f"{number:,}", f"{number / took:,.1f}", style=style)
    if counts.left:
        table.add_row("left early", f"{counts.left:,}", f"{counts.left / took:,.1f}")
    if figures.open_at_end:
        table.add_row("open at the end", f"{figures.open_at_end:,}", "")
        table.add_row("  without a chunk yet", f"{figures.silent_at_end:,}", "")
    if figures.unasked:
        table.add_row("due, but all streams were busy", f"{figures.unasked:,}", "", style="red")
    table.add_row("chunks", f"{counts.chunks:,}", f"{counts.chunks / took:,.1f}")
    table.add_row("bytes", size(counts.size), size(counts.size / took))
    table.add_row("most streams at once", f"{figures.most_active:,}", "")
    return table


def _failures(figures: Figures) -> Table:
    table = _table("Failed", "why", "in all")
    for failure, count in figures.failures.most_common():
        table.add_row(label(failure), f"{count:,}")
    return table
