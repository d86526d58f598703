"""The traceback in a question: where it points, and what its exception usually comes from."""

import re
from typing import Final, NamedTuple

_FRAME: Final = re.compile(
    r'^[ \t]*File "([^"\n]{1,500})", line (\d{1,9})(?:, in (.{1,200}))?$', re.MULTILINE
)
_RAISED: Final = re.compile(
    r"^[ \t]*((?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*(?:Error|Exception|Warning|Interrupt|Exit|Iteration|Group))"
    r"(?::[ \t](.*))?$",
    re.MULTILINE,
)
_NOT_OURS: Final = re.compile(r"site-packages|dist-packages|[/\\]lib[/\\]python\d|^<frozen")

# The commonest, each with what it usually comes from.
CAUSES: Final = {
    "AttributeError": (
        "the value is of another type than you think, often `None`, or the name is misspelt. "
        "`print(type(...))` just before the line tells."
    ),
    "FileNotFoundError": (
        "the path is misspelt, or relative to another folder than you think: `print(os.getcwd())` "
        "tells which."
    ),
    "ImportError": (
        "the module is there, but not that name in it: a slip, another version, a file of your own "
        "with the module's name, or two modules that import each other."
    ),
    "IndexError": "the list is shorter than you think, often empty; the last index is `len(...) - 1`.",
    "KeyError": (
        "the dictionary has no such key (yet). `d.get(key, default)` or `collections.defaultdict` "
        "take care of missing ones."
    ),
    "ModuleNotFoundError": (
        "the package is not installed in the Python that runs this (`python -m pip install ...` "
        "with the same `python`), or its name is misspelt."
    ),
    "NameError": "the name is misspelt, not imported, or used before a value was given to it.",
    "RecursionError": (
        "a function calls itself without ever coming to an end: its first lines should say when to stop."
    ),
    "TypeError": (
        "a value of a type that the operation or the function does not take, often `None` or a "
        "`str` where a number is meant, or too many or too few arguments."
    ),
    "UnboundLocalError": (
        "the function gives the name a value somewhere, which makes it local in all of the "
        "function; it is used before that. `global` or another name helps."
    ),
    "UnicodeDecodeError": (
        "the bytes are not in that encoding: open the file with the right `encoding=`, or in mode "
        "`rb` if it is no text."
    ),
    "ValueError": (
        "the type is right and the value is not: a text that is no number, or more or fewer values "
        "than names to unpack them into."
    ),
    "ZeroDivisionError": "the divisor is 0, often the length of an empty list: test it first.",
}
_NONE: Final = (
    "something is `None`: most often a function without a `return`, or a search that found nothing."
)


class Frame(NamedTuple):
    """A place in a program, with the line as the traceback shows it, if it does."""

    file: str
    line: int
    function: str
    source: str


class Traceback(NamedTuple):
    """How a program failed."""

    exception: str
    message: str
    frames: list[Frame]

    @property
    def place(self) -> Frame:
        """The last place that is in no library; the very last if all are."""
        ours = [frame for frame in self.frames if not _NOT_OURS.search(frame.file)]
        return (ours or self.frames)[-1]

    @property
    def cause(self) -> str:
        """What it usually comes from; empty for what is not common."""
        return cause(self.exception, self.message)


def find(question: str) -> Traceback | None:
    """Return the last traceback of a question."""
    text = question.replace("\r\n", "\n")
    places = list(_FRAME.finditer(text))
    raised = _RAISED.search(text, places[-1].end()) if places else None
    if raised is None:
        return None
    begin = text.rfind("Traceback (most recent call last)", 0, places[-1].start())
    frames = [_frame(text, place) for place in places if place.start() > begin]
    return Traceback(raised[1].rpartition(".")[2], raised[2] or "", frames)


def named(question: str) -> str:
    """Return the first of the commonest exceptions that a question names; empty if it names none."""
    found = re.search(rf"\b(?:{'|'.join(CAUSES)})\b", question)
    return found[0] if found else ""


def cause(exception: str, message: str = "") -> str:
    """Return what an exception usually comes from; empty for what is not common."""
    return _NONE if "'NoneType' object" in message else CAUSES.get(exception, "")


def _frame(text: str, place: re.Match[str]) -> Frame:
    below = text[place.end() + 1 :].partition("\n")[0] if place.end() < len(text) else ""
    source = below.strip() if below.startswith(" ") and not _FRAME.match(below) else ""
    return Frame(place[1], int(place[2]), place[3] or "", source)
