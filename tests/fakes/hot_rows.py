"""Decoded batches for hot rows, made without Kafka: every row says where it came from."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from k2i_core.ledger import Epoch, Identity, Owner, Share
from k2i_core.offsets import OffsetRange, TopicPartition
from k2i_core.records import (
    DEAD_LETTER_SCHEMA,
    KAFKA_COLUMN,
    KAFKA_TYPE,
    CountedRange,
    DecodedBatch,
    RangeCounts,
)

TABLE_UUID = "00000000-0000-0000-0000-000000000001"
IDENTITY = Identity("pipeline", "cluster", {"orders": "id-1"})
P0, P1 = TopicPartition("orders", 0), TopicPartition("orders", 1)


def owner(epoch: int, worker: int = 0, workers: int = 1) -> Owner:
    return Owner(Epoch(epoch), Share(worker, workers))


def decoded(
    ranges: Mapping[TopicPartition, tuple[int, int]], *, extra: Mapping[str, pa.Array] | None = None
) -> DecodedBatch:
    """One batch with a row for every offset of the ranges."""
    partitions = np.concatenate(
        [np.full(end - start, tp.kafka_partition) for tp, (start, end) in ranges.items()]
    )
    offsets = np.concatenate([np.arange(start, end) for start, end in ranges.values()])
    count = len(offsets)
    columns = {
        "topic": pa.array([tp.topic for tp, (s, e) in ranges.items() for _ in range(s, e)]),
        "partition": pa.array(partitions, pa.int32()),
        "offset": pa.array(offsets, pa.int64()),
        "key": pa.array([f"k{o % 10}".encode() for o in offsets], pa.binary()),
    }
    origin = pa.StructArray.from_arrays(
        [columns[f.name] if f.name in columns else pa.nulls(count, f.type) for f in KAFKA_TYPE],
        fields=list(KAFKA_TYPE),
    )
    rows = pa.RecordBatch.from_pydict(
        {"id": pa.array(offsets, pa.int64()), **(extra or {}), KAFKA_COLUMN: origin}
    )
    counted = tuple(
        CountedRange(OffsetRange(tp, start, end), RangeCounts(row_count=end - start))
        for tp, (start, end) in ranges.items()
    )
    none = pa.RecordBatch.from_pylist([], schema=DEAD_LETTER_SCHEMA)
    return DecodedBatch(rows, none, counted, byte_count=0)
