"""Does the event loop still turn? If it does not for a while, say where it stands: no chat moves meanwhile.

A thread asks. What it logs is where in the code, never what is in variables.
"""

import asyncio
import contextlib
import sys
import threading
import traceback
from collections.abc import Iterator

from chatproxy.telemetry import Log, Metrics

_log = Log("watchdog")

_EVERY_SECONDS = 1.0
_LONGEST_SECONDS = 2.0
_MOST_FRAMES = 12


@contextlib.contextmanager
def watched(
    metrics: Metrics, *, longest: float = _LONGEST_SECONDS, every: float = _EVERY_SECONDS
) -> Iterator[None]:
    """Watch the running loop as long as the block runs: one turn may take *longest* seconds."""
    over = threading.Event()
    loop, thread_id = asyncio.get_running_loop(), threading.get_ident()

    def watch() -> None:
        while not over.wait(every):
            has_turned = threading.Event()
            try:
                loop.call_soon_threadsafe(has_turned.set)
            except RuntimeError:  # it is closed
                return
            if has_turned.wait(longest) or over.is_set():
                continue
            metrics.loop_blocked.inc()
            _log.error("the event loop is blocked; no chat moves", where=_where(thread_id))
            while not (has_turned.wait(every) or over.is_set()):
                pass

    thread = threading.Thread(target=watch, name="watchdog", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()


def _where(thread_id: int) -> str:
    """Return where a thread stands, innermost last."""
    frame = sys._current_frames().get(thread_id)  # noqa: SLF001 - there is no other way to see another thread
    stack = traceback.extract_stack(frame)[-_MOST_FRAMES:] if frame is not None else []
    return " > ".join(f"{entry.filename}:{entry.lineno} {entry.name}" for entry in stack)
