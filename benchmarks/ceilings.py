"""What each stage alone can do at most, on the same data: reading, decoding, writing.

The same code as in the pipeline, one stage at a time, so that nothing waits for anything else.
Processor time is that of the whole process, librdkafka's threads included.
"""

import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pyarrow as pa

from benchmarks.bench import NATIVE_CHOICES, Bench, read_pipeline, record_bytes
from benchmarks.figures import Figure, Group, Result, figure, merged
from k2i_core.clock import Clock
from k2i_core.config import Pipeline
from k2i_core.dev.orders import FLAT, WIDE
from k2i_core.errors import UnavailableError
from k2i_core.iceberg.tables import create_or_adopt
from k2i_core.iceberg.write_targets import write_target
from k2i_core.ingest.decoding import DecodeSettings, decode_batch
from k2i_core.kafka.source import KafkaSource
from k2i_core.native import find_native
from k2i_core.parquet.writer import RollingWriter
from k2i_core.records import DecodedBatch, PolledBatch
from k2i_core.wiring.formats import Formats
from k2i_core.wiring.settings import (
    catalog_opener,
    declared_schema,
    kafka_settings,
    table_settings,
)

KEPT_BYTES_MAX = 256 * 1024 * 1024
"""Polled batches kept for the other two stages. Larger costs memory; smaller measures less."""

SILENT_SECONDS_MAX = 30.0


class Watch:
    """Wall and processor seconds since it was made."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._wall = clock.boot_seconds()
        self._cpu = time.process_time()

    def figures(self, name: str, row_count: int) -> list[Figure]:
        """Return the rate and the cost of a row."""
        wall_seconds = self._clock.boot_seconds() - self._wall
        cpu_seconds = time.process_time() - self._cpu
        return [
            figure(f"{name}, rows/s", "rows/s", row_count / wall_seconds),
            figure(f"{name}, CPU", "ns/row", cpu_seconds / row_count * 1e9),
        ]


def run(bench: Bench) -> Result:
    """Measure the three stages on both event sets."""
    groups: list[Group] = []
    for event_set in (FLAT, WIDE):
        row_count = bench.options.rows_of(event_set)
        topic = bench.filled_topic(event_set, row_count)
        for way in bench.paths:
            path = bench.new_pipeline(topic, event_set=event_set, native=NATIVE_CHOICES[way])
            pipeline = read_pipeline(path)
            runs = [_measure(bench, pipeline, row_count) for _ in range(bench.options.repeat)]
            figures = merged(runs)
            ratios = _ratios(bench, event_set.name, way, figures[0].value)
            heading = f"{event_set.name}, {row_count:,} rows of {round(record_bytes(event_set))} B"
            groups.append(Group(f"{heading}, {way}", (*figures, *ratios)))
    return Result(
        "ceilings",
        {"repeat": bench.options.repeat},
        tuple(groups),
        (
            "consume: KafkaSource.poll until the topic's end, batches as the pipeline gets them",
            "decode: the JSON decoder on batches in memory, one thread",
            "decode with _kafka: decode_batch, what the decode lane does",
            "pipeline to consume: rows/s of throughput in the same run, steady where known",
            "write: RollingWriter on decoded batches to a local file, one thread, zstd",
        ),
    )


def _ratios(bench: Bench, event_set: str, way: str, consume_rate: float | None) -> Sequence[Figure]:
    assert consume_rate is not None
    return [
        figure(
            f"pipeline to consume, workers = {workers}",
            "×",
            *(rate / consume_rate for rate in bench.pipeline_rates[event_set, workers, way]),
        )
        for workers in (1, 2)
        if (event_set, workers, way) in bench.pipeline_rates
    ]


def _measure(bench: Bench, pipeline: Pipeline, row_count: int) -> Sequence[Figure]:
    clock = bench.clock
    batches, consumed = _consume(pipeline, row_count, clock)
    row_schema = declared_schema(pipeline)
    assert row_schema is not None
    decoder = Formats(pipeline, clock).make_decoder(row_schema)
    kept_count = sum(batch.records.num_rows for batch in batches)
    watch = Watch(clock)
    for batch in batches:
        assert not decoder.decode(batch.records).failures
    json_only = watch.figures("decode", kept_count)
    settings = DecodeSettings(pipeline.table.identifier, {})
    watch = Watch(clock)
    decoded: list[DecodedBatch] = []
    for batch in batches:
        made = decode_batch(batch, decoder, settings, clock.now_ms())
        assert isinstance(made, DecodedBatch)
        decoded.append(made)
    with_origin = watch.figures("decode with _kafka", kept_count)
    written = _write(pipeline, decoded, row_schema, kept_count, clock)
    return [*consumed, *json_only, *with_origin, *written]


def _consume(
    pipeline: Pipeline, row_count: int, clock: Clock
) -> tuple[list[PolledBatch], list[Figure]]:
    kept: list[PolledBatch] = []
    kept_bytes = seen = 0
    native = find_native(pipeline.native).library
    with closing(KafkaSource(kafka_settings(pipeline), clock, native)) as source:
        starts = source.start_offsets(source.partitions())
        watch = Watch(clock)
        source.assign(starts)
        heard = clock.boot_seconds()
        while seen < row_count:
            polled = source.poll(0.5)
            if polled is None:
                if clock.boot_seconds() - heard > SILENT_SECONDS_MAX:
                    message = f"the topic ended early rows={seen} of {row_count}"
                    raise UnavailableError(message)
                continue
            heard = clock.boot_seconds()
            seen += polled.records.num_rows
            if kept_bytes < KEPT_BYTES_MAX and polled.records.num_rows:
                kept.append(polled)
                kept_bytes += polled.byte_count
        return kept, watch.figures("consume", seen)


def _write(
    pipeline: Pipeline,
    decoded: Sequence[DecodedBatch],
    row_schema: pa.Schema,
    row_count: int,
    clock: Clock,
) -> list[Figure]:
    ready = create_or_adopt(
        catalog_opener(pipeline)(),
        pipeline.table.identifier,
        row_schema,
        table_settings(pipeline),
        pipeline.table.schema_evolution,
    )
    paths: list[str] = []
    target = write_target(ready.table, f"bench-{clock.now_ms()}")
    watch = Watch(clock)
    writer = RollingWriter(target, clock, paths.append)
    for batch in decoded:
        writer.write(batch.rows)
    files = writer.close()
    figures = watch.figures("write", row_count)
    byte_count = sum(file.byte_count for file in files)
    for path in paths:
        Path(path.removeprefix("file://")).unlink()
    return [*figures, figure("write, bytes a row", "B", byte_count / row_count)]
