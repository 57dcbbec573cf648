"""A real step of maintenance that kills itself (SIGKILL) at an announcement of a crash point.

    python -m tests.e2e.crashing_maintenance PIPELINE_FILE TABLE STEP POINT

STEP is expiration or orphans. The clock is a day ahead and files count as older by four days, so
that there is something to do; everything else is what production runs.
"""

import sys
from dataclasses import replace
from pathlib import Path

from k2i_core.clock import SystemClock
from k2i_core.config import load_pipeline
from k2i_core.crash_points import CrashPoint
from k2i_core.iceberg import listing
from k2i_core.maintenance import orphans
from k2i_core.wiring import maintenance
from tests.e2e.crashing_worker import kill_at

DAY = 86_400


class TomorrowsClock(SystemClock):
    def now_ms(self) -> int:
        return super().now_ms() + DAY * 1000


def main() -> None:
    path, table, step, point = sys.argv[1:]
    pipeline = load_pipeline(Path(path))
    observe = kill_at(CrashPoint(point), 1)
    if step == "orphans":
        now_of = listing.modified_ms
        orphans.modified_ms = lambda io, location: now_of(io, location) + 4 * DAY * 1000
        maintenance.remove_orphans(pipeline, table, SystemClock(), observe=observe)
        return
    limits = maintenance.expiration_limits(pipeline)
    maintenance.expiration_limits = lambda _: replace(limits, age_seconds_max=60.0, count_min=1)
    # The commit itself keeps the real time: tomorrow's would bind all later ones.
    maintenance.expire_table = _with_tomorrow(maintenance.expire_table)
    maintenance.expire_snapshots(pipeline, table, SystemClock(), observe=observe)


def _with_tomorrow(act):
    return lambda committer, limits, _clock, **rest: act(
        committer, limits, TomorrowsClock(), **rest
    )


if __name__ == "__main__":
    main()
