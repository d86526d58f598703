"""To Python, and to tracebacks, the stand-in has something to say; it reads them and runs nothing."""

import asyncio
import builtins
import re
import sys
import time
from pathlib import Path
from typing import Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.standin import StandIn
from relay.standin.answers import ANSWER
from relay.standin.review import CLEAN, NO_MODEL, review
from relay.standin.snippets import LONGEST, find
from relay.standin.tracebacks import CAUSES
from tests import program
from tests.running import Relay

ROOT: Final = Path(__file__).parent.parent
ELSEWHERE: Final = "```text\n{}\n```"


def fenced(code: str, label: str = "python") -> str:
    return f"Please fix this:\n\n```{label}\n{code}\n```\n"


def said_to(question: str) -> str:
    said = review(question)
    assert said is not None
    assert said.startswith(NO_MODEL)
    return said


def mended_in(said: str) -> str | None:
    """The code that an editor would apply: of each block no more than one."""
    blocks = re.findall(r"^(```+)python\n(.*?)\n?^\1$", said, re.DOTALL | re.MULTILINE)
    assert len(blocks) <= max(1, said.count("### Block"))
    return blocks[0][1] if blocks else None


@pytest.mark.parametrize(
    ("code", "says", "mended"),
    [
        ("def f()\n    return 1", "Line 1: expected ':'", "def f():\n    return 1"),
        ("class A\n    x = 1", "Line 1: expected ':'", "class A:\n    x = 1"),
        ("for x in y  # all\n    x()", "expected ':'", "for x in y:  # all\n    x()"),
        ("if a:\n    a()\nelse if b:\n    b()", "elif", "if a:\n    a()\nelif b:\n    b()"),
        ('print("a"\nx = 1', "'(' was never closed", 'print("a")\nx = 1'),
        ("x = [1, 2\ny = f(3", "`]`", "x = [1, 2]\ny = f(3)"),
        ("f(\n    1,\n    2\nx = 3", "'(' was never closed", "f(\n    1,\n    2)\nx = 3"),
        ("x = f(g([1, 2", "`]`", "x = f(g([1, 2]))"),
        ("f(g(\n    1\nx = 2", "was never closed", "f(g(\n    1))\nx = 2"),
        ("def f(x:\n    return x", "`)`", "def f(x):\n    return x"),
        ("if (x == 3:\n    pass", "`)`", "if (x == 3):\n    pass"),
        ('print("a"))', "unmatched ')'", 'print("a")'),
        ("f([1, 2)", "Close the `[` first", "f([1, 2])"),
        ("x = (1, 2]", "does not match", "x = (1, 2)"),
        ('print("hello)', "End the string", 'print("hello")'),
        ('x = "smile :)', "End the string", 'x = "smile :)"'),
        ("x = 'abc", "unterminated string literal", "x = 'abc'"),
        ('print(f"hi {x})', "unterminated", 'print(f"hi {x}")'),
        ("print('It's fine')", "apostrophe", 'print("It\'s fine")'),
        ("f(a b c)", "comma", "f(a, b, c)"),
        ('d = {"a": 1 "b": 2}', "comma", 'd = {"a": 1, "b": 2}'),
        ("x = [\n    1\n    2\n]", "comma", "x = [\n    1,\n    2\n]"),
        ('print "a" % b, c', "Missing parentheses", 'print("a" % b, c)'),
        ("print x,", "is a function", 'print(x, end=" ")'),
        (
            "try:\n    f()\nexcept A, e:\n    print e",
            "say `as`",
            "try:\n    f()\nexcept A as e:\n    print(e)",
        ),
        ('raise E, "x"', "Python 2", 'raise E("x")'),
        ("x = 10L", "Python 3 has no `L`", "x = 10"),
        ("if a <> b:\n    pass", "Python says `!=`", "if a != b:\n    pass"),
        ("if x = 3:\n    pass", "`==` compares", "if x == 3:\n    pass"),
        ("x = a && b", "Python says `and`", "x = a and b"),
        ("x++", "no `++`", "x += 1"),
        ("if !x:\n    pass", "Python says `not`", "if not x:\n    pass"),
        ("def f:\n    pass", "expected '('", "def f():\n    pass"),
        ("print(“hello”)", "looks like", 'print("hello")'),
        ("x\u00a0= 1", "looks like", "x = 1"),
        ('x = "C:\\Users"', "raw string", 'x = r"C:\\Users"'),
        ("def f():", "Line 1: expected an indented block", "def f():\n    pass"),
        ("def f():\nreturn 1", "Indent what belongs", "def f():\n    return 1"),
        ("x = 1\n  y = 2", "unexpected indent", "x = 1\ny = 2"),
        ("if x:\n    a()\n   b()", "line it up", "if x:\n    a()\n    b()"),
        ("if x:\n\ta()\n        b()", "no tabs", "if x:\n        a()\n        b()"),
        (
            "%matplotlib inline\n!pip install x\nx = f(1",
            "IPython",
            "%matplotlib inline\n!pip install x\nx = f(1)",
        ),
        (">>> x = f(1\n>>> x\nerror", "was never closed", "x = f(1)\nx"),
        ("    x = f(1\n    y = 2", "was never closed", "    x = f(1)\n    y = 2"),
        ("def f()\r\n    return 1", "expected ':'", "def f():\n    return 1"),
    ],
)
def test_what_can_surely_be_mended_is_mended(code: str, says: str, mended: str) -> None:
    """The fault in CPython's words, a word of advice, and the whole code as it should be."""
    said = said_to(fenced(code))
    assert says in said
    assert mended_in(said) == mended
    if "%" not in mended[:1]:
        compile(mended if not mended.startswith(" ") else f"if 1:\n{mended}", "mended", "exec")


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ('x = """abc', "end it where it should end"),
        ("f() = 3", "left of `=`"),
        ("x = 0777", "0o17"),
        ("f(a=1, 2)", "Arguments without a name come first"),
        ("def f(a=1, b): pass", "Parameters without a default come first"),
        ("try:\n    x()\ny()", "A `try` needs one of them"),
        ("class = 3", "`class` is a word of Python's own"),
        ("x = = 3", "Look just before the mark"),
        ("def f():\nx = 1\nreturn x", "Indent the lines that belong to it"),
        ('print("He said "hi" to me")', "a quote inside a string ends it"),
        ("x = a\\b", "are quotes missing?"),
        ("x = 1\0", "no text"),
        ("(" * 30_000, "too many nested parentheses"),
        ("-" * 30_000 + "1", "Break it up"),
        ("x = " + "+".join("1" * 15_000), "Break it up"),
        ("x = " + "9" * 5_000, "Exceeds the limit"),
        ("x = 1\n" * LONGEST, "longer than the demo reads"),
    ],
)
def test_what_cannot_is_pointed_at(code: str, says: str) -> None:
    """Nothing is offered that may be wrong."""
    said = said_to(fenced(code))
    assert says in said
    assert mended_in(said) is None


def test_the_mark_is_below_the_place() -> None:
    """With the number of the line before it, and tabs kept."""
    said = said_to(fenced("x = 1\n\ty = 2\n\tz = (1, 2]\n"))
    assert "2 | \ty = 2\n  |" in said
    said = said_to(fenced("x = 1\nprint(x))\n"))
    assert "2 | print(x))\n  |         ^\n" in said


def test_a_fault_in_a_long_line_is_shown_with_what_is_around_it() -> None:
    """Nobody reads a line of thousands of characters."""
    said = said_to(fenced("x = [" + "1, " * 300 + ") " + ", 1" * 300))
    assert max(map(len, said.splitlines())) < 120
    marked = re.search(r"^1 \| (.*)\n  \| ( *)\^$", said, re.MULTILINE)
    assert marked
    assert marked[1][len(marked[2])] == ")"


def test_a_line_that_cannot_be_mended_takes_back_its_first_mends() -> None:
    """Others above it keep theirs; there is nothing to apply."""
    said = said_to(fenced("x = f(1\ny = g(1 2) = = 3\n"))
    assert "1 | x = f(1)\n" in said
    assert "g(1, 2)" not in said
    assert mended_in(said) is None


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import os\n", "Line 1, `import os`: 'os' imported but unused"),
        ("x = 1\nprint(y)\n", "Line 2, `print(y)`: undefined name 'y'"),
        ("pritn(1)\n", "did you mean 'print'?"),
        ("def f(items):\n    return itmes\n", "did you mean 'items'?"),
        ("def f():\n    x = 1\n", "assigned to but never used"),
        ("print(f'{1}' + f'x')\n", "f-string is missing placeholders"),
        ("def f(x):\n    return x is 'a'\n", "use ==/!= to compare"),
        ("return 1\n", "fine if it stands inside one"),
        ("import re\nre.compile('\\d')\n", "invalid escape sequence '\\d'; write the string as r'...'"),
        ("x = [(1, 2) (3, 4)]\n", "perhaps you missed a comma?"),
        ("def f():\n    print(x)\n    global x\n    x = 1\n", "prior to global declaration"),
        ("from os import *\nprint(sep)\n", "unable to detect undefined names"),
        ("def f(a=1\n    return b\n", "Then there is still"),
    ],
)
def test_what_is_odd_is_told(code: str, says: str) -> None:
    """The words of pyflakes and the compiler's, without a warning on the way."""
    assert says in said_to(fenced(code))


@pytest.mark.parametrize(
    "code",
    [
        "def f(x):\n    return x * 2\n",
        "x: 'int' = 1\n",
        "class A:\n    def f(self) -> 'A':\n        return self\n",
        "import re\nprint(re.sub(r'\\d', '', 'a'))\n",
    ],
)
def test_good_code_is_called_good(code: str) -> None:
    """And nothing else is said of it."""
    assert said_to(fenced(code)) == f"{NO_MODEL}\n\n{CLEAN}\n"


def test_many_findings_are_counted() -> None:
    """No answer goes on for ever."""
    said = said_to(fenced("".join(f"name{n}\n" for n in range(3000))))
    assert said.count("\n- Line") == 20
    assert "- and 2980 more." in said


def test_many_faults_are_counted() -> None:
    """The first are shown, all are mended."""
    said = said_to(fenced('print "a"\n' * 8))
    assert said.count("**Line") == 5
    assert "And such in lines 6, 7, 8." in said
    assert mended_in(said) == 'print("a")\n' * 8


ZERO: Final = """\
Traceback (most recent call last):
  File "/home/me/mean.py", line 4, in <module>
    print(mean([]))
          ^^^^^^^^
  File "/home/me/mean.py", line 2, in mean
    return sum(xs) / len(xs)
           ~~~~~~~~^~~~~~~~~
ZeroDivisionError: division by zero"""
LIBRARY: Final = """\
Traceback (most recent call last):
  File "load.py", line 3, in <module>
    json.loads(text)
  File "/usr/lib/python3.11/json/decoder.py", line 355, in raw_decode
    raise JSONDecodeError("Expecting value", s, err.value) from None
json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)"""


def test_a_traceback_is_explained() -> None:
    """Its last place, the line, and what the exception usually comes from; its code is read too."""
    code = "def mean(xs):\n    return sum(xs) / len(xs)\n\nprint(mean([]))"
    said = said_to(f"{fenced(code)}\n{ELSEWHERE.format(ZERO)}")
    assert CLEAN in said
    assert "points at line 2 of `/home/me/mean.py` in `mean`" in said
    assert "2 | return sum(xs) / len(xs)" in said
    assert f"`ZeroDivisionError: division by zero` usually means: {CAUSES['ZeroDivisionError']}" in said


@pytest.mark.parametrize("question", [ZERO, ZERO.replace("\n", "\r\n"), ELSEWHERE.format(ZERO)])
def test_a_traceback_alone_is_enough(question: str) -> None:
    """Bare or fenced; its own lines are not taken for code."""
    assert "points at line 2" in said_to(question)
    assert "Python can read" not in said_to(question)
    assert find(question) == []


def test_a_traceback_that_ends_in_a_library_points_at_the_last_line_before_it() -> None:
    """Where the user can do something."""
    said = said_to(LIBRARY)
    assert "points at line 3 of `load.py`" in said
    assert "line 355 of `/usr/lib/python3.11/json/decoder.py`" in said


def test_of_two_tracebacks_the_last_counts() -> None:
    """That is the one which ended the program."""
    between = "During handling of the above exception, another exception occurred:"
    assert "`load.py`" in said_to(f"{ZERO}\n\n{between}\n\n{LIBRARY}")


def test_the_traceback_of_a_syntax_error_has_no_frames_above() -> None:
    """Python says only where."""
    said = said_to('  File "a.py", line 2\n    x = = 1\n        ^\nSyntaxError: invalid syntax')
    assert "points at line 2 of `a.py`" in said


@pytest.mark.parametrize("exception", CAUSES)
def test_every_cause_is_that_of_an_exception(exception: str) -> None:
    """An exception that is only named is explained too, where there is code."""
    assert issubclass(getattr(builtins, exception), Exception)
    assert CAUSES[exception] in said_to(f"Why this {exception}?\n\nx = f(1)\n")


def test_none_is_a_cause_of_its_own() -> None:
    """Whatever the exception is called."""
    message = "AttributeError: 'NoneType' object has no attribute 'x'"
    assert "without a `return`" in said_to(ZERO.replace("ZeroDivisionError: division by zero", message))


@pytest.mark.parametrize(
    "question",
    [
        "Why does this raise KeyError?\n\nd = {}\nd['a'] += 1",
        "d = {}\nd['a'] += 1",
        "print('x'",
        "def f()\n    return 1",
        "for x in range(3)\n    print(x)",
        "Hi,\n\nwhat is wrong with this code\n\nx = [1, 2\nprint(x)\n\nThanks!",
        "Why?\nimport os\nprint(os.getcwd())\n",
        "if x = 3:\n    print(x)",
        "my code:\n\n    a = foo(1)\n    b = bar(\n\nis broken",
        ">>> x = [1,2",
        'Please fix\nprint "hello"',
        "@dataclass\nclass A:\n    x: int",
        "df = pd.read_csv('x.csv')\ndf.head()",
        "total = 0\nfor i in range(10):\ntotal += i",
        "What does this do?\nsorted(x, key=lambda y: y[1])",
        "def f(x): return x*2",
        "# Which Python?\nx = 1",
        'def f(x):\n    """Double it.\n\nThis says more.\n"""\n    return x*2',
    ],
)
def test_bare_code_is_found(question: str) -> None:
    """One piece, without the prose around it."""
    (found,) = find(question)
    assert not re.search("Why|Hi|wrong|Thanks|my code|broken|Please|What", found.code)


@pytest.mark.parametrize(
    "question",
    [
        "How do I reverse a list?",
        "print",
        "yes",
        "x",
        "1 + 1",
        "hello, world",
        "if you know the answer tell me",
        "if so: why",
        "for example: lists",
        "for the first time, in years",
        "while reading the docs:",
        "with regards to lists:\n- a\n- b",
        "thanks (a lot)",
        "thanks (really)",
        "help (me)",
        "import duties",
        "return please",
        "raise hell",
        "global warming",
        "assert dominance",
        "note: this",
        "What does print() do?",
        "What is x = 5?",
        "What is the time complexity of sorted(x)?",
        "f(x) is continuous on [a, b]",
        "a(b) c(d)",
        "How can I\nsort a list\nin Python?",
        "Dear all,\n\nis this (maybe) right?\n\nThanks,\nMe",
        "1. Do this (first)\n2. Do that",
        "key: value\nother: [1, 2]",
        '{"a": 1}',
        "const x = [1, 2];",
        "function f() {\n  return 1;\n}",
        "if (x) {\n  y();\n}",
        "console.log('x');",
        "SELECT * FROM t WHERE a = 1;",
        "$ pip install x",
        "<div class='a'>b</div>",
        "curl -N http://localhost:5000/stream-ask -d question=x",
        "@agent look (here)",
    ],
)
def test_prose_and_other_languages_are_not_taken_for_python(question: str) -> None:
    """Also where Python could read them."""
    assert find(question) == []
    assert review(question) is None


def test_no_paragraph_of_the_documents_is_taken_for_python() -> None:
    """Real prose about programs, whole and line by line."""
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
        for paragraph in text.split("\n\n"):
            for question in (paragraph, *paragraph.split("\n")):
                assert find(question) == [], question


@pytest.mark.parametrize("label", ["js", "javascript", "c++", "bash", "json", "diff", "rust"])
def test_fences_of_other_languages_are_left_alone(label: str) -> None:
    """Their code may look like Python."""
    assert review(fenced("x = f(1", label)) is None


@pytest.mark.parametrize(
    "label", ["python", "py", "Python", "py3", "pycon", "", "python title=x", "{.python}"]
)
def test_fences_of_python_are_read(label: str) -> None:
    """However they are labelled, and without a label if it looks like Python."""
    assert "was never closed" in said_to(fenced("x = f(1", label))


def test_fences_are_found_as_markdown_has_them() -> None:
    """Longer ones hold shorter ones, tildes work, and one that is never closed goes on to the end."""
    assert [one.code for one in find("````py\nx = '''\n```\n'''\n````\n")] == ["x = '''\n```\n'''\n"]
    assert [one.code for one in find("~~~python\nx = 1\n~~~\n")] == ["x = 1\n"]
    assert [one.code for one in find("```py\nx = 1\n")] == ["x = 1\n"]
    assert [one.code for one in find("```py\na = 1\n```\nand\n```py\nb = 2\n```\n")] == [
        "a = 1\n",
        "b = 2\n",
    ]


def test_each_block_is_read_by_itself() -> None:
    """Under a heading of its own, and not without end."""
    said = said_to(fenced("import os") + fenced("x = 1"))
    assert said.index("### Block 1") < said.index("'os' imported") < said.index("### Block 2")
    assert "Only the first 5 of 9 blocks" in said_to(fenced("x = 1") * 9)


def test_code_with_fences_in_it_is_mended_in_a_longer_one() -> None:
    """So that the answer's own fence ends where it should."""
    code = 'x = """\n```\n"""\ny = f(1'
    assert mended_in(said_to(f"````python\n{code}\n````")) == f"{code})"


def test_nothing_is_run(tmp_path: Path) -> None:
    """Not even what Python runs on import, in a decorator or a default."""
    made = tmp_path / "made"
    code = f"import pathlib\n\n\ndef f(x=pathlib.Path({str(made)!r}).touch()):\n    return x\n\n\nf()\n"
    assert CLEAN in said_to(fenced(code))
    assert not made.exists()


@pytest.mark.parametrize(
    "question",
    [
        "(" * 2**20,
        fenced("(" * 2**20),
        "for" + " " * LONGEST,
        "\n" * LONGEST + "=",
        "with" + ":" * LONGEST,
        fenced('"\\"' * 10_000),
        fenced("".join(f"name{n}\n" for n in range(3000))),
        fenced("if x:\n" + "\ta\n        b\n" * 1500),
        fenced('print "x"\n' * 3000),
        fenced("f(" + "a b " * 200 + ")"),
        "`" * 2**20,
        "```\n```py\n" * 20_000,
        '  File "a", line 1, in x\n' * 40_000,
        "A." * 2**19,
        "x = (1\n```" + "a" * 2**20 + "`\n",
        fenced("if " + "=" * (LONGEST - 99) + "{"),
        fenced(" " * (LONGEST - 99) + "\nx = (1"),
    ],
)
def test_nothing_takes_long(question: str) -> None:
    """Each takes a tenth of a second or less; squares and powers of the length would take minutes."""
    began = time.monotonic()
    review(question)
    assert time.monotonic() - began < 5


PIECES: Final = [
    *"()[]{}:,=.'\"#\\\n\t @!%?<>+-*`~\0é“\u2028\ud800x1",
    *("    ", "\r\n", "'''", "\\N{", "f'{", "```py\n", "\n```\n", ">>> "),
    *("def f", "if x", "else", "print ", "for i in x", "class A", "except A, e:", "async ", "lambda"),
    *(
        "import os",
        "return",
        "Traceback (most recent call last):\n",
        '  File "a", line 1\n',
        "KeyError: 1",
    ),
]
CODE: Final = st.lists(st.sampled_from(PIECES), max_size=30).map("".join)


@given(st.text() | CODE | CODE.map(fenced))
@example(fenced("f'{"))
def test_any_text_is_taken(question: str) -> None:
    """It never raises; where it mends, Python can read what it made."""
    said = review(question)
    if said is None:
        return
    assert said.startswith(NO_MODEL)


async def test_the_answer_comes_token_by_token(relay: Relay, standin: StandIn) -> None:
    """As the stand-in's others do: in many chunks, and a whole in the end."""
    question = fenced("def f()\n    return 1")
    heard = await relay.ask(question)
    assert heard.text == review(question)
    assert max(len(chunk["content"]) for chunk in heard.of("chunk")) < 40
    assert heard.end["reason"] == "complete"
    assert heard.end["metrics"]["completion_tokens"] > 20


@pytest.mark.parametrize("mode", ["chat", "automatic"])
async def test_orders_win(relay: Relay, mode: str) -> None:
    """What is ordered is said; what goes wrong goes wrong with this text too."""
    code = fenced("def f()\n    return 1")
    assert (await relay.ask(f"!tokens=2 {code}", mode=mode)).text == "tok1 tok2"
    heard = await relay.ask(f"{code} !abort=429", mode="chat")
    assert heard.error["code"] == "upstream_aborted"
    assert NO_MODEL.startswith(heard.text)
    assert (await relay.ask("How do I reverse a list?", mode=mode)).text == ANSWER


async def test_others_are_not_kept_waiting(relay: Relay) -> None:
    """Code that takes the linter long is read beside the loop, in short steps."""
    question = fenced("".join(f"name{n}\n" for n in range(3000))) * 5
    began = time.monotonic()
    review(question)
    alone = time.monotonic() - began
    slow = asyncio.create_task(relay.ask(question))
    longest = 0.0
    while not slow.done():
        began = time.monotonic()
        await asyncio.sleep(0.001)
        longest = max(longest, time.monotonic() - began)
    assert "undefined name" in (await slow).text
    assert longest < alone / 2


async def test_the_demo_mends(tmp_path: Path) -> None:
    """`python run.py --demo`, asked with curl's form."""
    demo = await program.spawn(tmp_path, ("--demo", "--port", "0"), {})
    try:
        await demo.says("Try it")
        curl = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", ASK, f"{demo.url}/stream-ask", fenced("print('a'")),
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await curl.communicate()
        assert b"was never closed" in b"".join(
            out.split(b'"}\n\nevent: chunk\ndata: {"type":"chunk","content":"')
        )
        assert await demo.stop() == 0 or sys.platform == "win32"
        assert "Warning" not in demo.err
    finally:
        await demo.kill()


ASK: Final = """
import sys, urllib.parse, urllib.request
url, question = sys.argv[1:]
data = urllib.parse.urlencode({"question": question}).encode()
sys.stdout.buffer.write(urllib.request.urlopen(url, data).read())
"""
