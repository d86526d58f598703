"""Ways to cut a byte stream: how it arrives must never change what it means."""

import random
from collections.abc import Iterator


def pieces(data: bytes, sizes: list[int]) -> list[bytes]:
    """Cut into reads of these sizes, of which the last repeats."""
    cut, at, turn = [], 0, 0
    while at < len(data):
        size = sizes[min(turn, len(sizes) - 1)]
        cut.append(data[at : at + size])
        at, turn = at + size, turn + 1
    return cut


def at_random(data: bytes, seed: int, longest: int = 50) -> list[bytes]:
    """Cut at random places, the same for the same seed."""
    dice = random.Random(seed)
    cut, at = [], 0
    while at < len(data):
        size = dice.randint(1, longest)
        cut.append(data[at : at + size])
        at += size
    return cut


def in_two(data: bytes) -> Iterator[list[bytes]]:
    """Cut in two at every place."""
    return ([data[:at], data[at:]] for at in range(1, len(data)))
