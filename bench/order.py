"""What a question orders of the benchmark's AnythingLLM."""

from dataclasses import asdict, dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Order:
    """An answer to be given; written into the question as `chunks=5 per=1 ...`."""

    chunks: int = 5
    """Pieces of text, without the one that holds the checksum."""
    per: int = 1
    """Pieces in one HTTP chunk and one write."""
    pace: float = 0.0
    """Seconds between two writes of one stream; 0: as fast as the connection takes them."""
    turns: int = 0
    """1: without a pace, a write for each piece, in a turn of its own; 0: all that is ready at once."""
    size: int = 0
    """Bytes of text in a piece, at least; 0: a token as models make them."""
    stamp: int = 0
    """1: every piece holds the time of its sending, between bars, in ns of the monotonic clock."""
    hold: int = 0
    """1: after the first piece wait until the client says go, so that all streams begin together."""

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in asdict(self).items())

    @classmethod
    def parse(cls, question: str) -> Self:
        """Read a question. Raises ValueError and TypeError for what is no order."""
        words = dict(word.split("=", 1) for word in question.split())
        pace = float(words.pop("pace", 0))
        return cls(pace=pace, **{name: int(value) for name, value in words.items()})
