"""A limit on silence."""

import asyncio

import pytest

from relay.silence import Silence

SOON, LATER, NEVER = 0.05, 0.15, 3600.0


async def wait(seconds: float | None, *then: float | None) -> float:
    """Wait for ever under a limit that is moved at once; return when it ended that."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(TimeoutError):
        async with Silence(seconds) as silence:
            for allowed in then:
                silence.allow(allowed)
            await loop.create_future()
    return loop.time() - began


@pytest.mark.parametrize(
    "limits",
    [(SOON,), (None, SOON), (NEVER, SOON), (NEVER, None, SOON), (SOON, None, SOON), (None, NEVER, SOON)],
)
async def test_the_last_limit_holds(limits: tuple[float | None, ...]) -> None:
    """Whether it is longer or shorter than the one before, or there was none."""
    assert await wait(*limits) >= SOON


async def test_a_limit_that_was_moved_on_does_not_hold_any_more() -> None:
    assert await wait(SOON, LATER) >= LATER


async def test_it_is_moved_on_again_and_again() -> None:
    async with Silence(LATER) as silence:
        for _ in range(10):
            await asyncio.sleep(LATER / 5)
            silence.allow(LATER)


async def test_without_a_limit_there_is_none() -> None:
    async with Silence(SOON) as silence:
        silence.allow(None)
        await asyncio.sleep(LATER)


async def test_a_cancellation_is_none_of_its_own() -> None:
    async def waiting() -> None:
        async with Silence(NEVER):
            await asyncio.get_running_loop().create_future()

    task = asyncio.create_task(waiting())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_nothing_is_left_of_it() -> None:
    """No timer that would cancel its task later."""
    async with Silence(SOON):
        pass
    await asyncio.sleep(LATER)
