"""Kafka in memory: topics with ids, growing partitions, a consumer that reads by assignment."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import pyarrow as pa

from k2i_core.clock import Clock
from k2i_core.errors import DataLossError
from k2i_core.ingest.ports import Watermarks
from k2i_core.offsets import OffsetRange, TopicPartition
from k2i_core.records import POLLED_SCHEMA, PolledBatch
from tests.fakes.memory_gateway import no_pause


@dataclass
class MemoryBroker:
    """A cluster.

    Attributes:
        topic_ids: Changes when a topic is deleted and created again.
        values: Every record there will ever be; None is a tombstone.
        high: How many of them are in the log already.
        low: Where the log starts.
        group_offsets: Written by `mirror`, for lag tools.
    """

    topic_ids: dict[str, str]
    values: dict[TopicPartition, Sequence[bytes | None]]
    high: dict[TopicPartition, int]
    low: dict[TopicPartition, int] = field(default_factory=dict)
    group_offsets: dict[TopicPartition, int] = field(default_factory=dict)
    cluster_id: str = "cluster"


Take = Callable[[Mapping[TopicPartition, int]], Mapping[TopicPartition, int]]


def take_all(behind: Mapping[TopicPartition, int]) -> Mapping[TopicPartition, int]:
    """Poll everything there is."""
    return behind


class MemorySource:
    """One consumer of a `MemoryBroker`."""

    def __init__(
        self,
        broker: MemoryBroker,
        clock: Clock,
        *,
        take: Take = take_all,
        pause: Callable[[str], None] = no_pause,
    ) -> None:
        """Bind the cluster; `take` picks from what is there how many records a poll returns."""
        self._broker = broker
        self._clock = clock
        self._take = take
        self._pause = pause
        self._positions: dict[TopicPartition, int] = {}

    def topic_ids(self) -> Mapping[str, str]:
        self._pause("topic ids")
        return dict(self._broker.topic_ids)

    def cluster_id(self) -> str:
        return self._broker.cluster_id

    def partitions(self) -> frozenset[TopicPartition]:
        return frozenset(self._broker.high)

    def watermarks(
        self, topic_partitions: Collection[TopicPartition]
    ) -> Mapping[TopicPartition, Watermarks]:
        broker = self._broker
        return {tp: Watermarks(broker.low.get(tp, 0), broker.high[tp]) for tp in topic_partitions}

    def start_offsets(
        self, topic_partitions: Collection[TopicPartition]
    ) -> Mapping[TopicPartition, int]:
        return {tp: self._broker.low.get(tp, 0) for tp in topic_partitions}

    def assign(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        self._pause("assign")
        self._positions = dict(next_offsets)

    def poll(self, timeout_seconds: float) -> PolledBatch | None:
        self._pause("poll")
        broker = self._broker
        lost = [tp for tp, n in self._positions.items() if n < broker.low.get(tp, 0)]
        if lost:
            message = f"offset {self._positions[lost[0]]} of {lost[0]} is gone"
            raise DataLossError(message)
        behind = {
            tp: broker.high[tp] - n for tp, n in self._positions.items() if n < broker.high[tp]
        }
        taken = self._take(behind) if behind else {}
        if not taken:
            self._clock.sleep(timeout_seconds)
            return None
        ranges: list[OffsetRange] = []
        for topic_partition, count in taken.items():
            start = self._positions[topic_partition]
            ranges.append(OffsetRange(topic_partition, start, start + count))
            self._positions[topic_partition] = start + count
        values = tuple(
            tuple(broker.values[r.topic_partition][r.start_offset : r.next_offset]) for r in ranges
        )
        records, byte_count = _records(tuple(ranges), values)
        return PolledBatch(records, tuple(ranges), byte_count, self._clock.boot_seconds())

    def mirror(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        self._pause("mirror")
        self._broker.group_offsets.update(next_offsets)

    def close(self) -> None:
        self._positions = {}


@lru_cache(maxsize=20_000)
def _records(
    ranges: tuple[OffsetRange, ...], values: tuple[tuple[bytes | None, ...], ...]
) -> tuple[pa.RecordBatch, int]:
    topics = [r.topic_partition.topic for r in ranges for _ in range(len(r))]
    partitions = [r.topic_partition.kafka_partition for r in ranges for _ in range(len(r))]
    offsets = [o for r in ranges for o in range(r.start_offset, r.next_offset)]
    flat = [value for of_range in values for value in of_range]
    count = len(flat)
    columns = [
        pa.array(topics, pa.string()),
        pa.array(partitions, pa.int32()),
        pa.array(offsets, pa.int64()),
        *(pa.nulls(count, POLLED_SCHEMA.field(n).type) for n in ("timestamp", "key", "headers")),
        pa.array(flat, pa.binary()),
    ]
    records = pa.RecordBatch.from_arrays(columns, schema=POLLED_SCHEMA)
    return records, sum(len(value or b"") for value in flat)
