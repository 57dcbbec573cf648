"""Offset algebra: which Kafka offsets a table already holds, and what may be added next.

Every range is half-open, `[start_offset, next_offset)`, and every position is the *next* offset
to read, as in Kafka's own committed offsets. An inclusive "last offset" appears nowhere. Ranges
are consumer positions, not record offsets, so a compacted topic or an aborted transaction leaves
no gap.

| stored next | range `[start, next)` | outcome |
|---|---|---|
| absent | any | added; the partition's first range |
| = start | touches | added |
| > start | overlaps | ConflictError: rows are in the table already |
| < start | leaves a gap | CorruptionError: offsets would be skipped |

Pure values; no I/O. Invariants I1 (each offset lands once) and I2 (a checkpoint never moves back)
are enforced here and only here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from k2i_core.errors import ConflictError, CorruptionError, ErrorKind


@dataclass(frozen=True, order=True, slots=True)
class TopicPartition:
    """One Kafka partition; not to be confused with an Iceberg partition."""

    topic: str
    kafka_partition: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.kafka_partition}"


@dataclass(frozen=True, order=True, slots=True)
class OffsetRange:
    """The offsets `[start_offset, next_offset)` of one Kafka partition; never empty."""

    topic_partition: TopicPartition
    start_offset: int
    next_offset: int

    def __post_init__(self) -> None:
        """Reject an empty or negative range: the caller has a bug."""
        assert self.start_offset >= 0
        assert self.start_offset < self.next_offset

    def __str__(self) -> str:
        return f"{self.topic_partition}[{self.start_offset},{self.next_offset})"

    def __len__(self) -> int:
        return self.next_offset - self.start_offset


@dataclass(frozen=True, slots=True)
class Watermarks:
    """Low (log start) and high (last stable offset, read_committed) of one Kafka partition."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The next offset to read of every Kafka partition; an absent partition starts anywhere."""

    next_offsets: Mapping[TopicPartition, int] = field(default_factory=dict[TopicPartition, int])

    def __post_init__(self) -> None:
        """Freeze the mapping, so that a checkpoint is a value."""
        object.__setattr__(self, "next_offsets", MappingProxyType(dict(self.next_offsets)))

    def advance(self, ranges: Iterable[OffsetRange]) -> "Checkpoint":
        """Return the checkpoint after the table has also taken `ranges`.

        Args:
            ranges: Any number of ranges, in offset order within each partition.

        Returns:
            A new checkpoint; this one is unchanged.

        Raises:
            ConflictError: A range starts below its partition's next offset, so its first rows
                are in the table already. Reload the checkpoint.
            CorruptionError: A range starts above it, so offsets would be skipped.

        Source:
            Gap and overlap rules follow Redpanda's datalake coordinator, `add_files_update`.

        """
        next_offsets = dict(self.next_offsets)
        for offset_range in ranges:
            topic_partition = offset_range.topic_partition
            expected_offset = next_offsets.get(topic_partition, offset_range.start_offset)
            if offset_range.start_offset < expected_offset:
                message = f"range {offset_range} overlaps next_offset={expected_offset}"
                raise ConflictError(message, kind=ErrorKind.CHECKPOINT_STALE)
            if offset_range.start_offset > expected_offset:
                message = f"range {offset_range} leaves a gap after next_offset={expected_offset}"
                raise CorruptionError(message, kind=ErrorKind.CHECKPOINT_GAP)
            next_offsets[topic_partition] = offset_range.next_offset
        return Checkpoint(next_offsets)

    def grow(self, next_offsets: Mapping[TopicPartition, int]) -> "Checkpoint":
        """Return the checkpoint that is at least this one and at least `next_offsets`.

        For the dead-letter table, whose rows are the verdict and whose checkpoint only bounds the
        scan for them: it may lag or repeat, never shrink.
        """
        grown = dict(self.next_offsets)
        for topic_partition, next_offset in next_offsets.items():
            grown[topic_partition] = max(next_offset, grown.get(topic_partition, 0))
        return Checkpoint(grown)
