"""How old the oldest record is that is not in the table yet, per Kafka partition. Pure bookkeeping.

Of records that were polled the timestamps are known. Of records that wait in Kafka only that they
are not older than the newest one polled, so that is what they count as.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from k2i_core.offsets import TopicPartition
from k2i_core.records import PolledBatch


@dataclass(slots=True)
class _Waiting:
    """Polled and not committed: next offset and oldest timestamp of each poll."""

    polls: deque[tuple[int, int]] = field(default_factory=deque[tuple[int, int]])
    newest_timestamp_ms: int | None = None


class Freshness:
    """Fed by polls and commits; not thread-safe, the caller locks."""

    def __init__(self) -> None:
        """Start with nothing waiting."""
        self._waiting: dict[TopicPartition, _Waiting] = {}

    def polled(self, batch: PolledBatch) -> None:
        """Remember the oldest and newest timestamp of every Kafka partition of a poll."""
        if batch.records.num_rows == 0:
            return
        timestamps = (
            batch.records.column("timestamp").cast(pa.int64()).to_numpy(zero_copy_only=False)
        )
        partitions = batch.records.column("partition").to_numpy()
        is_one_topic = len({r.topic_partition.topic for r in batch.ranges}) == 1
        topics = None if is_one_topic else batch.records.column("topic")
        for offset_range in batch.ranges:
            topic_partition = offset_range.topic_partition
            here = partitions == topic_partition.kafka_partition
            if topics is not None:
                names = topics.to_numpy(zero_copy_only=False)
                here &= names == topic_partition.topic
            mine = timestamps[here]
            mine = mine[~np.isnan(mine)] if mine.dtype.kind == "f" else mine
            if mine.size:
                waiting = self._waiting.setdefault(topic_partition, _Waiting())
                waiting.polls.append((offset_range.next_offset, int(mine.min()) // 1000))
                waiting.newest_timestamp_ms = int(mine.max()) // 1000

    def committed(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        """Forget what the checkpoint has passed."""
        for topic_partition, next_offset in next_offsets.items():
            waiting = self._waiting.get(topic_partition)
            while waiting is not None and waiting.polls and waiting.polls[0][0] <= next_offset:
                waiting.polls.popleft()

    def seconds(self, topic_partition: TopicPartition, *, lag: int, now_ms: int) -> float:
        """Return the age of the oldest record that is not committed; 0 when there is none."""
        waiting = self._waiting.get(topic_partition)
        if lag <= 0 or waiting is None:
            return 0.0
        oldest_ms = waiting.polls[0][1] if waiting.polls else waiting.newest_timestamp_ms
        return 0.0 if oldest_ms is None else max(0.0, (now_ms - oldest_ms) / 1000)

    def release(self, kept: Iterable[TopicPartition]) -> None:
        """Forget every Kafka partition that is not kept."""
        keep = set(kept)
        self._waiting = {tp: w for tp, w in self._waiting.items() if tp in keep}


def oldest_timestamp_ms(batch: PolledBatch) -> float | None:
    """Return when the oldest record of a poll was produced; None when no record says."""
    timestamps = batch.records.column("timestamp").cast(pa.int64())
    if timestamps.null_count == len(timestamps):
        return None
    return pc.min(timestamps).as_py() / 1000
