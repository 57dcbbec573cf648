"""Whether commits stay as fast as the first ones while a table gets thousands of them.

Tiny generations through the real writer, committer and gateway on SQLite; no Kafka.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median

from pyiceberg.table import Table

from benchmarks.bench import PARTITION_COUNT, Bench, read_pipeline
from benchmarks.figures import Figure, Group, Result, at_most, figure, percentile
from benchmarks.made_table import MadeTable
from k2i_core.dev.orders import FLAT
from k2i_core.wiring.inspection import inspect_target

ROWS_PER_COMMIT = 40
WINDOW = 100
GROWTH_TARGET = at_most(2)


def run(bench: Bench) -> Result:
    """Commit until the table has as many commits as asked for."""
    count = bench.options.commits
    window = max(1, min(WINDOW, count // 4))
    path = bench.new_pipeline("unused", bootstrap_servers="127.0.0.1:1")
    made = MadeTable(path, bench.clock)
    bench.say(f"{count:,} commits of {ROWS_PER_COMMIT} rows")
    milliseconds: list[float] = []
    for number in range(count):
        values = FLAT.make(number * ROWS_PER_COMMIT, ROWS_PER_COMMIT).values
        milliseconds.append(made.commit([values]).milliseconds)
    made.close()
    group = Group(
        f"{count:,} commits, nothing expired",
        (*_time_figures(milliseconds, window), *_metadata_figures(path)),
    )
    return Result(
        "commits",
        {"rows_per_commit": ROWS_PER_COMMIT, "kafka_partitions": PARTITION_COUNT},
        (group,),
        (
            "nothing expires snapshots here: metadata.json grows by each, which is what is tested",
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
