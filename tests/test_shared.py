"""Resumable streams of several relays, over a real Redis (docs/protocol.md, "Several processes")."""

import asyncio
import signal
from collections.abc import AsyncIterator
from typing import Any, Final

import aiohttp
import pytest

from relay.handlers import RESUMABLE, STORE, STREAMS
from relay.standin import StandIn
from relay.store import Store
from tests.conftest import StartRelay
from tests.redis_server import RedisServer
from tests.running import Heard, Relay

EVENT: Final = b"data: {}\n\n"
# A guard against hanging, not a measure.
PROMPTLY: Final = 5.0


@pytest.fixture
async def start(start_relay: StartRelay, redis: RedisServer) -> StartRelay:
    """Start relays that share one Redis, and have found it."""

    async def start(**changes: Any) -> Relay:
        relay = await start_relay(relay_redis_url=redis.url, **changes)
        await up(relay)
        return relay

    return start


async def up(relay: Relay, *, is_up: bool = True) -> None:
    """Wait until the relay has found its Redis, or has lost it."""
    store = relay.app[STORE]
    assert store is not None
    async with asyncio.timeout(PROMPTLY):
        while store.up is not is_up:
            await asyncio.sleep(0.01)


async def ready(relay: Relay) -> tuple[int, dict[str, str]]:
    """Return what /readyz says."""
    async with relay.client.get("/readyz") as response:
        return response.status, await response.json()


def ids(heard: list[Any]) -> list[int]:
    return [int(told.id) for told in heard]


async def test_events_come_elsewhere_as_they_come_at_home(start: StartRelay, redis: RedisServer) -> None:
    """A reader of another relay has each event before the next one is written, and no answer waits."""
    home, other = await start(), await start()
    async with home.asking("!endless !slow=0.02", resumable=True) as listening:
        first = await listening.next()
        assert first is not None
        async with other.following(listening.stream_id, 0) as following:
            assert await following.next() == first
            for _ in range(50):
                told = await following.until("chunk")
            async with asyncio.timeout(PROMPTLY):
                while await listening.until("chunk") != told:
                    pass
        assert int(await redis.ask("XLEN", f"relay:events:{listening.stream_id}")) > 25


async def test_a_question_asked_everywhere_at_once_is_asked_once(
    start: StartRelay, standin: StandIn
) -> None:
    relays = [await start() for _ in range(3)]
    key = {"Idempotency-Key": "a-key"}

    async def ask(relay: Relay) -> tuple[str, Heard]:
        async with relay.asking("!tokens=10 !slow=0.01", headers=key) as listening:
            return listening.stream_id, await listening.rest()

    heard = await asyncio.gather(*[ask(relay) for relay in relays * 5])
    assert len(standin.asks) == 1
    assert {id_ for id_, _ in heard} == {heard[0][0]}
    assert all(one == heard[0][1] for _, one in heard)
    assert ids(heard[0][1]) == list(range(1, 12))
    for relay in relays:
        assert (await relay.refused({"question": "another"}, headers=key))[0] == 409


async def test_a_question_that_is_sent_again_elsewhere_is_asked_once_whenever_its_client_left(
    start: StartRelay, standin: StandIn
) -> None:
    """Be it between the moment that others can find it and the one that it is asked."""
    home, other = await start(), await start()
    for turns in range(100):
        headers = {"Idempotency-Key": f"key-{turns}"}
        leaving = asyncio.create_task(
            home.client.post("/stream-ask", json={"question": "!echo hi"}, headers=headers)
        )
        for _ in range(turns):
            await asyncio.sleep(0)
        leaving.cancel()
        async with other.asking("!echo hi", headers=headers) as listening:
            assert (await listening.rest()).text == "hi"
        await asyncio.wait([leaving])
        assert len(standin.asks) == turns + 1


async def test_a_stream_belongs_to_its_key_everywhere(start: StartRelay) -> None:
    keys = {"relay_api_keys": ("first-key", "second-key")}
    home, other = await start(**keys), await start(**keys)
    mine, theirs = ({"Authorization": f"Bearer {key}"} for key in keys["relay_api_keys"])
    async with home.asking("!tokens=2", resumable=True, headers=mine) as listening:
        heard = await listening.rest()
    path = f"/streams/{listening.stream_id}"
    for method in ("GET", "DELETE"):
        assert await other.answers(method, path, headers=theirs) == (404, "unknown_stream")
    async with other.following(listening.stream_id, headers=mine) as following:
        assert await following.rest() == heard


async def test_a_stop_elsewhere_reaches_anythingllm(start: StartRelay, standin: StandIn) -> None:
    home, other = await start(), await start()
    async with home.asking("!tokens=2 !slow=3600", resumable=True) as listening:
        await listening.next()
        async with other.following(listening.stream_id) as following:
            await following.next()
            path = f"/streams/{listening.stream_id}"
            assert await other.answers("DELETE", path) == (204, "")
            for one in (listening, following):
                heard = await one.rest()
                assert [told.name for told in heard] == ["final_end"]
                assert heard.end["reason"] == "cancelled"
    ask = await standin.next_ask()
    async with asyncio.timeout(PROMPTLY):
        await ask.ended.wait()
    assert await other.answers("DELETE", path) == (204, "")


async def test_a_stop_whose_message_is_lost_is_read(
    start: StartRelay, redis: RedisServer, standin: StandIn
) -> None:
    home = await start()
    async with home.asking("!endless !slow=0.05", resumable=True) as listening:
        await listening.next()
        await redis.ask("HSET", f"relay:stream:{listening.stream_id}", "stop", "1")
        async with asyncio.timeout(PROMPTLY):
            assert (await listening.rest()).end["reason"] == "cancelled"


async def test_a_stop_that_its_home_does_not_hear_is_not_told_as_done(
    start: StartRelay, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.remote._STOP", 1.0)
    other = await start()
    home = Store(redis.url, patience=60)
    await home.announce("deaf", None, None, b"")
    assert await other.answers("DELETE", "/streams/deaf") == (503, "resume_unavailable")
    assert (await home.append("deaf", 0, 1, b"data: {}\n\n", first=1, ended=True)).stop
    assert await other.answers("DELETE", "/streams/deaf") == (204, "")
    await home.close()


async def test_a_reader_elsewhere_keeps_the_answer_going(start: StartRelay, standin: StandIn) -> None:
    """And when the last one has left, it is stopped."""
    home, other = await start(relay_resume_window=0.4), await start(relay_resume_window=0.4)
    async with home.asking("!endless !slow=0.02", resumable=True) as listening:
        await listening.next()
    ask = await standin.next_ask()
    async with other.following(listening.stream_id) as following:
        for _ in range(60):  # for three times as long as it would be held otherwise
            await following.until("chunk")
        assert ask.outcome == "open"
    async with asyncio.timeout(PROMPTLY):
        await ask.ended.wait()
    path = f"/streams/{listening.stream_id}"
    while (await other.answers("GET", path))[0] != 404:
        await asyncio.sleep(0.01)


async def test_nothing_stays_in_redis(start: StartRelay, redis: RedisServer) -> None:
    home, other = await start(relay_resume_window=1), await start(relay_resume_window=1)
    async with home.asking("!tokens=5", headers={"Idempotency-Key": "k"}) as listening:
        heard = await listening.rest()
    assert await other.follow(listening.stream_id) == heard
    assert await redis.keys()
    async with asyncio.timeout(PROMPTLY):
        while await redis.keys():
            await asyncio.sleep(0.01)


async def test_plain_streams_never_touch_redis(start: StartRelay, redis: RedisServer) -> None:
    relay = await start()
    before = await redis.commands()
    for _ in range(20):
        await relay.ask("!tokens=3")
    after = await redis.commands()
    assert {name for name in after if after[name] != before.get(name)} <= {"ping", "info"}


async def test_a_reader_of_a_relay_that_stops_goes_on_elsewhere(start: StartRelay) -> None:
    """Its connection ends without an end of the answer, so it comes back."""
    home, stopping, third = await start(), await start(), await start()
    async with home.asking("!tokens=40 !slow=0.05", resumable=True) as listening:
        await listening.next()
        async with stopping.following(listening.stream_id) as following:
            heard = [await following.until("chunk")]
            await stopping.app[STREAMS].drain(0)
            heard += await following.rest()
        assert "final_end" not in [told.name for told in heard]
        heard += await third.follow(listening.stream_id, int(heard[-1].id))
    assert ids(heard) == list(range(1, 42))


async def test_what_has_ended_is_in_redis_before_a_relay_stops(start: StartRelay) -> None:
    home, other = await start(), await start()
    async with home.asking("!burst=3000", resumable=True) as listening:
        heard = await listening.rest()
    await home.app[RESUMABLE].close()
    async with asyncio.timeout(PROMPTLY):
        assert await other.follow(listening.stream_id) == heard


async def test_the_answers_of_a_relay_that_stops_end_for_all(start: StartRelay) -> None:
    home, other = await start(), await start()
    async with home.asking("!endless !slow=0.05", resumable=True) as listening:
        await listening.next()
        async with other.following(listening.stream_id) as following:
            await home.app[STREAMS].drain(0)
            heard = await following.rest()
            assert heard.error["code"] == "shutting_down"
            assert heard.end["reason"] == "shutdown"


async def test_all_who_come_from_a_dead_home_hear_the_end(start: StartRelay, redis: RedisServer) -> None:
    """Whatever they have heard there that is not in Redis, and whoever comes first."""
    other = await start()
    home = Store(redis.url, patience=60)
    await home.announce("dead", None, None, b"")
    await home.append("dead", 0, 1, b"id: 1\ndata: {}\n\n", first=1, ended=False)
    await home.close()
    for after in (4, 6, 9, 5, 1):
        heard = await other.follow("dead", after)
        assert heard.error["code"] == "upstream_truncated"
        assert ids(heard)[0] > after


@pytest.fixture
async def home(redis: RedisServer) -> AsyncIterator[Store]:
    """Another process, as Redis sees it, that runs an answer named `there`."""
    store = Store(redis.url, patience=60)
    await store.announce("there", None, None, b"")
    await store.append("there", 0, 1, EVENT, first=1, ended=False)
    yield store
    await store.close()


async def test_a_reader_waits_for_what_redis_has_lost(
    start: StartRelay, redis: RedisServer, home: Store
) -> None:
    other = await start()
    async with other.following("there") as following:
        assert await following.next()
        await redis.ask("FLUSHALL")
        await asyncio.sleep(2.5)  # until it has looked, and found nothing
        await home.announce("there", None, None, b"")
        await home.append("there", 0, 2, EVENT * 2, first=1, ended=True)
        assert len(await following.rest()) == 1


async def test_a_reader_of_what_is_gone_is_let_go(
    start: StartRelay, redis: RedisServer, home: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.remote.LEASE", 0.5)
    other = await start()
    async with other.following("there") as following:
        assert await following.next()
        await redis.ask("FLUSHALL")
        with pytest.raises(aiohttp.ClientPayloadError):
            async with asyncio.timeout(PROMPTLY):
                await following.rest()
    assert await other.counted('relay_clients_dropped_total{reason="behind"}') == 1


# Without Redis


async def test_an_outage_of_redis_is_not_taken_for_one_of_the_home(
    start: StartRelay, redis: RedisServer, home: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.store._TIMEOUT", 0.2)
    monkeypatch.setattr("relay.remote.LEASE", 3.0)
    other = await start()
    async with other.following("there") as following:
        assert await following.next()
        redis.signal(signal.SIGSTOP)
        try:
            await up(other, is_up=False)
            await asyncio.sleep(3.0)
        finally:
            redis.signal(signal.SIGCONT)
        await up(other)
        await asyncio.sleep(1.2)  # until it has looked
        assert not (await home.append("there", 1, 2, EVENT, first=1, ended=True)).lost
        assert len(await following.rest()) == 1


async def test_without_redis_only_resumable_streams_are_refused(
    start: StartRelay, redis: RedisServer
) -> None:
    relay = await start()
    assert await ready(relay) == (200, {"status": "ok", "resumable": "ok"})
    await redis.kill()
    await up(relay, is_up=False)
    assert await ready(relay) == (200, {"status": "ok", "resumable": "unavailable"})
    assert (await relay.ask("!echo hi")).text == "hi"
    for refused in (
        relay.refused({"question": "x", "resumable": True}),
        relay.refused({"question": "x"}, headers={"Idempotency-Key": "k"}),
    ):
        status, refusal = await refused
        assert (status, refusal["code"]) == (503, "resume_unavailable")
        assert "RELAY_REDIS_URL" in refusal["error"]
    for method in ("GET", "DELETE"):
        assert await relay.answers(method, "/streams/unknown") == (503, "resume_unavailable")
    assert not len(relay.app[STREAMS])
    await redis.start()
    await up(relay)
    assert await ready(relay) == (200, {"status": "ok", "resumable": "ok"})
    async with relay.asking("!echo hi", resumable=True) as listening:
        assert (await listening.rest()).text == "hi"


async def test_a_reader_elsewhere_is_let_go_when_redis_is_away_for_long(
    start: StartRelay, redis: RedisServer, home: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an end of the answer, so it comes back."""
    monkeypatch.setattr("relay.remote._OUTAGE", 1.0)
    other = await start()
    async with other.following("there") as following:
        assert await following.next()
        await redis.kill()
        async with asyncio.timeout(PROMPTLY):
            assert await following.rest() == []


async def test_at_home_no_redis_is_needed_to_come_back(start: StartRelay, redis: RedisServer) -> None:
    """Nor to stop it."""
    relay = await start()
    async with relay.asking("!endless !slow=0.02", resumable=True) as listening:
        first = await listening.next()
    await redis.kill()
    await up(relay, is_up=False)
    async with relay.following(listening.stream_id) as following:
        assert await following.next() == first
        assert await relay.answers("DELETE", f"/streams/{listening.stream_id}") == (204, "")
        assert (await following.rest()).end["reason"] == "cancelled"


async def test_what_is_refused_takes_no_room(start: StartRelay, redis: RedisServer) -> None:
    relay = await start(relay_resume_total_bytes=16384)
    await redis.kill()
    await up(relay, is_up=False)
    for _ in range(10):
        assert (await relay.refused({"question": "x", "resumable": True}))[0] == 503
    await redis.start()
    await up(relay)
    async with relay.asking("!echo hi", resumable=True) as listening:
        assert (await listening.rest()).text == "hi"


@pytest.mark.parametrize("stays", [True, False], ids=["stays", "leaves"])
async def test_redis_dies_amid_an_answer_and_forgets_all(
    start: StartRelay, redis: RedisServer, standin: StandIn, stays: bool
) -> None:
    """The reader at home notices nothing; one elsewhere goes on, each event once."""
    home, other = await start(), await start()
    async with home.asking("!tokens=80 !slow=0.05", resumable=True) as listening:
        at_home = [await listening.until("chunk") for _ in range(3)]
        async with other.following(listening.stream_id) as following:
            elsewhere = [await following.until("chunk") for _ in range(3)]
            await redis.kill()
            for relay in (home, other):
                await up(relay, is_up=False)
            at_home += [await listening.until("chunk") for _ in range(10)]
            if stays:
                await redis.start()
                elsewhere += await following.rest()
        if not stays:
            await redis.start()
            await up(other)
            place = int(elsewhere[-1].id)
            while (await other.answers("GET", f"/streams/{listening.stream_id}?after={place + 999}"))[
                0
            ] == 503:
                await asyncio.sleep(0.05)
            elsewhere += await other.follow(listening.stream_id, place)
        at_home += await listening.rest()
    assert ids(at_home) == list(range(1, 82))
    assert elsewhere == at_home
    assert len(standin.asks) == 1


async def test_an_answer_that_is_read_elsewhere_goes_on_when_redis_is_away_for_a_while(
    start: StartRelay, redis: RedisServer
) -> None:
    """Though its home sees nobody then, and finds no mark of a reader right after."""
    window = 4.0
    home, other = await start(relay_resume_window=window), await start(relay_resume_window=window)
    async with home.asking("!tokens=200 !slow=0.05", resumable=True) as listening:
        await listening.next()
    async with other.following(listening.stream_id, 0) as following:
        heard = [await following.next()]
        await asyncio.sleep(window / 2)
        await redis.kill()
        await asyncio.sleep(window / 2 + 0.5)  # until its home has looked for readers
        await redis.start()
        heard += await following.rest()
    assert ids(heard) == list(range(1, 202))


@pytest.mark.parametrize("snapshot", [True, False], ids=["old", "empty"])
async def test_an_answer_that_has_ended_is_written_anew(
    start: StartRelay, redis: RedisServer, snapshot: bool
) -> None:
    """All of it, when Redis comes back with nothing of it, or with the beginning."""
    home, other = await start(), await start()
    async with home.asking("!tokens=3000 !slow=0.0001", resumable=True) as listening:
        heard = [await listening.next()]
        async with other.following(listening.stream_id) as following:
            await following.next()
        if snapshot:
            await redis.ask("SAVE")
        heard += await listening.rest()
    assert await other.follow(listening.stream_id) == heard
    await redis.kill()
    await up(home, is_up=False)
    await up(other, is_up=False)
    await redis.start()
    async with asyncio.timeout(2 * PROMPTLY):
        while (await other.answers("GET", f"/streams/{listening.stream_id}?after=3001"))[0] != 204:
            await asyncio.sleep(0.05)
        assert await other.follow(listening.stream_id) == heard


async def test_a_redis_that_hangs_holds_up_no_plain_stream(
    start: StartRelay, redis: RedisServer
) -> None:
    """Nor a resumable one that runs here already."""
    relay = await start()
    async with relay.asking("!tokens=20 !slow=0.02", resumable=True) as listening:
        await listening.until("chunk")
        redis.signal(signal.SIGSTOP)
        try:
            assert (await relay.ask("!echo hi")).text == "hi"
            assert (await listening.rest()).text.split()[-1] == "tok20"
            status, refusal = await relay.refused({"question": "x", "resumable": True})
            assert (status, refusal["code"]) == (503, "resume_unavailable")
        finally:
            redis.signal(signal.SIGCONT)
        await up(relay)
    async with relay.asking("!echo hi", resumable=True) as listening:
        assert (await listening.rest()).text == "hi"


async def test_a_client_that_leaves_while_redis_hangs_asks_nothing(
    start: StartRelay, redis: RedisServer, standin: StandIn
) -> None:
    relay = await start()
    redis.signal(signal.SIGSTOP)
    try:
        asking = asyncio.create_task(relay.refused({"question": "x", "resumable": True}))
        while not len(relay.app[STREAMS]):
            await asyncio.sleep(0.01)
        asking.cancel()
        await relay.idle()
    finally:
        redis.signal(signal.SIGCONT)
    assert not standin.asks
    assert not len(relay.app[RESUMABLE])
    async with asyncio.timeout(PROMPTLY):
        while await redis.keys():
            await asyncio.sleep(0.01)
