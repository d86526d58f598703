"""From an ask to its answer, whole or cut short."""

import asyncio
import itertools
from collections.abc import Collection, Mapping
from typing import Final

from aiohttp import web

from relay.standin import answers, pages
from relay.standin.agents import AGENT, AgentFrames
from relay.standin.asks import Ask, Outcome
from relay.standin.frames import ChatFrames, abort, frame, notice
from relay.standin.histories import Histories
from relay.standin.orders import parse
from relay.standin.questions import is_agent, objection, session
from relay.standin.scripts import CHAT, perform
from relay.standin.stream import Stream

NO_TYPE: Final = {"Content-Type": ""}
STREAM: Final = {
    "Cache-Control": "no-cache",
    "Content-Type": "text/event-stream",
    "Access-Control-Allow-Origin": "*",
}


class Chats:
    """Answers asks, and notes in each how it ended."""

    def __init__(self, workspaces: Collection[str], pace: float) -> None:
        self.dying = False
        """Set while connections are lost on purpose, so that no client is said to have left."""
        self._workspaces = workspaces
        self._pace = pace
        self._histories = Histories()
        self._chat_ids = itertools.count(1)

    async def answer(self, request: web.Request, ask: Ask) -> web.StreamResponse:
        """Answer to the end, or until the client leaves."""
        outcome: Outcome = "died"
        try:
            response = await self._respond(request, ask)
            await response.prepare(request)
            await response.write_eof()
            outcome = "complete"
        except asyncio.CancelledError:
            outcome = "died" if self.dying else "left"
            raise
        except ConnectionError:  # a write met a closed connection before the cancellation came
            outcome = "died" if self.dying else "left"
            return web.Response()  # nobody hears it; an exception would be logged as a bug
        finally:
            ask.close(outcome)
        return response

    async def _respond(self, request: web.Request, ask: Ask) -> web.StreamResponse:
        """Find what to say; a stream has been written but for its end when it is returned."""
        if ask.thread is not None and ask.workspace not in self._workspaces:
            error = "Cannot read properties of null (reading 'id')"
            return await _only(request, ask, frame(**abort(error)), NO_TYPE)
        if refusal := objection(ask, self._workspaces):
            return refusal
        message = ask.body.get("message")
        if ask.body.get("reset"):
            self._histories.reset(session(ask))
            if not message:
                return await _only(request, ask, notice(answers.RESET))
        if not isinstance(message, str):
            error = "promptString.startsWith is not a function"
            return await _only(request, ask, frame(**abort(error)))
        return await self._obey(request, ask, message)

    async def _obey(self, request: web.Request, ask: Ask, message: str) -> web.StreamResponse:
        orders = parse(message)
        earlier = self._histories.earlier(session(ask))
        self._histories.add(session(ask), message)
        tokens = await answers.tokens(message, orders, earlier)
        sources = answers.sources(orders.number("sources", 4) if "sources" in orders else 0)
        await asyncio.sleep(orders.seconds("late", 0.0))
        if page := pages.instead(orders):
            return page
        response = web.StreamResponse(headers=NO_TYPE if "notype" in orders else STREAM)
        await response.prepare(request)
        pace, pause = orders.seconds("slow", self._pace), orders.seconds("pause", 0.0)
        if is_agent(ask):
            agent = AgentFrames(message, sources)
            await perform(AGENT, Stream(agent, ask, request, response, pace, pause), orders, tokens)
        else:
            chat = ChatFrames(message, sources, chat_id=next(self._chat_ids))
            await perform(CHAT, Stream(chat, ask, request, response, pace, pause), orders, tokens)
        return response


async def _only(
    request: web.Request, ask: Ask, only: bytes, head: Mapping[str, str] = STREAM
) -> web.StreamResponse:
    """A stream of one frame."""
    response = web.StreamResponse(headers=head)
    await response.prepare(request)
    await response.write(only)
    ask.count(1)
    return response
