"""A real worker that kills itself (SIGKILL) at the n-th announcement of a crash point.

    python -m tests.e2e.crashing_worker PIPELINE_FILE I/N POINT OCCURRENCE

Without a kill it ends once it has caught up. Everything but the observer is what production runs.
"""

import os
import signal
import sys
import threading
from pathlib import Path

from k2i_core.clock import RandomIds, SystemClock
from k2i_core.config import load_pipeline
from k2i_core.crash_points import CrashPoint, Observer
from k2i_core.ledger import Share
from k2i_core.wiring.sessions import open_session
from k2i_core.wiring.surroundings import Surroundings
from k2i_core.worker import Until, Worker


def kill_at(point: CrashPoint, occurrence: int) -> Observer:
    seen = 0
    lock = threading.Lock()

    def observe(now: CrashPoint) -> None:
        nonlocal seen
        with lock:
            seen += now is point
            if now is point and seen == occurrence:
                os.kill(os.getpid(), signal.SIGKILL)

    return observe


def main() -> None:
    path, share, point, occurrence = sys.argv[1:]
    worker, workers = share.split("/")
    pipeline = load_pipeline(Path(path))
    surroundings = Surroundings(
        SystemClock(),
        SystemClock(),
        RandomIds(),
        observe=kill_at(CrashPoint(point), int(occurrence)),
    )
    Worker(
        lambda: open_session(pipeline, Share(int(worker), int(workers)), surroundings),
        Until(caught_up=True),
        lambda: False,
        SystemClock(),
    ).run()


if __name__ == "__main__":
    main()
