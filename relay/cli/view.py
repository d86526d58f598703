"""How an answer is shown: as it was sent, or laid out on a terminal while it arrives."""

from abc import ABC, abstractmethod
from threading import Lock
from types import TracebackType
from typing import Any, BinaryIO, Final, Self

from markdown_it import MarkdownIt
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.live import Live
from rich.markdown import Markdown
from rich.segment import Segment
from rich.text import Text

from relay.cli.blocks import Blocks
from relay.cli.escapes import visible
from relay.cli.words import Words
from relay.client import AnyEvent, Chunk, FinalEnd, Output, Reasoning, Thought

_REDRAWS: Final = 8  # a second, at most
_ASIDE: Final = "dim"


class View(ABC):
    """Shows events; a context, so that a terminal is left as it was found."""

    def __init__(self, words: Words) -> None:
        self._words = words

    def show(self, event: AnyEvent) -> None:
        """Show what a reader wants to see of an event; a failure is told by others, at the end."""
        match event:
            case Chunk(content):
                self._answer(content)
            case Reasoning(content):
                self._aside(content)
            case Thought(content):
                self._aside_line(content)
            case Output(kind, content):
                self._aside_line(self._words.output.format(kind=kind, name=_name(content)))
            case FinalEnd(sources=sources):
                if lines := _sources(sources):
                    self._aside_line("\n".join([self._words.sources, *lines]))

    def lost(self) -> None:
        """Say that the connection is lost. May be called in another thread."""
        self._aside_line(self._words.lost)

    def __enter__(self) -> Self:
        return self

    @abstractmethod
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    @abstractmethod
    def _answer(self, text: str) -> None:
        """Show a piece of the answer."""

    @abstractmethod
    def _aside(self, text: str) -> None:
        """Show a piece of what is not the answer."""

    @abstractmethod
    def _aside_line(self, text: str) -> None:
        """Show what is not the answer and stands on lines of its own."""


class PlainView(View):
    """The answer goes out as it was sent, all else to standard error."""

    def __init__(self, words: Words, out: BinaryIO, notes: Console, *, terminal: bool) -> None:
        super().__init__(words)
        self._out = out
        self._notes = notes
        self._terminal = terminal  # else whoever reads it gets it to the byte
        self._line_open = False  # of the answer
        self._aside_open = False

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end_aside()
        self._end_line()

    def _answer(self, text: str) -> None:
        self._end_aside()
        self._out.write((visible(text) if self._terminal else text).encode())
        self._out.flush()
        self._line_open = not text.endswith("\n")

    def _aside(self, text: str) -> None:
        self._end_line()
        self._notes.print(Text(visible(text), style=_ASIDE), end="", soft_wrap=True)
        self._aside_open = not text.endswith("\n")

    def _aside_line(self, text: str) -> None:
        self._end_aside()
        self._aside(text.rstrip("\n") + "\n")

    def _end_line(self) -> None:
        if self._terminal and self._line_open:
            self._line_open = False
            self._out.write(b"\n")
            self._out.flush()

    def _end_aside(self) -> None:
        if self._aside_open:
            self._aside_open = False
            self._notes.print()


class TerminalView(View):
    """Markdown, laid out as it arrives.

    Blocks that are finished are printed and scroll away; only the unfinished one is drawn again, and
    of that no more than fits on the screen.
    """

    def __init__(self, words: Words, console: Console) -> None:
        super().__init__(words)
        self._console = console
        self._lock = Lock()  # another thread draws
        self._blocks = Blocks()
        self._asides = ""  # the unfinished line of what is not the answer
        self._printed = False
        self._live = Live(self, console=console, refresh_per_second=_REDRAWS, transient=True)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw what is unfinished, its end if all of it does not fit."""
        width, height = console.size
        with self._lock:
            asides, text = self._asides[-width * height :], self._blocks.tail(width * height)
        shown: RenderableType = Text(asides, style=_ASIDE) if asides else _Laid(text)
        lines = console.render_lines(shown, options.update(height=None), pad=False)
        for line in lines[-max(1, height - 2) :]:
            yield from line
            yield Segment.line()

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._finish()
        self._live.stop()

    def _answer(self, text: str) -> None:
        self._end_aside()
        with self._lock:
            finished = self._blocks.feed(visible(text))
        for block in finished:
            self._print(_Laid(block))

    def _aside(self, text: str) -> None:
        self._finish_block()
        with self._lock:
            whole, _, self._asides = (self._asides + visible(text)).rpartition("\n")
        if whole:
            self._print(Text(whole, style=_ASIDE))

    def _aside_line(self, text: str) -> None:
        self._end_aside()
        self._aside(text.rstrip("\n") + "\n")

    def _finish(self) -> None:
        self._finish_block()
        self._end_aside()

    def _finish_block(self) -> None:
        with self._lock:
            rest = self._blocks.end()
        if rest.strip():
            self._print(_Laid(rest))

    def _end_aside(self) -> None:
        with self._lock:
            rest, self._asides = self._asides, ""
        if rest:
            self._print(Text(rest, style=_ASIDE))

    def _print(self, what: RenderableType) -> None:
        if self._printed:
            self._console.print()
        self._printed = True
        self._console.print(what)


class _Laid(Markdown):
    """Markdown of which nothing is hidden: no HTML is left out, no link has its address behind it."""

    def __init__(self, text: str) -> None:
        super().__init__("", code_theme="ansi_dark", hyperlinks=False)
        parser = MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"])
        self.parsed = parser.disable("reference").parse(text)


def _name(content: dict[str, Any]) -> str:
    """What a person knows a thing by that an agent made."""
    found = (content.get(name) for name in ("filename", "title", "name"))
    return next((visible(name) for name in found if isinstance(name, str)), "")


def _sources(sources: list[dict[str, Any]]) -> list[str]:
    """Each document once, though several parts of it may have been used."""
    told = (
        "  ".join(str(source[name]) for name in ("title", "url") if source.get(name))
        for source in sources
    )
    return [f"  {line}" for line in dict.fromkeys(told) if line]


def choose(words: Words, console: Console, out: BinaryIO, notes: Console, *, plain: bool) -> View:
    """Return what suits standard output."""
    if console.is_terminal and not console.is_dumb_terminal and not plain:
        return TerminalView(words, console)
    return PlainView(words, out, notes, terminal=console.is_terminal)
