"""One run of the program: arguments in, tables and files out."""

import asyncio
import os
import sys
from collections.abc import Coroutine
from typing import Any, Final

from rich.console import Console

from relay.loadtest import arguments, report
from relay.loadtest.load import CannotReach, Load
from relay.loadtest.progress import Progress

_CROSSED: Final = 1
_CANNOT: Final = 2


def run(given: list[str] | None = None) -> int:
    """Run a load test; return the exit status: 0 good, 1 a threshold crossed, 2 it could not be done.

    Raises ModuleNotFoundError without matplotlib, when a picture is wanted, and KeyboardInterrupt.
    """
    request = arguments.read(given, os.environ)
    if request.png is not None:
        # Half a second for those who want a picture; and before the test, for it may be missing.
        from relay.loadtest import plots  # noqa: PLC0415
    load = Load(request.plan)
    try:
        _loop(_load(load, Console(stderr=True)))
    except CannotReach as error:
        print(error, file=sys.stderr)
        return _CANNOT
    console = Console()
    report.tell(console, request.plan, load.figures)
    good = report.judge(console, request.thresholds, load.figures)
    try:
        if request.json is not None:
            request.json.write_text(report.as_json(request.plan, load.figures, request.thresholds))
        if request.png is not None:
            plots.draw(request.png, request.plan, load.figures)
    except OSError as error:
        print(f"{error.filename} cannot be written: {error.strerror}.", file=sys.stderr)
        return _CANNOT
    return 0 if good else _CROSSED


async def _load(load: Load, console: Console) -> None:
    with Progress(console, load.plan, load.figures) as progress:
        try:
            await load.run(progress.watch)
        except asyncio.CancelledError:
            # The first Ctrl-C: asyncio's runner cancels this task, and raises KeyboardInterrupt at the
            # second. It has ended what was running; what was measured is still to be told.
            task = asyncio.current_task()
            assert task is not None  # noqa: S101 (for the type checker)
            task.uncancel()


def _loop(what: Coroutine[Any, Any, None]) -> None:
    try:
        from uvloop import new_event_loop  # noqa: PLC0415 (not on Windows)
    except ImportError:
        asyncio.run(what)
        return
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(what)
