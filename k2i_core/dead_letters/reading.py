"""Dead letters from their table, a batch at a time: those that are asked for, each once."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.table import Table
from pyroaring import BitMap64

from k2i_core.audit.offsets_read import live_files
from k2i_core.dead_letters.states import LoadedTables, OffsetSets
from k2i_core.errors import ErrorKind, UnavailableError
from k2i_core.ingest.routing import NO_MATCH, no_match
from k2i_core.offsets import OffsetRange, TopicPartition
from k2i_core.records import (
    DEAD_LETTER_SCHEMA,
    KAFKA_COLUMN,
    POLLED_SCHEMA,
    PolledBatch,
)

BATCH_ROWS = 1_024
"""Larger holds more records in memory, of any size; smaller pays a round for each batch."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which dead letters are meant; None stands for all.

    Attributes:
        since_ms: First seen then or later, in milliseconds since 1970 UTC.
        limit: At most so many of them become rows; no limit of what is tried.
    """

    fingerprint: str | None = None
    error_class: str | None = None
    since_ms: int | None = None
    limit: int | None = None


def read_selected(
    loaded: LoadedTables, selection: Selection, wanted: OffsetSets
) -> Iterator[pa.RecordBatch]:
    """Yield the selected dead letters among the wanted offsets.

    Args:
        loaded: The tables.
        selection: What is meant.
        wanted: Offsets that may be yielded.

    Yields:
        n rows × DEAD_LETTER_SCHEMA, no offset twice.

    Raises:
        UnavailableError: The store did not answer.

    """
    left = {tp: offsets.copy() for tp, offsets in wanted.items() if offsets}
    for rows in read_letters(loaded.dead_letters, DEAD_LETTER_SCHEMA.names, left):
        mask = _numpy(pc.equal(rows.column("target_table"), pa.scalar(loaded.target_name)))
        for name, text in (
            ("fingerprint", selection.fingerprint),
            ("error_class", selection.error_class),
        ):
            if text is not None:
                mask &= _numpy(pc.equal(rows.column(name), pa.scalar(text)))
        if selection.since_ms is not None:
            since = pa.scalar(selection.since_ms * 1000, pa.int64())
            mask &= _numpy(pc.greater_equal(rows.column("first_seen").cast(pa.int64()), since))
        chosen = _take_wanted(rows, mask, left)
        if len(chosen):
            yield rows.take(pa.array(chosen, pa.int64()))


def read_letters(
    table: Table, columns: Sequence[str], wanted: OffsetSets | None = None
) -> Iterator[pa.RecordBatch]:
    """Yield the table's rows, those of files only that may hold a wanted offset.

    Raises:
        UnavailableError: The store did not answer.

    """
    for file in live_files(table):
        if wanted is not None and not file.may_hold(wanted):
            continue
        try:
            # Safe because every FileIO of PyIceberg opens a binary file object.
            opened = cast("IO[bytes]", table.io.new_input(file.path).open())
            with opened as stream, pq.ParquetFile(stream) as parquet:
                for batch in parquet.iter_batches(
                    BATCH_ROWS, columns=list(columns), use_threads=False
                ):
                    yield _conformed(batch, columns)
        except (OSError, pa.ArrowInvalid) as error:
            message = f"data file path={file.path} cannot be read; check the store and call again"
            raise UnavailableError(message, kind=ErrorKind.STORAGE_UNAVAILABLE) from error


def places_of(
    rows: pa.RecordBatch, mask: npt.NDArray[np.bool_] | None = None
) -> Iterator[tuple[TopicPartition, npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Yield for each Kafka partition of the masked rows, or of all: which, and their offsets."""
    if mask is None:
        mask = np.ones(rows.num_rows, dtype=np.bool_)
    kafka = cast("pa.StructArray", rows.column(KAFKA_COLUMN))
    codes = cast("pa.DictionaryArray[Any, Any]", kafka.field("topic").dictionary_encode())
    topics = _numpy(codes.indices)
    partitions, offsets = _numpy(kafka.field("partition")), _numpy(kafka.field("offset"))
    for code, topic in enumerate(cast("list[str]", codes.dictionary.to_pylist())):
        of_topic = mask & (topics == code)
        for partition in np.unique(partitions[of_topic]):
            index = np.flatnonzero(of_topic & (partitions == partition))
            yield TopicPartition(topic, int(partition)), index, offsets[index]


def as_polled(rows: pa.RecordBatch, boot_seconds: float) -> PolledBatch:
    """Return dead letters (n rows) as the poll that brought them, n ≥ 1."""
    kafka = cast("pa.StructArray", rows.column(KAFKA_COLUMN))
    columns = [kafka.field(name) for name in POLLED_SCHEMA.names[:-1]]
    records = pa.RecordBatch.from_arrays([*columns, rows.column("value")], schema=POLLED_SCHEMA)
    ranges = tuple(
        OffsetRange(tp, int(offsets.min()), int(offsets.max()) + 1)
        for tp, _, offsets in places_of(rows)
    )
    refused = tuple(
        # Whose they are is not known: this table only accounts for them.
        no_match(index)
        for index, error_class in enumerate(rows.column("error_class").to_pylist())
        if error_class == NO_MATCH
    )
    return PolledBatch(records, tuple(sorted(ranges)), records.nbytes, boot_seconds, refused)


def _take_wanted(
    rows: pa.RecordBatch, mask: npt.NDArray[np.bool_], left: Mapping[TopicPartition, BitMap64]
) -> npt.NDArray[np.int64]:
    """Return the masked rows whose offset is left, and take those offsets away."""
    chosen: list[npt.NDArray[np.int64]] = [np.empty(0, np.int64)]
    for topic_partition, index, offsets in places_of(rows, mask):
        if topic_partition not in left:
            continue
        distinct, first = np.unique(offsets, return_index=True)
        found = BitMap64(distinct.astype(np.uint64)) & left[topic_partition]
        left[topic_partition].difference_update(found)
        is_left = np.isin(distinct, np.array(found.to_array(), np.int64))
        chosen.append(index[first[is_left]])
    return np.sort(np.concatenate(chosen))


def _conformed(batch: pa.RecordBatch, columns: Sequence[str]) -> pa.RecordBatch:
    """Return the columns in Arrow's plain types, as they were before they became Parquet."""
    fields = [DEAD_LETTER_SCHEMA.field(name) for name in columns]
    arrays = [batch.column(field.name).cast(field.type) for field in fields]
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


def _numpy(array: "pa.Array[Any]") -> npt.NDArray[Any]:
    return array.to_numpy(zero_copy_only=False)
