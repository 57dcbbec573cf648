"""One worker's run: sessions one after the other, until asked to stop.

A session ends with its first failure. What to do then is decided by the kind of failure:

| failure | reaction |
|---|---|
| ConflictError (the table changed under us, files too old) | a new session, from the ledger |
| UnavailableError (a service gone for longer than its time limit) | wait, then a new session |
| FencedError | stop: another worker owns the partitions |
| everything else | stop: a person has to look |

Restarts are limited: a worker that fails again and again ends, with a non-zero exit code.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

import structlog

from k2i_core.clock import Clock
from k2i_core.errors import ConflictError, FencedError, UnavailableError
from k2i_core.ingest.ports import Source
from k2i_core.ingest.session import Session
from k2i_core.offsets import TopicPartition, Watermarks

RESTARTS_MAX = 5
"""Consecutive failed sessions. More hides a failure that needs a person; fewer gives up during an
outage that the next attempt would survive."""

HEALTHY_SECONDS = 600.0
"""A session that ran this long was no part of a series of failures."""

RESTART_WAIT_SECONDS_MAX = 30.0
"""Larger leaves a recovered service unused; smaller hammers one that is down."""

log = structlog.get_logger(__name__)


class StopAsked(Exception):  # noqa: N818 - a request, not an error
    """A stop was asked for before there was anything to stop."""


@dataclass(frozen=True, slots=True)
class Until:
    """When to end without being asked.

    Attributes:
        seconds_max: After this long; None for never.
        caught_up: Once every record that was in the topics at the first take-over is committed.
        end_offsets: Once the next offsets have come to these, as far as they existed at the first
            take-over; a Kafka partition that is not named is done at once. What a poll brings
            beyond an end is ingested, too.
    """

    seconds_max: float | None = None
    caught_up: bool = False
    end_offsets: Mapping[TopicPartition, int] | None = None

    @property
    def is_bounded(self) -> bool:
        """Tell whether it ends by itself once enough is committed."""
        return self.caught_up or self.end_offsets is not None

    def goal(
        self,
        next_offsets: Mapping[TopicPartition, int],
        watermarks: Mapping[TopicPartition, Watermarks],
    ) -> Mapping[TopicPartition, int]:
        """Return the offset at which each Kafka partition is done, if it is bounded.

        Args:
            next_offsets: Where reading starts.
            watermarks: Of the same Kafka partitions, at the take-over.

        """
        highs = {tp: marks.high for tp, marks in watermarks.items()}
        if self.end_offsets is None:
            return highs
        return {
            tp: min(high, self.end_offsets.get(tp, next_offsets[tp])) for tp, high in highs.items()
        }


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A session with the source it reads."""

    session: Session
    source: Source


class Worker:
    """Runs sessions of one share until a stop is asked for or due."""

    def __init__(
        self,
        open_session: Callable[[], AbstractContextManager[OpenSession]],
        until: Until,
        is_stop_asked: Callable[[], bool],
        clock: Clock,
    ) -> None:
        """Bind a way to build sessions; closing one abandons it unless it finished."""
        self._open_session = open_session
        self._until = until
        self._is_stop_asked = is_stop_asked
        self._clock = clock
        self._goal: Mapping[TopicPartition, int] | None = None
        self._deadline: float | None = None

    def run(self) -> None:
        """Ingest until told to stop, with the last flush committed.

        Raises:
            FencedError: Another worker took over.
            K2iError: Whatever ended the last allowed session.

        """
        if self._until.seconds_max is not None:
            self._deadline = self._clock.boot_seconds() + self._until.seconds_max
        failure_count = 0
        while True:
            started = self._clock.boot_seconds()
            try:
                self._run_session()
            except FencedError:
                raise
            except StopAsked:
                return
            except (ConflictError, UnavailableError) as error:
                if self._clock.boot_seconds() - started > HEALTHY_SECONDS:
                    failure_count = 0
                failure_count += 1
                if failure_count > RESTARTS_MAX or self._is_stop_asked():
                    raise
                wait_seconds = min(RESTART_WAIT_SECONDS_MAX, 0.5 * 2.0**failure_count)
                log.warning(
                    "session ended, starting over from the ledger",
                    kind=error.kind,
                    reason=str(error),
                    attempt=failure_count,
                    attempts_max=RESTARTS_MAX,
                    wait_seconds=wait_seconds,
                )
                self._clock.sleep(wait_seconds)
            else:
                return

    def _run_session(self) -> None:
        with self._open_session() as opened:
            taken = opened.session.start()
            if self._until.is_bounded and self._goal is None:
                marks = opened.source.watermarks(taken.next_offsets)
                self._goal = self._until.goal(taken.next_offsets, marks)
            opened.session.run(lambda: self._is_stopping(opened.session))

    def _is_stopping(self, session: Session) -> bool:
        if self._is_stop_asked():
            return True
        if self._deadline is not None and self._clock.boot_seconds() >= self._deadline:
            return True
        if self._goal is None:
            return False
        positions = session.positions
        return all(positions.get(tp, 0) >= high for tp, high in self._goal.items())
