"""What is told while a load test runs: a live view on a terminal, else a line now and then."""

from typing import Final, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from relay.loadtest.figures import Counts, Figures, Series, Slice
from relay.loadtest.plan import Plan
from relay.loadtest.report import seconds, size

_EVERY: Final = 5.0  # seconds between two lines
_BAR: Final = 30  # characters


class Progress:
    """Tells of each slice of time; a context, so that a terminal gets its cursor back."""

    def __init__(self, console: Console, plan: Plan, figures: Figures) -> None:
        self._console = console
        self._plan = plan
        self._figures = figures
        self._told = 0.0
        # Drawn when there is something new: a thread that draws on its own would delay what is measured.
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._live.stop()

    def watch(self, new: Slice) -> None:
        """Tell what happened in a slice of time."""
        if self._live.is_started:
            self._live.update(self._view(new), refresh=True)
        elif new.until - self._told >= _EVERY:
            self._told = new.until
            self._console.print(self._line(new), markup=False, highlight=False, soft_wrap=True)

    def _line(self, new: Slice) -> str:
        counts = self._figures.counts
        return (
            f"{new.until:.0f} s: {new.active:,} streams, {counts.asked:,} asked, "
            f"{counts.complete:,} complete, {counts.failed:,} failed, {counts.left:,} left; "
            f"{new.chunks / new.seconds:,.0f} chunks/s"
        )

    def _view(self, new: Slice) -> Table:
        counts, took = self._figures.counts, new.seconds
        view = Table.grid(padding=(0, 2))
        view.add_column(style="dim")
        view.add_column()
        view.add_row("", self._bar(new.until, counts))
        view.add_row("streams", f"{new.active:,} open of {self._plan.streams:,}")
        view.add_row(
            "answers",
            f"{counts.asked:,} asked, {counts.complete:,} complete, {_red(counts.failed)}, "
            f"{counts.left:,} left",
        )
        view.add_row(
            "now",
            f"{new.complete / took:,.1f} answers/s, {new.chunks / took:,.0f} chunks/s, "
            f"{size(new.size / took)}/s",
        )
        for name, packed in (("first chunk", new.ttfc), ("gap", new.gap)):
            p50, p99 = Series.unpack(packed).at([50, 99])
            view.add_row(name, f"p50 {seconds(p50)}, p99 {seconds(p99)}")
        view.add_row("", "[dim]Ctrl-C ends it and tells what was measured[/]")
        return view

    def _bar(self, now: float, counts: Counts) -> str:
        plan = self._plan
        done = [0.0]
        if plan.seconds is not None:
            done.append(now / plan.seconds)
        if plan.count is not None:
            done.append((counts.complete + counts.failed + counts.left) / plan.count)
        share = min(1.0, max(done))
        full = round(share * _BAR)
        return f"[green]{'━' * full}[/][dim]{'━' * (_BAR - full)}[/] {share:.0%}, {now:.0f} s"


def _red(failed: int) -> str:
    return f"[bold red]{failed:,} failed[/]" if failed else "0 failed"
