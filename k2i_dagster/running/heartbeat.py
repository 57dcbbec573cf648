"""A run's sign of life, and the way in which others tell it to end.

A thread of its own, because the op's thread may be busy storing events and the worker must never
wait for Dagster's database.
"""

import threading
from typing import Self

import dagster as dg
import structlog
from sqlalchemy.exc import SQLAlchemyError

from k2i_core.clock import Clock
from k2i_dagster import names, run_store

BEAT_SECONDS = 5.0
"""Larger takes a dead run for alive longer; smaller writes to Dagster's database more often."""

JOIN_SECONDS = 10.0

log = structlog.get_logger(__name__)


class Heartbeat:
    """Renews the heartbeat tag of a run for as long as it is entered."""

    def __init__(self, instance: dg.DagsterInstance, run_id: str, clock: Clock) -> None:
        """Bind the run; nothing is written yet."""
        self._instance = instance
        self._run_id = run_id
        self._clock = clock
        self._ended = threading.Event()
        self._stop_reason: str | None = None
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._beat_on, name="k2i-heartbeat", daemon=True)

    def stop_reason(self) -> str | None:
        """Return why the run has to end; None while it may go on.

        Raises:
            BaseException: Whatever ended the thread; without it the run soon counts as dead.

        """
        if self._failure is not None:
            raise self._failure
        return self._stop_reason

    def beat(self) -> None:
        """Write one sign of life, and look whether the run is still wanted."""
        now_seconds = self._clock.now_ms() // 1000
        run_store.add_tags(self._instance, self._run_id, {names.HEARTBEAT_TAG: str(now_seconds)})
        self._stop_reason = run_store.stop_reason(self._instance, self._run_id)

    def __enter__(self) -> Self:
        self.beat()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(JOIN_SECONDS)

    def _beat_on(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            try:
                self.beat()
            except (SQLAlchemyError, dg.DagsterError) as error:
                # The next beat may get through; when none does, another run takes over.
                log.warning("heartbeat was not stored", reason=type(error).__name__)
            except BaseException as error:  # noqa: BLE001 - the op raises it, see stop_reason
                self._failure = error
                return
