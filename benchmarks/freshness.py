"""How old a row is when it is in the table, at a steady rate with `max_age: 1s`; every row counts.

A row's latency is from its Kafka timestamp, which the producer sets when the event is made, to the
moment at which the worker logs the commit that holds its offset. Which commit that is comes from
the snapshots' own ranges, so that nothing is sampled.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.bench import Bench, read_pipeline
from benchmarks.figures import Figure, Group, Result, at_most, figure
from benchmarks.processes import FEED, Child, FlushLine, await_end, await_true, start, start_worker
from k2i_core.ledger import RANGES_KEY, decode_ranges
from k2i_core.wiring.inspection import inspect_target

FLUSH = {"max_age": "1s"}
WARM_UP_SECONDS = 5.0
"""Records of the first seconds are shown apart: by then every file has been imported and the first
row group written."""

P50_TARGET, P99_TARGET = at_most(620), at_most(1_100)
PEAK_TARGET = at_most(300)


def run(bench: Bench) -> Result:
    """Measure latency at 5,000 rows a second and memory at 10,000."""
    groups = [_measure(bench, 5_000), _measure(bench, 10_000)]
    return Result(
        "freshness",
        {"seconds": bench.options.seconds, "flush": FLUSH, "kafka_partitions": 4},
        tuple(groups),
        (
            "latency: from a row's Kafka timestamp to its commit, over all rows",
            f"rows of the first {WARM_UP_SECONDS:.0f} s are only in the figure that says so",
        ),
    )


def _measure(bench: Bench, rate: int) -> Group:
    bench.say(f"{rate:,} rows a second for {bench.options.seconds:.0f} s")
    topic = bench.empty_topic("freshness")
    path = bench.new_pipeline(topic, flush=FLUSH)
    count = round(rate * bench.options.seconds)
    worker = start_worker(path, bench.clock)
    feed = None
    try:
        await_true(lambda: worker.took_over_wall_ms() is not None, worker, bench.clock)
        feed = start(
            [*FEED, bench.bootstrap_servers, topic, str(rate), str(count)],
            path.with_name("feed.log"),
            bench.clock,
        )
        await_end([feed], bench.clock, seconds_max=bench.options.seconds * 3 + 60)
        await_true(lambda: _row_count(worker) >= count, worker, bench.clock, seconds_max=60)
        flushes = worker.flushes()
        worker.ask_to_stop()
        await_end([worker], bench.clock, seconds_max=60)
    finally:
        for child in (worker, feed):
            if child is not None:
                child.kill()
    return Group(f"flat, {rate:,} rows/s", tuple(_figures(path, worker, flushes, rate)))


def _row_count(worker: Child) -> int:
    return sum(flush.row_count for flush in worker.flushes())


def _figures(
    path: Path, worker: Child, flushes: Sequence[FlushLine], rate: int
) -> Sequence[Figure]:
    produced_ms, latencies_ms = _latencies(path, flushes)
    is_warm = produced_ms >= produced_ms.min() + WARM_UP_SECONDS * 1000
    warm = latencies_ms[is_warm] if is_warm.any() else latencies_ms
    seconds = (produced_ms.max() - produced_ms.min()) / 1000
    usage = worker.usage
    assert usage is not None
    is_latency_rate = rate == 5_000
    return [
        figure(
            "produced to committed, p50",
            "ms",
            float(np.percentile(warm, 50)),
            target=P50_TARGET if is_latency_rate else None,
        ),
        figure(
            "produced to committed, p99",
            "ms",
            float(np.percentile(warm, 99)),
            target=P99_TARGET if is_latency_rate else None,
        ),
        figure("produced to committed, longest", "ms", float(warm.max())),
        figure("p99 with the first seconds", "ms", float(np.percentile(latencies_ms, 99))),
        figure("rows produced", "rows/s", len(produced_ms) / seconds),
        figure("files", "per minute", sum(f.file_count for f in flushes) / seconds * 60),
        figure("commit, median", "ms", float(np.median([f.commit_ms for f in flushes]))),
        figure("CPU of the worker", "% of one", usage.cpu_seconds / seconds * 100),
        figure("peak RSS", "MB", usage.peak_bytes / 1e6, target=PEAK_TARGET),
    ]


Numbers = npt.NDArray[np.float64]


def _latencies(path: Path, flushes: Sequence[FlushLine]) -> tuple[Numbers, Numbers]:
    """Return when each row was produced and how long it then took, in ms."""
    inspected = inspect_target(read_pipeline(path))
    committed_ms = {flush.snapshot_id: flush.wall_ms for flush in flushes}
    ends: defaultdict[int, list[tuple[int, float]]] = defaultdict(list)
    for snapshot in inspected.view.ancestors():
        for one in decode_ranges(snapshot.summary.get(RANGES_KEY, "[]")):
            end = (one.offsets.next_offset, committed_ms[snapshot.snapshot_id])
            ends[one.offsets.topic_partition.kafka_partition].append(end)
    origin = inspected.table.scan(selected_fields=("_kafka",)).to_arrow()["_kafka"].combine_chunks()
    kafka_partitions = pc.struct_field(origin, "partition").to_numpy(zero_copy_only=False)
    offsets = pc.struct_field(origin, "offset").to_numpy(zero_copy_only=False)
    timestamps = pc.struct_field(origin, "timestamp").cast(pa.int64())
    produced_ms = timestamps.to_numpy(zero_copy_only=False) / 1000
    latencies_ms = np.full(len(produced_ms), np.nan)
    for kafka_partition, unordered in ends.items():
        of_partition = sorted(unordered)
        mine = kafka_partitions == kafka_partition
        next_offsets = np.array([next_offset for next_offset, _ in of_partition])
        moments = np.array([moment for _, moment in of_partition])
        index = np.searchsorted(next_offsets, offsets[mine], side="right")
        latencies_ms[mine] = moments[index] - produced_ms[mine]
    assert not np.isnan(latencies_ms).any(), "a row is in no commit's range"
    return produced_ms, latencies_ms
