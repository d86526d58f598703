"""The command line, read into what is to be asked."""

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import BinaryIO, Final, Literal, NoReturn
from urllib.parse import urlsplit

from relay.cli import prompt
from relay.cli.prompt import BadInput, Code, Output
from relay.cli.words import Words
from relay.surrogates import is_well_formed

URL_VARIABLE: Final = "ASK_RELAY_URL"
KEY_VARIABLE: Final = "ASK_RELAY_KEY"
_URL: Final = "http://localhost:5000"
_STDIN: Final = "-"
_BLOCK: Final = 65_536
# Seconds without error output after which a person is told what is waited for: an editor or a task may
# have left standard input open, and mean nothing by it.
_WAIT: Final = 2.0


@dataclass(frozen=True, slots=True)
class Request:
    """What one run of the program is asked for."""

    url: str
    question: str
    key: str | None
    workspace: str | None
    session: str | None
    mode: Literal["chat", "query", "automatic"] | None
    plain: bool


class _Parser(argparse.ArgumentParser):
    """Tells what is wrong in one line, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def read(
    arguments: list[str] | None, environment: Mapping[str, str], stdin: BinaryIO | None, words: Words
) -> Request | None:
    """Return what is asked for, None for nothing (then the help was shown).

    `stdin` is None where a person would have to type there. Exits with status 2 and one line for what
    cannot be done.
    """
    whole, asking = _parsers(words)
    given = whole.parse_args(arguments)
    if given.command is None:
        whole.print_help()
        return None
    try:
        return Request(
            url=_url(given.url or environment.get(URL_VARIABLE) or _URL, words),
            question=_question(given, stdin, words),
            key=_key(given.key_file, environment, words),
            workspace=given.workspace,
            session=given.session,
            mode=given.mode,
            plain=given.plain,
        )
    except BadInput as error:
        asking.error(str(error))


def parser(words: Words) -> argparse.ArgumentParser:
    """Return what reads the arguments of `ask`."""
    return _parsers(words)[1]


def _parsers(words: Words) -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    whole = _Parser(prog="python -m relay", description=words.about, add_help=False, allow_abbrev=False)
    whole.add_argument("-h", "--help", action="help", help=words.help)
    commands = whole.add_subparsers(dest="command", metavar="ask", parser_class=_Parser)
    asking = commands.add_parser(
        "ask",
        help=words.about_ask,
        description=words.about_ask,
        epilog=words.ends_with,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
        allow_abbrev=False,
    )
    what = asking.add_argument_group(words.what_to_ask).add_argument
    what("question", nargs="*", metavar="QUESTION", help=words.question)
    what("--file", action="append", default=[], metavar="FILE", help=words.file)
    what("--traceback", nargs="?", const=_STDIN, metavar="FILE", help=words.traceback)
    what("--fix", metavar="FILE", help=words.fix)
    where = asking.add_argument_group(words.where_to_ask).add_argument
    where("--url", metavar="URL", help=words.url)
    where("--key-file", metavar="FILE", help=words.key_file)
    where("--workspace", metavar="SLUG", help=words.workspace)
    where("--session", metavar="ID", help=words.session)
    where("--mode", choices=("chat", "query", "automatic"), help=words.mode)
    how = asking.add_argument_group(words.how_it_shows).add_argument
    how("--plain", action="store_true", help=words.plain)
    how("-h", "--help", action="help", help=words.help)
    return whole, asking


def _question(given: argparse.Namespace, stdin: BinaryIO | None, words: Words) -> str:
    question = " ".join(given.question)
    if not is_well_formed(question):
        raise BadInput(words.not_utf8.format(name="QUESTION"))
    output_is_piped = given.traceback == _STDIN or (given.fix is not None and given.traceback is None)
    if not question and not output_is_piped and given.fix is None and stdin is not None:
        question = prompt.code("stdin", stdin.read(prompt.MOST + 1), words).text
    if not question and given.traceback == _STDIN and stdin is None:
        raise BadInput(words.no_question)
    return prompt.compose(
        words,
        question,
        files=[_file(name, words) for name in given.file],
        fix=_file(given.fix, words) if given.fix is not None else None,
        output=_output(given.traceback, stdin if output_is_piped else None, words),
    )


def _output(name: str | None, stdin: BinaryIO | None, words: Words) -> Output | None:
    if stdin is not None:
        return _piped(stdin, words)
    if name is None or name == _STDIN:
        return None
    try:
        with Path(name).open("rb") as file:
            return _tail(file)
    except OSError as error:
        raise _not_read(name, error, words) from None


def _piped(stdin: BinaryIO, words: Words) -> Output:
    waiting = Timer(_WAIT, sys.stderr.write, [f"{words.waiting}\n"])
    waiting.daemon = True
    waiting.start()
    try:
        return _tail(stdin)
    finally:
        waiting.cancel()


def _tail(file: BinaryIO) -> Output:
    """Read to the end, and hold no more than is asked."""
    kept, size = b"", 0
    while block := file.read(_BLOCK):
        size += len(block)
        kept = (kept + block)[-prompt.MOST_OUTPUT :]
    return Output(kept.decode(errors="replace").replace("\r\n", "\n"), size - len(kept))


def _file(name: str, words: Words) -> Code:
    try:
        with Path(name).open("rb") as file:
            data = file.read(prompt.MOST + 1)
    except OSError as error:
        raise _not_read(name, error, words) from None
    return prompt.code(name, data, words)


def _key(file: str | None, environment: Mapping[str, str], words: Words) -> str | None:
    source, key = KEY_VARIABLE, environment.get(KEY_VARIABLE, "").strip() or None
    if file is not None:
        source, key = file, _file(file, words).text.partition("\n")[0].strip()
    if key is not None and not (key.isascii() and key.isprintable() and key):
        raise BadInput(words.no_key.format(name=source))
    return key


def _url(text: str, words: Words) -> str:
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good or "@" in parts.netloc:
        raise BadInput(words.no_address.format(url=text))
    return text


def _not_read(name: str, error: OSError, words: Words) -> BadInput:
    return BadInput(words.not_read.format(name=name, why=error.strerror or error))
