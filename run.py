"""The front door: `python run.py` starts the relay; `--help` says what else it can do."""

import argparse
import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

from config.settings import Loaded, Settings, SettingsError, load
from relay import logs
from relay.access import is_one_of
from relay.app import create_app, create_store, create_upstream
from relay.check import check, check_store
from relay.connections import MAX_LEAVING
from relay.server import serve
from relay.sockets import CannotListen, raise_descriptor_limit
from relay.standin import StandIn

UPSTREAM_FAILED: Final = 1
SETTINGS_FAILED: Final = 2
# Open files besides those of clients and streams: listening sockets, log, probes, event loop, and
# clients that are being refused.
SPARE_DESCRIPTORS: Final = 64 + MAX_LEAVING
INTERRUPTED: Final = 130  # a check by Ctrl-C, as a shell says it
# Names in the environment out of which gunicorn makes defaults of its own.
GUNICORNS: Final = ("WEB_CONCURRENCY", "PORT", "SENDFILE", "FORWARDED_ALLOW_IPS", "GUNICORN_PID")

Reread = Callable[[Settings], Settings | None]

log = logging.getLogger(__name__)


def main(arguments: list[str] | None = None) -> int:
    """Run the relay; return the exit status: 0 good, 1 AnythingLLM, 2 settings or address."""
    options = _parser().parse_args(arguments)
    given = {"host": options.host, "port": options.port, "workers": options.workers}
    read = partial(load, Path(".env"), demo=options.demo, **given)
    try:
        loaded = read()
    except SettingsError as error:
        print(error, file=sys.stderr)
        return SETTINGS_FAILED
    for warning in loaded.warnings:
        print(f"Warning: {warning}", file=sys.stderr)
    settings = loaded.settings
    logs.configure(settings.relay_log_level, settings.relay_log_format)
    if not options.check and (few := _too_few_descriptors(settings)) is not None:
        print(f"Warning: {few}", file=sys.stderr)
    what = _check if options.check else _demo if options.demo else _serve
    try:
        if settings.relay_workers > 1 and not options.check:
            _serve_with_workers(settings, partial(_read_again, read), demo=options.demo)
        return _run(what(settings))
    except CannotListen as error:
        print(error, file=sys.stderr)
        return SETTINGS_FAILED
    except KeyboardInterrupt:  # of a check, or where the event loop cannot take signals
        return INTERRUPTED if options.check else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Stream AnythingLLM's answers to code editors. Settings come from .env and the "
        "environment; .env.example lists them all."
    )
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument(
        "--demo", action="store_true", help="run in front of a built-in stand-in for AnythingLLM"
    )
    kind.add_argument(
        "--check", action="store_true", help="test settings, address, key and workspaces; then exit"
    )
    parser.add_argument("--host", help="where to listen, instead of RELAY_HOST")
    parser.add_argument("--port", type=int, help="which port, instead of RELAY_PORT")
    parser.add_argument("--workers", type=int, help="how many processes, instead of RELAY_WORKERS")
    return parser


def _run(what: Coroutine[Any, Any, int]) -> int:
    try:
        from uvloop import new_event_loop  # noqa: PLC0415 (not on Windows)
    except ImportError:
        return asyncio.run(what)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(what)


async def _check(settings: Settings) -> int:
    print(f"AnythingLLM at {settings.anythingllm_base_url}")
    default, allowed = settings.anythingllm_workspace_slug, settings.anythingllm_allowed_workspaces
    good = await check(create_upstream(settings), default, allowed, print)
    if (store := create_store(settings)) is not None:
        good &= await check_store(store, print)
    return 0 if good else UPSTREAM_FAILED


async def _demo(settings: Settings) -> int:
    key = settings.anythingllm_api_key.get_secret_value()
    async with StandIn(key=key, workspaces=[settings.anythingllm_workspace_slug]) as standin:
        print("Demo: a stand-in answers in AnythingLLM's place; it is no model.")
        return await _serve(settings.model_copy(update={"anythingllm_base_url": standin.url}))


async def _serve(settings: Settings) -> int:
    await serve(
        create_app(settings),
        settings.relay_host,
        settings.relay_port,
        max_connections=settings.relay_max_connections,
        grace=settings.relay_shutdown_grace,
        ready=partial(_print_ready, settings),
    )
    return 0


def _serve_with_workers(settings: Settings, reread: Reread, *, demo: bool) -> NoReturn:
    for name in GUNICORNS:
        os.environ.pop(name, None)
    from relay import workers  # noqa: PLC0415 (not on Windows)

    if not demo:
        workers.serve(settings, reread=reread, ready=partial(_print_ready, settings))
    with _standin() as url:

        def reread_demo(current: Settings) -> Settings | None:
            new = reread(current)
            return new and new.model_copy(update={"anythingllm_base_url": url})

        print("Demo: a stand-in answers in AnythingLLM's place; it is no model.", flush=True)
        settings = settings.model_copy(update={"anythingllm_base_url": url})
        workers.serve(settings, reread=reread_demo, ready=partial(_print_ready, settings))


@contextmanager
def _standin() -> Iterator[str]:
    """Run a stand-in that all workers ask, and that ends when the last of its askers is gone."""
    command = [sys.executable, "-m", "relay.standin", "--port", "0", "--until-eof"]
    ours = os.getpid()
    process = subprocess.Popen(  # noqa: S603 - all of it is ours
        command,
        cwd=Path(__file__).parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for the relay, whose streams may go on for a while
    )
    assert process.stdin is not None  # noqa: S101 - a pipe, as asked for
    assert process.stdout is not None  # noqa: S101 - a pipe, as asked for
    try:
        yield process.stdout.readline().split()[1]
    finally:
        if os.getpid() == ours:  # a worker leaves here too
            process.stdin.close()
            process.wait()


def _read_again(read: Callable[..., Loaded], current: Settings) -> Settings | None:
    """Return the settings as they are now; None, and a line in the log, where they cannot be used."""
    try:
        wanted = read().settings
        # What is bound stays, and the other settings have to be good for that.
        loaded = read(host=current.relay_host, port=current.relay_port)
    except SettingsError as error:
        log.error("not reloaded: %s", " ".join(str(error).split()))
        return None
    logs.configure(loaded.settings.relay_log_level, loaded.settings.relay_log_format)
    for warning in loaded.warnings:
        log.warning("reloaded, but: %s", warning)
    if (wanted.relay_host, wanted.relay_port) != (current.relay_host, current.relay_port):
        log.warning("RELAY_HOST and RELAY_PORT stay as they are until the next start")
    return loaded.settings


def _print_ready(settings: Settings, url: str) -> None:
    print(f"AnythingLLM  {settings.anythingllm_base_url}, {settings.anythingllm_workspace_slug}")
    print(f"Relay        {url}  (open it in a browser, or ask it as below; Ctrl-C stops it)")
    print(f"Try it       {_command(url, settings)}", flush=True)


def _command(url: str, settings: Settings) -> str:
    """Return a command that asks the relay from this machine."""
    command = f"curl -N {url}/stream-ask -d question=Hello"
    if settings.relay_api_keys or settings.relay_api_keys_file is not None:
        command += ' -H "Authorization: Bearer KEY"'
    if not is_one_of(settings.relay_allowed_hosts, urlsplit(url).netloc):
        command += f' -H "Host: {settings.relay_allowed_hosts[0]}"'
    return command


def _too_few_descriptors(settings: Settings) -> str | None:
    limit = raise_descriptor_limit()
    needed = settings.relay_max_connections + settings.relay_max_streams + SPARE_DESCRIPTORS
    if limit is None or limit >= needed:
        return None
    return (
        f"RELAY_MAX_CONNECTIONS and RELAY_MAX_STREAMS may need {needed} open files, and this process may"
        f" have {limit}; raise its limit (ulimit -n, LimitNOFILE=), or lower the settings"
    )


if __name__ == "__main__":
    sys.exit(main())
