"""Run the proxy until it is told to stop."""

import asyncio
import signal

import click

from chatproxy.settings import Settings, load_settings
from chatproxy.telemetry import Log, configure_logging
from chatproxy.web.server import run_event_loop
from chatproxy.wiring import RunningProxy, running_proxy

_log = Log("serve")


@click.command()
def serve() -> None:
    """Run the proxy in front of CHATPROXY_UPSTREAM.

    SIGTERM or Ctrl-C stops it: running answers may end within CHATPROXY_DRAIN_TIME, and what was captured is
    stored. A second one ends the waiting.
    """
    settings = load_settings().settings
    configure_logging(settings.log_level)
    run_event_loop(_serve(settings))


async def _serve(settings: Settings) -> None:
    async with running_proxy(settings) as running:
        _log.info("serving", listen=running.url, admin=running.admin_url, upstream=running.upstream)
        await stop_signal(running)
        _log.info("stopping", drain_seconds=settings.drain_time)
    _log.info("stopped")


async def stop_signal(running: RunningProxy) -> None:
    """Wait for SIGTERM or SIGINT; from then on, another one cuts running answers."""
    told = asyncio.Event()

    def on_signal() -> None:
        if told.is_set():
            running.cut()
        told.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    await told.wait()
