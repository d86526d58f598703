"""Listens to all that a relay tells while tests run, for the secrets that it holds."""

import asyncio
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from config.settings import Settings
from relay import keys
from relay.connections import Connection

# What is shorter is found in ordinary words.
_SHORTEST = 8
_LOGGERS = ("relay", "config", "aiohttp", "asyncio")


class Canary(logging.Handler):
    """Remembers the secrets of every relay of a test, and what was told while it had them."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter("%(name)s %(message)s %(fields)s", defaults={"fields": ""}))
        self._secrets: set[bytes] = set()
        self.told: list[bytes] = []

    def guard(self, settings: Settings) -> None:
        """Listen for the secrets of these settings from now on."""
        secrets = [settings.anythingllm_api_key, *settings.relay_api_keys]
        words = [secret.get_secret_value() for secret in secrets]
        if settings.relay_api_keys_file is not None:
            words += keys.read(settings.relay_api_keys_file)
        self.guard_words(*words)

    def guard_words(self, *secrets: str) -> None:
        """Listen for these from now on."""
        self._secrets |= {word.encode() for word in secrets if len(word) >= _SHORTEST}

    def emit(self, record: logging.LogRecord) -> None:
        """Take down a log line, with its traceback."""
        self.hear(self.format(record).encode("utf-8", "replace"))

    def hear(self, data: bytes) -> None:
        """Take down what was told if there is a secret in it."""
        if any(secret in data for secret in self._secrets):
            self.told.append(data[:2000])


class _Wire:
    """All that one connection of a relay sends: a secret may be cut in two by its writes."""

    def __init__(self, canary: Canary, transport: asyncio.Transport) -> None:
        self._canary, self._write, self._writelines = canary, transport.write, transport.writelines
        self._last = b""

    def write(self, data: Any) -> None:
        self._hear(bytes(data))
        self._write(data)

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        parts = list(list_of_data)
        self._hear(b"".join(bytes(part) for part in parts))
        self._writelines(parts)

    def _hear(self, data: bytes) -> None:
        self._canary.hear(self._last + data)
        self._last = (self._last + data)[-100:]


@contextmanager
def listening() -> Iterator[Canary]:
    """Listen to the logs, at every level, and to every connection of the relays of this process."""
    canary = Canary()
    made = Connection.connection_made

    def connection_made(connection: Connection, transport: asyncio.Transport) -> None:
        wire = _Wire(canary, transport)
        transport.write = wire.write  # type: ignore[method-assign]
        transport.writelines = wire.writelines  # type: ignore[method-assign]
        made(connection, transport)

    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    root = logging.getLogger()
    root.addHandler(canary)
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.DEBUG)
    try:
        with patch.object(Connection, "connection_made", connection_made):
            yield canary
    finally:
        root.removeHandler(canary)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
