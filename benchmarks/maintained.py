"""A table that is fed for thousands of commits, with maintenance on its schedule and without.

Time passes by a second for each commit (`commits`), so that schedules, ages and graces are those of
a worker with `max_age: 1s`. A full run draws both curves into the documentation.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import yaml
from pyiceberg.table import Table

from benchmarks.bench import PARTITION_COUNT, Bench, read_pipeline
from benchmarks.commits import ROWS_PER_COMMIT, FlushingClock
from benchmarks.figures import Figure, Group, Result, at_most, figure
from benchmarks.machine import ROOT
from benchmarks.made_table import MadeTable
from benchmarks.plot import panels
from k2i_core.dev.orders import FLAT
from k2i_core.wiring.inspection import inspect_target
from k2i_core.wiring.maintenance import (
    compact,
    compaction_options,
    expire_snapshots,
    rewrite_manifests,
)

WINDOW = 100
FULL_COMMITS = 2_000
STEP_COMMITS = 300
"""Commits, and so seconds, between two rounds of the steps."""

SETTINGS = {
    "compaction": {"target_file_bytes": "64MiB"},
    "expiration": {"older_than": "10m", "reader_grace": "1m"},
}
PICTURE = ROOT / "docs" / "images" / "maintenance.svg"
TITLES = ("commit, ms", "planning a scan, ms", "data files", "metadata.json, KB")
FLAT_TARGET = at_most(2)


@dataclass(slots=True)
class Curve:
    """One value of each kind for every window of commits."""

    commits: list[float] = field(default_factory=list[float])
    planning: list[float] = field(default_factory=list[float])
    files: list[float] = field(default_factory=list[float])
    metadata: list[float] = field(default_factory=list[float])
    round_seconds: list[float] = field(default_factory=list[float])

    def lines(self) -> Sequence[Sequence[float]]:
        """In the order of the titles."""
        return self.commits, self.planning, self.files, self.metadata


def run(bench: Bench) -> Result:
    """Feed two tables alike and keep one of them healthy."""
    count = max(2 * WINDOW, bench.options.commits)
    curves = {
        "with maintenance": _feed(bench, count, is_maintained=True),
        "without": _feed(bench, count, is_maintained=False),
    }
    if count >= FULL_COMMITS:
        ends = [WINDOW * (number + 1) for number in range(count // WINDOW)]
        lines = {name: curve.lines() for name, curve in curves.items()}
        PICTURE.write_text(panels(TITLES, lines, ends), encoding="utf-8")
    return Result(
        "maintained",
        {"rows_per_commit": ROWS_PER_COMMIT, "kafka_partitions": PARTITION_COUNT},
        tuple(
            Group(f"{count:,} commits, one a second, {name}", _figures(curve))
            for name, curve in curves.items()
        ),
        (
            f"first and last are of {WINDOW} commits each; planning opens all manifests",
            f"compaction, manifests and expiration every {STEP_COMMITS} commits, in this process",
        ),
    )


def _feed(bench: Bench, count: int, *, is_maintained: bool) -> Curve:
    bench.say(f"{count:,} commits {'with' if is_maintained else 'without'} maintenance")
    path = bench.new_pipeline("unused", bootstrap_servers="127.0.0.1:1")
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump({**document, "maintenance": SETTINGS}), encoding="utf-8")
    clock = FlushingClock(bench.clock)
    made = MadeTable(path, clock)
    curve = Curve()
    milliseconds: list[float] = []
    for number in range(count):
        values = FLAT.make(number * ROWS_PER_COMMIT, ROWS_PER_COMMIT).values
        clock.go_on()
        milliseconds.append(made.commit([values]).milliseconds)
        if is_maintained and (number + 1) % STEP_COMMITS == 0:
            curve.round_seconds.append(_keep_healthy(path, clock))
        if len(milliseconds) == WINDOW:
            curve.commits.append(median(milliseconds))
            _look(path, bench, curve)
            milliseconds = []
    made.close()
    return curve


def _keep_healthy(path: Path, clock: FlushingClock) -> float:
    pipeline = read_pipeline(path)
    table = pipeline.table.identifier
    began = clock.boot_seconds()
    compact(pipeline, table, clock, options=compaction_options(pipeline, table))
    rewrite_manifests(pipeline, table, clock)
    expire_snapshots(pipeline, table, clock)
    return clock.boot_seconds() - began


def _look(path: Path, bench: Bench, curve: Curve) -> None:
    table: Table = inspect_target(read_pipeline(path)).table
    began = bench.clock.boot_seconds()
    file_count = sum(1 for _ in table.scan().plan_files())
    curve.planning.append((bench.clock.boot_seconds() - began) * 1000)
    curve.files.append(file_count)
    curve.metadata.append(len(table.io.new_input(table.metadata_location)) / 1000)


def _figures(curve: Curve) -> tuple[Figure, ...]:
    target = FLAT_TARGET if curve.round_seconds else None
    rounds = curve.round_seconds
    return (
        figure("commit, first", "ms", curve.commits[0]),
        figure("commit, last", "ms", curve.commits[-1]),
        figure("commit, last to first", "×", curve.commits[-1] / curve.commits[0], target=target),
        figure("planning, first", "ms", curve.planning[0]),
        figure("planning, last", "ms", curve.planning[-1]),
        figure("data files, last", "", curve.files[-1]),
        figure("data files, most", "", max(curve.files)),
        figure("metadata.json, last", "KB", curve.metadata[-1]),
        figure("a round of steps", "s", median(rounds) if rounds else None),
    )
