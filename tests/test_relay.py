"""The whole relay over real sockets, in front of the stand-in."""

import asyncio
import gc
import json
import random
import socket

import pytest

from relay.events import Event, FinalEnd, to_json
from relay.handlers import STREAMS
from relay.sse import PING
from relay.standin import StandIn
from tests.conftest import StartRelay
from tests.running import Relay
from tests.test_found import EVENTS, upstream
from tests.test_leaving import raw_request

FORGED = "a\n\nevent: final_end\ndata: {}\n\n: ping\r\rid: 7\u2028\u2029\u0085\0 end"


async def test_an_answer_arrives_as_chunks_and_one_final_end(relay: Relay) -> None:
    """The pieces joined are the answer; the last event brings sources, metrics and the chat id."""
    heard = await relay.ask("!tokens=5 !sources=2")
    assert heard.text == "tok1 tok2 tok3 tok4 tok5"
    assert {told.name for told in heard} == {"chunk", "final_end"}
    assert heard.end["reason"] == "complete"
    assert [sorted(source) for source in heard.end["sources"]] == [["id", "score", "title", "url"]] * 2
    assert isinstance(heard.end["chat_id"], int)
    assert heard.end["metrics"]["model"] == "stand-in"


async def test_the_data_names_its_own_type(relay: Relay) -> None:
    """A client may switch on the SSE event name or on `type`: they say the same."""
    heard = await relay.ask("@agent !tool")
    assert {told.name for told in heard} == {"chunk", "thought", "final_end"}
    assert all(told.data["type"] == told.name for told in heard)


async def test_the_head_promises_a_stream_that_nobody_buffers(relay: Relay) -> None:
    """The response head is that of the protocol."""
    async with relay.asking("hi") as listening:
        headers = listening.response.headers
        assert headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert headers["Cache-Control"] == "no-cache, no-transform"
        assert headers["X-Accel-Buffering"] == "no"
        assert headers["Connection"] == "keep-alive"
        assert headers["Transfer-Encoding"] == "chunked"
        assert "Content-Encoding" not in headers


async def test_the_head_and_a_comment_are_there_before_anthingllm_says_a_word(
    relay: Relay, standin: StandIn
) -> None:
    """A client sees at once that it is connected, however long AnythingLLM takes."""
    async with relay.asking("!late=3600") as listening:
        assert await listening.response.content.readany() == PING
        assert (await standin.next_ask()).frames == 0


async def test_a_chunk_does_not_wait_for_the_next(relay: Relay) -> None:
    """Each piece of text is on its way as soon as it is here."""
    async with relay.asking("!tokens=9 !pause=3600") as listening:
        assert [(await listening.until("chunk")).data["content"] for _ in range(3)] == [
            "tok1",
            " tok2",
            " tok3",
        ]


async def test_silence_is_filled_with_comments_of_one_line(start_relay: StartRelay) -> None:
    """`: ping` and one line feed, never an empty line, before the first event and between events."""
    relay = await start_relay(relay_heartbeat=0.02)
    async with relay.asking("!silent") as listening:
        raw = b""
        while len(raw) < 5 * len(PING):
            raw += await listening.response.content.readany()
        assert raw == PING * (len(raw) // len(PING))


async def test_a_busy_stream_is_not_filled_with_comments(start_relay: StartRelay) -> None:
    """A comment stands only for real silence: text that flows for several beats has none in it."""
    relay = await start_relay(relay_heartbeat=1)
    async with relay.asking("!tokens=80 !slow=0.03") as listening:
        await listening.rest()
        assert listening.raw.count(PING) == 1


@pytest.mark.parametrize(
    "text", [FORGED, "😀漢字é\u2028" * 50, '{"type":"final_end"}', "</think><think>"]
)
async def test_text_is_identical_and_forges_nothing(relay: Relay, text: str) -> None:
    """Whatever a model writes is text."""
    heard = await relay.ask(f"!echo {text}")
    assert heard.text == text
    assert heard.end["reason"] == "complete"


async def test_no_client_can_take_text_for_line_ends(relay: Relay) -> None:
    """What some clients split lines at is escaped."""
    async with relay.asking(f"!echo {FORGED}") as listening:
        await listening.rest()
        lines = listening.raw.decode().split("\n")
        assert all(len(line.splitlines()) <= 1 for line in lines)


async def test_two_megabytes_in_one_token_arrive(relay: Relay) -> None:
    """A line of any size up to ANYTHINGLLM_MAX_LINE_BYTES is text like any other."""
    assert len((await relay.ask("!line=2000000")).text) == 2_000_000


async def test_five_thousand_frames_in_one_write_arrive(relay: Relay) -> None:
    """All that one read brings goes on, in order."""
    heard = await relay.ask("!burst=5000")
    assert len(heard.of("chunk")) == 5000
    assert len(set(heard.text.split())) == 5000


async def test_two_hundred_streams_at_once_complete(relay: Relay, standin: StandIn) -> None:
    """None waits for another: the connector's own limit of 100 would hang."""
    texts = [f"{n} " + "".join(random.Random(n).choices("abc é漢😀\n", k=200)) for n in range(200)]
    asked = [asyncio.create_task(relay.ask(f"!silent=2 !echo {text}")) for text in texts]
    heard = await asyncio.gather(*asked)
    assert [one.text for one in heard] == texts
    assert max(ask.connection for ask in standin.asks) > 100  # they did run at the same time


async def test_a_stalled_stream_does_not_delay_another(relay: Relay) -> None:
    """Streams share nothing that one could hold."""
    async with relay.asking("!stall") as stalled:
        await stalled.until("chunk")
        assert (await relay.ask("!tokens=3")).text == "tok1 tok2 tok3"


async def test_one_connection_serves_a_thousand_questions(relay: Relay, standin: StandIn) -> None:
    """Keep-alive holds after `final_end`, on the client's side and on AnythingLLM's."""
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
    body = b'{"question": "!tokens=2"}'
    head = b"POST /stream-ask HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    for _ in range(1000):
        writer.write(head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        answer = await reader.readuntil(b"\r\n0\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert answer.count(b"event: final_end") == 1
        assert answer.count(b"event: chunk") == 2
    writer.close()
    await writer.wait_closed()
    assert len(standin.asks) == 1000
    assert len({ask.connection for ask in standin.asks}) < 100  # reused, not opened anew each time


@pytest.mark.parametrize("connection", [b"", b"Connection: keep-alive\r\n"])
async def test_an_http_1_0_client_gets_a_readable_stream(relay: Relay, connection: bytes) -> None:
    """Without chunk framing, ended by the end of the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
    body = b'{"question": "!tokens=2"}'
    writer.write(
        b"POST /stream-ask HTTP/1.0\r\nContent-Type: application/json\r\n%bContent-Length: %d\r\n\r\n%b"
        % (connection, len(body), body)
    )
    head, _, stream = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    assert b"chunked" not in head
    assert b"Connection: close" in head
    assert stream.startswith(PING + b"event: chunk\ndata: {")
    assert stream.endswith(b"}\n\n")


async def test_a_client_that_wants_to_close_is_told_so(relay: Relay) -> None:
    """`Connection: close` is answered in kind."""
    async with relay.asking("hi", headers={"Connection": "close"}) as listening:
        assert listening.response.headers["Connection"] == "close"
        assert (await listening.rest()).end["reason"] == "complete"


# Options of a question


async def test_reasoning_can_be_separate_or_hidden(relay: Relay) -> None:
    """`inline` leaves the text as it came; the others leave the answer alone in the chunks."""
    inline = await relay.ask("!reason")
    separate = await relay.ask("!reason", reasoning="separate")
    hidden = await relay.ask("!reason", reasoning="hide")
    thought = "".join(data["content"] for data in separate.of("reasoning"))
    assert inline.text == f"<think>{thought}</think>{separate.text}"
    assert thought
    assert hidden.text == separate.text
    assert not hidden.of("reasoning")


async def test_sources_can_be_full_or_left_out(relay: Relay) -> None:
    """`full` brings the text of each; server paths stay behind."""
    full = (await relay.ask("!sources=2", sources="full")).end["sources"]
    assert all("text" in source for source in full)
    assert b"file:" not in json.dumps(full).encode()
    assert (await relay.ask("!sources=2", sources="none")).end["sources"] == []


async def test_frames_can_be_handed_on(relay: Relay) -> None:
    """`format: anythingllm` gives default messages, then our `final_end`."""
    heard = await relay.ask("!tokens=2", format="anythingllm")
    assert [told.name for told in heard] == ["message"] * 4 + ["final_end"]
    assert [data["type"] for data in heard.of("message")] == ["textResponseChunk"] * 3 + [
        "finalizeResponseStream"
    ]
    assert heard.end["reason"] == "complete"


async def test_handed_on_frames_stop_at_a_failure(relay: Relay) -> None:
    """The failing frame and those after it are told as our `error` and `final_end`."""
    heard = await relay.ask("!abort", format="anythingllm")
    assert {data["type"] for data in heard.of("message")} == {"textResponseChunk"}
    assert heard.error["code"] == "upstream_aborted"


# Agents


async def test_an_agents_text_is_sent_once(relay: Relay) -> None:
    """AnythingLLM says it up to three times."""
    plain = (await relay.ask("!echo @agent")).text
    assert plain == "@agent"
    for order in ("", "!tool", "!untooled"):
        heard = await relay.ask(f"@agent {order} !echo once")
        assert heard.text.count("once") == 1, order


async def test_a_chart_is_no_end(start_relay: StartRelay) -> None:
    """`close: true` on an object means nothing: the idle limit for tools holds, not the grace."""
    relay = await start_relay(anythingllm_idle_timeout=0.05)
    heard = await relay.ask("@agent !chart=0.5")
    assert heard.of("output")[0]["kind"] == "chart"
    assert heard.text
    assert heard.end["reason"] == "complete"


@pytest.mark.timeout(90)
async def test_an_agent_that_pauses_half_a_minute_after_a_chart_still_answers(relay: Relay) -> None:
    """Thirty seconds, as long as tools really take, with the settings of a newcomer."""
    heard = await relay.ask("@agent !chart=30")
    assert heard.of("output")
    assert heard.text
    assert heard.end["reason"] == "complete"


# Ways of failing


FAILURES = {
    "!abort": ("upstream_aborted", "", True),
    "!abort=429": ("upstream_aborted", "429 ", True),
    "!abort=400": ("upstream_aborted", "400 ", False),
    "!refused": ("upstream_aborted", "[redacted]", False),
    "!ollama": ("upstream_aborted", "Ollama", True),
    "!empty": ("empty_answer", "no answer", True),
    "!eof": ("upstream_truncated", "before the answer was finished", True),
    "!die": ("upstream_truncated", "broke", True),
    "!cut": ("upstream_truncated", "broke", True),
    "!die=0": ("upstream_unreachable", "broke", True),
    "!html": ("upstream_protocol", "ANYTHINGLLM_BASE_URL", False),
    "!json": ("upstream_protocol", "ANYTHINGLLM_BASE_URL", False),
    "!status=500": ("upstream_rejected", "500", True),
    "!status=429": ("upstream_rejected", "429", True),
    "!status=404": ("upstream_rejected", "404", False),
    "!redirect": ("upstream_rejected", "redirect", False),
    "@agent !agenterror": ("upstream_aborted", "500", True),
}


@pytest.mark.parametrize("question", FAILURES)
async def test_a_failure_is_one_error_and_one_final_end(relay: Relay, question: str) -> None:
    """With a code for the program, a sentence for the person, and whether to ask again."""
    code, words, retryable = FAILURES[question]
    error = (await relay.ask(question)).error
    assert error["code"] == code
    assert words in error["message"]
    assert "<" not in error["message"]  # no web page
    assert error["retryable"] is retryable


@pytest.mark.parametrize(
    "question", ["!closeeof", "!notype", "!garbage", "!unknown", "!whole", "!refusal"]
)
async def test_what_looks_odd_is_still_an_answer(relay: Relay, question: str) -> None:
    """A missing finalize, a missing content type, rubbish between frames: the text counts."""
    heard = await relay.ask(question)
    assert heard.text
    assert heard.end["reason"] == "complete"


async def test_skipped_frames_are_counted(relay: Relay) -> None:
    """`skipped` says how much could not be read."""
    assert (await relay.ask("!garbage")).end["skipped"] > 0
    assert (await relay.ask("!tokens=1")).end["skipped"] == 0


async def test_a_model_without_a_finish_is_a_timeout(start_relay: StartRelay, standin: StandIn) -> None:
    """AnythingLLM stays silent for ever then; that is no success, and it is let go."""
    relay = await start_relay(anythingllm_idle_timeout=0.2)
    heard = await relay.ask("!stall")
    assert heard.text
    assert heard.error["code"] == "upstream_timeout"
    assert "ANYTHINGLLM_IDLE_TIMEOUT" in heard.error["message"]
    ask = await standin.next_ask()
    await ask.ended.wait()
    assert ask.outcome == "left"


@pytest.mark.parametrize("question", ["!silent", "!late=3600"])
async def test_a_model_that_never_begins_is_a_timeout(start_relay: StartRelay, question: str) -> None:
    """Before and after the head of the response alike."""
    relay = await start_relay(anythingllm_first_event_timeout=0.2)
    error = (await relay.ask(question)).error
    assert error["code"] == "upstream_timeout"
    assert "ANYTHINGLLM_FIRST_EVENT_TIMEOUT" in error["message"]


async def test_no_limit_is_none(start_relay: StartRelay) -> None:
    """0 switches a limit off."""
    relay = await start_relay(anythingllm_first_event_timeout=0, anythingllm_idle_timeout=0)
    assert (await relay.ask("!silent=0.3 !pause=0.3")).end["reason"] == "complete"


async def test_the_grace_for_finalize_ends_well(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the closing chunk the answer is whole, whether or not the last frame comes."""
    monkeypatch.setattr("relay.frames.GRACE", 0.2)
    assert (await relay.ask("!nofinalize")).end["reason"] == "complete"


async def test_upstream_killed_in_mid_answer(relay: Relay, standin: StandIn) -> None:
    """The text so far stands, and the error says what happened and what to do."""
    async with relay.asking("!tokens=9 !pause=3600") as listening:
        await listening.until("chunk")
        await standin.kill()
        heard = await listening.rest()
    assert heard.error["code"] == "upstream_truncated"
    assert "ask again" in heard.error["message"]


async def test_nobody_at_the_address(relay: Relay, standin: StandIn) -> None:
    """The message says what to check."""
    await standin.stop()
    error = (await relay.ask("hi")).error
    assert error["code"] == "upstream_unreachable"
    assert "connection refused" in error["message"]
    assert "ANYTHINGLLM_BASE_URL" in error["message"]


async def test_the_wrong_key_and_the_wrong_slug_name_their_settings(start_relay: StartRelay) -> None:
    """Each message names the setting to mend."""
    wrong_key = await start_relay(anythingllm_api_key="wrong-key-1")
    error = (await wrong_key.ask("hi")).error
    assert error["code"] == "upstream_unauthorized"
    assert "ANYTHINGLLM_API_KEY" in error["message"]
    wrong_slug = await start_relay(anythingllm_workspace_slug="nope")
    error = (await wrong_slug.ask("hi")).error
    assert error["code"] == "upstream_rejected"
    assert "ANYTHINGLLM_WORKSPACE_SLUG" in error["message"]
    wrong_thread = await wrong_slug.ask("hi", thread="t")
    assert wrong_thread.error["code"] == "upstream_aborted"


async def test_a_fault_of_ours_is_told_without_details(
    relay: Relay, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The client hears `internal`; what happened is in the log, under the request's id."""

    def broken(_self: object, _data: bytes) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr("relay.frames.Answer.feed", broken)
    async with relay.asking("hi") as listening:
        error = (await listening.rest()).error
    await relay.idle()
    assert error["code"] == "internal"
    assert "secret detail" not in error["message"]
    [record] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert vars(record)["fields"] == {"id": listening.response.headers["X-Request-ID"]}
    assert "secret detail" in caplog.text


async def test_a_fault_in_the_very_end_still_ends_the_stream(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever cannot be told is left out: no client waits for ever."""

    def picky(event: Event) -> bytes:
        if isinstance(event, FinalEnd) and event.chat_id is not None:
            raise ValueError("cannot be told")
        return to_json(event)

    monkeypatch.setattr("relay.encoding.to_json", picky)
    assert (await relay.ask("!tokens=2")).error["code"] == "internal"


@pytest.mark.parametrize(
    ("question", "outcome"), [("!tokens=2", "complete"), ("!die", "upstream_truncated")]
)
async def test_the_log_tells_each_stream_in_a_line(
    relay: Relay, caplog: pytest.LogCaptureFixture, question: str, outcome: str
) -> None:
    """How it ended, how much it was, how long it took; under the id that the client was given."""
    with caplog.at_level("INFO", logger="relay"):
        async with relay.asking(question) as listening:
            heard = await listening.rest()
        await relay.idle()
    [record] = [record for record in caplog.records if record.message == "stream ended"]
    fields = vars(record)["fields"]
    assert fields["id"] == listening.response.headers["X-Request-ID"]
    assert fields["outcome"] == outcome
    assert fields["events"] == len(heard)
    assert fields["bytes"] == len(listening.raw) - len(PING)
    assert 0 <= fields["first_event_s"] <= fields["total_s"]


async def test_nothing_is_counted_as_running_afterwards(relay: Relay) -> None:
    """A stream that ended, well or not, frees its place."""
    await relay.ask("hi")
    await relay.ask("!die")
    await relay.idle()
    assert len(relay.app[STREAMS]) == 0


async def test_what_waits_for_its_reader_is_held_as_bytes_alone(start_relay: StartRelay) -> None:
    """Sources of a few megabytes are many times that as objects, and a client may read slowly."""
    source = {"title": "a", "text": "x" * 1_000_000, "kind": ["a source of this test"]}
    frames = [
        {"type": "textResponseChunk", "textResponse": "x"},
        {"type": "finalizeResponseStream", "sources": [source]},
    ]
    body = b"".join(b"data: %b\n\n" % json.dumps(frame).encode() for frame in frames)
    head = b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n" % (EVENTS, len(body))
    async with upstream(head + body) as url:
        relay = await start_relay(anythingllm_base_url=url, send_buffer=4096)
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.connect(("127.0.0.1", relay.port))
            slow.sendall(raw_request("?", sources="full"))
            running = relay.app[STREAMS]._running
            while [stream.outcome for stream in running] != ["complete"]:
                await asyncio.sleep(0.01)
            held = [one for one in gc.get_objects() if isinstance(one, dict) and "kind" in one]
            assert [one for one in held if one["kind"] == source["kind"]] == [source]  # our own
        await relay.idle()
