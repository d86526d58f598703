"""Resumable streams in Redis, as the processes write and read them: against a real one."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from relay.errors import Code, RelayError
from relay.store import Copied, Entry, Seen, Store
from tests.redis_server import RedisServer

ID = "stream"
MakeStore = Callable[[], Awaitable[Store]]


@pytest.fixture
async def make(redis: RedisServer) -> AsyncIterator[MakeStore]:
    """Make stores of several processes, which listen."""
    async with AsyncExitStack() as stack:

        async def make() -> Store:
            store = Store(redis.url, patience=60)
            await stack.enter_async_context(store.open())
            while not store.up:
                await asyncio.sleep(0.01)
            return store

        yield make


async def announced(store: Store) -> Store:
    await store.announce(ID, b"\x01", None, b"")
    return store


async def write(store: Store, after: int, *events: bytes, first: int = 1, ended: bool = False) -> Copied:
    data = b"".join(events)
    return await store.append(ID, after, after + len(events), data, first=first, ended=ended)


async def seen(store: Store, after: int = 0) -> Seen:
    found = await store.follow(ID, after)
    assert found is not None
    return found


async def test_what_one_writes_another_reads(make: MakeStore) -> None:
    home, other = await announced(await make()), await make()
    assert await write(home, 0, b"a", b"b") == Copied(2, lost=False, stop=False, heard=0)
    assert await write(home, 2, b"c") == Copied(3, lost=False, stop=False, heard=0)
    assert (await seen(other)).entries == [Entry(1, 2, b"ab"), Entry(3, 3, b"c")]
    assert (await seen(other, 1)).entries == [Entry(1, 2, b"ab"), Entry(3, 3, b"c")]
    assert (await seen(other, 2)).entries == [Entry(3, 3, b"c")]
    assert (await seen(other, 3)).entries == []
    assert (await seen(other))[:3] == (1, 3, "")


async def test_nothing_is_written_twice_or_behind_the_end(make: MakeStore) -> None:
    home = await announced(await make())
    await write(home, 0, b"a", b"b")
    assert (await write(home, 0, b"a", b"b")).last == 2
    assert (await write(home, 0, b"a", b"b", b"c")).last == 2  # then from 2 on
    assert (await write(home, 2, b"c", ended=True)).last == 3
    assert (await write(home, 3, b"d")).last == 3
    assert (await seen(home))[:3] == (1, 3, "ended")
    assert [entry.data for entry in (await seen(home)).entries] == [b"ab", b"c"]


async def test_a_gap_is_left_only_where_the_events_are_gone(make: MakeStore) -> None:
    """A Redis that came back with less than it had is told the rest again."""
    home = await announced(await make())
    await write(home, 0, b"a")
    assert (await write(home, 5, b"f")).last == 1
    assert (await write(home, 5, b"f", first=6)).last == 6
    assert (await seen(home)).entries == [Entry(6, 6, b"f")]
    assert (await seen(home)).first == 6


async def test_old_events_are_let_go(make: MakeStore) -> None:
    home = await announced(await make())
    await write(home, 0, b"a", b"b")
    await write(home, 2, b"c", first=2)
    assert [entry.last for entry in (await seen(home)).entries] == [2, 3]  # a part of the first is held
    await write(home, 3, b"d", first=3)
    assert [entry.last for entry in (await seen(home)).entries] == [3, 4]


async def test_a_follower_is_told_once_until_it_looks_again(make: MakeStore) -> None:
    home, other = await announced(await make()), await make()
    news = asyncio.Event()
    with other.listening(f"news {ID}", news.set):
        await seen(other)
        assert (await write(home, 0, b"a")).heard == 1
        await news.wait()
        assert (await write(home, 1, b"b")).heard == 0
        await seen(other)
        assert (await write(home, 2, b"c")).heard == 1
    await seen(other)
    assert (await write(home, 3)).heard == 0  # a sign of life is no news


async def test_a_stop_is_heard_and_read(make: MakeStore) -> None:
    home, other = await announced(await make()), await make()
    stopped = asyncio.Event()
    with home.listening(f"stop {ID}", stopped.set):
        await other.stop(ID)
        await stopped.wait()
    assert (await write(home, 0)).stop
    await other.stop("unknown")
    assert await other.follow("unknown", 0) is None


async def test_one_that_is_lost_is_ended_once_and_only_if_nothing_has_changed(make: MakeStore) -> None:
    home, other = await announced(await make()), await make()
    await write(home, 0, b"a")
    before = await seen(other)
    await write(home, 1)  # a sign of life
    await other.lose(ID, before, 3, b"end")
    assert (await seen(other)).end == ""
    await other.lose(ID, await seen(other), 3, b"end")
    again = await seen(other)
    assert (again.last, again.end, again.entries[-1]) == (3, "lost", Entry(2, 3, b"end"))
    await other.lose(ID, again, 5, b"end")
    assert await seen(other) == again
    assert (await write(home, 1, b"b")).lost
    assert (await seen(other)).entries == again.entries


async def test_a_key_stands_for_the_first_stream(make: MakeStore) -> None:
    one, other = await make(), await make()
    assert await one.announce("first", b"\x01", "key", b"\x02") == "first"
    assert await other.announce("second", b"\x01", "key", b"\x02") == "first"
    assert await other.announce("third", b"\x02", "key", b"\x02") == "third"  # another owner's
    assert await other.announce("fourth", None, "key", b"\x02") == "fourth"
    assert await one.announce("first", b"\x01", "key", b"\x02") == "first"
    assert await other.asked(b"\x01", "key") == ("first", b"\x02")
    assert await other.owner("first") == "01"
    assert await other.owner("fourth") == ""
    await one.forget("first")
    assert await other.asked(b"\x01", "key") is None
    assert await other.announce("second", b"\x01", "key", b"\x02") == "second"


async def test_a_key_whose_stream_redis_threw_away_is_free(make: MakeStore, redis: RedisServer) -> None:
    """As one may that has to make room, whatever it was told."""
    store = await make()
    await store.announce("first", None, "key", b"\x02")
    await redis.ask("DEL", "relay:stream:first")
    assert await store.asked(None, "key") is None
    assert await store.announce("second", None, "key", b"\x02") == "second"


async def test_what_is_read_elsewhere_is_forgotten_later(make: MakeStore, redis: RedisServer) -> None:
    home, other = await announced(await make()), await make()
    await write(home, 0, b"a", ended=True)
    assert await home.read_for(ID) == 0
    await seen(other)
    assert 59 < await home.read_for(ID) <= 60
    await home.forget(ID)
    assert (await seen(other)).last == 1
    for key in await redis.keys():
        assert 0 < int(await redis.ask("PTTL", key)) <= 66_000, key


async def test_one_that_runs_is_forgotten_at_once(make: MakeStore, redis: RedisServer) -> None:
    home, other = await announced(await make()), await make()
    await write(home, 0, b"a")
    await seen(other)
    await home.forget(ID)
    assert await other.follow(ID, 0) is None
    assert (await write(home, 1, b"b")).last == -1
    assert await redis.keys() <= {f"relay:read:{ID}"}


@pytest.mark.parametrize("after", [2, 10**18 - 1])
async def test_nothing_follows_an_event_that_never_was(make: MakeStore, after: int) -> None:
    store = await announced(await make())
    await write(store, 0, b"a")
    assert (await seen(store, after)).entries == []


async def test_a_stream_that_is_lost_before_its_first_event_does_not_live_for_ever(
    make: MakeStore, redis: RedisServer
) -> None:
    store = await announced(await make())
    await store.lose(ID, await seen(store), 2, b"end")
    assert f"relay:events:{ID}" in await redis.keys()
    for key in await redis.keys():
        assert 0 < int(await redis.ask("PTTL", key)) <= 66_000, key


async def test_nothing_lives_for_ever(make: MakeStore, redis: RedisServer) -> None:
    home, other = await make(), await make()
    await home.announce(ID, b"\x01", "key", b"\x02")
    await write(home, 0, b"a")
    await seen(other)
    for key in await redis.keys():
        assert 0 < int(await redis.ask("PTTL", key)) <= 66_000, key


async def test_a_cancellation_is_never_lost(make: MakeStore) -> None:
    """At whatever moment it comes: while a connection is made, a command is sent, an answer is read."""
    store = await make()
    for turns in range(200):
        await store.close()  # so that it connects anew
        asking = asyncio.create_task(store.owner(ID))
        for _ in range(turns):
            await asyncio.sleep(0)
        if asking.done():
            break
        asking.cancel()
        await asyncio.wait([asking])
        assert asking.cancelled(), turns
    else:
        raise AssertionError("it never came to its end")


async def test_all_have_their_turn(make: MakeStore) -> None:
    """Many that ask again and again keep nobody from asking."""
    store = await make()
    turns = [0] * 40

    async def ask(number: int) -> None:
        while sum(turns) < 1000:
            await store.owner(ID)
            turns[number] += 1

    await asyncio.gather(*map(ask, range(len(turns))))
    assert min(turns) > 20


async def test_a_full_redis_refuses_and_is_not_away(
    make: MakeStore, redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    store = await announced(await make())
    await redis.ask("CONFIG", "SET", "maxmemory", "1")
    for _ in range(3):
        with pytest.raises(RelayError) as refused:
            await write(store, 0, b"a")
        assert refused.value.code is Code.RESUME_UNAVAILABLE
    assert store.up
    assert [record.getMessage() for record in caplog.records] == ["Redis refuses"]
    await redis.ask("CONFIG", "SET", "maxmemory", "0")
    assert (await write(store, 0, b"a")).last == 1


async def test_nothing_is_known_to_be_gone_when_redis_has_only_just_come_back(
    make: MakeStore, redis: RedisServer
) -> None:
    store = await make()
    assert await store.owner(ID) is None
    assert await store.asked(None, "key") is None
    assert await store.read_for(ID) == 0
    await redis.kill()
    while store.up:
        await asyncio.sleep(0.01)
    await redis.start()
    while not store.up:
        await asyncio.sleep(0.01)
    with pytest.raises(RelayError, match="only just come back"):
        await store.owner(ID)
    with pytest.raises(RelayError, match="only just come back"):
        await store.asked(None, "key")
    with pytest.raises(RelayError, match="only just come back"):
        await store.read_for(ID)


async def test_a_wrong_password_is_told_as_such(
    redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    await redis.ask("CONFIG", "SET", "requirepass", "right")
    store = Store(redis.url.replace("unix://", "unix://:wrong@"), patience=60)
    with pytest.raises(RelayError):
        await store.probe()
    await store.close()
    told = [(record.getMessage(), vars(record)["fields"]) for record in caplog.records]
    assert told == [("Redis cannot be reached", {"error": "AuthenticationError"})]


async def test_what_is_no_message_of_ours_is_not_heard(make: MakeStore, redis: RedisServer) -> None:
    home, other = await announced(await make()), await make()
    for channel in (await redis.ask("PUBSUB", "CHANNELS")).split():
        await redis.ask("EVAL", f"redis.call('PUBLISH', '{channel}', string.char(255))", "0")
    stopped = asyncio.Event()
    with home.listening(f"stop {ID}", stopped.set):
        await other.stop(ID)
        async with asyncio.timeout(5):
            await stopped.wait()


async def test_no_word_of_the_address_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """It may hold a password."""
    store = Store("redis://:a-password@127.0.0.1:1/0", patience=60)
    with pytest.raises(RelayError) as refused:
        await store.probe()
    await store.close()
    assert "a-password" not in refused.value.message + caplog.text
    assert refused.value.headers == {"Retry-After": "1"}
    assert "Redis cannot be reached" in caplog.text
