"""Log lines, for people (text) or for machines (json), on standard error."""

import json
import logging
import time
from typing import Final, Literal

_TEXT: Final = "%(asctime)s %(levelname)-7s %(message)s"


def configure(level: str, form: Literal["text", "json"]) -> None:
    """Send the log of the whole program to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonLines() if form == "json" else _TextLines(_TEXT))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


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
