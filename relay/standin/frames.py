"""AnythingLLM's frames, keys in its order, as the bytes it puts on the wire."""

import json
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

MODEL: Final = "stand-in"


def encode(value: object) -> bytes:
    r"""JSON as JavaScript writes it: compact, unescaped, half a surrogate pair as `\ud83d`."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        # By way of UTF-16, halves that meet become the character they are in JavaScript.
        paired = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
        return paired.encode("utf-8", "backslashreplace")


def frame(**fields: object) -> bytes:
    """One frame: a line of JSON and an empty line."""
    return b"data: %b\n\n" % encode(fields)


def abort(error: str) -> dict[str, object]:
    """The abort object of a run that never began: a stream's only frame, or a JSON body."""
    return {
        "id": str(uuid.uuid4()),
        "type": "abort",
        "textResponse": None,
        "sources": [],
        "close": True,
        "error": error,
    }


def notice(text: str) -> bytes:
    """The only frame of an answer the model has no part in: a refusal, a reset."""
    return frame(
        id=str(uuid.uuid4()),
        type="textResponse",
        textResponse=text,
        sources=[],
        attachments=[],
        close=True,
        error=None,
        metrics={},
    )


class Frames(ABC):
    """Builds the frames of one run and keeps what its last frames repeat.

    What is the same in every token is encoded once: a load test sends millions of them.
    """

    _before: bytes
    _after: bytes

    def __init__(self, message: str, sources: Sequence[Mapping[str, Any]] = ()) -> None:
        self.id = str(uuid.uuid4())
        self.sources = sources
        self._prompt = len(message) // 4 + 64
        self._tokens = 0
        self._began = time.monotonic()

    def raw_chunk(self, text: bytes) -> bytes:
        """A chunk whose text is JSON already, good or bad."""
        return b"%b%b%b" % (self._before, text, self._after)

    def chunk(self, text: str) -> bytes:
        """A chunk the run does not count as part of its answer."""
        return self.raw_chunk(encode(text))

    def token(self, text: str) -> bytes:
        """A chunk of the answer."""
        self._tokens += 1
        return self.chunk(text)

    def unknown(self) -> bytes:
        """A frame of a type no AnythingLLM of today sends."""
        return frame(id=self.id, type="notInventedYet", note="?", close=False, error=None)

    @abstractmethod
    def end(self) -> Sequence[bytes]:
        """The frames that close the run."""

    def _metrics(self) -> dict[str, object]:
        duration = max(round(time.monotonic() - self._began, 3), 0.001)
        return {
            "prompt_tokens": self._prompt,
            "completion_tokens": self._tokens,
            "total_tokens": self._prompt + self._tokens,
            "duration": _number(duration),
            "outputTps": _number(self._tokens / duration),
            **_model(),
        }


def _number(value: float) -> float:
    # JavaScript writes 3000, not 3000.0.
    return int(value) if value.is_integer() else value


def _model() -> dict[str, object]:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"model": MODEL, "provider": "StandIn", "timestamp": now}


class ChatFrames(Frames):
    """The frames of the modes chat and query."""

    def __init__(
        self, message: str, sources: Sequence[Mapping[str, Any]] = (), *, chat_id: int = 1
    ) -> None:
        super().__init__(message, sources)
        self._chat_id = chat_id
        head = f'data: {{"uuid":"{self.id}","sources":[],"type":"textResponseChunk","textResponse":'
        self._before = head.encode()
        self._after = b',"close":false,"error":false}\n\n'

    def end(self) -> Sequence[bytes]:
        """The closing chunk and the finalize."""
        return self.closing(), self.finalize()

    def closing(self, error: str | None = None) -> bytes:
        """The chunk that closes the text; only Ollama's failures put a reason into it."""
        return frame(
            uuid=self.id,
            sources=[],
            type="textResponseChunk",
            textResponse="",
            close=True,
            error=error or False,
        )

    def abort(self, error: str) -> bytes:
        """A failure after the model had begun."""
        return frame(uuid=self.id, type="abort", textResponse=None, sources=[], close=True, error=error)

    def finalize(self, metrics: Mapping[str, object] | None = None) -> bytes:
        """The last frame: bare when there was no text to store."""
        bare = {
            "uuid": self.id,
            "type": "finalizeResponseStream",
            "close": True,
            "error": False,
        }
        if not self._tokens:
            return frame(**bare)
        metrics = metrics or self._streamed()
        return frame(**bare, chatId=self._chat_id, metrics=metrics, sources=self.sources)

    def whole(self, text: str) -> Sequence[bytes]:
        """What a provider without streaming sends."""
        self._tokens += bool(text)
        metrics = self._metrics()
        everything = frame(
            uuid=self.id,
            sources=self.sources,
            type="textResponseChunk",
            textResponse=text,
            close=True,
            error=False,
            metrics=metrics,
        )
        return everything, self.finalize(metrics)

    def uncounted(self) -> dict[str, object]:
        """The metrics after Ollama failed."""
        numbers = ("completion_tokens", "prompt_tokens", "total_tokens", "outputTps")
        costs = ("inputCost", "outputCost", "totalCost")
        duration = {"duration": self._metrics()["duration"]}
        return {**dict.fromkeys(numbers, 0), **duration, **_model(), **dict.fromkeys(costs, 0)}

    def _streamed(self) -> dict[str, object]:
        metrics = self._metrics()
        first = ("completion_tokens", "prompt_tokens", "total_tokens", "outputTps")
        return {**{key: metrics[key] for key in first}, **metrics}
