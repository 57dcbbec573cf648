"""The files of one generation while it fills: rows to each target, dead letters beside them.

Belongs to the write lane until it is sealed, then to the finish lane; only `buffered_bytes` is read
from elsewhere.

Of a table's own records the decoder says what became of them. All others that were read are another
table's: here they count as filtered, so that in the ledger of each table every record that it moved
past is accounted for.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from k2i_core.ingest.ports import OpenDeadLetters, RowWriter
from k2i_core.ingest.targets import OpenTarget
from k2i_core.ledger import Owner
from k2i_core.offsets import OffsetRange, TopicPartition
from k2i_core.records import CountedRange, DecodedBatch, Generation, RangeCounts, WrittenFile


@dataclass(frozen=True, slots=True)
class SealedGeneration:
    """Everything between two seals, for all tables, ready to commit.

    Attributes:
        number: Ascending from 1 within a worker.
        parts: What it is for each table.
        ranges: What was read, with the dead letters of all tables counted.
        dead_letter_files: For the dead-letter table; committed first.
    """

    number: int
    parts: tuple[tuple[OpenTarget, Generation], ...]
    ranges: tuple[CountedRange, ...]
    dead_letter_files: tuple[WrittenFile, ...]


@dataclass(slots=True)
class _Read:
    """What was read of one Kafka partition."""

    start_offset: int
    next_offset: int
    record_count: int


@dataclass(slots=True)
class _TargetFiles:
    """What is written for one table."""

    opened: OpenTarget
    writer: RowWriter | None = None
    closed: list[WrittenFile] = field(default_factory=list[WrittenFile])
    counts: dict[TopicPartition, RangeCounts] = field(
        default_factory=dict[TopicPartition, RangeCounts]
    )
    held_counts: dict[TopicPartition, int] = field(default_factory=dict[TopicPartition, int])

    def close_writer(self) -> None:
        if self.writer is not None:
            self.closed.extend(self.writer.close())
            self.writer = None

    def ranges(self, read: Mapping[TopicPartition, _Read]) -> tuple[CountedRange, ...]:
        """Count what was read and is above what the table held when the session began."""
        ranges: list[CountedRange] = []
        for topic_partition, part in sorted(read.items()):
            start_offset = max(part.start_offset, self.opened.held.get(topic_partition, 0))
            if start_offset >= part.next_offset:
                continue
            own = self.counts.get(topic_partition, RangeCounts())
            record_count = part.record_count - self.held_counts.get(topic_partition, 0)
            others = RangeCounts(filtered_count=record_count - own.record_count)
            offsets = OffsetRange(topic_partition, start_offset, part.next_offset)
            ranges.append(CountedRange(offsets, own + others))
        return tuple(ranges)


class GenerationFiles:
    """Writers that open with their first row, and the ranges that were written."""

    def __init__(self, number: int, owner: Owner, open_dead_letters: OpenDeadLetters) -> None:
        """Open nothing yet: a generation without rows has no files."""
        self._number = number
        self._owner = owner
        self._open_dead_letters = open_dead_letters
        self._files: dict[str, _TargetFiles] = {}
        self._dead_letter_writer: RowWriter | None = None
        self._read: dict[TopicPartition, _Read] = {}

    @property
    def number(self) -> int:
        """Ascending from 1 within a session."""
        return self._number

    @property
    def starts(self) -> Mapping[TopicPartition, int]:
        """Where it begins in each Kafka partition that was read so far."""
        return {tp: part.start_offset for tp, part in self._read.items()}

    @property
    def buffered_bytes(self) -> int:
        """Arrow bytes that wait for their row group."""
        return sum(writer.buffered_bytes for writer in self._writers())

    def read(self, ranges: Iterable[OffsetRange], counts: Mapping[TopicPartition, int]) -> None:
        """Note how far the generation goes, and how many records that were."""
        for offset_range in ranges:
            topic_partition = offset_range.topic_partition
            count = counts[topic_partition]
            before = self._read.get(topic_partition)
            if before is None:
                self._read[topic_partition] = _Read(
                    offset_range.start_offset, offset_range.next_offset, count
                )
                continue
            assert before.next_offset == offset_range.start_offset
            before.next_offset = offset_range.next_offset
            before.record_count += count

    def skip(self, opened: OpenTarget, counts: Mapping[TopicPartition, int]) -> None:
        """Note how many of the records that were read a table holds already."""
        held = self._of(opened).held_counts
        for topic_partition, count in counts.items():
            held[topic_partition] = held.get(topic_partition, 0) + count

    def write(self, opened: OpenTarget, decoded: DecodedBatch) -> None:
        """Append what one table gets of a batch."""
        files = self._of(opened)
        if decoded.rows.num_rows:
            if files.writer is None:
                files.writer = opened.target.rows.open(self._owner, self._number)
            files.writer.write(decoded.rows)
        self.set_aside(decoded.dead_letters)
        for counted in decoded.ranges:
            topic_partition = counted.offsets.topic_partition
            before = files.counts.get(topic_partition, RangeCounts())
            files.counts[topic_partition] = before + counted.counts

    def set_aside(self, dead_letters: pa.RecordBatch) -> None:
        """Append dead letters, of whichever table."""
        if dead_letters.num_rows:
            if self._dead_letter_writer is None:
                self._dead_letter_writer = self._open_dead_letters(self._owner, self._number)
            self._dead_letter_writer.write(dead_letters)

    def close_target(self, opened: OpenTarget) -> None:
        """Finish a table's open files, because rows of another schema follow."""
        self._of(opened).close_writer()

    def close(
        self, opened: Iterable[OpenTarget], first_polled_boot_seconds: float
    ) -> SealedGeneration:
        """Finish every file and return the generation, ready to commit.

        Args:
            opened: Every table of the session, whether anything was for it or not.
            first_polled_boot_seconds: When its oldest batch was polled.

        """
        parts: list[tuple[OpenTarget, Generation]] = []
        for one in opened:
            files = self._of(one)
            files.close_writer()
            ranges, written = files.ranges(self._read), tuple(files.closed)
            row_count = sum(r.counts.table_row_count for r in ranges)
            assert sum(f.row_count for f in written) == row_count
            generation = Generation(self._number, ranges, written, (), first_polled_boot_seconds)
            parts.append((one, generation))
        dead_letter_files: tuple[WrittenFile, ...] = ()
        if self._dead_letter_writer is not None:
            dead_letter_files = self._dead_letter_writer.close()
            self._dead_letter_writer = None
        return SealedGeneration(self._number, tuple(parts), self._all_ranges(), dead_letter_files)

    def abandon(self) -> None:
        """Close handles; what was written stays for recovery."""
        for writer in self._writers():
            writer.abandon()

    def _writers(self) -> list[RowWriter]:
        """Return those that are open now; another thread may ask while tables are added."""
        writers = [self._dead_letter_writer, *(f.writer for f in tuple(self._files.values()))]
        return [writer for writer in writers if writer is not None]

    def _of(self, opened: OpenTarget) -> _TargetFiles:
        return self._files.setdefault(opened.identifier, _TargetFiles(opened))

    def _all_ranges(self) -> tuple[CountedRange, ...]:
        ranges: list[CountedRange] = []
        for topic_partition, part in sorted(self._read.items()):
            counts = RangeCounts()
            for files in self._files.values():
                counts += files.counts.get(topic_partition, RangeCounts())
            offsets = OffsetRange(topic_partition, part.start_offset, part.next_offset)
            ranges.append(CountedRange(offsets, counts))
        return tuple(ranges)
