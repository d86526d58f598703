"""Markdown that still arrives, cut into blocks that nothing to come can change. Without any I/O."""

import re
from typing import Final

_FENCE: Final = re.compile(r"( *)(`{3,}|~{3,})[^`]*")
_MOST: Final = 65_536  # characters of a block; what has more is cut


class Blocks:
    """Takes text as it comes; gives each block as soon as it is finished, and what is left."""

    def __init__(self) -> None:
        self._lines: list[str] = []  # the whole ones of the unfinished block
        self._line: list[str] = []  # pieces of the unfinished line
        self._size = 0
        self._opening = ""  # the line that opened a fence which is still open
        self._fence = ""

    def feed(self, text: str) -> list[str]:
        """Take the next piece; return the blocks that are finished with it."""
        finished: list[str] = []
        first, *others = text.split("\n")
        self._add(first)
        for piece in others:
            line = "".join(self._line)
            self._line.clear()
            self._whole(line, finished)
            self._add(piece)
        if self._size > _MOST:
            finished.append(self._cut())
        return finished

    def end(self) -> str:
        """Return what is left, and begin anew."""
        rest = self._rest()
        self.__init__()  # type: ignore[misc]
        return rest

    def tail(self, most: int) -> str:
        """Return about the last `most` characters of what is left, as a block of their own."""
        rest = self._rest()
        if len(rest) <= most:
            return rest
        cut = rest[-most:]
        return f"{self._opening}\n{cut}" if self._fence else cut

    def _add(self, piece: str) -> None:
        if piece:
            self._line.append(piece)
            self._size += len(piece)

    def _whole(self, line: str, finished: list[str]) -> None:
        self._size += 1
        if self._fence:
            self._lines.append(line)
            mark = line.strip()
            if mark.startswith(self._fence) and not mark.strip(self._fence[0]):
                indented = self._opening.startswith(" ")
                self._fence = self._opening = ""
                if not indented:
                    self._finish(finished)
            return
        fence = _FENCE.fullmatch(line)
        after_blank = bool(self._lines) and not self._lines[-1].strip()
        # What is indented may belong to an item of the list before it.
        if (after_blank or fence) and line.strip() and not line.startswith((" ", "\t")):
            self._finish(finished)
            self._size = len(line) + 1
        self._lines.append(line)
        if fence:
            self._opening, self._fence = line, fence[2]

    def _finish(self, finished: list[str]) -> None:
        block = "\n".join(self._lines).strip("\n")
        self._lines.clear()
        self._size = 0
        if block:
            finished.append(block)

    def _cut(self) -> str:
        """What is there as a block, though it goes on."""
        opening, fence, rest = self._opening, self._fence, self._rest()
        self._line.clear()
        self._lines = [opening] if fence else []
        self._size = len(opening)
        return f"{rest}\n{fence}" if fence else rest

    def _rest(self) -> str:
        return "\n".join([*self._lines, "".join(self._line)])
