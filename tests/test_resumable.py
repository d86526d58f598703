"""Streams that outlive their readers, as clients see them (docs/protocol.md, "Resumable streams")."""

import asyncio
import json
import socket
from contextlib import AsyncExitStack, suppress
from typing import Any

import aiohttp
import pytest

from relay.handlers import RESUMABLE, STREAMS
from relay.resumable import MAX_READERS
from relay.sse import Decoder
from relay.standin import StandIn
from tests.conftest import StartRelay
from tests.redis_server import RedisServer
from tests.running import Listening, Relay, Told, unanswered

# A guard against hanging, not a measure: far more than it takes.
PROMPTLY = 2.0
KEYS = ("first-key", "second-key")


class Elsewhere:
    """A client that asks one relay, and comes back to another."""

    def __init__(self, home: aiohttp.ClientSession, other: aiohttp.ClientSession) -> None:
        self._home = home
        self._other = other
        self.post, self.options = home.post, home.options

    def get(self, path: str, **kwargs: Any) -> Any:
        return self.request("GET", path, **kwargs)

    def request(self, method: str, path: str, **kwargs: Any) -> Any:
        back = path.startswith("/streams/")
        return (self._other if back else self._home).request(method, path, **kwargs)

    async def close(self) -> None:
        await self._home.close()


AT_HOME = pytest.mark.parametrize("start_relay", ["alone", "shared"], indirect=True)


@pytest.fixture(params=["alone", "shared", "elsewhere"])
async def start_relay(
    request: pytest.FixtureRequest, redis: RedisServer, start_relay: StartRelay
) -> StartRelay:
    """Relays that keep streams for themselves, that share them, and two that do, one to ask."""
    if request.param == "alone":
        return start_relay

    async def start(**changes: Any) -> Relay:
        changes["relay_redis_url"] = redis.url
        relay = await start_relay(**changes)
        if request.param == "elsewhere":
            client: Any = Elsewhere(relay.client, (await start_relay(**changes)).client)
            relay.client = client
        return relay

    return start


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def ended(relay: Relay, question: str, **fields: Any) -> str:
    """Ask, read to the end, and return the stream's id."""
    async with relay.asking(question, resumable=True, **fields) as listening:
        await listening.rest()
        return listening.stream_id


async def until_cut(reader: asyncio.StreamReader) -> bytes:
    """Read what comes before the connection is cut: it ends without the end of a body, or is reset."""
    received = b""
    with suppress(ConnectionResetError):
        while data := await reader.read(100_000):
            received += data
    assert not received.endswith(b"0\r\n\r\n")
    return received


async def left(relay: Relay, question: str, **fields: Any) -> str:
    """Ask, leave after the first event, and return the stream's id."""
    async with relay.asking(question, resumable=True, **fields) as listening:
        assert await listening.next() is not None
        return listening.stream_id


# Reading


async def test_a_resumable_stream_has_an_id_and_numbers(relay: Relay) -> None:
    async with relay.asking("!tokens=3", resumable=True) as listening:
        heard = await listening.rest()
    assert [told.id for told in heard] == ["1", "2", "3", "4"]
    assert heard.text == "tok1 tok2 tok3"
    assert len(listening.stream_id) == 22  # 128 bits, and a bit of base64


async def test_a_plain_stream_has_neither(relay: Relay) -> None:
    async with relay.asking("!tokens=3") as listening:
        heard = await listening.rest()
    assert {told.id for told in heard} == {""}
    assert "X-Stream-ID" not in listening.response.headers


async def test_ids_do_not_repeat_or_count(relay: Relay) -> None:
    ids = {await ended(relay, "!tokens=1") for _ in range(20)}
    assert len(ids) == 20
    assert len({id_[:4] for id_ in ids}) > 15


async def test_from_any_event_on_the_rest_is_the_same(relay: Relay) -> None:
    """From the start without a place, and 204 for who has the last event."""
    async with relay.asking("!tokens=9", resumable=True) as listening:
        whole = await listening.rest()
    for after in range(len(whole)):
        assert await relay.follow(listening.stream_id, after) == whole[after:]
    assert await relay.follow(listening.stream_id) == whole
    path = f"/streams/{listening.stream_id}"
    assert await relay.answers("GET", path, headers={"Last-Event-ID": str(len(whole))}) == (204, "")
    assert await relay.answers("GET", f"{path}?after={len(whole)}") == (204, "")


async def test_the_head_of_a_followed_stream_is_that_of_any(relay: Relay) -> None:
    async with relay.asking("!tokens=1", resumable=True) as asked:
        await asked.rest()
    async with relay.following(asked.stream_id) as followed:
        for name in ("Content-Type", "Cache-Control", "X-Accel-Buffering", "X-Stream-ID", "Connection"):
            assert followed.response.headers[name] == asked.response.headers[name]
        await followed.rest()
    assert followed.raw == asked.raw  # the first comment too


async def cut_after(relay: Relay, stream: str, size: int) -> list[Told]:
    """Read so many bytes of the body and drop the connection; return the events that were whole."""
    async with relay.following(stream) as listening:
        received = await listening.response.content.readexactly(size)
    return [Told(one.event, json.loads(one.data), one.id) for one in Decoder().feed(received)]


async def test_a_connection_may_be_cut_at_any_byte(relay: Relay) -> None:
    """At every event boundary and inside every event: what follows the last whole event is the rest."""
    async with relay.asking('!echo a "b"\nc é 😀', resumable=True) as listening:
        whole = await listening.rest()
    for size in range(len(listening.raw)):
        before = await cut_after(relay, listening.stream_id, size)
        after = int(before[-1].id) if before else 0
        assert before + await relay.follow(listening.stream_id, after) == whole


async def test_a_reader_that_is_cut_off_again_and_again_misses_nothing(relay: Relay) -> None:
    """While the answer is written, not after."""
    heard: list[Told] = []
    async with relay.asking("!tokens=30 !slow=0.01", resumable=True) as listening:
        stream = listening.stream_id
        told = await listening.next()
        assert told is not None
        heard.append(told)
    cuts = 0
    while heard[-1].name != "final_end":
        async with relay.following(stream, int(heard[-1].id)) as listening:
            few = [await listening.next() for _ in range(1 + cuts % 3)]
            heard += [told for told in few if told is not None]
        cuts += 1
    assert cuts >= 10
    assert [told.id for told in heard] == [str(number) for number in range(1, 32)]
    assert "".join(told.data.get("content", "") for told in heard).split()[-1] == "tok30"


async def test_many_read_at_once(relay: Relay, standin: StandIn) -> None:
    """Each hears all of it, once, wherever it came in; AnythingLLM is asked once."""
    async with relay.asking("!tokens=20 !slow=0.01", resumable=True) as first:
        await first.until("chunk")
        late = [asyncio.create_task(relay.follow(first.stream_id)) for _ in range(10)]
        rest = await first.rest()
    for task in late:
        assert (await task)[1:] == rest
    assert len(standin.asks) == 1


async def test_last_event_id_wins_over_after_and_an_empty_one_is_none(relay: Relay) -> None:
    stream = await ended(relay, "!tokens=4")

    async def first_id(query: str, last_event_id: str | None) -> str:
        headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
        async with relay.following(f"{stream}{query}", headers=headers) as listening:
            told = await listening.next()
            assert told is not None
            return told.id

    assert await first_id("?after=1", "3") == "4"
    assert await first_id("?after=2", "") == "3"
    assert await first_id("?after=", None) == "1"
    assert await first_id("", "0") == "1"
    assert await first_id("", "004") == "5"


@pytest.mark.parametrize("place", ["x", "-1", "1.0", "+1", " 1 2", "٣", "9" * 19, "1,2", "0x1", "6"])
async def test_a_place_that_does_not_exist_is_refused(relay: Relay, place: str) -> None:
    """No number, or beyond the last event so far."""
    path = f"/streams/{await ended(relay, '!tokens=4')}"
    assert await relay.answers("GET", path, params={"after": place}) == (400, "bad_request")
    if place.isascii():
        headers = {"Last-Event-ID": place}
        assert await relay.answers("GET", path, headers=headers) == (400, "bad_request")


async def test_frames_of_anythingllm_can_be_resumed_too(relay: Relay) -> None:
    async with relay.asking("!tokens=3", resumable=True, format="anythingllm") as listening:
        whole = await listening.rest()
    assert {told.name for told in whole[:-1]} == {"message"}
    assert await relay.follow(listening.stream_id, 2) == whole[2:]


async def test_a_followed_stream_beats_in_silence(start_relay: StartRelay) -> None:
    relay = await start_relay(relay_heartbeat=0.05)
    stream = await left(relay, "!tokens=2 !slow=3600")
    async with relay.following(stream, 1) as listening:
        received = b""
        while received.count(b": ping\n") < 3:
            received += await listening.response.content.readany()
    assert set(received.splitlines()) == {b": ping"}


# Leaving, and what is held


async def test_the_answer_goes_on_without_a_reader(relay: Relay, standin: StandIn) -> None:
    stream = await left(relay, "!tokens=10 !slow=0.02")
    ask = await standin.next_ask()
    await ask.ended.wait()
    assert ask.outcome == "complete"
    assert (await relay.follow(stream)).text.split()[-1] == "tok10"


async def test_a_plain_answer_does_not(relay: Relay, standin: StandIn) -> None:
    """Beside a resumable one, whose reader has left as well."""
    await left(relay, "!endless !slow=0.05")
    resumable = await standin.next_ask()
    async with relay.asking("!endless !slow=0.05") as listening:
        await listening.until("chunk")
    plain = await standin.next_ask()
    async with asyncio.timeout(PROMPTLY):
        await plain.ended.wait()
    assert (plain.outcome, resumable.outcome) == ("left", "open")


async def test_nobody_comes_back_in_time(
    start_relay: StartRelay, standin: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    """AnythingLLM is let go, and the stream is forgotten."""
    caplog.set_level("INFO", logger="relay")
    relay = await start_relay(relay_resume_window=0.2)
    stream = await left(relay, "!endless !slow=0.05")
    ask = await standin.next_ask()
    async with asyncio.timeout(PROMPTLY):
        await ask.ended.wait()
    assert ask.outcome == "left"
    assert await relay.answers("GET", f"/streams/{stream}") == (404, "unknown_stream")
    assert await relay.answers("DELETE", f"/streams/{stream}") == (404, "unknown_stream")
    assert not len(relay.app[RESUMABLE])
    await relay.idle()
    assert vars(caplog.records[-1])["fields"]["outcome"] == "client_closed"


async def test_who_comes_back_in_time_keeps_it(start_relay: StartRelay, standin: StandIn) -> None:
    """As long as anybody reads, no time runs, and each leaving begins it anew."""
    relay = await start_relay(relay_resume_window=0.3)
    stream = await left(relay, "!endless !slow=0.02")
    for _ in range(4):
        await asyncio.sleep(0.1)
        async with relay.following(stream) as listening:
            await listening.until("chunk")
            await asyncio.sleep(0.2)
    assert (await standin.next_ask()).outcome == "open"


async def test_an_ended_one_is_held_for_a_while(start_relay: StartRelay) -> None:
    relay = await start_relay(relay_resume_window=0.3)
    stream = await ended(relay, "!tokens=2")
    assert (await relay.follow(stream)).text == "tok1 tok2"
    while len(relay.app[RESUMABLE]):
        await asyncio.sleep(0.01)
    assert await relay.answers("GET", f"/streams/{stream}") == (404, "unknown_stream")


async def test_the_time_of_an_unread_one_begins_with_its_end(start_relay: StartRelay) -> None:
    """An answer without a reader that takes most of the window is held for a whole one after it."""
    relay = await start_relay(relay_resume_window=0.6)
    stream = await left(relay, "!tokens=3 !slow=0.2")
    await relay.idle()
    await asyncio.sleep(0.4)
    assert (await relay.follow(stream)).end["reason"] == "complete"


async def test_a_failure_is_held_like_an_answer(relay: Relay) -> None:
    async with relay.asking("!abort=429", resumable=True) as listening:
        whole = await listening.rest()
    again = await relay.follow(listening.stream_id)
    assert again == whole
    assert again.error["code"] == "upstream_aborted"


# What is no longer held


async def test_only_the_newest_events_are_held(start_relay: StartRelay) -> None:
    """Who has too little to go on is told so; who has enough gets the rest."""
    relay = await start_relay(relay_resume_bytes=2000)
    async with relay.asking("!tokens=200", resumable=True) as listening:
        whole = await listening.rest()
    stream = listening.stream_id
    assert await relay.follow(stream, 190) == whole[190:]
    assert await relay.answers("GET", f"/streams/{stream}") == (410, "events_gone")
    assert await relay.answers("GET", f"/streams/{stream}?after=100") == (410, "events_gone")


async def test_the_newest_event_is_held_however_large(start_relay: StartRelay) -> None:
    relay = await start_relay(relay_resume_bytes=1024)
    async with relay.asking("!line=50000 !slow=0.05", resumable=True) as listening:
        chunk = await listening.next()
        assert chunk is not None
        rest = await listening.rest()
    assert chunk.data["content"] == "x" * 50000
    assert rest.end["reason"] == "complete"


async def test_a_reader_that_keeps_up_is_given_a_burst_larger_than_what_is_held(
    start_relay: StartRelay,
) -> None:
    relay = await start_relay(relay_resume_bytes=1024)
    async with relay.asking("!burst=2000", resumable=True) as listening:
        heard = await listening.rest()
    assert [told.id for told in heard] == [str(number) for number in range(1, 2002)]


@AT_HOME
async def test_a_reader_that_falls_behind_is_dropped_and_told(
    start_relay: StartRelay, standin: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer does not wait for it, and another reader hears all."""
    caplog.set_level("INFO", logger="relay")
    relay = await start_relay(relay_resume_bytes=100_000, send_buffer=8192)
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.port, limit=1024)
    body = json.dumps({"question": "!burst=30000", "resumable": True}).encode()
    head = b"POST /stream-ask HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    writer.write(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    answered = await reader.readuntil(b"\r\n\r\n")
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    stream = answered.partition(b"X-Stream-ID: ")[2].partition(b"\r\n")[0].decode()
    await relay.idle()
    assert (await standin.next_ask()).outcome == "complete"
    writer.transport.resume_reading()  # type: ignore[attr-defined]
    assert b"final_end" not in await until_cut(reader)
    assert await relay.answers("GET", f"/streams/{stream}?after=5") == (410, "events_gone")
    assert vars(caplog.records[-1])["fields"]["reason"] == "behind"
    assert await relay.counted('relay_clients_dropped_total{reason="behind"}') == 1
    writer.close()


async def test_a_stuck_reader_is_dropped_and_the_answer_goes_on(
    start_relay: StartRelay, standin: StandIn
) -> None:
    relay = await start_relay(relay_send_timeout=0.2, send_buffer=4096)
    async with relay.asking("!endless !slow=0.0005", resumable=True) as listening:
        with socket.socket() as stuck:  # it reads nothing
            stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            stuck.connect(("127.0.0.1", relay.port))
            asked = f"GET /streams/{listening.stream_id} HTTP/1.1\r\nHost: localhost\r\n\r\n"
            stuck.sendall(asked.encode())
            while not await relay.counted('relay_clients_dropped_total{reason="stuck"}'):
                assert await listening.response.content.readany()
        assert (await standin.next_ask()).outcome == "open"
        assert await relay.counted("relay_streams_active") == 1


@AT_HOME
async def test_when_room_is_short_the_oldest_ended_ones_go(start_relay: StartRelay) -> None:
    relay = await start_relay(relay_resume_total_bytes=40_000)
    streams = [await ended(relay, "!tokens=40") for _ in range(6)]
    held = [await relay.answers("GET", f"/streams/{stream}?after=41") for stream in streams]
    assert held == [(404, "unknown_stream")] * held.count((404, "unknown_stream")) + [(204, "")] * (
        6 - held.count((404, "unknown_stream"))
    )
    assert 1 <= held.count((404, "unknown_stream")) <= 4


async def test_when_all_that_is_held_still_runs_a_new_one_is_refused(start_relay: StartRelay) -> None:
    """With Retry-After; a plain one is not. And a longer answer holds less than it might."""
    relay = await start_relay(relay_resume_total_bytes=20_000)
    async with AsyncExitStack() as stack:
        for _ in range(4):
            await stack.enter_async_context(relay.asking("!endless !slow=3600", resumable=True))
        body = {"question": "hi", "resumable": True}
        async with relay.client.post("/stream-ask", json=body) as response:
            assert (response.status, response.headers["Retry-After"]) == (503, "1")
            refusal = await response.json()
        assert refusal["code"] == "resume_unavailable"
        assert "RELAY_RESUME_TOTAL_BYTES" in refusal["error"]
        assert len(relay.app[STREAMS]) == 4
        assert (await relay.ask("!echo hi")).text == "hi"


async def test_running_ones_hold_less_when_all_room_is_taken(start_relay: StartRelay) -> None:
    relay = await start_relay(relay_resume_total_bytes=20_000)
    async with relay.asking("!burst=2000", resumable=True) as listening:
        heard = await listening.rest()
    assert len(heard) == 2001
    status, code = await relay.answers("GET", f"/streams/{listening.stream_id}?after=1000")
    assert (status, code) == (410, "events_gone")
    assert await relay.follow(listening.stream_id, 1990) == heard[1990:]


async def test_a_reader_of_what_had_to_go_is_dropped(start_relay: StartRelay) -> None:
    relay = await start_relay(
        relay_resume_total_bytes=4_000_000, relay_resume_bytes=3_000_000, send_buffer=8192
    )
    stream = await ended(relay, "!burst=30000")
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.port, limit=1024)
    writer.write(f"GET /streams/{stream} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    await reader.readuntil(b"id: 1\n")
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    await ended(relay, "!burst=30000")
    assert await relay.answers("GET", f"/streams/{stream}?after=1") == (404, "unknown_stream")
    writer.transport.resume_reading()  # type: ignore[attr-defined]
    assert b"final_end" not in await until_cut(reader)
    writer.close()


# Stopping on request


async def test_delete_stops_the_answer_for_all(
    relay: Relay, standin: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="relay")
    async with relay.asking("!endless !slow=0.02", resumable=True) as first:
        await first.until("chunk")
        path = f"/streams/{first.stream_id}"
        async with relay.following(first.stream_id) as second:
            await second.until("chunk")
            assert await relay.answers("DELETE", path) == (204, "")
            ask = await standin.next_ask()
            async with asyncio.timeout(PROMPTLY):
                await ask.ended.wait()
            assert ask.outcome == "left"
            for reader in (first, second):
                heard = await reader.rest()
                assert heard.of("error") == []
                assert heard.end["reason"] == "cancelled"
    assert await relay.answers("DELETE", path) == (204, "")
    assert (await relay.follow(first.stream_id)).end["reason"] == "cancelled"
    assert vars(caplog.records[-1])["fields"]["outcome"] == "cancelled"
    assert await relay.counted('relay_streams_total{outcome="cancelled"}') == 1


@pytest.mark.parametrize("question", ["!late=3600", "!silent", "@agent !slowtool", "!stall"])
async def test_delete_stops_it_in_every_phase(relay: Relay, standin: StandIn, question: str) -> None:
    async with relay.asking(question, resumable=True) as listening:
        ask = await standin.next_ask()
        assert await relay.answers("DELETE", f"/streams/{listening.stream_id}") == (204, "")
        assert (await listening.rest()).end["reason"] == "cancelled"
    async with asyncio.timeout(PROMPTLY):
        await ask.ended.wait()
    assert ask.outcome == "left"


async def test_delete_while_the_connection_is_made(start_relay: StartRelay) -> None:
    with unanswered() as url:
        relay = await start_relay(anythingllm_base_url=url)
        async with relay.asking("hi", resumable=True) as listening:
            assert await relay.answers("DELETE", f"/streams/{listening.stream_id}") == (204, "")
            assert (await listening.rest()).end["reason"] == "cancelled"
        await relay.idle()


async def test_delete_of_an_ended_one_changes_nothing(relay: Relay) -> None:
    stream = await ended(relay, "!tokens=2")
    assert await relay.answers("DELETE", f"/streams/{stream}") == (204, "")
    assert (await relay.follow(stream)).end["reason"] == "complete"


# Whose it is


async def test_a_stream_belongs_to_the_key_that_opened_it(start_relay: StartRelay) -> None:
    """For another key it does not exist, and without one nothing does."""
    relay = await start_relay(relay_api_keys=",".join(KEYS))
    mine, other = map(bearer, KEYS)
    async with relay.asking("!endless !slow=0.05", resumable=True, headers=mine) as listening:
        path = f"/streams/{listening.stream_id}"
        for method in ("GET", "DELETE"):
            unknown = await relay.answers(method, "/streams/never-there", headers=other)
            assert await relay.answers(method, path, headers=other) == unknown == (404, "unknown_stream")
            assert await relay.answers(method, path) == (401, "unauthorized")
        assert await listening.next() is not None
        async with relay.following(listening.stream_id, headers=mine) as again:
            assert await again.next() is not None


@pytest.mark.parametrize("method", ["POST", "PUT", "HEAD", "OPTIONS", "PATCH"])
async def test_other_methods_are_refused(relay: Relay, method: str) -> None:
    async with relay.client.request(method, "/streams/abc") as response:
        assert response.status == 405
        assert response.headers["Allow"] == "DELETE, GET"


async def test_web_pages_need_to_be_allowed(start_relay: StartRelay) -> None:
    """The rules on origins are those of every address; an EventSource of an allowed one may read."""
    relay = await start_relay(relay_allowed_origins="https://chat.example.com")
    stream = await ended(relay, "!tokens=2")
    path = f"/streams/{stream}"
    bad = {"Origin": "https://evil.example.com"}
    assert await relay.answers("GET", path, headers=bad) == (403, "forbidden_origin")
    assert await relay.answers("DELETE", path, headers=bad) == (403, "forbidden_origin")
    good = {"Origin": "https://chat.example.com"}
    async with relay.following(stream, headers=good) as listening:
        headers = listening.response.headers
        assert headers["Access-Control-Allow-Origin"] == "https://chat.example.com"
        assert "X-Stream-ID" in headers["Access-Control-Expose-Headers"]
    for method, header in (("GET", "last-event-id"), ("DELETE", "authorization")):
        asked = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": header}
        async with relay.client.options(path, headers={**good, **asked}) as response:
            assert response.status == 204
            assert method in response.headers["Access-Control-Allow-Methods"]
            assert header in response.headers["Access-Control-Allow-Headers"]


# Asking twice


def idempotent(key: str) -> dict[str, str]:
    return {"Idempotency-Key": key}


async def test_asking_again_joins_from_the_start(relay: Relay, standin: StandIn) -> None:
    """While it runs, and after its end; the key alone makes it resumable."""
    async with relay.asking("!tokens=5 !slow=0.02", headers=idempotent("k")) as first:
        await first.until("chunk")
        async with relay.asking("!tokens=5 !slow=0.02", headers=idempotent("k")) as second:
            assert second.stream_id == first.stream_id
            whole = await second.rest()
    assert [told.id for told in whole] == ["1", "2", "3", "4", "5", "6"]
    async with relay.asking("!tokens=5 !slow=0.02", headers=idempotent("k")) as third:
        assert await third.rest() == whole
    assert len(standin.asks) == 1


async def test_asking_at_the_same_time_asks_once(relay: Relay, standin: StandIn) -> None:
    async def ask() -> tuple[str, list[Told]]:
        async with relay.asking("!tokens=5", headers=idempotent("same")) as listening:
            return listening.stream_id, await listening.rest()

    answers = await asyncio.gather(*[ask() for _ in range(20)])
    assert all(answer == answers[0] for answer in answers)
    assert len(standin.asks) == 1


async def test_fields_are_compared_with_their_defaults(relay: Relay, standin: StandIn) -> None:
    """JSON or form, spelled out or not, it is the same question."""
    same: list[dict[str, Any]] = [
        {"json": {"question": "!tokens=2"}},
        {"json": {"question": "!tokens=2", "mode": "chat", "workspace": "demo", "reset": False}},
        {"json": {"question": "!tokens=2", "sources": "titles", "session_id": None, "unknown": 1}},
        {"json": {"question": "!tokens=2", "resumable": True}},
        {"data": {"question": "!tokens=2", "resumable": "1"}},
        {"data": {"question": "!tokens=2", "resumable": "0"}},
    ]
    ids = set()
    for body in same:
        async with relay.client.post("/stream-ask", headers=idempotent("k"), **body) as response:
            ids.add(response.headers["X-Stream-ID"])
            assert (await Listening(response).rest()).text == "tok1 tok2"
    assert len(ids) == len(standin.asks) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"question": "another"},
        {"mode": "query"},
        {"session_id": "s"},
        {"reasoning": "hide"},
        {"reset": True},
    ],
    ids=lambda other: next(iter(other)),
)
async def test_another_question_with_the_same_key_is_refused(
    relay: Relay, other: dict[str, Any]
) -> None:
    async with relay.asking("!tokens=2", headers=idempotent("k")) as listening:
        await listening.rest()
    body = {"question": "!tokens=2", **other}
    status, refusal = await relay.refused(body, headers=idempotent("k"))
    assert (status, refusal["code"]) == (409, "idempotency_conflict")


async def test_keys_are_each_clients_own(start_relay: StartRelay, standin: StandIn) -> None:
    relay = await start_relay(relay_api_keys=",".join(KEYS))
    ids = []
    for key in (*KEYS, *KEYS):
        headers = {**bearer(key), **idempotent("k")}
        async with relay.asking("!tokens=2", headers=headers) as listening:
            ids.append(listening.stream_id)
            await listening.rest()
    assert ids[0] != ids[1]
    assert ids[:2] == ids[2:]
    assert len(standin.asks) == 2


async def test_a_key_is_free_again_when_its_stream_is_gone(
    start_relay: StartRelay, standin: StandIn
) -> None:
    relay = await start_relay(relay_resume_window=0.1)
    for question in ("!tokens=2", "!tokens=3"):
        async with relay.asking(question, headers=idempotent("k")) as listening:
            await listening.rest()
        while len(relay.app[RESUMABLE]):
            await asyncio.sleep(0.01)
    assert len(standin.asks) == 2


@pytest.mark.parametrize("key", ["", "a b", "x" * 201, "é", "a\tb"])
async def test_a_bad_key_is_refused(relay: Relay, key: str) -> None:
    status, refusal = await relay.refused({"question": "hi"}, headers=idempotent(key))
    assert (status, refusal["code"]) == (400, "bad_request")
    assert "Idempotency-Key" in refusal["error"]


async def test_the_longest_key_is_none(relay: Relay) -> None:
    async with relay.asking("!tokens=1", headers=idempotent("~" * 200)) as listening:
        await listening.rest()


async def test_who_joins_too_late_is_told(start_relay: StartRelay, standin: StandIn) -> None:
    """Its first events are gone: asking again would be another question."""
    relay = await start_relay(relay_resume_bytes=1024)
    async with relay.asking("!tokens=100", headers=idempotent("k")) as listening:
        await listening.rest()
    status, refusal = await relay.refused({"question": "!tokens=100"}, headers=idempotent("k"))
    assert (status, refusal["code"]) == (410, "events_gone")
    assert len(standin.asks) == 1


# Limits


@AT_HOME
async def test_readers_of_one_stream_are_limited(relay: Relay) -> None:
    async with (
        relay.asking("!endless !slow=0.05", resumable=True) as listening,
        AsyncExitStack() as stack,
    ):
        stream = listening.stream_id
        others = [
            await stack.enter_async_context(relay.following(stream)) for _ in range(MAX_READERS - 1)
        ]
        async with relay.client.get(f"/streams/{stream}") as response:
            assert (response.status, response.headers["Retry-After"]) == (503, "1")
            assert (await response.json())["code"] == "too_many_readers"
        others[0].response.close()
        while (await relay.answers("GET", f"/streams/{stream}?after=999999"))[0] != 400:
            pass
        async with asyncio.timeout(PROMPTLY):
            while True:
                response = await relay.client.get(f"/streams/{stream}")
                response.close()
                if response.status == 200:
                    break


async def test_an_answer_without_a_reader_counts_as_running(start_relay: StartRelay) -> None:
    """And one that has ended does not, however long it is held."""
    relay = await start_relay(relay_max_streams=2)
    await ended(relay, "!tokens=1")
    stream = await left(relay, "!endless !slow=0.05")
    await left(relay, "!endless !slow=0.05")
    status, refusal = await relay.refused({"question": "hi"})
    assert (status, refusal["code"]) == (503, "too_many_streams")
    await relay.answers("DELETE", f"/streams/{stream}")
    assert (await relay.ask("!echo hi")).text == "hi"


async def test_answers_of_one_key_are_limited(start_relay: StartRelay) -> None:
    """Each key has its own count, of plain and resumable ones; 429 tells it from the relay's."""
    relay = await start_relay(relay_api_keys=",".join(KEYS), relay_max_streams_per_key=2)
    mine, other = map(bearer, KEYS)
    async with (
        relay.asking("!silent", headers=mine),
        relay.asking("!silent", headers=mine, resumable=True) as resumable,
    ):
        for body in ({"question": "hi"}, {"question": "hi", "resumable": True}):
            async with relay.client.post("/stream-ask", json=body, headers=mine) as response:
                assert (response.status, response.headers["Retry-After"]) == (429, "1")
                refusal = await response.json()
            assert refusal["code"] == "too_many_streams"
            assert "RELAY_MAX_STREAMS_PER_KEY" in refusal["error"]
        async with relay.asking("!echo hi", headers=other) as listening:
            assert (await listening.rest()).text == "hi"
        path = f"/streams/{resumable.stream_id}"
        assert await relay.answers("DELETE", path, headers=mine) == (204, "")
        async with relay.asking("!echo hi", headers=mine) as listening:
            assert (await listening.rest()).text == "hi"


async def test_streams_are_counted(relay: Relay) -> None:
    async with relay.asking("!silent"), relay.asking("!silent", resumable=True):
        assert await relay.counted("relay_streams_active") == 2
    await ended(relay, "!tokens=1")
    await relay.ask("!abort")
    assert await relay.counted('relay_streams_total{outcome="complete"}') == 1
    assert await relay.counted('relay_streams_total{outcome="upstream_aborted"}') == 1
    while await relay.counted("relay_streams_active") != 1:  # the resumable one
        pass
    assert await relay.counted('relay_streams_total{outcome="client_closed"}') == 1
