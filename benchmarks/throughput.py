"""From a full backlog until every row is committed, by real workers on a real broker.

| Figure | From | To |
|---|---|---|
| rows/s, steady | each worker's first commit | its last; summed over workers |
| rows/s, overall | process start | last commit of all |
| CPU µs/row | the end of the start (take-over) | process end |
| stage CPU µs/row | the lanes' own account | |

After every run `k2i verify` compares topic, ledger and rows: a run that lost a row has no figure.
"""

from collections.abc import Sequence
from itertools import product
from pathlib import Path

from benchmarks.bench import FLUSH, NATIVE_CHOICES, Bench, read_pipeline, record_bytes
from benchmarks.encoded_events import AnySet
from benchmarks.figures import (
    Figure,
    Group,
    Result,
    Target,
    at_least,
    at_most,
    figure,
    merged,
    percentile,
)
from benchmarks.processes import (
    Child,
    FlushLine,
    await_end,
    prove,
    start_worker,
)
from k2i_core.dev.orders import FLAT, WIDE
from k2i_core.wiring.inspection import inspect_target

RUN_SECONDS_MAX = 1_800.0

STEADY_TARGETS = {
    ("flat", 1, "python"): at_least(180_000),
    ("flat", 2, "python"): at_least(280_000),
    ("flat", 1, "native"): at_least(600_000),
    ("wide", 1, "native"): at_least(200_000),
}
CPU_TARGETS = {("flat", "python"): at_most(5.5), ("flat", "native"): at_most(2.5)}
DISK_TARGETS = {"flat": at_most(45)}
PEAK_TARGETS = {"python": at_most(700), "native": at_most(450)}
FIRST_ROW_TARGETS = {"native": at_most(2)}


def run_flat(bench: Bench) -> Result:
    """Measure rows of 220 bytes."""
    return _run("throughput", bench, FLAT)


def run_wide(bench: Bench) -> Result:
    """Measure rows of a kilobyte: by themselves, because a machine is seldom quiet for both."""
    return _run("throughput-wide", bench, WIDE)


def _run(name: str, bench: Bench, event_set: AnySet) -> Result:
    """Measure one event set with one and with two workers, on each path that is here."""
    groups: list[Group] = []
    row_count, size = bench.options.rows_of(event_set), round(record_bytes(event_set))
    for workers, way in product((1, 2), bench.paths):
        runs: list[Sequence[Figure]] = []
        for number in range(bench.options.repeat):
            bench.say(f"{event_set.name}, workers={workers}, {way}, run {number + 1}")
            runs.append(measure(bench, event_set, row_count, workers, way))
        what = f"{event_set.name}, {row_count:,} rows of {size} B, workers = {workers}, {way}"
        groups.append(Group(what, merged(runs)))
    return Result(
        name,
        {"repeat": bench.options.repeat, "flush": FLUSH, "kafka_partitions": 4},
        tuple(groups),
        (
            "steady: rows after a worker's first commit by the time to its last, summed",
            "steady needs two flushes, that is about 1,200,000 flat rows a worker",
            "CPU: all workers, user and system, without the broker; µs/row = s per million rows",
            "librdkafka and polling: as of the last sample of the threads",
            "rest: watching, serving metrics, shutting down",
        ),
    )


def measure(
    bench: Bench, event_set: AnySet, row_count: int, workers: int, way: str
) -> Sequence[Figure]:
    """Ingest a backlog once, prove it, and return the figures: the rates come first."""
    topic = bench.filled_topic(event_set, row_count)
    path = bench.new_pipeline(
        topic, event_set=event_set, workers=workers, native=NATIVE_CHOICES[way]
    )
    children = [
        start_worker(path, bench.clock, "--until-caught-up", worker=worker, workers=workers)
        for worker in range(workers)
    ]
    await_end(children, bench.clock, seconds_max=RUN_SECONDS_MAX)
    prove(path, bench.clock, row_count=row_count)
    flushes = [child.row_flushes() for child in children]
    began = min(child.started_wall_ms for child in children)
    moments = [flush.wall_ms for of_worker in flushes for flush in of_worker]
    overall_seconds = (max(moments) - began) / 1000
    commit_ms = [flush.commit_ms for of_worker in flushes for flush in of_worker]
    peaks = [child.usage.peak_bytes / 1e6 for child in children if child.usage is not None]
    steady = [_steady_rate(of_worker) for of_worker in flushes]
    steady_rate = None if None in steady else sum(rate or 0.0 for rate in steady)
    name = event_set.name
    overall_rate = row_count / overall_seconds
    bench.pipeline_rates.setdefault((name, workers, way), []).append(steady_rate or overall_rate)
    return [
        figure(
            "rows/s, steady",
            "rows/s",
            steady_rate,
            target=STEADY_TARGETS.get((name, workers, way)),
        ),
        figure("rows/s, overall", "rows/s", overall_rate),
        figure(
            "start to first committed row",
            "s",
            (min(moments) - began) / 1000,
            target=FIRST_ROW_TARGETS.get(way),
        ),
        *_cpu_figures(children, row_count, CPU_TARGETS.get((name, way))),
        figure("peak RSS of a worker", "MB", max(peaks), target=PEAK_TARGETS[way]),
        *_table_figures(path, DISK_TARGETS.get(name)),
        figure("flushes", "", len(moments)),
        figure("commit, p50", "ms", percentile(commit_ms, 0.5)),
        figure("commit, p99", "ms", percentile(commit_ms, 0.99)),
    ]


def _steady_rate(flushes: Sequence[FlushLine]) -> float | None:
    seconds = (flushes[-1].wall_ms - flushes[0].wall_ms) / 1000 if flushes else 0.0
    return sum(flush.row_count for flush in flushes[1:]) / seconds if seconds > 0 else None


def _cpu_figures(children: Sequence[Child], row_count: int, target: Target | None) -> list[Figure]:
    """Return µs a row in total and by stage; CPU-seconds a million rows is the same number."""
    total = sum(child.usage.cpu_seconds for child in children if child.usage is not None)
    starts = [_start_cpu_seconds(child) for child in children]
    start = None if None in starts else sum(seconds or 0.0 for seconds in starts)
    lanes = [child.lane_cpu_seconds() for child in children]

    def lane(name: str) -> float:
        return sum(of_worker.get(name, 0.0) for of_worker in lanes)

    def threads(prefix: str) -> float | None:
        found = [child.threads_cpu_seconds(prefix) for child in children]
        return None if None in found else sum(seconds or 0.0 for seconds in found)

    polling, librdkafka = threads("main/"), threads("rdk:")
    if polling is not None and start is not None:
        polling = max(0.0, polling - start)
    known = sum(lane(name) for name in ("decode", "write", "encode", "finish", "commit"))
    known += (polling or 0.0) + (librdkafka or 0.0)
    rest = max(0.0, total - (start or 0.0) - known)

    def per_row(seconds: float | None) -> float | None:
        return None if seconds is None else seconds / row_count * 1e6

    in_rows = total - start if start is not None else total
    return [
        figure("CPU from take-over on", "µs/row", per_row(in_rows), target=target),
        figure("CPU with the start", "µs/row", per_row(total)),
        figure("· polling thread", "µs/row", per_row(polling)),
        figure("· librdkafka", "µs/row", per_row(librdkafka)),
        figure("· decode lane", "µs/row", per_row(lane("decode"))),
        figure("· write lane", "µs/row", per_row(lane("write"))),
        figure("· encode lane", "µs/row", per_row(lane("encode"))),
        figure("· finish and commit lanes", "µs/row", per_row(lane("finish") + lane("commit"))),
        figure("· rest", "µs/row", per_row(rest)),
        figure("CPU of the start, a worker", "s", start and start / len(children)),
    ]


def _start_cpu_seconds(child: Child) -> float | None:
    moment = child.took_over_wall_ms()
    return None if moment is None else child.cpu_seconds_at(moment)


def _table_figures(path: Path, target: Target | None) -> list[Figure]:
    snapshot = inspect_target(read_pipeline(path)).table.current_snapshot()
    assert snapshot is not None
    assert snapshot.summary is not None
    summary = snapshot.summary.additional_properties
    rows, files = int(summary["total-records"]), int(summary["total-data-files"])
    return [
        figure(
            "data files, bytes a row", "B", int(summary["total-files-size"]) / rows, target=target
        ),
        figure("data files", "", files),
    ]
