"""How fresh and how fast reading is, hot rows included, and what it costs ingestion.

Freshness is measured on real Kafka: the broker stamps every record when it has appended it
(`LogAppendTime`), just before it acknowledges, and a reader in this process notes when the row is
in a union read. All rows count. Delivery, lookup and SQL are measured on a table made directly, so
that the number of hot rows is known.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import adbc_driver_flightsql.dbapi
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

import k2i_core.query
from benchmarks.bench import Bench, read_pipeline
from benchmarks.figures import Figure, Group, Result, at_least, at_most, figure, percentile
from benchmarks.made_table import MadeTable
from benchmarks.processes import FEED, K2I, Child, await_end, await_true, prove, start, start_worker
from k2i_core.dev.orders import FLAT
from k2i_core.offsets import TopicPartition
from k2i_core.query import PipelineReader, UnionView

RATE = 5_000
WARM_UP_SECONDS = 5.0
"""Rows of the first seconds are left out, as in `freshness`."""

LOOK_SECONDS = 0.001
HOT_COUNTS = (1_000, 10_000, 100_000)
BATCH_ROWS = 5_000
REPEATS = 200
QUERY_REPEATS = 10
COLD_ROWS = 10_000_000
COMMIT_ROWS = 1_000_000
GROUP_ROWS = 65_536
RUN_SECONDS_MAX = 600.0

VISIBLE_P50_TARGET, VISIBLE_P99_TARGET = at_most(15), at_most(60)
DELIVERY_TARGET, LOOKUP_TARGET = at_most(1), at_most(0.5)
THROUGHPUT_TARGET = at_least(90)


def run(bench: Bench) -> Result:
    """Measure freshness, delivery, SQL and the cost for ingestion."""
    groups = [
        Group(f"flat, {RATE:,} rows/s, max_age 1s", tuple(_freshness(bench))),
        *(Group(f"{n:,} hot rows", tuple(_delivery(bench, n))) for n in HOT_COUNTS),
        Group("SQL over 100,000 hot rows and the table", tuple(_sql(bench))),
        Group("Arrow Flight SQL over 10,000 hot rows, ADBC", tuple(_flight_sql(bench))),
        Group("ingestion with hot rows against without", tuple(_cost(bench))),
    ]
    return Result(
        "hot-reads",
        {
            "seconds": bench.options.seconds,
            "kafka_partitions": 4,
            "cold_rows": bench.options.rows or COLD_ROWS,
            "repeat": bench.options.repeat,
        },
        tuple(groups),
        (
            "visible: from the broker's timestamp (whole ms) to the first view that holds the row",
            "delivery: after one new batch of 100 rows, a view and its hot rows as an Arrow table",
            f"the reader looks again after {LOOK_SECONDS * 1000:.0f} ms, on the same processors",
        ),
    )


def _freshness(bench: Bench) -> Sequence[Figure]:
    bench.say(f"{RATE:,} rows a second for {bench.options.seconds:.0f} s, read all the time")
    topic = bench.empty_topic("hot", {"message.timestamp.type": "LogAppendTime"})
    path = bench.new_pipeline(topic, flush={"max_age": "1s"})
    count = round(RATE * bench.options.seconds)
    children = [start_worker(path, bench.clock)]
    try:
        await_true(lambda: children[0].took_over_wall_ms() is not None, children[0], bench.clock)
        feed = [*FEED, bench.bootstrap_servers, topic, str(RATE), str(count)]
        children.append(start(feed, path.with_name("feed.log"), bench.clock))
        with k2i_core.query.open(path) as reader:
            watch = _Watch(bench, reader)
            watch.until(count, children[0], bench.options.seconds * 2 + 60)
        children[0].ask_to_stop()
        await_end(children, bench.clock, seconds_max=60)
    finally:
        for child in children:
            child.kill()
    return watch.figures()


class _Watch:
    """Looks again and again, and notes of every row when it was first seen."""

    def __init__(self, bench: Bench, reader: PipelineReader) -> None:
        self._clock = bench.clock
        self._table = reader.table()
        self._frontier: dict[TopicPartition, int] = {}
        self._appended: list[npt.NDArray[np.float64]] = []
        self._waited: list[npt.NDArray[np.float64]] = []
        self._look_ms: list[float] = []
        self._hot_counts: list[int] = []

    def until(self, count: int, worker: Child, seconds_max: float) -> None:
        deadline = self._clock.boot_seconds() + seconds_max
        while sum(self._frontier.values()) < count:
            began = self._clock.boot_seconds()
            view = self._table.view()
            self._look_ms.append((self._clock.boot_seconds() - began) * 1000)
            self._note(view, self._clock.now_ms())
            if began > deadline:
                worker.fail("rows did not become visible")
            self._clock.sleep(LOOK_SECONDS)

    def _note(self, view: UnionView, now_ms: float) -> None:
        self._hot_counts.append(view.hot_row_count)
        if view.frontier == self._frontier:
            return
        # New rows are in the last batches; one worker shows them in the order of its polls.
        for batch in reversed(view.hot):
            origin = batch.column("_kafka")
            partitions = np.asarray(pc.struct_field(origin, "partition"))
            offsets = np.asarray(pc.struct_field(origin, "offset"))
            is_new = offsets >= _limits(self._frontier)[partitions]
            if not is_new.any():
                break
            stamps = pc.struct_field(origin, "timestamp").cast(pa.int64())
            appended = np.asarray(stamps)[is_new] / 1000
            self._appended.append(appended)
            self._waited.append(now_ms - appended)
        self._frontier = dict(view.frontier)

    def figures(self) -> Sequence[Figure]:
        appended, waited = np.concatenate(self._appended), np.concatenate(self._waited)
        warm = waited[appended >= appended.min() + WARM_UP_SECONDS * 1000]
        return [
            figure(
                "acknowledged to visible, p50",
                "ms",
                float(np.percentile(warm, 50)),
                target=VISIBLE_P50_TARGET,
            ),
            figure(
                "acknowledged to visible, p99",
                "ms",
                float(np.percentile(warm, 99)),
                target=VISIBLE_P99_TARGET,
            ),
            figure("acknowledged to visible, longest", "ms", float(warm.max())),
            figure("rows seen while hot", "", len(waited)),
            figure("a look at both sides, p50", "ms", percentile(self._look_ms, 0.5)),
            figure("a look at both sides, p99", "ms", percentile(self._look_ms, 0.99)),
            figure("hot rows at a look, median", "", float(np.median(self._hot_counts))),
        ]


def _limits(frontier: dict[TopicPartition, int]) -> npt.NDArray[np.int64]:
    limits = np.zeros(64, np.int64)
    for tp, next_offset in frontier.items():
        limits[tp.kafka_partition] = next_offset
    return limits


class _MadeHotTable:
    """A table made without Kafka, with hot rows behind it."""

    def __init__(self, bench: Bench, cold_count: int, hot_count: int) -> None:
        self.path: Path = bench.new_pipeline("unused", bootstrap_servers="127.0.0.1:1")
        self.made = MadeTable(self.path, bench.clock)
        self.next_id = 0
        for _ in range(0, cold_count, COMMIT_ROWS):
            count = min(COMMIT_ROWS, cold_count - self.next_id)
            self.made.commit(
                self._values(min(GROUP_ROWS, count - n)) for n in range(0, count, GROUP_ROWS)
            )
        self.hot = self.made.open_hot_rows(read_pipeline(self.path), bench.say)
        for done in range(0, hot_count, BATCH_ROWS):
            self.append(min(BATCH_ROWS, hot_count - done))

    def append(self, count: int) -> None:
        self.hot.append(1, self.made.decoded(self._values(count)))

    def close(self) -> None:
        self.hot.close()
        self.made.close()

    def _values(self, count: int) -> Sequence[bytes]:
        self.next_id += count
        return FLAT.make(self.next_id - count, count).values


def _delivery(bench: Bench, hot_count: int) -> Sequence[Figure]:
    made = _MadeHotTable(bench, 1_000, hot_count)
    new_rows = 100
    try:
        with k2i_core.query.open(made.path) as reader:
            table = reader.table()
            table.view()
            delivery: list[float] = []
            lookup: list[float] = []
            for n in range(REPEATS if hot_count < max(HOT_COUNTS) else REPEATS // 4):
                made.append(new_rows)
                delivery.append(_timed(bench, lambda: table.view().hot_table()))
                wanted = 1_000 + (n * 997) % hot_count
                lookup.append(_timed(bench, lambda id_=wanted: table.lookup(id_, "event_id")))
            attach: list[float] = []
            for _ in range(10):
                with k2i_core.query.open(made.path) as fresh:
                    attach.append(_timed(bench, lambda one=fresh: one.table().view()))
    finally:
        made.close()
    is_judged = hot_count == 10_000
    return [
        figure(
            "refresh and delivery, p50",
            "ms",
            percentile(delivery, 0.5),
            target=DELIVERY_TARGET if is_judged else None,
        ),
        figure("refresh and delivery, p99", "ms", percentile(delivery, 0.99)),
        figure(
            "point lookup, p50",
            "ms",
            percentile(lookup, 0.5),
            target=LOOKUP_TARGET if is_judged else None,
        ),
        figure("point lookup, p99", "ms", percentile(lookup, 0.99)),
        figure("first view of a reader, catalog included, p50", "ms", percentile(attach, 0.5)),
    ]


def _sql(bench: Bench) -> Sequence[Figure]:
    cold_count = bench.options.rows or COLD_ROWS
    bench.say(f"making a table of {cold_count:,} rows")
    made = _MadeHotTable(bench, cold_count, 100_000)
    queries = {
        "count(*)": "SELECT count(*) FROM bench.events",
        "aggregate": (
            "SELECT event_type, count(*), sum(quantity) FROM bench.events GROUP BY event_type"
        ),
    }
    try:
        with k2i_core.query.open(made.path) as reader:

            def ask(text: str) -> int:
                with reader.sql(text) as result:
                    return result.read_all().num_rows

            ask(queries["count(*)"])
            figures = [
                figure(
                    f"{name}, p50",
                    "ms",
                    percentile(
                        [_timed(bench, lambda t=text: ask(t)) for _ in range(QUERY_REPEATS)], 0.5
                    ),
                )
                for name, text in queries.items()
            ]
    finally:
        made.close()
    return [figure("committed rows", "", made.next_id - 100_000), *figures]


def _flight_sql(bench: Bench) -> Sequence[Figure]:
    """Ask `k2i serve` through the ADBC driver, one query after the other."""
    bench.say("asking k2i serve")
    made = _MadeHotTable(bench, 1_000, 10_000)
    port_file = made.path.with_name("serve.port")
    command = [*K2I, "serve", str(made.path), "--port=0", f"--port-file={port_file}"]
    server = start(command, made.path.with_name("serve.log"), bench.clock)
    queries = {
        "select 1": "SELECT 1",
        "aggregate": "SELECT event_type, count(*), sum(quantity) FROM bench.events GROUP BY ALL",
        "10,000 rows": "FROM bench.events WHERE event_id >= 1000",
    }
    try:
        await_true(port_file.exists, server, bench.clock)
        uri = f"grpc://127.0.0.1:{port_file.read_text().strip()}"
        figures: list[Figure] = []
        with adbc_driver_flightsql.dbapi.connect(uri, autocommit=True) as connection:
            for name, text in queries.items():

                def ask(text: str = text) -> int:
                    with connection.cursor() as cursor:
                        cursor.execute(text)
                        return cursor.fetch_arrow_table().num_rows

                ask()
                spent = [_timed(bench, ask) for _ in range(REPEATS)]
                figures += [
                    figure(f"{name}, p50", "ms", percentile(spent, 0.5)),
                    figure(f"{name}, p99", "ms", percentile(spent, 0.99)),
                ]
    finally:
        server.kill()
        made.close()
    return figures


def _cost(bench: Bench) -> Sequence[Figure]:
    """Ingest the same backlog with and without, in turn, and compare."""
    row_count = bench.options.rows_of(FLAT)
    topic = bench.filled_topic(FLAT, row_count)
    rates: dict[bool, list[float]] = {True: [], False: []}
    cpu: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(bench.options.repeat):
        for is_on in (True, False):
            path = bench.new_pipeline(topic)
            options = ["--until-caught-up", *(() if is_on else ("--set=hot=off",))]
            worker = start_worker(path, bench.clock, *options)
            await_end([worker], bench.clock, seconds_max=RUN_SECONDS_MAX)
            prove(path, bench.clock, row_count=row_count)
            took_over = worker.took_over_wall_ms()
            assert took_over is not None
            assert worker.usage is not None
            seconds = (worker.row_flushes()[-1].wall_ms - took_over) / 1000
            rates[is_on].append(row_count / seconds)
            cpu[is_on].append(worker.usage.cpu_seconds / row_count * 1e6)
    shares = [100 * on / off for on, off in zip(rates[True], rates[False], strict=True)]
    return [
        figure("rows/s with hot rows", "rows/s", *rates[True]),
        figure("rows/s without", "rows/s", *rates[False]),
        figure("with, of without", "%", *shares, target=THROUGHPUT_TARGET),
        figure("processor time with", "µs/row", *cpu[True]),
        figure("processor time without", "µs/row", *cpu[False]),
    ]


def _timed(bench: Bench, action: Callable[[], object]) -> float:
    began = bench.clock.boot_seconds()
    action()
    return (bench.clock.boot_seconds() - began) * 1000
