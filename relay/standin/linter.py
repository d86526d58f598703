"""What Python itself and pyflakes find in a piece of code, which is read and never run."""

import ast
import builtins
import difflib
import re
import warnings
from collections.abc import Iterator
from typing import Final, NamedTuple

from pyflakes import checker, messages

# Names of files for the compiler, which its warnings go by: see _quietly.
_READ: Final = "<question>"
_STRICT: Final = "<question, strictly>"

_NESTED: Final = "it is nested too deep for Python to read"
_FROM_A_FUNCTION: Final = "; that is fine if it stands inside one in your file"
# To compare names takes long.
_MOST_GUESSES: Final = 20
_MOST_NAMES: Final = 300
# Told by the compiler too, and in its words.
_TOLD_TWICE: Final = (
    messages.ReturnOutsideFunction,
    messages.YieldOutsideFunction,
    messages.ContinueOutsideLoop,
    messages.BreakOutsideLoop,
)


class Fault(NamedTuple):
    """Why Python cannot read the code. Lines and columns count from 1; 0 is no known place."""

    message: str
    line: int = 0
    column: int = 0
    end_line: int = 0
    end_column: int = 0
    indentation: bool = False  # whether it is one of that


class Unreadable(Exception):
    """The code is no Python."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


class Finding(NamedTuple):
    """Something in code that Python can read, but that is hardly meant."""

    line: int
    message: str


def parse(code: str) -> ast.Module:
    """Read code. Raises Unreadable."""
    _quietly()
    try:
        return ast.parse(code, _READ)
    except SyntaxError as error:
        raise Unreadable(_fault(error)) from None
    except (RecursionError, MemoryError):
        raise Unreadable(Fault(_NESTED)) from None
    except ValueError as error:  # NUL, half of a surrogate pair
        raise Unreadable(Fault(str(error))) from None


def findings(code: str) -> list[Finding]:
    """Return what is odd in code that can be read, line by line. Raises Unreadable."""
    tree = parse(code)
    try:
        found = list(_by_pyflakes(tree))
    except RecursionError:
        raise Unreadable(Fault(_NESTED)) from None
    told = {finding.line for finding in found}
    found += [finding for finding in _by_the_compiler(code) if finding.line not in told]
    return sorted(set(found))


def _quietly() -> None:
    """Keep warnings of the compiler away from whoever runs the demo.

    Filters for these names alone: warnings.catch_warnings is not made for threads.
    """
    warnings.filterwarnings("ignore", module=re.escape(_READ) + "|<unknown>")
    warnings.filterwarnings("error", module=re.escape(_STRICT))


def _fault(error: SyntaxError) -> Fault:
    return Fault(
        error.msg,
        error.lineno or 0,
        error.offset or 0,
        error.end_lineno or 0,
        error.end_offset or 0,
        isinstance(error, IndentationError),
    )


def _by_the_compiler(code: str) -> Iterator[Finding]:
    """Yield the first of its warnings, such as that of an escape, and what only it knows to be wrong."""
    try:
        compile(code, _STRICT, "exec", dont_inherit=True)
    except SyntaxError as error:
        words = error.msg
        if "invalid escape sequence" in words:
            words += "; write the string as r'...', or the backslash twice"
        elif "outside function" in words:
            words += _FROM_A_FUNCTION
        yield Finding(error.lineno or 1, words)
    except (Warning, RecursionError, MemoryError, ValueError):
        pass  # nothing that could be told by its line


def _by_pyflakes(tree: ast.Module) -> Iterator[Finding]:
    own: list[str] | None = None
    guesses = 0
    for message in sorted(checker.Checker(tree, _READ).messages, key=lambda message: message.lineno):
        if isinstance(message, _TOLD_TWICE):
            continue
        words = message.message % message.message_args
        if isinstance(message, messages.UndefinedName) and guesses < _MOST_GUESSES:
            guesses += 1
            if own is None:
                own = sorted({known for node in ast.walk(tree) for known in _names(node)})[:_MOST_NAMES]
            words += _meant(message.message_args[0], own)
        yield Finding(message.lineno, words)


def _meant(name: str, own: list[str]) -> str:
    """Return what an undefined name may be a slip of: one of the code's own, or of Python's."""
    for names in (own, dir(builtins)):
        if close := difflib.get_close_matches(name, names, 1, 0.75):
            return f": did you mean {close[0]!r}?"
    return ""


def _names(node: ast.AST) -> Iterator[str]:
    """Yield the names to which a node gives something."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    elif isinstance(node, ast.arg):
        yield node.arg
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.alias):
        yield node.asname or node.name.partition(".")[0]
