"""A table filled through the real writer and the real commit, without Kafka.

Rows have offsets as if polled: Kafka partitions in turn, each contiguous from 0, so that a
generation can be committed and proven like any other.
"""

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.bench import PARTITION_COUNT, read_pipeline
from k2i_core.clock import Clock, RandomIds, SystemClock
from k2i_core.config import Pipeline
from k2i_core.hot.writer import HotWriter
from k2i_core.iceberg.commit import TableCommitter
from k2i_core.iceberg.pyiceberg_gateway import PyIcebergGateway
from k2i_core.iceberg.tables import create_or_adopt
from k2i_core.iceberg.write_targets import write_target
from k2i_core.ledger import Epoch, Identity, Share
from k2i_core.offsets import OffsetRange, TopicPartition
from k2i_core.parquet.encodings import EncodingMemory
from k2i_core.parquet.writer import RollingWriter
from k2i_core.records import (
    DEAD_LETTER_SCHEMA,
    KAFKA_COLUMN,
    KAFKA_TYPE,
    POLLED_SCHEMA,
    CommitReport,
    CountedRange,
    DecodedBatch,
    RangeCounts,
    WrittenFile,
)
from k2i_core.txlog.directory import TransactionLogFile
from k2i_core.wiring.formats import Formats
from k2i_core.wiring.sessions import state_directory
from k2i_core.wiring.settings import (
    catalog_opener,
    commit_limits,
    declared_schema,
    table_settings,
)
from k2i_core.write_target import IcebergPartition

TOPIC = "made"


class MadeTable:
    """A pipeline's target table, owned by this process."""

    def __init__(self, path: Path, clock: Clock) -> None:
        """Create the table and take it over."""
        self._clock = clock
        self._next_offsets = [0] * PARTITION_COUNT
        self._generation = 0
        pipeline = read_pipeline(path)
        row_schema = declared_schema(pipeline)
        assert row_schema is not None
        self._open_catalog = catalog_opener(pipeline)
        self._identifier = pipeline.table.identifier
        self._decoder = Formats(pipeline, SystemClock()).make_decoder(row_schema)
        self._ready = create_or_adopt(
            self._open_catalog(),
            self._identifier,
            row_schema,
            table_settings(pipeline),
            pipeline.table.schema_evolution,
        )
        ids = RandomIds()
        self._log = TransactionLogFile(state_directory(pipeline) / "txlog", ids.token())
        self._committer = TableCommitter(
            PyIcebergGateway(self._open_catalog, self._identifier),
            self._clock,
            ids,
            commit_limits(pipeline),
            log_attempt=self._log.attempted,
        )
        self._encodings = EncodingMemory()
        self._identity = Identity(pipeline.name, "made-cluster", {TOPIC: "made-topic"})
        self._owner, _ = self._committer.claim(
            Share(0, 1),
            self._identity,
            {TopicPartition(TOPIC, n): 0 for n in range(PARTITION_COUNT)},
            Epoch(0),
        )

    def commit(self, groups: Iterable[Sequence[bytes]], *, copy_count: int = 1) -> CommitReport:
        """Write groups of records to the next offsets of every Kafka partition, and commit them.

        Args:
            groups: Only one is held as rows at a time.
            copy_count: How often each file is committed, as a file of its own with the same rows:
                makes a large table in the time that copying takes, which only what does not look
                at offsets can be measured on.

        """
        self._generation += 1
        stem = f"{self._owner.epoch}-0-1-{self._generation}"
        target = write_target(self._ready.table, stem)
        writer = RollingWriter(
            target,
            self._clock,
            lambda path: self._log.file(self._identifier, self._generation, path),
            self._encodings,
        )
        starts = list(self._next_offsets)
        for group in groups:
            writer.write(self._rows(group))
        written = writer.close()
        copies = [_copied(file, target.new_path) for file in written * (copy_count - 1)]
        self._next_offsets = [
            start + (end - start) * copy_count
            for start, end in zip(starts, self._next_offsets, strict=True)
        ]
        files = (*written, *copies)
        ranges = tuple(
            CountedRange(
                OffsetRange(TopicPartition(TOPIC, n), start, end),
                RangeCounts(row_count=end - start),
            )
            for n, (start, end) in enumerate(zip(starts, self._next_offsets, strict=True))
            if start < end
        )
        report = self._committer.append(self._owner, ranges, files)
        self._log.landed(self._identifier, self._generation)
        return report

    def open_hot_rows(self, pipeline: Pipeline, report: Callable[[str], None]) -> HotWriter:
        """Return hot rows that begin where the table ends."""
        hot = HotWriter(
            pipeline.hot_directories,
            str(self._ready.table.metadata.table_uuid),
            RandomIds().token,
            byte_count_max=pipeline.hot.max_bytes,
            report=report,
        )
        hot.took_over(self._owner, self._identity, dict(self._ends()))
        return hot

    def decoded(self, values: Sequence[bytes]) -> DecodedBatch:
        """Make a batch of the next offsets, decoded and not committed."""
        starts = dict(self._ends())
        rows = self._rows(values)
        ranges = tuple(
            CountedRange(OffsetRange(tp, starts[tp], end), RangeCounts(row_count=end - starts[tp]))
            for tp, end in self._ends()
            if end > starts[tp]
        )
        none = pa.RecordBatch.from_pylist([], schema=DEAD_LETTER_SCHEMA)
        return DecodedBatch(rows, none, ranges, sum(map(len, values)))

    def close(self) -> None:
        """End the transaction log."""
        self._log.close()

    def _ends(self) -> list[tuple[TopicPartition, int]]:
        return [(TopicPartition(TOPIC, n), end) for n, end in enumerate(self._next_offsets)]

    def _rows(self, values: Sequence[bytes]) -> pa.RecordBatch:
        count = len(values)
        kafka_partitions = np.arange(count, dtype=np.int32) % PARTITION_COUNT
        offsets = np.empty(count, dtype=np.int64)
        for n in range(PARTITION_COUNT):
            mine = kafka_partitions == n
            size = int(mine.sum())
            offsets[mine] = np.arange(self._next_offsets[n], self._next_offsets[n] + size)
            self._next_offsets[n] += size
        fields = list(KAFKA_TYPE)
        columns: list[pa.Array[Any]] = [
            pa.repeat(pa.scalar(TOPIC), count),
            pa.array(kafka_partitions),
            pa.array(offsets),
            *(pa.nulls(count, field.type) for field in fields[3:]),
        ]
        records = [*columns, pa.array(values, pa.binary())]
        decoded = self._decoder.decode(pa.RecordBatch.from_arrays(records, schema=POLLED_SCHEMA))
        assert not decoded.failures
        origin = pa.StructArray.from_arrays(columns, fields=fields)
        return decoded.rows.append_column(pa.field(KAFKA_COLUMN, KAFKA_TYPE), origin)


def _copied(file: WrittenFile, new_path: Callable[[IcebergPartition], str]) -> WrittenFile:
    path = new_path(file.iceberg_partition)
    shutil.copyfile(file.path.removeprefix("file://"), path.removeprefix("file://"))
    return replace(file, path=path)
