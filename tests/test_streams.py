"""How many answers run, and how they end when the relay stops."""

import asyncio
from typing import Any

import pytest

from relay import streams
from relay.errors import Code, RelayError
from relay.streams import Streams


class Answering:
    """In place of a stream: it ends when it is told to, a while later."""

    def __init__(self, running: Streams) -> None:
        self._running = running
        self.outcome: str | None = None
        self.told: list[tuple[str, Code | None]] = []

    def stop(self, reason: str, error: RelayError | None = None) -> None:
        self.told.append((reason, None if error is None else error.code))
        this: Any = self
        asyncio.get_running_loop().call_soon(self._running.release, this)


def admitted(running: Streams, owner: bytes | None = None) -> Any:
    stream: Any = Answering(running)
    running.admit(stream, owner)
    return stream


def refusal(running: Streams, owner: bytes | None = None) -> RelayError:
    with pytest.raises(RelayError) as caught:
        admitted(running, owner)
    return caught.value


def test_at_most_so_many_run() -> None:
    running = Streams(2)
    first, _ = admitted(running), admitted(running)
    error = refusal(running)
    assert (error.code, error.status, error.headers) == (
        Code.TOO_MANY_STREAMS,
        503,
        {"Retry-After": "1"},
    )
    running.release(first)
    admitted(running)
    assert len(running) == 2


def test_each_owner_has_a_limit_too() -> None:
    running = Streams(10, 2)
    mine = [admitted(running, b"me") for _ in range(2)]
    error = refusal(running, b"me")
    assert (error.code, error.status, error.headers) == (
        Code.TOO_MANY_STREAMS,
        429,
        {"Retry-After": "1"},
    )
    admitted(running, b"you")
    admitted(running)
    running.release(mine[0])
    admitted(running, b"me")


def test_one_whose_end_is_told_keeps_nobody_out() -> None:
    """Its client may ask again at once, though the end of AnythingLLM's body is still waited for."""
    running = Streams(2, 1)
    first, _ = admitted(running, b"me"), admitted(running, b"you")
    assert refusal(running, b"me").status == 503
    first.outcome = "complete"
    admitted(running, b"me")
    assert refusal(running).status == 503


def test_owners_without_a_stream_are_forgotten() -> None:
    running = Streams(10, 2)
    for number in range(5):
        running.release(admitted(running, b"%d" % number))
    assert not running._of_owner


async def test_a_drain_ends_at_once_when_nothing_runs() -> None:
    running = Streams(10)
    await running.drain(3600)
    error = refusal(running)
    assert (error.code, error.headers["Retry-After"]) == (Code.SHUTTING_DOWN, "3600")
    assert running.draining


async def test_a_drain_ends_with_the_last_stream_and_its_reader() -> None:
    running = Streams(10)
    stream = admitted(running)
    with running.serving():
        draining = asyncio.create_task(running.drain(3600))
        await asyncio.sleep(0)
        running.release(stream)
        await asyncio.sleep(0.01)
        assert not draining.done()
    await draining
    assert stream.told == []


async def test_after_the_grace_each_is_told() -> None:
    running = Streams(10)
    mine = [admitted(running) for _ in range(3)]
    await running.drain(0.01)
    assert [stream.told for stream in mine] == [[("shutdown", Code.SHUTTING_DOWN)]] * 3


async def test_readers_that_do_not_take_the_end_are_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "_GOODBYE", 0.05)
    running = Streams(10)
    with running.serving():
        await running.drain(0.01)
