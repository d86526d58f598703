"""The question that is asked: out of words, code and error output, without any I/O."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final

import msgspec

from relay.cli.escapes import plain
from relay.cli.words import Words

MOST: Final = 1_048_576  # bytes: what a relay takes unless it is told otherwise
MOST_OUTPUT: Final = 65_536  # bytes of error output, from its end: what went wrong is said last
_AROUND: Final = 4096  # bytes for the other fields of a request
_MOST_LINES: Final = 20  # line numbers that are named
# A path begins where nothing of one stands before it: a search from each character of a long word would
# take a minute.
_PLACE: Final = re.compile(
    r'File "([^"\n]+)", line (\d{1,9})|(?<![^\s:"\'(<])([^\s:"\'(<]+):(\d{1,9})\b'
)
_LANGUAGES: Final = {
    "py": "python",
    "pyw": "python",
    "pyi": "python",
    "js": "javascript",
    "ts": "typescript",
}


class BadInput(Exception):
    """What was given cannot be asked; the text is one line for a person."""


@dataclass(frozen=True, slots=True)
class Code:
    """A file, under the name by which it was given."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Output:
    """The end of what a program wrote."""

    text: str
    left_out: int = 0  # bytes before it


def code(name: str, data: bytes, words: Words) -> Code:
    """Return a file as text. Raises BadInput."""
    if len(data) > MOST:
        raise BadInput(words.too_large.format(name=name, most=_size(MOST)))
    if b"\0" in data:
        raise BadInput(words.binary.format(name=name))
    try:
        return Code(name, data.decode("utf-8-sig").replace("\r\n", "\n"))
    except UnicodeDecodeError:
        raise BadInput(words.not_utf8.format(name=name)) from None


def compose(
    words: Words,
    question: str = "",
    *,
    files: Sequence[Code] = (),
    fix: Code | None = None,
    output: Output | None = None,
) -> str:
    """Return the whole question. Raises BadInput where there is none, and where it is too large."""
    if output is not None and not output.text.strip():
        output = None
    parts = [_task(words, fix, output, asked=bool(question.strip())), question.strip()]
    programs = [*files, fix] if fix is not None else [*files]
    parts += [_code(words, program) for program in programs]
    if output is not None:
        parts.append(_output(words, output))
        parts += [_named(words, program, output) for program in programs]
    if not parts[0] and not parts[1]:
        raise BadInput(words.no_question)
    whole = "\n\n".join(part for part in parts if part)
    size = len(msgspec.json.encode(whole))
    if size > MOST - _AROUND:
        raise BadInput(words.too_large_in_all.format(size=_size(size), most=_size(MOST)))
    return whole


def lines_named(name: str, code: str, output: str) -> list[int]:
    """Return the lines of the file that the output names, in the order in which it last names them."""
    end = code.count("\n") + 1
    found: dict[int, None] = {}
    for path, line, other_path, other_line in _PLACE.findall(output):
        number = int(line or other_line)
        if 1 <= number <= end and _is_same(path or other_path, name):
            found.pop(number, None)
            found[number] = None
    return list(found)[-_MOST_LINES:]


def _task(words: Words, fix: Code | None, output: Output | None, *, asked: bool) -> str:
    if fix is not None:
        return (words.please_find if output is None else words.please_fix).format(name=fix.name)
    return words.please_explain if output is not None and not asked else ""


def _code(words: Words, file: Code) -> str:
    return f"{words.code_of.format(name=file.name)}\n{_fenced(file.text, _language(file.name))}"


def _output(words: Words, output: Output) -> str:
    text = plain(output.text).strip("\n")
    if output.left_out:
        text = f"{words.left_out.format(count=output.left_out)}\n{text}"
    return f"{words.error_output}\n{_fenced(text, 'text')}"


def _named(words: Words, file: Code, output: Output) -> str:
    numbers = lines_named(file.name, file.text, plain(output.text))
    lines = ", ".join(map(str, numbers))
    return words.named_lines.format(name=file.name, lines=lines) if numbers else ""


def _fenced(text: str, language: str) -> str:
    """Behind a fence that is longer than any in the text."""
    longest = max(map(len, re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    end = "" if text.endswith("\n") else "\n"
    return f"{fence}{language}\n{text}{end}{fence}"


def _language(name: str) -> str:
    suffix = PurePath(name).suffix.removeprefix(".").lower()
    return _LANGUAGES.get(suffix, suffix if suffix.isalnum() else "")


def _is_same(path: str, name: str) -> bool:
    """One may say more of the folders than the other."""
    longer, shorter = sorted((_parts(path), _parts(name)), key=len, reverse=True)
    return bool(shorter) and longer[-len(shorter) :] == shorter


def _parts(path: str) -> tuple[str, ...]:
    parts = PurePath(path).parts
    return parts[len(parts) - parts[::-1].index("..") :] if ".." in parts else parts


def _size(size: int) -> str:
    return f"{size / 1_048_576:.3g} MiB"
