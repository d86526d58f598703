"""What the stand-in says."""

import asyncio
import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from relay.standin.orders import Orders
from relay.standin.review import may_hold_code, review

ANSWER: Final = """\
**This is the stand-in, not a model.** Whatever you ask, it answers with this text, so that you \
can see how an answer streams. (Only to Python it has something to say: give it a piece with a fault.)

```python
def greet(name: str) -> str:
    return f"Hello, {name}!"


print(greet("editor"))
```

To connect a real AnythingLLM:

1. Copy `.env.example` to `.env`.
2. Fill in `ANYTHINGLLM_BASE_URL`, `ANYTHINGLLM_API_KEY` and `ANYTHINGLLM_WORKSPACE_SLUG`.
3. Run `python run.py --check`, then `python run.py`.
"""
THINKING: Final = ("<think>I ", "should ", "think ", "first", ".")
BEFORE_TOOL: Final = ("Let me ", "look that up.")
REFUSAL: Final = "There is no relevant information in this workspace to answer your query."
RESET: Final = "Chat history was reset!"
NO_HISTORY: Final = "No earlier questions."

_FAILURES: Final[Mapping[int, str]] = {
    400: "This model's maximum context length is 4096 tokens.",
    401: "Incorrect API key provided: sk-dummy.",
    429: "Rate limit reached for requests",
    500: "The server had an error while processing your request",
}

# A token as models cut it: a word or a sign with the blanks before it.
_TOKEN = re.compile(r"\s*(?:\w+|[^\w\s])|\s+")
_ANSWER_TOKENS: Final = tuple(_TOKEN.findall(ANSWER))  # cut once: load tests ask for it
# No piece may depend on chance, and their borders should fall everywhere.
_ECHO_SIZES: Final = (3, 1, 7, 2, 5, 4, 6)


def failure(status: int) -> str:
    """What a provider says when it fails with this status."""
    return f"{status} {_FAILURES.get(status, 'The provider failed.')}"


def cut(text: str) -> Iterable[str]:
    """A text token by token, as models cut it."""
    return (found[0] for found in _TOKEN.finditer(text))


def counted(number: int) -> Iterable[str]:
    """`tok1 tok2 ...`, a token at a time."""
    return (f" tok{n}" if n > 1 else "tok1" for n in range(1, number + 1))


def pieces(text: str) -> Iterable[str]:
    """A text cut into one to seven characters, always the same way."""
    start = 0
    for size in itertools.cycle(_ECHO_SIZES):
        if start >= len(text):
            return
        yield text[start : start + size]
        start += size


def history(earlier: Sequence[str]) -> str:
    """The earlier questions as a numbered list."""
    lines = (f"{number}. {question}" for number, question in enumerate(earlier, 1))
    return "\n".join(lines) or NO_HISTORY


def sources(number: int) -> list[dict[str, Any]]:
    """Pieces of documents as AnythingLLM cites them."""
    return [_source(n) for n in range(1, number + 1)]


def _source(number: int) -> dict[str, Any]:
    name, published = f"manual-{number}.txt", "11/22/2026, 1:09:59 PM"
    head = f"sourceDocument: {name}\npublished: {published}"
    distance = round(1 - 1 / (number + 1), 4)
    return {
        "id": f"00000000-0000-4000-8000-{number:012d}",
        "url": f"file://{name}",
        "title": name,
        "docAuthor": "stand-in",
        "description": "a made-up manual",
        "docSource": "raw",
        "chunkSource": name,
        "published": published,
        "wordCount": 28801,
        "token_count_estimate": 25547,
        "text": f"<document_metadata>\n{head}\n</document_metadata>\n\nSection {number}. " * 8,
        "_distance": distance,
        "score": round(1 - distance, 4),
    }


TEXTS: Final[Mapping[str, Callable[[Orders, Sequence[str]], Iterable[str]]]] = {
    "echo": lambda orders, _: pieces(orders.rest),
    "tokens": lambda orders, _: counted(orders.number("tokens", 20)),
    "line": lambda orders, _: ("x" * orders.number("line", 1000),),
    "empty": lambda orders, _: (),
    "history": lambda _, earlier: pieces(history(earlier)),
}


async def tokens(question: str, orders: Orders, earlier: Sequence[str]) -> Iterable[str]:
    """The answer a question has ordered, what there is to say to its code, or the ordinary one.

    Token by token. The linter has a thread of its own: it may take a second.
    """
    for word in orders:
        if word in TEXTS:
            return TEXTS[word](orders, earlier)
    if may_hold_code(question) and (said := await asyncio.to_thread(review, question)):
        return cut(said)
    return _ANSWER_TOKENS
