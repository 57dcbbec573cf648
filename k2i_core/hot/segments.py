"""Segments: files of reserved size that Arrow batches are written into, in place.

A segment is one Arrow IPC stream without its end mark. Batches are appended to the file and never
changed, so that a reader's arrays may point into its mapping for as long as they live, also after
the file has been removed. The writer maps nothing: a page written by a call costs half of what a
page fault and its clearing do.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from k2i_core.hot.directories import reserve
from k2i_core.hot.layout import SegmentState

SEGMENT_BYTES_FIRST = 1024 * 1024
"""Room of a generation's first segment; each further one has twice as much. Larger reserves memory
for tables that get few rows; smaller maps more files for tables that get many."""

SEGMENT_BYTES_MAX = 16 * 1024 * 1024
"""Where the doubling ends. Larger leaves more room unused, smaller maps more files."""

SEGMENT_BYTES_LEAST = 64 * 1024
"""Where first segments stop to shrink when many tables share the memory. Larger fills it with what
is reserved and not used; smaller maps a file for every few rows."""

_ROUND_BYTES = 64 * 1024


def bytes_around(schema: pa.Schema) -> int:
    """Return the most that a batch takes in a segment besides its values: description, padding."""
    return 4_096 + 256 * sum(_field_count(field.type) for field in schema)


def _field_count(data_type: pa.DataType) -> int:
    children = (data_type.field(n).type for n in range(data_type.num_fields))
    return 1 + sum(_field_count(child) for child in children)


def usual_room(segment_count: int, byte_count_first: int = SEGMENT_BYTES_FIRST) -> int:
    """Return the size of the next segment of a generation that has some already."""
    return min(SEGMENT_BYTES_MAX, byte_count_first << min(segment_count, 8))


def room_for(
    rows: pa.RecordBatch, segment_count: int, byte_count_first: int = SEGMENT_BYTES_FIRST
) -> int:
    """Return the same for a batch that may be larger than a segment usually is."""
    needed = rows.nbytes + bytes_around(rows.schema) + rows.schema.serialize().size
    usual = usual_room(segment_count, byte_count_first)
    return max(usual, -(-needed // _ROUND_BYTES) * _ROUND_BYTES)


class SegmentWriter:
    """One segment being filled."""

    def __init__(self, path: Path, size: int, schema: pa.Schema) -> None:
        """Reserve the file.

        Raises:
            OSError: The file system is full, or refuses.

        """
        self.path = path
        self.size = size
        self.schema = schema
        self.row_count = 0
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            self._sink = pa.OSFile(str(path), "wb")
            # After Arrow has cut the file off. A reader may map it whole from its first batch on.
            reserve(descriptor, size)
        except OSError:
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)
        self._stream = pa.ipc.new_stream(self._sink, schema)
        self.byte_count = 0
        # Not asked of Arrow for every batch, because its answer costs as much as half a copy.
        self._bytes_around = bytes_around(schema)

    def takes(self, rows: pa.RecordBatch) -> bool:
        """Tell whether the batch fits, in shape and in size."""
        # Without metadata, because the same columns from another table load differ in nothing else.
        needed = max(self.byte_count, self._sink.tell()) + rows.nbytes + self._bytes_around
        return needed <= self.size and rows.schema.equals(self.schema)

    def write(self, rows: pa.RecordBatch) -> None:
        """Append a batch; about one copy in memory."""
        self._stream.write_batch(rows)
        self.byte_count = self._sink.tell()
        self.row_count += rows.num_rows

    def close(self) -> None:
        """Let go of the file, which gets no more batches; it is as long as it was."""
        self._sink.close()


MERGED_BATCHES = 16
"""Small batches that a reader joins to one. Larger makes every read look at more batches; smaller
copies rows more often."""

MERGED_ROWS_MAX = 4_096
"""Rows from which a batch is left as it is. Larger copies more; smaller leaves more batches."""


@dataclass(slots=True)
class SegmentReader:
    """One segment of another process, parsed as far as its page allowed so far.

    Looks must not go back: a state handed in is at least as new as the one before.
    """

    path: Path
    batches: list[pa.RecordBatch] = field(default_factory=list[pa.RecordBatch])
    schema: pa.Schema | None = None
    _source: pa.MemoryMappedFile | None = None

    def advance(self, state: SegmentState) -> list[pa.RecordBatch]:
        """Return all batches that the page shows.

        Raises:
            FileNotFoundError: The segment was evicted; read the page again.
            OSError: It cannot be read.

        """
        if self._source is None:
            self._source = self._open()
            # The stubs do not know that Arrow reads a schema from any stream.
            self.schema = pa.ipc.read_schema(self._source)  # pyright: ignore[reportArgumentType]
        while self._source.tell() < state.byte_count:
            message = pa.ipc.read_message(self._source)
            assert self.schema is not None
            self.batches.append(pa.ipc.read_record_batch(message, self.schema))
            self._merge()
        assert sum(batch.num_rows for batch in self.batches) == state.row_count
        return self.batches

    def _merge(self) -> None:
        """Join the last batches when they are many and small: a poll may bring ten rows."""
        last = self.batches[-MERGED_BATCHES:]
        if len(last) == MERGED_BATCHES and all(b.num_rows < MERGED_ROWS_MAX for b in last):
            whole = pa.Table.from_batches(last).combine_chunks()
            self.batches[-MERGED_BATCHES:] = whole.to_batches()

    def _open(self) -> pa.MemoryMappedFile:
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            # Arrow's own mapping, because Python's is given back under the interpreter's lock: one
            # of Arrow's threads that does so while the process ends would abort it.
            return pa.memory_map(f"/dev/fd/{descriptor}")
        finally:
            os.close(descriptor)
