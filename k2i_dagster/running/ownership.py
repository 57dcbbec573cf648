"""Whether another live run owns what this one is about to read. Pure.

Two runs of one share would take turns in fencing each other, with a last flush lost to memory each
time. So the run that started first goes on, and the other waits for its end or does nothing.
"""

from collections.abc import Iterable

from k2i_dagster.keep_alive import WorkerRun


def earlier_owner(
    me: WorkerRun, others: Iterable[WorkerRun], now_seconds: float
) -> WorkerRun | None:
    """Return a live run that started before this one and shares Kafka partitions with it."""
    sharing = [other for other in others if _shares_partitions(me, other)]
    return earliest_before(me, sharing, now_seconds)


def earliest_before(
    me: WorkerRun, others: Iterable[WorkerRun], now_seconds: float
) -> WorkerRun | None:
    """Return the live run that started first, if that was before this one."""
    earlier = [
        other
        for other in others
        if other.run_id != me.run_id
        and other.phase.has_process
        and not other.is_silent(now_seconds)
        and _started(other) < _started(me)
    ]
    return min(earlier, key=_started, default=None)


def live_workers(others: Iterable[WorkerRun], now_seconds: float) -> list[WorkerRun]:
    """Return the ingest runs that read topics now, by slot."""
    return sorted(
        (
            other
            for other in others
            if not other.is_backfill
            and other.phase.has_process
            and not other.is_silent(now_seconds)
        ),
        key=lambda run: run.worker or 0,
    )


def _started(run: WorkerRun) -> tuple[float, str]:
    return run.started_seconds or run.created_seconds, run.run_id


def _shares_partitions(one: WorkerRun, other: WorkerRun) -> bool:
    if one.is_backfill or other.is_backfill or one.worker == other.worker:
        return True
    return one.workers != other.workers
