"""What the stand-in says outside a stream: JSON, web pages, refusals."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from aiohttp import web

from relay.standin.frames import abort, encode
from relay.standin.orders import Orders

JSON: Final = {"Content-Type": "application/json; charset=utf-8"}
HTML: Final = {"Content-Type": "text/html; charset=utf-8"}
STATUSES: Final = range(200, 600)

_PAGE = b"""<!DOCTYPE html>
<html lang="en">
  <head>
    <meta charset="UTF-8" />
    <title>AnythingLLM | Your personal LLM trained on anything</title>
  </head>
  <body>
    <div id="root" class="h-screen"></div>
  </body>
</html>
"""
_BAD_REQUEST = b"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Error</title>
</head>
<body>
<pre>Bad Request</pre>
</body>
</html>
"""


def json(value: object, status: int = 200) -> web.Response:
    """A JSON body."""
    return web.Response(body=encode(value), status=status, headers=JSON)


def refused(error: str) -> web.Response:
    """A request that never became a stream."""
    return json(abort(error), 400)


def no_key() -> web.Response:
    """The key is absent or wrong."""
    return json({"error": "No valid api key found."}, 403)


def bad_request() -> web.Response:
    """What Express says to a body it cannot parse."""
    return web.Response(body=_BAD_REQUEST, status=400, headers=HTML)


def web_page() -> web.Response:
    """AnythingLLM's own page: what every unknown address answers in production."""
    return web.Response(body=_PAGE, headers=HTML)


def workspace(number: int, slug: str) -> dict[str, Any]:
    """A workspace as the list of workspaces describes it."""
    day = "2026-11-22T13:01:37.642Z"
    return {
        "id": number,
        "name": slug,
        "slug": slug,
        "vectorTag": None,
        "createdAt": day,
        "openAiTemp": None,
        "openAiHistory": 20,
        "lastUpdatedAt": day,
        "openAiPrompt": "Reply with an answer to the current question.",
        "similarityThreshold": 0.25,
        "chatProvider": None,
        "chatModel": None,
        "topN": 4,
        "chatMode": "automatic",
        "pfpFilename": None,
        "agentProvider": None,
        "agentModel": None,
        "queryRefusalResponse": None,
        "vectorSearchMode": "default",
        "router_id": None,
        "threads": [],
    }


def _status(orders: Orders) -> web.Response:
    status = orders.number("status", 500)
    status = status if status in STATUSES else 500
    return json({"error": f"The stand-in was told to answer {status}."}, status)


PAGES: Final[Mapping[str, Callable[[Orders], web.Response]]] = {
    "html": lambda _: web_page(),
    "json": lambda _: json({"message": "This is no stream."}),
    "status": _status,
    "redirect": lambda _: web.Response(status=307, headers={"Location": "/elsewhere"}),
}


def instead(orders: Orders) -> web.Response | None:
    """The page ordered instead of a stream."""
    return next((PAGES[word](orders) for word in orders if word in PAGES), None)
