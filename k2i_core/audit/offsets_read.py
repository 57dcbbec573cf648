"""The offsets of a table's rows, read from its live data files.

Only the three leaves `_kafka.topic`, `_kafka.partition` and `_kafka.offset` are read, one batch at
a time, through the table's own file access, so that every store that the catalog can name works
without a second set of credentials.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile, DataFileContent
from pyiceberg.table import Table
from pyroaring import BitMap64

from k2i_core.audit.seen_items import ItemNumbers
from k2i_core.errors import ConfigError, ErrorKind, UnavailableError
from k2i_core.offsets import TopicPartition
from k2i_core.records import ITEM_COLUMN, ITEM_TYPE, KAFKA_COLUMN

BATCH_ROW_COUNT = 1 << 18
"""Larger holds more decoded offsets in memory for no gain; smaller pays more calls a row."""

TARGET_TABLE_COLUMN = "target_table"

OFFSET_MAX = 2**63 - 2
"""The highest offset that any file may hold."""


@dataclass(frozen=True, slots=True)
class LiveFile:
    """One data file of the table's current snapshot.

    Attributes:
        sequence_number: The data sequence number: which commit the rows belong to.
        offsets: Lowest and highest Kafka offset, by the manifest; None when it does not say.
        kafka_partitions: Lowest and highest Kafka partition, likewise.
    """

    path: str
    row_count: int
    sequence_number: int
    offsets: tuple[int, int] | None = None
    kafka_partitions: tuple[int, int] | None = None

    def may_hold(self, wanted: Mapping[TopicPartition, BitMap64]) -> bool:
        """Tell whether a row of one of the wanted offsets may be in the file."""
        low, high = self.offsets or (0, OFFSET_MAX)
        first, last = self.kafka_partitions or (0, OFFSET_MAX)
        return any(
            first <= tp.kafka_partition <= last and offsets.range_cardinality(low, high + 1)
            for tp, offsets in wanted.items()
        )


@dataclass(frozen=True, slots=True)
class PartitionOffsets:
    """Offsets of one Kafka partition, out of one batch of one file; never empty, no nulls.

    Attributes:
        items: Which rows of their records they are, where that was asked for.
    """

    topic_partition: TopicPartition
    offsets: pa.Int64Array
    items: ItemNumbers | None = None


@dataclass(frozen=True, slots=True)
class FileOffsets:
    """One batch of one file, split by Kafka partition.

    Attributes:
        row_count: Rows of the batch, whatever they were.
        foreign_row_count: Rows without a Kafka offset.
    """

    row_count: int
    foreign_row_count: int
    partitions: tuple[PartitionOffsets, ...]


def live_files(table: Table) -> tuple[LiveFile, ...]:
    """List the data files of the current snapshot.

    Raises:
        UnavailableError: A manifest could not be read; call again with a fresh table.
        ConfigError: Another engine put delete files on the table: rows are read as they were
            appended, so the comparison would not be with what a query shows.

    """
    snapshot = table.current_snapshot()
    if snapshot is None:
        return ()
    files: list[LiveFile] = []
    columns = table.schema().column_names
    leaf_ids = [
        table.schema().find_field(name).field_id if name in columns else None
        for name in (f"{KAFKA_COLUMN}.offset", f"{KAFKA_COLUMN}.partition")
    ]
    try:
        for manifest in snapshot.manifests(table.io):
            for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True):
                file = entry.data_file
                if file.content is not DataFileContent.DATA:
                    message = (
                        f"table={'.'.join(table.name())} has delete files, which another engine "
                        "wrote; compact them away with that engine, then verify again"
                    )
                    raise ConfigError(message, kind=ErrorKind.NOT_SUPPORTED_YET)
                number = entry.sequence_number or 0
                offsets, kafka_partitions = (bounds_of(leaf, file) for leaf in leaf_ids)
                files.append(
                    LiveFile(file.file_path, file.record_count, number, offsets, kafka_partitions)
                )
    except OSError as error:
        message = (
            f"manifests of table={'.'.join(table.name())} cannot be read; they may have expired "
            "meanwhile: load the table again"
        )
        raise UnavailableError(message, kind=ErrorKind.STORAGE_UNAVAILABLE) from error
    return tuple(files)


def bounds_of(field_id: int | None, file: DataFile) -> tuple[int, int] | None:
    """Return the bounds of an int or long column; None when the manifest has none."""
    lower = (file.lower_bounds or {}).get(field_id or 0)
    upper = (file.upper_bounds or {}).get(field_id or 0)
    if lower is None or upper is None:
        return None
    # As the Iceberg specification writes single values.
    return int.from_bytes(lower, "little", signed=True), int.from_bytes(
        upper, "little", signed=True
    )


def read_offsets(
    io: FileIO,
    file: LiveFile,
    *,
    target_table: str | None = None,
    since_sequence_numbers: Mapping[str, int],
    with_items: bool = False,
) -> Iterator[FileOffsets]:
    """Read one file's offsets, batch by batch.

    Args:
        io: The table's file access.
        file: Which file.
        target_table: For a dead-letter table: only rows of this target.
        since_sequence_numbers: Topic → rows of older files belong to a deleted topic of that name
            and are left out.
        with_items: Whether to read which rows of their records they are.

    Raises:
        OSError: The file is gone or the store failed.
        pyarrow.ArrowInvalid: It is not a Parquet file that can be read.

    """
    leaves = [f"{KAFKA_COLUMN}.{leaf}" for leaf in ("topic", "partition", "offset")]
    columns = leaves if target_table is None else [TARGET_TABLE_COLUMN, *leaves]
    if with_items:
        columns += [f"{ITEM_COLUMN}.{leaf.name}" for leaf in ITEM_TYPE]
    # Safe because every FileIO of PyIceberg opens a binary file object.
    opened = cast("IO[bytes]", io.new_input(file.path).open())
    with opened as stream, pq.ParquetFile(stream) as parquet:
        if KAFKA_COLUMN not in parquet.schema_arrow.names:
            yield FileOffsets(parquet.metadata.num_rows, parquet.metadata.num_rows, ())
            return
        for batch in parquet.iter_batches(BATCH_ROW_COUNT, columns=columns, use_threads=False):
            chosen = batch
            if target_table is not None:
                of_target = pc.equal(batch.column(TARGET_TABLE_COLUMN), pa.scalar(target_table))
                chosen = batch.filter(of_target)
            # Safe because the schema was looked at above; another type fails in flatten().
            kafka = cast("pa.StructArray", chosen.column(KAFKA_COLUMN))
            found = tuple(_split(kafka, _items(chosen) if with_items else ()))
            kept = tuple(
                p
                for p in found
                if file.sequence_number >= since_sequence_numbers.get(p.topic_partition.topic, 0)
            )
            with_offset_count = sum(len(p.offsets) for p in found)
            yield FileOffsets(batch.num_rows, len(kafka) - with_offset_count, kept)


def _items(rows: pa.RecordBatch) -> "tuple[pa.Array[Any], ...]":
    """Return number and count of each of n rows; one that says neither is its record's only one."""
    if ITEM_COLUMN in rows.schema.names:
        items = cast("pa.StructArray", rows.column(ITEM_COLUMN)).flatten()
    else:
        items = [pa.nulls(rows.num_rows, leaf.type) for leaf in ITEM_TYPE]
    return tuple(part.fill_null(only) for part, only in zip(items, (0, 1), strict=True))


def _split(
    kafka: pa.StructArray, items: "tuple[pa.Array[Any], ...]" = ()
) -> Iterator[PartitionOffsets]:
    """Group a `_kafka` column (n rows) by Kafka partition; rows without an offset are left out."""
    listed = ["offset", *(leaf.name for leaf in ITEM_TYPE if items)]
    names = [*kafka.type.names, *listed[1:]]
    leaves = pa.RecordBatch.from_arrays([*kafka.flatten(), *items], names=names)
    known = (pc.is_valid(leaves.column(leaf)) for leaf in ("topic", "partition", "offset"))
    with_offset = leaves.filter(reduce(pc.and_, known))
    if not with_offset.num_rows:
        return
    grouped = (
        pa.Table.from_batches([with_offset])
        .group_by(["topic", "partition"], use_threads=False)
        .aggregate([(name, "list") for name in listed])
    )
    lists = [grouped.column(f"{name}_list").combine_chunks() for name in listed]
    places = zip(grouped["topic"].to_pylist(), grouped["partition"].to_pylist(), strict=True)
    for index, (topic, kafka_partition) in enumerate(places):
        # Safe because the two are not null after the filter above.
        topic_partition = TopicPartition(cast("str", topic), cast("int", kafka_partition))
        offsets, *numbers = [column[index].values for column in lists]
        items_of_it = ItemNumbers(*numbers) if numbers else None
        yield PartitionOffsets(topic_partition, offsets, items_of_it)
