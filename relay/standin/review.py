"""What the stand-in says to Python: its syntax errors, what is odd in it, where a traceback points."""

import re
import sys
from collections.abc import Iterable, Iterator
from keyword import iskeyword
from typing import Final, NamedTuple

from relay.standin import snippets, tracebacks
from relay.standin.linter import Fault, Finding, Unreadable, findings, parse
from relay.standin.mends import Mend, mend
from relay.standin.snippets import LONGEST, Snippet

NO_MODEL: Final = (
    "*No model says this: it is the linter of the demo, which reads Python without running it, and "
    "knows nothing else.*"
)
_PYTHON: Final = f"Python {sys.version_info.major}.{sys.version_info.minor}"
CLEAN: Final = (
    f"{_PYTHON} can parse this, and pyflakes finds nothing wrong with it. Whether it does what "
    "you want, only a model could say."
)
_MOST_SNIPPETS: Final = 5
_MOST_MENDS: Final = 100
_MOST_READ: Final = 2**20  # characters in all mends together: about a second
_MOST_SHOWN: Final = 5  # faults with their lines; the others are counted
_MOST_FINDINGS: Final = 20
_WIDEST: Final = 90  # characters of a line that are shown

_MAGIC: Final = re.compile(r"^[ \t]*(?:[%!]{1,2}\w.*|\?{1,2}[\w.]+|[\w.]+\?{1,2})$", re.MULTILINE)

# A word about what cannot surely be mended.
_ADVICE: Final = (
    ("was never closed", "It is opened there and closed nowhere: close it where it should end."),
    ("triple-quoted", "From there on everything is inside the string: end it where it should end."),
    ("unterminated", "The string begins there and has no end on its line."),
    ("indented block", "Indent the lines that belong to it, by four blanks each."),
    ("indent", "Lines of the same block begin in the same column."),
    (
        "forgot a comma",
        "Two values stand side by side: a comma or an operator is missing, or a quote inside a string "
        "ends it.",
    ),
    (
        "cannot assign|Maybe you meant '=='",
        "What is left of `=` must be a name, an item or an attribute; `==` compares.",
    ),
    ("leading zeros", "Write `0o17` for an octal number, and `17` for a decimal one."),
    ("f-string", "Look at what is between the braces: it must be an expression."),
    ("'except' or 'finally'", "A `try` needs one of them, indented as it is."),
    ("positional argument follows", "Arguments without a name come first."),
    ("default", "Parameters without a default come first."),
    ("line continuation", "Outside of a string a backslash may only end a line: are quotes missing?"),
    ("Missing parentheses", "In Python 3, that is a function: put parentheses around what follows."),
    ("EOF", "The code ends in the middle of something."),
    ("null byte|NUL", "The code holds NUL characters: it is no text, or is in UTF-16."),
    ("surrogate", "The code holds half of a surrogate pair, which is no character."),
    ("nested|too complex", "Break it up: name its parts."),
)
_LOOK: Final = (
    "Look just before the mark: a bracket, a quote, a comma or an operator may be missing there."
)


class Told(NamedTuple):
    """A fault, the line it is in as it stood when Python got there, and its mend if one is sure."""

    fault: Fault
    line: str
    mend: Mend | None


def may_hold_code(question: str) -> bool:
    """Whether looking closer is worth a thread: plain questions have none of these."""
    return re.search(r"[(=\n`]", question) is not None


def review(question: str) -> str | None:
    """Return what there is to say to the Python, or the traceback, in a question; None without either.

    Takes up to a second for the longest code there may be, most of it in steps of a few milliseconds.
    """
    if not may_hold_code(question):
        return None
    found = snippets.find(question)
    raised = tracebacks.find(question)
    if not found and raised is None:
        return None
    parts = [NO_MODEL]
    for number, snippet in enumerate(found[:_MOST_SNIPPETS], 1):
        if len(found) > 1:
            parts.append(f"### Block {number}")
        parts += _of_snippet(snippet)
    if len(found) > _MOST_SNIPPETS:
        parts.append(f"Only the first {_MOST_SNIPPETS} of {len(found)} blocks were read.")
    if raised is not None:
        parts += _of_traceback(raised, found)
    elif exception := tracebacks.named(question):
        parts.append(f"As to `{exception}`: {tracebacks.cause(exception)}")
    return "\n\n".join(parts) + "\n"


def _of_snippet(snippet: Snippet) -> Iterator[str]:
    if len(snippet.code) > LONGEST:
        size = f"{len(snippet.code):,} characters; it reads {LONGEST:,}"
        yield f"This is longer than the demo reads ({size})."
        return
    code, magics = _without_magics(snippet.code)
    if magics:
        yield "Lines that begin with `%` or `!`, or end with `?`, are IPython's; they were passed over."
    told, mended = _mended(code)
    if told:
        yield from _of_faults(told)
    if mended is None:
        return
    if told:
        whole = snippet.as_it_stood(_with_magics(mended, magics))
        yield f"With that mended:\n\n{_block('python', whole)}"
    try:
        found = findings(mended)
    except Unreadable as error:
        yield f"{_PYTHON} can parse this, but will not run it: {error.fault.message}."
        return
    if found:
        also = "Then there is still" if told else f"{_PYTHON} can parse this. There is"
        yield f"{also}:\n\n" + "\n".join(_of_findings(found, mended))
    elif not told:
        yield CLEAN


def _mended(code: str) -> tuple[list[Told], str | None]:
    """Find fault after fault; return the code without any if each could be mended, else None."""
    told: list[Told] = []
    most = min(_MOST_MENDS, _MOST_READ // (len(code) + 1))
    while True:
        try:
            parse(code)
        except Unreadable as error:
            fault = error.fault
        else:
            return told, code
        tried = mend(code, fault) if len(told) < most else None
        told.append(Told(fault, _line(code, fault.line), tried))
        if tried is None:
            return _sure(told), None
        code = tried.code


def _sure(told: list[Told]) -> list[Told]:
    """Take back what was said of the line where the mending failed, but for its first fault."""
    last = told[-1]
    good = [one for one in told if one.fault.line < last.fault.line]
    first = told[len(good)]
    return [*good, first._replace(mend=None)]


def _of_faults(told: list[Told]) -> Iterator[str]:
    how_many = "One fault keeps" if len(told) == 1 else f"{len(told)} faults keep"
    yield f"{how_many} {_PYTHON} from reading this:"
    for fault, line, tried in told[:_MOST_SHOWN]:
        place = f"Line {fault.line}: " if fault.line else ""
        yield f"**{place}{fault.message}**"
        if fault.line:
            yield _block("text", _pointed(fault, line))
        yield _advice(fault, line) if tried is None else tried.words
        if tried is not None and tried.number:
            better = _shortened(_line(tried.code, tried.number))[0]
            yield _block("text", f"{tried.number} | {better}")
    if len(told) > _MOST_SHOWN:
        lines = ", ".join(str(one.fault.line) for one in told[_MOST_SHOWN:])
        yield f"And such in {'line' if len(told) == _MOST_SHOWN + 1 else 'lines'} {lines}."


def _advice(fault: Fault, line: str) -> str:
    name = re.match(r"\s*(\w+)\s*=[^=]", line)
    if name is not None and iskeyword(name[1]):
        return f"`{name[1]}` is a word of Python's own: take another name."
    fitting = (words for pattern, words in _ADVICE if re.search(pattern, fault.message))
    return next(fitting, _LOOK)


def _of_findings(found: list[Finding], code: str) -> Iterator[str]:
    for finding in found[:_MOST_FINDINGS]:
        line = _shortened(_line(code, finding.line).strip())[0]
        yield f"- Line {finding.line}, {_inline(line)}: {finding.message}"
    if len(found) > _MOST_FINDINGS:
        yield f"- and {len(found) - _MOST_FINDINGS} more."


def _of_traceback(raised: tracebacks.Traceback, found: Iterable[Snippet]) -> Iterator[str]:
    place, last = raised.place, raised.frames[-1]
    where = f" in `{place.function}`" if place.function not in ("", "<module>") else ""
    yield f"**The traceback** points at line {place.line} of `{place.file}`{where}:"
    source = place.source or next((_line(one.code, place.line) for one in found), "").strip()
    if source:
        yield _block("text", f"{place.line} | {_shortened(source)[0]}")
    if last != place:
        yield f"From there it went on into a library, up to line {last.line} of `{last.file}`."
    said = f": {_shortened(raised.message)[0]}" if raised.message else ""
    yield f"`{raised.exception}{said}`" + (f" usually means: {raised.cause}" if raised.cause else "")


def _without_magics(code: str) -> tuple[str, list[str]]:
    """Make comments of a notebook's magics, where Python cannot read them."""
    try:
        parse(code)
    except Unreadable:
        magics = _MAGIC.findall(code)
        return _MAGIC.sub(lambda found: f"#{found[0]}", code), magics
    return code, []


def _with_magics(code: str, magics: list[str]) -> str:
    lines = code.split("\n")
    commented = {f"#{magic}": magic for magic in magics}
    return "\n".join(commented.get(line, line) for line in lines)


def _line(code: str, number: int) -> str:
    lines = code.split("\n")
    return lines[number - 1] if 0 < number <= len(lines) else ""


def _pointed(fault: Fault, line: str) -> str:
    """The line, and below it a mark at the place."""
    shown, cut = _shortened(line, fault.column)
    number = f"{fault.line} | "
    before = shown[: max(fault.column - 1 - cut, 0)]
    blanks = "".join("\t" if sign == "\t" else " " for sign in before)
    return (
        f"{number}{shown}\n{' ' * (len(number) - 2)}| {blanks}^" if fault.column else f"{number}{shown}"
    )


def _shortened(line: str, column: int = 0) -> tuple[str, int]:
    """The line, or what is around a column of one that is too long; and how much was cut before."""
    if len(line) <= _WIDEST:
        return line, 0
    start = max(0, min(column - _WIDEST // 2, len(line) - _WIDEST))
    return line[start : start + _WIDEST], start


def _inline(text: str) -> str:
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def _block(label: str, text: str) -> str:
    """Text in a fence that is longer than any in the text."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    end = "" if text.endswith("\n") else "\n"
    return f"{fence}{label}\n{text}{end}{fence}"
