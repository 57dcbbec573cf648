"""Rows of many Iceberg partitions → one batch per partition, each with memory of its own.

Transforms run once for all rows, then the rows are ordered by partition once and cut: a filter per
partition would cost ten times as much with two hundred of them. A cut is a copy, because a slice
would keep the rows of all other partitions in memory with it.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, TypeAlias, cast

import pyarrow as pa
import pyarrow.compute as pc

from k2i_core.errors import IncompatibleSchemaError
from k2i_core.parquet.columns import column_at, storage_of
from k2i_core.write_target import IcebergPartition, PartitionField

_Column: TypeAlias = "pa.Array[Any]"


def split(
    rows: pa.RecordBatch, partition_fields: tuple[PartitionField, ...]
) -> Iterator[tuple[IcebergPartition, pa.RecordBatch]]:
    """Yield each Iceberg partition of `rows` with its rows, which keep their order.

    Args:
        rows: n rows × the table's schema, n > 0.
        partition_fields: At least one.

    Raises:
        IncompatibleSchemaError: A value has no partition that Iceberg can store, such as the lowest
            decimal truncated; no commit would ever take it.

    """
    columns = [_represented(_transformed(rows, field)) for field in partition_fields]
    codes, code_count = _codes(columns)
    if code_count == 1:
        yield _partition_at(columns, 0), rows
        return
    order = pc.sort_indices(codes)
    runs = pc.call_function("run_end_encode", [codes.take(order)])
    assert isinstance(runs, pa.RunEndEncodedArray)
    # Safe because the ends of runs are never null.
    ends = cast("list[int]", runs.run_ends.to_pylist())
    for start, end in pairwise([0, *ends]):
        indices = order.slice(start, end - start)
        yield _partition_at(columns, indices[0].as_py()), rows.take(indices)


def _transformed(rows: pa.RecordBatch, field: PartitionField) -> _Column:
    try:
        column = field.transform(column_at(rows, field.source_path))
        if pa.types.is_decimal(column.type):
            # Only decimals, because truncation may give them more digits than their type has.
            column.validate(full=True)
    except (ValueError, OverflowError) as error:
        # The cause may quote a value, so it stays out of the message.
        message = (
            f"rows do not fit the table: partition field={field.name} cannot take a value of "
            f"column={'.'.join(field.source_path)}, partition by another transform"
        )
        raise IncompatibleSchemaError(message) from error
    return column


def _represented(column: _Column) -> _Column:
    """Return a transform's result in the representation that Iceberg keeps partitions in."""
    column = storage_of(column)
    if pa.types.is_date32(column.type):
        return column.view(pa.int32())
    if pa.types.is_time64(column.type) or pa.types.is_timestamp(column.type):
        return column.view(pa.int64())
    return column


def _codes(columns: list[_Column]) -> tuple[_Column, int]:
    """Return a small integer per row, equal exactly where all of `columns` are, and how many."""
    codes, code_count = _dense(columns[0])
    for column in columns[1:]:
        more, more_count = _dense(column)
        # No overflow: neither factor is larger than the number of rows.
        paired = pc.add(pc.multiply(codes, pa.scalar(more_count, pa.int64())), more)
        codes, code_count = _dense(paired)
    return codes, code_count


def _dense(column: _Column) -> tuple[_Column, int]:
    encoded = pc.dictionary_encode(column, null_encoding="encode")
    assert isinstance(encoded, pa.DictionaryArray)
    return encoded.indices.cast(pa.int64()), len(encoded.dictionary)


def _partition_at(columns: list[_Column], row: int) -> IcebergPartition:
    return tuple(column[row].as_py() for column in columns)
