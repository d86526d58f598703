"""What is counted and measured, and that each has a name in the documents."""

import asyncio
import re
from functools import partial
from pathlib import Path

import pytest

from relay import metrics
from relay.handlers import STREAMS
from relay.standin import StandIn
from tests.conftest import StartRelay
from tests.running import Relay

PROTOCOL = (Path(__file__).parent.parent / "docs" / "protocol.md").read_text()


async def names(relay: Relay) -> set[str]:
    """The metrics that there are, without what a format adds to each."""
    async with relay.client.get("/metrics") as response:
        assert response.headers["Content-Type"].startswith("text/plain; version=")
        text = await response.text()
    told = re.findall(r"^# TYPE (\S+) (\w+)$", text, re.MULTILINE)
    return {name for name, _ in told if not name.endswith("_created")}


async def test_every_metric_is_documented_and_no_other(relay: Relay) -> None:
    table = PROTOCOL.partition("| metric | |")[2].partition("\n\n")[0]
    assert await names(relay) == set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))


async def test_pieces_are_counted_and_timed(relay: Relay) -> None:
    await relay.ask("!tokens=5 !slow=0.02")
    assert await relay.counted("relay_chunks_total") == 5
    assert await relay.counted("relay_time_to_first_chunk_seconds_count") == 1
    assert await relay.counted("relay_inter_chunk_seconds_count") == 4
    assert await relay.counted("relay_inter_chunk_seconds_sum") > 0.05


async def test_an_answer_without_a_piece_is_in_no_histogram(relay: Relay) -> None:
    await relay.ask("!refused=429")
    assert await relay.counted("relay_chunks_total") == 0
    assert await relay.counted("relay_time_to_first_chunk_seconds_count") == 0


async def test_failures_are_counted_by_code(relay: Relay) -> None:
    await relay.ask("!abort=429")
    await relay.ask("!empty")
    await relay.ask("!eof")
    await relay.ask("!tokens=1")
    for code in ("upstream_aborted", "empty_answer", "upstream_truncated"):
        assert await relay.counted(f'relay_upstream_errors_total{{code="{code}"}}') == 1
    assert await relay.counted('relay_streams_total{outcome="complete"}') == 1


async def test_connections_to_anythingllm_are_those_in_use(relay: Relay, standin: StandIn) -> None:
    async with relay.asking("!silent"), relay.asking("!tokens=9 !pause=3600") as listening:
        await listening.until("chunk")
        while await relay.counted("relay_upstream_connections") != 2:
            pass
    while await relay.counted("relay_upstream_connections"):
        pass
    await relay.ask("!tokens=1")  # its connection is pooled
    while await relay.counted("relay_upstream_connections"):
        pass


async def test_the_event_loop_is_watched(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_LOOK", 0.05)
    own = metrics.Metrics()
    measuring = asyncio.create_task(own.run())
    await asyncio.sleep(0.01)
    blocked = asyncio.get_running_loop().time() + 0.3
    while asyncio.get_running_loop().time() < blocked:
        pass
    await asyncio.sleep(0.01)
    lag = re.search(rb"^relay_event_loop_lag_seconds (\S+)$", own.text(), re.MULTILINE)
    assert lag
    assert float(lag[1]) > 0.1
    measuring.cancel()
    await asyncio.wait([measuring])
    assert await relay.counted("relay_event_loop_lag_seconds") >= 0


def told(by: metrics.Metrics) -> dict[str, float]:
    """All that is told, by name and label."""
    lines = [line.rsplit(" ", 1) for line in by.text().decode().splitlines() if line[0] != "#"]
    return {name: float(value) for name, value in lines}


def test_each_process_tells_of_all() -> None:
    """Sums of what each counted and measured, and the latest of the event loops."""
    board = metrics.Board(3)
    first, second = metrics.Metrics(board, board.take()), metrics.Metrics(board, board.take())
    for own, active in ((first, 1), (second, 2)):
        own.watch("relay_streams_active", partial(float, active))
        own.watch("relay_event_loop_lag_seconds", partial(float, active / 8))
        own.watch("process_resident_memory_bytes", partial(float, active))
        own.ended("complete")
        own.ended("upstream_timeout")
        own.dropped("stuck")
        own.said(active, 0.02, first=True)
        own.said(active, 7, first=False)
        own.publish()
    assert first.text() == second.text()
    of = told(first)
    assert of["relay_streams_active"] == 3
    assert of["relay_event_loop_lag_seconds"] == 0.25
    assert of["relay_chunks_total"] == 6
    assert of['relay_streams_total{outcome="complete"}'] == 2
    assert of['relay_upstream_errors_total{code="upstream_timeout"}'] == 2
    assert of['relay_clients_dropped_total{reason="stuck"}'] == 2
    assert of['relay_time_to_first_chunk_seconds_bucket{le="0.025"}'] == 2
    assert of["relay_inter_chunk_seconds_sum"] == 14
    assert of['relay_inter_chunk_seconds_bucket{le="5.0"}'] == 0
    assert of['relay_inter_chunk_seconds_bucket{le="10.0"}'] == 2


def test_counts_outlive_their_process() -> None:
    """What a process measured is over with it; what it counted stays, and its successor counts on."""
    board = metrics.Board(2)
    rows = [board.take(), board.take()]
    first, second = (metrics.Metrics(board, row) for row in rows)
    for own in (first, second):
        own.watch("relay_streams_active", lambda: 1)
        own.ended("complete")
        own.said(1, 0.02, first=True)
        own.publish()
    board.give_back(rows[0])
    before = told(second)
    assert before["relay_streams_active"] == 1
    assert before['relay_streams_total{outcome="complete"}'] == 2
    assert board.free == 1
    assert board.take() == rows[0]
    third = metrics.Metrics(board, rows[0])
    third.ended("complete")
    after = told(third)
    assert after['relay_streams_total{outcome="complete"}'] == 3
    assert after["relay_time_to_first_chunk_seconds_count"] == 2


async def test_numbers_are_for_those_with_a_key(start_relay: StartRelay) -> None:
    relay = await start_relay(relay_api_keys="a-clients-key")
    assert (await relay.answers("GET", "/metrics")) == (401, "unauthorized")
    headers = {"Authorization": "Bearer a-clients-key"}
    async with relay.client.get("/metrics", headers=headers) as response:
        assert response.status == 200


async def test_how_many_answers_may_run_and_who_takes_them(start_relay: StartRelay) -> None:
    """Nobody takes any once the relay is about to stop."""
    relay = await start_relay(relay_max_streams=7)
    assert await relay.counted("relay_streams_limit") == 7
    assert await relay.counted("relay_workers") == 1
    await relay.app[STREAMS].drain(0)
    assert await relay.counted("relay_streams_limit") == 0
    assert await relay.counted("relay_workers") == 0


async def test_whether_anythingllm_is_up(relay: Relay, standin: StandIn) -> None:
    """As far as it is known: not before the first try."""
    async with relay.client.get("/metrics") as response:
        assert "\nrelay_upstream_up " not in await response.text()
    while not await relay.counted("relay_upstream_up"):
        await asyncio.sleep(0.01)
    await standin.kill()
    while await relay.counted("relay_upstream_up"):
        await asyncio.sleep(0.01)


async def test_refusals_are_counted_by_code(start_relay: StartRelay) -> None:
    """Those of any address and shape; what fails after it was taken is no refusal."""
    relay = await start_relay(relay_api_keys=("a-key-of-a-client",))
    good = {"Authorization": "Bearer a-key-of-a-client"}
    for method, path, headers in (
        ("POST", "/stream-ask", {}),
        ("GET", "/v1/models", {"Authorization": "Bearer guessed"}),
        ("GET", "/nowhere", good),
        ("PUT", "/stream-ask", good),
    ):
        async with relay.client.request(method, path, headers=headers) as response:
            assert response.status in (401, 404, 405)
    async with relay.client.post(
        "/v1/chat/completions",
        headers=good,
        json={"messages": [{"role": "user", "content": "!abort=429"}]},
    ) as response:
        assert response.status == 429
    async with relay.client.get("/metrics", headers=good) as response:
        told = re.findall(
            r'^relay_refusals_total\{code="(\w+)"\} (\S+)$', await response.text(), re.MULTILINE
        )
    assert dict(told) == {"unauthorized": "2.0", "not_found": "1.0", "method_not_allowed": "1.0"}
