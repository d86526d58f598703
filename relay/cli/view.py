"""How an answer is shown: as it was sent, or laid out on a terminal while it arrives."""

from abc import ABC, abstractmethod
from contextlib import suppress
from threading import Event, RLock, Thread
from typing import Any, BinaryIO, Final, Literal, Self

from markdown_it import MarkdownIt
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.markdown import Markdown
from rich.segment import Segment
from rich.text import Text

from relay.cli.blocks import Blocks
from relay.cli.escapes import visible
from relay.cli.words import Words
from relay.client import AnyEvent, Chunk, FinalEnd, Output, Reasoning, Thought

_PAUSE: Final = 0.1  # seconds between two drawings, at least
_PATIENCE: Final = 1.0  # seconds for a drawing that is under way
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
    def __exit__(self, *exc_info: object) -> None: ...

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

    def __init__(self, words: Words, out: BinaryIO, notes: Console, *, terminal: str | None) -> None:
        """Write to `out`: a terminal of this encoding, or what is to have it to the byte, in UTF-8."""
        super().__init__(words)
        self._out = out
        self._notes = notes
        self._terminal = terminal
        self._line_open = False  # of the answer
        self._aside_open = False

    def __exit__(self, *exc_info: object) -> None:
        self._end_aside()
        self._end_line()

    def _answer(self, text: str) -> None:
        self._end_aside()
        if self._terminal:
            self._out.write(visible(text).encode(self._terminal, "replace"))
        else:
            self._out.write(text.encode())
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
        self._blocks = Blocks()
        self._asides = ""  # the unfinished line of what is not the answer
        self._before: Literal["", "answer", "aside"] = ""  # what was printed last
        # Held by all that draws and changes: what is drawn must not change until it is on the terminal.
        self._lock = RLock()
        self._live = Live(self, console=console, auto_refresh=False, transient=True)
        self._changed = False
        self._over = Event()
        self._drawing = Thread(target=self._draw, name="relay.cli", daemon=True)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw what is unfinished, its end if all of it does not fit."""
        width, height = console.size
        shown: RenderableType
        if self._asides:
            shown = Text(self._asides[-width * height :], style=_ASIDE)
        else:
            shown = _Laid(self._blocks.tail(width * height))
        lines = console.render_lines(shown, options.update(height=None), pad=False)
        if lines and self._space(aside=bool(self._asides)):
            lines.insert(0, [])
        for line in lines[-max(1, height - 2) :]:
            yield from line
            yield Segment.line()

    def __enter__(self) -> Self:
        self._live.start()
        self._drawing.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._over.set()
        self._drawing.join(_PATIENCE)
        try:
            self._end_block()
            self._end_aside()
        finally:
            self._live.stop()

    def lost(self) -> None:
        """Say it above the block that is still drawn, which goes on."""
        with self._lock:
            self._print(Text(self._words.lost, style=_ASIDE))

    def _draw(self) -> None:
        """Draw what changed, a few times a second at most."""
        while not self._over.wait(_PAUSE):
            with self._lock, suppress(OSError):  # the other thread meets it too, and tells
                if self._changed:
                    self._changed = False
                    self._live.refresh()

    def _answer(self, text: str) -> None:
        with self._lock:
            self._end_aside()
            for block in self._blocks.feed(visible(text)):
                self._print(_Laid(block))
            self._changed = True

    def _aside(self, text: str) -> None:
        with self._lock:
            self._end_block()
            whole, _, self._asides = (self._asides + visible(text)).rpartition("\n")
            if whole:
                self._print(Text(whole, style=_ASIDE))
            self._changed = True

    def _aside_line(self, text: str) -> None:
        with self._lock:
            self._end_aside()
            self._aside(text.rstrip("\n") + "\n")

    def _end_block(self) -> None:
        rest = self._blocks.end()
        if rest.strip():
            self._print(_Laid(rest))

    def _end_aside(self) -> None:
        rest, self._asides = self._asides, ""
        if rest:
            self._print(Text(rest, style=_ASIDE))

    def _space(self, *, aside: bool) -> bool:
        """Whether an empty line comes before what is printed next."""
        return bool(self._before) and not (aside and self._before == "aside")

    def _print(self, what: RenderableType) -> None:
        aside = isinstance(what, Text)
        if self._space(aside=aside):
            what = Group("", what)
        self._before = "aside" if aside else "answer"
        self._console.print(what)


class _Laid(Markdown):
    """Markdown of which nothing is hidden: no HTML is left out, no link has its address behind it.

    And none of it is blanks that fill lines up: they would be copied from the terminal.
    """

    def __init__(self, text: str) -> None:
        super().__init__("", code_theme="ansi_dark", hyperlinks=False)
        parser = MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"])
        self.parsed = parser.disable(["reference", "image"]).parse(text)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Lay it out, without empty lines around it."""
        laid = super().__rich_console__(console, options)
        segments = (segment for segment in laid if isinstance(segment, Segment))  # it yields no others
        lines = [_trimmed(line) for line in Segment.split_lines(segments)]
        while lines and not lines[0]:
            del lines[0]
        while lines and not lines[-1]:
            del lines[-1]
        for line in lines:
            yield from line
            yield Segment.line()


def _trimmed(line: list[Segment]) -> list[Segment]:
    kept = list(line)
    while kept:
        text, style, _ = kept.pop()
        if text := text.rstrip():
            return [*kept, Segment(text, style)]
    return []


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
