"""What OpenAI's clients hear, out of our events."""

import json
from typing import Any

import pytest

from relay.completion_response import Completion, CompletionChunks, WholeCompletion, told_error
from relay.errors import TABLE, Code
from relay.events import Chunk, Error, Event, FinalEnd, Output, Reasoning, Thought
from relay.frames import Answer
from relay.redact import Redactor
from relay.sse import Decoder
from tests import recorded
from tests.cuts import at_random, pieces

COMPLETION = Completion("chatcmpl-1", 1700000000, "demo")
SECRET = "a-secret-of-the-relay"
END = FinalEnd("complete", [], {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}, 1, 0)
FAILED = FinalEnd("error", [], {}, None, 0)


def chunks(*, include_usage: bool = False) -> CompletionChunks:
    return CompletionChunks(COMPLETION, Redactor([SECRET]), include_usage=include_usage)


def whole(*events: Event) -> WholeCompletion:
    gathered = WholeCompletion(COMPLETION, Redactor([SECRET]))
    gathered.encode(events)
    return gathered


def told(data: bytes) -> list[Any]:
    """Read what was sent as a client does; `[DONE]` stays a word."""
    events = Decoder().feed(data)
    assert all(event.event == "message" for event in events)
    return [event.data if event.data == "[DONE]" else json.loads(event.data) for event in events]


def deltas(objects: list[Any], name: str) -> str:
    choices = [choice for one in objects if one != "[DONE]" for choice in one.get("choices", [])]
    return "".join(choice["delta"].get(name, "") for choice in choices)


def message(body: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(body)["choices"][0]["message"]
    return found


def test_a_stream_is_told_in_chunks() -> None:
    """The role first, then the text, then why it stops."""
    encoding = chunks()
    sent = b"".join([*encoding.encode([Chunk("a")]), *encoding.encode([Chunk("b"), END])])
    *objects, done = told(sent)
    common = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1700000000,
        "model": "demo",
    }
    assert [{name: one[name] for name in common} for one in objects] == [common] * 4
    assert [one["choices"] for one in objects] == [
        [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}],
        [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}],
        [{"index": 0, "delta": {"content": "b"}, "finish_reason": None}],
        [{"index": 0, "delta": {}, "finish_reason": "stop"}],
    ]
    assert done == "[DONE]"
    assert not any("usage" in one for one in objects)


def test_usage_comes_last_on_request() -> None:
    (sent,) = chunks(include_usage=True).encode([Chunk("a"), END])
    *objects, last, done = told(sent)
    assert [one["usage"] for one in objects] == [None] * 3
    assert last["choices"] == []
    assert last["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    assert done == "[DONE]"


@pytest.mark.parametrize("metrics", [{}, {"total_tokens": None, "prompt_tokens": "7"}])
def test_usage_that_is_not_known_is_0(metrics: dict[str, Any]) -> None:
    end = FinalEnd("complete", [], metrics, None, 0)
    nothing = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    (sent,) = chunks(include_usage=True).encode([Chunk("a"), end])
    assert told(sent)[-2]["usage"] == nothing
    assert json.loads(whole(Chunk("a"), end).body())["usage"] == nothing


@pytest.mark.parametrize("before", [[], [Chunk("a")]])
def test_an_error_ends_a_stream_without_done(before: list[Event]) -> None:
    """A client that takes [DONE] for success must not see it."""
    error = Error("429 Too fast", "upstream_aborted", retryable=True)
    (sent,) = chunks().encode([*before, error, FAILED])
    *objects, last = told(sent)
    assert len(objects) == 2 * len(before)
    assert last == {
        "error": {
            "message": "429 Too fast",
            "type": "rate_limit_error",
            "param": None,
            "code": "upstream_aborted",
        }
    }


def test_what_is_not_the_answer_is_reasoning() -> None:
    events: list[Event] = [
        Reasoning("I should "),
        Reasoning("think."),
        Thought("searching"),
        Output("file", {"filename": "a.txt"}),
        Chunk("Done."),
        END,
    ]
    (sent,) = chunks().encode(events)
    shown = 'I should think.\nsearching\n\n[file] {"filename":"a.txt"}\n'
    assert deltas(told(sent), "reasoning_content") == shown
    assert deltas(told(sent), "content") == "Done."
    assert message(whole(*events).body()) == {
        "role": "assistant",
        "content": "Done.",
        "refusal": None,
        "reasoning_content": shown,
    }
    assert "reasoning_content" not in message(whole(Chunk("a"), END).body())


def test_text_is_one_line_and_cannot_forge_an_event() -> None:
    text = "a\n\ndata: [DONE]\n\nb\u0085\u2028\u2029\0\r\n'\""
    for encoding in chunks(), chunks(include_usage=True):
        (sent,) = encoding.encode([Reasoning(text), Thought(text), Chunk(text), END])
        assert deltas(told(sent), "content") == text
        assert all(line == b"" or line.startswith(b"data: ") for line in sent.split(b"\n"))
        assert len(sent.decode().splitlines()) == len(sent.split(b"\n")) - 1


def test_a_secret_goes_out_in_no_form() -> None:
    events = [Chunk(f"<{SECRET}>"), Reasoning(SECRET), Error(SECRET, "internal", retryable=False)]
    (sent,) = chunks().encode(events)
    assert SECRET.encode() not in sent
    assert deltas(told(sent), "content") == "<[redacted]>"
    halves = Chunk(SECRET[:5]), Chunk(SECRET[5:])
    assert message(whole(*halves, END).body())["content"] == "[redacted]"


@pytest.mark.parametrize(
    ("words", "code", "status"),
    [
        ("500 x", "upstream_aborted", 502),
        ("429 x", "upstream_aborted", 429),
        ("The agent model failed to respond: 429 x", "upstream_aborted", 429),
        ("Over 429 x", "upstream_aborted", 502),
        ("AnythingLLM answered 429: slow down.", "upstream_rejected", 429),
        ("AnythingLLM answered 4290.", "upstream_rejected", 502),
        ("429", "upstream_unauthorized", 502),
        ("x", "upstream_unreachable", 502),
        ("x", "upstream_timeout", 504),
        ("x", "upstream_truncated", 502),
        ("x", "empty_answer", 502),
        ("x", "too_large", 502),
        ("x", "shutting_down", 503),
        ("x", "internal", 500),
    ],
)
def test_a_failure_has_a_status_and_is_not_asked_again(words: str, code: str, status: int) -> None:
    error = whole(Error(words, code, retryable=True), FAILED).error
    assert error is not None
    assert (error.code, error.message, error.status) == (code, words, status)
    assert not error.retryable


def test_every_code_can_be_told() -> None:
    for code in TABLE:
        error = whole(Error("x", code, retryable=True)).error
        assert error is not None
        assert error.status in (429, 500, 502, 503, 504)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, "invalid_request_error"), (429, "rate_limit_error"), (503, "server_error")],
)
def test_errors_have_a_type(status: int, kind: str) -> None:
    assert told_error("x", Code.INTERNAL, status)["error"]["type"] == kind


@pytest.mark.parametrize("name", recorded.NAMES)
def test_every_recorded_answer_is_told_exactly(name: str) -> None:
    """In both forms, however it was cut: what /stream-ask says, said OpenAI's way."""
    body = recorded.body(name)
    for cut in ([body], pieces(body, [1000]), at_random(body, seed=len(name), longest=500)):
        answer, encoding = Answer(reasoning="separate"), chunks()
        gathered, events, sent = WholeCompletion(COMPLETION, Redactor()), [], b""
        for data in cut:
            if told_now := answer.feed(data):
                events += told_now
                sent += b"".join(encoding.encode(told_now))
                gathered.encode(told_now)
        if told_now := [] if answer.ended else answer.eof():
            events += told_now
            sent += b"".join(encoding.encode(told_now))
            gathered.encode(told_now)
        text = "".join(event.content for event in events if isinstance(event, Chunk))
        errors = [event.message for event in events if isinstance(event, Error)]
        objects = told(sent)
        assert deltas(objects, "content") == text
        assert message(gathered.body())["content"] == text
        assert (objects[-1] == "[DONE]") == (not errors)
        assert [one["error"]["message"] for one in objects if "error" in one] == errors
        assert (gathered.error is None) == (not errors)
