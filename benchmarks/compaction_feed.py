"""Feeds a made table as fast as it can and tells how far it is: a process in a worker's place.

    python -m benchmarks.compaction_feed PIPELINE ROWS_PER_BATCH [BATCHES_PER_COMMIT]

Commits once a second, as many batches as can be decoded and written until then, or so many. Prints
seconds since boot and rows so far after each commit; ends when its input is closed.
"""

import select
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.made_table import MadeTable
from k2i_core.clock import SystemClock
from k2i_core.dev.orders import FLAT

SECONDS_PER_COMMIT = 1.0


def main() -> None:
    """Feed until told to stop."""
    path, rows_per_batch = Path(sys.argv[1]), int(sys.argv[2])
    batches_max = int(sys.argv[3]) if sys.argv[3:] else sys.maxsize
    clock = SystemClock()
    made = MadeTable(path, clock)
    values = FLAT.make(0, rows_per_batch).values
    row_count = 0

    def batches(until: float) -> Iterator[Sequence[bytes]]:
        nonlocal row_count
        for _ in range(batches_max):
            row_count += rows_per_batch
            yield values
            if clock.boot_seconds() >= until:
                return

    while True:
        commit_at = clock.boot_seconds() + SECONDS_PER_COMMIT
        made.commit(batches(commit_at))
        print(f"{clock.boot_seconds()} {row_count}", flush=True)
        if select.select([sys.stdin], [], [], max(0.0, commit_at - clock.boot_seconds()))[0]:
            break
    made.close()


if __name__ == "__main__":
    main()
