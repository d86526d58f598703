"""The page that asks, and the files it is made of (docs/protocol.md, "The page")."""

import hashlib
from pathlib import Path
from typing import Final, NamedTuple

from aiohttp import web

from relay import body

_FOLDER: Final = Path(__file__).parent / "static"
_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
# No script but the page's own files, nothing from elsewhere, and no text that is read as HTML.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
    " require-trusted-types-for 'script'; trusted-types 'none'"
)


class _File(NamedTuple):
    body: bytes
    tag: str
    headers: dict[str, str]


def _read(path: Path) -> _File:
    data = path.read_bytes()
    tag = hashlib.sha256(data).hexdigest()[:32]
    headers = {
        "Content-Type": _TYPES[path.suffix],
        "Content-Security-Policy": _POLICY,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",  # kept, but asked for each time: the files change together
        "ETag": f'"{tag}"',
    }
    return _File(data, tag, headers)


# All there is, read once: no request names a path. What a system or an editor leaves there is no part
# of it.
_FILES: Final = {path.name: _read(path) for path in sorted(_FOLDER.iterdir()) if path.suffix in _TYPES}
_FRONT: Final = "index.html"

PATHS: Final = frozenset({"/", *(f"/static/{name}" for name in _FILES)})
"""Where the page and its files are."""

routes = web.RouteTableDef()


@routes.get("/", allow_head=False, expect_handler=body.on_expect)
async def page(request: web.Request) -> web.Response:
    """Show the page."""
    return _answer(request, _FILES[_FRONT])


@routes.get("/static/{name}", allow_head=False, expect_handler=body.on_expect)
async def file(request: web.Request) -> web.Response:
    """Return one of the files that the page is made of."""
    found = _FILES.get(request.match_info["name"])
    if found is None:
        raise web.HTTPNotFound
    return _answer(request, found)


def _answer(request: web.Request, found: _File) -> web.Response:
    if any(tag.value in (found.tag, "*") for tag in request.if_none_match or ()):
        return web.Response(status=304, headers=found.headers)
    return web.Response(body=found.body, headers=found.headers)
