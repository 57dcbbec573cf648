"""A reader in a process of its own that looks again and again and checks every union read.

    python -m tests.e2e.checking_reader PIPELINE_FILE REPORT PAUSE_SECONDS [by-generation]

Of every snapshot the rows that came and their total are checked, of every view all hot rows: each
offset below the frontier is there exactly once. Now and then the same is asked of a whole scan and
of SQL. The frontier of a Kafka partition may only move back when another worker's page is followed.
The report gets two JSON lines a second; the first violation ends the process with exit code 1.
"""

import itertools
import json
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import k2i_core.query
from k2i_core.ledger import Owner
from k2i_core.offsets import TopicPartition
from k2i_core.query import UnionView, union_read
from k2i_core.query.seam import NEVER, ChosenPage, Seam, find_seam

WHOLE_EVERY = 40
"""Views between two scans of everything."""


class ViolationError(Exception):
    """A row is missing, doubled, or gone again."""


def offsets_of(batches: Iterable[pa.RecordBatch | pa.Table]) -> dict[int, np.ndarray]:
    """Kafka partition → offsets, in the order of the rows."""
    partitions, offsets = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for batch in batches:
        origin = batch.column("_kafka")
        partitions.append(np.asarray(pc.struct_field(origin, "partition")))
        offsets.append(np.asarray(pc.struct_field(origin, "offset")))
    whole, at = np.concatenate(partitions), np.concatenate(offsets)
    return {int(p): at[whole == p] for p in np.unique(whole)}


def check(found: dict[int, np.ndarray], start: dict[int, int], end: dict[int, int], what: str):
    for kafka_partition in {*found, *end}:
        offsets = np.sort(found.get(kafka_partition, np.zeros(0, np.int64)))
        first, after = start.get(kafka_partition, 0), end.get(kafka_partition, 0)
        if not np.array_equal(offsets, np.arange(first, after)):
            there = f"{offsets[0]}..{offsets[-1]}" if len(offsets) else "none"
            distinct = len(np.unique(offsets))
            message = (
                f"{what}: partition={kafka_partition} should hold [{first},{after}) and holds "
                f"{there}, count={len(offsets)}, distinct={distinct}"
            )
            raise ViolationError(message)


def by_partition(next_offsets: dict[TopicPartition, int]) -> dict[int, int]:
    return {tp.kafka_partition: n for tp, n in next_offsets.items()}


class Checker:
    def __init__(self, pipeline: Path) -> None:
        self.reader = k2i_core.query.open(pipeline)
        self.table = self.reader.table()
        self.name = self.table._union.identifier
        self.snapshots: set[int] = set()
        self.committed: dict[int, int] = {}
        self.watches_frontier = True
        self.frontier: dict[TopicPartition, tuple[Owner | None, int]] = {}
        self.counts = {"views": 0, "snapshots": 0, "scans": 0, "queries": 0, "hot_rows": 0}

    def look(self) -> None:
        view = self.table.view()
        self.check_view(view)
        frontier = {tp: (view.followed.get(tp), n) for tp, n in view.frontier.items()}
        for tp, (owner, next_offset) in self.frontier.items():
            if frontier[tp][0] == owner and frontier[tp][1] < next_offset:
                message = f"frontier of {tp} moved from {next_offset} to {frontier[tp][1]}"
                raise ViolationError(message)
        self.frontier = frontier if self.watches_frontier else {}
        self.counts["views"] += 1
        self.counts["hot_rows"] += view.hot_row_count

    def check_view(self, view: UnionView) -> None:
        entry = view.cold.entry
        committed = by_partition(entry.checkpoint.next_offsets) if entry else {}
        snapshot_id = view.cold.snapshot_id
        if snapshot_id is not None and snapshot_id not in self.snapshots:
            self.snapshots.add(snapshot_id)
            self.check_snapshot(view, committed)
            self.counts["snapshots"] += 1
        check(offsets_of(view.hot), committed, by_partition(view.frontier), "hot rows")

    def check_snapshot(self, view: UnionView, committed: dict[int, int]) -> None:
        """Read what came since the last snapshot; the total shows that nothing came below it."""
        snapshot = view.cold.table.current_snapshot()
        total = int(snapshot.summary["total-records"])
        if total != sum(committed.values()):
            message = f"snapshot {snapshot.snapshot_id} has {total} rows for {committed}"
            raise ViolationError(message)
        since = {p: min(self.committed.get(p, 0), n) for p, n in committed.items()}
        scan = view.cold.table.scan(
            f"_kafka.offset >= {min(since.values())}", selected_fields=("_kafka",)
        )
        found = offsets_of([scan.to_arrow()])
        cold = {p: offsets[offsets >= since[p]] for p, offsets in found.items()}
        check(cold, since, committed, f"snapshot {snapshot.snapshot_id}")
        self.committed = committed

    def look_at_everything(self, number: int) -> None:
        if number % 2:
            rows = self.table.scan(["_kafka"]).read_all()
            found = offsets_of([rows])
            check(found, {}, {p: len(o) for p, o in found.items()}, "scan")
            self.counts["scans"] += 1
            return
        sql = (
            "SELECT _kafka.partition AS p, count(*) AS n, count(DISTINCT _kafka.offset) AS d, "
            f'max(_kafka."offset") + 1 AS m FROM {self.name} GROUP BY ALL'
        )
        with self.table.sql(sql) as result:
            for row in result.read_all().to_pylist():
                if not row["n"] == row["d"] == row["m"]:
                    message = f"sql: {row}"
                    raise ViolationError(message)
        self.counts["queries"] += 1


def union_by_generation(entry, pages) -> Seam:
    """What must not be done: hot is what each page calls uncommitted, whatever its offsets are."""
    seam = find_seam(entry, pages)
    chosen = []
    frontier = dict(entry.checkpoint.next_offsets) if entry else {}
    for page in pages if entry else ():
        index = 1 if page.state.snapshot_id and page.state.generations else 0
        starts = page.state.start_of(index) if page.state.generations else page.state.base
        chosen.append(ChosenPage(page, np.minimum(starts, NEVER)))
        for tp, n in page.index.items():
            frontier[tp] = max(frontier.get(tp, 0), int(page.state.end[n]))
    return Seam(tuple(chosen), frontier, {}, seam.uncovered, is_stale=False)


def main() -> None:
    pipeline, report = map(Path, sys.argv[1:3])
    pause = float(sys.argv[3])
    if sys.argv[4:] == ["by-generation"]:
        union_read.find_seam = union_by_generation
    checker = Checker(pipeline)
    # Apart from frontiers, which such a union cannot even tell.
    checker.watches_frontier = union_read.find_seam is find_seam
    told = 0.0
    with report.open("a") as lines:
        for number in itertools.count(1):
            try:
                checker.look()
                if number % WHOLE_EVERY == 0:
                    checker.look_at_everything(number // WHOLE_EVERY)
            except ViolationError as violation:
                lines.write(json.dumps({**checker.counts, "violation": str(violation)}) + "\n")
                lines.flush()
                sys.exit(1)
            if time.monotonic() - told > 0.5:
                told = time.monotonic()
                lines.write(json.dumps(checker.counts) + "\n")
                lines.flush()
            time.sleep(pause)


if __name__ == "__main__":
    main()
