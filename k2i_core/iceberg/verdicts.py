"""Which offsets the dead-letter table has decided: its rows at or above a checkpoint.

After a crash between the two commits of a flush the dead letters are in their table and the target
has not moved past them. Their rows are the verdict, whatever the decoder would say today. Of
several tables one may have moved past them while others have not: what is read again for those is
no row of theirs, even if today's rules say that it is. Verdicts are read once at a start, and old
ones cost only their manifests: files whose bounds lie below the checkpoints are not opened, and of
the others four columns are read, a batch at a time.
"""

from array import array
from collections.abc import Collection, Iterator, Mapping
from typing import Any, BinaryIO, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.io import FileIO
from pyiceberg.manifest import ManifestContent, ManifestEntry
from pyiceberg.schema import Schema
from pyiceberg.table import Table

from k2i_core.errors import ConfigError
from k2i_core.iceberg.failures import translated
from k2i_core.iceberg.manifests import read_live_entries
from k2i_core.iceberg.views import table_of, view_of
from k2i_core.offsets import TopicPartition
from k2i_core.records import DEAD_LETTER_SCHEMA, KAFKA_COLUMN, DecidedOffsets, TableState

TARGET_COLUMN = "target_table"
_TOPIC, _PARTITION, _OFFSET = (f"{KAFKA_COLUMN}.{n}" for n in ("topic", "partition", "offset"))
_COLUMNS = [TARGET_COLUMN, _TOPIC, _PARTITION, _OFFSET]

BATCH_ROWS = 65_536
"""Larger costs memory; smaller costs a round through Arrow for each batch."""


LETTER_ROWS = 1_024
"""Of whole letters, which may be large. Larger holds more of them in memory."""


class Verdicts:
    """Reads verdicts from the load of the dead-letter table that its take-over ended with."""

    def __call__(
        self,
        checkpoints: Mapping[str, Mapping[TopicPartition, int]],
        from_offsets: Mapping[TopicPartition, int],
        since_sequence_numbers: Mapping[str, int],
        state: TableState,
    ) -> Mapping[str, DecidedOffsets]:
        """Return table → its dead-lettered offsets at or above `from_offsets`.

        Args:
            checkpoints: Of the tables whose dead letters count; there may be those of others, too.
            from_offsets: From where the topic is read. Other Kafka partitions are left out.
            since_sequence_numbers: Topic → sequence number below which rows belong to a deleted
                topic of that name.
            state: A load that contains our take-over. Never loaded anew here, because a catalog
                may answer with an older one, and a verdict missed makes a record both a dead
                letter and a row.

        Raises:
            UnavailableError: The store did not answer; call again.
            ConfigError: Another engine marked rows as deleted without rewriting the files.

        """
        table = table_of(view_of(state))
        return read_verdicts(table, checkpoints.keys(), from_offsets, since_sequence_numbers)


def read_verdicts(
    table: Table,
    target_tables: Collection[str],
    from_offsets: Mapping[TopicPartition, int],
    since_sequence_numbers: Mapping[str, int],
) -> Mapping[str, DecidedOffsets]:
    """Read the verdicts of one load of the dead-letter table; see `Verdicts`."""
    found: dict[str, dict[TopicPartition, array[int]]] = {}
    if not from_offsets:
        return {}
    identifier = ".".join(table.name())
    bounds = _Bounds(table.schema(), from_offsets)
    with translated(f"read verdicts from table {identifier}"):
        for entry in _entries(table, identifier):
            if not bounds.may_hold(entry):
                continue
            sequence_number = entry.sequence_number or 0
            for batch in _read(table, entry.data_file.file_path):
                rows = _rows(batch, target_tables, bounds.offset_min)
                for target, topic, kafka_partition, offset in rows:
                    topic_partition = TopicPartition(topic, kafka_partition)
                    if offset >= from_offsets.get(
                        topic_partition, offset + 1
                    ) and sequence_number >= since_sequence_numbers.get(topic, 0):
                        own = found.setdefault(target, {})
                        own.setdefault(topic_partition, array("q")).append(offset)
    return {
        target: {tp: np.unique(np.array(offsets)) for tp, offsets in own.items()}
        for target, own in found.items()
    }


def read_letters(
    table: Table, target_table: str, wanted: Mapping[TopicPartition, Collection[int]]
) -> Iterator[pa.RecordBatch]:
    """Yield the rows × DEAD_LETTER_SCHEMA that are the verdicts on some offsets of a target.

    Raises:
        UnavailableError: The store did not answer; call again.

    """
    bounds = _Bounds(table.schema(), {tp: min(offsets) for tp, offsets in wanted.items()})
    identifier = ".".join(table.name())
    with translated(f"read dead letters from table {identifier}"):
        for entry in _entries(table, identifier):
            if not bounds.may_hold(entry):
                continue
            for batch in read_letter_file(table.io, entry.data_file.file_path):
                targets = batch.column(TARGET_COLUMN).to_pylist()
                # Safe because the column is required.
                places = cast("list[dict[str, Any]]", batch.column(KAFKA_COLUMN).to_pylist())
                chosen = [
                    number
                    for number, (target, place) in enumerate(zip(targets, places, strict=True))
                    if target == target_table
                    and place["offset"]
                    in wanted.get(TopicPartition(place["topic"], place["partition"]), ())
                ]
                if chosen:
                    yield batch.take(pa.array(chosen, pa.int64()))


def read_letter_file(io: FileIO, path: str) -> Iterator[pa.RecordBatch]:
    """Yield the rows of one file of dead letters in Arrow's plain types."""
    # Safe because PyIceberg's input streams have the methods of Python's files.
    with cast("BinaryIO", io.new_input(path).open()) as source, pq.ParquetFile(source) as file:
        names = DEAD_LETTER_SCHEMA.names
        for batch in file.iter_batches(LETTER_ROWS, columns=names, use_threads=False):
            columns = [batch.column(field.name).cast(field.type) for field in DEAD_LETTER_SCHEMA]
            yield pa.RecordBatch.from_arrays(columns, schema=DEAD_LETTER_SCHEMA)


def _entries(table: Table, identifier: str) -> Iterator[ManifestEntry]:
    head = table.current_snapshot()
    if head is None:
        return
    manifests = head.manifests(table.io)
    if any(manifest.content == ManifestContent.DELETES for manifest in manifests):
        message = (
            f"dead-letter table={identifier} has delete files: rewrite its data files with the "
            f"engine that deleted rows, because a row that is only marked would count as a verdict"
        )
        raise ConfigError(message)
    yield from read_live_entries(table.io, manifests)


class _Bounds:
    """Tells from a file's statistics whether it may hold a verdict that is asked for."""

    def __init__(self, schema: Schema, from_offsets: Mapping[TopicPartition, int]) -> None:
        self.offset_min = min(from_offsets.values())
        self._kafka_partitions = {tp.kafka_partition for tp in from_offsets}
        self._offset_id = schema.find_field(_OFFSET).field_id
        self._partition_id = schema.find_field(_PARTITION).field_id

    def may_hold(self, entry: ManifestEntry) -> bool:
        lower = entry.data_file.lower_bounds or {}
        upper = entry.data_file.upper_bounds or {}
        if (highest := upper.get(self._offset_id)) is not None and (
            _number(highest) < self.offset_min
        ):
            return False
        first, last = lower.get(self._partition_id), upper.get(self._partition_id)
        if first is None or last is None:
            return True
        low, high = _number(first), _number(last)
        return any(low <= kafka_partition <= high for kafka_partition in self._kafka_partitions)


def _number(bound: bytes) -> int:
    """Read a bound of an int or long column, as the Iceberg specification writes single values."""
    return int.from_bytes(bound, "little", signed=True)


def _read(table: Table, path: str) -> Iterator[pa.RecordBatch]:
    # Safe because PyIceberg's input streams have the methods of Python's files.
    with (
        cast("BinaryIO", table.io.new_input(path).open()) as source,
        pq.ParquetFile(source) as file,
    ):
        yield from file.iter_batches(batch_size=BATCH_ROWS, columns=_COLUMNS, use_threads=False)


def _rows(
    batch: pa.RecordBatch, target_tables: Collection[str], offset_min: int
) -> Iterator[tuple[str, str, int, int]]:
    targets, kafka = batch.column(TARGET_COLUMN), batch.column(KAFKA_COLUMN)
    of_target = pc.is_in(targets, pa.array(list(target_tables), targets.type))
    is_open = pc.greater_equal(pc.struct_field(kafka, "offset"), pa.scalar(offset_min, pa.int64()))
    # Safe because a comparison of a column is a column.
    is_chosen = cast("pa.BooleanArray", pc.and_(of_target, is_open))
    chosen = kafka.filter(is_chosen)
    columns = (
        pc.struct_field(chosen, name).to_pylist() for name in ("topic", "partition", "offset")
    )
    yield from zip(targets.filter(is_chosen).to_pylist(), *columns, strict=True)
