"""How an answer goes: one function for every order that changes it."""

import itertools
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final, TypeVar

from relay.standin import answers
from relay.standin.frames import ChatFrames, Frames, abort, frame, notice
from relay.standin.orders import Orders
from relay.standin.stream import Stream

SOME: Final = 3  # tokens before most failures
STALLED: Final = 5
NO_JSON: Final = (
    b"data: this is no JSON\n\n",
    b'data: {"type":"textResponseChunk","textRes\n\n',
    b"data: [1,2]\n\n",
    b"this is no field\n\n",
)

F = TypeVar("F", bound=Frames)
Script = Callable[[Stream[F], Orders, Iterable[str]], Awaitable[None]]
Tokens = Iterable[str]


async def perform(
    scripts: Mapping[str, Script[F]], stream: Stream[F], orders: Orders, tokens: Tokens
) -> None:
    """Keep the ordered silence, then follow the first order that has a script, or just answer."""
    if "silent" in orders:
        await stream.silence(orders.seconds("silent", None))
    ordered = (scripts[word] for word in orders if word in scripts)
    await next(ordered, answer)(stream, orders, tokens)


async def answer(stream: Stream[Frames], _: Orders, tokens: Tokens) -> None:
    """Say the text and end the run."""
    await stream.say(tokens)
    await stream.end()


async def _burst(stream: Stream[Frames], orders: Orders, _: Tokens) -> None:
    await stream.flood(answers.counted(orders.number("burst", 100)))
    await stream.end()


async def _endless(stream: Stream[Frames], _: Orders, __: Tokens) -> None:
    tokens = (f"tok{number} " for number in itertools.count(1))
    # As chunks: an agent's frames would keep every token to repeat the text at an end.
    await stream.say(tokens, stream.frames.chunk)


async def _reason(stream: Stream[Frames], orders: Orders, tokens: Tokens) -> None:
    await stream.say((*answers.THINKING, "</think>"), stream.frames.chunk)
    await answer(stream, orders, tokens)


async def _surrogate(stream: Stream[Frames], orders: Orders, _: Tokens) -> None:
    await answer(stream, orders, ("A", "\ud83d", "\ude00", "B"))


async def _garbage(stream: Stream[Frames], _: Orders, __: Tokens) -> None:
    await stream.say(("tok1",))
    await stream.send(*NO_JSON)
    await stream.say((" tok2",))
    await stream.send(stream.frames.raw_chunk(b'" b\xffd"'))
    await stream.say((" tok3",))
    await stream.end()


async def _unknown(stream: Stream[Frames], orders: Orders, _: Tokens) -> None:
    await stream.say(("tok1",))
    await stream.send(stream.frames.unknown())
    await answer(stream, orders, (" tok2",))


async def _stall(stream: Stream[Frames], _: Orders, tokens: Tokens) -> None:
    await stream.say(itertools.islice(tokens, STALLED))
    await stream.silence()


async def _eof(stream: Stream[Frames], _: Orders, tokens: Tokens) -> None:
    await stream.say(itertools.islice(tokens, SOME))


async def _die(stream: Stream[Frames], orders: Orders, tokens: Tokens) -> None:
    await stream.say(itertools.islice(tokens, orders.number("die", SOME)))
    await stream.die()


async def _cut(stream: Stream[Frames], _: Orders, tokens: Tokens) -> None:
    await stream.say(itertools.islice(tokens, SOME))
    await stream.cut(stream.frames.token(" never read"))


async def _reasononly(stream: Stream[Frames], _: Orders, __: Tokens) -> None:
    await stream.say(answers.THINKING, stream.frames.chunk)
    await stream.end()


async def _whole(stream: Stream[ChatFrames], _: Orders, tokens: Tokens) -> None:
    await stream.send(*stream.frames.whole("".join(tokens)))


async def _refusal(stream: Stream[Frames], _: Orders, __: Tokens) -> None:
    await stream.send(notice(answers.REFUSAL))


async def _abort(stream: Stream[ChatFrames], orders: Orders, tokens: Tokens) -> None:
    await stream.say(itertools.islice(tokens, SOME))
    status = orders.number("abort", 0)
    error = answers.failure(status) if status else "Premature close"
    await stream.send(stream.frames.abort(error), stream.frames.finalize())


async def _refused(stream: Stream[Frames], orders: Orders, _: Tokens) -> None:
    await stream.send(frame(**abort(answers.failure(orders.number("refused", 401)))))


async def _ollama(stream: Stream[ChatFrames], _: Orders, tokens: Tokens) -> None:
    await stream.say(itertools.islice(tokens, SOME))
    error = "Ollama:streaming - could not stream chat. SocketError: other side closed"
    frames = stream.frames
    await stream.send(frames.closing(error), frames.finalize(frames.uncounted()))


async def _nofinalize(stream: Stream[ChatFrames], orders: Orders, tokens: Tokens) -> None:
    await _closeeof(stream, orders, tokens)
    await stream.silence()


async def _closeeof(stream: Stream[ChatFrames], _: Orders, tokens: Tokens) -> None:
    await stream.say(tokens)
    await stream.send(stream.frames.closing())


BOTH: Final[Mapping[str, Script[Frames]]] = {
    "burst": _burst,
    "endless": _endless,
    "reason": _reason,
    "surrogate": _surrogate,
    "garbage": _garbage,
    "unknown": _unknown,
    "stall": _stall,
    "eof": _eof,
    "die": _die,
    "cut": _cut,
}
CHAT: Final[Mapping[str, Script[ChatFrames]]] = {
    **BOTH,
    "reasononly": _reasononly,
    "whole": _whole,
    "refusal": _refusal,
    "abort": _abort,
    "refused": _refused,
    "ollama": _ollama,
    "nofinalize": _nofinalize,
    "closeeof": _closeeof,
}
