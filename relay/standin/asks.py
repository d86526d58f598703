"""What the stand-in was asked: where a test looks."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

NEWEST: Final = 10_000

Outcome = Literal["open", "complete", "left", "died"]


@dataclass(slots=True, eq=False, kw_only=True)
class Ask:
    """One stream-chat request and what has become of it."""

    workspace: str
    thread: str | None
    body: dict[str, Any]
    headers: Mapping[str, str]
    connection: int
    """The number of its TCP connection, from 1 in order of accept."""
    outcome: Outcome = "open"
    """"left": the client closed before the end. "died": the stand-in did."""
    frames: int = 0
    """Frames written so far."""
    first_frame: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    when_left: float | None = None
    """When the leaving was noticed, in the time of the event loop."""

    def count(self, frames: int) -> None:
        """Note that frames were written."""
        self.frames += frames
        self.first_frame.set()

    def close(self, outcome: Outcome) -> None:
        """Note how it ended; the first outcome stays."""
        if self.outcome == "open":
            self.outcome = outcome
            if outcome == "left":
                self.when_left = asyncio.get_running_loop().time()
        self.ended.set()


class Asks:
    """The newest asks: a list of all that are kept, and a queue of those not yet looked at."""

    def __init__(self) -> None:
        self.all: list[Ask] = []
        self._unseen: asyncio.Queue[Ask] = asyncio.Queue(NEWEST)

    def add(self, ask: Ask) -> None:
        """Keep an ask and let go of the oldest."""
        del self.all[: max(0, len(self.all) + 1 - NEWEST)]
        self.all.append(ask)
        if self._unseen.full():
            self._unseen.get_nowait()
        self._unseen.put_nowait(ask)

    async def next(self) -> Ask:
        """Wait for the oldest ask this has not returned yet."""
        return await self._unseen.get()
