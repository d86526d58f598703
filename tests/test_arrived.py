"""What has arrived of a body, in the library's way and in the short one."""

import asyncio
from typing import Any

import pytest
from aiohttp import StreamReader

from relay import arrived
from relay.arrived import all_at_once, all_of, way_to_empty


class Connection:
    """As much of one as a reader needs; what it has in store comes when reading goes on."""

    def __init__(self) -> None:
        self._reading_paused = False
        self.paused = 0
        self.in_store: list[bytes] = []
        self.reader: StreamReader

    def pause_reading(self) -> None:
        self._reading_paused = True
        self.paused += 1

    def resume_reading(self, resume_parser: bool = True) -> None:
        self._reading_paused = False
        while self.in_store and not self._reading_paused:
            self.reader.feed_data(self.in_store.pop(0))


@pytest.fixture(params=[all_of, all_at_once], ids=["library", "short"])
def way(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
async def connection() -> Connection:
    made = Connection()
    protocol: Any = made
    made.reader = StreamReader(protocol, 8, loop=asyncio.get_running_loop())
    return made


async def test_the_short_way_fits_the_library_that_is_locked(connection: Connection) -> None:
    """Where reading has paused before, the library's own goes on."""
    assert way_to_empty(connection.reader) is all_at_once
    connection.pause_reading()
    assert way_to_empty(connection.reader) is all_of


async def test_all_that_is_here_comes_in_its_order(way: Any, connection: Connection) -> None:
    reader = connection.reader
    assert way(reader) == b""
    reader.begin_http_chunk_receiving()
    for data in (b"a", b"bc", b"d"):
        reader.feed_data(data)
        reader.end_http_chunk_receiving()
    assert way(reader) == b"abcd"
    assert way(reader) == b""
    reader.feed_data(b"e")
    reader.feed_eof()
    assert (way(reader), reader.at_eof()) == (b"e", True)


async def test_reading_goes_on_when_there_is_room(way: Any, connection: Connection) -> None:
    connection.in_store = [b"y" * 20, b"z"]
    connection.reader.feed_data(b"x" * 17)
    assert connection.paused == 1
    got = b""
    while data := way(connection.reader):
        got += data
    assert got == b"x" * 17 + b"y" * 20 + b"z"
    assert not connection._reading_paused


async def test_what_was_read_in_part_is_not_read_again(way: Any, connection: Connection) -> None:
    connection.reader.feed_data(b"abc")
    assert await connection.reader.read(1) == b"a"
    connection.reader.feed_data(b"d")
    assert way(connection.reader) == b"bcd"


async def test_a_broken_body_is_told(way: Any, connection: Connection) -> None:
    connection.reader.feed_data(b"abc")
    connection.reader.set_exception(ConnectionResetError())
    with pytest.raises(ConnectionResetError):
        way(connection.reader)


def test_where_a_part_is_missing_the_librarys_way_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def without(content: Any) -> bytes:
        raise AttributeError

    monkeypatch.setattr(arrived, "all_at_once", without)
    assert arrived._best() is all_of


def test_where_a_part_means_something_else_the_librarys_way_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def otherwise(content: Any) -> bytes:
        return all_at_once(content)[::-1]

    monkeypatch.setattr(arrived, "all_at_once", otherwise)
    assert arrived._best() is all_of
