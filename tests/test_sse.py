"""SSE decoding and encoding, without any I/O."""

import base64
import gzip
import json
import tracemalloc
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.sse import PING, Decoder, LineTooLong, ServerSentEvent, encode
from tests.cuts import in_two, pieces

VECTORS: list[dict[str, Any]] = json.loads((Path(__file__).parent / "sse-vectors.json").read_text())


def decode(reads: Iterable[bytes], limit: int = 4 * 1024 * 1024) -> list[ServerSentEvent]:
    decoder = Decoder(limit)
    events = [event for data in reads for event in decoder.feed(data)]
    return events + decoder.close()


def vector_input(vector: dict[str, Any]) -> bytes:
    if "input_gzip_base64" in vector:
        return gzip.decompress(base64.b64decode(vector["input_gzip_base64"]))
    return base64.b64decode(vector["input_base64"])


def vector_expect(vector: dict[str, Any]) -> list[ServerSentEvent]:
    if "expect_gzip_base64" in vector:
        expect = json.loads(gzip.decompress(base64.b64decode(vector["expect_gzip_base64"])))
    else:
        expect = vector["expect"]
    return [ServerSentEvent(**event) for event in expect]


def vector_chunkings(vector: dict[str, Any], data: bytes) -> Iterable[list[bytes]]:
    """Every vector comes whole, byte by byte and in its own chunking; short ones cut everywhere."""
    yield [data]
    yield pieces(data, [1])
    if isinstance(vector["chunking"], list):
        yield pieces(data, vector["chunking"])
    if len(data) < 2000:
        yield from in_two(data)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_every_vector_gives_what_chromium_gives(vector: dict[str, Any]) -> None:
    """Each vector's events are those of Chromium's EventSource, however the bytes arrive."""
    data, expect = vector_input(vector), vector_expect(vector)
    for reads in vector_chunkings(vector, data):
        assert decode(reads) == expect


@pytest.mark.parametrize(
    "vector", [v for v in VECTORS if "emitted_after" in v], ids=lambda vector: vector["name"]
)
def test_an_event_does_not_wait_for_the_next_read(vector: dict[str, Any]) -> None:
    """An event is out in the call that brought its last byte."""
    decoder, out, counts = Decoder(), 0, []
    for data in pieces(vector_input(vector), vector["chunking"]):
        out += len(decoder.feed(data))
        counts.append(out)
    assert counts == vector["emitted_after"]


@given(
    text=st.lists(
        st.sampled_from(
            [
                "data",
                "event",
                "id",
                "retry",
                ":",
                " ",
                "\n",
                "\r",
                "\r\n",
                "\n\n",
                "\ufeff",
                "\0",
                "1",
                "é",
                "😀",
            ]
        )
        | st.text(max_size=5)
    ),
    cuts=st.lists(st.integers(1, 9), min_size=1),
)
def test_cutting_never_changes_the_events(text: list[str], cuts: list[int]) -> None:
    """Any bytes cut anywhere give the events of the whole."""
    data = "".join(text).encode("utf-8", "replace")
    assert decode(pieces(data, cuts)) == decode([data])


@given(data=st.binary(), cuts=st.lists(st.integers(1, 9), min_size=1))
def test_rubbish_is_survived_in_any_cutting(data: bytes, cuts: list[int]) -> None:
    """Bytes that are no text at all raise nothing and still do not depend on the cutting."""
    assert decode(pieces(data, cuts)) == decode([data])


line = st.text().filter(lambda text: not set(text) & set("\r\n\0"))


@given(
    events=st.lists(st.tuples(st.text(), line, line)),
    cuts=st.lists(st.integers(1, 9), min_size=1),
)
def test_what_the_encoder_writes_the_decoder_reads(
    events: list[tuple[str, str, str]], cuts: list[int]
) -> None:
    """Any text goes through; of its line ends only the kind is lost, which SSE cannot carry."""
    last_id, expect, written = "", [], PING
    for data, name, event_id in events:
        written += encode(data.encode(), event=name, id=event_id) + PING
        last_id = event_id or last_id
        lines = data.replace("\r\n", "\n").replace("\r", "\n")
        expect.append(ServerSentEvent(lines, name or "message", last_id))
    assert decode(pieces(written, cuts)) == expect


@pytest.mark.parametrize("forged", ["a\nb", "a\rb", "a\0b"])
def test_a_field_cannot_be_forged(forged: str) -> None:
    """An event name or id with a line end or NUL is refused."""
    with pytest.raises(ValueError, match="event must not hold"):
        encode(b"", event=forged)
    with pytest.raises(ValueError, match="id must not hold"):
        encode(b"", id=forged)


@pytest.mark.parametrize("cut", [1, 7, 1000])
def test_a_line_over_the_limit_is_named_and_what_came_before_is_not_lost(cut: int) -> None:
    """LineTooLong says the limit and brings the events that were complete before it."""
    decoder, events = Decoder(100), []
    with pytest.raises(LineTooLong, match="more than 100 bytes") as caught:
        for data in pieces(b"data: first\n\ndata: " + b"x" * 200 + b"\n\n", [cut]):
            events += decoder.feed(data)
    assert [event.data for event in events + caught.value.events] == ["first"]


def test_a_line_at_the_limit_passes() -> None:
    """The limit is the longest line that is allowed."""
    whole = b"data: " + b"x" * 94
    assert [event.data for event in decode([whole + b"\n\n"], limit=100)] == ["x" * 94]


def test_an_event_of_endless_lines_is_bounded_too() -> None:
    """An event that never ends cannot fill the memory with short lines."""
    decoder = Decoder(100)
    with pytest.raises(LineTooLong):
        for _ in range(100):
            decoder.feed(b"data: x\n")


def test_a_line_in_many_small_pieces_costs_no_more_than_itself() -> None:
    """An upstream that sends two bytes at a time cannot make the relay hold twenty times as much."""
    decoder = Decoder()
    decoder.feed(b"data: ")
    tracemalloc.start()
    for _ in range(200_000):
        decoder.feed(b"".join([b"x", b"y"]))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 400_000 <= held < 600_000
    assert decoder.feed(b"\n\n")[0].data == "xy" * 200_000
