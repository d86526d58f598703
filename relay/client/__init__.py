"""A client of the relay: an answer as typed events, asynchronously (`ask`) or not (`ask_sync`).

    async for event in ask("http://localhost:5000", "How do I reverse a list?"):
        match event:
            case Chunk(content):
                print(content, end="")
            case Error(message):
                print(message)

docs/client.md tells more.
"""

from relay.client.decoding import AnyEvent
from relay.client.errors import AskError, Lost, Refused, Unreachable
from relay.client.stream import ask
from relay.client.sync import ask_sync
from relay.events import Chunk, Error, FinalEnd, Output, Reasoning, Thought

__all__ = [
    "AnyEvent",
    "AskError",
    "Chunk",
    "Error",
    "FinalEnd",
    "Lost",
    "Output",
    "Reasoning",
    "Refused",
    "Thought",
    "Unreachable",
    "ask",
    "ask_sync",
]
