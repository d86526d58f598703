"""The command line, read into a plan and into what is to be told of it."""

import argparse
import math
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from getpass import getpass
from pathlib import Path
from typing import Final, NoReturn
from urllib.parse import urlsplit

from relay.loadtest import questions
from relay.loadtest.client import MOST_CHUNKS
from relay.loadtest.plan import Plan
from relay.loadtest.thresholds import BadThreshold, Threshold, parse
from relay.sockets import raise_descriptor_limit

KEY_VARIABLE: Final = "LOADTEST_KEY"
_SECONDS: Final = 10.0  # a test that is given no end
_SPARE_DESCRIPTORS: Final = 64  # event loop, terminal, names, files
_EPILOG: Final = f"""\
The key, where the server wants one, is read from the environment variable {KEY_VARIABLE} or with
--key-file, for a command line can be read by every user of the machine. It is never printed.

What is measured (docs/loadtest.md has more):
  ttfc   from the question to the first chunk of its answer; with --pace from the moment at which
         the question was due, also if all streams were busy then
  gap    from a read that brought chunks to the next one that did: what comes together counts once
  total  from the same moment as ttfc to final_end, of answers that are complete
  lag    how late this program itself was; where it is not far below the others, they are its own

Metrics for --fail-on: ttfc, gap, total and lag, each with _p50, _p90, _p99, _p999 or _max (ms, s);
errors; error_share (%); unasked; answers_per_s, chunks_per_s, bytes_per_s.

Exit status: 0; 1 when a threshold is crossed, or after a second Ctrl-C; 2 for bad arguments, or a
server that cannot be reached. The first Ctrl-C ends the test, and tells what was measured.
"""


@dataclass(frozen=True, slots=True)
class Request:
    """What one run of the program is asked for."""

    plan: Plan
    thresholds: tuple[Threshold, ...]
    json: Path | None
    png: Path | None


def read(arguments: list[str] | None, environment: Mapping[str, str]) -> Request:
    """Return what is asked for; exits with status 2 and one line for what cannot be done."""
    reading = parser()
    given = reading.parse_args(arguments)
    try:
        key = _key(given.key_file, environment)
        bodies = questions.read(given.questions) if given.questions else [questions.BUILT_IN]
    except (questions.BadQuestions, _BadKey) as error:
        _refuse(reading, str(error))
    needed, limit = given.streams + _SPARE_DESCRIPTORS, raise_descriptor_limit()
    if limit is not None and limit < needed:
        _refuse(
            reading,
            f"{given.streams} streams need {needed} open files, and this process may have {limit}: "
            "raise its limit (ulimit -n), or ask for fewer --streams.",
        )
    endless = given.duration is None and given.count is None
    plan = Plan(
        url=given.url,
        streams=given.streams,
        bodies=bodies,
        ramp=given.ramp,
        pace=given.pace,
        seconds=_SECONDS if endless else given.duration,
        count=given.count,
        leave=given.leave,
        timeout=given.timeout,
        key=key,
    )
    return Request(plan, tuple(given.fail_on), given.json, given.png)


class _Parser(argparse.ArgumentParser):
    """Tells what is wrong in one line, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        _refuse(self, message)


def _refuse(parser: argparse.ArgumentParser, message: str) -> NoReturn:
    parser.exit(2, f"{parser.prog}: {message}\n")


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    made = _Parser(
        prog="python -m relay.loadtest",
        description="Asks many questions at once, and measures how the answers come.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("url", type=_url, help="where to POST, e.g. http://localhost:5000/stream-ask")
    add = made.add_argument
    add("--streams", type=_whole, default=10, metavar="N", help="questions open at once (10)")
    add("--ramp", type=_seconds, default=0.0, metavar="S", help="seconds until all streams run (0)")
    add(
        "--pace",
        type=_positive,
        metavar="N",
        help="new questions a second in all; without it, a stream asks again when its answer ends",
    )
    add(
        "--duration",
        type=_positive,
        metavar="S",
        help=f"seconds to go on asking; then open streams are closed ({_SECONDS:.0f}, without --count)",
    )
    add("--count", type=_whole, metavar="N", help="questions in all; each is read to its end")
    add(
        "--questions",
        type=Path,
        metavar="FILE",
        help="a question a line; in a file named .jsonl, a whole request body a line",
    )
    add(
        "--leave",
        type=_share,
        default=0.0,
        metavar="SHARE",
        help=f"share of clients, 0 to 1, that leave after 1 to {MOST_CHUNKS} chunks (0)",
    )
    add("--timeout", type=_positive, default=120.0, metavar="S", help="seconds without an event (120)")
    add("--key-file", metavar="FILE", help="a file whose first line is the key; -: ask for it")
    add("--json", type=_output, metavar="FILE", help="write all figures there")
    add("--png", type=_output, metavar="FILE", help="draw them there")
    add(
        "--fail-on",
        type=_threshold,
        action="append",
        default=[],
        metavar="THRESHOLD",
        help='e.g. "ttfc_p99>2s" or "error_share>1%%"; may be given several times',
    )
    return made


class _BadKey(Exception):
    """There is no key where one should be; the text is one line for a person."""


def _key(file: str | None, environment: Mapping[str, str]) -> str | None:
    source = KEY_VARIABLE
    key = environment.get(KEY_VARIABLE)
    if file == "-":
        source, key = "What was typed", _typed()
    elif file is not None:
        source = file
        try:
            key = Path(file).read_text(encoding="utf-8").partition("\n")[0].strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise _BadKey(f"{file} cannot be read: {why}.") from None
    if key is not None and not (key.isascii() and key.isprintable() and key.strip()):
        raise _BadKey(f"{source} holds no key: it must be visible ASCII characters.")
    return key


def _typed() -> str:
    """Without an echo at a terminal; else the first line of what comes in."""
    return getpass("Key: ") if sys.stdin.isatty() else sys.stdin.readline().strip()


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{text} is no number")
    return number


def _checked(good: Callable[[float], bool], wanted: str) -> Callable[[str], float]:
    def read(text: str) -> float:
        number = _number(text)
        if not good(number):
            raise argparse.ArgumentTypeError(f"{text} is not {wanted}")
        return number

    return read


_positive = _checked(lambda number: number > 0, "above 0")
_seconds = _checked(lambda number: number >= 0, "0 or above")
_share = _checked(lambda number: 0 <= number <= 1, "between 0 and 1")


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > 9 or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1 on")
    return int(text)


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise argparse.ArgumentTypeError(f"{text} is no address like http://localhost:5000/stream-ask")
    if "@" in parts.netloc:
        raise argparse.ArgumentTypeError("no password belongs in the address")
    return text


def _output(text: str) -> Path:
    """Seen before the test, not after it."""
    path = Path(text)
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text} cannot be written")
    return path


def _threshold(text: str) -> Threshold:
    try:
        return parse(text)
    except BadThreshold as error:
        raise argparse.ArgumentTypeError(str(error)) from None
