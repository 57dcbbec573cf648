"""What it costs to audit ten new commits, while a table gets thousands of them.

The same table grows; at each size ten commits are made and audited from the mark before them. Tiny
generations through the real writer and committer on SQLite; no Kafka, no dead letters. Everything
that an audit does counts: loading the table, manifests, sizes, footers, columns and rows.
"""

from statistics import median
from time import process_time

from benchmarks.bench import PARTITION_COUNT, Bench, read_pipeline
from benchmarks.commits import FlushingClock
from benchmarks.figures import Figure, Group, Result, at_most, figure
from benchmarks.made_table import MadeTable
from k2i_core.audit.audit_state import AuditState
from k2i_core.clock import Clock
from k2i_core.config import Pipeline
from k2i_core.dev.orders import FLAT
from k2i_core.wiring.table_audit import audit_table

SIZES = (50, 500, 2_000)
NEW_COMMITS = 10
ROWS_PER_COMMIT = 1_000
GROWTH_TARGET = at_most(1.5)
"""Of processor time, which other work on the machine does not change."""


def run(bench: Bench) -> Result:
    """Audit ten new commits at each size."""
    path = bench.new_pipeline("unused", bootstrap_servers="127.0.0.1:1")
    pipeline = read_pipeline(path)
    clock = FlushingClock(bench.clock)
    made = MadeTable(path, clock)
    sizes = [size for size in SIZES if size <= bench.options.commits] or [bench.options.commits]
    figures: list[Figure] = []
    costs: list[float] = []
    committed = 0
    for size in sizes:
        bench.say(f"{size:,} commits of {ROWS_PER_COMMIT:,} rows")
        _commit(made, clock, size - NEW_COMMITS - committed)
        state = audit_table(pipeline, None).state
        _commit(made, clock, NEW_COMMITS)
        committed = size
        cost, processor = _cost(bench.clock, pipeline, state, bench.options.repeat)
        everything, _ = _cost(bench.clock, pipeline, None, 1)
        costs.append(processor)
        figures += [
            figure(f"{NEW_COMMITS} new of {size:,}", "ms", cost),
            figure(f"{NEW_COMMITS} new of {size:,}, processor", "ms", processor),
            figure(f"all of {size:,}", "ms", everything),
        ]
    made.close()
    figures.append(
        figure(
            f"{sizes[-1]:,} to {sizes[0]:,}, processor",
            "×",
            costs[-1] / costs[0],
            target=GROWTH_TARGET,
        )
    )
    return Result(
        "checks",
        {"rows_per_commit": ROWS_PER_COMMIT, "kafka_partitions": PARTITION_COUNT},
        (Group("audits", tuple(figures)),),
        (
            f"of each {bench.options.repeat} audits from the same mark the median counts",
            "what grows at first is the metadata, up to the 500 snapshots that a table keeps",
            "local files, so DuckDB needs no extension; with S3 each audit loads them once",
        ),
    )


def _commit(made: MadeTable, clock: FlushingClock, count: int) -> None:
    values = FLAT.make(0, ROWS_PER_COMMIT).values
    for _ in range(count):
        clock.go_on()
        made.commit([values])


def _cost(
    clock: Clock, pipeline: Pipeline, state: AuditState | None, repeat: int
) -> tuple[float, float]:
    """Return the medians of wall and processor milliseconds."""
    walls: list[float] = []
    processors: list[float] = []
    for _ in range(repeat):
        began, processor = clock.boot_seconds(), process_time()
        found = audit_table(pipeline, state)
        walls.append((clock.boot_seconds() - began) * 1000)
        processors.append((process_time() - processor) * 1000)
        assert found.holds, [answer for answer in found.answers if answer.faults]
        assert found.is_incremental is (state is not None)
    return median(walls), median(processors)
