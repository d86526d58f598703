"""OpenAI's addresses: workspaces as models, and answers as completions."""

import asyncio
import secrets
import time
from collections.abc import Sequence
from typing import Any, Final

from aiohttp import web

from relay import body, handlers, question
from relay.completion_request import find_model, parse
from relay.completion_response import Completion, CompletionChunks, WholeCompletion
from relay.errors import Code, RelayError
from relay.middlewares import OWNER, request_id
from relay.question import Question

# Bytes of an answer that is gathered in one piece.
_MOST: Final = 4 * 1024 * 1024
# Bytes of it that a client has `send_timeout` to take.
_PIECE: Final = 64 * 1024

routes = web.RouteTableDef()


@routes.get("/v1/models", allow_head=False, expect_handler=body.on_expect)
async def models(request: web.Request) -> web.Response:
    """List the workspaces that may be asked, the default one first."""
    policy = request.app[handlers.POLICY]
    others = sorted(set(policy.workspaces) - {policy.workspace})
    told = [_model(name) for name in (policy.workspace, *others)]
    return web.json_response({"object": "list", "data": told})


@routes.get("/v1/models/{id}", allow_head=False, expect_handler=body.on_expect)
async def model(request: web.Request) -> web.Response:
    """Tell that a workspace may be asked."""
    return web.json_response(_model(find_model(request.match_info["id"], request.app[handlers.POLICY])))


@routes.post("/v1/chat/completions", expect_handler=body.on_expect)
async def complete(request: web.Request) -> web.StreamResponse:
    """Ask, and answer as OpenAI does: in chunks, or in one piece."""
    app = request.app
    with app[handlers.STREAMS].serving():
        fields = await body.fields(request, forms=False)
        asked, stream, include_usage = parse(fields, app[handlers.POLICY], secrets.token_urlsafe(16))
        if OWNER in request:
            asked = question.owned_by(asked, request[OWNER])
        completion = Completion(f"chatcmpl-{request_id(request)}", int(time.time()), asked.workspace)
        redactor = app[handlers.REDACTOR]
        if stream:
            chunks = CompletionChunks(completion, redactor, include_usage=include_usage)
            return await handlers.answer(request, asked, chunks)
        return await _answer_whole(request, asked, WholeCompletion(completion, redactor))


async def _answer_whole(
    request: web.Request, asked: Question, whole: WholeCompletion
) -> web.StreamResponse:
    stream = handlers.make_stream(request, asked, whole, _Counting())
    request.app[handlers.STREAMS].admit(stream, request.get(OWNER))
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    taken = stuck = False
    try:
        await stream.run()
        if whole.error is None:
            await _send(request, response, whole.body())
        taken = True
    except TimeoutError:
        stuck = True
        handlers.let_go(request)
    except ConnectionResetError:
        handlers.let_go(request)
    finally:
        handlers.release(request, stream, taken=taken, stuck=stuck)
    if whole.error is not None:
        raise whole.error
    return response


async def _send(request: web.Request, response: web.StreamResponse, data: bytes) -> None:
    """Send JSON. Raises TimeoutError if the client does not take it, ConnectionResetError if it left."""
    patience = request.app[handlers.TIMING].send_timeout
    response.content_length = len(data)
    await response.prepare(request)
    for at in range(0, len(data), _PIECE):
        async with asyncio.timeout(patience):
            await response.write(data[at : at + _PIECE])
    async with asyncio.timeout(patience):
        await response.write_eof()


class _Counting:
    """An outlet for what is kept elsewhere, up to a size."""

    def __init__(self) -> None:
        self._size = 0

    def put(self, events: Sequence[bytes]) -> bool:
        """Count them; return whether there may be more."""
        self._size += sum(map(len, events))
        return self._size <= _MOST

    async def room(self) -> None:
        """End the answer: it is too large. Raises RelayError."""
        if self._size > _MOST:
            message = (
                f"The answer is over {_MOST} bytes, too many for one piece; ask with `stream`: true."
            )
            raise RelayError(Code.TOO_LARGE, message)

    async def end(self, events: Sequence[bytes] = ()) -> None:
        """Take note of nothing: what came with the end is all there is."""


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "anythingllm"}
