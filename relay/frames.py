"""AnythingLLM's frames in, our events out: the state machine of one answer, without any I/O.

The stream is a sequence of `data:` lines, each one JSON object, a *frame*. How an answer ends is
decided here and nowhere else (docs/architecture.md, "Ways of ending"): every ending, good or bad,
becomes exactly one FinalEnd, with one Error just before it if the answer failed.
"""

import re
from itertools import islice
from typing import Any, Final, Literal, NamedTuple

from relay.errors import Code, RelayError
from relay.events import Error, Event, FinalEnd, Output, OutputKind, Reason, Thought
from relay.frame_types import Frame, handed_on, kind_of, parse, plain_pieces
from relay.reasoning import Handling
from relay.redact import Redactor, summary, without_paths
from relay.sse import Decoder, LineTooLong
from relay.text import AnswerText

SourceDetail = Literal["titles", "full", "none"]
Format = Literal["events", "anythingllm"]

# After a closing frame, seconds to wait for finalizeResponseStream, which brings sources and metrics.
# Recorded: it follows within a millisecond.
GRACE: Final = 10.0

# Sources that are told by their titles: nobody reads on.
_MAX_TITLES: Final = 1000

_FINAL_STATUS: Final = re.compile(r"4(?!08|29)\d\d\b")


class Limits(NamedTuple):
    """Seconds of silence before an answer fails; None is no limit.

    `first_event` runs from the asking to the first frame, and holds between the frames of an agent
    run too, whose tools are slow; `idle` between any others.
    """

    first_event: float | None = None
    idle: float | None = None


class Answer:
    """One answer of AnythingLLM, from the bytes of its stream to the events of ours.

    Feed it what was read (`feed`), and tell it how the reading ended: `eof`, `timeout`, `fail`. Each
    returns the events that follow; once `ended`, there are no more.
    """

    def __init__(
        self,
        *,
        format: Format = "events",  # noqa: A002 (the protocol's own word)
        reasoning: Handling = "inline",
        sources: SourceDetail = "titles",
        limits: Limits = Limits(),  # noqa: B008 (immutable)
        max_line_bytes: int = 4 * 1024 * 1024,
        redactor: Redactor = Redactor(),  # noqa: B008 (immutable)
    ) -> None:
        self._hands_on = format == "anythingllm"
        self._source_detail = sources
        self._limits = limits
        self._redactor = redactor
        self._decoder = Decoder(max_line_bytes)
        self._text = AnswerText(reasoning)
        self._sources: list[dict[str, Any]] = []
        self._metrics: dict[str, Any] = {}
        self._chat_id: int | None = None
        self._readable = 0
        self._skipped = 0
        self._closing = False  # a closing frame came: the text is whole, finalize may follow
        self._agent = False
        self._made_something = False  # that is not text
        self.frames = 0  # heard so far, readable or not
        self.ended = False  # whether FinalEnd is out

    @property
    def limit(self) -> float | None:
        """Seconds of silence allowed from now on: from the asking at first, then from each frame."""
        if self._closing:
            return GRACE
        if self.frames == 0 or self._agent:
            return self._limits.first_event
        return self._limits.idle

    def feed(self, data: bytes) -> list[Event]:
        """Take bytes of the stream, cut anywhere."""
        try:
            return self._frames(self._decoder.feed_data(data))
        except LineTooLong as error:
            message = (
                f"AnythingLLM sent {error}; raise ANYTHINGLLM_MAX_LINE_BYTES if its sources are that "
                "large."
            )
            events = self._frames([event.data.encode() for event in error.events])
            return events + self.fail(RelayError(Code.UPSTREAM_PROTOCOL, message))

    def eof(self) -> list[Event]:
        """The body ended, as HTTP says."""
        if self._closing:
            return self._end("complete")
        if self._readable == 0:
            message = (
                "What answered sent no frame of AnythingLLM's; check that ANYTHINGLLM_BASE_URL is "
                "the address of an AnythingLLM server."
            )
            return self.fail(RelayError(Code.UPSTREAM_PROTOCOL, message))
        message = "AnythingLLM ended the stream before the answer was finished; ask again."
        return self.fail(RelayError(Code.UPSTREAM_TRUNCATED, message))

    def timeout(self) -> list[Event]:
        """The silence lasted for `limit` seconds."""
        if self._closing:
            return self._end("complete")
        if self.frames == 0:
            what, setting = "did not begin to answer", "ANYTHINGLLM_FIRST_EVENT_TIMEOUT"
        elif self._agent:
            what, setting = "(an agent run) fell silent", "ANYTHINGLLM_FIRST_EVENT_TIMEOUT"
        else:
            what, setting = "fell silent in mid-answer", "ANYTHINGLLM_IDLE_TIMEOUT"
        message = f"AnythingLLM {what} for {self.limit:g} seconds ({setting}); ask again."
        return self.fail(RelayError(Code.UPSTREAM_TIMEOUT, message))

    def fail(self, error: RelayError, reason: Reason = "error") -> list[Event]:
        """Something else went wrong: the answer ends with this error.

        A connection that broke is judged by what came before it: after a closing frame the text is
        whole, and before any frame AnythingLLM was never reached.
        """
        if self.ended:
            return []
        if error.code is Code.UPSTREAM_TRUNCATED:
            if self._closing:
                return self._end("complete")
            if self.frames == 0:
                error = RelayError(Code.UPSTREAM_UNREACHABLE, error.message)
        told = Error(error.message, error.code, error.retryable)
        return [*self._held_back(), told, self._final_end(reason)]

    def stop(self, reason: Reason) -> list[Event]:
        """Somebody ended the answer who may: that is no failure."""
        return [] if self.ended else [*self._held_back(), self._final_end(reason)]

    def _end(self, reason: Reason) -> list[Event]:
        if self.ended:
            return []
        events = self._held_back()
        if self._text.empty and not self._made_something:
            message = "The model gave no answer; ask again, or ask differently."
            return events + self.fail(RelayError(Code.EMPTY_ANSWER, message))
        return [*events, self._final_end(reason)]

    def _held_back(self) -> list[Event]:
        events = self._text.end()
        return [] if self._hands_on else events

    def _final_end(self, reason: Reason) -> FinalEnd:
        self.ended = True
        end = FinalEnd(reason, self._sources, self._metrics, self._chat_id, self._skipped)
        self._sources, self._metrics = [], {}  # the answer may be held long after its end
        return end

    def _frames(self, received: list[bytes]) -> list[Event]:
        events, read = self._plain(received)
        for data in received[read:]:
            if self.ended:
                break
            self.frames += 1
            events += self._frame(data)
        return events

    def _plain(self, received: list[bytes]) -> tuple[list[Event], int]:
        """Read the first frames at once, if they are what most are; return how many those were."""
        if self.ended or self._hands_on or self._agent or not self._text.plain:
            return [], 0
        texts = plain_pieces(received)
        if texts:
            self._closing = False
            self.frames += len(texts)
            self._readable += len(texts)
        return self._text.pieces(texts), len(texts)

    def _frame(self, data: bytes) -> list[Event]:
        frame = parse(data)
        if frame is None:
            self._skipped += 1
            return []
        self._readable += 1
        if (words := frame.failure) is not None:
            return self._aborted(words)
        events = self._read(frame)
        return self._handed_on(data, events) if self._hands_on else events

    def _handed_on(self, data: bytes, events: list[Event]) -> list[Event]:
        raw = handed_on(data, events)
        endings: list[Event] = [event for event in events if isinstance(event, Error | FinalEnd)]
        if raw is None:
            self._skipped += 1
            return endings
        return [raw, *endings]

    def _aborted(self, words: str) -> list[Event]:
        """A failure told in a frame. `words` are the provider's, often with an HTTP status first."""
        final = _FINAL_STATUS.match(words) is not None
        message = self._redactor.text(words) or "AnythingLLM reported a failure without saying which."
        return self.fail(RelayError(Code.UPSTREAM_ABORTED, message, retryable=not final))

    def _read(self, frame: Frame) -> list[Event]:
        match frame.type:
            case "textResponseChunk":
                return self._chunk(frame)
            case "textResponse":
                return self._text_response(frame)
            case "finalizeResponseStream":
                return self._finalize(frame)
            case "agentThought":
                return self._thought(frame.thought)
            case "fileDownload":
                return self._output("file", frame.file)
            case "usageMetrics":
                self._agent = True
                self._note(frame)
                return []
            case _:
                if not self._hands_on:
                    self._skipped += 1
                return []

    def _chunk(self, frame: Frame) -> list[Event]:
        # Only an agent's chunks carry their message id as `id`; chat's say `uuid`.
        self._agent = self._agent or frame.id is not None
        self._closing = frame.close is True
        if frame.sources or frame.metrics or frame.chat_id is not None:
            self._note(frame)
        events = self._text.piece(frame.text) if isinstance(frame.text, str) else []
        return events + self._text.lone_half() if self._closing else events

    def _text_response(self, frame: Frame) -> list[Event]:
        if not isinstance(frame.text, str):
            return self._output(kind_of(frame.text), frame.text)
        self._closing = self._closing or frame.close is True
        self._note(frame)
        return self._text.whole(frame.text)

    def _finalize(self, frame: Frame) -> list[Event]:
        self._note(frame)
        events = self._text.whole(frame.text) if isinstance(frame.text, str) else []
        return events + self._end("complete")

    def _thought(self, thought: Any) -> list[Event]:
        self._agent, self._closing = True, False
        events = self._text.begin_turn()
        return [*events, Thought(thought)] if isinstance(thought, str) else events

    def _output(self, kind: OutputKind, content: Any) -> list[Event]:
        self._agent, self._closing = True, False
        if not isinstance(content, dict):
            return []
        self._made_something = True
        return [Output(kind, content)]

    def _note(self, frame: Frame) -> None:
        """Keep what `final_end` tells; an empty one never replaces a full one (1.8.5 and older)."""
        if isinstance(frame.sources, list) and frame.sources:
            self._sources = self._shown([s for s in frame.sources if isinstance(s, dict)])
        if isinstance(frame.metrics, dict) and frame.metrics:
            self._metrics = frame.metrics
        if type(frame.chat_id) is int:
            self._chat_id = frame.chat_id

    def _shown(self, sources: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if self._source_detail == "none":
            return []
        public = [without_paths(source) for source in sources]
        if self._source_detail == "full":
            return public
        titles = (told for source in public if any((told := summary(source)).values()))
        return list(islice(titles, _MAX_TITLES))
