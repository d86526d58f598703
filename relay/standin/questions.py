"""The body of a request, and what AnythingLLM finds wrong with it."""

import json
import re
from collections.abc import Collection
from typing import Any, Final

from aiohttp import web

from relay.standin import pages
from relay.standin.asks import Ask
from relay.standin.histories import Session

MODES: Final = ("automatic", "query", "chat")
UNKNOWN_THREADS: Final = ("nope", "unknown")
_SLUG = re.compile(r"[A-Za-z0-9_-]{1,255}")


class BadBody(Exception):
    """The body is no JSON object or array."""


async def read_body(request: web.Request) -> dict[str, Any]:
    """The JSON of a request; an empty body, or an array, holds nothing."""
    raw = await request.read()
    try:
        body = json.loads(raw.decode("utf-8", "replace") or "{}")
    except ValueError as error:
        raise BadBody from error
    if not isinstance(body, dict | list):
        raise BadBody
    return body if isinstance(body, dict) else {}


def objection(ask: Ask, workspaces: Collection[str]) -> web.Response | None:
    """The refusal of a request, in the order AnythingLLM looks."""
    if ask.workspace not in workspaces:
        return pages.refused(f"Workspace {ask.workspace} is not a valid workspace.")
    if ask.thread is not None and not _is_thread(ask.thread):
        names = f"Workspace {ask.workspace} or thread {ask.thread}"
        return pages.refused(f"{names} is not valid.")
    if ask.body.get("reset"):
        return None
    message, mode = ask.body.get("message"), ask.body.get("mode")
    if not message or not isinstance(message, str | list):
        return pages.refused("Message is empty")
    if mode is not None and mode not in MODES:
        return pages.refused(f"{mode} is not a valid mode.")
    return None


def session(ask: Ask) -> Session:
    """Whose history this is: a thread's, or on the workspace route a session's."""
    name = ask.body.get("sessionId")
    if ask.thread is not None or name is None:
        return Session(ask.workspace, ask.thread, None)
    return Session(ask.workspace, None, name if isinstance(name, str) else json.dumps(name))


def is_agent(ask: Ask) -> bool:
    """Whether an agent answers: a request without a mode takes the workspace's, `automatic`."""
    message: str = ask.body["message"]
    return message.startswith("@agent") or ask.body.get("mode") in (None, "automatic")


def _is_thread(slug: str) -> bool:
    return slug not in UNKNOWN_THREADS and _SLUG.fullmatch(slug) is not None
