"""The figures as a picture. Imports matplotlib, so it is itself imported only when one is asked for."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from relay.loadtest.figures import Figures, Series, Slice
from relay.loadtest.plan import Plan
from relay.loadtest.report import NAMES, size, what

# Colours that stay apart for who does not tell red from green (Okabe and Ito).
_BLUE: Final = "#0072b2"
_ORANGE: Final = "#d55e00"
_GREEN: Final = "#009e73"
_GREY: Final = "#8a8a8a"
_SHORT: Final = {"ttfc": "first chunk", "gap": "gap", "total": "total", "lag": "own lag"}
_COLOURS: Final = {"ttfc": _BLUE, "gap": _GREEN, "total": _ORANGE, "lag": _GREY}
_STYLE: Final[dict[Any, Any]] = {
    "axes.edgecolor": "#c8c8c8",
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlepad": 10.0,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "font.size": 10,
    "grid.color": "#e8e8e8",
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.marker": ".",
    "lines.markersize": 5,
    "xtick.color": "#555555",
    "ytick.color": "#555555",
}
_SHORTEST: Final = 1e-4  # seconds; what is shorter matters to nobody who reads
_TICKS: Final = (50.0, 90.0, 99.0, 99.9, 99.99)
_TIMES: Final = tuple(
    float(f"{digit}e{power}") for power in range(-6, 4) for digit in (1, 2, 5)
)  # seconds: where a time axis may have a tick


def draw(path: Path, plan: Plan, figures: Figures) -> None:
    """Write a PNG of six plots. Raises OSError."""
    with mpl.rc_context(_STYLE):
        # A Figure of its own needs no pyplot, and so neither a display nor a global state.
        figure = Figure(figsize=(14, 12.5), dpi=110, layout="constrained", facecolor="white")
        figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12)  # type: ignore[union-attr,call-arg]
        places = figure.subplots(3, 2)
        figure.suptitle(_title(plan, figures), fontsize=13, x=0.01, ha="left")
        _percentiles(places[0][0], figures)
        _streams(places[0][1], figures)
        _over_time(places[1][0], figures, "ttfc")
        _over_time(places[1][1], figures, "gap")
        _throughput(places[2][0], figures)
        _outcomes(places[2][1], figures)
        figure.savefig(path, format="png")


def _title(plan: Plan, figures: Figures) -> str:
    counts = figures.counts
    came = f"{counts.complete:,} answers complete, {counts.failed:,} failed, {counts.left:,} left early"
    # A dollar would begin a formula.
    return f"{plan.url}\n{what(plan)}; {figures.seconds:.0f} s: {came}".replace("$", r"\$")


def _percentiles(axes: Axes, figures: Figures) -> None:
    """Each nine takes the same room, so that the tail can be seen."""
    axes.set_title("Percentiles")
    highest = 1.0
    for name, words in _SHORT.items():
        series: Series = getattr(figures, name)
        if not series.count:
            continue
        nines = math.log10(max(series.count, 10))  # beyond there is but one value
        steps = [nines * step / 120 for step in range(121)]
        values = series.at([100 - 100 / 10**step for step in steps])
        style = "--" if name == "lag" else "-"
        axes.plot(steps, _drawn(values), style, marker="", color=_COLOURS[name], label=words)
        highest = max(highest, nines)
    ticks = [one for one in _TICKS if _nines(one) <= highest]
    axes.set_xticks([0.0, *map(_nines, ticks)], ["min", *(f"p{one:g}" for one in ticks)])
    axes.set_xlim(0, highest)
    _time_axis(axes)
    _legend(axes)


def _nines(percentile: float) -> float:
    return -math.log10(1 - percentile / 100)


def _streams(axes: Axes, figures: Figures) -> None:
    axes.set_title("Streams open")
    axes.fill_between(
        _ends(figures), [one.active for one in _drawn_slices(figures)], color=_BLUE, alpha=0.15
    )
    axes.plot(_ends(figures), [one.active for one in _drawn_slices(figures)], color=_BLUE)
    _from_zero(axes)


def _over_time(axes: Axes, figures: Figures, name: str) -> None:
    axes.set_title(f"{NAMES[name].capitalize()}, over time")
    told = [Series.unpack(getattr(one, name)).told() for one in _drawn_slices(figures)]
    for which, colour, style in (("max", _GREY, ":"), ("p99", _ORANGE, "-"), ("p50", _GREEN, "-")):
        axes.plot(
            _ends(figures),
            _drawn([one[which] for one in told]),
            linestyle=style,
            color=colour,
            label=which,
        )
    _time_axis(axes)
    _seconds_axis(axes)
    _legend(axes)


def _throughput(axes: Axes, figures: Figures) -> None:
    axes.set_title("Throughput")
    rates = [one.chunks / one.seconds for one in _drawn_slices(figures)]
    axes.plot(_ends(figures), rates, color=_BLUE, label="chunks/s (left)")
    _from_zero(axes)
    right = axes.twinx()
    right.grid(visible=False)
    (received,) = right.plot(
        _ends(figures),
        [one.size / one.seconds for one in _drawn_slices(figures)],
        "--",
        color=_ORANGE,
        label="bytes/s (right)",
    )
    right.set_ylim(bottom=0)
    right.yaxis.set_major_formatter(FuncFormatter(lambda value, _: size(value)))
    _legend(axes, received)


def _outcomes(axes: Axes, figures: Figures) -> None:
    axes.set_title("Answers a second")
    for name, words, colour in (
        ("complete", "complete", _GREEN),
        ("failed", "failed", _ORANGE),
        ("left", "left early", _GREY),
    ):
        rates = [getattr(one, name) / one.seconds for one in _drawn_slices(figures)]
        if name == "complete" or any(rates):
            axes.plot(_ends(figures), rates, color=colour, label=words)
    _from_zero(axes)
    _legend(axes)


def _drawn_slices(figures: Figures) -> list[Slice]:
    """Without the rest at the end of a test: the rates of a few milliseconds say nothing."""
    first, *others = figures.slices
    return [first, *(one for one in others if one.seconds >= first.seconds / 2)]


def _ends(figures: Figures) -> list[float]:
    return [one.until for one in _drawn_slices(figures)]


def _drawn(values: Sequence[float | None]) -> list[float]:
    """A logarithmic axis has no zero, and a line breaks at what was not measured."""
    return [math.nan if one is None else max(one, 1e-6) for one in values]


def _time_axis(axes: Axes) -> None:
    """The vertical axis: times that differ by powers of ten."""
    axes.set_yscale("log")
    low, high = axes.dataLim.intervaly
    if not low < math.inf:  # nothing was measured
        return
    below = [one for one in _TIMES if one <= max(low, _SHORTEST)]
    above = [one for one in _TIMES if one >= high]
    axes.set_ylim(below[-1], above[0] if above else high)
    ticks = [one for one in _TIMES if below[-1] <= one <= (above[0] if above else high)]
    if len(ticks) > 9:  # no room for more
        ticks = [one for one in ticks if math.isclose(math.log10(one) % 1, 0, abs_tol=1e-9)]
    axes.set_yticks(ticks)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    axes.yaxis.set_minor_locator(NullLocator())


def _short(value: float) -> str:
    return (
        f"{value * 1e6:g} µs"
        if value < 0.001
        else f"{value * 1000:g} ms"
        if value < 1
        else f"{value:g} s"
    )


def _seconds_axis(axes: Axes) -> None:
    axes.set_xlabel("seconds since the start")
    axes.set_xlim(left=0)


def _from_zero(axes: Axes) -> None:
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    _seconds_axis(axes)


def _legend(axes: Axes, *extra: Line2D) -> None:
    """At the right of the title, where no line is."""
    handles, _ = axes.get_legend_handles_labels()
    if handles:
        legend = axes.legend(
            handles=[*handles, *extra],
            loc="lower right",
            bbox_to_anchor=(1.0, 1.0),
            ncols=4,
            borderaxespad=0.3,
            fontsize=9,
            handlelength=1.4,
            columnspacing=1.2,
        )
        legend.set_in_layout(False)  # else the plot would make room for it
