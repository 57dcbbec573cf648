"""A run's turn: waiting for the end of an earlier run that does the same.

Dagster's own limits (`tag_concurrency_limits`) keep the second run in the queue. This holds where
nobody has set them, and for runs that bypass the queue.
"""

from collections.abc import Callable

import dagster as dg

from k2i_core.clock import Clock
from k2i_dagster.keep_alive import WorkerRun
from k2i_dagster.running.heartbeat import Heartbeat

LOOK_SECONDS = 5.0
"""How often it is looked whether the turn has come. Larger begins later; smaller asks the run
storage more often."""


def why_no_turn(
    context: dg.OpExecutionContext | dg.AssetExecutionContext,
    owner: Callable[[], WorkerRun | None],
    heartbeat: Heartbeat,
    clock: Clock,
    *,
    what: str,
    seconds_max: float,
) -> str | None:
    """Wait for the turn.

    Args:
        context: For the run's log.
        owner: Returns the earlier run, as long as there is one.
        heartbeat: Of this run, which may be asked to end meanwhile.
        clock: For the wait.
        what: The earlier run owns.
        seconds_max: How long to wait.

    Returns:
        Why the run has to end with nothing done; None when it may begin.

    """
    deadline = clock.boot_seconds() + seconds_max
    known: WorkerRun | None = None
    while (reason := heartbeat.stop_reason()) is None:
        found = owner()
        if found is None:
            return None
        if known is None or found.run_id != known.run_id:
            context.log.info(
                f"run {found.short_id} owns {what} already; waiting for its end, at "
                f"most {seconds_max / 60:.0f} minutes"
            )
        known = found
        if clock.boot_seconds() >= deadline:
            return f"run {found.short_id} still owns {what}, nothing to do"
        clock.sleep(LOOK_SECONDS)
    return f"ending before the start: {reason}"
