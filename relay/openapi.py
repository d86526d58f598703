"""The relay's description for programs, OpenAPI 3.1; docs/protocol.md is the one for people."""

from pathlib import Path
from typing import Final

from aiohttp import web

from relay import body

_DOCUMENT: Final = Path(__file__).with_suffix(".json").read_bytes()

routes = web.RouteTableDef()


@routes.get("/openapi.json", allow_head=False, expect_handler=body.on_expect)
async def document(_request: web.Request) -> web.Response:
    """Return it; it is the same for everybody."""
    return web.Response(body=_DOCUMENT, content_type="application/json")
