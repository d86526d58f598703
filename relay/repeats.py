"""Each character once, although an agent run says its text up to three times.

Recorded: the text comes as chunks, whole again as `textResponse`, and again in
`finalizeResponseStream`; the whole ones hold the last model turn only (`agent_tool_with_text_before`),
and without streaming there are no chunks at all (`agent_untooled`).
"""

import hashlib
from typing import Final

# Characters of pieces that wait for the digest.
_PIECES: Final = 2048


class Repeats:
    """Remembers what was said since the last thought, as a digest: its size never grows."""

    def __init__(self) -> None:
        self._last_whole = b""
        self.begin_turn()

    def begin_turn(self) -> None:
        """A thought came: what follows is a new text."""
        self._turn = hashlib.blake2b()
        self._length = 0
        self._pieces: list[str] = []  # not in the digest yet
        self._size = 0

    def said(self, piece: str) -> None:
        """A piece of this turn's text went out."""
        if piece:
            self._pieces.append(piece)
            self._size += len(piece)
        if self._size > _PIECES:
            self._digest()

    def _digest(self) -> None:
        """Take in the pieces: many at a time, since most are small, and most texts never asked for."""
        self._turn.update("".join(self._pieces).encode())
        self._length += self._size
        self._pieces.clear()
        self._size = 0

    def rest_of(self, whole: str) -> str:
        """Return the part of a whole text that was not said yet, and count it as said."""
        self._digest()
        digest = hashlib.blake2b(whole.encode()).digest()
        begins_alike = hashlib.blake2b(whole[: self._length].encode()).digest() == self._turn.digest()
        if self._length and begins_alike:
            rest = whole[self._length :]
        else:
            rest = "" if digest == self._last_whole else whole
        self._last_whole = digest
        self.begin_turn()
        self.said(whole)
        return rest
