"""An AnythingLLM without a model: the demo, the tests and the load tests run against it.

It speaks AnythingLLM 1.16's HTTP, byte for byte where a client can tell, and answers at once and
always the same: with a text of its own, or, to Python in a question, with what a linter says to it.
The code is read, never run. It knows no relay: nothing here imports the rest of the package.

    async with StandIn() as standin:
        ...  # ask standin.url for the workspace "demo" with the key "stand-in-key"
        ask = await standin.next_ask()

`python -m relay.standin` serves it alone. Words in a question order what the answer is and how it
goes wrong; a word the mode of the question has no use for is ignored. Seconds may have fractions.
"""

from relay.standin.app import KEY, WORKSPACE, StandIn
from relay.standin.asks import Ask
from relay.standin.orders import ORDERS, table

# One table, written once: the docstring cannot fall behind it.
__doc__ = f"{__doc__}\n{table()}\n"

__all__ = ["KEY", "ORDERS", "WORKSPACE", "Ask", "StandIn"]
