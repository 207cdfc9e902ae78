"""Run the proxy until it is told to stop."""

import asyncio
import gc
import signal
import socket
import sys

import click

from chatproxy.cli.workers import Place, Supervisor, WorkerFailedError, end_with
from chatproxy.memory import lock_memory
from chatproxy.settings import Settings, load_settings
from chatproxy.telemetry import Log, configure_logging
from chatproxy.web.server import run_event_loop
from chatproxy.web.tally import Tally
from chatproxy.wiring import RunningProxy, Worker, running_proxy

_log = Log("serve")
_OBJECTS_A_LOOK = 10_000
"""How many more objects there are when the collector of cycles looks again."""
_THREAD_SECONDS = 0.002
"""How long the event loop waits for a thread that computes, each time that it has something to do; shorter costs
chats that are alone a twentieth more of the processor."""


@click.command()
@click.option("--worker", "place", hidden=True, help="What a worker is told by its parent.")
def serve(place: str | None) -> None:
    """Run the proxy in front of CHATPROXY_UPSTREAM.

    SIGTERM or Ctrl-C stops it: running answers may end within CHATPROXY_DRAIN_TIME, and what was captured is
    stored. A second one ends the waiting. With CHATPROXY_WORKERS above 1, SIGHUP replaces the workers one by one.
    """
    settings = load_settings().settings
    configure_logging(settings.log_level)
    if place is not None:
        run_event_loop(_work(settings, Place.read(place), is_memory_locked=lock_memory()))
    elif settings.workers > 1:
        try:
            run_event_loop(Supervisor(settings, ("-m", "chatproxy", "serve")).run())
        except WorkerFailedError as failed:
            raise SystemExit(failed.status) from None
    else:
        run_event_loop(_serve(settings, is_memory_locked=lock_memory()))


async def _serve(settings: Settings, *, is_memory_locked: bool) -> None:
    async with running_proxy(settings) as running:
        told_to_stop = obey_signals(running)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, _stay)
        spare_chats()
        _log.info(
            "serving",
            listen=running.url,
            admin=running.admin_url,
            upstream=running.upstream,
            memory_locked=is_memory_locked,
        )
        await told_to_stop.wait()
        _log.info("stopping", drain_seconds=settings.drain_time)
    _log.info("stopped")


def _stay() -> None:
    """What SIGHUP asks for needs several workers; without them it must not end the process, as it would by itself."""
    _log.warning("nothing was replaced: there is one process only; stop it and start it again")


async def _work(settings: Settings, place: Place, *, is_memory_locked: bool) -> None:
    end_with(place.parent)
    worker = Worker(
        place.number,
        socket.socket(fileno=place.public),
        socket.socket(fileno=place.admin),
        place.directory,
        Tally(place.tally, place.number),
    )
    async with running_proxy(settings, worker=worker) as running:
        told_to_stop = obey_signals(running)
        spare_chats()
        _log.info("worker serving", worker=place.number, memory_locked=is_memory_locked)
        place.say_ready()
        await told_to_stop.wait()
    _log.info("worker stopped", worker=place.number)


def spare_chats() -> None:
    """Have the interpreter disturb running chats less.

    The collector of cycles passes over what start-up has made, which stays, and looks less often: nothing of a chat that went
    well waits for it, so it would mostly look at chats that run, and that took a tenth of the processor. A thread that
    computes, as one that reads a long history does, makes way for the event loop sooner.
    """
    sys.setswitchinterval(_THREAD_SECONDS)
    gc.collect()
    gc.freeze()
    gc.set_threshold(_OBJECTS_A_LOOK)


def obey_signals(running: RunningProxy) -> asyncio.Event:
    """Return what SIGTERM or SIGINT sets; from then on, another one cuts running answers."""
    told = asyncio.Event()

    def on_signal() -> None:
        if told.is_set():
            running.cut()
        told.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    return told
