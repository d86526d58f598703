"""Log lines, for people (text) or for machines (json), on standard error."""

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal, TextIO

from pythonjsonlogger.json import JsonFormatter

# Seconds for which lines are kept, to be written together, and how many at most.
_MOMENT: Final = 0.1
_MOST: Final = 1000
# Bytes that a pipe takes at once: what another process writes comes before or behind them, not between.
_PIECE: Final = 4096


def configure(level: str, form: Literal["text", "json"]) -> None:
    """Send the log of the whole program to standard error.

    What is said while an event loop runs is written within a tenth of a second; from a warning on, at
    once.
    """
    handler = _Gathering()
    handler.setFormatter(_JsonLines() if form == "json" else _TextLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # None of these is in a line, and there is one for each answer.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = ""  # where the call was made (logging, "Optimization")


class _Gathering(logging.StreamHandler[TextIO]):
    """Writes what was said within a short time together: a line by itself costs three times as much."""

    def __init__(self) -> None:
        super().__init__()
        self._said: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it for a moment, if there is something that ends the moment."""
        self._said.append(record)
        if record.levelno >= logging.WARNING or len(self._said) >= _MOST:
            self.flush()
        elif len(self._said) == 1:
            try:
                asyncio.get_running_loop().call_later(_MOMENT, self.flush)
            except RuntimeError:  # no loop runs
                self.flush()

    def flush(self) -> None:
        """Write what was said."""
        self.acquire()
        try:
            said, self._said = self._said, []
            for lines in _pieces(map(self._line, said)):
                self.stream.write(lines)
                super().flush()
        except (OSError, ValueError):
            pass  # nobody reads the log any more, or the disk is full: no reason to stop serving
        finally:
            self.release()

    def _line(self, record: logging.LogRecord) -> str:
        try:
            return f"{self.format(record)}\n"
        except Exception:
            self.handleError(record)
            return ""


def _pieces(lines: Iterable[str]) -> Iterator[str]:
    """Join lines as far as one write can take them."""
    piece, size = "", 0
    for line in lines:
        more = len(line.encode(errors="replace"))
        if piece and size + more > _PIECE:
            yield piece
            piece, size = "", 0
        piece += line
        size += more
    if piece:
        yield piece


class _TextLines(logging.Formatter):
    _second = 0
    _told = ""

    def format(self, record: logging.LogRecord) -> str:
        """Put a record into a line; what the library's own does beside that costs twice as much."""
        second = int(record.created)
        if second != self._second:
            self._second = second
            self._told = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
        line = f"{self._told},{int(record.msecs):03d} {record.levelname:7} {record.getMessage()}"
        for name, value in getattr(record, "fields", {}).items():
            line += f" {name}={'-' if value is None else value}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class _JsonLines(JsonFormatter):
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self) -> None:
        names = {"asctime": "time", "levelname": "level", "exc_info": "exception"}
        super().__init__(
            ["asctime", "levelname", "message"], rename_fields=names, json_ensure_ascii=False
        )
        self.converter = time.gmtime

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        """Have our fields beside the library's, not within one."""
        log_data["level"] = log_data["level"].lower()
        log_data |= log_data.pop("fields", {})
        return log_data
