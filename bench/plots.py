"""`python -m bench.plots FILE.json`: draws what was measured, as FILE.png. Needs matplotlib."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

import matplotlib as mpl
from matplotlib import pyplot
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from bench.goals import GOALS, Goal, Step, value
from bench.report import number
from bench.results import Measured, Results

mpl.use("Agg")

INK: Final = "#22272e"
FAINT: Final = "#8b949e"
RULE: Final = "#e4e7eb"
AIM: Final = "#d5efdc"
MUST: Final = "#eef8f0"
COLOURS: Final = {
    "relay": "#c2410c",
    "against": "#e39a6f",
    "nginx": "#1f7a4d",
    "node": "#6b7280",
    "fastapi": "#2563a8",
    "flask": "#7c5cbf",
    "direct": "#b0b7bf",
}
_STYLE: Final = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": RULE,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": FAINT,
    "ytick.color": INK,
    "grid.color": RULE,
    "figure.facecolor": "white",
}


def main() -> None:
    """Draw the file named on the command line."""
    path = Path(sys.argv[1])
    results = Results.from_json(path.read_text())
    mpl.rcParams.update(cast(Any, _STYLE))
    grown = any(one.scenario == "even" for one in results.measured)
    figure = _growth(results) if grown else _comparison(results)
    figure.savefig(path.with_suffix(".png"), dpi=144)


def _comparison(results: Results) -> Any:
    goals = [goal for goal in GOALS if any(one.scenario == goal.scenario for one in results.measured)]
    columns = min(3, len(goals))
    rows = -(-len(goals) // columns)
    height = 0.34 * len(results.peers) + 0.95
    layout = ConstrainedLayoutEngine(h_pad=0.14, w_pad=0.12, rect=(0, 0.03, 1, 0.92))
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(4.9 * columns, height * rows + 1.3), squeeze=False, layout=layout
    )
    for axis, goal in zip(axes.flat, goals, strict=False):
        _panel(axis, goal, results)
    for axis in axes.flat[len(goals) :]:
        axis.axis("off")
    if len(goals) < len(axes.flat):
        _key(axes.flat[len(goals)])
    _title(figure, results, "What a relay costs", "further left is better; each axis is logarithmic")
    return figure


def _key(axis: Any) -> None:
    """What the colours mean, where there is room."""
    handles = [
        Line2D(
            [], [], marker="o", markersize=8, linestyle="", color=COLOURS["relay"], label="this relay"
        ),
        Patch(color=AIM, label="where it should be, held against nginx and FastAPI"),
        Patch(color=MUST, label="where it must be"),
    ]
    axis.legend(handles=handles, loc="center left", frameon=False, labelspacing=1.2)


def _panel(axis: Any, goal: Goal, results: Results) -> None:
    """One scenario: a dot for each peer, and how far the relay's may be to the right."""
    rounds = results.rounds(goal.scenario)
    medians = {peer: value(rounds, peer, goal.figure) for peer in results.peers}
    failed = {peer: results.failure(goal.scenario, peer) is not None for peer in results.peers}
    peers = [peer for peer in results.peers if medians[peer] is not None or failed[peer]]
    there = [
        one[peer][goal.figure] for one in rounds for peer in peers if goal.figure in one.get(peer, {})
    ]
    if not there:
        axis.axis("off")
        return
    limits = {step: _limit(goal, step, medians) for step in ("must", "aim")}
    ends = [*there, *(limit for limit in limits.values() if limit is not None)]
    low, high = min(ends) / 1.5, max(ends) * (max(ends) / min(ends)) ** 0.16 * 1.4
    axis.set(xscale="log", xlim=(low, high), ylim=(len(peers) - 0.4, -0.6))
    for step, colour in (("must", MUST), ("aim", AIM)):
        limit = limits[step]
        if limit is not None:
            axis.axvspan(low, limit, color=colour, zorder=0, linewidth=0)
            axis.axvline(limit, color="#7fbf95", linewidth=0.8, zorder=1, dashes=(3, 2))
    for place, peer in enumerate(peers):
        amount, bold = medians[peer], "bold" if peer == "relay" else "normal"
        axis.axhline(place, color=RULE, linewidth=0.8, zorder=1)
        if amount is None:
            axis.text(low * 1.1, place, "failed", va="center", color=FAINT, style="italic")
            continue
        every = [one[peer][goal.figure] for one in rounds if peer in one]
        axis.plot([min(every), max(every)], [place, place], color=COLOURS[peer], linewidth=2, zorder=3)
        axis.plot(
            amount, place, "o", color=COLOURS[peer], markersize=8 if peer == "relay" else 6, zorder=4
        )
        axis.annotate(
            number(amount),
            (max(every), place),
            (8, 0),
            textcoords="offset points",
            va="center",
            weight=bold,
            path_effects=[withStroke(linewidth=3, foreground="white", alpha=0.8)],
            zorder=5,
        )
    axis.set_yticks(range(len(peers)), [_name(peer) for peer in peers])
    for label, peer in zip(axis.get_yticklabels(), peers, strict=True):
        label.set_weight("bold" if peer == "relay" else "normal")
    axis.set_title(f"{goal.short}\n", pad=2)
    axis.text(
        0, 1.03, f"{goal.measure}, {goal.unit}", transform=axis.transAxes, color=FAINT, fontsize=8.5
    )
    axis.tick_params(axis="y", length=0)
    axis.tick_params(axis="x", which="both", length=0, labelbottom=False)
    axis.spines[["left", "bottom"]].set_visible(False)


def _limit(goal: Goal, step: Step | str, medians: Mapping[str, float | None]) -> float | None:
    """The strictest limit of a step, in the figure's own unit."""
    found = []
    for to, limit in (goal.must if step == "must" else goal.aim).items():
        amount = medians.get(to) if to else 1.0
        if amount is not None:
            found.append(limit * amount)
    return min(found) if found else None


def _growth(results: Results) -> Any:
    layout = ConstrainedLayoutEngine(h_pad=0.18, w_pad=0.14, rect=(0, 0.04, 1, 0.9))
    figure, axes = pyplot.subplots(2, 3, figsize=(15, 9.2), layout=layout)
    even = {peer: _levels(results, "even", peer) for peer in results.peers}
    full = {peer: _levels(results, "full", peer) for peer in results.peers}
    _lines(
        axes[0, 0],
        even,
        ("cpu_us",),
        "CPU time a chunk, us",
        "10,000 chunks a second in all streams together",
    )
    _lines(axes[0, 1], even, ("resident_mb",), "memory of the process, MB", "")
    _lines(axes[0, 2], even, ("p50_us", "p99_us"), "time of a chunk, us", "", log=True)
    _lines(axes[1, 0], full, ("cpu_us",), "CPU time a chunk, us", "20 chunks a second in each stream")
    _lines(axes[1, 1], full, ("core",), "share of a core", "")
    _lines(axes[1, 2], full, ("p50_us", "p99_us"), "time of a chunk, us", "", log=True)
    for axis in (axes[0, 0], axes[0, 2]):  # memory grows in a line, which a logarithmic axis would bend
        axis.set_xscale("log")
        _ticks(
            axis,
            sorted({int(one.figures["streams"]) for one in results.measured if one.scenario == "even"}),
        )
    axes[1, 1].axhline(1, color=FAINT, linewidth=0.8, dashes=(3, 2))
    _title(
        figure,
        results,
        "How the cost grows with the streams",
        "above: ever more streams that together say the same; below: more to say, until a peer is full",
    )
    handles = [
        Line2D([], [], color=COLOURS[peer], marker="o", label=_name(peer)) for peer in results.peers
    ]
    handles += [
        Line2D([], [], color=INK, label="median"),
        Line2D([], [], color=INK, linestyle=":", label="p99"),
    ]
    figure.legend(
        handles=handles, loc="lower right", ncols=len(handles), frameon=False, bbox_to_anchor=(0.99, 0.0)
    )
    return figure


def _levels(results: Results, scenario: str, peer: str) -> list[Measured]:
    these = [one for one in results.measured if (one.scenario, one.peer) == (scenario, peer)]
    return [one for one in these if not one.failure]


def _lines(
    axis: Any,
    levels: Mapping[str, Sequence[Measured]],
    figures: Sequence[str],
    measure: str,
    title: str,
    *,
    log: bool = False,
) -> None:
    """A line for each peer and figure over the number of streams."""
    for peer, ones in levels.items():
        for figure, line in zip(figures, ("-", ":"), strict=False):
            if not all(figure in one.figures for one in ones):
                continue  # without a relay there is only time
            streams = [one.figures["streams"] for one in ones]
            axis.plot(
                streams,
                [one.figures[figure] for one in ones],
                line,
                marker="o",
                markersize=5,
                color=COLOURS[peer],
                linewidth=2.2 if peer == "relay" else 1.6,
                zorder=4 if peer == "relay" else 3,
            )
    axis.set_title(f"{title}\n", pad=6)
    axis.text(0, 1.03, measure, transform=axis.transAxes, color=FAINT)
    axis.set_xlabel("streams")
    axis.grid(axis="y")
    axis.tick_params(which="both", length=0)
    if log:
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter(lambda amount, _: f"{amount:,.0f}")
    else:
        axis.set_ylim(bottom=0)
    axis.xaxis.set_major_formatter(lambda amount, _: f"{amount:,.0f}")


def _ticks(axis: Any, levels: Sequence[int]) -> None:
    axis.set_xticks(levels, [f"{level:,}" for level in levels])
    axis.minorticks_off()


def _title(figure: Any, results: Results, title: str, below: str) -> None:
    inch = 1 / figure.get_figheight()
    figure.text(0.012, 1 - 0.16 * inch, title, fontsize=16, weight="bold", va="top")
    figure.text(0.012, 1 - 0.47 * inch, below, color=FAINT, va="top", fontsize=10)
    rounds = "one round"
    if results.many > 1:
        rounds = f"medians of {results.many} rounds, lines from the least to the most"
    machine = f"{results.machine['cores']} cores ({results.machine['cpu']})"
    note = f"{results.date}, {machine}, shared with what drives the load; {rounds}"
    figure.text(0.012, 0.15 * inch, note, color=FAINT, fontsize=8.5)


def _name(peer: str) -> str:
    return {
        "relay": "this relay",
        "against": "other checkout",
        "node": "Node",
        "fastapi": "FastAPI",
        "flask": "Flask",
        "direct": "no relay",
    }.get(peer, peer)


if __name__ == "__main__":
    main()
