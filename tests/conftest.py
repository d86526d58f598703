"""What the tests stand on: relay and stand-in on real sockets, and a check that nothing is left."""

import asyncio
import inspect
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import hypothesis
import pytest

from relay.standin import StandIn
from tests.canary import Canary, listening
from tests.redis_server import PROGRAM, RedisServer
from tests.running import Relay, settings

# Its default fails an example that takes 200 ms, as any may on a machine that others use too.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")


def _open_sockets() -> set[str]:
    """The sockets of this process, where the system can tell (Linux)."""
    found: set[str] = set()
    try:
        descriptors = os.listdir("/proc/self/fd")
    except OSError:
        return found
    for descriptor in descriptors:
        try:
            target = os.readlink(f"/proc/self/fd/{descriptor}")
        except OSError:
            continue  # the one that listed the folder
        if target.startswith("socket:"):
            found.add(target)
    return found


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the check around every test that has an event loop."""
    for item in items:
        if not isinstance(item, pytest.Function) or not inspect.iscoroutinefunction(item.function):
            continue
        if "nothing_left_over" not in item.fixturenames:
            item.fixturenames.insert(0, "nothing_left_over")


@pytest.fixture(autouse=True)
def canary() -> Iterator[Canary]:
    """Fail the test if its relays tell a secret, in a log line, a refusal, an event or a header."""
    with listening() as canary:
        yield canary
    assert canary.told == []


@pytest.fixture
async def nothing_left_over() -> AsyncIterator[None]:
    """Fail the test if it leaves a task or a socket behind."""
    tasks, sockets = asyncio.all_tasks(), _open_sockets()

    def left() -> set[object]:
        running = asyncio.all_tasks() - tasks - {asyncio.current_task()}
        return {*running, *(_open_sockets() - sockets)}

    yield
    for _ in range(500):  # closing a transport takes a turn of the loop or a few
        if not left():
            break
        await asyncio.sleep(0.01)
    assert not left()


@pytest.fixture
async def standin(nothing_left_over: None) -> AsyncIterator[StandIn]:
    """An AnythingLLM without a model, which answers as fast as it can."""
    async with StandIn(pace=0) as standin:
        yield standin


@pytest.fixture
async def redis(nothing_left_over: None) -> AsyncIterator[RedisServer]:
    """A Redis of its own."""
    if PROGRAM is None:
        pytest.skip("redis-server is not here")
    async with RedisServer() as server:
        yield server


StartRelay = Callable[..., Awaitable[Relay]]


@pytest.fixture
async def start_relay(standin: StandIn, canary: Canary) -> AsyncIterator[StartRelay]:
    """Start relays in front of the stand-in; keyword arguments are settings in lower case."""
    async with AsyncExitStack() as stack:

        async def start(*, send_buffer: int | None = None, **changes: Any) -> Relay:
            given = {"anythingllm_base_url": standin.url, **changes}
            relay = Relay(settings(**given), send_buffer)
            canary.guard(relay.settings)
            return await stack.enter_async_context(relay)

        yield start


@pytest.fixture
async def relay(start_relay: StartRelay) -> Relay:
    """A relay with the settings of a newcomer."""
    return await start_relay()
