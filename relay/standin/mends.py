"""How a syntax error is mended, where one way alone is likely: tried, and read by Python again."""

import re
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from relay.standin.linter import Fault, Unreadable, parse

_MOST_READ: Final = 2**20  # characters in all tries: about a second

_WIDEST: Final = 1000  # characters of a line: nobody mends longer ones by looking

_NEVER_CLOSED: Final = "was never closed"
_CLOSERS: Final = {"(": ")", "[": "]", "{": "}"}
_BLOCK: Final = re.compile(
    r"\s*(?:async\s+)?(?:def|class|if|elif|else|for|while|with|try|except|finally|match|case)\b"
)
_STATEMENT: Final = re.compile(
    rf"{_BLOCK.pattern}|\s*(?:return|raise|import|from|del)\b|\s*[\w.]+\s*=[^=]"
)
_STRING: Final = re.compile(r"""(?<!\w)(?:[rRbBuUfF]{1,2})?("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')""")
# The left ones look like what is right of them, and editors for prose put them in its place.
_LOOKALIKES: Final = str.maketrans(
    {
        **dict.fromkeys("“”„‟″«»", '"'),
        **dict.fromkeys("‘’‚‛′`´", "'"),  # noqa: RUF001
        **dict.fromkeys("–—−‐‑", "-"),  # noqa: RUF001
        **dict.fromkeys("\u00a0\u2002\u2003\u2007\u2009\u202f\u3000", " "),
        **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff", ""),
        **dict(zip("\uff08\uff09\uff0c\uff1a\uff1b×÷", "(),:;*/", strict=True)),  # noqa: RUF001
        "≤": "<=",
        "≥": ">=",
        "≠": "!=",
    }
)
# What other languages say, and what Python says instead.
_FOREIGN: Final = (
    (r"\belse\s+if\b", "elif", "Python says `elif`."),
    (r"\bels(?:e?)if\b", "elif", "Python says `elif`."),
    (r"\s*&&\s*", " and ", "Python says `and`."),
    (r"\s*\|\|\s*", " or ", "Python says `or`."),
    (r"===", "==", "Python says `==`."),
    (r"!==|<>", "!=", "Python says `!=`."),
    (r"\b(\w+)\+\+", r"\1 += 1", "Python has no `++`."),
    (r"\b(\w+)--", r"\1 -= 1", "Python has no `--`."),
    (r"!\s*(?=[\w(])", "not ", "Python says `not`."),
    (r"^(\s*)function\b", r"\1def", "Python says `def`."),
    (r"^(\s*)raise\s+(\w+)\s*,\s*(.+)$", r"\1raise \2(\3)", "That is Python 2."),
    (r"\b(\d+)[lL]\b", r"\1", "Python 3 has no `L` behind numbers."),
)


class Mend(NamedTuple):
    """A change that takes a fault away."""

    code: str
    words: str
    number: int = 0  # of the line that was changed; 0 for a change of more than one


class _Place:
    """The code around a fault; rows and columns count from 0 here."""

    def __init__(self, code: str, fault: Fault, found: re.Match[str]) -> None:
        self.fault = fault
        self.found = found
        self.lines = code.split("\n")
        self.row = min(max(fault.line, 1), len(self.lines)) - 1
        self.line = self.lines[self.row]
        self.column = max(fault.column - 1, 0)
        self.masked = _masked(self.line)

    def with_line(self, line: str, words: str, row: int | None = None) -> Mend:
        row = self.row if row is None else row
        return Mend("\n".join([*self.lines[:row], line, *self.lines[row + 1 :]]), words, row + 1)

    def inserted(self, text: str, at: int, words: str, row: int | None = None) -> Mend:
        line = self.lines[self.row if row is None else row]
        return self.with_line(line[:at] + text + line[at:], words, row)

    def end(self, row: int | None = None) -> int:
        """Where the code of a line ends, before a comment."""
        return len(_masked(self.lines[self.row if row is None else row]).partition("#")[0].rstrip())


def mend(code: str, fault: Fault) -> Mend | None:
    """Return the likeliest change after which Python reads on: past the line, or at least in it."""
    if not fault.line or max(map(len, code.split("\n"))) > _WIDEST:
        return None
    left = _MOST_READ
    second_best = None
    for tried in _tries(code, fault):
        left -= len(tried.code)
        if left < 0:
            break
        after = _fault(tried.code)
        if after is None or after.line > max(fault.line, tried.number):
            return tried
        if second_best is None and _is_further(after, fault):  # the first is the likeliest
            second_best = tried
    return second_best


def _tries(code: str, fault: Fault) -> Iterator[Mend]:
    for pattern, rule in _RULES:
        if found := re.search(pattern, fault.message):
            yield from rule(_Place(code, fault, found))


def _fault(code: str) -> Fault | None:
    try:
        parse(code)
    except Unreadable as error:
        return error.fault
    return None


def _is_further(fault: Fault, before: Fault) -> bool:
    """Whether Python came further, if only in the line."""
    here, there = (fault.line, fault.column), (before.line, before.column)
    if _NEVER_CLOSED in fault.message and _NEVER_CLOSED in before.message:
        return here != there  # the innermost is told first: the next one begins before it
    if before.indentation:  # in its line a change of that shows nothing
        return fault.line > before.line
    return here > there


def _masked(line: str) -> str:
    """Return the line with `"` for every character of a string in it."""
    return _STRING.sub(lambda found: '"' * len(found[0]), line)


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip(" \t"))]


def _colon(place: _Place) -> Iterator[Mend]:
    words = "Put a colon there."
    yield from _foreign(place)
    at = len(place.line[: place.column].rstrip())
    yield place.inserted(":", at, words)
    yield place.inserted(":", place.end(), words)


def _never_closed(place: _Place) -> Iterator[Mend]:
    yield from _closed(place, place.found[1])


def _left_open(place: _Place) -> Iterator[Mend]:
    """What the line opens and does not close, where Python blames what comes behind it."""
    still_open: list[str] = []
    for sign in place.masked.partition("#")[0]:
        if sign in _CLOSERS:
            still_open.append(sign)
        elif still_open and sign == _CLOSERS[still_open[-1]]:
            still_open.pop()
    if still_open:
        yield from _closed(place, still_open[-1])


def _closed(place: _Place, opener: str) -> Iterator[Mend]:
    closer, words = _CLOSERS[opener], f"Close it with `{_CLOSERS[opener]}`."
    end = place.end()
    if place.line[:end].endswith(":") and _BLOCK.match(place.line):
        yield place.inserted(closer, end - 1, words)
    if not place.line[:end].endswith((opener, ",")):
        yield place.inserted(closer, end, words)
    row, indent = place.row, len(_indent(place.line))
    while row + 1 < len(place.lines) and len(_indent(place.lines[row + 1])) > indent:
        row += 1
    if row > place.row:
        yield place.inserted(closer, place.end(row), words, row)


def _unmatched(place: _Place) -> Iterator[Mend]:
    line, at = place.line, place.column
    yield place.with_line(
        line[:at] + line[at + 1 :], f"Nothing opens this `{place.found[1]}`: take it out."
    )


def _wrong_closer(place: _Place) -> Iterator[Mend]:
    line, at, closer = place.line, place.column, _CLOSERS[place.found[2]]
    yield place.inserted(closer, at, f"Close the `{place.found[2]}` first, with `{closer}`.")
    words = f"What `{place.found[2]}` opens, `{closer}` closes."
    yield place.with_line(line[:at] + closer + line[at + 1 :], words)


def _unterminated(place: _Place) -> Iterator[Mend]:
    opened = re.compile("[\"']").search(place.line, place.column)
    if opened is None:
        return
    quote, line = opened[0], place.line
    first, last = line.find("'"), line.rfind("'")
    if quote == "'" and re.search(r"\w'\w", line[first + 1 : last]) and '"' not in line[first:last]:
        inner = line[first + 1 : last]
        words = "An apostrophe ends a string in single quotes: use double ones."
        yield place.with_line(f'{line[:first]}"{inner}"{line[last + 1 :]}', words)
    is_f_string = "f" in line[place.column : opened.start()].lower()
    closers = re.compile(r"[)\],:;\s]*$" if is_f_string else r"[)\]},:;\s]*$").search(line, opened.end())
    start = opened.end() if closers is None else closers.start()
    for at in range(start, len(line) + 1):
        yield place.inserted(quote, at, f"End the string with `{quote}`.")


def _comma(place: _Place) -> Iterator[Mend]:
    words = "Put a comma between them."
    if re.search(r'"\w', place.masked):
        return  # a quote inside a string, more likely
    last = place.fault.end_line - 1
    if place.row < last < len(place.lines) and _STATEMENT.match(place.lines[last]):
        yield from _left_open(place)
    for row in range(place.row, min(last, len(place.lines))):
        yield place.inserted(",", place.end(row), words, row)
    until = place.fault.end_column - 1 if last == place.row else len(place.line)
    gap = re.compile(r"(?<=[\w\"\])}])\s+(?=[\w\"(\[{])")
    for found in gap.finditer(place.masked, place.column, max(until, place.column)):
        if place.masked[found.start() : found.end()].isspace():
            yield place.inserted(",", found.start(), words)


def _call(place: _Place) -> Iterator[Mend]:
    name, end = place.found[1], place.end()
    head, what = place.line[: place.column], place.line[place.column : end]
    argument = what.removeprefix(name).strip()
    if not what.startswith(name) or argument.startswith(">>"):
        return
    words = f"In Python 3, `{name}` is a function."
    if argument.endswith(","):
        argument += ' end=" "'
    yield place.with_line(f"{head}{name}({argument}){place.line[end:]}", words)


def _lookalike(place: _Place) -> Iterator[Mend]:
    words = "The character only looks like one of Python's; word processors and web pages make them."
    yield place.with_line(place.line.translate(_LOOKALIKES), words)


def _compared(place: _Place) -> Iterator[Mend]:
    if re.match(r"\s*(if|elif|while|assert|return)\b", place.line):
        for sign in re.finditer(r"(?<![=!<>:+\-*/%&|^@])=(?!=)", place.masked):
            head, tail = place.line[: sign.start()], place.line[sign.end() :]
            yield place.with_line(f"{head}=={tail}", "`==` compares, `=` gives a name.")


def _caught(place: _Place) -> Iterator[Mend]:
    found = re.match(r"(\s*except\s+)([\w.]+)\s*,\s*([\w.]+)(\s*:.*)$", place.line)
    if found is None:
        return
    head, first, second, tail = found.groups()
    if second[:1].islower() and "." not in second:
        yield place.with_line(f"{head}{first} as {second}{tail}", "That is Python 2: say `as`.")
    else:
        yield place.with_line(f"{head}({first}, {second}){tail}", "Put parentheses around them.")


def _no_block(place: _Place) -> Iterator[Mend]:
    opener = place.lines[int(place.found[1]) - 1]
    indent = _indent(opener) + "    "
    below = place.lines[max(place.row, int(place.found[1])) :]
    rest = [line for line in below if line.strip() and not line.strip().startswith("#")]
    if not rest or len(_indent(rest[0])) < len(_indent(opener)):
        at = int(place.found[1])
        lines = [*place.lines[:at], f"{indent}pass", *place.lines[at:]]
        yield Mend("\n".join(lines), "A block needs at least one statement: `pass` does nothing.")
    elif len(rest) == 1 or not place.lines[place.row + 1].strip():
        yield place.with_line(indent + place.line.lstrip(), "Indent what belongs to it.")


def _too_deep(place: _Place) -> Iterator[Mend]:
    before = next((line for line in reversed(place.lines[: place.row]) if line.strip()), "")
    yield place.with_line(
        _indent(before) + place.line.lstrip(), "Nothing above opens a block: indent less."
    )


def _off_a_level(place: _Place) -> Iterator[Mend]:
    width = len(_indent(place.line))
    levels = {len(_indent(line)) for line in place.lines[: place.row] if line.strip()}
    near = [level for level in levels if abs(level - width) == 1]
    if len(near) == 1:
        line = " " * near[0] + place.line.lstrip()
        yield place.with_line(line, "A blank too many or too few: line it up with the lines above.")


def _tabs(place: _Place) -> Iterator[Mend]:
    for width in (8, 4):
        code = "\n".join(_indent(line).expandtabs(width) + line.lstrip(" \t") for line in place.lines)
        yield Mend(code, "Use blanks for every indentation, no tabs.")


def _no_parameters(place: _Place) -> Iterator[Mend]:
    yield place.inserted("()", place.column, "A function has parentheses, also without parameters.")


def _raw(place: _Place) -> Iterator[Mend]:
    for found in _STRING.finditer(place.line):
        words = "A backslash in a string begins an escape; in a raw string, r'...', it is one."
        yield place.inserted("r", found.start(1), words)


def _other(place: _Place) -> Iterator[Mend]:
    yield from _foreign(place)
    yield from _left_open(place)


def _foreign(place: _Place) -> Iterator[Mend]:
    for pattern, instead, words in _FOREIGN:
        for found in re.finditer(pattern, place.masked):
            head, old, tail = (
                place.line[: found.start()],
                place.line[found.start() : found.end()],
                place.line[found.end() :],
            )
            new = re.sub(pattern, instead, old) if "\\" in instead else instead
            yield place.with_line(f"{head}{new}{tail}", words)


Rule = Callable[[_Place], Iterator[Mend]]

_RULES: Final[tuple[tuple[str, Rule], ...]] = (
    (r"^expected ':'", _colon),
    (r"^'([(\[{])' was never closed", _never_closed),
    (r"^unmatched '([)\]}])'", _unmatched),
    (r"^closing parenthesis '(.)' does not match opening parenthesis '(.)'", _wrong_closer),
    (r"^unterminated (f-)?string literal", _unterminated),
    (r"Perhaps you forgot a comma", _comma),
    (r"^Missing parentheses in call to '(print|exec)'", _call),
    (r"^invalid (non-printable )?character", _lookalike),
    (r"Maybe you meant '=='", _compared),
    (r"^multiple exception types must be parenthesized", _caught),
    (r"^expected an indented block after .* on line (\d+)", _no_block),
    (r"^unexpected indent", _too_deep),
    (r"^unindent does not match", _off_a_level),
    (r"^inconsistent use of tabs and spaces", _tabs),
    (r"^expected '\('", _no_parameters),
    (r"^\(unicode error\)", _raw),
    (r"^invalid|^expected|^cannot", _other),
)
