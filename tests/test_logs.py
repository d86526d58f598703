"""The log: one line each, for people or for machines."""

import asyncio
import io
import json
import logging
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from relay import logs
from tests.canary import Canary

ENDED = {"id": "abc", "outcome": "complete", "first_event_s": None}


@pytest.fixture(autouse=True)
def _log_as_before(canary: Canary) -> Iterator[None]:
    logging.getLogger("relay").setLevel(logging.NOTSET)  # as in a program, where no canary listens
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def log() -> logging.Logger:
    return logging.getLogger("relay.somewhere")


def told(capsys: pytest.CaptureFixture[str]) -> str:
    """What was logged: on standard error, and nothing on standard output."""
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def test_text_line(log: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    """A text line has the time, the level, the message and the fields; `-` stands for none."""
    logs.configure("info", "text")
    log.info("stream %s", "ended", extra={"fields": ENDED})
    line = told(capsys)
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO    stream ended ", line)
    assert line.endswith(" id=abc outcome=complete first_event_s=-\n")


def test_json_line(log: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    """A JSON line is one object with the same fields; its time is UTC."""
    logs.configure("info", "json")
    log.info("stream %s", "ended", extra={"fields": ENDED})
    line = json.loads(told(capsys))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
    time = datetime.fromisoformat(line.pop("time"))
    assert abs(datetime.now(UTC) - time) < timedelta(minutes=5)
    assert line == {"level": "info", "message": "stream ended", **ENDED}


def test_json_is_one_line(log: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    """Line breaks in a message, and a traceback, stay within the one line; letters stay letters."""
    logs.configure("info", "json")
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        log.exception("größer\nals")
    text = told(capsys)
    assert text.count("\n") == 1
    assert "größer" in text
    line = json.loads(text)
    assert (line["level"], line["message"]) == ("error", "größer\nals")
    assert line["exception"].startswith("Traceback")
    assert line["exception"].endswith("ValueError: first\nsecond")


def test_text_traceback(log: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    """A fault of ours has its traceback in the text log, below its line with its fields."""
    logs.configure("info", "text")
    try:
        raise ValueError("why")
    except ValueError:
        log.exception("failed", extra={"fields": {"id": "abc"}})
    lines = told(capsys).splitlines()
    assert lines[0].endswith("ERROR   failed id=abc")
    assert lines[-1].endswith("ValueError: why")


@pytest.mark.parametrize("form", ["text", "json"])
def test_level(form: str, log: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    """What is below the level is not told; what is at it is."""
    logs.configure("warning", "json" if form == "json" else "text")
    log.info("small")
    log.warning("great")
    text = told(capsys)
    assert "small" not in text
    assert "great" in text


def test_libraries_are_told_alike(capsys: pytest.CaptureFixture[str]) -> None:
    """A library's warning is a line of the same form."""
    logs.configure("info", "json")
    logging.getLogger("asyncio").warning("slow")
    assert json.loads(told(capsys))["message"] == "slow"


def test_configured_twice(log: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    """The last form counts, and nothing is told twice."""
    logs.configure("info", "text")
    logs.configure("info", "json")
    log.info("once")
    assert json.loads(told(capsys))["message"] == "once"


def test_servers_own_fault(capsys: pytest.CaptureFixture[str]) -> None:
    """What is no mistake of a client keeps its level and its traceback."""
    logs.configure("info", "text")
    try:
        raise ValueError("why")
    except ValueError:
        logging.getLogger("aiohttp.server").exception("Unhandled exception")
    text = told(capsys)
    assert "ERROR   Unhandled exception" in text
    assert "ValueError: why" in text


def test_json_takes_what_no_utf8_can_hold(log: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a surrogate pair may be in what broke; the line must be told all the same."""
    stderr = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace")  # as it is
    monkeypatch.setattr(sys, "stderr", stderr)
    logs.configure("info", "json")
    try:
        raise ValueError("\ud83d")
    except ValueError:
        log.exception("failed", extra={"fields": {"id": "abc"}})
    stderr.seek(0)
    line = json.loads(stderr.read())
    assert (line["id"], line["exception"].splitlines()[-1]) == ("abc", "ValueError: \ud83d")


async def test_lines_of_a_moment_are_written_together(
    log: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    """In their order, and no later than that; a warning takes along what was said before it."""
    logs.configure("info", "text")
    log.info("one")
    log.info("two")
    assert told(capsys) == ""
    lines = ""
    while lines.count("\n") < 2:
        await asyncio.sleep(0.01)
        lines += told(capsys)
    assert lines.index("one") < lines.index("two")
    log.info("three")
    log.warning("four")
    lines = told(capsys)
    assert lines.index("three") < lines.index("four")


async def test_a_line_that_cannot_be_made_takes_no_other_along(
    log: logging.Logger, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    logs.configure("info", "text")
    log.info("before")
    log.info("%d", "no number")
    log.info("after")
    logging.getLogger().handlers[0].flush()
    lines = told(capsys).splitlines()
    assert [line.rpartition(" ")[2] for line in lines] == ["before", "after"]


class Unread(io.StringIO):
    """A pipe whose reader is gone."""

    def write(self, _: str) -> int:
        raise BrokenPipeError


@pytest.mark.parametrize("level", [logging.INFO, logging.ERROR])
async def test_a_log_that_nobody_reads_stops_nothing(
    log: logging.Logger, level: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", Unread())
    logs.configure("info", "text")
    log.log(level, "said to nobody")
    logging.getLogger().handlers[0].flush()


class Writes(io.StringIO):
    """Remembers what was written at once."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[bytes] = []

    def write(self, text: str) -> int:
        self.pieces.append(text.encode())
        return len(text)


async def test_lines_of_several_processes_do_not_mix(
    log: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole lines are written at once, as many as a pipe takes without another's between them."""
    writes = Writes()
    monkeypatch.setattr(sys, "stderr", writes)
    logs.configure("info", "text")
    for number in range(200):
        log.info("line %s %s", number, "\u00e9" * 100)
    log.warning("%s", "x" * 10_000)  # a line by itself, however long
    *some, last = writes.pieces
    assert all(len(piece) <= 4096 and piece.endswith(b"\n") for piece in some)
    assert len(some) < 20
    assert len(last) > 10_000
    assert b"".join(writes.pieces).count(b"\n") == 201
