"""`python run.py --check`: is AnythingLLM there, does it take our key, has it our workspace."""

from collections.abc import Callable

from relay.errors import RelayError
from relay.upstream import Upstream


async def check(upstream: Upstream, slug: str, tell: Callable[[str], None]) -> bool:
    """Try the connection step by step; tell each in a line. Return whether all is well."""
    try:
        async with upstream:
            await upstream.probe()
            tell("ok      AnythingLLM answers and takes the API key")
            await upstream.probe_workspace(slug)
            tell(f"ok      workspace {slug}")
    except RelayError as error:
        tell(f"failed  {error.message}")
        return False
    return True
