"""The page, in a real browser: what a person sees of an answer, and can do about it."""

import asyncio
import base64
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.async_api import expect

from relay.standin import StandIn
from tests import program
from tests.chaos import Chaos
from tests.clients import PATIENCE
from tests.conftest import StartRelay
from tests.page_client import NEEDS_CHROMIUM, User, browser
from tests.running import Relay
from tests.test_sse import VECTORS, vector_chunkings, vector_expect, vector_input

pytestmark = NEEDS_CHROMIUM

OpenPage = Callable[..., Awaitable[User]]

SCREENSHOTS: Final = Path(__file__).parent.parent / ".screenshots"
"""Where the looks of the page are left, to be looked at."""

KEY: Final = "key-of-a-reader"
THE_KEY: Final = "The relay\u2019s key"
HOSTILE: Final = (
    "<script>alert(1)</script><img src=x onerror=alert(2)><svg onload=alert(3)>\n"
    "[click](javascript:alert(4)) <a href='javascript:alert(5)'>here</a>\n"
    "<style>*{display:none}</style>\n"
    "```html\n<script>alert(6)</script></code></pre><img src=x onerror=alert(7)>\n```\n"
    "`<b onclick=alert(8)>` </div></article><iframe src='javascript:alert(9)'></iframe>\n"
    "## <img src=x onerror=alert(10)>\n**<img src=x onerror=alert(11)>** **`<b onclick=alert(12)>`**\n**"
)
CODE: Final = (
    "Before\n\n```python\nfor n in range(3):\n\tprint(`n`)\n```\nbetween `x = 1` and\n1. a list\n"
)
LISTED: Final = (
    "   ```sh\n   make demo\n     # indented\n   ```\nafter\n````\n```\nnot the end\n````\nlast ```"
)

MARKED: Final = (
    "# The `first` **of** all\nwords **that *are* so**, **with `a**b` in them**, 用Python**编写**代码\n"
    "### Third\n**kwargs, x**2 + y**2, 2 ** 3 ** 4, f(**a, **b), ***, __init__, **a\nb**, **`**\n"
    "#tag\n#\n```\n# no heading **nor strong**\n```\n## **Last**\n**not the end"
)


@pytest.fixture
async def open_page(nothing_left_over: None) -> AsyncIterator[OpenPage]:
    """Open the page as somebody of their own; options are those of a browser's context."""
    users: list[User] = []
    async with browser() as running:

        async def open_(url: str, **options: Any) -> User:
            context = await running.new_context(**{"locale": "en-US", **options})
            users.append(User(await context.new_page()))
            await users[-1].open(url)
            return users[-1]

        yield open_
        for user in users:
            await user.page.context.close()
    assert [user.wrong for user in users] == [[] for _ in users]


def counted(number: int) -> str:
    return " ".join(f"tok{n}" for n in range(1, number + 1))


async def look(user: User, name: str) -> None:
    """Leave a picture of what the user sees."""
    SCREENSHOTS.mkdir(exist_ok=True)
    await user.page.screenshot(path=SCREENSHOTS / f"{name}.png")


# --- answers ---


async def test_an_answer_is_there_while_it_is_written(
    relay: Relay, standin: StandIn, open_page: OpenPage
) -> None:
    """The model pauses; what it said is to be read, and Stop can be pressed."""
    user = await open_page(relay.url)
    await expect(user.page.get_by_role("button", name="Stop")).to_be_hidden()
    await user.ask("!tokens=6 !pause=3600")
    await user.shows("tok1 tok2 tok3")
    ask = await standin.next_ask()
    assert not ask.ended.is_set()
    await expect(user.page.get_by_role("button", name="Ask", exact=True)).to_be_disabled()
    await expect(user.page.locator("#status")).to_contain_text("1 answer running")
    assert await user.page.locator("#question").input_value() == ""
    await look(user, "arriving")
    await user.press("Stop")
    await asyncio.wait_for(ask.ended.wait(), PATIENCE)
    assert ask.outcome == "left"
    assert await user.ended() == "tok1 tok2 tok3"
    await expect(user.turn.locator(".end")).to_have_text("Stopped")
    await relay.idle()
    assert await relay.counted('relay_streams_total{outcome="cancelled"}') == 1


async def test_escape_stops_and_the_next_question_is_asked(
    relay: Relay, standin: StandIn, open_page: OpenPage
) -> None:
    """One conversation: the second answer knows the first question."""
    user = await open_page(relay.url)
    await user.ask("!endless")
    await user.shows("tok1 ")
    await user.page.keyboard.press("Escape")
    ask = await standin.next_ask()
    await asyncio.wait_for(ask.ended.wait(), PATIENCE)
    await user.ask("!echo one")
    assert await user.ended() == "one"
    await user.ask("!history")
    assert "!echo one" in await user.ended()
    await user.press("New conversation")
    await expect(user.page.locator(".turn")).to_have_count(0)
    await user.ask("!history")
    assert await user.ended() == "No earlier questions."


async def test_stopping_before_the_head_came_stops_the_model_too(
    relay: Relay, standin: StandIn, open_page: OpenPage
) -> None:
    """On a slow line: the id of the stream is still on its way when Stop is pressed."""
    async with Chaos(relay.port) as line:
        user = await open_page(line.url)
        line.delay = 0.5
        await user.page.locator("#status").get_by_text("ready").wait_for()
        await user.ask("!endless")
        await user.press("Stop")
        assert await user.ended() == ""
        ask = await standin.next_ask()
        await asyncio.wait_for(ask.ended.wait(), PATIENCE)
        assert ask.outcome == "left"
        line.delay = 0
        await user.ask("!echo next")
        assert await user.ended() == "next"


async def test_a_new_conversation_stops_what_runs(
    relay: Relay, standin: StandIn, open_page: OpenPage
) -> None:
    user = await open_page(relay.url)
    await user.ask("!endless")
    await user.shows("tok1 ")
    await user.press("New conversation")
    ask = await standin.next_ask()
    await asyncio.wait_for(ask.ended.wait(), PATIENCE)
    await expect(user.page.locator(".turn")).to_have_count(0)


async def test_pressing_twice_asks_once(relay: Relay, standin: StandIn, open_page: OpenPage) -> None:
    """A double click on Ask, and Enter while an answer runs: the next question stays where it is."""
    user = await open_page(relay.url)
    await user.page.locator("#question").fill("!tokens=6 !pause=3600")
    await user.page.get_by_role("button", name="Ask", exact=True).dblclick(force=True)
    await user.shows("tok3")
    await user.ask("the next one")
    assert await user.page.locator("#question").input_value() == "the next one"
    assert len(standin.asks) == 1
    await expect(user.page.locator(".turn")).to_have_count(1)


async def test_only_a_whole_enter_asks(relay: Relay, standin: StandIn, open_page: OpenPage) -> None:
    """Shift+Enter is a line, an Enter of an input method is its own, and blanks are no question."""
    user = await open_page(relay.url)
    await user.page.locator("#question").press_sequentially("!echo a")
    await user.page.keyboard.press("Shift+Enter")
    await user.page.keyboard.type("b")
    composing = {"key": "Enter", "isComposing": True, "bubbles": True, "cancelable": True}
    await user.page.locator("#question").dispatch_event("keydown", composing)
    await expect(user.page.locator(".turn")).to_have_count(0)
    await user.page.keyboard.press("Enter")
    assert await user.ended() == "a\nb"
    await user.ask("  \n ")
    await expect(user.page.locator(".turn")).to_have_count(1)
    assert len(standin.asks) == 1


async def test_hostile_text_is_text(relay: Relay, open_page: OpenPage) -> None:
    """Whatever a model, or the asker, writes: nothing runs, nothing is missing, nothing is a link."""
    user = await open_page(relay.url)
    await user.ask(f"!echo {HOSTILE}")
    assert await user.ended() == HOSTILE
    assert await user.turn.locator(".question").evaluate("e => e.textContent") == f"!echo {HOSTILE}"
    made = ":is(script, img, svg, style, iframe, b, a)"
    assert await user.page.locator(f"#turns {made}").count() == 0
    assert (
        await user.turn.locator("pre code").evaluate("e => e.textContent") == HOSTILE.splitlines(True)[4]
    )
    await look(user, "hostile")


async def test_odd_characters_are_kept(relay: Relay, open_page: OpenPage) -> None:
    """NUL, signs that turn the direction of text, line ends of all kinds, half an emoji made whole."""
    odd = "a\0b \u202eright to left\u202c \u2066\u2069 \r\n"
    odd += "c\rd \u2028 \u0085 🐍👩‍💻 e\u0301 \ufeff \ufffd `\0` end  "
    user = await open_page(relay.url)
    await user.page.locator("#question").evaluate("(e, text) => (e.value = text)", f"!echo {odd}")
    await user.press("Ask")
    seen = odd.replace("\r\n", "\n").replace("\r", "\n")  # as any text field of a browser has them
    assert await user.ended() == seen
    await user.ask("!surrogate")
    assert "\ufffd" not in await user.ended()


async def test_code_is_shown_as_code_and_can_be_copied(relay: Relay, open_page: OpenPage) -> None:
    """Blocks and words in backticks; the copies are exact."""
    user = await open_page(relay.url, permissions=["clipboard-read", "clipboard-write"])
    for text in (CODE, LISTED):
        await user.ask(f"!echo {text}")
        assert await user.ended() == text
        await user.press("Copy answer")
        await expect(user.page.locator("#teller")).to_have_text("Copied")
        assert await user.script("() => navigator.clipboard.readText()") == text
    blocks = user.page.locator("pre code")
    codes = [str(await block.evaluate("e => e.textContent")) for block in await blocks.all()]
    assert codes == [
        "for n in range(3):\n\tprint(`n`)\n",
        "   make demo\n     # indented\n",
        "```\nnot the end\n",
    ]
    assert await user.page.locator(".block > code").all_text_contents() == ["`x = 1`"]
    await user.page.locator(".code button").nth(1).click()
    await expect(user.page.locator(".code button").nth(1)).to_have_attribute("aria-label", "Copied")
    assert await user.script("() => navigator.clipboard.readText()") == "make demo\n  # indented\n"


async def test_headings_and_strong_words_are_shown_as_such(relay: Relay, open_page: OpenPage) -> None:
    """Their marks are there, but neither seen nor read aloud; the copy is exact."""
    user = await open_page(relay.url, permissions=["clipboard-read", "clipboard-write"])
    await user.ask(f"!echo {MARKED}")
    assert await user.ended() == MARKED
    await user.press("Copy answer")
    await expect(user.page.locator("#teller")).to_have_text("Copied")
    assert await user.script("() => navigator.clipboard.readText()") == MARKED
    answer = user.turn.locator(".answer")
    assert await answer.locator("strong").all_text_contents() == [
        *("**of**", "**that *are* so**", "**with `a**b` in them**", "**编写**", "**Last**")
    ]
    assert await answer.locator("strong code").all_text_contents() == ["`a**b`"]
    headings = [(1, "The first of all"), (3, "Third"), (2, "Last")]
    assert await answer.get_by_role("heading").count() == len(headings)
    for level, name in headings:
        heading = answer.get_by_role("heading", level=level, name=name, exact=True)
        assert (await heading.all_text_contents())[0].count("\n") == 1
    hidden = "strong > .hidden, [role=heading] > .hidden"
    widths = await answer.locator(hidden).evaluate_all("all => all.map((e) => e.offsetWidth)")
    assert widths == [1] * 13
    await look(user, "marked")


async def test_a_heading_is_one_before_its_line_ends(relay: Relay, open_page: OpenPage) -> None:
    """The answer pauses within it; what may still become strong is text meanwhile, and stays text."""
    user = await open_page(relay.url)
    await user.ask("!pause=3600 !echo # **Strong**")
    heading = user.turn.get_by_role("heading", level=1, name="**Strong*", exact=True)
    await expect(heading.locator(".held")).to_have_text("**Strong*")
    await user.press("Stop")
    assert await user.ended() == "# **Strong*"
    assert await heading.all_text_contents() == ["# **Strong*"]


async def test_strong_words_are_counted_in_blocks(relay: Relay, open_page: OpenPage) -> None:
    """A piece more costs the layout of its block, also where hardly anything is plain text."""
    user = await open_page(relay.url)
    text = "**strong words**\n" * 300
    await user.ask(f"!echo {text}")
    assert await user.ended() == text
    sizes = [len(block) for block in await user.turn.locator(".block").all_text_contents()]
    assert max(sizes) < 2_100


async def test_code_is_code_before_its_fence_ends(relay: Relay, open_page: OpenPage) -> None:
    """The answer pauses within a block."""
    user = await open_page(relay.url)
    await user.ask("!slow=0.01 show me some code")
    await user.shows("def greet(")
    assert await user.turn.locator("pre code").count() == 1
    await expect(user.turn.locator(".bar")).to_have_attribute("data-language", "python")
    assert not await user.turn.locator(".end").count()
    await user.ended()
    await look(user, "answer")


async def test_reasoning_progress_outputs_and_sources_are_beside_the_text(
    start_relay: StartRelay, open_page: OpenPage
) -> None:
    """Folded, but for the sources, of which only addresses of the web are links."""
    relay = await start_relay()
    user = await open_page(relay.url)
    await user.ask("!reason !sources=2")
    text = await user.ended()
    assert "<think>" not in text
    reasoning = user.turn.locator("details", has_text="Reasoning")
    await expect(reasoning.locator(".text")).to_be_hidden()
    await reasoning.locator("summary").click()
    await expect(reasoning.locator(".text")).to_contain_text("think first.")
    await expect(user.turn.locator(".sources li")).to_have_text(["manual-1.txt", "manual-2.txt"])
    await look(user, "reasoning")
    await user.ask("@agent !tool")
    await user.ended()
    await expect(user.turn.locator("summary")).to_have_text("Progress of the agent (2)")
    await user.ask("@agent !chart")
    await user.ended()
    await expect(user.turn.locator(".output summary")).to_have_text("Chart T")
    await user.ask("@agent !file")
    await user.ended()
    await user.turn.locator(".output summary").click()
    await expect(user.turn.locator(".output pre")).to_contain_text('"filename": "report.txt"')
    await expect(user.turn.locator(".output summary")).to_have_text("File report.txt")
    await look(user, "agent")


async def test_only_addresses_of_the_web_are_links(relay: Relay, open_page: OpenPage) -> None:
    """A source may have any address; a script's is a mere name."""
    sources = [
        {"id": "1", "title": "A page", "url": "https://example.com/a?b#c"},
        {"id": "2", "title": "<b>Bad</b>", "url": "javascript:alert(1)"},
        {"id": "3", "title": "", "url": "data:text/html,x"},
        {"id": "4", "title": "A page", "url": "https://example.com/a?b#c"},
        {"id": "5", "title": None, "url": 5},
    ]
    told = {"type": "final_end", "reason": "complete", "sources": sources, "metrics": {}, "skipped": 2}
    user = await open_page(relay.url)
    await user.script(
        """async (told) => {
            const { AnswerView } = await import("/static/answer.js");
            const onGrow = (change) => change();
            const view = new AnswerView("?", { whole: () => "", onGrow, onRetry() {} });
            view.apply(told);
            document.getElementById("turns").append(view.root);
        }""",
        told,
    )
    items = user.turn.locator(".sources li")
    await expect(items).to_have_text(["A page", "<b>Bad</b>", "data:text/html,x", "5"])
    links = user.turn.locator(".sources a")
    await expect(links).to_have_attribute("href", "https://example.com/a?b#c")
    await expect(links).to_have_attribute("rel", "noopener noreferrer")
    await expect(user.turn.locator(".foot")).to_contain_text("could not be read: 2")


async def test_a_long_answer_is_whole_and_does_not_stop_the_page(
    relay: Relay, standin: StandIn, open_page: OpenPage
) -> None:
    """Two megabytes in two hundred thousand pieces, and fifty blocks of code in another answer."""
    user = await open_page(relay.url)
    # The longest time in which the page did nothing else.
    await user.script(
        """() => {
            window.longest = 0;
            new PerformanceObserver((list) => {
                for (const { duration } of list.getEntries()) longest = Math.max(longest, duration);
            }).observe({ entryTypes: ["longtask"] });
        }"""
    )
    await user.ask("!burst=200000")
    assert await user.ended() == counted(200_000)
    assert await user.script("() => window.longest") < 2_000
    blocks = "".join(f"Block {n}:\n```js\nlet n = {n};\n```\n" for n in range(50))
    await user.ask(f"!echo {blocks}")
    assert await user.ended() == blocks
    await expect(user.turn.locator("pre")).to_have_count(50)


# --- failures ---


async def test_a_failure_is_told_in_words_and_can_be_asked_again(
    relay: Relay, standin: StandIn, open_page: OpenPage
) -> None:
    """What there was stays, below it why there is no more; the next try takes its place."""
    user = await open_page(relay.url)
    await user.ask("!abort=429")
    assert await user.ended()
    for words in ("The model failed.", "429 Rate limit reached", "upstream_aborted"):
        assert words in await user.error()
    await expect(user.turn.get_by_role("alert")).to_be_visible()
    await look(user, "error")
    await user.press("Ask again")
    async with asyncio.timeout(PATIENCE):
        while len(standin.asks) < 2:
            await asyncio.sleep(0.01)
    await user.ended()
    await expect(user.page.locator(".turn")).to_have_count(1)
    await user.ask("!status=400")
    await user.ended()
    assert "upstream_rejected" in await user.error()
    assert await user.turn.get_by_role("button", name="Ask again").count() == 0


async def test_a_refusal_is_told_like_a_failure(start_relay: StartRelay, open_page: OpenPage) -> None:
    """The relay says no before there is a stream."""
    relay = await start_relay(relay_max_body_bytes=2000, relay_max_streams=1)
    user = await open_page(relay.url)
    await user.ask("!echo " + "x" * 2000)
    await user.ended()
    assert "too_large" in await user.error()
    async with relay.asking("!endless"):
        await user.ask("!echo now")
        await user.ended()
        assert "too_many_streams" in await user.error()
    await relay.idle()
    await user.press("Ask again")
    assert await user.ended() == "now"


async def test_a_key_is_asked_for_and_kept_for_the_tab(
    start_relay: StartRelay, open_page: OpenPage
) -> None:
    """At once where there are keys; a wrong one is told, a right one answers the question."""
    relay = await start_relay(relay_api_keys=KEY)
    user = await open_page(relay.url)
    key = user.page.get_by_label(THE_KEY)
    await expect(key).to_be_focused()
    await user.ask("!echo hello")
    await user.ended()
    assert "unauthorized" in await user.error()
    await expect(key).to_be_focused()
    await look(user, "key")
    await user.page.keyboard.type("not the key")
    await user.page.keyboard.press("Enter")
    await expect(user.page.locator("#key-why")).to_contain_text("ASCII only")
    await key.fill("wrong")
    await user.page.keyboard.press("Enter")
    await expect(user.page.locator("#key-why")).to_have_text("The relay does not know this key.")
    await key.fill(KEY)
    await user.page.keyboard.press("Enter")
    await user.shows("hello")
    await expect(key).to_be_hidden()
    await expect(user.page.locator("#status")).to_contain_text("answers running")
    await user.page.reload()
    await user.ask("!echo again")
    assert await user.ended() == "again"
    everything = await user.script(
        "() => JSON.stringify([localStorage, document.cookie, location.href])"
    )
    assert KEY not in everything
    assert KEY not in await user.page.content()


# --- connections that are lost ---


async def test_a_lost_connection_loses_and_repeats_nothing(
    relay: Relay, standin: StandIn, open_page: OpenPage
) -> None:
    """Three times in one answer, in three ways; the model hears nothing of it."""
    async with Chaos(relay.port) as line:
        user = await open_page(line.url)
        await user.ask("!tokens=150 !slow=0.02")
        for number in (20, 60, 110):
            await user.shows(f"tok{number} ")
            line.end("reset" if number == 60 else "close")
        assert await user.ended() == counted(150)
        assert await user.error() == ""
        assert len(standin.asks) == 1
        assert line.seen > 3


async def test_a_question_whose_head_was_lost_is_asked_once(
    relay: Relay, standin: StandIn, open_page: OpenPage
) -> None:
    """The model answers already when the connection breaks, and nobody knows the stream's id."""
    async with Chaos(relay.port) as line:
        user = await open_page(line.url)
        await expect(user.page.locator("#status")).to_contain_text("ready")
        line.delay = 5
        await user.ask("!tokens=50")
        await standin.next_ask()
        line.delay = 0
        line.end("reset")
        assert await user.ended() == counted(50)
        assert len(standin.asks) == 1


async def test_a_connection_that_stays_lost_is_told_and_given_up(
    relay: Relay, open_page: OpenPage
) -> None:
    """The words say that it is tried again; in the end they say that it was in vain."""
    async with Chaos(relay.port) as line:
        user = await open_page(line.url)
        await user.page.clock.install()
        await user.ask("!tokens=6 !pause=3600")
        await user.shows("tok3")
        await user.page.context.set_offline(True)
        line.end("reset")
        await expect(user.turn.locator(".connection")).to_contain_text("Trying again")
        await look(user, "lost")
        async with asyncio.timeout(PATIENCE):
            while not await user.turn.locator(".end").count():
                await user.page.clock.run_for(1000)
        assert await user.text() == "tok1 tok2 tok3"
        assert "connection_lost" in await user.error()
        assert await user.turn.get_by_role("button", name="Ask again").count() == 1


async def test_a_stop_that_reaches_nobody_is_told(relay: Relay, open_page: OpenPage) -> None:
    """The user is not told that a model was stopped which was not."""
    async with Chaos(relay.port) as line:
        user = await open_page(line.url)
        await user.ask("!tokens=6 !pause=3600")
        await user.shows("tok3")
        await user.page.context.set_offline(True)
        line.end("reset")
        await user.press("Stop")
        await expect(user.page.locator("#teller")).to_contain_text("could not be told to stop")
        await expect(user.page.locator("#teller")).to_be_in_viewport()


async def test_what_is_no_longer_held_is_told(start_relay: StartRelay, open_page: OpenPage) -> None:
    """A reader who was away for too long: nothing is shown that would hide the gap."""
    relay = await start_relay(relay_resume_bytes=65536)
    async with Chaos(relay.port) as line:
        user = await open_page(line.url)
        await user.ask("!tokens=5000 !pause=1")
        await user.shows("tok3")
        await user.page.context.set_offline(True)
        line.end("reset")
        await expect(user.turn.locator(".connection")).to_contain_text("Trying again")
        await relay.idle()
        await user.page.context.set_offline(False)
        assert await user.ended() == "tok1 tok2 tok3"
        assert "events_gone" in await user.error()
        assert await user.turn.get_by_role("button", name="Ask again").count() == 1


async def test_a_relay_without_room_to_hold_an_answer_is_asked_for_it_all_the_same(
    start_relay: StartRelay, standin: StandIn, open_page: OpenPage
) -> None:
    """Stop closes it, and a reload ends it with words; nothing is asked twice."""
    relay = await start_relay(relay_resume_total_bytes=20_000)
    async with AsyncExitStack() as stack:
        for _ in range(4):
            await stack.enter_async_context(relay.asking("!endless !slow=3600", resumable=True))
        user = await open_page(relay.url)
        await user.ask("!tokens=300")
        assert await user.ended() == counted(300)
        assert await user.error() == ""
        await user.ask("!tokens=6 !pause=3600")
        await user.shows("tok3")
        await user.press("Stop")
        await standin.asks[5].ended.wait()
        await user.ask("!tokens=6 !pause=3600")
        await user.shows("tok3")
        await user.page.reload()
        assert await user.ended() == "tok1 tok2 tok3"
        assert "connection_lost" in await user.error()
        assert len(standin.asks) == 7


async def test_a_reload_in_mid_answer_loses_and_repeats_nothing(
    start_relay: StartRelay, standin: StandIn, open_page: OpenPage
) -> None:
    """The conversation is there again, and the answer goes on whose beginning is no longer held."""
    relay = await start_relay(relay_resume_bytes=16384)
    user = await open_page(relay.url)
    await user.ask(f"!echo {CODE}")
    await user.ended()
    await user.ask("!tokens=500 !slow=0.01")
    for number in (10, 350):
        await user.shows(f"tok{number} ")
        await user.page.reload()
    assert await user.ended() == counted(500)
    assert await user.error() == ""
    assert len(standin.asks) == 2
    assert await user.page.locator(".answer").first.evaluate("e => e.textContent") == CODE
    await user.page.reload()
    assert await user.ended() == counted(500)
    await expect(user.page.locator(".turn")).to_have_count(2)
    await user.ask("!history")
    assert "!echo Before" in await user.ended()


async def test_text_arrives_in_a_tab_that_is_not_drawn(relay: Relay, open_page: OpenPage) -> None:
    """Behind other tabs no frame is ever due."""
    user = await open_page(relay.url)
    await user.script("() => { window.requestAnimationFrame = () => 1; }")
    await user.ask("!tokens=6 !pause=3600")
    await user.shows("tok3")


async def test_another_tab_is_another_conversation(relay: Relay, open_page: OpenPage) -> None:
    user = await open_page(relay.url)
    await user.ask("!echo mine")
    await user.ended()
    other = User(await user.page.context.new_page())
    await other.open(relay.url)
    await expect(other.page.locator(".turn")).to_have_count(0)
    await other.ask("!history")
    assert await other.ended() == "No earlier questions."


async def test_a_relay_that_begins_anew_no_longer_has_the_answer(
    standin: StandIn, open_page: OpenPage, tmp_path: Path
) -> None:
    """It was killed in mid-answer and started again: that is told, and the question is asked again."""
    first = await program.spawn(tmp_path, ("--port", "0"), program.upstream(standin.url))
    try:
        await first.says("Relay")
        user = await open_page(first.url)
        await user.ask("!tokens=6 !pause=3600")
        await user.shows("tok3")
        first.signal(signal.SIGKILL)
    finally:
        await first.kill()
    await expect(user.turn.locator(".connection")).to_contain_text("Trying again")
    port = first.url.rpartition(":")[2]
    second = await program.spawn(tmp_path, ("--port", port), program.upstream(standin.url))
    try:
        await second.says("Relay")
        await user.ended()
        assert await user.text() == "tok1 tok2 tok3"
        assert "unknown_stream" in await user.error()
        await user.press("Ask again")
        await user.shows("tok3")
        assert "unknown_stream" not in await user.error()
        await user.press("Stop")
    finally:
        await second.kill()


# --- status, language, looks ---


async def test_the_status_line_tells_of_anythingllm(
    relay: Relay, standin: StandIn, open_page: OpenPage
) -> None:
    """And is looked at again after an answer."""
    user = await open_page(relay.url)
    status = user.page.locator("#status")
    await expect(status).to_contain_text("AnythingLLM is ready")
    await expect(status).to_contain_text("0 answers running")
    await standin.kill()
    for _ in range(200):  # the relay asks once a second at most
        async with relay.client.get("/readyz") as response:
            if response.status == 503:
                break
        await asyncio.sleep(0.05)
    await user.ask("!echo lost")
    await user.ended()
    assert "upstream_unreachable" in await user.error()
    await expect(status).to_contain_text("AnythingLLM cannot be reached.")


async def test_a_proxy_may_keep_health_to_itself(relay: Relay, open_page: OpenPage) -> None:
    """As those of deploy/ do; the page says no more than it knows."""
    user = await open_page(relay.url)
    for path in ("readyz", "metrics"):
        await user.page.context.route(
            f"**/{path}", lambda route: route.fulfill(status=404, body="<html>")
        )
    await user.page.reload()
    await expect(user.page.locator("#status .ready")).to_have_text("Connected to the relay")
    await expect(user.page.locator("#status .active")).to_be_hidden()


async def test_it_speaks_chinese_and_remembers_the_choice(relay: Relay, open_page: OpenPage) -> None:
    """By the browser's language; the switch changes what is there already, and outlives the tab."""
    user = await open_page(relay.url, locale="zh-CN")
    assert await user.page.locator("html").get_attribute("lang") == "zh-CN"
    await expect(user.page.locator("#status")).to_contain_text("AnythingLLM 已就绪")
    await user.ask("!abort=429")
    await user.ended()
    assert "模型出错" in await user.error()
    await look(user, "chinese")
    await user.press("English")
    assert "The model failed." in await user.error()
    await expect(user.page.get_by_placeholder("Your question")).to_be_visible()
    other = User(await user.page.context.new_page())
    await other.open(relay.url)
    await expect(other.page.get_by_role("button", name="New conversation")).to_be_visible()


async def test_a_keyboard_is_enough(relay: Relay, standin: StandIn, open_page: OpenPage) -> None:
    """The question has the focus; the rest is reached with Tab, and can be seen to have it."""
    user = await open_page(relay.url)
    keyboard = user.page.keyboard
    await keyboard.type("!abort=429")
    await keyboard.press("Enter")
    await user.ended()
    await keyboard.press("Shift+Tab")
    await keyboard.press("Shift+Tab")
    await expect(user.page.get_by_role("button", name="Ask again")).to_be_focused()
    outline = "e => getComputedStyle(e).outlineStyle"
    assert await user.page.get_by_role("button", name="Ask again").evaluate(outline) == "solid"
    await keyboard.press("Enter")
    await user.ended()
    await expect(user.page.locator("#question")).to_be_focused()
    await keyboard.type("!endless")
    await keyboard.press("Enter")
    await user.shows("tok1 ")
    await keyboard.press("Tab")
    await expect(user.page.get_by_role("button", name="Stop")).to_be_focused()
    await keyboard.press("Enter")
    await user.ended()
    await expect(user.page.locator("#question")).to_be_focused()


async def test_words_for_a_screen_reader_are_few(relay: Relay, open_page: OpenPage) -> None:
    """The beginning and the end are told; no token is. All that can be pressed has a name."""
    user = await open_page(relay.url)
    await user.ask("!tokens=50")
    await user.ended()
    await expect(user.page.locator("#teller")).to_have_text("The answer is complete.")
    assert await user.page.locator("#turns, .turn, .answer").first.get_attribute("aria-live") is None
    assert await user.turn.get_attribute("aria-busy") == "false"
    names = "all => all.map((e) => e.ariaLabel || e.textContent.trim())"
    assert all(await user.page.locator("button").evaluate_all(names))
    await expect(user.page.get_by_role("textbox", name="Your question")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_fits_a_phone_in_light_and_in_darkness(
    start_relay: StartRelay, open_page: OpenPage, scheme: str
) -> None:
    """No line is wider than 360 pixels, and the colours can be told apart."""
    relay = await start_relay(relay_api_keys=KEY)
    user = await open_page(relay.url, viewport={"width": 360, "height": 740}, color_scheme=scheme)
    await look(user, f"phone-key-{scheme}")
    await user.page.get_by_label(THE_KEY).fill(KEY)
    await user.page.keyboard.press("Enter")
    await user.ask("!echo " + "unbroken" * 60 + f"\n```\n{'wide ' * 60}\n```\n`{'x' * 150}` `code`\n")
    await user.ended()
    await user.ask("!sources=2 !slow=0.001")
    await user.ended()
    assert await user.script("() => document.documentElement.scrollWidth") == 360
    await look(user, f"phone-{scheme}")
    await user.ask("!abort=500")
    await user.ended()
    await look(user, f"phone-error-{scheme}")
    assert await user.script("() => document.documentElement.scrollWidth") == 360
    for selector in (".answer", ".foot", ".question", ".error strong", "#status .ready", "#ask"):
        assert await user.page.locator(selector).last.evaluate(CONTRAST) >= 4.5, selector


CONTRAST: Final = """element => {
    const channels = (color) => color.match(/[\\d.]+/g).map(Number);
    const light = (color) => {
        const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        const [r, g, b] = channels(color).map((c) => linear(c / 255));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    let behind = element;
    while (channels(getComputedStyle(behind).backgroundColor)[3] === 0) behind = behind.parentElement;
    const colors = [getComputedStyle(element).color, getComputedStyle(behind).backgroundColor];
    const both = colors.map(light);
    return (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
}"""


async def test_only_who_is_at_the_end_is_kept_there(relay: Relay, open_page: OpenPage) -> None:
    """Who scrolled up to read is left alone."""
    user = await open_page(relay.url, viewport={"width": 800, "height": 400}, reduced_motion="reduce")
    place = "() => document.documentElement.scrollHeight - innerHeight - scrollY"
    await user.ask("!tokens=5000 !slow=0.001")
    await user.shows("tok600 ")
    assert await user.script(place) < 48
    await user.page.mouse.move(400, 200)
    await user.page.mouse.wheel(0, -200)
    await user.shows("tok1000 ")
    assert await user.script(place) > 48
    await user.press("Stop")


# --- parts ---


async def test_the_pages_decoder_agrees_with_chromium(relay: Relay, open_page: OpenPage) -> None:
    """Each vector's events are those of Chromium's EventSource, however the bytes arrive."""
    cases = []
    for vector in VECTORS:
        data, expected = (
            vector_input(vector),
            [
                {"event": event.event, "data": event.data, "id": event.id}
                for event in vector_expect(vector)
            ],
        )
        for reads in list(vector_chunkings(vector, data))[:25]:
            lengths = [len(read) for read in reads]
            cases.append([vector["name"], base64.b64encode(data).decode(), lengths, expected])
    user = await open_page(relay.url)
    wrong = await user.script(
        """async (cases) => {
            const { Decoder } = await import("/static/sse.js");
            return cases.filter(([name, base64, lengths, expected]) => {
                const data = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
                const decoder = new Decoder();
                const events = [];
                let at = 0;
                for (const length of lengths) {
                    events.push(...decoder.feed(data.subarray(at, (at += length))));
                }
                return JSON.stringify(events) !== JSON.stringify(expected);
            }).map(([name]) => name);
        }""",
        cases,
    )
    assert cases
    assert wrong == []


async def test_what_is_marked_does_not_depend_on_the_cuts(relay: Relay, open_page: OpenPage) -> None:
    """Cut anywhere, a text has the same pieces, which joined are the text, and little is held back."""
    chance = random.Random(17)
    parts = ["`", "``", "```", "````", "\n", "\n```\n", " ", "    ", "py", "a b", "\r\n", "x" * 250]
    marks = [
        "*",
        "**",
        "**a",
        "b**",
        " **",
        "** ",
        "***",
        "\n# ",
        "\n##",
        "#",
        "\t",
        "`x`",
        "重",
        ".",
        "x" * 190,
    ]
    texts = ["".join(chance.choices(parts, k=chance.randrange(30))) for _ in range(500)]
    texts += ["".join(chance.choices(parts + marks, k=chance.randrange(30))) for _ in range(2000)]
    texts += ["`" * 450 + "a`", "*" * 405 + "a**", "**" + "x" * 196 + "**", "**" + "x" * 197 + "**"]
    user = await open_page(relay.url)
    wrong = await user.script(
        """async (texts) => {
            const { Markup } = await import("/static/markup.js");
            const cut = (text, size) => {
                const markup = new Markup();
                const pieces = [];
                for (let at = 0; at < text.length; at += size) {
                    pieces.push(...markup.feed(text.slice(at, at + size)));
                    const seen = pieces.map((piece) => piece.text).join("") + markup.held;
                    if (seen !== text.slice(0, at + size)) return "not the text";
                    if (markup.held.length > 200) return `held ${size}`;
                }
                pieces.push(...markup.close());
                const joined = [];
                for (const { kind, text } of pieces) {
                    const grows = kind === "text" || kind === "code";
                    if (grows && joined.at(-1)?.kind === kind) joined.at(-1).text += text;
                    else joined.push({ kind, text });
                }
                return JSON.stringify(joined);
            };
            return texts.filter((text) => {
                const whole = cut(text, text.length || 1);
                return [1, 2, 3, 7, 199].some((size) => cut(text, size) !== whole);
            });
        }""",
        texts,
    )
    assert wrong == []
