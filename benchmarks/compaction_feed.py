"""Feeds a made table as fast as it can and tells how far it is: a process in a worker's place.

    python -m benchmarks.compaction_feed PIPELINE ROWS_PER_COMMIT

Prints seconds since boot and rows so far after each commit; ends when its input is closed.
"""

import select
import sys
from pathlib import Path

from benchmarks.made_table import MadeTable
from k2i_core.clock import SystemClock
from k2i_core.dev.orders import FLAT


def main() -> None:
    """Feed until told to stop."""
    path, rows_per_commit = Path(sys.argv[1]), int(sys.argv[2])
    clock = SystemClock()
    made = MadeTable(path, clock)
    values = FLAT.make(0, rows_per_commit).values
    row_count = 0
    while not select.select([sys.stdin], [], [], 0)[0]:
        made.commit([values])
        row_count += rows_per_commit
        print(f"{clock.boot_seconds()} {row_count}", flush=True)
    made.close()


if __name__ == "__main__":
    main()
