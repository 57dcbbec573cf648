"""Whether commits stay as fast as the first ones while a table gets thousands of them.

Tiny generations through the real writer, committer and gateway on SQLite; no Kafka. The committer's
clock goes on by a second for each commit, as with `max_age: 1s`, because it keeps every snapshot
that is younger than a minute, whatever the limits on snapshots say.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median

from pyiceberg.table import Table

from benchmarks.bench import PARTITION_COUNT, Bench, read_pipeline
from benchmarks.figures import Figure, Group, Result, at_most, figure, percentile
from benchmarks.made_table import MadeTable
from k2i_core.clock import SystemClock
from k2i_core.dev.orders import FLAT
from k2i_core.wiring.inspection import inspect_target

ROWS_PER_COMMIT = 40
SECONDS_A_COMMIT = 1.0
WINDOW = 100
GROWTH_TARGET = at_most(2)


class FlushingClock:
    """The system's clock, moved on for each commit."""

    def __init__(self, clock: SystemClock) -> None:
        """Begin with the system's time."""
        self._clock = clock
        self._ahead_seconds = 0.0

    def go_on(self) -> None:
        """Let the time of one flush pass."""
        self._ahead_seconds += SECONDS_A_COMMIT

    def now_ms(self) -> int:
        """Return Unix time in milliseconds."""
        return self._clock.now_ms() + int(self._ahead_seconds * 1000)

    def boot_seconds(self) -> float:
        """Return the real time since boot, for what is measured."""
        return self._clock.boot_seconds()

    def sleep(self, seconds: float) -> None:
        """Wait really."""
        self._clock.sleep(seconds)


def run(bench: Bench) -> Result:
    """Commit until the table has as many commits as asked for."""
    count = bench.options.commits
    window = max(1, min(WINDOW, count // 4))
    path = bench.new_pipeline("unused", bootstrap_servers="127.0.0.1:1")
    clock = FlushingClock(bench.clock)
    made = MadeTable(path, clock)
    bench.say(f"{count:,} commits of {ROWS_PER_COMMIT} rows")
    milliseconds: list[float] = []
    for number in range(count):
        values = FLAT.make(number * ROWS_PER_COMMIT, ROWS_PER_COMMIT).values
        clock.go_on()
        milliseconds.append(made.commit([values]).milliseconds)
    made.close()
    group = Group(
        f"{count:,} commits, one a second",
        (*_time_figures(milliseconds, window), *_metadata_figures(path)),
    )
    return Result(
        "commits",
        {"rows_per_commit": ROWS_PER_COMMIT, "kafka_partitions": PARTITION_COUNT},
        (group,),
        (
            "appends give up the oldest snapshots by the default limits: at most 500 stay",
            f"first and last are the medians of {window} commits each",
            "a commit: load, decide, write manifests, log durably, send; SQLite on a local disk",
        ),
    )


def _time_figures(milliseconds: Sequence[float], window: int) -> list[Figure]:
    first, last = median(milliseconds[:window]), median(milliseconds[-window:])
    return [
        figure(f"commit, first {window}", "ms", first),
        figure(f"commit, last {window}", "ms", last),
        figure("last to first", "×", last / first, target=GROWTH_TARGET),
        figure(
            "last to first, means", "×", mean(milliseconds[-window:]) / mean(milliseconds[:window])
        ),
        figure("commit, p99 of all", "ms", percentile(milliseconds, 0.99)),
    ]


def _metadata_figures(path: Path) -> list[Figure]:
    table: Table = inspect_target(read_pipeline(path)).table
    snapshot = table.current_snapshot()
    assert snapshot is not None
    manifests = snapshot.manifests(table.io)
    metadata_bytes = len(table.io.new_input(table.metadata_location))
    folder = path.parent / "warehouse"
    kept = [p for p in folder.rglob("*") if p.is_file() and p.parent.name == "metadata"]
    return [
        figure("manifests of the head", "", len(manifests)),
        figure("snapshots", "", len(table.metadata.snapshots)),
        figure("metadata.json", "KB", metadata_bytes / 1000),
        figure("metadata files on disk", "", len(kept)),
        figure("metadata on disk", "MB", sum(p.stat().st_size for p in kept) / 1e6),
    ]
