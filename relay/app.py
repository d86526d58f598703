"""Puts the parts together."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from aiohttp import web

from config.settings import Settings
from relay import completions, handlers, middlewares, openapi, pages
from relay.access import AccessRules
from relay.clock import Clock
from relay.frames import GRACE, Limits
from relay.keys import ClientKeys
from relay.metrics import Metrics
from relay.question import Policy
from relay.redact import Redactor
from relay.resumable import Holding, ResumableStreams
from relay.shared import SharedStreams
from relay.store import Store
from relay.streams import Streams
from relay.upstream import Upstream


def create_app(settings: Settings, metrics: Metrics | None = None) -> web.Application:
    """Return the relay, which counts in `metrics`. relay.server.Runner runs it as it must be run."""
    app = web.Application(client_max_size=settings.relay_max_body_bytes)
    app[handlers.POLICY] = Policy(
        workspace=settings.anythingllm_workspace_slug,
        workspaces=settings.anythingllm_allowed_workspaces,
        mode=settings.anythingllm_mode,
        modes=settings.anythingllm_allowed_modes,
    )
    timing = app[handlers.TIMING] = handlers.Timing(
        heartbeat=settings.relay_heartbeat,
        send_timeout=settings.relay_send_timeout,
        upstream=Limits(
            first_event=settings.anythingllm_first_event_timeout or None,
            idle=settings.anythingllm_idle_timeout or None,
        ),
    )
    waits = (timing.heartbeat, timing.send_timeout, *timing.upstream, GRACE)
    app[handlers.CLOCK] = Clock(wait for wait in waits if wait is not None)
    app[handlers.MAX_LINE_BYTES] = settings.anythingllm_max_line_bytes
    app[handlers.REDACTOR] = _redactor(settings)
    streams = Streams(settings.relay_max_streams, settings.relay_max_streams_per_key)
    app[handlers.STREAMS] = streams
    metrics = metrics or Metrics()
    metrics.watch("relay_streams_active", lambda: len(streams))
    metrics.watch("relay_streams_limit", lambda: 0 if streams.draining else settings.relay_max_streams)
    metrics.watch("relay_workers", lambda: not streams.draining)
    holding = Holding(
        patience=settings.relay_resume_window,
        stream_bytes=settings.relay_resume_bytes,
        total_bytes=settings.relay_resume_total_bytes,
    )
    store = app[handlers.STORE] = create_store(settings)
    if store is not None:
        app[handlers.RESUMABLE] = SharedStreams(streams, holding, store)
    else:
        app[handlers.RESUMABLE] = ResumableStreams(streams, holding)
        if settings.relay_workers > 1:
            app[handlers.NOT_RESUMABLE] = (
                "No stream can be resumed, for its readers may come to another process: RELAY_WORKERS is"
                " more than 1 and RELAY_REDIS_URL is not set. Ask without `resumable` and"
                " `Idempotency-Key`."
            )
    client_keys = (key.get_secret_value() for key in settings.relay_api_keys)
    access = AccessRules(
        keys=ClientKeys(client_keys, settings.relay_api_keys_file),
        hosts=settings.relay_allowed_hosts,
        origins=settings.relay_allowed_origins,
    )
    middlewares.install(app, access, metrics)
    app.add_routes(handlers.routes)
    app.add_routes(completions.routes)
    app.add_routes(pages.routes)
    app.add_routes(openapi.routes)

    async def upstream(app: web.Application) -> AsyncIterator[None]:
        async with create_upstream(settings) as app[handlers.UPSTREAM]:
            metrics.watch("relay_upstream_connections", lambda: app[handlers.UPSTREAM].connections)
            metrics.watch_upstream(lambda: app[handlers.UPSTREAM].readiness.up)
            async with AsyncExitStack() as stack:
                if store is not None:
                    metrics.watch("relay_redis_unreachable", lambda: not store.up)
                    await stack.enter_async_context(store.open())
                yield
                await app[handlers.RESUMABLE].close()

    async def measured(_app: web.Application) -> AsyncIterator[None]:
        measuring = asyncio.create_task(metrics.run())
        yield
        measuring.cancel()
        await asyncio.wait([measuring])
        metrics.publish()

    app.cleanup_ctx.extend([measured, upstream])
    return app


def create_upstream(settings: Settings) -> Upstream:
    """Return the client of AnythingLLM that these settings describe."""
    return Upstream(
        settings.anythingllm_base_url,
        settings.anythingllm_api_key.get_secret_value(),
        connect_timeout=settings.anythingllm_connect_timeout,
        max_streams=settings.relay_max_streams,
        redactor=_redactor(settings),
    )


def create_store(settings: Settings) -> Store | None:
    """Return what holds resumable streams for several processes, if there is to be such a thing."""
    if settings.relay_redis_url is None:
        return None
    url = settings.relay_redis_url.get_secret_value()
    return Store(url, patience=settings.relay_resume_window)


def _redactor(settings: Settings) -> Redactor:
    return Redactor([settings.anythingllm_api_key.get_secret_value()])
