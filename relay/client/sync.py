"""The same for programs without an event loop, and for those that must not be held up by theirs."""

import asyncio
import atexit
import sys
from collections.abc import Callable, Coroutine, Generator
from contextlib import ExitStack, suppress
from functools import partial
from queue import Empty, SimpleQueue
from threading import Thread, main_thread
from typing import Any, Final, NoReturn, Self, TypeVar, Unpack

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
        loop = stack.enter_context(_Loop())
        stack.callback(loop.run, stream.leave)
        atexit.register(stack.close)  # for a generator that is held, and never closed
        stack.callback(atexit.unregister, stack.close)
        while events := loop.run(stream.read):
            yield from events


class _Loop:
    """An event loop in a thread of its own; a context.

    The caller may be interrupted anywhere, by Ctrl-C for one. So it shares no lock with the thread that
    an interruption could leave locked (threading.Condition and what is made of it, concurrent.futures
    too): the two speak through SimpleQueue and call_soon_threadsafe only.
    """

    def __init__(self) -> None:
        self._started: SimpleQueue[asyncio.AbstractEventLoop] = SimpleQueue()
        self._over = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._thread = Thread(target=self._run, name="relay.client", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._loop = self._started.get()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    def run(self, what: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """Run a coroutine there and wait for it, one at a time."""
        results: SimpleQueue[Callable[[], _T]] = SimpleQueue()
        self._loop.call_soon_threadsafe(self._begin, what, results)
        try:
            while True:
                with suppress(Empty):
                    return results.get(timeout=_WAKE)()
        except BaseException:
            self._loop.call_soon_threadsafe(self._interrupt)
            raise

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except RuntimeError:
            # At the end of a program asyncio may not start the thread in which it would wait for those
            # that look up names (Python 3.12). All is done by then.
            if main_thread().is_alive():
                raise

    async def _main(self) -> None:
        self._started.put(asyncio.get_running_loop())
        await self._over.wait()
        self._task = None

    def _begin(
        self, what: Callable[[], Coroutine[Any, Any, _T]], results: SimpleQueue[Callable[[], _T]]
    ) -> None:
        async def run() -> None:
            try:
                value = await what()
            except BaseException as error:  # cancelled or failed: who waits for it is told
                results.put(partial(_raise, error))
            else:
                results.put(lambda: value)

        self._task = asyncio.create_task(run())

    def _interrupt(self) -> None:
        if self._task is not None:
            self._task.cancel()


def _raise(error: BaseException) -> NoReturn:
    raise error
