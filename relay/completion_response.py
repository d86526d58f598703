"""What a client of OpenAI's hears: our events as `chat.completion` objects.

docs/protocol.md, "OpenAI's format", has it in full.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from relay.errors import Code, RelayError
from relay.events import Chunk, Error, Event, FinalEnd, Output, Reasoning, Thought, to_json
from relay.redact import Redactor

_DONE: Final = b"data: [DONE]\n\n"
_TOKENS: Final = ("prompt_tokens", "completion_tokens", "total_tokens")
# What an answer that failed is told with where the head is not out yet; 502 for any other code.
_STATUS: Final = {
    Code.TOO_LARGE: 502,
    Code.UPSTREAM_TIMEOUT: 504,
    Code.SHUTTING_DOWN: 503,
    Code.INTERNAL: 500,
}
# Where a provider's 429 is in our words, and in those of an agent.
_RATE_LIMIT: Final = re.compile(r"(?:\A|: |\AAnythingLLM answered )429\b")


class Completion(NamedTuple):
    """What all objects of one answer have in common; `created` in seconds since 1970."""

    id: str
    created: int
    model: str


class CompletionChunks:
    """An Encoding: `chat.completion.chunk` objects as Server-Sent Events, then `[DONE]` or an error."""

    def __init__(self, completion: Completion, redactor: Redactor, *, include_usage: bool) -> None:
        self._common = {"object": "chat.completion.chunk", **completion._asdict()}
        self._redactor = redactor
        self._include_usage = include_usage
        usage = b',"usage":null' if include_usage else b""
        self._before = b"data: " + to_json(self._common)[:-1] + b',"choices":[{"index":0,"delta":{'
        self._content = self._before + b'"content":'
        self._after = b'},"finish_reason":null}]' + usage + b"}\n\n"
        self._stop = b'},"finish_reason":"stop"}]' + usage + b"}\n\n"
        self._begun = False

    def encode(self, events: Sequence[Event]) -> list[bytes]:
        """Return the events as they go out, as one piece."""
        before, after = self._content, self._after
        told = [
            before + to_json(event.content) + after if type(event) is Chunk else self._told(event)
            for event in events
        ]
        if not self._begun and not isinstance(events[0], Error):
            self._begun = True
            told.insert(0, self._before + b'"role":"assistant","content":""' + after)
        return [self._redactor.json(b"".join(told))]

    def _told(self, event: Event) -> bytes:
        if isinstance(event, Error):
            return _event(_error(event))
        if isinstance(event, FinalEnd):
            return self._end(event.metrics) if event.reason == "complete" else b""
        return self._before + b'"reasoning_content":' + to_json(_thinking(event)) + self._after

    def _end(self, metrics: Mapping[str, Any]) -> bytes:
        end = self._before + self._stop
        if self._include_usage:
            end += _event({**self._common, "choices": [], "usage": _usage(metrics)})
        return end + _DONE


class WholeCompletion:
    """An Encoding for an answer in one piece, which gathers it: what it returns is only to be counted.

    `error` is why there is none, once the answer has ended.
    """

    def __init__(self, completion: Completion, redactor: Redactor) -> None:
        self._common = {"object": "chat.completion", **completion._asdict()}
        self._redactor = redactor
        self._texts: list[str] = []
        self._thinking: list[str] = []
        self._metrics: Mapping[str, Any] = {}
        self.error: RelayError | None = None

    def encode(self, events: Sequence[Event]) -> list[bytes]:
        """Take the events; return what they add to the answer."""
        added = [self._take(event) for event in events]
        return ["".join(added).encode()]

    def body(self) -> bytes:
        """Return the whole answer as JSON."""
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self._texts), "refusal": None}
        if self._thinking:
            message["reasoning_content"] = "".join(self._thinking)
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        told = {**self._common, "choices": [choice], "usage": _usage(self._metrics)}
        return self._redactor.json(to_json(told))

    def _take(self, event: Event) -> str:
        if isinstance(event, Error):
            self.error = _failure(event)
            return ""
        if isinstance(event, FinalEnd):
            self._metrics = event.metrics
            return ""
        if isinstance(event, Chunk):
            self._texts.append(event.content)
            return event.content
        self._thinking.append(_thinking(event))
        return self._thinking[-1]


def told_error(message: str, code: str, status: int) -> dict[str, Any]:
    """Return what tells an error."""
    if status == 429:
        kind = "rate_limit_error"
    else:
        kind = "server_error" if status >= 500 else "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def _error(event: Error) -> dict[str, Any]:
    return told_error(event.message, event.code, _failure(event).status or 500)


def _failure(event: Error) -> RelayError:
    """Return an answer's failure with a status; whoever hears it shall not ask again by itself."""
    code = Code(event.code)
    status = _STATUS.get(code, 502)
    if code in (Code.UPSTREAM_ABORTED, Code.UPSTREAM_REJECTED) and _RATE_LIMIT.search(event.message):
        status = 429
    return RelayError(code, event.message, status=status, retryable=False)


def _thinking(event: Event) -> str:
    """Return what is no part of the answer as the text that clients show beside it."""
    match event:
        case Reasoning(content):
            return content
        case Thought(content):
            return f"\n{content}\n"
        case Output(kind, content):
            return f"\n[{kind}] {to_json(content).decode()}\n"
    raise TypeError(f"{type(event).__name__} is no event of an answer in this format")


def _usage(metrics: Mapping[str, Any]) -> dict[str, int]:
    return {name: value if type(value := metrics.get(name)) is int else 0 for name in _TOKENS}


def _event(told: Mapping[str, Any]) -> bytes:
    return b"data: " + to_json(told) + b"\n\n"
