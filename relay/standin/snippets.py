"""The Python in a question: in fences, or bare between the prose."""

import ast
import keyword
import re
import textwrap
from collections.abc import Iterator
from typing import Final, NamedTuple

from relay.standin.linter import Unreadable, parse

PYTHON: Final = {"python", "py", "python3", "py3", "pycon", "ipython"}
NAMELESS: Final = {"", "text", "txt", "plain"}
# A millisecond a KiB is what CPython takes, and it lets nothing else run meanwhile.
LONGEST: Final = 32 * 1024

# Here and below `*+` gives nothing back: what tries every place where two parts could meet takes time
# with the square of the length, and a question may have a megabyte.
_FENCE: Final = re.compile(r"^[ \t]*+(`{3,}+|~{3,}+)[ \t]*+\{?\.?([\w+#-]*+)([^`\n]*+)$", re.MULTILINE)
_PROMPT: Final = re.compile(r"^(?:>>>|\.\.\.|In \[\d+\]:) ?(.*)$")

# Prose: it begins like a sentence, asks, or has three words in a row that are none of Python's.
_SENTENCE: Final = re.compile(r"[A-Z][a-z']*,? [a-z]|[A-Z]?[a-z']+[,:]? .*[?!]$|[A-Z][a-z]+[:,!]?$")
_WORDS: Final = re.compile(r"([A-Za-z']+),? ([A-Za-z']+),? ([A-Za-z']+)\b(?!\s*[=(.])")

# What hardly anything but Python begins a line with. Nothing here may look at a character twice and
# at its neighbours each time: 32 KiB of blanks would take hours.
_STRONG: Final = re.compile(
    r"""[ \t]*+(?:
      (?:async[ ]+)?def[ ]+\w+[ ]*\( | def[ ]+\w+[ ]*:[ ]*$ | class[ ]+\w+[ ]*[(:] | class[ ]+[A-Z]\w*$
    | from[ ]+[\w.]+[ ]+import[ ] | @\w+(?:\.\w+)*(?:\(|$)
    | (?:async[ ]+)?for[ ]+\w+(?:,[ ]*\w+){0,3}[ ]+in[ ]
    | (?:try|else|finally)[ ]*:[ ]*$ | except\b[^=({;]*:[ ]*$
    | (?:if|elif|while)[ ]+(?:not[ ]+)?\w+[ ]*:[ ]*$
    | (?:if|elif|while|with)\b(?=[^{;]*+$)[^{;=<>()\[\]"']*+[=<>()\[\]"']
    | print[ ]*(?:\(|["'])
    | (?:return|raise|yield|await|assert|del)[ ]+\w*[(\["'{]
    | [\w.]+(?:\[[^\]]*\])?[ ]*(?:[-+*/%|&]|//|\*\*)?=[ ]*\S*[(\["'{]
    | [\w.]+\((?!.*\)[ ]+\w).
    )""",
    re.VERBOSE,
)
_FOREIGN: Final = re.compile(
    r"""^[ \t]*+(?:
      (?:const|let|var|function|public|private|static|fn|func|package|using|namespace|struct)[ ].*
    | (?:export|sudo|echo|select|insert|update)[ ].* | \#include\b.* | \$[ ].* | </?\w.*
    | .*\)[ ]*\{[ ]*$ | .*=>.* | .*;[ ]*$
    )$""",
    re.VERBOSE | re.MULTILINE | re.IGNORECASE,
)
# A call, an item, a value given, a block: prose that Python can read, such as `yes`, has none.
_EVIDENCE: Final = re.compile(r"[\w\])][(\[]|=|:\n")
_OUTPUT: Final = re.compile(
    r'^Traceback \(most recent call last\)|^[ \t]*File ".*", line \d', re.MULTILINE
)
_DOING: Final = (
    ast.Assign,
    ast.AugAssign,
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.If,
    ast.With,
    ast.AsyncWith,
    ast.Try,
    ast.Match,
)


class Snippet(NamedTuple):
    """A piece of Python, and how far it was indented where it stood."""

    code: str
    indent: str = ""

    def as_it_stood(self, code: str) -> str:
        """Return code in its place, a mended one say, indented as this was."""
        return textwrap.indent(code, self.indent)


def find(question: str) -> list[Snippet]:
    """Return the Python of a question, none if it holds none: what is fenced, else what is bare."""
    text = question.replace("\r\n", "\n").replace("\r", "\n")
    if _FENCE.search(text):
        return [snippet(code) for label, code in _fenced(text) if _is_meant(label, code)]
    if len(text) > LONGEST:
        return []
    return [snippet(code) for code in _runs(text) if _looks_like_python(code)]


def snippet(code: str) -> Snippet:
    """Take off the prompts of a Python session, and an indentation that all lines have."""
    code = _without_prompts(code)
    flat = textwrap.dedent(code)
    first = next((line for line in code.split("\n") if line.strip()), "")
    return Snippet(flat, first[: len(first) - len(first.lstrip())] if flat != code else "")


def _fenced(text: str) -> Iterator[tuple[str, str]]:
    """Yield label and content of each block; one that is never closed goes on to the end."""
    opened: re.Match[str] | None = None
    for fence in _FENCE.finditer(text):
        if opened is None:
            opened = fence
        elif fence[1].startswith(opened[1]) and not fence[2] and not fence[3].strip():
            yield opened[2].lower(), text[opened.end() + 1 : fence.start()]
            opened = None
    if opened is not None:
        yield opened[2].lower(), text[opened.end() + 1 :]


def _is_meant(label: str, code: str) -> bool:
    if not code.strip():
        return False
    if label in PYTHON:
        return True
    return label in NAMELESS and len(code) <= LONGEST and _looks_like_python(code)


def _without_prompts(code: str) -> str:
    """A session at the prompt is what was typed; what Python said to it is left out."""
    lines = code.split("\n")
    first = next((line for line in lines if line.strip()), "")
    if not first.startswith((">>> ", "In [")):
        return code
    typed = [found[1] for line in lines if (found := _PROMPT.match(line))]
    return "\n".join(typed) + "\n"


def _runs(text: str) -> Iterator[str]:
    """Yield what stands between lines of prose."""
    run: list[str] = []
    quotes = 0  # an odd number: inside a docstring, which may be prose
    for line in [*text.split("\n"), None]:
        if line is not None and (quotes % 2 or not _is_prose(line)):
            run.append(line)
            quotes += len(re.findall("\"{3}|'{3}", line))
            continue
        code = _trimmed(run)
        if code:
            yield code
        run = []


def _trimmed(lines: list[str]) -> str:
    """Leave out lines at either end that have nothing of code, a greeting say."""
    told = [n for n, line in enumerate(lines) if re.search(r"[=()\[\]{}@#\"'%]|:\s*$|\w\.\w", line)]
    known = [n for n, line in enumerate(lines) if _begins_a_statement(line)]
    there = sorted({*told, *known})
    if not there:
        return ""
    last = there[-1]
    while last + 1 < len(lines) and lines[last + 1].startswith((" ", "\t")):
        last += 1
    return "\n".join(lines[there[0] : last + 1]) + "\n"


def _is_prose(line: str) -> bool:
    line = line.rstrip()
    if line[:1] in (" ", "\t", "#", "@", ""):
        return False
    if line.endswith("?") or "`" in line:
        return True
    if "=" in line:
        return False
    if re.search(r"[a-z][!.:]$", line) and not _STRONG.match(line):
        return True
    if _SENTENCE.match(line):
        return True
    words = _WORDS.match(line)
    return words is not None and not any(map(_is_keyword, words.groups()))


def _begins_a_statement(line: str) -> bool:
    first = line.split(maxsplit=1)[:1]
    return any(_is_keyword(word) and word not in ("and", "or", "is", "in", "as") for word in first)


def _is_keyword(word: str) -> bool:
    return keyword.iskeyword(word) or word in ("print", "match", "case", "type")


def _looks_like_python(code: str) -> bool:
    """Whether nobody would take it for prose, for the output of a program, or another language."""
    if _OUTPUT.search(code) or _FOREIGN.search(code):
        return False
    code = snippet(code).code
    try:
        body = parse(code).body
    except Unreadable:
        return any(map(_STRONG.match, code.split("\n")))
    return _EVIDENCE.search(code) is not None and any(map(_does_something, body))


def _does_something(statement: ast.stmt) -> bool:
    """Whether prose could not be such a statement by chance."""
    if isinstance(statement, ast.AnnAssign):
        return statement.value is not None
    call = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call | ast.Await)
    return call or isinstance(statement, _DOING)
