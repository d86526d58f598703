"""The same for programs without an event loop, and for those that must not be held up by theirs."""

import asyncio
import atexit
import sys
from collections.abc import Callable, Coroutine, Generator, Iterator
from concurrent.futures import Future, wait
from contextlib import ExitStack, contextmanager
from threading import Thread
from typing import Any, Final, TypeVar, Unpack

from relay.client.decoding import AnyEvent
from relay.client.stream import Options, Stream

_T = TypeVar("_T")
# Windows wakes nobody for Ctrl-C who waits without a limit.
_WAKE: Final = 0.2 if sys.platform == "win32" else None


def ask_sync(
    url: str, question: str | None, **options: Unpack[Options]
) -> Generator[AnyEvent, None, None]:
    """Ask the relay at `url`, and yield the events of the answer: `ask` as a plain generator.

    It takes the options of `ask`, but no session, and raises the same; `on_lost` is called in another
    thread. The connection is looked after by an event loop in a thread of its own, so that it works
    whether or not one runs in the caller's.

    Leaving the loop early, by `break`, `close()` or an exception (Ctrl-C too), stops the answer, and so
    does the end of the program.
    """
    stream = Stream(url, question, **options)
    with ExitStack() as stack:
        run = stack.enter_context(_loop_in_a_thread())
        stack.callback(lambda: run(stream.leave()))
        atexit.register(stack.close)  # for a generator that is held, and never closed
        stack.callback(atexit.unregister, stack.close)
        while events := run(stream.read()):
            yield from events


@contextmanager
def _loop_in_a_thread() -> Iterator[Callable[[Coroutine[Any, Any, _T]], _T]]:
    """Give a function that runs a coroutine there and waits for it."""
    started: Future[asyncio.AbstractEventLoop] = Future()
    over = asyncio.Event()

    async def until_over() -> None:
        started.set_result(asyncio.get_running_loop())
        await over.wait()

    def run(what: Coroutine[Any, Any, _T]) -> _T:
        future = asyncio.run_coroutine_threadsafe(what, loop)
        try:
            while True:
                done, _ = wait([future], _WAKE)
                if done:
                    return future.result()
        finally:
            future.cancel()

    thread = Thread(target=asyncio.run, args=(until_over(),), name="relay.client", daemon=True)
    thread.start()
    loop = started.result()
    try:
        yield run
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
