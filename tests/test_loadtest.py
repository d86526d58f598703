"""The load test, at a relay in front of the stand-in, and at servers that are neither."""

import asyncio
import json
import math

import pytest

from relay.loadtest.client import MOST_CHUNKS
from relay.loadtest.figures import MOST_KINDS, OTHER, Failure, Figures, Series
from relay.loadtest.load import CannotReach, Load
from relay.loadtest.plan import Plan, Schedule, Ticket
from relay.standin import StandIn
from tests.conftest import StartRelay
from tests.loadtesting import ROOT, loaded, plan, saying
from tests.running import Relay, unanswered

KEY = "client-key-of-a-load-test"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
CHUNK = b'event: chunk\ndata: {"type":"chunk","content":"a"}\n\n'
END = b'event: final_end\ndata: {"type":"final_end","reason":"complete"}\n\n'


def asking(question: str) -> list[bytes]:
    """The bodies of a load test with one question."""
    return [json.dumps({"question": question}).encode()]


def failed(load: Load) -> dict[Failure, int]:
    """What failed, and how often; the counters agree."""
    assert sum(load.figures.failures.values()) == load.figures.counts.failed
    return dict(load.figures.failures)


def test_nothing_else_imports_it() -> None:
    """The relay runs without its packages."""
    for path in (ROOT / "relay").rglob("*.py"):
        if path.parent.name != "loadtest":
            assert "loadtest" not in path.read_text(), path


async def test_it_counts_what_was_asked_and_answered(relay: Relay, standin: StandIn) -> None:
    """As the stand-in and the relay count it."""
    load = await loaded(
        f"{relay.url}/stream-ask", streams=7, count=40, bodies=asking("!tokens=5 !slow=0.001")
    )
    figures = load.figures
    assert (figures.counts.asked, figures.counts.complete) == (40, 40)
    assert failed(load) == {}
    assert len(standin.asks) == 40
    assert figures.counts.chunks == await relay.counted("relay_chunks_total") == 40 * 5
    assert figures.ttfc.count == figures.total.count == 40
    assert 0 < figures.gap.count <= 40 * 4
    assert figures.most_active == 7
    assert figures.active == figures.open_at_end == figures.unasked == 0
    metrics = figures.metrics()
    assert metrics["ttfc_p50"] is not None
    assert metrics["total_p50"] is not None
    assert metrics["ttfc_p50"] <= metrics["total_p50"]


async def test_chunks_of_one_read_have_no_gap_between_them() -> None:
    """They came together, so nobody waited for the second."""
    async with saying(HEAD + CHUNK * 3 + END) as url:
        figures = (await loaded(url)).figures
    assert (figures.counts.chunks, figures.ttfc.count, figures.gap.count) == (3, 1, 0)
    assert figures.counts.complete == 1
    assert figures.counts.size == len(CHUNK * 3 + END)


async def test_frames_of_anythingllm_are_chunks(relay: Relay) -> None:
    """With `format`, an answer has no chunk events."""
    body = json.dumps({"question": "!tokens=3", "format": "anythingllm"}).encode()
    figures = (await loaded(f"{relay.url}/stream-ask", bodies=[body])).figures
    assert figures.counts.complete == 1
    assert figures.counts.chunks >= 3


async def test_bodies_are_asked_in_turn(relay: Relay, standin: StandIn) -> None:
    """And from the start again."""
    bodies = [*asking("one"), *asking("two")]
    await loaded(f"{relay.url}/stream-ask", count=5, bodies=bodies)
    assert [ask.body["message"] for ask in standin.asks] == ["one", "two", "one", "two", "one"]


@pytest.mark.parametrize(
    ("question", "code"),
    [("!abort=429", "upstream_aborted"), ("!eof", "upstream_truncated"), ("!empty", "empty_answer")],
)
async def test_error_events_are_counted_by_code(relay: Relay, question: str, code: str) -> None:
    """Each stream is at its end then, and its connection carries the next."""
    load = await loaded(f"{relay.url}/stream-ask", streams=2, count=2, bodies=asking(question))
    assert failed(load) == {Failure("event", code): 2}
    assert load.figures.metrics()["error_share"] == 1


async def test_refusals_are_counted_by_status_and_code(relay: Relay) -> None:
    """Those of the relay, and of what sends no JSON."""
    load = await loaded(f"{relay.url}/stream-ask", bodies=asking(" "))
    assert failed(load) == {Failure("refused", "400 bad_request"): 1}
    async with saying(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\n\r\nhtml") as url:
        assert failed(await loaded(url)) == {Failure("refused", "502"): 1}
    async with saying(b"HTTP/1.1 307 T\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n") as url:
        assert failed(await loaded(url)) == {Failure("refused", "307"): 1}


@pytest.mark.parametrize(
    ("sent", "failure"),
    [
        (HEAD + CHUNK, Failure("stream", "no_final_end")),
        (HEAD, Failure("stream", "no_final_end")),
        (b"\x00\xff rubbish \x1b[31m\r\n\r\n", Failure("connection", "no_http")),
        (b"", Failure("connection", "lost")),
        (HEAD.replace(b"text/event-stream", b"text/html"), Failure("stream", "not_an_event_stream")),
        (HEAD + b"event: final_end\ndata: {]\n\n", Failure("stream", "bad_event")),
        (HEAD + b"event: error\ndata: []\n\n" + END, Failure("stream", "bad_event")),
        (
            HEAD + b'event: error\ndata: {"code":"\\u001b[31m"}\n\n' + END,
            Failure("event", "without_a_code"),
        ),
        (HEAD + END.replace(b"complete", b"cancelled"), Failure("stream", "ended_cancelled")),
        (HEAD + b"data: " + b"x" * 5_000_000, Failure("stream", "line_too_long")),
        (
            HEAD.replace(b"close", b"close\r\nTransfer-Encoding: chunked") + b"5\r\nevent",
            Failure("connection", "lost"),
        ),
    ],
)
async def test_what_is_no_answer_is_told_apart(sent: bytes, failure: Failure) -> None:
    """And ends no other stream."""
    async with saying(sent) as url:
        assert failed(await loaded(url)) == {failure: 1}


async def test_what_follows_the_end_does_not_matter() -> None:
    """The answer was complete; that the connection is held, or breaks, is another thing."""
    async with saying(HEAD + CHUNK + END, hold=True) as url:
        load = await loaded(url)
    assert (load.figures.counts.complete, failed(load)) == (1, {})


async def test_a_silent_stream_is_given_up(relay: Relay, standin: StandIn) -> None:
    """Its connection is closed, so that the model stops."""
    load = await loaded(f"{relay.url}/stream-ask", bodies=asking("!stall"), timeout=0.1)
    assert failed(load) == {Failure("stream", "timeout"): 1}
    ask = await standin.next_ask()
    await ask.ended.wait()
    assert ask.outcome == "left"


async def test_the_relay_is_told_of_those_who_leave(relay: Relay, standin: StandIn) -> None:
    """Each after some chunks, never at the end."""
    load = await loaded(
        f"{relay.url}/stream-ask", streams=5, count=5, leave=1.0, bodies=asking("!endless")
    )
    counts = load.figures.counts
    assert (counts.left, counts.complete, counts.failed) == (5, 0, 0)
    assert counts.chunks >= 5
    await relay.idle()
    for _ in range(5):
        ask = await standin.next_ask()
        await ask.ended.wait()
        assert ask.outcome == "left"
    assert await relay.counted('relay_streams_total{outcome="client_closed"}') == 5


async def test_an_answer_that_is_over_is_not_left(relay: Relay) -> None:
    """It ended before its reader had enough."""
    assert MOST_CHUNKS > 1
    load = await loaded(f"{relay.url}/stream-ask", leave=1.0, bodies=asking("!tokens=1 !whole"))
    assert load.figures.counts.complete + load.figures.counts.left == 1


async def test_the_key_is_sent(start_relay: StartRelay) -> None:
    """As docs/protocol.md says."""
    relay = await start_relay(relay_api_keys=KEY)
    url = f"{relay.url}/stream-ask"
    assert failed(await loaded(url)) == {Failure("refused", "401 unauthorized"): 1}
    assert (await loaded(url, key=KEY)).figures.counts.complete == 1


async def test_a_key_that_is_said_back_is_not_told() -> None:
    """Not even by a server that makes a code of it."""
    said = HEAD + b'event: error\ndata: {"code":"%b"}\n\n' % KEY.encode() + END
    async with saying(said) as url:
        load = await loaded(url, key=KEY)
    assert failed(load) == {Failure("event", "[redacted]"): 1}
    assert KEY not in repr(load.plan)


async def test_the_duration_ends_it(relay: Relay, standin: StandIn) -> None:
    """Open streams are closed, and counted as what they are."""
    figures = (
        await loaded(
            f"{relay.url}/stream-ask", streams=3, count=None, seconds=0.5, bodies=asking("!stall")
        )
    ).figures
    assert (figures.counts.asked, figures.open_at_end, figures.silent_at_end) == (3, 3, 0)
    assert figures.metrics()["total_p50"] is None
    await relay.idle()


async def test_questions_that_found_no_stream_are_told(relay: Relay) -> None:
    """A pace that the streams cannot keep is no success."""
    figures = (
        await loaded(
            f"{relay.url}/stream-ask",
            streams=2,
            count=None,
            pace=100.0,
            seconds=0.5,
            bodies=asking("!stall"),
        )
    ).figures
    assert figures.counts.asked == 2
    assert figures.unasked == 48


async def test_with_a_pace_the_wait_for_a_stream_counts(relay: Relay) -> None:
    """The third question was due long before it was asked: coordinated omission is not hidden."""
    figures = (
        await loaded(
            f"{relay.url}/stream-ask",
            streams=1,
            count=3,
            pace=1000.0,
            bodies=asking("!tokens=2 !slow=0.2"),
        )
    ).figures
    assert figures.counts.complete == 3
    assert figures.ttfc.max is not None
    assert figures.ttfc.max >= 0.39


async def test_each_slice_is_told_and_they_add_up(relay: Relay) -> None:
    """Whoever watches hears of each as it ends; the last is the rest."""
    load = Load(
        plan(f"{relay.url}/stream-ask", streams=2, count=None, seconds=2.2, bodies=asking("!tokens=9"))
    )
    heard: list[float] = []
    await load.run(lambda new: heard.append(new.until))
    slices = load.figures.slices
    assert [one.until for one in slices[:-1]] == heard
    assert len(heard) >= 2
    assert sum(one.asked for one in slices) == load.figures.counts.asked
    assert sum(one.complete for one in slices) == load.figures.counts.complete
    assert sum(one.chunks for one in slices) == load.figures.counts.chunks
    assert math.isclose(sum(one.seconds for one in slices), load.figures.seconds)


async def test_who_watches_and_fails_is_heard(relay: Relay) -> None:
    """A fault of the program's own is none of the server's."""

    def fail(_: object) -> None:
        raise ZeroDivisionError

    load = Load(plan(f"{relay.url}/stream-ask", count=None, seconds=1.5))
    with pytest.raises(ZeroDivisionError):
        await load.run(fail)


async def test_a_cancelled_test_is_complete_too(relay: Relay) -> None:
    """What Ctrl-C does; the streams are closed before it returns."""
    load = Load(plan(f"{relay.url}/stream-ask", streams=3, count=None, bodies=asking("!stall")))
    running = asyncio.create_task(load.run(lambda _: None))
    while load.figures.counts.chunks < 15:
        await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert load.figures.open_at_end == 3
    assert load.figures.ttfc.count == 3
    await relay.idle()


async def test_a_server_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence, that says what to look at."""
    with pytest.raises(CannotReach, match="nothing listens there"):
        await loaded("http://127.0.0.1:1/stream-ask")
    with pytest.raises(CannotReach, match="cannot be reached"):
        await loaded("http://no-such-name.invalid/stream-ask")
    async with saying(b"no TLS") as url:
        with pytest.raises(CannotReach, match="https"):
            await loaded(url.replace("http:", "https:"))
    monkeypatch.setattr("relay.loadtest.load._REACH", 0.1)
    with unanswered() as url, pytest.raises(CannotReach, match=r"no connection within"):
        await loaded(url)


def schedule(**changes: object) -> Schedule:
    """The schedule of a small plan."""
    return Schedule(Plan(**{"url": "http://x", "streams": 4, "bodies": [b"{}"], **changes}))  # type: ignore[arg-type]


def test_a_schedule_ends_with_the_count_or_the_duration() -> None:
    """Each ticket is taken once."""
    few = schedule(count=2)
    assert [few.take() for _ in range(3)] == [Ticket(0, None), Ticket(1, None), None]
    paced = schedule(pace=2.0, seconds=1.0)
    assert [paced.take() for _ in range(3)] == [Ticket(0, 0.0), Ticket(1, 0.5), None]
    assert paced.take() is None


def test_a_ramp_starts_streams_one_by_one() -> None:
    """With a pace it is the pace that grows, evenly, to what was asked for."""
    assert [schedule(ramp=8.0).first(stream) for stream in range(4)] == [0, 2, 4, 6]
    grows = schedule(pace=10.0, ramp=4.0)
    assert grows.first(3) == 0
    due = [
        ticket.due for ticket in (grows.take() for _ in range(41)) if ticket and ticket.due is not None
    ]
    assert due[0] == 0
    assert due[20] == 4.0  # half the pace, on average
    assert math.isclose(due[40], 6.0)
    assert due == sorted(due)
    for number, moment in enumerate(due):
        assert number <= grows.due_by(moment + 1e-9) <= number + 1
    assert schedule(pace=10.0, count=3).due_by(9.0) == 3
    assert schedule().due_by(9.0) == 0


def test_a_series_tells_percentiles() -> None:
    """To a thousandth, and none where there is nothing."""
    series = Series()
    assert set(series.told().values()) == {None}
    for number in range(1, 1001):
        series.record(number / 1000)
    for name, value in {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "max": 1.0}.items():
        told = series.told()[name]
        assert told is not None
        assert math.isclose(told, value, rel_tol=0.002), name
    series.record(1e9)  # longer than it can hold
    assert series.max is not None
    assert series.max >= 3600
    assert Series.unpack(series.pack()).told() == series.told()


def test_failures_fill_no_memory() -> None:
    """A server that makes up a code for each answer."""
    figures = Figures()
    for number in range(MOST_KINDS + 50):
        figures.fail(Failure("event", f"code_{number}"))
    assert len(figures.failures) == MOST_KINDS + 1
    assert figures.failures[OTHER] == 50
