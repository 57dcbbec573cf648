"""Signals that ask for an end, put off while something must not be interrupted.

An interrupt becomes an exception wherever the main thread happens to be. Midway through an event
that is being stored, a process that is being started, an import, or the last flush, that would
leave half of it behind.
"""

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def interrupts_held_back() -> Generator[None]:
    """Deliver signals that come meanwhile afterwards."""
    with _noted_signals() as noted:
        yield
    if noted:
        signal.raise_signal(noted[0])


@contextmanager
def interrupts_ignored() -> Generator[None]:
    """Drop signals that come meanwhile: the end they ask for is under way."""
    with _noted_signals():
        yield


@contextmanager
def _noted_signals() -> Generator[list[int]]:
    noted: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        # Only the main thread may change handlers, and only it is interrupted.
        yield noted
        return

    def note(number: int, _frame: FrameType | None) -> None:
        noted.append(number)

    before = {number: signal.signal(number, note) for number in _SIGNALS}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
