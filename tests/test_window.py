"""The newest events of a stream, for any number of readers."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.window import Budget, EventsGone, MemoryWindow, Span

KIB = 1024


def roomy() -> Budget:
    return Budget(10**9, lambda: False)


async def put(window: MemoryWindow, events: list[bytes]) -> None:
    """Put in what a stream would."""
    if not window.put(events):
        await window.room()


async def read_all(window: MemoryWindow, after: int) -> bytes:
    """Read to the end."""
    received = b""
    while True:
        after, data = await window.read(after)
        if not data:
            return received
        received += data


async def test_every_reader_has_its_own_place() -> None:
    window = MemoryWindow(KIB, roomy())
    await put(window, [b"a", b"b", b"c"])
    assert await window.read(0) == (3, b"abc")
    assert await window.read(2) == (3, b"c")
    assert await window.span() == Span(1, 3, ended=False)


async def test_readers_wait_for_the_next_event_and_for_the_end() -> None:
    window = MemoryWindow(KIB, roomy())
    readers = [asyncio.create_task(window.read(0)) for _ in range(3)]
    await asyncio.sleep(0)
    assert not any(reader.done() for reader in readers)
    await put(window, [b"a"])
    assert [await reader for reader in readers] == [(1, b"a")] * 3
    last = asyncio.create_task(window.read(1))
    await asyncio.sleep(0)
    await window.end()
    assert await last == (1, b"")


async def test_a_reader_is_given_64_kib_and_an_event_at_most() -> None:
    window = MemoryWindow(1024 * KIB, roomy())
    await put(window, [bytes(KIB)] * 200)
    after, data = await window.read(0)
    assert (after, len(data)) == (64, 64 * KIB)
    assert (await window.read(after))[0] == 128


async def test_what_is_no_longer_held_is_gone() -> None:
    window = MemoryWindow(3, roomy())
    await put(window, [b"a", b"b", b"c", b"d"])
    assert await window.span() == Span(2, 4, ended=False)
    with pytest.raises(EventsGone):
        await window.read(0)
    assert await window.read(1) == (4, b"bcd")


async def test_the_newest_event_is_held_however_large() -> None:
    window = MemoryWindow(3, roomy())
    await put(window, [b"a", b"large"])
    assert await window.read(1) == (2, b"large")


async def test_who_waits_is_given_what_came_before_any_of_it_goes() -> None:
    window = MemoryWindow(3, roomy())
    reading = asyncio.create_task(read_all(window, 0))
    await asyncio.sleep(0)
    await put(window, [b"%d" % n for n in range(10)])
    await window.end()
    assert await reading == b"0123456789"


async def test_a_reader_of_what_was_cleared_finds_it_gone() -> None:
    window = MemoryWindow(KIB, roomy())
    await put(window, [b"a", b"b"])
    await window.end()
    window.clear()
    with pytest.raises(EventsGone):
        await window.read(1)
    assert await window.read(2) == (2, b"")


async def test_all_together_stay_within_their_budget() -> None:
    """The oldest go first where they can; then each that grows holds less."""
    ended: list[MemoryWindow] = []

    def evict() -> bool:
        if ended:
            ended.pop(0).clear()
            return True
        return False

    budget = Budget(100, evict)
    for _ in range(2):
        window = MemoryWindow(1000, budget)
        await put(window, [b"x" * 10] * 4)
        ended.append(window)
    growing = MemoryWindow(1000, budget)
    await put(growing, [b"y" * 10] * 3)
    assert len(ended) == 1
    await put(growing, [b"y" * 10] * 20)
    assert not ended
    assert (await growing.span()).first == 14  # ten events of ten bytes are left
    assert not budget.allows(1)
    growing.clear()
    assert budget.allows(100)


@given(
    sizes=st.lists(st.lists(st.integers(1, 50), min_size=1, max_size=5), max_size=20),
    limit=st.integers(1, 200),
)
def test_it_holds_the_longest_end_that_fits(sizes: list[list[int]], limit: int) -> None:
    async def held() -> Span:
        window = MemoryWindow(limit, roomy())
        for batch in sizes:
            await put(window, [b"x" * size for size in batch])
        return await window.span()

    flat = [size for batch in sizes for size in batch]
    span = asyncio.run(held())
    assert span.last == len(flat)
    kept = flat[span.first - 1 :]
    assert sum(kept) <= limit or len(kept) == 1
    if span.first > 1:
        assert sum(kept) + flat[span.first - 2] > limit
