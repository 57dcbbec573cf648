"""The core's worker in a thread of its own, so that an interrupted op can still end it properly."""

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TypeAlias

from k2i_core.ingest.parts import Listener
from k2i_core.records import FlushReport

Work: TypeAlias = Callable[[threading.Event, Listener], None]


class WorkerThread:
    """Runs work that ends after its stop event is set, and collects what it flushed."""

    def __init__(self, work: Work) -> None:
        """Bind the work; `start` begins it."""
        self._work = work
        self._stop = threading.Event()
        self._ended = threading.Event()
        self._error: BaseException | None = None
        self._reports: SimpleQueue[FlushReport] = SimpleQueue()
        # A daemon, because a last flush that never ends must not keep the process.
        self._thread = threading.Thread(target=self._run, name="k2i-worker", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def ask_stop(self) -> None:
        """Ask for a last flush and an end; harmless to repeat."""
        self._stop.set()

    def wait(self, seconds: float) -> bool:
        """Wait for the end; tell whether it came."""
        return self._ended.wait(seconds)

    def raise_failure(self) -> None:
        """Raise what ended the work, if it did not end by itself."""
        if self._error is not None:
            raise self._error

    @property
    def error(self) -> BaseException | None:
        """What ended the work; None while it runs and after a good end."""
        return self._error

    def taken_reports(self) -> list[FlushReport]:
        """Return the flushes since the last call, oldest first."""
        reports: list[FlushReport] = []
        while True:
            try:
                reports.append(self._reports.get_nowait())
            except Empty:
                return reports

    def _run(self) -> None:
        try:
            self._work(self._stop, Listener(flushed=self._reports.put))
        except BaseException as error:  # noqa: BLE001 - raised in the op, see raise_failure
            self._error = error
        finally:
            self._ended.set()
