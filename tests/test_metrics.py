"""What is counted and measured, and that each has a name in the documents."""

import asyncio
import re
from pathlib import Path

import pytest

from relay import metrics
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
    measuring = asyncio.create_task(own.measure_lag())
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


async def test_numbers_are_for_those_with_a_key(start_relay: StartRelay) -> None:
    relay = await start_relay(relay_api_keys="a-clients-key")
    assert (await relay.answers("GET", "/metrics")) == (401, "unauthorized")
    headers = {"Authorization": "Bearer a-clients-key"}
    async with relay.client.get("/metrics", headers=headers) as response:
        assert response.status == 200
