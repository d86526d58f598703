"""One run of the program: arguments in, an answer and an exit status out."""

import errno
import os
import signal
import sys
from collections.abc import Callable
from contextlib import closing
from functools import partial
from io import TextIOWrapper
from types import FrameType
from typing import Final

from rich.console import Console
from rich.text import Text

from relay.cli import arguments
from relay.cli.arguments import Request
from relay.cli.escapes import visible
from relay.cli.view import PlainView, TerminalView, View
from relay.cli.words import Words, in_language_of
from relay.client import Error, FinalEnd, Lost, Refused, Unreachable, ask_sync
from relay.errors import Code

_FAILED: Final = 1
_NOT_ASKED: Final = 3
_BY_SIGNAL: Final = 128  # and its number, as a shell says it
_BROKEN_PIPE: Final = 13  # SIGPIPE, which Windows does not have


def run(given: list[str] | None = None) -> int:
    """Ask what the command line says, and show the answer; return the exit status.

    0: the answer is whole. 1: it failed. 2: what was given cannot be asked. 3: the relay refused it, or
    is not there. Above 128: a signal, or nobody reads the output.
    """
    words = in_language_of(os.environ)
    notes = Console(stderr=True, highlight=False)
    try:
        try:
            return _run(given, notes, words)
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # now, when it can still be told
    except KeyboardInterrupt:
        notes.print(Text(words.interrupted, style="dim"))
        return _BY_SIGNAL + signal.SIGINT
    except OSError as error:  # of standard output, or of standard error
        _drop_output()
        if error.errno not in (errno.EPIPE, errno.EIO):
            _say(notes, words.not_written.format(why=error.strerror))
            return _FAILED
        return _BY_SIGNAL + _BROKEN_PIPE


def _run(given: list[str] | None, notes: Console, words: Words) -> int:
    _take_signals()
    stdin = None if sys.stdin is None or sys.stdin.isatty() else sys.stdin.buffer
    request = arguments.read(given, os.environ, stdin, words)
    if request is None:
        return 0
    if sys.stdout is None:  # closed
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    if isinstance(sys.stdout, TextIOWrapper):  # a terminal that lacks a sign shows another
        sys.stdout.reconfigure(errors="replace")
    terminal = sys.stdout.isatty()
    console = Console(force_terminal=terminal, highlight=False)
    view: View
    if terminal and not console.is_dumb_terminal and not request.plain:
        view = TerminalView(words, console)
    else:
        encoding = console.encoding if terminal else None
        view = PlainView(words, sys.stdout.buffer, notes, terminal=encoding)
    return _ask(request, view, partial(_say, notes), words)


def _ask(request: Request, view: View, say: Callable[[str], None], words: Words) -> int:
    events = ask_sync(
        request.url,
        request.question,
        key=request.key,
        workspace=request.workspace,
        session_id=request.session,
        mode=request.mode,
        reasoning="separate",
        on_lost=view.lost,
    )
    error: Error | None = None
    reason = ""
    try:
        with closing(events), view:  # the terminal first: the relay may take a moment
            for event in events:
                view.show(event)
                if isinstance(event, Error):
                    error = event
                elif isinstance(event, FinalEnd):
                    reason = event.reason
    except Unreachable as why:
        say(words.unreachable.format(why=why))
        say(words.start_it)
        return _NOT_ASKED
    except Refused as refused:
        say(words.refused.format(message=refused, code=refused.code or refused.status))
        if refused.code == Code.UNAUTHORIZED:
            say(words.needs_key if request.key is None else words.wrong_key)
        return _NOT_ASKED
    except Lost as why:
        say(words.broken_off.format(why=why))
        return _FAILED
    if error is not None:
        say(words.failed.format(message=error.message, code=error.code))
    elif reason != "complete":
        say(words.stopped)
    return 0 if reason == "complete" else _FAILED


def _say(notes: Console, text: str) -> None:
    """Tell what went wrong."""
    notes.print(Text(visible(text), style="red"), soft_wrap=not notes.is_terminal)


def _take_signals() -> None:
    """Have what ends the program end its answer too; what is ignored (nohup) stays so."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _end)


def _end(number: int, _: FrameType | None) -> None:
    sys.exit(_BY_SIGNAL + number)


def _drop_output() -> None:
    """Leave nothing for Python to write when it ends: it would complain that it cannot."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
