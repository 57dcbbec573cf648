"""The files of one generation while it fills: rows to the target, dead letters beside them.

Belongs to the write lane; only `buffered_bytes` is read from elsewhere.
"""

from collections.abc import Iterable

from k2i_core.ingest.ports import RowTargets, RowWriter
from k2i_core.ledger import Owner
from k2i_core.offsets import OffsetRange, TopicPartition
from k2i_core.records import CountedRange, DecodedBatch, Generation, WrittenFile


class GenerationFiles:
    """Writers that open with their first row, and the ranges that were written."""

    def __init__(self, number: int, owner: Owner, targets: RowTargets) -> None:
        """Open nothing yet: a generation without rows has no files."""
        self._number = number
        self._owner = owner
        self._targets = targets
        self._target_writer: RowWriter | None = None
        self._dead_letter_writer: RowWriter | None = None
        self._closed_files: list[WrittenFile] = []
        self._ranges: dict[TopicPartition, CountedRange] = {}

    @property
    def number(self) -> int:
        """Ascending from 1 within a session."""
        return self._number

    @property
    def buffered_bytes(self) -> int:
        """Arrow bytes that wait for their row group."""
        writers = (self._target_writer, self._dead_letter_writer)
        return sum(writer.buffered_bytes for writer in writers if writer is not None)

    def write(self, decoded: DecodedBatch) -> None:
        """Append one decoded batch."""
        if decoded.rows.num_rows:
            if self._target_writer is None:
                self._target_writer = self._targets.open_target(self._owner, self._number)
            self._target_writer.write(decoded.rows)
        if decoded.dead_letters.num_rows:
            if self._dead_letter_writer is None:
                self._dead_letter_writer = self._targets.open_dead_letters(
                    self._owner, self._number
                )
            self._dead_letter_writer.write(decoded.dead_letters)
        self._add_ranges(decoded.ranges)

    def close_target(self) -> None:
        """Finish the target's open files, because rows of another schema follow."""
        if self._target_writer is not None:
            self._closed_files.extend(self._target_writer.close())
            self._target_writer = None

    def close(self, first_polled_boot_seconds: float) -> Generation:
        """Finish every file and return the generation, ready to commit."""
        self.close_target()
        dead_letter_files: tuple[WrittenFile, ...] = ()
        if self._dead_letter_writer is not None:
            dead_letter_files = self._dead_letter_writer.close()
            self._dead_letter_writer = None
        files = tuple(self._closed_files)
        ranges = tuple(self._ranges[tp] for tp in sorted(self._ranges))
        assert sum(f.row_count for f in files) == sum(r.counts.row_count for r in ranges)
        return Generation(self._number, ranges, files, dead_letter_files, first_polled_boot_seconds)

    def abandon(self) -> None:
        """Close handles; what was written stays for recovery."""
        for writer in (self._target_writer, self._dead_letter_writer):
            if writer is not None:
                writer.abandon()

    def _add_ranges(self, ranges: Iterable[CountedRange]) -> None:
        for added in ranges:
            topic_partition = added.offsets.topic_partition
            before = self._ranges.get(topic_partition)
            if before is None:
                self._ranges[topic_partition] = added
                continue
            assert before.offsets.next_offset == added.offsets.start_offset
            self._ranges[topic_partition] = CountedRange(
                OffsetRange(
                    topic_partition, before.offsets.start_offset, added.offsets.next_offset
                ),
                before.counts + added.counts,
            )
