"""AnythingLLM's frames in, our events out: the end rule, repeats, reasoning, sources."""

import json
import math
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import Code, RelayError
from relay.events import (
    Chunk,
    Error,
    Event,
    FinalEnd,
    Output,
    OutputKind,
    RawFrame,
    Reasoning,
    Thought,
    to_json,
)
from relay.frames import GRACE, Answer, Format, Limits
from relay.redact import Redactor, without_paths
from tests import recorded
from tests.cuts import at_random, pieces


def hear(reads: Iterable[bytes], answer: Answer | None = None) -> list[Event]:
    """Feed an answer to its end."""
    answer = answer or Answer()
    events = [event for data in reads for event in answer.feed(data)]
    if not answer.ended:
        events += answer.eof()
    return events


def frame(type_: str, **fields: Any) -> bytes:
    return b"data: " + json.dumps({"type": type_, **fields}).encode() + b"\n\n"


def chunk(text: Any, *, close: bool = False, error: Any = False, **fields: Any) -> bytes:
    """A chunk as chat mode sends it."""
    fields = {"uuid": "u", "sources": [], **fields}
    return frame("textResponseChunk", textResponse=text, close=close, error=error, **fields)


def agent_chunk(text: str) -> bytes:
    return frame("textResponseChunk", id="i", textResponse=text, sources=[], close=False, error=None)


def whole(text: Any, **fields: Any) -> bytes:
    return frame("textResponse", id="i", textResponse=text, close=True, error=None, **fields)


def thought(text: str) -> bytes:
    return frame("agentThought", id="i", thought=text, close=False, error=None)


def finalize(**fields: Any) -> bytes:
    return frame("finalizeResponseStream", uuid="u", close=True, error=False, **fields)


def text_of(events: list[Event]) -> str:
    return "".join(event.content for event in events if isinstance(event, Chunk))


def final(events: list[Event]) -> FinalEnd:
    """The last event, of which there is exactly one, with at most one error, just before it."""
    ends = [event for event in events if isinstance(event, FinalEnd)]
    errors = [event for event in events if isinstance(event, Error)]
    assert events[-1:] == ends
    assert errors == ([] if ends[0].reason == "complete" else [events[-2]])
    return ends[0]


def error(events: list[Event]) -> Error:
    final(events)
    assert isinstance(events[-2], Error)
    return events[-2]


# Recordings


def cuttings(name: str) -> Iterable[list[bytes]]:
    data = recorded.body(name)
    yield [data]
    yield [part + b"\n\n" for part in data.split(b"\n\n") if part]
    yield pieces(data, [1])
    yield at_random(data, seed=1)
    yield at_random(data, seed=2, longest=2000)


@pytest.mark.parametrize("name", recorded.NAMES)
def test_every_recording_means_the_same_in_every_cutting(name: str) -> None:
    """Text, error and end are those of the recording, cut per frame, per byte, whole, at random."""
    meant = recorded.meaning(name)
    heard = [hear(reads) for reads in cuttings(name)]
    for events in heard:
        assert text_of(events) == meant.text
        if meant.code is None:
            assert final(events).reason == "complete"
        else:
            assert error(events) == Error(meant.message or "", meant.code, bool(meant.retryable))
            assert final(events).reason == "error"
        assert events == heard[0]


@pytest.mark.parametrize("name", recorded.NAMES)
def test_every_recording_is_handed_on_as_it_came(name: str) -> None:
    """`format: anythingllm` gives each frame itself, up to a failure, in every cutting."""
    heard = [hear(reads, Answer(format="anythingllm", sources="full")) for reads in cuttings(name)]
    frames = [event.frame for event in heard[0] if isinstance(event, RawFrame)]
    expected = [f for f in recorded.frames(name) if "type" in f]
    if recorded.meaning(name).code == "upstream_aborted":
        failing = next(
            at
            for at, f in enumerate(expected)
            if isinstance(f["error"], str) or "Error encountered" in f.get("thought", "")
        )
        expected = expected[:failing]
    assert [f["type"] for f in frames] == [f["type"] for f in expected]
    assert "".join(str(f.get("textResponse")) for f in frames) == "".join(
        str(f.get("textResponse")) for f in expected
    ).encode("utf-16", "surrogatepass").decode("utf-16")
    assert all(isinstance(event, RawFrame | Error | FinalEnd) for event in heard[0])
    assert (final(heard[0]).reason == "complete") == (recorded.meaning(name).code is None)
    assert all(events == heard[0] for events in heard)


@pytest.mark.parametrize("name", recorded.NAMES)
def test_every_event_is_one_line_of_json(name: str) -> None:
    """No event can be broken in two, by a line end of any kind."""
    for event in hear([recorded.body(name)]):
        line = to_json(event)
        assert len(line.decode().splitlines()) == 1
        assert json.loads(line)["type"]


def test_a_finished_chat_brings_its_metrics_and_chat_id() -> None:
    """`final_end` tells what finalizeResponseStream told."""
    end = final(hear([recorded.body("chat")]))
    assert end.chat_id == 12
    assert end.metrics["model"] == "fake-model"


def test_an_agent_run_brings_thoughts_and_outputs() -> None:
    """Progress and charts are events of their own, in their place."""
    events = hear([recorded.body("agent_tool_chart")])
    assert [type(event) for event in events[:3]] == [Thought, Thought, Output]
    assert events[1] == Thought("@agent: Rendering bar chart.")
    assert events[2] == Output(
        "chart", {"type": "bar", "dataset": '[{"name":"a","value":12}]', "title": "T"}
    )


# The end rule


def test_finalize_ends_at_once() -> None:
    """Nothing after finalizeResponseStream is heard, and the end of the body is not waited for."""
    answer = Answer()
    events = answer.feed(chunk("a") + finalize() + chunk("b"))
    assert text_of(events) == "a"
    assert final(events).reason == "complete"
    assert answer.ended
    assert answer.feed(chunk("c")) == []


def test_the_first_failure_wins_and_finalize_does_not_undo_it() -> None:
    """A string in `error` is a failure in any frame, with its own words."""
    events = hear([chunk("a") + chunk("b", error="first") + finalize().replace(b"false", b'"second"')])
    assert error(events).message == "first"
    assert text_of(events) == "a"


@pytest.mark.parametrize("no_failure", [False, None, 0, {}, []])
def test_only_a_string_is_a_failure(no_failure: Any) -> None:
    """`error` is false or null in frames that say nothing of the kind."""
    assert final(hear([chunk("a", error=no_failure) + finalize()])).reason == "complete"


def test_a_failure_without_words_still_says_something() -> None:
    """An empty `error`, or an abort without one, becomes a sentence."""
    for failing in (chunk("", error=""), frame("abort", error=None)):
        assert "without saying which" in error(hear([failing])).message


@pytest.mark.parametrize(
    ("words", "retryable"),
    [
        ("400 bad", False),
        ("401 Incorrect", False),
        ("404 no model", False),
        ("408 timeout", True),
        ("429 slow down", True),
        ("500 fault", True),
        ("4000 tokens are too many", True),
        ("Connection error.", True),
    ],
)
def test_a_client_fault_is_not_worth_a_retry(words: str, retryable: bool) -> None:
    """A provider's 4xx is final, but for 408 and 429."""
    assert error(hear([frame("abort", error=words)])).retryable is retryable


def test_eof_after_a_closing_frame_ends_well() -> None:
    """A closing chunk, or a whole text, is the end of the answer; finalize may be missing."""
    for closing in (chunk("a", close=True), whole("a")):
        assert final(hear([closing])).reason == "complete"


def test_a_broken_connection_after_a_closing_frame_ends_well() -> None:
    """The text is whole by then: only sources and metrics are lost."""
    answer = Answer()
    answer.feed(chunk("a", close=True))
    assert final(answer.fail(RelayError(Code.UPSTREAM_TRUNCATED, "broke"))).reason == "complete"


def test_eof_before_any_closing_frame_is_truncated() -> None:
    """A stream that just stops is never a success."""
    assert error(hear([chunk("a")])).code == "upstream_truncated"


def test_a_connection_that_breaks_before_any_frame_was_never_reached() -> None:
    """The code says so: it is worth a retry."""
    events = Answer().fail(RelayError(Code.UPSTREAM_TRUNCATED, "broke"))
    assert error(events) == Error("broke", "upstream_unreachable", retryable=True)


def test_a_connection_that_breaks_in_mid_answer_is_truncated() -> None:
    """The text so far stands, and the error says that it is not all."""
    answer = Answer()
    events = answer.feed(chunk("a"))
    events += answer.fail(RelayError(Code.UPSTREAM_TRUNCATED, "broke"))
    assert text_of(events) == "a"
    assert error(events).code == "upstream_truncated"


@pytest.mark.parametrize(
    "more",
    [chunk("b"), thought("hm"), frame("fileDownload", fileDownload={"filename": "f"}), whole({"x": 1})],
)
def test_work_after_a_closing_frame_reopens_the_answer(more: bytes) -> None:
    """An agent goes on after a closing frame: then the end of the body is no good end."""
    assert error(hear([whole("a") + more])).code == "upstream_truncated"


def test_an_object_never_closes() -> None:
    """A chart comes with `close: true` minutes before the answer (agent_tool_chart)."""
    answer = Answer(limits=Limits(first_event=600, idle=100))
    answer.feed(whole({"dataset": []}))
    assert answer.limit == 600
    assert error(answer.eof()).code == "upstream_truncated"


@pytest.mark.parametrize("other", [frame("usageMetrics", metrics={}, close=True), thought("hm")])
def test_close_on_any_other_frame_means_nothing(other: bytes) -> None:
    """Only chunks and whole texts can close."""
    assert error(hear([chunk("a") + other])).code == "upstream_truncated"


def test_usage_after_a_closing_frame_leaves_it_closed() -> None:
    """It brings no more text: agent_untooled sends it between two whole texts."""
    answer = Answer()
    answer.feed(whole("a") + frame("usageMetrics", metrics={"n": 1}))
    assert answer.limit == GRACE
    assert final(answer.eof()).metrics == {"n": 1}


# Limits


def test_the_limit_follows_the_phase() -> None:
    """First event, idle, agent, grace: each phase has its own patience."""
    answer = Answer(limits=Limits(first_event=600, idle=100))
    assert answer.limit == 600
    answer.feed(chunk("a"))
    assert answer.limit == 100
    answer.feed(chunk("", close=True))
    assert answer.limit == GRACE
    answer.feed(chunk("b"))
    assert answer.limit == 100
    answer.feed(thought("tools are slow"))
    assert answer.limit == 600


@pytest.mark.parametrize(
    "of_an_agent",
    [
        thought("x"),
        agent_chunk("x"),
        frame("usageMetrics", metrics={}),
        frame("fileDownload", fileDownload={}),
        whole({"jobId": 1}),
    ],
)
def test_an_agent_run_is_known_by_its_frames(of_an_agent: bytes) -> None:
    """Any of an agent's frames puts the patience for agents in force."""
    answer = Answer(limits=Limits(first_event=600, idle=100))
    answer.feed(chunk("a") + of_an_agent)
    assert answer.limit == 600


@pytest.mark.parametrize(
    ("before", "names"),
    [
        (b"", "did not begin to answer for 600 seconds (ANYTHINGLLM_FIRST_EVENT_TIMEOUT)"),
        (chunk("a"), "fell silent in mid-answer for 100 seconds (ANYTHINGLLM_IDLE_TIMEOUT)"),
        (thought("a"), "(an agent run) fell silent for 600 seconds (ANYTHINGLLM_FIRST_EVENT_TIMEOUT)"),
    ],
)
def test_silence_names_its_limit(before: bytes, names: str) -> None:
    """The message says which limit it was, and which setting sets it."""
    answer = Answer(limits=Limits(first_event=600, idle=100))
    answer.feed(before)
    events = answer.timeout()
    assert error(events).code == "upstream_timeout"
    assert names in error(events).message


def test_silence_after_a_closing_frame_ends_well() -> None:
    """The grace for finalize is over, and the answer is whole."""
    answer = Answer()
    assert text_of(answer.feed(chunk("a", close=True))) == "a"
    assert final(answer.timeout()).reason == "complete"


def test_a_shutdown_is_told_with_its_reason() -> None:
    """An end from outside has its own reason, and its error."""
    answer = Answer()
    answer.feed(chunk("a"))
    events = answer.fail(RelayError(Code.SHUTTING_DOWN, "bye"), "shutdown")
    assert events == [
        Error("bye", "shutting_down", retryable=True),
        FinalEnd("shutdown", [], {}, None, 0),
    ]
    assert answer.fail(RelayError(Code.INTERNAL, "again")) == []


# Rubbish


@pytest.mark.parametrize(
    "rubbish",
    [b"nonsense", b"{", b"[]", b"42", b'"text"', b"null", b'{"no": "type"}', b'{"type": 1}', b"[" * 9999,
     b'{"a":' * 9999, b'{"type": "\\ud83d'],
)  # fmt: skip
def test_a_frame_that_cannot_be_read_is_skipped_and_counted(rubbish: bytes) -> None:
    """One bad frame costs nothing but itself."""
    events = hear([chunk("a") + b"data: " + rubbish + b"\n\n" + chunk("b") + finalize()])
    assert text_of(events) == "ab"
    assert final(events).skipped == 1


@pytest.mark.parametrize("format_", ["events", "anythingllm"])
@pytest.mark.parametrize("two", ["[],[]", "{},{}", '{"a":[]}', '"[{"', '"\\ud800","[["'])
def test_a_frame_of_too_many_objects_costs_only_itself(format_: Format, two: str) -> None:
    """A few megabytes of brackets would become hundreds of megabytes of objects."""
    for pairs, skipped in ((24_999, 0), (25_000, 1)):  # beside the two brackets of the frame itself
        many = ",".join([two] * pairs).encode()
        odd = b'data: {"type": "usageMetrics", "x": [' + many + b"]}\n\n"
        events = hear([chunk("a") + odd + chunk("b") + finalize()], Answer(format=format_))
        assert final(events).skipped == skipped
        assert final(events).reason == "complete"
        assert len(events) == (3 if format_ == "events" else 5 - skipped)


@pytest.mark.parametrize("format_", ["events", "anythingllm"])
def test_a_frame_nested_too_deep_costs_only_itself(format_: Format) -> None:
    """However deep: what came in the same read is kept."""
    for depth in (300, 800, 2000, 50_000):
        deep = b'data: {"type": "news", "x": ' + b"[" * depth + b"]" * depth + b"}\n\n"
        events = hear([chunk("a") + deep + chunk("b") + finalize()], Answer(format=format_))
        told = b"".join(to_json(event) for event in events if not isinstance(event, FinalEnd))
        assert b'"a"' in told
        assert b'"b"' in told
        assert final(events).reason == "complete"


def test_a_number_beyond_any_range_is_no_reason_to_lose_the_end() -> None:
    """Strict JSON parsers refuse it; the rest of its frame counts."""
    odd = finalize(metrics={"outputTps": 0}, chatId=7).replace(b'"outputTps": 0', b'"outputTps": 1e999')
    events = hear([chunk("a") + odd])
    assert final(events).chat_id == 7
    assert b'"outputTps":null' in to_json(events[-1])


def test_an_unknown_type_is_skipped_and_counted() -> None:
    """A newer AnythingLLM may say more than we know."""
    assert final(hear([chunk("a") + frame("news") + finalize()])).skipped == 1


def test_an_unknown_type_is_handed_on() -> None:
    """`format: anythingllm` skips only what is no JSON."""
    events = hear([chunk("a") + frame("news", n=1) + finalize()], Answer(format="anythingllm"))
    assert RawFrame({"type": "news", "n": 1}) in events
    assert final(events).skipped == 0


def test_nothing_readable_is_the_wrong_address() -> None:
    """A body without a single frame is not AnythingLLM's."""
    assert error(hear([b"data: nonsense\n\n"])).code == "upstream_protocol"


def test_one_bad_byte_costs_one_character() -> None:
    """Bytes that are not UTF-8 become U+FFFD."""
    events = hear([chunk("XaY").replace(b"X", b"\xff").replace(b"Y", b"\xe6\xb1") + finalize()])
    assert text_of(events) == "\ufffda\ufffd"


def test_fields_of_wrong_types_are_passed_over() -> None:
    """Only what has the right type is read; nothing raises."""
    odd = [
        chunk(42),
        chunk(None),
        frame("agentThought", thought=7),
        frame("fileDownload", fileDownload="x"),
        whole([1]),
        chunk("a", sources="no", metrics=[1]),
        finalize(sources=[1, "x", {"title": "t"}], chatId=True, metrics=3),
    ]
    events = hear(odd)
    assert text_of(events) == "a"
    assert final(events) == FinalEnd(
        "complete", [{"id": None, "title": "t", "url": None, "score": None}], {}, None, 0
    )


def test_a_line_over_the_limit_fails_with_the_setting_to_raise() -> None:
    """What came before it is kept."""
    events = hear([chunk("a") + chunk("x" * 5000)], Answer(max_line_bytes=1000))
    assert text_of(events) == "a"
    assert error(events).code == "upstream_protocol"
    assert "ANYTHINGLLM_MAX_LINE_BYTES" in error(events).message


def test_two_megabytes_in_one_line_are_text_like_any_other() -> None:
    """A token of any size is one line (210 kB were recorded)."""
    text = "漢字😀" * 200_000
    raw = chunk("@").replace(b"@", text.encode())
    events = hear([*pieces(raw, [4096]), finalize()])
    assert text_of(events) == text


# Surrogates


def test_halves_in_two_frames_are_joined() -> None:
    """A model may emit half a character per token."""
    raw = chunk("a\ud83d") + chunk("\ude00b") + finalize()
    assert text_of(hear([raw])) == "a😀b"


@pytest.mark.parametrize(
    ("frames", "text"),
    [
        (chunk("a\ud83d") + chunk("b"), "a\ufffdb"),
        (chunk("\ude00a"), "\ufffda"),
        (chunk("a\ud83d"), "a\ufffd"),
        (chunk("a\ud83d") + chunk("", close=True), "a\ufffd"),
        (agent_chunk("a\ud83d") + thought("t") + agent_chunk("\ude00"), "a\ufffd\ufffd"),
        (whole("a\ud83d b"), "a\ufffd b"),
    ],
)
def test_a_lone_half_becomes_a_replacement(frames: bytes, text: str) -> None:
    """It is no character, and no encoding can carry it; everything around it is kept."""
    assert text_of(hear([frames + finalize()])) == text


def test_lone_halves_elsewhere_never_raise() -> None:
    """Thoughts, outputs, sources and metrics may hold them too."""
    raw = thought("\ud83d") + whole({"dataset": "\ude00"}) + agent_chunk("a")
    raw += finalize(sources=[{"title": "\ud83d"}], metrics={"\ud83d": "\ude00", "n": math.nan})
    for format_ in ("events", "anythingllm"):
        events = hear([raw], Answer(format=format_))
        assert "\ufffd" in b"".join(to_json(event) for event in events).decode()


def test_halves_are_joined_when_frames_are_handed_on() -> None:
    """`format: anythingllm` moves the pair into the frame that completes it."""
    raw = chunk("a\ud83d") + chunk("\ude00") + chunk("\ud83d") + chunk("", close=True) + finalize()
    events = hear([raw], Answer(format="anythingllm"))
    texts = [event.frame.get("textResponse") for event in events if isinstance(event, RawFrame)]
    assert texts == ["a", "😀", "", "\ufffd", None]


# Repeats of an agent


@pytest.mark.parametrize(
    ("frames", "text"),
    [
        (
            agent_chunk("Hel") + agent_chunk("lo") + whole("Hello") + finalize(textResponse="Hello"),
            "Hello",
        ),
        (whole("Hello") + whole("Hello") + finalize(textResponse="Hello"), "Hello"),
        (agent_chunk("Hel") + whole("Hello") + finalize(textResponse="Hello"), "Hello"),
        (agent_chunk("Hel") + finalize(textResponse="Hello"), "Hello"),
        (
            agent_chunk("a ")
            + thought("t")
            + agent_chunk("b")
            + whole("b")
            + finalize(textResponse="b"),
            "a b",
        ),
        (agent_chunk("a") + whole("x") + finalize(textResponse="x"), "ax"),
        (whole("a") + thought("t") + whole("a"), "a"),
        (whole("a") + thought("t") + whole("ab"), "aab"),
        (agent_chunk("a") + whole("a") + thought("t") + agent_chunk("a") + whole("a"), "aa"),
        (agent_chunk("A\ud83d") + whole("A😀") + finalize(textResponse="A😀"), "A😀"),
        (agent_chunk("é😀") + whole("é😀!") + finalize(textResponse="é😀!"), "é😀!"),
    ],
)
def test_each_character_is_sent_once(frames: bytes, text: str) -> None:
    """Of a whole text only the part that is new goes on."""
    assert text_of(hear([frames + finalize()])) == text


# Reasoning


def split(handling: str, *texts: str) -> tuple[str, str]:
    """What was reasoning, and what was answer."""
    answer = Answer(reasoning=handling)  # type: ignore[arg-type]
    events = hear([*[chunk(text) for text in texts], finalize()], answer)
    thoughts = [event.content for event in events if isinstance(event, Reasoning)]
    return "".join(thoughts), text_of(events)


REASONED = "<think>\nHm, <b>.</think>\n\nThe answer."


@given(cuts=st.lists(st.integers(1, 9), min_size=1))
def test_tags_may_be_cut_anywhere(cuts: list[int]) -> None:
    """However the text comes, the same is reasoning."""
    texts = [part.decode() for part in pieces(REASONED.encode(), cuts)]
    assert split("separate", *texts) == ("\nHm, <b>.", "\n\nThe answer.")
    assert split("hide", *texts) == ("", "\n\nThe answer.")
    assert split("inline", *texts) == ("", REASONED)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a <think>b</think> c", ("", "a <think>b</think> c")),
        ("<thin air", ("", "<thin air")),
        ("<thi", ("", "<thi")),
        (" \n<think>a</think>b", ("a", "b")),
        ("<think>a</think>b<think>c</think>", ("a", "b<think>c</think>")),
        ("<think></think>b", ("", "b")),
        (" " * 1000 + "b", ("", " " * 1000 + "b")),
    ],
)
def test_only_a_tag_at_the_beginning_counts(text: str, expected: tuple[str, str]) -> None:
    """An answer may talk about tags."""
    assert split("separate", text) == expected
    assert split("separate", *text) == expected


def test_a_tag_that_is_never_closed_leaves_no_answer() -> None:
    """Reasoning alone is an empty answer where it is told apart (reasoning_only)."""
    for handling in ("separate", "hide"):
        events = hear([recorded.body("reasoning_only")], Answer(reasoning=handling))
        assert error(events).code == "empty_answer"
        assert text_of(events) == ""


def test_a_tag_cut_off_by_the_end_is_reasoning() -> None:
    """What looked like the beginning of the closing tag was none."""
    assert split("separate", "<think>a</thi")[0] == "a</thi"


def test_every_turn_of_an_agent_may_think() -> None:
    """A thought ends one turn; the next may begin with a tag again."""
    frames = [
        agent_chunk("<think>a</think>b"),
        thought("t"),
        agent_chunk("<think>c</think>d"),
        finalize(),
    ]
    events = hear(frames, Answer(reasoning="separate"))
    assert events[:5] == [Reasoning("a"), Chunk("b"), Thought("t"), Reasoning("c"), Chunk("d")]


# Empty answers


@pytest.mark.parametrize(
    "frames", [finalize(), chunk("", close=True) + finalize(), whole(""), thought("t") + finalize()]
)
def test_an_end_without_a_character_is_an_error(frames: bytes) -> None:
    """Nobody takes silence for an answer."""
    assert error(hear([frames])).code == "empty_answer"


def test_an_output_is_an_answer() -> None:
    """An agent may make a file and say nothing."""
    made = frame("fileDownload", fileDownload={"filename": "a.txt", "fileSize": 3})
    events = hear([made + finalize()])
    assert events[0] == Output("file", {"filename": "a.txt", "fileSize": 3})
    assert final(events).reason == "complete"


@pytest.mark.parametrize(
    ("content", "kind"),
    [({"dataset": "[]"}, "chart"), ({"jobId": 1, "jobName": "n"}, "scheduled_job"), ({"x": 1}, "other")],
)
def test_an_object_is_named_by_its_fields(content: dict[str, Any], kind: OutputKind) -> None:
    """AnythingLLM drops the name of what an agent made."""
    assert hear([whole(content) + finalize()])[0] == Output(kind, content)


# Sources and secrets


SOURCE = {
    "id": "s1",
    "title": "notes.txt",
    "url": "file:///app/notes.txt",
    "score": 0.5,
    "text": "whole text",
    "location": "/srv/x.json",
    "chunkSource": "link://https://example.org",
}


def sources(detail: str, **changes: Any) -> list[dict[str, Any]]:
    answer = Answer(sources=detail)  # type: ignore[arg-type]
    return final(hear([chunk("a"), finalize(sources=[{**SOURCE, **changes}])], answer)).sources


SUMMARY = {"id": "s1", "title": "notes.txt", "url": None, "score": 0.5}


def test_sources_are_summed_up_unless_asked_for() -> None:
    """Titles by default, all on request, none on request."""
    assert sources("titles") == [SUMMARY]
    assert sources("none") == []
    assert sources("full")[0]["text"] == "whole text"


PATHS = [
    "file://a.txt",
    "FILE:a",
    "/etc/x",
    "C:\\x",
    "C:/x",
    "C:x",
    "\\\\host\\x",
    " /x",
    "./x",
    "../x",
    "~/x",
    "custom-documents/x.json",
    '"/etc"',
    "<file:///x>",
    "url=file:///x",
    "file%3A///x",
    "%66ile:///x",
    "%2Fetc%2Fx",
    "localfile:///x",
    "localfile://x",
    "view-source:file:///x",
    "vscode-file://x",
    "jar:file:///x",
    "link:///x",
    "link://file:///x",
    "https://example.org/?at=file:///x",
    "https://example.org/?at=FILE%3a///x",
    "https:///x",
    "https:x",
    "\ufefffile:///x",
    "\u200bfile:///x",
    "fi\tle:///x",
    "x\x00",
]


@pytest.mark.parametrize("path", PATHS)
def test_paths_of_the_server_are_not_passed_on(path: str) -> None:
    """Neither as an address nor as a place, in any format."""
    places = dict.fromkeys(
        ("url", "location", "chunkSource", "docpath", "path", "filePath", "URL", "FILEPATH"), path
    )
    full = sources("full", **places)[0]
    assert full == {"id": "s1", "title": "notes.txt", "score": 0.5, "text": "whole text"}
    assert sources("titles", url=path)[0]["url"] is None
    handed_on = hear(
        [chunk("a"), finalize(sources=[{**SOURCE, **places}])], Answer(format="anythingllm")
    )
    frames = [event.frame for event in handed_on if isinstance(event, RawFrame)]
    assert frames[-1]["sources"] == [full]


ADDRESSES = [
    "https://example.org/a?b=c%20d#e",
    "http://127.0.0.1:3001/profile",
    "https://en.wikipedia.org/wiki/File:Example.jpg",
    "link://https://example.org/a",
    "youtube://https://www.youtube.com/watch?v=a",
    "github://https://github.com/a/b?payload=c",
    "notes.txt",
    "名前 1.txt",
    "",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_what_is_surely_no_path_is_passed_on(address: str) -> None:
    """A link is what an editor wants to show."""
    assert sources("titles", url=address)[0]["url"] == address
    places = {"url": address, "location": address, "chunkSource": address}
    assert sources("full", **places)[0].items() >= places.items()


@pytest.mark.parametrize("name", recorded.NAMES)
def test_of_recorded_sources_only_file_addresses_and_storage_paths_are_lost(name: str) -> None:
    for one in recorded.frames(name):
        for source in one.get("sources") or []:
            lost = {
                field: value for field, value in source.items() if field not in without_paths(source)
            }
            assert set(lost) <= {"url", "location"}
            assert lost.get("url", "file:").startswith("file:")
            assert lost.get("location", "direct-uploads/").startswith("direct-uploads/")


def test_as_many_sources_are_told_as_anybody_reads() -> None:
    """A frame of a few megabytes may hold a million; those of which nothing would be shown are none."""
    nothing: list[dict[str, Any]] = [{}, {"url": "file:///a"}, {"text": "b"}, {"id": [], "title": None}]
    many = [*nothing * 100, *({"id": n, "text": "b"} for n in range(1, 2001))]
    frames = [chunk("a"), finalize(sources=many)]
    told = final(hear(frames)).sources
    assert [source["id"] for source in told] == list(range(1, 1001))
    assert len(final(hear(frames, Answer(sources="full"))).sources) == len(many)


@pytest.mark.parametrize("odd", [True, None, ["/srv/a"], {"at": "/srv/a"}])
def test_a_title_is_text_or_a_number(odd: Any) -> None:
    """What else is there was not looked at."""
    told = sources("titles", id=odd, title="", url="a.txt", score=odd)
    assert told == [{"id": None, "title": "", "url": "a.txt", "score": None}]
    assert sources("titles", title=odd, score=0)[0] == {**SUMMARY, "title": None, "score": 0}


@pytest.mark.parametrize("odd", [{"words": "sk-0123456789abcdef"}, ["/srv/key: 0123456789abcdef"]])
def test_what_nobody_has_checked_is_not_handed_on(odd: Any) -> None:
    """AnythingLLM sends `error` as a string or a boolean, and sources as a list of objects."""
    told = hear([frame("other", error=odd), finalize(sources=odd)], Answer(format="anythingllm"))
    assert [type(event) for event in told[:2]] == [RawFrame, RawFrame]
    assert b"0123456789abcdef" not in b"".join(to_json(event) for event in told if event is not None)


def test_sources_of_old_versions_are_kept() -> None:
    """1.8.5 and older send them with the closing chunk, and a finalize without."""
    closing = chunk("a", close=True, sources=[SOURCE])
    assert final(hear([closing, finalize(sources=[])])).sources[0]["title"] == "notes.txt"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("401 Incorrect API key provided: sk-dummy.", "401 Incorrect API key provided: [redacted]"),
        ("bad key sk-proj-abcdefgh12345678 used", "bad key [redacted] used"),
        (
            "header Authorization: Bearer abc123 refused",
            "header Authorization: Bearer [redacted] refused",
        ),
        ("GET https://x/v1?key=AbC&alt=sse", "GET https://x/v1?key=[redacted]&alt=sse"),
        ("my-own-secret leaked", "[redacted] leaked"),
        ("the bearer token is missing", "the bearer token is missing"),
        ("sk-learn skipped the task", "sk-learn skipped the task"),
    ],
)
def test_secrets_are_blanked_in_a_providers_words(words: str, told: str) -> None:
    """Keys and bearer tokens never reach a client; ordinary words do."""
    events = hear([frame("abort", error=words)], Answer(redactor=Redactor(["my-own-secret", "the", ""])))
    assert error(events).message == told


@pytest.mark.parametrize("secret", ["my-own-secret", "sk-0123456789abcdef", "Bearer 0123456789abcdef"])
def test_words_without_end_are_cut_between_words(secret: str) -> None:
    """Wherever the cut comes to lie: half a secret is not known for one."""
    redactor = Redactor(["my-own-secret"])
    for before in range(4096 - len(secret) - 2, 4098):
        words = "x" * (before - 5) + " abc " + f"{secret} and so on. " * 100_000
        told = error(hear([frame("abort", error=words)], Answer(redactor=redactor))).message
        assert told.lstrip("x") in (
            *("", " abc", " abc [redacted]", " abc [redacted] and"),
            *(" abc Bearer", " abc Bearer [redacted]", " abc Bearer [redacted] and"),
        )
        assert len(told) > 4000
    endless = error(hear([frame("abort", error="x" * 5000)], Answer(redactor=redactor)))
    assert endless.message == "AnythingLLM reported a failure without saying which."
