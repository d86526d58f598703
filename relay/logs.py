"""Log lines, for people (text) or for machines (json), on standard error."""

import json
import logging
import time
from typing import Final, Literal

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

_TEXT: Final = "%(asctime)s %(levelname)-7s %(message)s"


def configure(level: str, form: Literal["text", "json"]) -> None:
    """Send the log of the whole program to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonLines() if form == "json" else _TextLines(_TEXT))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("aiohttp.server").addFilter(_shorten_malformed)


def _shorten_malformed(record: logging.LogRecord) -> bool:
    """Make a malformed request a line: no traceback, and none of its bytes, which may hold a key."""
    error = record.exc_info[1] if record.exc_info else None
    if not isinstance(error, HttpProcessingError | web.RequestPayloadError):
        return True
    record.levelno = min(record.levelno, logging.INFO)
    record.levelname = logging.getLevelName(record.levelno)
    record.msg, record.args = "a malformed request was refused", ()
    record.exc_info = record.exc_text = None
    return logging.getLogger(record.name).isEnabledFor(record.levelno)


class _TextLines(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's name)
        fields = getattr(record, "fields", {})
        told = "".join(f" {name}={'-' if value is None else value}" for name, value in fields.items())
        return super().formatMessage(record) + told


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)
