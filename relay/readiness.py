"""Whether AnythingLLM would answer, for many who ask and few questions to it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from relay.errors import Code, RelayError

log = logging.getLogger(__name__)


class Readiness:
    """Knows whether AnythingLLM is up, and asks it when somebody wants to know.

    One probe runs at a time, and its result counts for all who ask within `counts` seconds. AnythingLLM
    counts tokens in its only thread, and answers nobody meanwhile: so a probe that is slow is no failure
    until the last sign of life is `alive_for` seconds old. `probe` raises RelayError, and must end by
    itself.
    """

    def __init__(
        self,
        probe: Callable[[], Awaitable[None]],
        *,
        counts: float = 1.0,
        prompt: float = 0.5,
        alive_for: float = 30.0,
    ) -> None:
        self._probe = probe
        self._counts = counts
        self._prompt = prompt
        self._alive_for = alive_for
        self._probing: asyncio.Task[None] | None = None
        self._again_at = 0.0
        self._alive_at: float | None = None
        self._failure: RelayError | None = None  # of the last probe, if nothing was good since
        self._told_up = True

    @property
    def up(self) -> bool | None:
        """Whether AnythingLLM is up, as far as that is known; None while it is not."""
        if self._alive_at is None and self._failure is None:
            return None
        return self._trouble() is None

    async def check(self) -> None:
        """Tell within `prompt` seconds what is known; wait for the probe where nothing is.

        Raises RelayError. Safe to cancel: the others are told all the same.
        """
        probing = self.ask()
        known = self._failure is not None or self._alive()
        await asyncio.wait([probing], timeout=self._prompt if known else None)
        if probing.done():
            probing.result()  # a fault of ours is raised here
        if (trouble := self._trouble()) is not None:
            raise trouble.with_traceback(None)  # it would grow with each who is told

    def ask(self) -> asyncio.Task[None]:
        """Have AnythingLLM asked if that was not done just now, without waiting for it."""
        probing = self._probing
        if probing is None or (probing.done() and asyncio.get_running_loop().time() >= self._again_at):
            probing = self._probing = asyncio.create_task(self._asked())
        return probing

    def alive(self, now: float) -> None:
        """Note a sign of life, by the event loop's clock: AnythingLLM answered, and took our key."""
        self._alive_at = now
        self._failure = None
        self._tell()

    async def close(self) -> None:
        """End the probe that runs."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.wait([self._probing])

    async def _asked(self) -> None:
        try:
            await self._probe()
        except RelayError as error:
            self._failure = error
            self._tell()
        else:
            self.alive(asyncio.get_running_loop().time())
        finally:
            self._again_at = asyncio.get_running_loop().time() + self._counts

    def _alive(self) -> bool:
        now = asyncio.get_running_loop().time()
        return self._alive_at is not None and now < self._alive_at + self._alive_for

    def _trouble(self) -> RelayError | None:
        slow = self._failure is not None and self._failure.code is Code.UPSTREAM_TIMEOUT
        return None if slow and self._alive() else self._failure

    def _tell(self) -> None:
        """Write into the log what has changed."""
        trouble = self._trouble()
        if self._told_up is (trouble is None):
            return
        self._told_up = trouble is None
        if trouble is None:
            log.info("AnythingLLM is ready again")
        else:
            fields = {"code": trouble.code, "why": trouble.message}
            log.warning("AnythingLLM is not ready", extra={"fields": fields})
