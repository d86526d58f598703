"""What lies between a producer and its one reader."""

import asyncio

from relay.pipe import Pipe

KIB = 1024


async def test_what_was_appended_is_read_at_once_and_once() -> None:
    pipe = Pipe()
    await pipe.append([b"a", b"b"])
    await pipe.append([b"c"])
    assert await pipe.read() == b"abc"
    reading = asyncio.create_task(pipe.read())
    await asyncio.sleep(0)
    assert not reading.done()
    await pipe.append([b"d"])
    assert await reading == b"d"


async def test_the_end_comes_after_all_else_and_again() -> None:
    pipe = Pipe()
    await pipe.append([b"a"])
    await pipe.end()
    assert not pipe.drained
    assert [await pipe.read() for _ in range(3)] == [b"a", b"", b""]
    assert pipe.drained


async def test_the_end_wakes_a_reader() -> None:
    pipe = Pipe()
    reading = asyncio.create_task(pipe.read())
    await asyncio.sleep(0)
    await pipe.end()
    assert await reading == b""


async def test_who_appends_waits_once_32_kib_wait() -> None:
    pipe = Pipe()
    for _ in range(32):
        await pipe.append([bytes(KIB)])
    appending = asyncio.create_task(pipe.append([b"x"]))
    await asyncio.sleep(0.01)
    assert not appending.done()
    assert len(await pipe.read()) == 32 * KIB + 1
    await appending


async def test_a_cancelled_read_loses_nothing() -> None:
    pipe = Pipe()
    reading = asyncio.create_task(pipe.read())
    await asyncio.sleep(0)
    await pipe.append([b"a"])
    reading.cancel()
    await asyncio.wait([reading])
    assert await pipe.read() == b"a"
