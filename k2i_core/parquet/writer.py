"""The rolling writer: rows of one generation to finished Parquet files of one table.

Rows wait in memory only until they are worth a row group; then they are encoded in the background
and let go, while the next ones wait, so a flush has little left to do. Files are cut by their true
size. With a sort order, rows wait until they are worth a whole file, because it has to be sorted as
one.

Invariant I6: what waits never exceeds `WriteLimits.buffered_bytes_max` between two calls.
"""

from collections.abc import Callable
from concurrent.futures import Executor, Future, wait
from dataclasses import dataclass, field
from math import ceil

import pyarrow as pa

from k2i_core.clock import Clock
from k2i_core.parquet.conform import Conformer
from k2i_core.parquet.encodings import EncodingMemory
from k2i_core.parquet.file import ParquetFile
from k2i_core.parquet.partitions import split
from k2i_core.parquet.sorting import sort_rows
from k2i_core.records import WrittenFile
from k2i_core.write_target import IcebergPartition, WriteTarget

FULL_SHARE = 0.95
"""A file is finished at this share of its target size. Larger appends a last tiny row group;
smaller wastes the target."""

REMAINDER_SHARE_MIN = 0.15
"""Sorted rows that would make a file smaller than this share of the target go into the file before
it. Larger overshoots the target; smaller leaves tiny files."""

ABANDON_SECONDS_MAX = 10.0
"""How long an abandoned writer waits for the row group that is being encoded: larger prolongs the
end of a session whose store hangs; smaller closes files under the encoder's hands."""


@dataclass(slots=True)
class _Buffer:
    """Rows that wait, in arrival order."""

    batches: list[pa.RecordBatch] = field(default_factory=list[pa.RecordBatch])
    row_count: int = 0
    byte_count: int = 0

    def add(self, rows: pa.RecordBatch) -> None:
        self.batches.append(rows)
        self.row_count += rows.num_rows
        self.byte_count += rows.nbytes

    def take_all(self) -> pa.Table:
        table = pa.Table.from_batches(self.batches)
        self.batches = []
        self.row_count = self.byte_count = 0
        return table


@dataclass(slots=True)
class _Lane:
    """One Iceberg partition: rows that wait, and the file that is open for it."""

    iceberg_partition: IcebergPartition
    waiting: _Buffer = field(default_factory=_Buffer)
    file: ParquetFile | None = None


@dataclass(frozen=True, slots=True)
class _Encoding:
    """Rows on their way into a file."""

    done: Future[None]
    byte_count: int


class RollingWriter:
    """Writes the rows of one generation; used by one thread at a time; implements `RowWriter`.

    Files belong to the encoder while it runs, of which there is one at a time. What it raises, the
    next call raises. After an error only `abandon` may be called.
    """

    def __init__(
        self,
        target: WriteTarget,
        clock: Clock,
        on_new_file: Callable[[str], None],
        encodings: EncodingMemory | None = None,
        encoder: Executor | None = None,
    ) -> None:
        """Prepare to write; nothing is created before there are rows.

        Args:
            target: The table.
            clock: Tells when files are created.
            on_new_file: Called with a file's path before the file is created, so that a crash
                leaves no file that nobody knows of.
            encodings: Shared by the writers of one table, so that each need not learn again.
            encoder: Where row groups are encoded; None encodes in the caller's thread.

        """
        self._target = target
        self._limits = target.limits
        self._clock = clock
        self._on_new_file = on_new_file
        self._encodings = encodings or EncodingMemory()
        # Sorted rows are encoded by whoever brings them: a second file's would be too many to keep.
        self._encoder = None if target.is_to_sort else encoder
        self._encoding: _Encoding | None = None
        self._conformer = Conformer(target.schema)
        self._unsplit = _Buffer()
        # By the partition's text, because -0.0 and 0.0 are equal and NaN is not even to itself.
        self._lanes: dict[str, _Lane] = {}
        # Least recently written first.
        self._open_lanes: dict[str, _Lane] = {}
        self._written: list[WrittenFile] = []
        self._arrow_bytes = 0.0
        self._encoded_bytes = 0
        self._is_usable = True

    @property
    def buffered_bytes(self) -> int:
        """Arrow bytes that wait to be encoded, or are being encoded."""
        encoding = self._encoding
        encoding_bytes = 0 if encoding is None or encoding.done.done() else encoding.byte_count
        return self._unsplit.byte_count + self._lane_bytes() + encoding_bytes

    def write(self, rows: pa.RecordBatch) -> None:
        """Append rows; encodes as it goes.

        Args:
            rows: n rows × the table's columns, `_kafka` last; absent optional columns are null.

        Raises:
            UnavailableError: The store failed; the generation is lost, read it again.
            IncompatibleSchemaError: The rows are not of the table's schema, or a value has no
                partition: reload the table, or pause it.

        """
        self._enter()
        if rows.num_rows:
            conformed = self._conformer.conform(rows)
            if self._target.partition_fields:
                self._unsplit.add(conformed)
                if self._is_worth_a_row_group(self._unsplit):
                    self._split()
            else:
                self._add((), conformed)
            self._keep_to_limit()
        self._is_usable = True

    def close(self) -> tuple[WrittenFile, ...]:
        """Finish all open files and return every file of the generation.

        Raises:
            UnavailableError: The store failed; the generation is lost, read it again.

        """
        self._enter()
        self._split()
        for key, lane in self._lanes.items():
            if lane.waiting.row_count:
                self._encode(key, lane)
            self._await_encoder()
            if lane.file is not None:
                self._finish(key, lane)
        self._lanes.clear()
        return tuple(self._written)

    def abandon(self) -> None:
        """Close handles without finishing; never raises, and may be called at any time."""
        self._is_usable = False
        if self._encoding is not None:
            self._encoding.done.cancel()
            wait([self._encoding.done], timeout=ABANDON_SECONDS_MAX)
            self._encoding = None
        for lane in tuple(self._open_lanes.values()):
            if lane.file is not None:
                lane.file.abandon()
        self._open_lanes.clear()
        self._lanes.clear()
        self._unsplit = _Buffer()

    def _enter(self) -> None:
        """Count the writer as broken until the call is through."""
        assert self._is_usable, "the writer is closed or has failed"
        self._is_usable = False

    def _lane_bytes(self) -> int:
        # A copy, because another thread may ask while lanes are added; of the dictionary, because a
        # tuple of its values grows while it is filled, and a collection may let that thread in.
        return sum(lane.waiting.byte_count for lane in self._lanes.copy().values())

    def _split(self) -> None:
        if not self._unsplit.row_count:
            return
        (rows,) = self._unsplit.take_all().combine_chunks().to_batches()
        for iceberg_partition, rows_of_it in split(rows, self._target.partition_fields):
            self._add(iceberg_partition, rows_of_it)

    def _add(self, iceberg_partition: IcebergPartition, rows: pa.RecordBatch) -> None:
        key = repr(iceberg_partition)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane(iceberg_partition)
        lane.waiting.add(rows)
        if self._is_worth_encoding(lane.waiting):
            self._encode(key, lane)

    def _is_worth_encoding(self, waiting: _Buffer) -> bool:
        if not self._target.is_to_sort:
            return self._is_worth_a_row_group(waiting)
        if waiting.byte_count < self._target.target_file_bytes:
            return False
        if not self._encoded_bytes:
            # Learns the encodings, and with them how small the rows become.
            self._encodings.plan_for(pa.Table.from_batches(waiting.batches), self._target)
        return waiting.byte_count * self._encoded_share() >= self._target.target_file_bytes

    def _encoded_share(self) -> float:
        """Return encoded bytes per Arrow byte: as written so far, as sampled, or as a bound."""
        if self._encoded_bytes:
            return self._encoded_bytes / self._arrow_bytes
        plan = self._encodings.plan
        return (plan.encoded_share if plan else None) or 1.0

    def _is_worth_a_row_group(self, waiting: _Buffer) -> bool:
        return (
            waiting.row_count >= self._limits.row_group_rows_max
            or waiting.byte_count >= self._limits.row_group_bytes_max
        )

    def _keep_to_limit(self) -> None:
        """Encode the largest buffers early: that makes the fewest small row groups or files."""
        if self.buffered_bytes <= self._limits.buffered_bytes_max:
            return
        self._split()
        for key, lane in sorted(self._lanes.items(), key=lambda item: -item[1].waiting.byte_count):
            if self._lane_bytes() <= self._limits.buffered_bytes_max // 2:
                break
            if lane.waiting.row_count:
                self._encode(key, lane)
        if self.buffered_bytes > self._limits.buffered_bytes_max:
            self._await_encoder()

    def _encode(self, key: str, lane: _Lane) -> None:
        """Have everything that waits in the lane encoded, after what is being encoded."""
        self._await_encoder()
        byte_count, rows = lane.waiting.byte_count, lane.waiting.take_all()
        if self._encoder is None:
            self._write_rows(key, lane, rows)
        else:
            done = self._encoder.submit(self._write_rows, key, lane, rows)
            self._encoding = _Encoding(done, byte_count)

    def _await_encoder(self) -> None:
        if self._encoding is not None:
            self._encoding.done.result()
            self._encoding = None

    def _write_rows(self, key: str, lane: _Lane, table: pa.Table) -> None:
        """Write rows into the lane's file; afterwards a sorted lane has no open file."""
        if self._target.is_to_sort:
            (rows,) = table.combine_chunks().to_batches()
            table = pa.Table.from_batches([sort_rows(rows, self._target.sort_keys)])
        bytes_per_row = max(table.nbytes / table.num_rows, 1.0)
        start = 0
        while start < table.num_rows:
            file = self._file_of(key, lane, table)
            row_count = self._row_group_rows(table.num_rows - start, bytes_per_row, file)
            size_before = file.byte_count
            file.write_row_group(table.slice(start, row_count))
            start += row_count
            self._encoded_bytes += file.byte_count - size_before
            self._arrow_bytes += row_count * bytes_per_row
            if self._is_full(file, (table.num_rows - start) * bytes_per_row):
                self._finish(key, lane)
        if self._target.is_to_sort and lane.file is not None:
            self._finish(key, lane)

    def _row_group_rows(self, remaining_rows: int, bytes_per_row: float, file: ParquetFile) -> int:
        """Return how many rows the next row group takes: equal groups, none beyond a full file."""
        rows_max = min(
            self._limits.row_group_rows_max, self._limits.row_group_bytes_max / bytes_per_row
        )
        group_count = ceil(remaining_rows / max(rows_max, 1))
        rows_to_full = self._rows_to_full(remaining_rows, bytes_per_row, file)
        return max(1, min(ceil(remaining_rows / group_count), rows_to_full))

    def _rows_to_full(self, remaining_rows: int, bytes_per_row: float, file: ParquetFile) -> int:
        target_bytes = self._target.target_file_bytes
        encoded_row_bytes = bytes_per_row * self._encoded_share()
        free_bytes = target_bytes - file.byte_count
        if self._target.is_to_sort:
            overshoot_bytes = remaining_rows * encoded_row_bytes - free_bytes
            if overshoot_bytes <= target_bytes * REMAINDER_SHARE_MIN:
                return remaining_rows
        return int(free_bytes / encoded_row_bytes)

    def _is_full(self, file: ParquetFile, remaining_bytes: float) -> bool:
        if file.byte_count < self._target.target_file_bytes * FULL_SHARE:
            return False
        if not self._target.is_to_sort:
            return True
        remainder = remaining_bytes * self._encoded_share()
        return remainder > self._target.target_file_bytes * REMAINDER_SHARE_MIN

    def _file_of(self, key: str, lane: _Lane, rows: pa.Table) -> ParquetFile:
        """Return the lane's open file, or a new one; either becomes the last to be closed early."""
        if lane.file is not None:
            self._open_lanes[key] = self._open_lanes.pop(key)
            return lane.file
        if len(self._open_lanes) >= self._limits.open_files_max:
            oldest_key = next(iter(self._open_lanes))
            self._finish(oldest_key, self._open_lanes[oldest_key])
        path = self._target.new_path(lane.iceberg_partition)
        self._on_new_file(path)
        plan = self._encodings.plan_for(rows, self._target)
        lane.file = ParquetFile(self._target, lane.iceberg_partition, path, plan, self._clock)
        self._open_lanes[key] = lane
        return lane.file

    def _finish(self, key: str, lane: _Lane) -> None:
        assert lane.file is not None
        self._written.append(lane.file.finish())
        lane.file = None
        del self._open_lanes[key]
