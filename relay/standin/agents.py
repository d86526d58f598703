"""An agent's run: its frames, and the orders only agents have."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from relay.standin import answers
from relay.standin.frames import Frames, frame
from relay.standin.orders import Orders
from relay.standin.scripts import BOTH, Script, Tokens, answer
from relay.standin.stream import Stream

SEARCHING: Final = (
    '@agent is executing `rag-memory` tool {\n  "action": "search",\n  "content": "pump maintenance"\n}'
)
FOUND: Final = "@agent: Found 4 additional piece of context to help answer this question."
CHARTING: Final = (
    '@agent is executing `create-chart` tool {\n  "type": "bar",\n  "title": "T",\n'
    '  "dataset": "[{\\"name\\":\\"a\\",\\"value\\":12}]"\n}'
)
CHARTED: Final = "@agent: Rendering bar chart."
CHART: Final = {"type": "bar", "dataset": '[{"name":"a","value":12}]', "title": "T"}
FILE: Final = ("report.txt", 1234)
FAILED: Final = "Error encountered while running: "


class AgentFrames(Frames):
    """The frames of an agent's run: its text again at the end, of the last turn only."""

    def __init__(self, message: str, sources: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__(message, sources)
        self._before = f'data: {{"id":"{self.id}","type":"textResponseChunk","textResponse":'.encode()
        self._after = b',"sources":[],"close":false,"error":null}\n\n'
        self._turn: list[str] = []
        self._thoughts: list[str] = []

    def token(self, text: str) -> bytes:
        """A chunk of the answer."""
        self._turn.append(text)
        return super().token(text)

    def thought(self, text: str) -> bytes:
        """A step of the agent; what was said before it is another turn."""
        self._turn.clear()
        self._thoughts.append(text)
        return frame(
            id=self.id,
            type="agentThought",
            thought=text,
            sources=[],
            attachments=[],
            close=False,
            error=None,
            animate=True,
        )

    def file(self, name: str, size: int) -> bytes:
        """A file the agent has made."""
        stored = {"filename": name, "storageFilename": f"{self.id}-{name}", "fileSize": size}
        return frame(id=self.id, type="fileDownload", fileDownload=stored, close=False, error=None)

    def whole(self, text: object) -> bytes:
        """A text in one piece, or an object such as a chart."""
        return frame(
            id=self.id,
            type="textResponse",
            textResponse=text,
            sources=[],
            attachments=[],
            close=True,
            error=None,
            animate=False,
        )

    def end(self) -> Sequence[bytes]:
        """The usage, the text again, and the text once more in the finalize."""
        text, metrics = "".join(self._turn), self._metrics()
        usage = frame(id=self.id, type="usageMetrics", metrics=metrics, close=False, error=None)
        return usage, self.whole(text), self._finalize(text, metrics)

    def failure(self, error: str) -> Sequence[bytes]:
        """A failed model: nowhere is it called an error."""
        thought = self.thought(FAILED + error)
        return thought, self.whole(error), self._finalize(error, {})

    def _finalize(self, text: str, metrics: Mapping[str, object]) -> bytes:
        return frame(
            uuid=self.id,
            type="finalizeResponseStream",
            textResponse=text,
            thoughts=self._thoughts,
            outputs=[],
            sources=self.sources,
            close=True,
            error=False,
            metrics=metrics,
        )


async def _tool(stream: Stream[AgentFrames], orders: Orders, tokens: Tokens) -> None:
    await stream.say(answers.BEFORE_TOOL)
    await stream.send(stream.frames.thought(SEARCHING), stream.frames.thought(FOUND))
    await answer(stream, orders, tokens)


async def _chart(stream: Stream[AgentFrames], orders: Orders, tokens: Tokens) -> None:
    await stream.send(stream.frames.thought(CHARTING), stream.frames.thought(CHARTED))
    await stream.send(stream.frames.whole(CHART))
    await stream.silence(orders.seconds("chart", 0.0))
    await answer(stream, orders, tokens)


async def _file(stream: Stream[AgentFrames], orders: Orders, tokens: Tokens) -> None:
    await stream.send(stream.frames.file(*FILE))
    await answer(stream, orders, tokens)


async def _untooled(stream: Stream[AgentFrames], _: Orders, tokens: Tokens) -> None:
    for token in tokens:
        stream.frames.token(token)  # said to the run alone
    usage, whole, finalize = stream.frames.end()
    await stream.send(whole, usage, whole, finalize)


async def _agenterror(stream: Stream[AgentFrames], orders: Orders, _: Tokens) -> None:
    reason = answers.failure(orders.number("agenterror", 500))
    await stream.send(*stream.frames.failure(f"The agent model failed to respond: {reason}"))


async def _slowtool(stream: Stream[AgentFrames], orders: Orders, tokens: Tokens) -> None:
    await stream.send(stream.frames.thought(SEARCHING))
    await stream.silence(orders.seconds("slowtool", None))
    await answer(stream, orders, tokens)


AGENT: Final[Mapping[str, Script[AgentFrames]]] = {
    **BOTH,
    "tool": _tool,
    "chart": _chart,
    "file": _file,
    "untooled": _untooled,
    "agenterror": _agenterror,
    "slowtool": _slowtool,
}
