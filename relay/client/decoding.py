"""Out of Server-Sent Events the events of the relay, without any I/O."""

from typing import Final, TypeAlias

import msgspec

from relay.events import NAMES, Chunk, Error, FinalEnd, Output, Reasoning, Thought
from relay.sse import ServerSentEvent

AnyEvent: TypeAlias = Chunk | Reasoning | Thought | Output | Error | FinalEnd
"""One event of an answer; `match` tells them apart."""

_DECODERS: Final = {
    NAMES[kind]: msgspec.json.Decoder[AnyEvent](kind)
    for kind in (Chunk, Reasoning, Thought, Output, Error, FinalEnd)
}


class Unreadable(ValueError):
    """An event of a kind that is known does not hold what it should."""


def decode(told: ServerSentEvent) -> AnyEvent | None:
    """Return the event; None for one of a kind that only newer relays know. Raises Unreadable."""
    decoder = _DECODERS.get(told.event)
    if decoder is None:
        return None
    try:
        return decoder.decode(told.data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Unreadable(f"{told.event}: {error}") from None
