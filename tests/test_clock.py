"""One clock for all that waits."""

import asyncio
import time

import pytest
import uvloop

from relay.clock import LOOK, Clock

SOON, LATER = 0.05, 0.5


class Waiting:
    """Something that waits, and counts how often it is looked at."""

    def __init__(self, *, hurried: int = 0) -> None:
        self.looks = 0
        self.looked = asyncio.Event()
        self._hurried = hurried  # how many looks it is in a hurry for

    def look(self, now: float) -> bool:
        assert now <= asyncio.get_running_loop().time()
        self.looks += 1
        self.looked.set()
        return self.looks <= self._hurried


async def test_all_that_waits_is_looked_at_again_and_again() -> None:
    clock, some = Clock([LATER, SOON]), [Waiting() for _ in range(3)]
    for one in some:
        clock.add(one)
    for _ in range(3):
        for one in some:
            await one.looked.wait()
            one.looked.clear()
    for one in some:
        clock.discard(one)


async def test_many_are_looked_at_a_few_at_a_time() -> None:
    """All of them in each round, and none twice."""
    clock, many = Clock([1.0]), [Waiting() for _ in range(250)]
    for one in many:
        clock.add(one)
    counts = set()
    while not all(one.looks for one in many):
        await asyncio.sleep(0.001)
        counts.add(sum(one.looks for one in many))
        assert max(one.looks for one in many) <= 1
    assert counts >= {100, 200}
    for one in many:
        clock.discard(one)


async def test_the_last_may_go_while_it_is_looked_at() -> None:
    class Going(Waiting):
        def look(self, now: float) -> bool:
            clock.discard(self)
            return super().look(now)

    clock, one = Clock([SOON]), Going()
    for hurry in (False, True):
        clock.add(one)
        if hurry:
            clock.hurry(one)
        await one.looked.wait()
        one.looked.clear()
    await asyncio.sleep(2 * SOON)
    assert one.looks == 2


async def test_what_waits_no_more_is_not_looked_at() -> None:
    """Not even when it went while the others were looked at."""
    clock, gone, there = Clock([SOON]), Waiting(), Waiting()
    clock.add(gone)
    clock.add(there)
    clock.discard(gone)
    await there.looked.wait()
    clock.discard(there)
    assert gone.looks == 0


async def test_what_is_in_a_hurry_is_looked_at_sooner() -> None:
    """As long as it says so; then only with all others."""
    clock, slow, quick = Clock([3600.0]), Waiting(), Waiting(hurried=2)
    clock.add(slow)
    clock.add(quick)
    clock.hurry(quick)
    clock.hurry(quick)
    while quick.looks < 3:
        await quick.looked.wait()
        quick.looked.clear()
    await asyncio.sleep(2 * LOOK)
    assert (quick.looks, slow.looks) == (3, 0)
    clock.hurry(slow)
    await slow.looked.wait()
    for one in (slow, quick):
        clock.discard(one)


def test_a_look_that_is_overdue_can_be_hurried() -> None:
    """On the event loop that the relay runs on, whose timers for what is due at once are others."""

    async def late() -> None:
        clock, first, second = Clock([SOON]), Waiting(hurried=1), Waiting()
        for one in (first, second):
            clock.add(one)
        clock.hurry(first)
        time.sleep(2 * SOON)  # noqa: ASYNC251 (the loop is late)
        clock.hurry(second)
        clock.discard(second)
        clock.add(second)
        clock.hurry(second)
        await second.looked.wait()
        for one in (first, second):
            clock.discard(one)

    uvloop.run(late())


async def test_a_look_that_fails_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Waiting):
        def look(self, now: float) -> bool:
            raise ZeroDivisionError

    clock, broken, sound = Clock([SOON]), Broken(), Waiting()
    for one in (broken, sound):
        clock.add(one)
    for _ in range(2):
        await sound.looked.wait()
        sound.looked.clear()
    clock.discard(sound)
    assert [record.message for record in caplog.records if record.exc_info] == ["a look failed"]


async def test_nothing_is_left_of_it() -> None:
    """A clock for which nothing waits does not tick, and goes on when something does."""
    clock, one = Clock([SOON]), Waiting()
    clock.hurry(one)  # which does not wait
    for _ in range(2):
        clock.add(one)
        await one.looked.wait()
        one.looked.clear()
        clock.discard(one)
        looks = one.looks
        await asyncio.sleep(2 * SOON)
        assert one.looks == looks


def test_it_must_have_something_to_wait_for() -> None:
    with pytest.raises(ValueError, match="empty"):
        Clock([])
