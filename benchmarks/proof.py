"""How fast and in how little memory `k2i verify` proves a large table.

The table is made directly with the real writer and commit. The comparison with the topic is not
part of it: every run of `throughput` does that one.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.figures import Figure, Group, Result, figure, merged
from benchmarks.made_table import MadeTable
from benchmarks.processes import prove, run_to_end
from k2i_core.clock import SystemClock
from k2i_core.dev.orders import FLAT

GROUP_ROWS = 65_536
COMMIT_ROWS = 1_000_000


def run(bench: Bench) -> Result:
    """Make a table, then prove it in a process of its own."""
    row_count = bench.options.verify_rows
    path = bench.new_pipeline("unused", bootstrap_servers="127.0.0.1:1")
    bench.say(f"making a table of {row_count:,} rows")
    # In a process of its own, so that its memory is not that of the other benchmarks.
    run_to_end(
        [sys.executable, "-m", "benchmarks.proof", str(path), str(row_count)],
        path.with_name("make.log"),
        bench.clock,
    )
    runs = [_measure(bench, path, row_count) for _ in range(bench.options.repeat)]
    return Result(
        "verify",
        {"repeat": bench.options.repeat, "rows": row_count},
        (Group(f"flat, {row_count:,} rows, ledger against rows", merged(runs)),),
        ("the whole command `k2i verify --skip-topic`, its start included",),
    )


def _measure(bench: Bench, path: Path, row_count: int) -> Sequence[Figure]:
    child, seconds = prove(path, bench.clock, "--skip-topic", row_count=row_count)
    assert child.usage is not None
    return [
        figure("rows/s", "rows/s", row_count / seconds),
        figure("whole command", "s", seconds),
        figure("peak RSS", "MB", child.usage.peak_bytes / 1e6),
    ]


def make(path: Path, row_count: int) -> None:
    """Fill the table of a pipeline file."""
    made = MadeTable(path, SystemClock())
    for start in range(0, row_count, COMMIT_ROWS):
        end = min(row_count, start + COMMIT_ROWS)
        made.commit(
            FLAT.make(first, min(GROUP_ROWS, end - first)).values
            for first in range(start, end, GROUP_ROWS)
        )
    made.close()


if __name__ == "__main__":
    make(Path(sys.argv[1]), int(sys.argv[2]))
