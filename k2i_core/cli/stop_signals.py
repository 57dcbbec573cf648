"""Signals that end a service: the first asks for it, the others must not break it."""

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

import structlog

log = structlog.get_logger(__name__)


@contextmanager
def stop_on_signals(last: str) -> Generator[threading.Event]:
    """Set an event on SIGTERM and SIGINT; further signals change nothing, the end is under way.

    After a stop they stay ignored: one that comes while the process ends must not turn a clean
    end into a death by signal.

    Args:
        last: What is still done after a stop; for the log.

    """
    stop = threading.Event()

    def ask(number: int, _frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if stop.is_set():
            log.warning("already stopping", signal=name, waiting_for=last)
            return
        log.info("stopping", signal=name, waiting_for=last)
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if stop.is_set() else handler)
