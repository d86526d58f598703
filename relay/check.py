"""`python run.py --check`: does AnythingLLM take our key, has it our workspaces; is Redis there."""

from collections.abc import Awaitable, Callable, Collection

from relay.errors import RelayError
from relay.store import Store
from relay.upstream import Upstream

Tell = Callable[[str], None]


async def check_store(store: Store, tell: Tell) -> bool:
    """Try Redis; tell it in a line. Returns whether all is well."""
    try:
        return await _good(store.probe(), "Redis takes resumable streams", tell)
    finally:
        await store.close()


async def check(upstream: Upstream, slug: str, allowed: Collection[str], tell: Tell) -> bool:
    """Try the connection, the workspace and then all others that are allowed; tell each in a line.

    Returns whether all is well.
    """
    async with upstream:
        if not await _good(upstream.probe(), "AnythingLLM answers and takes the API key", tell):
            return False
        probe = upstream.probe_workspace(slug, "ANYTHINGLLM_WORKSPACE_SLUG")
        good = await _good(probe, f"workspace {slug}", tell)
        for other in sorted({*allowed} - {slug}):
            probe = upstream.probe_workspace(other, "ANYTHINGLLM_ALLOWED_WORKSPACES")
            good &= await _good(probe, f"workspace {other}", tell)
    return good


async def _good(step: Awaitable[None], words: str, tell: Tell) -> bool:
    try:
        await step
    except RelayError as error:
        tell(f"failed  {error.message}")
        return False
    tell(f"ok      {words}")
    return True
