"""How fast compaction is beside the ceiling, what it takes, and whether it starves or is starved.

The ceiling is DuckDB's own `COPY` of the same files to one file, with as many threads: it reads and
writes the rows and proves nothing. Ingestion beside compaction is another process that decodes,
writes and commits as fast as it can; rates are compared before and after compaction begins.
"""

import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import IO

import duckdb
import psutil
from pyiceberg.table import Table

from benchmarks.bench import Bench, read_pipeline
from benchmarks.figures import Figure, Group, Result, at_least, at_most, figure
from benchmarks.machine import ROOT
from benchmarks.made_table import MadeTable
from k2i_core.dev.orders import FLAT, WIDE
from k2i_core.maintenance.compaction import (
    CompactionOptions,
    MaintainedTable,
    Order,
    compact_table,
)
from k2i_core.maintenance.report import MaintenanceReport
from k2i_core.wiring.maintenance import maintained_table

THREAD_COUNT = 2
MEMORY_BYTES = 1 << 30
WIDE_ROWS_PER_FILE = 8_200
"""Two megabytes of Parquet, so that 5,000 files are 10 GB."""

ROWS_PER_FILE = 20_000
COPY_SHARE_TARGET = at_least(0.6)
INGESTION_SHARE_TARGET = at_least(0.75)
RUNS_BESIDE_COMMITS = 50


def run(bench: Bench) -> Result:
    """Compact a table of many small files in each order, then one that is being fed."""
    row_count = bench.options.rows or 3_000_000
    return Result(
        "compaction",
        {"rows": row_count, "rows_per_file": ROWS_PER_FILE, "threads": THREAD_COUNT},
        (
            Group("rewriting, as rows come", _rewriting(bench, row_count, "none")),
            Group("rewriting along a z-curve", _rewriting(bench, row_count // 3, "z_order")),
            Group("many files within the budget of memory", _many_files(bench)),
            Group("beside ingestion", _beside_ingestion(bench)),
        ),
        (
            "rates count the bytes of the files read; the proof by DuckDB is part of compaction",
            "peak memory is of the process, libraries and the table's other parts included",
            "threads of compaction run at a lower priority than a worker",
        ),
    )


def _rewriting(bench: Bench, row_count: int, order: Order) -> tuple[Figure, ...]:
    path = bench.new_pipeline("unused", bootstrap_servers="127.0.0.1:1")
    made = MadeTable(path, bench.clock)
    bench.say(f"{row_count:,} rows in {row_count // ROWS_PER_FILE} files")
    for start in range(0, row_count, ROWS_PER_FILE):
        made.commit([FLAT.make(start, ROWS_PER_FILE).values])
    made.close()
    table = _open(bench, path)
    files = _paths(table)
    byte_count = sum(Path(file).stat().st_size for file in files)
    seconds = [_copy_seconds(bench, files) for _ in range(bench.options.repeat)]
    ceiling = byte_count / median(seconds)
    with _peak_memory() as peak:
        report = _compact(table, byte_count // 4, order)
    rate = report.figures["bytes_read"] / report.figures["seconds"]
    rows_rate = report.figures["rows"] / report.figures["seconds"]
    target = COPY_SHARE_TARGET if order == "none" else None
    return (
        figure("files before", "", report.figures["files_before"]),
        figure("files after", "", report.figures["files_after"]),
        figure("compaction", "MB/s", rate / 1e6),
        figure("compaction", "rows/s", rows_rate),
        figure("DuckDB COPY", "MB/s", *(byte_count / s / 1e6 for s in seconds)),
        figure("compaction of COPY", "×", rate / ceiling, target=target),
        figure("peak memory", "MB", peak[0] / 1e6, target=at_most(MEMORY_BYTES / 1e6)),
    )


def _many_files(bench: Bench) -> tuple[Figure, ...]:
    """Compact 10 GB of small files, copies of one, within the default budget of memory."""
    path = bench.new_pipeline("unused", event_set=WIDE, bootstrap_servers="127.0.0.1:1")
    made = MadeTable(path, bench.clock)
    values = WIDE.make(0, WIDE_ROWS_PER_FILE).values
    file_count = bench.options.files
    bench.say(f"{file_count:,} files of {WIDE_ROWS_PER_FILE:,} wide rows")
    made.commit([values], copy_count=file_count)
    made.close()
    table = _open(bench, path)
    with _peak_memory() as peak:
        report = _compact(table, 512 << 20, "none")
    figures = report.figures
    return (
        figure("files before", "", figures["files_before"]),
        figure("files after", "", figures["files_after"]),
        figure("read", "GB", figures["bytes_read"] / 1e9),
        figure("rows proven", "", figures["rows_checked"]),
        figure("compaction", "MB/s", figures["bytes_read"] / figures["seconds"] / 1e6),
        figure("commits", "", figures["commits"]),
        figure("peak memory", "MB", peak[0] / 1e6, target=at_most(MEMORY_BYTES / 1e6)),
    )


def _beside_ingestion(bench: Bench) -> tuple[Figure, ...]:
    path = bench.new_pipeline("unused", bootstrap_servers="127.0.0.1:1")
    feeder = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.compaction_feed", str(path), str(ROWS_PER_FILE)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert feeder.stdin is not None
    assert feeder.stdout is not None
    fed: list[tuple[float, int]] = []
    reading = threading.Thread(target=_read, args=(feeder.stdout, fed))
    reading.start()
    seconds = bench.options.seconds
    try:
        while len(fed) < 3:
            bench.clock.sleep(0.1)
            if feeder.poll() is not None:
                break
        alone_since = bench.clock.boot_seconds()
        bench.say(f"ingestion alone for {seconds:g} s, then beside compaction")
        bench.clock.sleep(seconds)
        beside_since = bench.clock.boot_seconds()
        table = _open(bench, path)
        reports: list[MaintenanceReport] = []
        wanted = min(RUNS_BESIDE_COMMITS, 2 * int(seconds))
        while bench.clock.boot_seconds() < beside_since + seconds or (
            sum(report.figures["groups"] > 0 for report in reports) < wanted
            and bench.clock.boot_seconds() < beside_since + 10 * seconds
        ):
            reports.append(_compact(table, 8 << 20, "none"))
        ended = bench.clock.boot_seconds()
    finally:
        feeder.stdin.close()
        feeder.wait(60)
        reading.join(60)
    alone, beside = _rate(fed, alone_since, beside_since), _rate(fed, beside_since, ended)
    worked = [report for report in reports if report.figures["groups"]]
    return (
        figure("ingestion alone", "rows/s", alone),
        figure("ingestion beside compaction", "rows/s", beside),
        figure("beside of alone", "×", beside / alone, target=INGESTION_SHARE_TARGET),
        figure("compactions that rewrote", "", len(worked)),
        figure("groups lost", "", sum(r.figures["lost_groups"] for r in worked), target=at_most(0)),
        figure("attempts, most", "", max((r.figures["attempts"] for r in worked), default=0)),
    )


def _read(stream: IO[str], fed: list[tuple[float, int]]) -> None:
    for line in stream:
        at, rows = line.split()
        fed.append((float(at), int(rows)))


def _rate(fed: list[tuple[float, int]], since: float, until: float) -> float:
    inside = [one for one in fed if since <= one[0] <= until]
    if len(inside) < 2:
        return 0.0
    return (inside[-1][1] - inside[0][1]) / (inside[-1][0] - inside[0][0])


def _open(bench: Bench, path: Path) -> MaintainedTable:
    pipeline = read_pipeline(path)
    return maintained_table(pipeline, pipeline.table.identifier, bench.clock)


def _paths(table: MaintainedTable) -> list[str]:
    loaded = table.gateway.load().handle
    assert isinstance(loaded, Table)
    tasks = loaded.scan().plan_files()
    return [task.file.file_path.removeprefix("file://") for task in tasks]


def _compact(table: MaintainedTable, target_bytes: int, order: Order) -> MaintenanceReport:
    options = CompactionOptions(
        target_file_bytes=target_bytes,
        min_input_files=2,
        order=order,
        z_order_by=("user_id", "created_at"),
        max_memory_bytes=MEMORY_BYTES,
        max_bytes=1 << 40,
        max_seconds=3600.0,
        thread_count=THREAD_COUNT,
        young_seconds=0.0,
    )
    return compact_table(table, options)


def _copy_seconds(bench: Bench, files: list[str]) -> float:
    output = bench.directory / "copied.parquet"
    listed = ", ".join(f"'{file}'" for file in files)
    with duckdb.connect(config={"threads": THREAD_COUNT}) as connection:
        connection.execute("SET preserve_insertion_order = false")
        started = bench.clock.boot_seconds()
        connection.execute(
            f"COPY (FROM read_parquet([{listed}])) TO '{output}' "
            "(FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)"
        )
        seconds = bench.clock.boot_seconds() - started
    output.unlink()
    return seconds


@contextmanager
def _peak_memory() -> Generator[list[float]]:
    """Yield the largest resident size seen so far, in bytes."""
    peak = [0.0]
    done = threading.Event()
    process = psutil.Process()

    def watch() -> None:
        while not done.wait(0.02):
            peak[0] = max(peak[0], process.memory_info().rss)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield peak
    finally:
        done.set()
        watching.join()
